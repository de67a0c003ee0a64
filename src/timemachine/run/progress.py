"""Print a run: its model and text, then a bar on a terminal or else a line per epoch, and its results."""

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from timemachine.config import COUNT, PREFIX, check, short
from timemachine.corpus import Corpus
from timemachine.decoding import continue_text, known_prefix
from timemachine.kernels import NOT_COMPILED
from timemachine.language_model import RNNLMScratch
from timemachine.run.console import print_table, print_text
from timemachine.run.files import relative_path
from timemachine.run.run import Run

MIN_REPORTED_BYTES = 30_000  # of headers and footers: several books have as much together
NUM_PREDS = 20  # characters of the continuation, as in the book
WORSE = 1.05  # by how much the last epoch may be worse than the best one without a message
SCORES = ("train/perplexity", "val/perplexity", "val/bits_per_byte", "test/perplexity")  # of the printed table


class RunProgress(ProgressBar):
    """One bar for the whole run, with both perplexities and the time left; without a terminal, a line per epoch.

    Lightning's bars start again with each epoch, and the book's epochs take a fifth of a second. As a `ProgressBar` it
    replaces Lightning's. `every_n_epochs`: epochs between lines, which end with a continuation of the book's
    prefix.
    """

    def __init__(self, every_n_epochs: int = 1) -> None:
        super().__init__()
        check({"every_n_epochs": every_n_epochs}, {"every_n_epochs": COUNT}, "callbacks.progress.")
        self.every_n_epochs, self.is_on = every_n_epochs, True
        self.printed = 0  # the last epoch that was printed
        self.bar: Progress | None = None

    def disable(self) -> None:
        """Print nothing: Lightning calls this in all processes but the first, train.py in the jobs of a sweep."""
        self.is_on = False

    def enable(self) -> None:
        """Print again."""
        self.is_on = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the model and the text; start the bar on a terminal."""
        if self.is_on:
            print_text(run_header(pl_module, trainer.datamodule))  # type: ignore[attr-defined]
        self.printed, console = trainer.current_epoch, Console()
        if self.is_on and console.is_terminal:
            columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[numbers]}")
            self.bar = Progress(*columns, TimeRemainingColumn(), console=console)
            epochs = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else None
            self.bar.add_task("", total=epochs, completed=trainer.current_epoch, numbers="")
            self.bar.start()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the epoch before: the model logs its training perplexity after the hooks at an epoch's end."""
        self._print(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the last epoch."""
        self._print(trainer, pl_module)
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave the terminal as it was."""
        self._stop()

    def _stop(self) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None

    def _print(self, trainer: pl.Trainer, model: Any) -> None:
        epoch = trainer.current_epoch  # Lightning has already counted the epoch that ended
        if not self.is_on or epoch == self.printed:
            return
        metrics = {name: short(float(value), 1) for name, value in trainer.callback_metrics.items()}
        train, val = (metrics.get(f"{name}/perplexity", "–") for name in ("train", "val"))
        numbers = f"perplexity {train} training, {val} validation"
        if train == val == "–" and metrics:  # a custom model with other metrics
            numbers = "  ".join(f"{name} {float(value):.4g}" for name, value in trainer.callback_metrics.items())
        if self.bar:
            of = f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
            self.bar.update(self.bar.task_ids[0], completed=epoch, description=f"epoch {epoch}{of}", numbers=numbers)
        elif epoch % self.every_n_epochs == 0:
            text = continuation(model, trainer.datamodule).replace("\n", "↵").rstrip()  # type: ignore[attr-defined]
            print_text(f"epoch {epoch:<3}  {numbers}   {text}")
        self.printed = epoch


def run_header(model: Any, data: Any) -> str:
    """Return the first lines of a run: its model, its text, and the characters lost in normalisation."""
    text, parameters = data.corpus, sum(p.numel() for p in model.parameters())
    about = f"{type(model).__name__}, {parameters:,} parameters, on {text.title}"
    lines = [f"Training {about}. Guessing has a perplexity of {len(data.vocab):,}.", lost_letters_warning(text)]
    if text.left_out > MIN_REPORTED_BYTES:
        lines += [f"text          without {text.left_out:,} bytes of headers and footers of Project Gutenberg"]
    if text.left_in:
        around = f"{text.left_in:,} bytes are outside Project Gutenberg's START and END lines"
        lines += [f"text          read as a whole: {around}, too many for headers and footers"]
    if hasattr(model, "lacks_kernel") and model.lacks_kernel():
        lines += [f"kernel        {NOT_COMPILED}"]
    return "\n".join(filter(None, lines))


def lost_letters_warning(corpus: Corpus) -> str:
    """Return a line with the number of letters that became spaces, or "" if they are less than 1% of the letters."""
    lost = corpus.lost_letters
    letters = lost + len(corpus.characters) - corpus.characters.count(" ")
    share = f"{lost / max(letters, 1):.1%}"
    line = f"text          {lost:,} of {letters:,} letters are not A to Z and become spaces ({share})"
    return f"{line}; data.tokens=characters keeps them" if lost and lost >= letters / 100 else ""


def continuation(model: Any, data: Any) -> str:
    """Return the book's prefix with its greedy continuation, the same as from `predict`; uses no random numbers."""
    if not isinstance(model, RNNLMScratch):
        return ""
    return continue_text(model, data.vocab, known_prefix(PREFIX, data), NUM_PREDS)[0]


def print_results(run: Run, lines: Sequence[str]) -> None:
    """Print the table of a run's results, its message, and lines about its files; nothing for a job of a sweep."""
    summary, metrics = run.summary, run.metrics
    if not run.prints:
        return
    if not metrics:  # trainer.fast_dev_run
        print_text(str(summary["message"]))
        return
    epoch = f"epoch {metrics.get('epoch', 0)}"
    names = [name for name in SCORES if name in metrics]
    if "val/perplexity" not in metrics:  # of a user-defined model
        names = [name for name in metrics if "/" in name and "best" not in name]
    rows = [(name, short(metrics[name]), epoch) for name in names]
    if f"best_{run.metric}" in metrics:
        rows.append((f"best {run.metric}", short(metrics[f"best_{run.metric}"]), f"epoch {metrics['best_epoch']}"))
        if metrics.get(run.metric, 0) > WORSE * metrics[f"best_{run.metric}"]:
            better = "end earlier with callbacks=early_stopping, or use run=<folder>/checkpoints/best.ckpt"
            lines = [f"the last epoch is worse than epoch {metrics['best_epoch']}: {better}", *lines]
    if "clipped_steps" in metrics:
        clipped = f"{metrics['clipped_steps']} of {metrics['num_steps_done']}"
        rows.append(("clipped steps", clipped, f"largest norm {metrics['largest_grad_norm']:.3g}"))
    if "chars_per_second" in metrics:
        rows.append(("characters/s", f"{metrics['chars_per_second']:,.0f}", "training, last epoch"))
    rows.append(("parameters", f"{summary['parameters']:,}", f"kernel: {summary['kernel']}"))
    print_table(f"{summary['status']}: {summary['corpus']['title']}", (), rows)
    if summary["status"] == "completed" and summary["message"]:
        print_text(summary["message"])
    print_text("\n".join([*filter(None, lines), f"folder        {relative_path(run.folder)}"]))


def silence() -> None:
    """Hide messages of Lightning that do not concern a user of this program."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # hides "GPU available: False", tips, …
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)  # shows the report of trainer.profiler
    for message in (
        ".*smaller than the logging interval.*",  # steps.csv has every step
        ".*LeafSpec.* is deprecated.*",
        r"hydra\.utils\.instantiate\(\) resolved _target_",  # of Hydra 1.4: here, a setting may name any class
        ".*could not find the monitored key.*",  # a run that ends before its first validation
        ".*callbacks used to create the checkpoint.*",  # a resumed run may have others
        "Checkpoint directory .* exists and is not empty.*",
        "The `srun` command is available.*",  # a run on the login node of a cluster
        ".*does not have many workers.*",  # the loader indexes a tensor
        "Total length of `WindowLoader` across ranks is zero.*",  # a short text has no test windows
    ):
        warnings.filterwarnings("ignore", message)
