"""Vocab: token <-> index. Characters are sorted as in the book: space 0, <unk> 1, a 2, …

Imports torch only for tensors: generate.py needs none, and the import takes over a second.
"""

import sys
from collections.abc import Iterable
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from timemachine import bpe
from timemachine.config import Tokens
from timemachine.errors import SettingError
from timemachine.texts.normalisation import normalise

if TYPE_CHECKING:
    from torch import Tensor

UNKNOWN = "<unk>"
MAX_VOCABULARY = 65_536  # with these, the logits of 8 time steps of the book's batch take 2 GB


class Vocab:
    """The tokens of a text and `<unk>`, with their indices (d2l's `Vocab`, section 9.2).

    `kind`: letters or characters, which are sorted, or bpe, whose tokens keep the order of learning, with `<unk>` last
    (`BPETokenizer` of the next edition). `vocab["a"]` and `vocab[["a", "b"]]` return indices, `unk` for unknown tokens;
    `to_tokens` is the inverse. For a whole text: `decode(encode(tokens_of(text)))`.
    """

    def __init__(self, tokens: Iterable[str] = (), kind: Tokens = Tokens.letters) -> None:
        learned = [token for token in tokens if token != UNKNOWN]
        self.idx_to_token: list[str] = [*learned, UNKNOWN] if kind is Tokens.bpe else sorted({UNKNOWN, *learned})
        self.token_to_idx: dict[str, int] = {token: index for index, token in enumerate(self.idx_to_token)}
        self.unk, self.kind = self.token_to_idx[UNKNOWN], kind
        self._bpe = bpe.Encoder(learned) if kind is Tokens.bpe else None
        index_of = {ord(token): self.token_to_idx[token] for token in learned if len(token) == 1}
        self._index_of_code = np.full(max(index_of, default=0) + 2, self.unk)  # the last one is unknown
        self._index_of_code[list(index_of)] = list(index_of.values())

    @classmethod
    def of(cls, text: str, kind: Tokens = Tokens.letters, min_count: int = 1, vocab_size: int = 1024) -> "Vocab":
        """Return a text's vocabulary: characters that occur `min_count` times or more, or `vocab_size` bpe tokens.

        Raises SettingError if there are more symbols than a model supports, or none except `<unk>`.
        """
        if kind is Tokens.bpe:
            return cls(bpe.learn(text, vocab_size), kind)
        count_C = np.bincount(_codes(text), minlength=sys.maxunicode + 1)  # of each code point
        kept = np.flatnonzero(count_C >= min_count).tolist()
        if text and not 0 < len(kept) < MAX_VOCABULARY:
            rule = f"keeps {len(kept):,} distinct characters, but a model supports 1 to {MAX_VOCABULARY - 1:,}"
            instead = np.sort(count_C)[-MAX_VOCABULARY] + 1
            raise SettingError(f"data.min_count={min_count}: {rule}; try data.min_count={instead}")
        return cls(map(chr, kept), kind)

    @cached_property
    def bytes_V(self) -> "Tensor":
        """Number of UTF-8 bytes of each token (V,), int64; 1 for `<unk>`, the least that a character can take."""
        import torch

        size_V = torch.tensor([len(token.encode(errors="surrogateescape")) for token in self.idx_to_token])
        size_V[self.unk] = 1
        return size_V

    def __len__(self) -> int:
        return len(self.idx_to_token)

    def __getitem__(self, tokens: str | list[str]) -> Any:
        if isinstance(tokens, str):
            return self.token_to_idx.get(tokens, self.unk)
        return [self[token] for token in tokens]

    def to_tokens(self, indices: Any) -> str | list[str]:
        """Return the token of an index, or the tokens of several indices in a list, array or tensor."""
        if np.ndim(indices) == 0:
            return self.idx_to_token[int(indices)]
        return [self.idx_to_token[index] for index in indices]

    def tokens_of(self, text: str) -> str:
        """Return a text normalised like a corpus of this kind."""
        return normalise(text.encode("utf-8", "replace"), self.kind)

    def unknown(self, text: str) -> str:
        """Return the distinct characters of a normalised text that the vocabulary lacks, in order of appearance."""
        if self._bpe:  # which covers all bytes
            return ""
        return "".join(token for token in dict.fromkeys(text) if token not in self.token_to_idx)

    def encode(self, text: str) -> "Tensor":
        """Return the indices of a normalised text: (N,), int64."""
        import torch

        return torch.from_numpy(self.indices(text))

    def indices(self, text: str) -> NDArray[Any]:
        """Return the indices of a normalised text as an array (N,), int64."""
        if self._bpe:
            return np.fromiter(chain.from_iterable(self._bpe.encode(text)), np.int64)
        index_N: NDArray[Any] = self._index_of_code[_codes(text).clip(max=len(self._index_of_code) - 1)]
        return index_N

    def decode(self, indices: Iterable[int]) -> str:
        """Return the text of indices; invalid bytes become U+FFFD."""
        tokens = [self.idx_to_token[index] for index in indices]
        return bpe.readable(tokens) if self._bpe else "".join(tokens)


def _codes(text: str) -> NDArray[np.uint32]:
    """Return the code points of a text (N,)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
