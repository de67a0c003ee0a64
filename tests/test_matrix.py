"""Each setting at a non-default value: either a one-line error before anything is written, or correct numbers.

Numbers are correct if the perplexities can be recomputed from the final weights by the readable loop in float64; if
steps.csv has each step of the optimizer once; if a run that is interrupted after its first epoch resumes to the same
files; and if the setting has its effect. All runs share one process and use the sample text.
"""

import inspect
import math
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file
from torch.optim.optimizer import register_optimizer_step_post_hook

from tests.support.programs import Done, assert_succeeded, call_program, with_callback
from tests.support.runs import rows, summary, what_is_left
from timemachine import kernels
from timemachine.config import REPOSITORY, Tokens, windows_of
from timemachine.corpus import find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch

CONF = REPOSITORY / "conf"
pytestmark = pytest.mark.usefixtures("quick_calls")

# Five steps per epoch, two validation batches.
SMALL = ["data.corpus=sample", "data.num_train=310", "data.batch_size=64", "data.num_val=1500", "data.num_steps=8"]
SMALL += ["model.hiddens=6", "model.sigma=0.1", "logger=csv", "trainer=cpu", "trainer.max_epochs=2"]
STEPS, EPOCHS = 5, 2

Check = Callable[[Path, Done], bool]  # returns whether the run in this folder, with this output, shows the effect


@dataclass(frozen=True)
class Row:
    """A command line and its result: an error that matches `refused`, or a run for which `check` returns true."""

    typed: str
    check: Check | None = None
    refused: str = ""
    resumes: bool = True  # bit for bit; false without checkpoints, or if the run ends in the first epoch
    has_effect: bool = True  # on the files in the run's folder

    @property
    def names(self) -> set[str]:
        """Return the names of its settings and groups."""
        return {argument.partition("=")[0] for argument in self.typed.split()}


def refused(typed: str) -> Row:
    """Return a command line whose error names its first setting, or its value."""
    name, _, value = typed.split()[0].partition("=")
    return Row(typed, refused=f"{re.escape(name.rpartition('.')[2])}|{re.escape(value)}")


def without_effect(typed: str) -> Row:
    """Return a command line whose run equals the default run. Resuming it is not tested."""
    return Row(typed, resumes=False, has_effect=False)


def steps(number: int) -> Check:
    return lambda folder, _: len(rows(folder / "steps.csv")) == number


def rows_at(*epochs_and_steps: tuple[int, int], validated: tuple[int, ...]) -> Check:
    def check(folder: Path, _: Done) -> bool:
        found = rows(folder / "metrics.csv")
        with_val = tuple(row["step"] for row in found if "val/perplexity" in row)
        return [(row["epoch"], row["step"]) for row in found] == [*epochs_and_steps] and with_val == validated

    return check


def prints(text: str) -> Check:
    return lambda _, done: text in " ".join(done.stdout.split())


def leaves(name: str) -> Check:
    return lambda folder, _: (folder / name).stat().st_size > 0


def has_symbols(number: int) -> Check:
    return lambda folder, _: bool(summary(folder)["corpus"]["vocabulary"] == number)


def computes_with(kernel: str) -> Check:
    return lambda folder, _: summary(folder)["kernel"].startswith(kernel)


def weights_are(dtype: torch.dtype) -> Check:
    return lambda folder, _: load_file(folder / "model.safetensors")["W_hq"].dtype == dtype


def has_no_figure(folder: Path, _: Done) -> bool:
    return not (folder / "perplexity.png").exists()


def has_no_validation(folder: Path, _: Done) -> bool:
    return "val/perplexity" not in summary(folder)["metrics"]


def clips(most: float) -> Check:
    def check(folder: Path, _: Done) -> bool:
        norms = [(row["grad_norm"], row["grad_norm_clipped"]) for row in rows(folder / "steps.csv")]
        holds = all(after <= min(before, most * (1 + 1e-9)) for before, after in norms)
        return holds and any(after < before for before, after in norms)

    return check


SETTINGS = [
    Row("trainer.precision=64-true", computes_with("fused" if kernels.is_compiled() else "bptt")),
    Row("trainer.precision=bf16-true", weights_are(torch.bfloat16)),
    Row("trainer.precision=16-true", weights_are(torch.float16)),
    Row("trainer.precision=bf16-mixed", computes_with("autograd")),
    Row("trainer.fast_dev_run=true", has_no_figure, resumes=False),
    Row("trainer.max_epochs=3", steps(3 * STEPS)),
    Row("trainer.max_epochs=0", has_no_figure, resumes=False),
    Row("trainer.max_epochs=-1 trainer.max_steps=10", steps(10)),
    Row("trainer.max_steps=10", steps(10)),
    Row("trainer.max_steps=3", has_no_validation, resumes=False),
    Row("trainer.limit_train_batches=2", steps(4)),
    Row("trainer.limit_train_batches=0.4", steps(4)),
    Row("trainer.limit_train_batches=0", has_no_figure, resumes=False),
    Row("trainer.limit_val_batches=0", has_no_validation),
    Row("trainer.overfit_batches=2", steps(4)),
    Row(
        "trainer.val_check_interval=2",
        rows_at((1, 2), (1, 4), (1, 5), (2, 7), (2, 9), (2, 10), validated=(2, 4, 7, 9)),
    ),
    Row("trainer.check_val_every_n_epoch=2", rows_at((1, 5), (2, 10), validated=(10,))),
    Row("trainer.check_val_every_n_epoch=5", rows_at((1, 5), (2, 10), validated=(10,))),  # the last epoch
    Row(
        "trainer.check_val_every_n_epoch=null trainer.val_check_interval=3",
        rows_at((1, 3), (1, 5), (2, 6), (2, 9), (2, 10), validated=(3, 6, 9)),
    ),
    Row(
        "trainer.enable_checkpointing=false ~callbacks.best_checkpoint ~callbacks.last_checkpoint",
        lambda at, _: not (at / "checkpoints").exists(),
        resumes=False,
    ),
    Row("trainer.enable_model_summary=true", prints("Modules in eval mode")),
    Row("trainer.accumulate_grad_batches=3", steps(4)),
    Row("trainer.gradient_clip_val=0.01", clips(0.01)),
    Row("trainer.gradient_clip_algorithm=value trainer.gradient_clip_val=0.001", clips(1)),
    Row("model.backward=fused", computes_with("fused"), refused="" if kernels.is_compiled() else "model.backward"),
    Row("model.backward=bptt", computes_with("bptt")),
    Row("model.backward=autograd", computes_with("autograd")),
    Row("data.tokens=characters", has_symbols(63)),
    Row("data.tokens=characters data.min_count=9", has_symbols(48)),
    Row("data.tokens=bpe data.vocab_size=300", has_symbols(301)),
    Row("data.tokens=bpe data.vocab_size=300 data.learn_on=train", has_symbols(301)),
    Row("data.batch_size=100", steps(8)),
    Row("data.num_train=128", steps(4)),
    *map(Row, [
        "trainer.min_epochs=2", "trainer.min_steps=3", "trainer.max_time=00:00:10:00", "trainer.limit_val_batches=1",
        "trainer.limit_test_batches=1", "trainer.limit_test_batches=0", "model.hiddens=9", "model.sigma=0.3",
        "model.sigma_hh=0.3", "model.lr=0.5", "model.activation=relu", "model.input=embedding model.embedding_dim=3",
        "model.input=embedding model.embedding_sigma=0.1", "model.input_lr_factor=4",
        "model.tie_weights=true model.input=embedding model.embedding_dim=6 model.embedding_sigma=0.3",
        "model.cell=gru", "model.cell=lstm", "model.cell=deep_rnn model.layers=3",
        "model=regularized model.optimizer=adamw model.lr=0.01", "model=regularized model.schedule=cosine",
        "model=regularized model.warm_up=0.5", "model=regularized model.carry_state=true data.batch_size=8",
        "model=regularized model.input_dropout=0.2", "model=regularized model.output_dropout=0.2",
        "model=regularized data=taught data.teacher=0.5 model.carry_state=true data.batch_size=8",
        "data.num_steps=3", "data.num_val=100",
        f"data.corpus={REPOSITORY}/LICENSE data.num_train=300 data.num_val=300", "data.start=1000",
        "data.num_train=null data.num_val=null data.batch_size=8192", "seed=7", "probes=[stream]",
    ]),
    *map(without_effect, [
        "trainer.strategy=single_device", "trainer.limit_predict_batches=1", "trainer.num_sanity_val_steps=2",
        "trainer.log_every_n_steps=1", "trainer.deterministic=true", "trainer.benchmark=true",
        "trainer.inference_mode=false", "trainer.use_distributed_sampler=false", "trainer.detect_anomaly=true",
        "trainer.sync_batchnorm=true", "trainer.reload_dataloaders_every_n_epochs=1",
        "trainer.enable_autolog_hparams=false", "trainer.enable_progress_bar=true",
        "trainer.model_registry=x", "trainer.profiler=simple", "data.search_dirs=[nowhere]",
    ]),
    *map(refused, [
        "trainer.barebones=true", "trainer.enable_checkpointing=false", "trainer.accelerator=gpu",
        "trainer.strategy=nonsense", "trainer.devices=[0]",
        "model.backward=fused trainer.precision=bf16-mixed", "model.backward=bptt trainer.precision=bf16-mixed",
                "trainer.max_epochs=null trainer.max_time=00:00:00:01 model=regularized model.warm_up=0.05",
        "trainer.gradient_clip_algorithm=x", "trainer.profiler=nonsense",
        "model.cell=nonsense", "model.layers=3", "data=taught", "data=taught model=regularized",
        "model=regularized model.optimizer=nonsense", "model=regularized model.carry_state=true model.backward=fused",
        "model.tie_weights=true", "model.tie_weights=true model.input=embedding model.embedding_dim=7",
        "data.tokens=nonsense", "data.min_count=30", "data.vocab_size=300", "data.learn_on=train", "probes=[nonsense]",
        "data.vocab_size=255 data.tokens=bpe", "probes=[samples] data.tokens=bpe",
    ]),
    Row("data=taught model=regularized model.carry_state=true data.batch_size=8 data.tokens=bpe", refused="teacher"),
]  # fmt: skip


def composed(*typed: str) -> Any:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", [*typed])


def recipes() -> Iterator[Row]:
    """Yield each recipe with a short text."""
    for file in sorted((CONF / "recipe").glob("*.yaml")):
        cfg = composed(f"recipe={file.stem}")
        changes = "data.teacher=0.2 " if "teacher" in cfg.data else ""
        rate = 0.01 if cfg.model.get("optimizer") == "adamw" else 0.5
        yield Row(f"recipe={file.stem} {changes}model.lr={rate} data.batch_size=8")


CHOICES = [
    *([] if torch.cuda.is_available() else [refused("trainer=gpu")]),
    Row("model=rnn", has_effect=False),
    Row("model=scratch", computes_with("autograd")),
    Row("data=full data.corpus=sample"),
    Row("data=book data.corpus=sample"),
    Row(
        "callbacks=early_stopping callbacks.early_stopping.patience=1 +callbacks.early_stopping.min_delta=99", steps(10)
    ),
    Row("callbacks=learning_rate_monitor logger=tensorboard trainer.log_every_n_steps=1"),
    Row("callbacks=learning_rate_monitor", refused="callbacks|LearningRateMonitor"),
    Row("callbacks=device_stats_monitor logger=tensorboard"),
    Row("logger=tensorboard", leaves("tensorboard")),
    Row("logger=wandb", leaves("wandb")),
    *map(
        without_effect,
        [
            "trainer=auto",
            "trainer=cpu",
            "data=sample",
            "callbacks=default",
            "logger=csv",
            "scale=full",
        ],
    ),
    *recipes(),
]
# Other tests cover exercises, which are sweeps (tests/exercises), and several processes (tests/test_ddp.py).
ELSEWHERE = {"trainer=ddp", "trainer=ddp_cpu", "trainer=gpu", "trainer=ddp_nodes", "trainer=default", "scale=smoke"}
ELSEWHERE |= {"model=regularized", "data=taught", "callbacks=none"}  # in SETTINGS


def test_each_setting_has_a_row() -> None:
    named, cfg = {name for row in SETTINGS for name in row.names}, composed("model=regularized", "data=taught")
    for group in ("trainer", "model", "data"):
        assert {f"{group}.{name}" for name in cfg[group]} - named - {
            "data.seed",
            "trainer.num_nodes",
            "trainer.plugins",
        } <= {f"{group}._target_"}
    for group in ("trainer", "model", "data", "callbacks", "logger", "recipe", "scale"):
        choices = {f"{group}={file.stem}" for file in (CONF / group).glob("*.yaml")}
        assert choices - ELSEWHERE <= {row.typed.split()[0] for row in CHOICES}


def run(folder: Path, typed: str = "") -> Done:
    """Train with the `SMALL` settings, overridden by `typed`."""
    settings = dict(argument.partition("=")[::2] for argument in [*SMALL, *typed.split()])
    arguments = [f"{name}={value}" if value else name for name, value in settings.items()]
    return call_program("train.py", *arguments, f"hydra.run.dir={folder}")


class InterruptAfterFirstEpoch(pl.Callback):
    """Simulate Ctrl-C."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt


@pytest.fixture
def num_optimizer_steps() -> Iterator[list[int]]:
    """Yield a list of one element: the number of optimizer steps so far."""
    count = [0]

    def add(*_: object) -> None:
        count[0] += 1

    handle = register_optimizer_step_post_hook(add)
    yield count
    handle.remove()


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "run"
    assert run(folder).returncode == 0
    return folder


# Rounding unit of each type. The error of a perplexity is a multiple: sums have about a hundred terms.
ROUNDING = {"64-true": 2**-53, "16-true": 2**-11, "bf16-true": 2**-8, "bf16-mixed": 2**-8}


def exact_perplexity(folder: Path, split: str) -> float:
    """Return the perplexity of the batches that the Trainer read, by the readable loop in float64."""
    settings, weights = summary(folder)["settings"], load_file(folder / "model.safetensors")
    names = inspect.signature(RNNLMScratch).parameters
    network = {name: value for name, value in settings["model"].items() if name in names}
    model = RNNLMScratch(vocab_size=len(weights["b_q"]), **network | {"backward": "autograd"}).double()
    model.load_state_dict({name: weight.double() for name, weight in weights.items()})
    data = windows_of(settings["data"])
    corpus = find_corpus(settings["data"]["corpus"], [], Tokens(data["tokens"]))
    limit = settings["trainer"][f"limit_{split}_batches"]
    limit = settings["trainer"]["overfit_batches"] or limit if split == "val" else limit
    loader = TimeMachine(**data, corpus=corpus).windows(split, None if limit is None else data["batch_size"])
    batches = len(loader) if limit is None else int(limit * len(loader)) if isinstance(limit, float) else limit
    with torch.no_grad():
        nlls = [model.nll(batch).flatten() for batch, _ in zip(loader, range(batches), strict=False)]
    return torch.cat(nlls).mean().exp().item() if nlls else math.nan


def perplexity_of(losses: list[float], data: dict[str, Any]) -> float:
    """Return the perplexity of an epoch from the mean loss of each batch. The last batch may be smaller."""
    sizes = [data["batch_size"]] * len(losses)
    if data["num_train"]:
        sizes = [min(size, data["num_train"] - size * number) for number, size in enumerate(sizes)]
    return math.exp(sum(size * loss for size, loss in zip(sizes, losses, strict=True)) / sum(sizes))


def check_numbers(folder: Path, optimizer_steps: int) -> None:
    """Check the perplexities against the final weights, and the steps against the optimizer."""
    found = summary(folder)
    metrics, settings = found["metrics"], found["settings"]
    epochs, steps = rows(folder / "metrics.csv"), rows(folder / "steps.csv")
    nothing_to_do = optimizer_steps == 0 and settings["trainer"]["limit_test_batches"] == 0
    if settings["trainer"]["fast_dev_run"]:
        assert not metrics
        return
    if nothing_to_do:
        assert not (epochs or steps)
        return
    assert [row["step"] for row in steps] == [*range(1, optimizer_steps + 1)]
    assert metrics["step"] == optimizer_steps
    ends = {row["epoch"]: row["step"] for row in epochs}
    assert all(row["step"] == ends[row["epoch"]] for row in epochs if "train/perplexity" in row)
    tolerance = min(1e3 * ROUNDING.get(str(settings["trainer"]["precision"]), 2**-24), 0.05)
    for split in ("val", "test"):
        measured = [row for row in epochs if f"{split}/perplexity" in row]
        if measured and measured[-1]["step"] == optimizer_steps:
            expected = exact_perplexity(folder, split)
            assert metrics[f"{split}/perplexity"] == pytest.approx(expected, rel=tolerance), split
        # The final metrics are from the last epoch. A letter is a byte.
        if f"{split}/perplexity" in metrics and settings["data"]["tokens"] == "letters":
            bits = math.log2(metrics[f"{split}/perplexity"])
            assert metrics[f"{split}/bits_per_byte"] == pytest.approx(bits, rel=1e-9, abs=1e-9), split
    losses = [row["loss"] for row in steps if row["epoch"] == metrics["epoch"]]
    model, data = settings["model"], settings["data"]
    one_batch_a_step = settings["trainer"]["accumulate_grad_batches"] == 1
    as_measured = not (model.get("output_dropout") or data.get("teacher"))  # else training uses another loss
    sizes_are_known = bool(data["num_train"] or model.get("carry_state"))
    if losses and one_batch_a_step and as_measured and sizes_are_known:
        assert metrics["train/perplexity"] == pytest.approx(perplexity_of(losses, data), rel=tolerance)


def check_refused(done: Done, folder: Path, pattern: str) -> None:
    *_, line = done.stderr.splitlines() or [""]  # libraries may print warnings before
    assert done.returncode == 1 and line.startswith("error: ") and re.search(pattern, line), done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "metrics.csv").exists()


def of_the_machine(typed: str) -> list[str]:
    """Return the arguments to type again when a run is resumed: loggers, callbacks, plugins."""
    kept = ("logger", "callbacks", "~callbacks", "trainer.strategy", "trainer.profiler", "trainer.plugins")
    return [
        "trainer=cpu",
        *([] if "logger=" in typed else ["logger=csv"]),
        *(each for each in typed.split() if each.startswith(kept)),
    ]


def check_resumes(typed: str, whole: Path) -> None:
    """Check that a run that is interrupted after its first epoch resumes to the same files."""
    folder = whole.parent / "cut"
    with with_callback(InterruptAfterFirstEpoch()):
        assert run(folder, typed).returncode == 130
    again = call_program("train.py", f"resume={folder}", *of_the_machine(typed))
    assert again.returncode == 0, again.stderr
    assert what_is_left(folder) == what_is_left(whole)


RESUMED_IN_MAKE_TEST = {
    "trainer.precision=64-true", "trainer.max_steps=10", "trainer.val_check_interval=2",
    "trainer.accumulate_grad_batches=3", "model=regularized model.optimizer=adamw model.lr=0.01",
    "model=regularized data=taught data.teacher=0.5 model.carry_state=true data.batch_size=8",
    "data.tokens=characters data.min_count=9",
}  # fmt: skip


# In .ci/run: each changes the training loop, or the content of a checkpoint. `make torture` resumes every row.
RESUMED_IN_CI = {
    "trainer.precision=bf16-true", "trainer.precision=bf16-mixed", "trainer.max_epochs=-1 trainer.max_steps=10",
    "trainer.limit_train_batches=2", "trainer.limit_val_batches=0", "trainer.overfit_batches=2",
    "trainer.check_val_every_n_epoch=2", "trainer.check_val_every_n_epoch=null trainer.val_check_interval=3",
    "trainer.gradient_clip_algorithm=value trainer.gradient_clip_val=0.001", "model.backward=bptt",
    "model.backward=autograd", "data.tokens=bpe data.vocab_size=300", "model.input_lr_factor=4",
    "model.tie_weights=true model.input=embedding model.embedding_dim=6 model.embedding_sigma=0.3",
    "model=regularized model.schedule=cosine", "model=regularized model.warm_up=0.5",
    "model=regularized model.carry_state=true data.batch_size=8",
    "model=regularized model.input_dropout=0.2", "model=regularized model.output_dropout=0.2", "data.start=1000",
    "data.num_train=null data.num_val=null data.batch_size=8192", "probes=[stream]",
}  # fmt: skip


def cases() -> Iterator[Any]:
    """Yield each row, with and without resuming."""
    for row in SETTINGS + CHOICES:
        if row.typed not in RESUMED_IN_MAKE_TEST:
            yield pytest.param(row, False, id=row.typed)
        if row.resumes and not row.refused:
            is_in_ci = row.typed in RESUMED_IN_CI or row.typed.startswith(("recipe=novel", "recipe=next_edition"))
            marks: Any = pytest.mark.slow if is_in_ci else pytest.mark.torture
            marks = [] if row.typed in RESUMED_IN_MAKE_TEST else marks
            yield pytest.param(row, True, id=f"{row.typed}, resumed", marks=marks)


@pytest.mark.parametrize(("row", "is_resumed"), [*cases()])
def test_a_setting(row: Row, is_resumed: bool, tmp_path: Path, num_optimizer_steps: list[int], plain_run: Path) -> None:
    folder = tmp_path / "run"
    num_optimizer_steps[0] = 0  # excludes the steps of `plain_run`
    done = run(folder, row.typed)
    if row.refused:
        check_refused(done, folder, row.refused)
        return
    assert done.returncode == 0, done.stderr
    check_numbers(folder, num_optimizer_steps[0])
    assert row.check is None or row.check(folder, done)
    if not row.has_effect:
        assert what_is_left(folder) == what_is_left(plain_run)
    if is_resumed:
        check_resumes(row.typed, folder)


ACCEPTED = [row for row in SETTINGS if not row.refused]
CASES = int(os.environ.get("CASES", 100)) // 5  # `make torture`: 2,000


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(CASES))
def test_pairs_of_settings(seed: int, tmp_path: Path, num_optimizer_steps: list[int]) -> None:
    """A pair gives a one-line error, diverges, or gives correct numbers, also after resuming."""
    pair, folder = random.Random(seed).sample(ACCEPTED, 2), tmp_path / "run"
    # The second row takes precedence
    settings = dict(argument.split("=", 1) for row in pair for argument in row.typed.split())
    typed = " ".join(f"{name}={value}" for name, value in settings.items())
    done = run(folder, typed)
    if folder.exists() and summary(folder)["status"] == "diverged":
        return  # such as AdamW in float16, where its ε of 1e-8 underflows
    if done.returncode:
        check_refused(done, folder, "")
        return
    check_numbers(folder, num_optimizer_steps[0])
    if all(row.resumes or not row.has_effect for row in pair):
        check_resumes(typed, folder)


def test_changes_of_a_resumed_run(tmp_path: Path) -> None:
    name, radii = "trainer.gradient_clip_val", (1, 0.05, 0.01)
    assert run(tmp_path / "run", f"{name}=1 trainer.max_epochs=1").returncode == 0
    for epochs, radius in ((2, radii[1]), (3, radii[2])):
        typed = [f"resume={tmp_path / 'run'}", "logger=csv", f"trainer.max_epochs={epochs}", f"{name}={radius}"]
        assert_succeeded(call_program("train.py", *typed))
    sessions = summary(tmp_path / "run")["resumed"]
    assert [(session["epoch"], session["changes"][name]) for session in sessions] == [(1, radii[1]), (2, radii[2])]
    norms = [row["grad_norm_clipped"] for row in rows(tmp_path / "run/metrics.csv")]
    assert norms[1:] == pytest.approx(radii[1:], rel=1e-4)  # the first radius is above all norms


@pytest.mark.parametrize("typed", ["trainer.max_steps=10 trainer.max_epochs=5", "trainer.max_steps=8"])
def test_resuming_a_finished_run(typed: str, tmp_path: Path) -> None:
    """The run is tested again and gives the same numbers."""
    assert run(tmp_path / "run", typed).returncode == 0
    left, before = what_is_left(tmp_path / "run"), summary(tmp_path / "run")
    assert_succeeded(call_program("train.py", f"resume={tmp_path / 'run'}", "logger=csv"))
    after = summary(tmp_path / "run")
    assert (what_is_left(tmp_path / "run"), after["metrics"], after["kernel"]) == (
        left,
        before["metrics"],
        before["kernel"],
    )


@pytest.mark.parametrize(
    "setting",
    [
        "model=regularized", "model=scratch", "model.lr=0.5", "data.batch_size=16", "data.corpus=time_machine",
        "seed=1",
        "init_from=other", "trainer.barebones=true", "trainer.max_epochs=1", "trainer.max_steps=7",
    ],
)  # fmt: skip
def test_settings_that_cannot_change(setting: str, plain_run: Path, tmp_path: Path, novels: Path) -> None:
    folder = shutil.copytree(plain_run, tmp_path / "run")
    before = {path: path.read_bytes() for path in folder.glob("*") if path.is_file()}
    longer = [] if "max_" in setting else ["trainer.max_epochs=3"]
    done = call_program("train.py", f"resume={folder}", "logger=csv", setting, *longer)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1) and done.stderr.startswith("error: "), done.stderr
    assert {path: path.read_bytes() for path in folder.glob("*") if path.is_file()} == before
