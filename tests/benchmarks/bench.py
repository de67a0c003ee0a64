"""make bench: the project's code against its rivals, as ratios of medians, the two in turn in one process.

No malloc setting is used. Run it on an idle machine: two threads on two busy cores wait for each other by spinning.
`--json` prints the same for machines; `--plot` also draws the cost of a step against T, B and H. The exit status is 1
where a number falls short of what was asked, which stands beside it.
"""

import argparse
import contextlib
import io
import itertools
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
import wandb
from rich import box
from rich.console import Console
from rich.table import Table
from timemachine.runs.loggers import open_loggers
from torch import Tensor

from tests.benchmarks import rivals
from tests.page.conftest import launched
from tests.page.models import LETTERS, MODELS, random_model, summary_of
from timemachine.clipping import clip_gradients
from timemachine.config import REPOSITORY, Train, Wandb, WandbMode
from timemachine.corpus import find_corpus
from timemachine.datamodule import Batch, TimeMachine
from timemachine.decoding import continue_text
from timemachine.errors import one_line
from timemachine.kernels import choice, fused
from timemachine.language_model import RNNLMScratch
from timemachine.page import make_page
from timemachine.runs.record import Record
from timemachine.training.trainer import build_trainer

Row = dict[str, Any]
THREADS = (1, 2)
TURN = 5


def in_turn(ours: Callable[[], Any], rival: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Medians of both over `rounds` calls, in milliseconds; they take turns of `TURN` calls.

    In training a step follows its like. Where single steps alternate, ours waits 0.5 ms of 2 for what nn.RNN has driven
    out of the caches: Python and torch around the kernel, not the kernel.
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


def compared(what: str, ours: float, rival: float, at_least: float | None = None) -> Row:
    return {"what": what, "ours_ms": ours, "rival_ms": rival, "ratio": rival / ours, "asked": at_least}


def cost(what: str, ms: float, at_most: float) -> Row:
    return {"what": what, "ours_ms": ms, "rival_ms": None, "ratio": None, "asked": at_most}


def skipped(what: str, error: Exception) -> Row:
    return {"what": f"{what}: skipped, {one_line(error, 60)}", "ours_ms": None, "rival_ms": None, "ratio": None,
            "asked": None}  # fmt: skip


def random_batch(T: int, B: int, V: int = 28) -> Batch:
    windows_BT = torch.randint(V, (B, T + 1))
    return windows_BT[:, :-1], windows_BT[:, 1:]


BOOK = (32, 1024, 32)  # T, B, H
SIZES = {"": BOOK, ", T = 128": (128, 1024, 32), ", H = 64": (32, 1024, 64), ", H = 128": (32, 1024, 128)}
SIZES |= {", H = 256": (32, 1024, 256), ", H = 512": (32, 1024, 512), ", B = 64": (32, 64, 32)}


def steps(threads: int) -> Iterator[Row]:
    """A training step (gradients, clipping, update) at several sizes."""
    against_torch = {"": (4.5, 5.5), ", T = 128": (None, 5), ", H = 64": (None, 3), ", H = 128": (None, 2.5)}
    against_torch[", B = 64"] = (None, 4)
    against_bptt = {"": (2.5, 3.3), ", H = 256": (1, 1), ", H = 512": (1, 1)}
    for name, (T, B, H) in SIZES.items():
        batch = random_batch(T, B)
        rounds = 12 if H > 64 else 20 if T > 32 else 60
        own, none = rivals.own_step(H, batch), (None, None)
        asked = against_torch.get(name, none)[threads - 1]
        yield compared(f"step against nn.RNN{name}", *in_turn(own, rivals.torch_step(H, batch), rounds), asked)
        bptt, asked = rivals.own_step(H, batch, "bptt"), against_bptt.get(name, none)[threads - 1]
        yield compared(f"step against bptt{name}", *in_turn(own, bptt, rounds), asked)


def book(threads: int) -> Iterator[Row]:
    """A step at the book's sizes against other ways to write it, and against its arithmetic alone."""
    T, B, H = BOOK
    batch = random_batch(T, B)
    own = rivals.own_step(H, batch)
    yield compared("step against the book's loop", *in_turn(own, rivals.own_step(H, batch, "autograd"), 20), 1.9)
    others = {"the book's loop under torch.compile": rivals.compiled_loop_step, "d2l's own classes": rivals.d2l_step}
    for what, make in others.items():
        try:
            rival = make(H, batch)
        except Exception as error:  # torch.compile raises anything where there is no compiler
            yield skipped(f"step against {what}", error)
        else:
            yield compared(f"step against {what}", *in_turn(own, rival, 20))
    if threads == 1:
        (ours, _), floor = in_turn(own, own, 60), rivals.floor_ms(T, B, H, 28)
        yield compared("share of the arithmetic floor", ours, floor, 0.7)


def sizes(threads: int) -> Iterator[Row]:
    """What `kernels.choice.is_fastest` says, where it is likeliest to be wrong: the fused kernel against bptt."""
    if threads > 1 or not choice.is_compiled():
        return
    for H in (4, 32, 128, choice.WIDEST):
        for T, B, V in ((32, 1024, 28), (32, 8, 28), (32, 64, 100), (8, 256, choice.LARGEST_VOCABULARY)):
            for activation in choice.ACTIVATIONS:
                batch = random_batch(T, B, V)
                own, bptt = (rivals.own_step(H, batch, name, V, activation) for name in ("fused", "bptt"))
                what = f"fused against bptt, {activation}, T, B, H, V = {T}, {B}, {H}, {V}"
                yield compared(what, *in_turn(own, bptt, 8), 1)


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
def own_trainer(
    data: TimeMachine, clock: Clock, epochs: int, checkpoints: bool, with_wandb: bool
) -> Iterator[pl.Trainer]:
    """The Trainer of a run in a folder of its own, with its loggers."""
    settings = Train()
    chosen = settings.trainer
    chosen.max_epochs, chosen.gradient_clip_val, chosen.devices, chosen.num_sanity_val_steps = epochs, 1.0, 1, 0
    chosen.enable_model_summary = chosen.enable_progress_bar = False
    chosen.enable_checkpointing = None if checkpoints else False
    settings.logger.wandb = Wandb(mode=WandbMode.offline) if with_wandb else None
    with tempfile.TemporaryDirectory() as folder:
        record = Record(Path(folder), {}, False, exercise="bench")
        record.update(corpus={"name": "sample"}, git={})
        with open_loggers(settings, record) as loggers:
            trainer = build_trainer(settings, Path(folder), loggers, quiet=True)
            vars(trainer)["callbacks"].append(clock)
            yield trainer


def epoch(_: int) -> Iterator[Row]:
    """A whole epoch with validation, as train.py runs it, against a plain Lightning program."""
    data = TimeMachine(corpus=find_corpus("sample", []))
    ours, plain = list[float](), list[float]()
    for _ in range(4):
        clock = Clock()
        with own_trainer(data, clock, 8, checkpoints=True, with_wandb=False) as trainer:
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
    yield compared("epoch with validation", statistics.median(ours), statistics.median(plain), 4.5)


@contextmanager
def in_wandb(folder: Path) -> Iterator[wandb.Run]:
    """An offline run of W&B."""
    settings = wandb.Settings(silent=True, console="off", x_disable_stats=True)  # as ours
    run = wandb.init(mode="offline", dir=folder, settings=settings)
    yield run
    run.finish()


class Idle(RNNLMScratch):
    """A model whose loss costs nothing."""

    def nll(self, batch: Batch) -> Tensor:
        return (self.b_q.sum() * 0 + 3).expand(batch[1].shape)


def lightning(_: int) -> Iterator[Row]:
    """What Lightning adds to a step of a model that does nothing, over a bare loop; all logging on, no checkpoints.
    And what W&B adds to a step of the book's, over what a bare loop pays that calls `run.log` after each step."""
    data = TimeMachine(corpus=find_corpus("sample", []))
    data.splits["val"] = data.splits["train"]
    model = Idle(28, backward="bptt")
    optimizer = torch.optim.SGD(model.parameters(), lr=1)

    def bare() -> None:
        for batch in data.train_dataloader():
            optimizer.zero_grad()
            X_BT, Y_BT = batch
            torch.autograd.backward(model.nll((X_BT, Y_BT)).mean())
            clip_gradients(model.parameters(), 1)
            optimizer.step()

    def by_lightning(model: RNNLMScratch, with_wandb: bool = False) -> float:
        clock = Clock()
        with own_trainer(data, clock, 60, checkpoints=False, with_wandb=with_wandb) as trainer:
            trainer.limit_val_batches = 0
            trainer.fit(model, data)
        return statistics.median(clock.milliseconds()) / len(data.train_dataloader())

    alone = in_turn(bare, bare, 30)[0] / len(data.train_dataloader())
    yield cost("Lightning's cost a step, ms, with CSV", by_lightning(Idle(28, backward="bptt")) - alone, 0.4)

    step, numbers = rivals.own_step(32, random_batch(32, 1024)), itertools.count(1)
    with tempfile.TemporaryDirectory() as folder, in_wandb(Path(folder)) as run:

        def logged() -> None:
            step()
            run.log({"loss": 3.0, "grad_norm": 2.0, "grad_norm_clipped": 1.0, "trainer/global_step": next(numbers)})

        with_log, without = in_turn(logged, step, 300)
    added = by_lightning(RNNLMScratch(28), with_wandb=True) - by_lightning(RNNLMScratch(28))
    yield cost(f"W&B's, offline; in a bare loop {with_log - without:.2f}", added, with_log - without + 0.05)


def decoding(threads: int) -> Iterator[Row]:
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

    asked = 3 if threads == 1 else None
    yield compared(
        "1,024 samples of 50 characters against torch.multinomial", *in_turn(sampled, multinomial, 10), asked
    )


def program(threads: int) -> Iterator[Row]:
    """`python train.py` with CSV, start to end, against the book's own code without its figure: 100 epochs."""
    what, text = "the whole program against the book's own", find_corpus("sample", []).paths[0]
    ours = [str(REPOSITORY / "train.py"), "data=sample", "logger=csv"]
    book = ["-m", "tests.benchmarks.book_program", str(text)]
    times: dict[str, list[float]] = {"ours": [], "book": []}
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(REPOSITORY)}
    for _ in range(2):
        for name, command in (("ours", ours), ("book", book)):
            with tempfile.TemporaryDirectory() as folder:
                began = perf_counter()
                done = subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True)
                times[name].append(1e3 * (perf_counter() - began))
            if done.returncode:
                yield skipped(what, RuntimeError(done.stderr.decode().splitlines()[-1]))
                return
    yield compared(what, min(times["ours"]), min(times["book"]), 3)


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


def exercise(threads: int) -> Iterator[Row]:
    """`exercise=hyperparameters` on all cores, with the kernel that `auto` takes and with the one before it."""
    if threads > 1:
        return
    command = [sys.executable, str(REPOSITORY / "train.py"), "exercise=hyperparameters", "trainer.max_epochs=20"]
    times = dict[str, float]()
    for kernel in ("auto", "bptt"):
        with tempfile.TemporaryDirectory() as folder:
            began, typed = perf_counter(), [*command, f"model.backward={kernel}"]
            subprocess.run(typed, cwd=folder, check=True, capture_output=True)
            times[kernel] = 1e3 * (perf_counter() - began)
    what = f"exercise=hyperparameters on {os.cpu_count()} cores, 20 epochs, against bptt"
    yield compared(what, times["auto"], times["bptt"], 1.7)


PAINTED = """() => {
    globalThis.painted = [];
    new PerformanceObserver(list => painted.push(...list.getEntries()
        .filter(entry => entry.name === "keypress").map(entry => entry.duration)))
        .observe({ type: "event", durationThreshold: 16 });
}"""


def page(threads: int) -> Iterator[Row]:
    """A key typed into page.html, to the frame that shows the answer, as the browser tells it: in steps of 8 ms."""
    if threads > 1:
        return
    what, keys = "a key in the page of 512 units", "a recondite matter to us " * 4
    model = random_model(**MODELS["512 units"])
    try:
        from playwright.sync_api import sync_playwright

        with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
            path = Path(folder) / "page.html"
            path.write_bytes(make_page(model, LETTERS, summary_of(model)))
            browser = launched(playwright)
            for written in (80, 1880):  # the box holds 2,000, and each key has its 20 grey characters
                tab = browser.new_page()
                tab.goto(path.as_uri())
                tab.get_by_role("textbox", name="Your text").fill(("the time traveller for so it " * 80)[:written])
                tab.wait_for_function("count => reading.known === count", arg=written)
                tab.evaluate(PAINTED)
                tab.keyboard.type(keys, delay=100)
                tab.wait_for_timeout(200)
                slow: list[float] = tab.evaluate("painted")
                times = slow + [8.0] * (len(keys) - len(slow))  # the browser tells of those from 16 ms on
                yield cost(f"{what}, behind {written:,} characters", statistics.median(times), 30)
            browser.close()
    except Exception as error:  # no playwright, no Chromium
        yield skipped(what, error)


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


def falls_short(row: Row) -> bool:
    """Whether a ratio is below what was asked, or a cost above."""
    below: bool = row["ours_ms"] > row["asked"] if row["ratio"] is None else row["ratio"] < row["asked"]
    return below


def _cell(value: float | str | None) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot", type=Path, help="where to draw the cost of a step against T, B and H")
    parser.add_argument(
        "--only",
        default="",
        help="names of groups: steps, book, sizes, gpu, epoch, lightning, decoding, program, sweep, exercise, page",
    )
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    all_groups = (steps, book, sizes, gpu, epoch, lightning, decoding, program, sweep, exercise, page)
    only = arguments.only.split(",") if arguments.only else [group.__name__ for group in all_groups]
    groups = [group for group in all_groups if group.__name__ in only]
    rows: list[Row] = []
    for threads in THREADS:
        torch.set_num_threads(threads)
        for group in groups:
            with contextlib.redirect_stdout(io.StringIO()):
                rows += [{"threads": threads} | row for row in group(threads)]
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, lightning {version('lightning')}"
    machine = f"{platform.machine()}, fused kernel: {fused.available()}, {versions}"
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
    short = [row["what"] for row in rows if row["asked"] and falls_short(row)]
    if short:
        sys.exit(f"{len(short)} of {len(rows)} fall short: {'; '.join(short)}")


if __name__ == "__main__":
    main()
