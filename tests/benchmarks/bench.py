"""make bench: the project's code against its rivals, as ratios of medians, the two in turn in one process.

No malloc setting is used. Run it on an idle machine: two threads on two busy cores wait for each other by spinning.
`--json` prints the same for machines; `--plot` also draws the cost of a step against T, B and H.
"""

import argparse
import contextlib
import io
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import lightning.pytorch as pl
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from tests.benchmarks import rivals
from timemachine import tracking, training
from timemachine.clipping import clip_gradients
from timemachine.config import REPOSITORY, Train, Wandb, WandbMode
from timemachine.corpus import find_corpus
from timemachine.datamodule import Batch, TimeMachine
from timemachine.decoding import continue_text
from timemachine.language_model import RNNLMScratch
from timemachine.record import Record

Row = dict[str, Any]
THREADS = (1, 2)


def in_turn(ours: Callable[[], Any], rival: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Medians of both, in milliseconds."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 3):
        for side, call in zip(times, (ours, rival), strict=True):
            began = perf_counter()
            call()
            if number >= 3:
                side.append(1e3 * (perf_counter() - began))
    return statistics.median(times[0]), statistics.median(times[1])


def compared(what: str, ours: float, rival: float, at_least: float | None = None) -> Row:
    return {"what": what, "ours_ms": ours, "rival_ms": rival, "ratio": rival / ours, "asked": at_least}


def random_batch(T: int, B: int) -> Batch:
    windows_BT = torch.randint(28, (B, T + 1))
    return windows_BT[:, :-1], windows_BT[:, 1:]


def steps(threads: int) -> Iterator[Row]:
    """A training step at several sizes."""
    asked = {"": (1.7, 1.8), ", T = 128": (2, 2), ", H = 64": (None, None)}
    asked |= {", H = 256": (1.25, 1.25), ", H = 512": (1.2, 1.2), ", B = 64": (1.7, 1.7)}
    sizes = {"": (32, 1024, 32), ", T = 128": (128, 1024, 32), ", H = 64": (32, 1024, 64)}
    sizes |= {", H = 256": (32, 1024, 256), ", H = 512": (32, 1024, 512), ", B = 64": (32, 64, 32)}
    for name, (T, B, H) in sizes.items():
        batch = random_batch(T, B)
        rounds = 12 if H > 64 else 20 if T > 32 else 60
        own = rivals.own_step(H, batch)
        yield compared(
            f"step against nn.RNN{name}", *in_turn(own, rivals.torch_step(H, batch), rounds), asked[name][threads - 1]
        )
        if not name:
            loop = rivals.own_step(H, batch, "autograd")
            yield compared("step against the book's loop", *in_turn(own, loop, rounds), 1.9)


def gpu(threads: int) -> Iterator[Row]:
    """A training step on a GPU, where there is one, against cuDNN: in float32 and under bf16's autocast."""
    if not torch.cuda.is_available() or threads > 1:
        return
    for name, (T, B, H) in {"": (32, 1024, 32), ", H = 512": (32, 1024, 512)}.items():
        for precision in ("float32", "bf16"):
            with torch.device("cuda"):
                batch = random_batch(T, B)
                own, rival = until_done(rivals.own_step(H, batch)), until_done(rivals.torch_step(H, batch))
            with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
                yield compared(f"GPU, {precision}, against cuDNN{name}", *in_turn(own, rival, 100))


def until_done(step: Callable[[], Any]) -> Callable[[], Any]:
    """The step, and the wait for the GPU to have done it."""

    def call() -> None:
        step()
        torch.cuda.synchronize()

    return call


class Clock(pl.Callback):
    """When each training epoch began."""

    def __init__(self) -> None:
        self.began: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.began.append(perf_counter())

    def milliseconds(self) -> list[float]:
        return [1e3 * (b - a) for a, b in zip(self.began[1:], self.began[2:], strict=False)]


@contextmanager
def own_trainer(data: TimeMachine, clock: Clock, epochs: int, checkpoints: bool, wandb: bool) -> Iterator[pl.Trainer]:
    """The Trainer of a run in a folder of its own, with its loggers."""
    settings = Train()
    chosen = settings.trainer
    chosen.max_epochs, chosen.gradient_clip_val, chosen.devices, chosen.num_sanity_val_steps = epochs, 1.0, 1, 0
    chosen.enable_model_summary = chosen.enable_progress_bar = False
    chosen.enable_checkpointing = None if checkpoints else False
    settings.logger.wandb = Wandb(mode=WandbMode.offline) if wandb else None
    with tempfile.TemporaryDirectory() as folder:
        record = Record(Path(folder), {}, in_sweep=False)
        record.update(corpus=data.describe(), git={})
        with tracking.open_loggers(settings, record, tracking.Label("bench", None, "bench", quiet=True)) as loggers:
            trainer = training.build_trainer(settings, Path(folder), loggers, quiet=True)
            vars(trainer)["callbacks"].append(clock)
            yield trainer


def epoch(_: int) -> Iterator[Row]:
    """A whole epoch with validation, as train.py runs it, against a plain Lightning program."""
    data = TimeMachine(corpus=find_corpus("sample", []))
    ours, plain = list[float](), list[float]()
    for _ in range(4):
        clock = Clock()
        with own_trainer(data, clock, 8, checkpoints=True, wandb=False) as trainer:
            trainer.fit(RNNLMScratch(28), data)
        ours += clock.milliseconds()
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            trainer = pl.Trainer(
                max_epochs=5, gradient_clip_val=1, enable_progress_bar=False, enable_model_summary=False,
                num_sanity_val_steps=0, callbacks=[clock], default_root_dir=folder,
            )  # fmt: skip
            train, val = (rivals.item_by_item(data, split) for split in ("train", "val"))
            trainer.fit(rivals.PlainLightning(), train, val)
            plain += clock.milliseconds()
    yield compared("epoch with validation", statistics.median(ours), statistics.median(plain), 2.2)


class Idle(RNNLMScratch):
    """A model whose loss costs nothing."""

    def nll(self, batch: Batch) -> Tensor:
        return (self.b_q.sum() * 0 + 3).expand(batch[1].shape)


def lightning(_: int) -> Iterator[Row]:
    """What Lightning adds to a step of a model that does nothing, over a bare loop; all logging on, no checkpoints."""
    data = TimeMachine(corpus=find_corpus("sample", []))
    data.splits["val"] = data.splits["train"]
    model = Idle(28)
    optimizer = torch.optim.SGD(model.parameters(), lr=1)

    def bare() -> None:
        for batch in data.train_dataloader():
            optimizer.zero_grad()
            X_BT, Y_BT = batch
            torch.autograd.backward(model.nll((X_BT, Y_BT)).mean())
            clip_gradients(model.parameters(), 1)
            optimizer.step()

    for name, wandb in (("CSV", False), ("CSV and W&B offline", True)):
        clock = Clock()
        with own_trainer(data, clock, 60, checkpoints=False, wandb=wandb) as trainer:
            trainer.limit_val_batches = 0
            trainer.fit(Idle(28), data)
        alone = in_turn(bare, bare, 30)[0]
        cost = (statistics.median(clock.milliseconds()) - alone) / 10
        yield {
            "what": f"Lightning's cost a step, ms, {name}",
            "ours_ms": cost,
            "rival_ms": None,
            "ratio": None,
            "asked": 1.0,
        }


def decoding(_: int) -> Iterator[Row]:
    """Characters of a text."""
    data = TimeMachine(corpus=find_corpus("sample", []))
    torch.manual_seed(0)
    model = RNNLMScratch(28, sigma=0.3, backward="autograd")

    def greedy() -> object:
        return continue_text(model, data.vocab, "it has", 500)

    def book() -> object:
        return model.predict("it has", 500, data.vocab)

    yield compared("greedy decoding of 500 characters against the book's predict", *in_turn(greedy, book, 20), 8)

    def sampled() -> object:
        return continue_text(model, data.vocab, "it has", 50, 1.0, 1024)

    def multinomial() -> object:
        return rivals.multinomial_samples(model, data.vocab, "it has", 50, 1024)

    yield compared("1,024 samples of 50 characters against torch.multinomial", *in_turn(sampled, multinomial, 10), 3)


def sweep(threads: int) -> Iterator[Row]:
    """Four of the book's runs, one after another and one a core: the whole program, with its seconds of imports."""
    command = [sys.executable, str(REPOSITORY / "train.py"), "-m", "seed=0,1,2,3", "data=sample", "logger=csv"]

    def milliseconds(*more: str, **environment: str) -> float:
        with tempfile.TemporaryDirectory() as folder:
            began = perf_counter()
            subprocess.run([*command, *more], cwd=folder, env=os.environ | environment, check=True, capture_output=True)
            return 1e3 * (perf_counter() - began)

    alone, together = milliseconds(OMP_NUM_THREADS=str(threads)), milliseconds("hydra/launcher=joblib")
    yield compared(f"sweep of four, a job a core ({os.cpu_count()}), against one after another", together, alone, 1.7)


def plot(path: Path) -> None:
    """Milliseconds a step against T, B and H, the other two as in the book; one thread."""
    from matplotlib.figure import Figure

    torch.set_num_threads(1)
    figure = Figure(figsize=(9, 3), dpi=150, layout="constrained")
    grid = {"T": [8, 16, 32, 64, 128], "B": [64, 128, 256, 512, 1024], "H": [16, 32, 64, 128, 256]}
    for axes, (name, values) in zip(figure.subplots(1, 3), grid.items(), strict=True):
        medians = []
        for value in values:
            size = {"T": 32, "B": 1024, "H": 32} | {name: value}
            batch = random_batch(size["T"], size["B"])
            medians.append(in_turn(rivals.own_step(size["H"], batch), rivals.torch_step(size["H"], batch), 10))
        for label, style, side in (("ours", "o-", 0), ("nn.RNN", "s--", 1)):
            axes.loglog(values, [pair[side] for pair in medians], style, base=2, label=label)
        axes.set(xlabel=name, ylabel="ms a step", xticks=values)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
        axes.legend()
    figure.savefig(path)


def _cell(value: float | str | None) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot", type=Path, help="where to draw the cost of a step against T, B and H")
    parser.add_argument("--only", default="", help="names of groups: steps, gpu, epoch, lightning, decoding, sweep")
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    all_groups = (steps, gpu, epoch, lightning, decoding, sweep)
    groups = [group for group in all_groups if group.__name__ in (arguments.only or group.__name__)]
    rows: list[Row] = []
    for threads in THREADS:
        torch.set_num_threads(threads)
        for group in groups:
            with contextlib.redirect_stdout(io.StringIO()):
                rows += [{"threads": threads} | row for row in group(threads)]
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, lightning {version('lightning')}"
    machine = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {versions}"
    if arguments.json:
        print(json.dumps({"machine": machine, "rows": rows}, indent=2))
    else:
        columns = ("threads", "what", "ours_ms", "rival_ms", "ratio", "asked")
        table = Table(*columns, box=box.SIMPLE_HEAD, title=machine)
        for row in rows:
            table.add_row(*map(_cell, (row[column] for column in columns)))
        Console(width=max(110, Console().width)).print(table)
    if arguments.plot:
        plot(REPOSITORY / arguments.plot)


if __name__ == "__main__":
    main()
