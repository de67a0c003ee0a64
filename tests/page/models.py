"""Models with random weights that expect something, and what Python says of a text that they read."""

import math
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F

from timemachine.config import Tokens, Train
from timemachine.language_model import RNNLMScratch
from timemachine.vocab import Vocab

LETTERS = Vocab("abcdefghijklmnopqrstuvwxyz ")
# English, German, Greek, Chinese; emoji, one of several code points; marks that no letter takes in; what is not seen.
WRITTEN = (
    "“It has,” he said: How far into the future?\nMy dear friend, I have to tell you that 1895 is gone!\n"
    "Größe und Ärger (fünf Jäger) — Straße.\nΗ μηχανή του χρόνου· πάντα ρεῖ.\n时间机器，飞吧。\u3000一\n"
    "😀👍🏽👩\u200d🚀 q\u0307 r\u0323\t\u00a0\u2028"
)
CHARACTERS = Vocab(WRITTEN, Tokens.characters)
CHINESE = Vocab([*map(chr, range(0x4E00, 0x4E00 + 3000)), *"，。\n"], Tokens.characters)
MODELS: dict[str, dict[str, Any]] = {
    "tanh": {},
    "relu": {"activation": "relu"},
    "embedding": {"input": "embedding", "embedding_dim": 12},
    "512 units": {"hiddens": 512},
    "characters": {"vocab": CHARACTERS},
    "characters, embedding": {"vocab": CHARACTERS, "input": "embedding", "embedding_dim": 12},
    "chinese": {"vocab": CHINESE, "hiddens": 64},
}


def vocab_of(name: str) -> Vocab:
    """Return the vocabulary of one of the models."""
    vocab: Vocab = MODELS[name].get("vocab", LETTERS)
    return vocab


def random_model(vocab: Vocab = LETTERS, seed: int = 0, **network: Any) -> RNNLMScratch:
    """Return a model of settings of `model.` whose states stay of order 1 and whose probabilities are not all alike."""
    torch.manual_seed(seed)
    model = RNNLMScratch(len(vocab), **network)
    scales = {"rnn.W_xh": 0.5, "rnn.W_hh": 0.9 / math.sqrt(model.rnn.num_hiddens), "rnn.b_h": 0.1, "b_q": 0.5}
    scales["W_hq"] = 2 / math.sqrt(model.rnn.num_hiddens)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(0, scales.get(name, 1))
    return model.eval()


def exact_model(**network: Any) -> RNNLMScratch:
    """Return `random_model` in float64, as the page computes: both print the same digits, and the same greedy text."""
    return random_model(**network).double()


def summary_of(model: RNNLMScratch, title: str = "The Time Machine") -> dict[str, Any]:
    """Return what summary.json says of a run with this model."""
    network = {name: value for name, value in model.hparams.items() if name != "vocab_size"}
    return {
        "settings": asdict(Train()) | {"seed": 0, "model": network},
        "corpus": {"title": title},
        "metrics": {"train/perplexity": 6.25, "val/perplexity": 7.5, "epoch": 100},
    }


def probabilities(model: RNNLMScratch, vocab: Vocab, text: str) -> list[float]:
    """Return what follows a text: (V)."""
    with torch.no_grad():
        logits_BTV, _ = model(as_read(vocab, text)[None])
    return [float(p) for p in logits_BTV[0, -1].softmax(0)]


def surprises(model: RNNLMScratch, vocab: Vocab, text: str) -> list[float]:
    """Return the bits of each character of a text but the first."""
    X_T = as_read(vocab, text)
    with torch.no_grad():
        nll_BT = model.nll((X_T[None, :-1], X_T[None, 1:])) if len(X_T) > 1 else torch.empty(1, 0)
    return [float(nll) / math.log(2) for nll in nll_BT[0]]


def gradient_norms(model: RNNLMScratch, vocab: Vocab, text: str) -> list[float]:
    """Return, for each character before the last, the norm of the gradient of the last one's loss, by autograd."""
    X_T = as_read(vocab, text)
    if len(X_T) < 2:
        return []
    inputs_TV = (
        F.one_hot(X_T[:-1], len(vocab)).to(model.W_hq.dtype) if model.embedding is None else model.embedding[X_T[:-1]]
    )
    inputs_T1D = inputs_TV.detach()[:, None].requires_grad_()
    H_TBH, _ = model.rnn(inputs_T1D)
    F.cross_entropy(model.output_layer(H_TBH)[0, -1:], X_T[-1:]).backward()
    assert inputs_T1D.grad is not None
    return [float(norm) for norm in inputs_T1D.grad[:, 0].norm(dim=1)]


def as_read(vocab: Vocab, text: str) -> torch.Tensor:
    """Return what a model reads of a text: (T,), int64."""
    return vocab.encode(vocab.tokens_of(text) or " ").long()
