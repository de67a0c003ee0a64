"""Vocab: character <-> index, sorted as in the book: space 0, <unk> 1, a 2, …"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

UNKNOWN = "<unk>"


class Vocab:
    """The distinct characters of a text and `<unk>`, sorted (d2l's `Vocab`, section 9.2).

    `vocab["a"]` and `vocab[["a", "b"]]` give indices, unknown characters `unk`, that of `<unk>`; `to_tokens` goes back.
    """

    def __init__(self, tokens: Iterable[str] = ()) -> None:
        self.idx_to_token: list[str] = sorted({UNKNOWN, *tokens})
        self.token_to_idx: dict[str, int] = {token: index for index, token in enumerate(self.idx_to_token)}
        self.unk = self.token_to_idx[UNKNOWN]

    @classmethod
    def of(cls, characters: bytes) -> "Vocab":
        """Return the vocabulary of a normalised text."""
        return cls(chr(code) for code in set(characters))

    def __len__(self) -> int:
        return len(self.idx_to_token)

    def __getitem__(self, tokens: str | list[str]) -> Any:
        if isinstance(tokens, str):
            return self.token_to_idx.get(tokens, self.unk)
        return [self[token] for token in tokens]

    def to_tokens(self, indices: int | Sequence[int]) -> str | list[str]:
        """Return the token of an index, or the tokens of several."""
        if isinstance(indices, int):
            return self.idx_to_token[indices]
        return [self.idx_to_token[index] for index in indices]

    def encode(self, characters: bytes) -> Tensor:
        """Return the indices of a normalised text: (N,), uint8, one byte a character."""
        table = bytes(self[chr(code)] for code in range(256))
        return torch.frombuffer(bytearray(characters.translate(table)), dtype=torch.uint8)
