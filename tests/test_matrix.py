"""Each setting at a non-default value: either a one-line error before anything is written, or correct numbers.

Numbers are correct if the perplexities can be recomputed from the final weights by the readable loop in float64; if
steps.csv has each step of the optimizer once; and if a run that is interrupted after its first epoch resumes to the
same files. Tables and checkpoints differ from the default run's, unless the setting has no effect on them. All
runs share one process and use the sample text.
"""

import inspect
import math
import re
from collections.abc import Iterator
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
from tests.support.runs import rows, summary, tables_and_weights
from timemachine.config import REPOSITORY, Tokens, windows_of
from timemachine.corpus import find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.run.program import VERSION_BASE

CONF = REPOSITORY / "conf"
pytestmark = pytest.mark.usefixtures("quick_calls")

# Five steps per epoch, two validation batches.
SMALL = ["data.corpus=sample", "data.num_train=310", "data.batch_size=64", "data.num_val=1500", "data.num_steps=8"]
SMALL += ["model.hiddens=6", "model.sigma=0.1", "logger=csv", "trainer=cpu", "trainer.max_epochs=2"]


@dataclass(frozen=True)
class Row:
    """A command line and its result: an error that matches `refused`, or a run with correct numbers."""

    typed: str
    refused: str = ""
    resumes: bool = True  # bit for bit; false without checkpoints, or if the run ends in the first epoch
    has_effect: bool = True  # on the tables and checkpoints


def refused(typed: str) -> Row:
    """Return a command line whose error names its first setting, or its value."""
    name, _, value = typed.split()[0].partition("=")
    return Row(typed, refused=f"{re.escape(name.rpartition('.')[2])}|{re.escape(value)}")


def without_effect(typed: str) -> Row:
    """Return a command line whose run equals the default run. Resuming it is not tested."""
    return Row(typed, resumes=False, has_effect=False)


SETTINGS = [
    *map(Row, [
        "trainer.precision=64-true", "trainer.precision=bf16-true", "trainer.precision=bf16-mixed",
        "trainer.max_epochs=3 trainer.min_epochs=2 trainer.max_time={minutes:10}",
        "trainer.max_epochs=-1 trainer.max_steps=9 trainer.min_steps=3 trainer.max_time=00:00:10:00",
        "trainer.limit_train_batches=0.4 trainer.limit_val_batches=1 trainer.limit_test_batches=1",
        "trainer.limit_val_batches=0 trainer.limit_test_batches=0", "trainer.overfit_batches=2",
        "trainer.val_check_interval=2", "trainer.check_val_every_n_epoch=5",
        "trainer.check_val_every_n_epoch=null trainer.val_check_interval=3",
        "trainer.accumulate_grad_batches=3", "trainer.gradient_clip_val=0.01",
        "trainer.gradient_clip_algorithm=value trainer.gradient_clip_val=0.001", "model.backward=bptt",
        "model.hiddens=9 model.sigma=0.3 model.sigma_hh=0.2 model.lr=0.5 model.activation=relu",
        "model.input=embedding model.embedding_dim=3 model.embedding_sigma=0.1 model.input_lr_factor=4",
        "model.tie_weights=true model.input=embedding model.embedding_dim=6 model.embedding_sigma=0.3",
        "model.cell=gru model.sigma_xh=0.5", "model.cell=lstm model.forget_bias=1 model.init_hh=orthogonal",
        "model.cell=deep_rnn model.layers=3",
        "model=regularized model.optimizer=adamw model.lr=0.01 model.schedule=cosine model.warm_up=0.5",
        "model=regularized model.carry_state=true data.batch_size=8",
        "model=regularized model.input_dropout=0.2 model.output_dropout=0.2",
        "data.tokens=characters data.min_count=9", "data.tokens=bpe data.vocab_size=300 data.learn_on=train",
        "data.batch_size=100 data.num_steps=3 data.num_val=100 data.start=1000 seed=7 probes=[stream]",
        f"data.corpus={REPOSITORY}/LICENSE data.num_train=300 data.num_val=300",
        "data.num_train=null data.num_val=null data.batch_size=8192",
    ]),
    Row("trainer.fast_dev_run=true", resumes=False),
    Row("trainer.max_epochs=0", resumes=False),
    Row("trainer.max_steps=3", resumes=False),
    Row("trainer.limit_train_batches=0", resumes=False),
    Row("trainer.enable_checkpointing=false ~callbacks.best_checkpoint ~callbacks.last_checkpoint", resumes=False),
    without_effect(
        "trainer.strategy=single_device trainer.limit_predict_batches=1 trainer.num_sanity_val_steps=2 "
        "trainer.log_every_n_steps=1 trainer.deterministic=true trainer.inference_mode=false "
        "trainer.use_distributed_sampler=false trainer.detect_anomaly=true trainer.sync_batchnorm=true "
        "trainer.reload_dataloaders_every_n_epochs=1 trainer.enable_autolog_hparams=false "
        "trainer.enable_progress_bar=true trainer.enable_model_summary=true trainer.model_registry=x "
        "trainer.profiler=simple data.search_dirs=[nowhere]"
    ),
    without_effect("trainer.benchmark=true"),  # excludes trainer.deterministic
    *map(refused, [
        "trainer.barebones=true", "trainer.enable_checkpointing=false", "trainer.accelerator=gpu",
        "trainer.strategy=nonsense", "trainer.devices=[0]", "trainer.gradient_clip_algorithm=x",
        "model.backward=bptt trainer.precision=bf16-mixed",
        "trainer.max_epochs=null trainer.max_time=00:00:00:01 model=regularized model.warm_up=0.05",
        "model=regularized model.carry_state=true model.backward=fused",
        "probes=[sampling] data.tokens=bpe",
    ]),
]  # fmt: skip


def composed(*typed: str) -> Any:
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        return compose("train", [*typed])


def recipes() -> Iterator[Row]:
    """Yield each recipe with a short text."""
    for file in sorted((CONF / "recipe").glob("*.yaml")):
        cfg = composed(f"recipe={file.stem}")
        rate = 0.01 if cfg.model.get("optimizer") == "adamw" else 0.5
        yield Row(f"recipe={file.stem} model.lr={rate} data.batch_size=8")


CHOICES = [
    *([] if torch.cuda.is_available() else [refused("trainer=gpu")]),
    Row("model=scratch"),
    *map(without_effect, [
        "callbacks=early_stopping callbacks.early_stopping.patience=1 +callbacks.early_stopping.min_delta=99",
        "callbacks=learning_rate_monitor logger=tensorboard trainer.log_every_n_steps=1",
        "callbacks=device_stats_monitor logger=tensorboard",
    ]),
    Row("callbacks=learning_rate_monitor", refused="callbacks|LearningRateMonitor"),
    *recipes(),
]  # fmt: skip
# test_conf.py has trainers and callbacks=none, weights_and_biases wandb. Other tests train with the defaults.
ELSEWHERE = {"callbacks=none", "logger=wandb", "model=rnn", "data=book", "data=full", "callbacks=default"}
ELSEWHERE |= {"data.corpus=sample", "logger=csv", "model=regularized"}  # in SMALL and SETTINGS


def test_each_setting_has_a_row() -> None:
    named = {argument.partition("=")[0] for row in SETTINGS for argument in row.typed.split()}
    cfg = composed("model=regularized")
    elsewhere = {"data.seed", "trainer.num_nodes", "trainer.plugins", "trainer._convert_"}
    for group in ("trainer", "model", "data"):
        assert {f"{group}.{name}" for name in cfg[group]} - named - elsewhere <= {f"{group}._target_"}
    typed = {argument for row in CHOICES for argument in row.typed.split()}
    for group in ("model", "data", "callbacks", "logger", "recipe"):
        assert {f"{group}={file.stem}" for file in (CONF / group).glob("*.yaml")} - ELSEWHERE <= typed


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
ROUNDING = {"64-true": 2**-53, "bf16-true": 2**-8, "bf16-mixed": 2**-8}


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


def check_numbers(folder: Path, optimizer_steps: int) -> None:
    """Check the perplexities against the final weights, and the steps against the optimizer."""
    found = summary(folder)
    metrics, settings = found["metrics"], found["settings"]
    epochs, steps = rows(folder / "metrics.csv"), rows(folder / "steps.csv")
    if settings["trainer"]["fast_dev_run"]:
        assert not metrics
        return
    if optimizer_steps == 0 and settings["trainer"]["limit_test_batches"] == 0:
        assert not (epochs or steps)
        return
    assert [row["step"] for row in steps] == [*range(1, optimizer_steps + 1)]
    assert metrics["step"] == optimizer_steps
    ends = {row["epoch"]: row["step"] for row in epochs}
    assert all(row["step"] == ends[row["epoch"]] for row in epochs if "train/perplexity" in row)
    tolerance = min(1e3 * ROUNDING.get(str(settings["trainer"]["precision"]), 2**-24), 0.05)
    for split in ("val", "test"):
        measured = [row for row in epochs if f"{split}/perplexity" in row]
        if measured:
            assert measured[-1]["step"] == optimizer_steps, "the last step was not validated"
            expected = exact_perplexity(folder, split)
            assert metrics[f"{split}/perplexity"] == pytest.approx(expected, rel=tolerance), split
        # The final metrics are from the last epoch. A letter is a byte.
        if f"{split}/perplexity" in metrics and settings["data"]["tokens"] == "letters":
            bits = math.log2(metrics[f"{split}/perplexity"])
            assert metrics[f"{split}/bits_per_byte"] == pytest.approx(bits, rel=1e-9, abs=1e-9), split


def check_resumes(typed: str, whole: Path) -> None:
    """Check that a run that is interrupted after its first epoch resumes to the same files."""
    folder = whole.parent / "cut"
    with with_callback(InterruptAfterFirstEpoch()):
        assert run(folder, typed).returncode == 130
    again = run(folder, typed)
    assert again.returncode == 0, again.stderr
    assert tables_and_weights(folder) == tables_and_weights(whole)


RESUMED_IN_MAKE_TEST = {
    "trainer.accumulate_grad_batches=3",
    "model=regularized model.optimizer=adamw model.lr=0.01 model.schedule=cosine model.warm_up=0.5",
    "model=regularized model.carry_state=true data.batch_size=8",
}


def cases() -> Iterator[Any]:
    """Yield each row, with and without resuming."""
    for row in SETTINGS + CHOICES:
        if row.typed in RESUMED_IN_MAKE_TEST:
            yield pytest.param(row, True, id=f"{row.typed}, resumed")
            continue
        is_resumed_later = row.resumes and not row.refused
        if not (is_resumed_later and row.typed.startswith("recipe=")):  # whose settings are in other rows, too
            yield pytest.param(row, False, id=row.typed)
        if is_resumed_later:
            yield pytest.param(row, True, id=f"{row.typed}, resumed", marks=pytest.mark.slow)


@pytest.mark.parametrize(("row", "is_resumed"), [*cases()])
def test_a_setting(row: Row, is_resumed: bool, tmp_path: Path, num_optimizer_steps: list[int], plain_run: Path) -> None:
    folder = tmp_path / "run"
    num_optimizer_steps[0] = 0  # excludes the steps of `plain_run`
    done = run(folder, row.typed)
    if row.refused:
        assert done.returncode == 1 and re.search(row.refused, done.stderr), done.stderr
        assert not (folder / "metrics.csv").exists()
        return
    assert done.returncode == 0, done.stderr
    check_numbers(folder, num_optimizer_steps[0])
    if (folder / "steps.csv").exists():
        assert (tables_and_weights(folder) != tables_and_weights(plain_run)) == row.has_effect
    if is_resumed:
        check_resumes(row.typed, folder)


def test_resuming_a_finished_run(tmp_path: Path) -> None:
    """The run is tested again and gives the same numbers."""
    assert run(tmp_path / "run", "trainer.max_steps=8").returncode == 0
    left, before = tables_and_weights(tmp_path / "run"), summary(tmp_path / "run")
    assert_succeeded(run(tmp_path / "run", "trainer.max_steps=8"))
    after = summary(tmp_path / "run")
    assert tables_and_weights(tmp_path / "run") == left
    assert (after["metrics"], after["kernel"]) == (before["metrics"], before["kernel"])
