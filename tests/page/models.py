"""Models with random weights, and the numbers that torch computes for a text."""

import copy
import inspect
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from timemachine import bpe
from timemachine.config import Tokens
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.page.epochs import in_half_precision
from timemachine.regularized.language_model import RegularizedRNNLM
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
    "gru": {"cell": "gru"},
    "lstm": {"cell": "lstm", "hiddens": 20},
    "deep": {"cell": "deep_rnn", "layers": 3, "hiddens": 12},
    "deep relu": {"cell": "deep_rnn", "activation": "relu", "hiddens": 12},
    "characters": {"vocab": CHARACTERS},
    "characters, embedding": {"vocab": CHARACTERS, "input": "embedding", "embedding_dim": 12},
    "chinese": {"vocab": CHINESE, "hiddens": 64},
    "bpe": {"vocab": BPE, "input": "embedding", "embedding_dim": 12},
}

DATA = {name: each.default for name, each in inspect.signature(TimeMachine).parameters.items()}
TRAINER: dict[str, Any] = {"max_epochs": 100, "max_steps": -1, "precision": "32-true", "accumulate_grad_batches": 1}
TRAINER |= {"gradient_clip_val": 1}


def vocab_of(name: str) -> Vocab:
    vocab: Vocab = MODELS[name].get("vocab", LETTERS)
    return vocab


def random_model(vocab: Vocab = LETTERS, seed: int = 0, **network: Any) -> RNNLMScratch:
    """Return a random model with the given settings, states of order 1 and varied probabilities."""
    torch.manual_seed(seed)
    model = RNNLMScratch(len(vocab), **network)
    hiddens = model.W_hq.shape[0]
    scales = {"W_hq": 2 / math.sqrt(hiddens), "b_q": 0.5, "W_x": 0.5, "W_h": 0.9 / math.sqrt(hiddens), "b_": 0.1}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(0, next((scales[key] for key in scales if name.split(".")[-1].startswith(key)), 1))
    return model.eval()


def exact_model(**network: Any) -> RNNLMScratch:
    """Return `random_model` in float64, the page's precision, so that digits and greedy text are identical."""
    return random_model(**network).double()


def summary_of(model: RNNLMScratch, title: str = "The Time Machine") -> dict[str, Any]:
    network = {name: value for name, value in model.hparams.items() if name != "vocab_size"}
    return {
        "status": "completed",
        "settings": {"seed": 0, "model": network, "data": dict(DATA), "trainer": dict(TRAINER)},
        "corpus": {"title": title},
        "metrics": {"train/perplexity": 6.25, "val/perplexity": 7.5, "epoch": 100},
    }


@dataclass
class Read:
    """Results for T tokens: the state after each (T, S), and the probabilities before and after each (T, V)."""

    characters: Tensor
    states: Tensor
    before: Tensor
    after: Tensor

    @property
    def bits(self) -> list[float]:
        """Return the surprise of each character: (T)."""
        return [-math.log2(P[character]) for P, character in zip(self.before, self.characters, strict=True)]


def outputs_of(model: RNNLMScratch, state_BS: Tensor) -> Tensor:
    """Return the outputs (B, H) in a state: the first part of an LSTM's, the last layer's of a deep RNN's."""
    hiddens = model.W_hq.shape[0]
    return state_BS[:, :hiddens] if model.hparams["cell"] == "lstm" else state_BS[:, -hiddens:]


def states_of(model: RNNLMScratch, X_T: Tensor) -> list[Tensor]:
    """Return the state (1, S) after each token. Autograd can reach each of them."""
    states: list[Tensor] = []
    for x in X_T:
        states.append(model.rnn(model.inputs(x[None, None]), states[-1] if states else None)[1])
    return states


@torch.no_grad()
def read(model: RNNLMScratch, vocab: Vocab, text: str | Tensor) -> Read:
    X_T = as_read(vocab, text)
    states_TS = torch.cat(states_of(model, X_T))
    after_TV = model.output_layer(outputs_of(model, states_TS)[:, None])[0].softmax(1)
    before_TV = torch.cat([model.b_q.softmax(0)[None], after_TV[:-1]])
    return Read(X_T, states_TS, before_TV, after_TV)


def powered(P_V: Tensor, vocab: Vocab, alpha: float) -> Tensor:
    """Return P^alpha without <unk>, normalised."""
    powers_V = P_V**alpha
    powers_V[vocab.unk] = 0
    return powers_V / powers_V.sum()


def gradients(model: RNNLMScratch, X_T: Tensor) -> Tensor:
    """Return the norm of the gradient of the last character's log odds, in bits, at each earlier state: (T - 1)."""
    states = states_of(model, X_T[:-1])
    if not states:
        return torch.zeros(0)
    log_odds = log_odds_of(model, states[-1], X_T[-1])
    return torch.stack([grad.norm() for grad in torch.autograd.grad(log_odds, states)])


def log_odds_of(model: RNNLMScratch, state_1S: Tensor, character: Tensor) -> Tensor:
    """Return log2(p / (1 - p)) of a character's probability p after a state."""
    logits_V = model.output_layer(outputs_of(model, state_1S)[None])[0, 0]
    others_V = logits_V[torch.arange(len(logits_V)) != character]
    return (logits_V[character] - others_V.logsumexp(0)) / math.log(2)


def as_read(vocab: Vocab, text: str | Tensor) -> Tensor:
    """Return the indices of a text as the model reads them, or the given indices: (T,), int64."""
    return text if isinstance(text, Tensor) else vocab.encode(vocab.tokens_of(text) or starting_symbol(vocab)).long()


def lesson(settings: dict[str, Any], V: int, weights: dict[str, Any]) -> RNNLMScratch:
    """Return the lesson's model with the settings and the weights of a network of the page, in float64."""
    names = ("cell", "activation", "hiddens", "lr", "input_lr_factor")
    given: dict[str, Any] = {name: settings[name] for name in names if settings[name] is not None}
    if settings["layers"] > 1:
        given |= {"cell": "deep_rnn", "layers": settings["layers"]}
    kind = RegularizedRNNLM if settings["optimizer"] == "adamw" else RNNLMScratch
    given |= {"optimizer": "adamw"} if kind is RegularizedRNNLM else {}
    model = kind(vocab_size=V, **given).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.tensor(weights[name.removeprefix("rnn.")]).view(parameter.shape))
    assert len(weights) == len([*model.parameters()])
    return model


def half(model: RNNLMScratch) -> RNNLMScratch:
    """Return a copy of the model with its weights rounded to float16. Their dtype does not change."""
    rounded = copy.deepcopy(model)
    rounded.load_state_dict({name: weight.to(model.W_hq.dtype) for name, weight in in_half_precision(model).items()})
    return rounded
