"""Training batches for `settings.training`, optionally with a second text, which a teacher generates.

The teacher is the mixture of n-grams, alone or with networks.

A network overfits a small text long before it has learned everything in it that helps to predict new text. The mixture,
trained on the same characters, generates many more in their style, together with the distribution that each character
was drawn from: soft targets, in contexts that the text lacks (knowledge distillation: Hinton, Vinyals and Dean, 2015;
on text that the teacher generates: Kim and Rush, "Sequence-level knowledge distillation", 2016).

Networks alone predict new text far worse than the mixture, since they have overfitted the training text. But their
errors differ from the mixture's and from each other's, so the mean of both is better than the mixture (on the novel's
next 5%: networks of 256 units 4.15, an ensemble of three 3.62, the mixture 3.39, all of them 3.35).

N characters, B streams of L characters, T time steps of the networks, S symbols of the mixture, V vocabulary.
"""

import math
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from timemachine.clipping import clip_gradients
from timemachine.config import Optimizer, Schedule, Training
from timemachine.corpus import LARGE
from timemachine.datamodule import TimeMachine, WindowLoader
from timemachine.errors import SettingError
from timemachine.how_low.ensemble import Ensemble
from timemachine.how_low.language_model import RNNLMBeyond, set_rates
from timemachine.how_low.mixture import MAX_CONTEXT, Mixture, Singles
from timemachine.how_low.streams import InputDropout, StreamLoader
from timemachine.how_low.symbols import Symbols, check_size
from timemachine.vocab import Vocab

MAX_STREAMS = 400  # texts generated in parallel
MIN_LENGTH = 1000  # characters per stream, if enough are requested
NETWORKS_SHARE = 0.25  # of a character's probability; 0.2 to 0.4 are equal on the novel's next 5%

# The networks are trained as by `recipe=low_4_input_rate model.activation=relu`.
TRAINING = Training(optimizer=Optimizer.adamw, schedule=Schedule.cosine, warm_up=0.05, carry_state=True)
NETWORK = {"activation": "relu", "hiddens": 256, "sigma": 0.03, "lr": 0.004, "input_lr_factor": 30}
EPOCHS = 20
BATCH_SIZE, NUM_STEPS = 16, 32
RADIUS = 1

# Kept for the run's data, so that a report can score the networks without training them again.
_networks: WeakKeyDictionary[TimeMachine, Ensemble] = WeakKeyDictionary()


def train_loader(data: TimeMachine, training: Training) -> WindowLoader | InputDropout | StreamLoader:
    """Return the batches of the training windows; with a teacher, generate its text first and include it.

    Raises SettingError if no window fits into the streams, if a network of the teacher diverges, or if there is a
    teacher and the vocabulary has more than 256 symbols.
    """
    rank, world_size = data.share()
    if training.carry_state:
        tokens_N, target_NV = data.tokens_N[: data.splits["train"].targets.stop], None
        if training.teacher:
            tokens_N, target_NV = _with_generated_text(tokens_N, data, training)
        sizes = data.batch_size, data.num_steps
        loader: WindowLoader | StreamLoader = StreamLoader(tokens_N, *sizes, data.order(), rank, world_size, target_NV)
    else:
        loader = data.windows("train", data.batch_size, data.order())
    if training.input_dropout:
        return InputDropout(loader, training.input_dropout, data.vocab.unk, data.generator)
    return loader


def _with_generated_text(tokens_N: Tensor, data: TimeMachine, training: Training) -> tuple[Tensor, Tensor]:
    """Return the training characters followed by a teacher's, and a distribution for each character."""
    setting, instead = f"training.teacher={training.teacher:g}", "training.teacher=0 training.teacher_networks=0"
    check_size(data.vocab, setting, instead)
    if data.corpus.is_large:
        raise SettingError(f"{setting}: supports texts of at most {LARGE >> 20} MB; use {instead}")
    known_N = tokens_N.cpu()
    num_chars = round(training.teacher * len(tokens_N))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so that the networks' text does not depend on the number of threads
    try:
        networks = networks_of(data, training.teacher_networks if num_chars else 0)
        text = data.corpus.characters[: len(tokens_N)]
        generated_N, expected_NV = generate_text(text, num_chars, data.vocab, data.seed, networks)
    finally:
        torch.set_num_threads(threads)
    # The training text keeps its own characters as targets; only the teacher's text has soft ones.
    target_NV = torch.cat([F.one_hot(known_N.long(), len(data.vocab)), expected_NV])
    return torch.cat([known_N, generated_N]).to(tokens_N.device), target_NV.to(tokens_N.device)


def generate_text(
    train: str, num_chars: int, vocab: Vocab, seed: int, networks: Ensemble | None = None
) -> tuple[Tensor, Tensor]:
    """Generate a text (N,), uint8, that continues the training text from random places; return it and the distributions
    (N, V), float32, that its characters were drawn from. The text may have any symbol of the vocabulary, even `<unk>`.

    `num_chars`: upper bound of N, which is rounded down to fill all streams. `networks`: to generate with the mixture.
    The same seed gives the same text on the same machine. On another machine, different rounding may change a character
    and then the rest of its stream. Raises SettingError if a network has diverged.
    """
    symbols = Symbols.of(vocab)
    mixture, generator = Mixture(symbols), np.random.default_rng(seed)
    mixture.read(symbols.encode(train), range(len(train)), learn=True)
    streams = min(MAX_STREAMS, max(num_chars // MIN_LENGTH, 1))
    length = num_chars // streams
    starts = generator.integers(len(train), size=streams).tolist()
    before = [train[max(0, start - MAX_CONTEXT) : start] for start in starts]
    texts = [symbols.encode(text) for text in before]
    place_S = torch.tensor(vocab[symbols.tokens])  # from the mixture's symbols to the vocabulary's indices
    index_BL, p_BLV = torch.empty(streams, length, dtype=torch.uint8), torch.zeros(streams, length, len(vocab))
    # Spaces before the first character of the text give all streams the same length.
    X_BT, states = torch.tensor([vocab[list(text.rjust(MAX_CONTEXT))] for text in before]), None
    for place in range(length):
        p_BS = mixture.next_probabilities(texts)
        if networks is not None:
            with torch.inference_mode():
                log_p_BTV, states = networks(X_BT, states)
            # Normalised again, since the mixture may lack `<unk>`.
            theirs_BS: Singles = log_p_BTV[:, -1, place_S].softmax(-1).numpy()
            if not np.isfinite(theirs_BS).all():
                rule = "a network diverged on this text; use training.teacher_networks=0"
                raise SettingError(f"training.teacher_networks={len(networks.models)}: {rule}")
            p_BS = (1 - NETWORKS_SHARE) * p_BS + NETWORKS_SHARE * theirs_BS
        below_BS = p_BS.cumsum(1) < generator.random((streams, 1), np.float32)
        symbol_B = below_BS.sum(1).clip(max=len(symbols) - 1)  # the sum of p may be rounded to less than 1
        texts = [text[1 - MAX_CONTEXT :] + bytes([s]) for text, s in zip(texts, symbol_B.tolist(), strict=True)]
        X_BT = place_S[torch.from_numpy(symbol_B)][:, None]
        index_BL[:, place] = X_BT[:, 0]
        p_BLV[:, place].index_add_(1, place_S, torch.from_numpy(p_BS).float())
    return index_BL.flatten(), p_BLV.flatten(0, 1)


def teacher_nll(mixture_N: Tensor, networks_N: Tensor) -> Tensor:
    """Return the teachers' negative log-likelihoods (N,), in nats, from the mixture's and the networks' (N,)."""
    log_p_N = math.log(1 - NETWORKS_SHARE) - mixture_N, math.log(NETWORKS_SHARE) - networks_N
    return -torch.logaddexp(*log_p_N)


def networks_of(data: TimeMachine, count: int) -> Ensemble | None:
    """Return `count` networks, None for 0, trained on the run's training characters by the first call."""
    if count and (data not in _networks or len(_networks[data].models) != count):
        tokens_N = data.tokens_N[: data.splits["train"].targets.stop].cpu()
        _networks[data] = train_networks(tokens_N, data.vocab, data.seed, count)
    return _networks[data] if count else None


def train_networks(tokens_N: Tensor, vocab: Vocab, seed: int, count: int) -> Ensemble:
    """Train networks on a text, without changing the global random state."""
    # Runs with the seeds 0, 1, 2, … must not share networks.
    return Ensemble([_trained(tokens_N, vocab, seed * 1_000 + number) for number in range(count)])


def _trained(tokens_N: Tensor, vocab: Vocab, seed: int) -> RNNLMBeyond:
    with torch.random.fork_rng(devices=[]):  # a run's random numbers do not depend on its teacher
        torch.manual_seed(seed)
        model = RNNLMBeyond(len(vocab), TRAINING, **NETWORK)
        num_steps = min(NUM_STEPS, len(tokens_N))
        batch_size = min(BATCH_SIZE, len(tokens_N) // num_steps)
        loader = StreamLoader(tokens_N, batch_size, num_steps, torch.Generator().manual_seed(seed))
        optimizer, steps = model.configure_optimizers(), EPOCHS * len(loader)
        for epoch in range(EPOCHS):
            model.on_train_epoch_start()
            for number, batch in enumerate(loader):
                set_rates(optimizer, epoch * len(loader) + number, steps, TRAINING)
                optimizer.zero_grad()
                loss_BT, _ = model.losses(batch, slice(0, batch_size))
                torch.autograd.backward(loss_BT.mean())
                clip_gradients(model.parameters(), RADIUS)
                optimizer.step()
    return model.eval()
