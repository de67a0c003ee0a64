"""Models with random weights, and the numbers that torch computes for a text."""

import copy
import inspect
import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from timemachine import bpe
from timemachine.config import Tokens
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.page.epochs import in_half_precision
from timemachine.sampling import starting_symbol
from timemachine.vocab import Vocab

LETTERS = Vocab("abcdefghijklmnopqrstuvwxyz ")
# English, German, Greek, Chinese; emoji, one with several code points; combining marks without a precomposed
# letter; invisible characters.
WRITTEN = (
    "“It has,” he said: How far into the future?\nMy dear friend, I have to tell you that 1895 is gone!\n"
    "Größe und Ärger (fünf Jäger) — Straße.\nΗ μηχανή του χρόνου· πάντα ρεῖ.\n时间机器，飞吧。\u3000一\n"
    "😀👍🏽👩\u200d🚀 q\u0307 r\u0323\t\u00a0\u2028"
)
CHARACTERS = Vocab(WRITTEN, Tokens.characters)
CHINESE = Vocab([*map(chr, range(0x4E00, 0x4E00 + 3000)), *"，。\n"], Tokens.characters)
BPE = Vocab(bpe.learn(f"{WRITTEN}\nIt's said that they'll take it has 12½ 😀😁  the the\n", 330), Tokens.bpe)
MODELS: dict[str, dict[str, Any]] = {
    "tanh": {},
    "relu": {"activation": "relu"},
    "embedding": {"input": "embedding", "embedding_dim": 12},
    "512 units": {"hiddens": 512},
    "characters": {"vocab": CHARACTERS},
    "characters, embedding": {"vocab": CHARACTERS, "input": "embedding", "embedding_dim": 12},
    "chinese": {"vocab": CHINESE, "hiddens": 64},
    "bpe": {"vocab": BPE, "input": "embedding", "embedding_dim": 12},
}

DATA = {name: each.default for name, each in inspect.signature(TimeMachine).parameters.items()}
TRAINER: dict[str, Any] = {"max_epochs": 100, "max_steps": -1, "precision": "32-true", "accumulate_grad_batches": 1}
TRAINER |= {"gradient_clip_val": 1}


def vocab_of(name: str) -> Vocab:
    """Return the vocabulary of one of the models."""
    vocab: Vocab = MODELS[name].get("vocab", LETTERS)
    return vocab


def random_model(vocab: Vocab = LETTERS, seed: int = 0, **network: Any) -> RNNLMScratch:
    """Return a random model with the given settings, states of order 1 and varied probabilities."""
    torch.manual_seed(seed)
    model = RNNLMScratch(len(vocab), **network)
    scales = {"rnn.W_xh": 0.5, "rnn.W_hh": 0.9 / math.sqrt(model.rnn.num_hiddens), "rnn.b_h": 0.1, "b_q": 0.5}
    scales["W_hq"] = 2 / math.sqrt(model.rnn.num_hiddens)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(0, scales.get(name, 1))
    return model.eval()


def exact_model(**network: Any) -> RNNLMScratch:
    """Return `random_model` in float64, the page's precision, so that digits and greedy text are identical."""
    return random_model(**network).double()


def summary_of(model: RNNLMScratch, title: str = "The Time Machine") -> dict[str, Any]:
    """Return the summary.json of a run with this model."""
    network = {name: value for name, value in model.hparams.items() if name != "vocab_size"}
    return {
        "status": "completed",
        "settings": {"seed": 0, "model": network, "data": dict(DATA), "trainer": dict(TRAINER)},
        "corpus": {"title": title},
        "metrics": {"train/perplexity": 6.25, "val/perplexity": 7.5, "epoch": 100},
    }


@dataclass
class Read:
    """Results for T tokens: the state after each (T, H), and the probabilities before and after each (T, V)."""

    characters: Tensor
    states: Tensor
    before: Tensor
    after: Tensor

    @property
    def bits(self) -> list[float]:
        """Return the surprise of each character: (T)."""
        return [-math.log2(P[character]) for P, character in zip(self.before, self.characters, strict=True)]


@torch.no_grad()
def read(model: RNNLMScratch, vocab: Vocab, text: str | Tensor, start: int = 0) -> Read:
    """Read a text, setting the state to zero before the character at `start`."""
    X_T = as_read(vocab, text)
    parts = [model.rnn(model.inputs(part[None]))[0][:, 0] for part in (X_T[:start], X_T[start:]) if len(part)]
    states_TH = torch.cat(parts)
    after_TV, of_zero_V = model.output_layer(states_TH[:, None])[0].softmax(1), model.b_q.softmax(0)
    before_TV = torch.cat([of_zero_V[None], after_TV[:-1]])
    before_TV[start] = of_zero_V
    return Read(X_T, states_TH, before_TV, after_TV)


def powered(P_V: Tensor, vocab: Vocab, alpha: float) -> Tensor:
    """Return P^alpha without <unk>, normalised."""
    powers_V = P_V**alpha
    powers_V[vocab.unk] = 0
    return powers_V / powers_V.sum()


@torch.no_grad()
def memory(model: RNNLMScratch, vocab: Vocab, text: str | Tensor, most: int) -> list[float]:
    """Return the change of P in bits when the last character, or an earlier one, is replaced.

    The change is the Kullback-Leibler divergence from the original P, averaged over the 8 likeliest replacements.
    """
    found, changes = read(model, vocab, text), []
    for s in reversed(range(len(found.characters))[-1 - most :]):
        likeliest = found.before[s].argsort(descending=True).tolist()
        others = [other for other in likeliest if other not in (int(found.characters[s]), vocab.unk)][:8]
        replaced_NT = found.characters.repeat(len(others), 1)
        replaced_NT[:, s] = torch.tensor(others)
        Q_NV = model(replaced_NT)[0][:, -1].softmax(1)
        changes.append(sum(divergence(found.after[-1], Q_V) for Q_V in Q_NV) / len(others))
    return changes


def gradients(model: RNNLMScratch, X_T: Tensor, start: int = 0) -> Tensor:
    """Return the norm of the gradient of the last character's loss with respect to each earlier state: (T - 1)."""
    states, state = [], torch.zeros(1, model.rnn.num_hiddens, dtype=model.W_hq.dtype)
    for x in X_T[start:-1]:
        outputs, _ = model.rnn(model.inputs(x[None, None]), state)
        states.append(state := outputs[0])
    if not states:
        return torch.zeros(0)
    loss = F.cross_entropy(model.output_layer(state[None])[0], X_T[-1:])
    return torch.stack([grad.norm() for grad in torch.autograd.grad(loss, states)])


def divergence(P_V: Tensor, Q_V: Tensor) -> float:
    """Return the Kullback-Leibler divergence of Q from P, in bits."""
    return max(0.0, float(F.kl_div(Q_V.log(), P_V, reduction="sum")) / math.log(2))  # not negative by rounding


def as_read(vocab: Vocab, text: str | Tensor) -> Tensor:
    """Return the indices of a text as the model reads them, or the given indices: (T,), int64."""
    return text if isinstance(text, Tensor) else vocab.encode(vocab.tokens_of(text) or starting_symbol(vocab)).long()


def half(model: RNNLMScratch) -> RNNLMScratch:
    """Return a copy of the model with its weights rounded to float16. Their dtype does not change."""
    rounded = copy.deepcopy(model)
    rounded.load_state_dict({name: weight.to(model.W_hq.dtype) for name, weight in in_half_precision(model).items()})
    return rounded
