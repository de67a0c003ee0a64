"""Continuing a text: warm-up, then the likeliest character each time, or one drawn from P^alpha.

S samples at once, V vocabulary, H hidden units. A character costs a look-up and one product of the state with
[W_hh W_hq], which gives the next state's part and the logits. In numpy, whose calls take a third of torch's, which is
what counts where the model is this small. Another cell than the RNN is decoded through the model.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from timemachine.datamodule import TimeMachine
from timemachine.kernels.activations import ACTIVATIONS
from timemachine.kernels.loss import is_the_books
from timemachine.language_model import RNNLMScratch
from timemachine.perplexity import in_evaluation_mode
from timemachine.vocab import UNKNOWN, Vocab

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


def known_prefix(text: str, data: TimeMachine) -> str:
    """Return a normalised text to continue, or as much of the validation text if `data` lacks its characters."""
    first = data.splits["val"].starts.start
    return data.corpus.characters[first : first + len(text)] if data.vocab.unknown(text) else text


@in_evaluation_mode
def continue_text(
    model: RNNLMScratch,
    vocab: Vocab,
    prefix: str,
    num_preds: int,
    alpha: float | None = None,
    num_samples: int = 1,
    seed: int = 0,
) -> list[str]:
    """Return the prefix continued by `num_preds` characters, `num_samples` times.

    `alpha` None takes the arg-max, so that all samples are the same text (`RNNLMScratch.predict`). A number draws each
    character from P(x_t | x_<t)^alpha, normalised: 1 is the model itself, more is sharper. `<unk>` is never emitted. An
    empty prefix starts from a space, or from the first symbol if the vocabulary has no space. Raises ValueError for an
    `alpha` that is not positive.
    """
    if alpha is not None and not alpha > 0:
        raise ValueError(f"alpha={alpha}: must be a positive number, or None for the likeliest characters")
    can_be_fast = is_the_books(model) and is_the_books(model.rnn)
    step = _Step(model, vocab) if can_be_fast else _StepOfAnyCell(model, vocab)
    state: Any = None
    for character in vocab.encode(prefix or starting_symbol(vocab)).tolist():
        state, logits = step(state, character)
    if alpha is None:
        greedy = []
        for _ in range(num_preds):
            greedy.append(int(logits.argmax()))
            state, logits = step(state, greedy[-1])
        return [prefix + vocab.decode(greedy)] * num_samples
    random = np.random.default_rng(seed)
    state, logits = (np.repeat(part[:, None], num_samples, 1) for part in (state, logits))
    drawn_TS = np.empty((num_preds, num_samples), np.int64)
    for t in range(num_preds):
        drawn_TS[t] = _draw(logits, alpha, random)
        state, logits = step(state, drawn_TS[t])
    tokens = np.array(vocab.idx_to_token)
    return [prefix + "".join(tokens[drawn_T]) for drawn_T in drawn_TS.T]


def starting_symbol(vocab: Vocab) -> str:
    """Return what an empty prefix starts from: a space, or the first symbol if there is none."""
    return " " if " " in vocab.token_to_idx else next(token for token in vocab.idx_to_token if token != UNKNOWN)


class _Step:
    """One time step: from W_hhᵀ h of the last state h and a character to the same of the next state, and the logits.

    Shapes (H) and (V) for one character, (H, S) and (V, S) for an array of S: sums over V run along the memory. None
    stands for a zero state.
    """

    def __init__(self, model: RNNLMScratch, vocab: Vocab) -> None:
        rnn = model.rnn
        with torch.no_grad():
            inputs_VH = (rnn.W_xh if model.embedding is None else model.embedding @ rnn.W_xh) + rnn.b_h
            both = torch.cat([rnn.W_hh, model.W_hq], 1)
            self.inputs_HV, self.bothT, b_q = (x.float().cpu().numpy() for x in (inputs_VH.T, both.T, model.b_q))
        self.both_tensor = torch.from_numpy(self.bothT)
        self.b_q = b_q.copy()
        self.b_q[vocab.unk] = -np.inf
        self.num_hiddens = rnn.num_hiddens
        self.apply_ = ACTIVATIONS[rnn.activation].apply_to_array_

    def __call__(self, from_state: Floats | None, characters: int | Indices) -> tuple[Floats, Floats]:
        Z = self.inputs_HV[:, characters] + (np.float32(0) if from_state is None else from_state)
        self.apply_(Z)
        # Of many samples the product is torch's: numpy's takes all cores, whatever torch is told.
        product = self.bothT @ Z if Z.ndim == 1 else torch.mm(self.both_tensor, torch.from_numpy(Z)).numpy()
        return product[: self.num_hiddens], (product[self.num_hiddens :].T + self.b_q).T


class _StepOfAnyCell:
    """One time step through the model, with any cell: from a state (S') or (S', S) to the next, and the logits."""

    def __init__(self, model: RNNLMScratch, vocab: Vocab) -> None:
        self.model, self.unk = model, vocab.unk

    @torch.no_grad()
    def __call__(self, state: Floats | None, characters: int | Indices) -> tuple[Floats, Floats]:
        X_S1 = torch.as_tensor(characters, device=self.model.device).reshape(-1, 1)
        state_SS = None if state is None else torch.from_numpy(state.T).reshape(len(X_S1), -1).to(self.model.W_hq)
        logits_S1V, state_SS = self.model(X_S1, state_SS)
        logits_S1V[..., self.unk] = -torch.inf
        shape = (-1, *np.shape(characters))
        state, logits = (x.T.reshape(shape).float().cpu().numpy() for x in (state_SS, logits_S1V[:, 0]))
        return state, logits


def _draw(logits_VS: Floats, alpha: float, random: np.random.Generator) -> Indices:
    """Draw one index a column from softmax(alpha · logits): the first whose cumulative sum reaches a uniform number."""
    # The largest logit is subtracted before the multiplication, so that a large alpha does not overflow.
    below_VS = logits_VS - logits_VS.max(0)
    if alpha != 1:
        below_VS = np.float64(alpha) * below_VS
    cumulated_VS = np.exp(np.maximum(below_VS, -100).astype(np.float32, copy=False))
    torch.from_numpy(cumulated_VS).cumsum_(0)  # numpy's takes ten times as long
    uniform_S = 1 - random.random(logits_VS.shape[1], np.float32)  # above 0: an impossible index is never the first
    reached_VS = cumulated_VS < uniform_S * cumulated_VS[-1]
    smallest = np.min_scalar_type(len(logits_VS) - 1)  # of integers, so that the sum is fast; it is never all
    drawn_S: Indices = reached_VS.view(np.uint8).sum(0, smallest).astype(np.int64)
    return drawn_S
