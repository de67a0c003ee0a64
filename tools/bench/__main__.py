"""make bench: time the project's code against alternatives, as ratios of medians measured alternately in one process.

Whole programs and the page have the shortest of three times, the next edition's program a single one.
Single steps are measured without `keep_freed_memory`, which train.py calls and the alternatives do not: it speeds up
nn.RNN by up to a third and leaves the fused kernel unchanged. All other groups use it. Run the benchmark on an idle
machine: with two threads on two busy cores, each spins while it waits for the other. Running all groups writes
sweeps/reference/speed/<processor>.csv, which docs/speed.md quotes (`make numbers`).
"""

import argparse
import itertools
import logging
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn

from tests.support.programs import assert_succeeded, call_program, with_callback
from timemachine.config import REPOSITORY
from timemachine.corpus import find_corpus
from timemachine.datamodule import SEARCH_DIRS, Batch, TimeMachine
from timemachine.decoding import continue_text
from timemachine.errors import one_line
from timemachine.kernels import fused, is_compiled, keep_freed_memory
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.run.tables import write_rows
from tools.bench import rivals

THREADS = (1, 2)
SPEED = REPOSITORY / "sweeps/reference/speed"
CLONE = REPOSITORY.parent / "d2l-neu"  # of github.com/smolix/d2l-neu, the book's next edition
TURN = 5
T, B, H, V = 32, 1024, 32, 28  # the sizes in the book


class Row(NamedTuple):
    """A ratio of two times, or a single time if there is no alternative."""

    what: str
    ours_ms: float | None = None
    rival_ms: float | None = None

    @property
    def ratio(self) -> float | None:
        return self.rival_ms / self.ours_ms if self.rival_ms and self.ours_ms else None


def in_turn(ours: Callable[[], Any], rival: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Return the median time of both over `rounds` calls, in milliseconds, alternating every `TURN` calls.

    In training, each step follows one of the same kind. If single steps alternated, ours would spend 0.5 ms of 2 ms
    on cache misses after nn.RNN. The misses are in Python and torch, not in the kernel.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(-TURN, rounds, TURN):
        for side, call in zip(times, (ours, rival), strict=True):
            for _ in range(TURN):
                began = perf_counter()
                call()
                if number >= 0:
                    side.append(1e3 * (perf_counter() - began))
    return statistics.median(times[0]), statistics.median(times[1])


def random_batch(T: int, B: int, V: int = V) -> Batch:
    windows_BT = torch.randint(V, (B, T + 1))
    return windows_BT[:, :-1], windows_BT[:, 1:]


NEXT_EDITION: dict[str, Any] = {"V": 1025, "input": "embedding", "embedding_dim": 64}  # with 128 hidden units
# Changes to the book's sizes -> T, B, H.
SIZES = {
    "": (T, B, H),
    ", T = 128": (128, B, H),
    ", H = 64": (T, B, 64),
    ", H = 256": (T, B, 256),
    ", H = 512": (T, B, 512),
    ", B = 64": (T, 64, H),
}


def steps(_: int) -> Iterator[Row]:
    """Compare a training step (gradients, clipping, update) with nn.RNN."""
    for name, (num_steps, batch_size, hiddens) in SIZES.items():
        batch = random_batch(num_steps, batch_size)
        rounds = 12 if hiddens > 64 else 20 if num_steps > 32 else 60
        own, rival = rivals.own_step(hiddens, batch), rivals.torch_step(hiddens, batch)
        yield Row(f"step against nn.RNN{name}", *in_turn(own, rival, rounds))
    batch = random_batch(T, B, NEXT_EDITION["V"])
    own, rival = rivals.own_step(128, batch, **NEXT_EDITION), rivals.torch_step(128, batch, NEXT_EDITION["V"], 64)
    yield Row("next edition: step against nn.RNN", *in_turn(own, rival, 10))


def book(_: int) -> Iterator[Row]:
    """Compare a step at the book's sizes with other implementations."""
    batch = random_batch(T, B)
    own = rivals.own_step(H, batch)
    yield Row("step against the book's loop", *in_turn(own, rivals.own_step(H, batch, "autograd"), 20))
    tokens = random_batch(T, B, NEXT_EDITION["V"])
    own_step, loop_step = (rivals.own_step(128, tokens, it, **NEXT_EDITION) for it in ("auto", "autograd"))
    yield Row("next edition: step against the book's loop", *in_turn(own_step, loop_step, 10))
    others = {"the book's loop under torch.compile": rivals.compiled_loop_step, "d2l's own classes": rivals.d2l_step}
    for what, make in others.items():
        try:
            rival = make(H, batch)
        except Exception as error:  # torch.compile may raise any exception if there is no compiler
            yield Row(f"step against {what}: skipped, {one_line(error, 60)}")
        else:
            yield Row(f"step against {what}", *in_turn(own, rival, 20))


def cells(_: int) -> Iterator[Row]:
    """Compare a step of each other cell with PyTorch's layer, and embedding inputs with one-hot inputs."""
    batch = random_batch(T, B)
    layers: dict[str, Any] = {"gru": nn.GRU, "lstm": nn.LSTM, "deep_rnn": partial(nn.RNN, num_layers=2)}
    for (cell, layer), hiddens in itertools.product(layers.items(), (H, 256)):
        own, rival = rivals.own_step(hiddens, batch, cell=cell), rivals.torch_step(hiddens, batch, layer=layer)
        changed = "" if hiddens == H else f", H = {hiddens}"
        yield Row(f"step of {cell} against torch.nn's{changed}", *in_turn(own, rival, 20 if hiddens == H else 10))
    embedding, one_hot = rivals.own_step(H, batch, input="embedding"), rivals.own_step(H, batch)
    yield Row("step with an embedding against one-hot inputs", *in_turn(embedding, one_hot, 60))


def limit(threads: int) -> Iterator[Row]:
    """Compare a step of each cell with the time of its products and exponentials alone, each at its full speed.

    The products count at the speed of torch's product of two matrices of 1,024 x 1,024, the exponentials (one for each
    tanh, logistic function and logit) at the kernel's speed on an array in the first-level cache.
    """
    if threads > 1 or not is_compiled():
        return
    batch, square = random_batch(T, B), torch.randn(1024, 1024)
    array, map_ = torch.randn(4096), fused._library().of_dtype[torch.float32].map
    product_ms, exps_ms = (
        in_turn(call, call, 40)[0]
        for call in (lambda: square @ square, lambda: map_(1, 4096, array.data_ptr(), array.data_ptr()))
    )
    # Products with the states, the outputs and the layer below; forward, and backward for the factors of each.
    units = {"rnn": (1, 1), "gru": (3, 3), "lstm": (4, 5), "deep_rnn": (3, 2)}  # (H, H) weights, exponentials of a unit
    for cell, (weights, exps) in units.items():
        multiplications = 3 * T * B * H * (weights * H + V)
        limit_ms = multiplications / 1024**3 * product_ms + T * B * (exps * H + V) / 4096 * exps_ms
        own = rivals.own_step(H, batch, cell=cell)
        yield Row(f"step of {cell} against its arithmetic", in_turn(own, own, 30)[0], limit_ms)


def sizes(threads: int) -> Iterator[Row]:
    """Compare fused with bptt at the sizes where `kernels.is_fastest` is most likely to be wrong."""
    if threads > 1:
        return
    batches = [(32, 1024, 28), (32, 8, 28), (32, 64, 100), (8, 256, 256), (32, 64, 5000)]
    for H, (T, B, V), activation in itertools.product((4, 32, 128, 512), batches, ("tanh", "relu")):
        batch = random_batch(T, B, V)
        own, bptt = (rivals.own_step(H, batch, name, V, activation=activation) for name in ("fused", "bptt"))
        yield Row(f"fused against bptt, {activation}, T, B, H, V = {T}, {B}, {H}, {V}", *in_turn(own, bptt, 8))


class Clock(pl.Callback):
    """Record the start time of each training epoch."""

    def __init__(self) -> None:
        self.began: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.began.append(perf_counter())

    def milliseconds(self) -> list[float]:
        """Return the duration of each epoch except the first."""
        return [1e3 * (b - a) for a, b in zip(self.began[1:], self.began[2:], strict=False)]


def epochs_of_program(*typed: str) -> list[float]:
    """Run `train.py` in this process and return the duration of its epochs in milliseconds."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, with_callback(clock):
        assert_succeeded(call_program("train.py", "trainer=cpu", f"hydra.run.dir={folder}/run", *typed))
    return clock.milliseconds()


def epoch(_: int) -> Iterator[Row]:
    """Compare an epoch of train.py, including validation, with a plain Lightning program."""
    data = TimeMachine(corpus=find_corpus("sample", []))
    ours, plain = list[float](), list[float]()
    for _ in range(4):
        ours += epochs_of_program("data.corpus=sample", "logger=csv", "trainer.max_epochs=8")
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            trainer = pl.Trainer(
                max_epochs=5, gradient_clip_val=1, enable_progress_bar=False, enable_model_summary=False,
                num_sanity_val_steps=0, callbacks=[clock], default_root_dir=folder,
            )  # fmt: skip
            train, val = (rivals.item_by_item(data, split) for split in ("train", "val"))
            trainer.fit(rivals.PlainLightning(), train, val)
            plain += clock.milliseconds()
    yield Row("epoch with validation", statistics.median(ours), statistics.median(plain))


def decoding(_: int) -> Iterator[Row]:
    """Compare greedy decoding with the book's `predict`."""
    data = TimeMachine(corpus=find_corpus("sample", []))
    torch.manual_seed(0)
    model = FusedRNNLM(len(data.vocab), sigma=0.3, backward="autograd")

    def greedy() -> object:
        return continue_text(model, data.vocab, "it has", 500)

    def by_the_book() -> object:
        return model.predict("it has", 500, data.vocab)

    yield Row("greedy decoding of 500 characters against the book's", *in_turn(greedy, by_the_book, 20))


def timed(*command: str, **environment: str) -> tuple[float, str]:
    """Run a Python program in an empty folder. Return its milliseconds from start to end, and its output.

    Raises CalledProcessError if it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        began = perf_counter()
        found = os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])} | environment
        done = subprocess.run(
            [sys.executable, *command], cwd=folder, env=found, check=True, capture_output=True, text=True
        )
        return 1e3 * (perf_counter() - began), done.stdout


TRAIN = str(REPOSITORY / "train.py")


def program(threads: int) -> Iterator[Row]:
    """Compare 100 epochs, start to end: train.py, the book's code without its figure, page.html with its workers."""
    ours, book, page, alone = "the whole program", "the book's own", "the page's training", "one worker"
    corpus, one_or_two = find_corpus("sample", []), {"OMP_NUM_THREADS": str(threads)}
    times: dict[str, list[float]] = {ours: [], book: [], page: [], alone: []}
    try:
        for _ in range(3):
            times[ours].append(timed(TRAIN, "data.corpus=sample", "logger=csv", **one_or_two)[0])
            times[book].append(timed("-m", "tools.bench.book_program", str(corpus.paths[0]), **one_or_two)[0])
            times[page].append(rivals.page_ms(TimeMachine(corpus=corpus), threads))
            if threads > 1:
                times[alone].append(rivals.page_ms(TimeMachine(corpus=corpus), 1))
    except subprocess.CalledProcessError as error:
        yield Row(skipped(ours, error))
    except (ImportError, OSError) as error:  # no Chromium
        yield Row(f"{ours}: skipped, {one_line(error, 60)}")
    else:
        yield Row(f"{ours} against {book}", min(times[ours]), min(times[book]))
        yield Row(f"{page} against {book} program", min(times[page]), min(times[book]))
        yield Row(f"{page} against train.py", min(times[page]), min(times[ours]))
        if times[alone]:
            yield Row(f"{page} against {alone}", min(times[page]), min(times[alone]))


def next_edition(threads: int) -> Iterator[Row]:
    """Compare the run and an epoch of `recipe=next_edition` with the book's own code."""
    what = "next edition: the whole program against the book's own"
    novel = find_corpus("time_machine", [*SEARCH_DIRS])
    command, one_or_two = [TRAIN, "recipe=next_edition", "logger=csv"], {"OMP_NUM_THREADS": str(threads)}
    rival = ["-m", "tools.bench.next_edition_program", str(CLONE), str(novel.paths[0])]
    try:
        theirs, output = timed(*rival, **one_or_two)
    except subprocess.CalledProcessError as error:
        yield Row(skipped(what, error))
        return
    yield Row(what, timed(*command, **one_or_two)[0], theirs)
    epochs = epochs_of_program("recipe=next_edition", "logger=csv", "trainer.max_epochs=5")
    theirs = 1e3 * statistics.median(map(float, output.split()))
    yield Row("next edition: epoch with validation against the book's own", statistics.median(epochs), theirs)


def start(threads: int) -> Iterator[Row]:
    """Measure the CPU time of generate.py for 20 characters, and of train.py without its epochs and its test."""
    if threads > 1:
        return
    with tempfile.TemporaryDirectory() as folder:
        train = [TRAIN, "data.corpus=sample", "logger=csv", "trainer.limit_test_batches=0"]
        timed(*train, "trainer.max_epochs=1", f"hydra.run.dir={folder}/run")
        generate = [str(REPOSITORY / "generate.py"), f"run={folder}/run", "prefix=it has"]
        for what, command in (
            ("generate.py, 20 characters, CPU time", generate),
            ("train.py without its epochs, CPU time", [*train, "trainer.max_epochs=0"]),
        ):
            yield Row(what, min(cpu_ms(*command) for _ in range(3)))


def cpu_ms(*command: str) -> float:
    """Run a Python program; return its CPU time in milliseconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    timed(*command)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1e3 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def skipped(what: str, error: subprocess.CalledProcessError) -> str:
    """Return a row's text with the reason why a rival's program failed, such as a missing package."""
    return f"{what}: skipped, {error.stderr.splitlines()[-1]:.60}"


EVERY = (steps, book, cells, limit, sizes, epoch, decoding, program, start, next_edition)
GROUPS = {group.__name__: group for group in EVERY}


def processor() -> str:
    """Return the name of the processor, as far as the system reports it."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.+)", info.read_text()) if info.exists() else []
    return names[0] if names else platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", choices=[*GROUPS, []], help="all of them, unless some are named")
    groups = parser.parse_args().groups or GROUPS
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    title = f"{processor()}, Python {platform.python_version()}, torch {torch.__version__}, "
    table = Table("threads", *Row._fields, "ratio", box=box.SIMPLE_HEAD)
    table.title = title + f"lightning {version('lightning')}"
    kept = []
    for name, threads in itertools.product(groups, THREADS):
        torch.set_num_threads(threads)
        if name not in ("steps", "book", "cells", "limit"):
            keep_freed_memory()
        for row in GROUPS[name](threads):
            numbers = (row.ours_ms, row.rival_ms, row.ratio)
            shown = ["" if number is None else f"{number:.3g}" for number in numbers]
            table.add_row(str(threads), row.what, *shown)
            kept.append({"threads": threads, "what": row.what, "ours_ms": shown[0], "rival_ms": shown[1]})
    Console(width=max(110, Console().width)).print(table)
    if groups is GROUPS:
        SPEED.mkdir(exist_ok=True)
        name = re.sub(r"\W+", "_", processor()).lower()
        write_rows(SPEED / f"{name}.csv", kept)


if __name__ == "__main__":
    main()
