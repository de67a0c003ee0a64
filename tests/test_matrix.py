"""Every setting with a value that is not its default: either one line and nothing written, or right numbers.

Right is: the perplexities are those of the final weights, computed anew by the readable loop in float64; steps.csv has
each step of the optimiser once; a run that is interrupted after its first epoch goes on to the same files; and what the
setting promises can be seen. All in one process, on the sample text.
"""

import csv
import itertools
import math
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch.callbacks import Callback
from torch.optim.optimizer import register_optimizer_step_post_hook

from tests.support.programs import Done, call_program
from timemachine.cli.schema import CONF, VERSION
from timemachine.config import REPOSITORY, Data, Model, Trainer, Training
from timemachine.corpus import find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.runs.checkpoints import read_safetensors
from timemachine.runs.rows import read_numbers
from timemachine.runs.summaries import read_summary
from timemachine.training import trainer as training_trainer

# Five steps an epoch, two batches of validation.
SMALL = ["data=sample", "data.num_train=310", "data.batch_size=64", "data.num_val=1500", "data.num_steps=8"]
SMALL += ["model.hiddens=6", "model.sigma=0.1", "logger=csv", "trainer.accelerator=cpu", "trainer.max_epochs=2"]
STEPS, EPOCHS = 5, 2

Seen = Callable[[Path, Done], bool]


@dataclass(frozen=True)
class Row:
    """What is typed, and what comes of it: a line (`refused`, a regular expression), or a run that shows something."""

    typed: str
    seen: Seen | None = None
    refused: str = ""
    resumes: bool = True  # bit for bit; not what time ends, nor what keeps no checkpoint


def number_of_steps(number: int) -> Seen:
    return lambda folder, done: len(read_numbers(folder / "steps.csv")) == number


def rows(*epochs_and_steps: tuple[int, int]) -> Seen:
    return lambda folder, done: (
        [(row["epoch"], row["step"]) for row in read_numbers(folder / "metrics.csv")] == [*epochs_and_steps]
    )


def prints(text: str) -> Seen:
    return lambda folder, done: text in " ".join(done.stdout.split())


def leaves_file(name: str) -> Seen:
    return lambda folder, done: (folder / name).stat().st_size > 0


def has_kernel(name: str) -> Seen:
    return lambda folder, done: read_summary(folder)["kernel"].startswith(name)


def weights_are(dtype: torch.dtype) -> Seen:
    return lambda folder, done: (
        torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]["W_hq"].dtype == dtype
    )


def without_numbers(why: str) -> Seen:
    """Says why it has none, and draws nothing."""
    return lambda folder, done: why in done.stdout and not (folder / "perplexity.png").exists()


TRAINER = {
    "accelerator": [Row("trainer.accelerator=gpu", refused="this machine has none"), Row("trainer.accelerator=cpu")],
    "strategy": [Row("trainer.strategy=single_device"), Row("trainer.strategy=nonsense", refused="trainer.strategy")],
    "devices": [Row("trainer.devices=[0]", refused="trainer.devices")],
    "num_nodes": [Row("trainer.num_nodes=2", refused="waits for a process on each machine")],
    "precision": [
        Row("trainer.precision=64-true", has_kernel("fused")),
        Row("trainer.precision=bf16-true", weights_are(torch.bfloat16)),
        Row("trainer.precision=16-true", weights_are(torch.float16)),
        Row("trainer.precision=bf16-mixed", has_kernel("autograd")),
        Row("trainer.precision=bf16-mixed model.backward=fused", refused="model.backward=fused: .*=autograd"),
        Row("trainer.precision=16-mixed", refused="trainer.precision=16-mixed: .*bf16-mixed"),
    ],
    "fast_dev_run": [Row("trainer.fast_dev_run=true", without_numbers("fast_dev_run=true"), resumes=False)],
    "max_epochs": [
        Row("trainer.max_epochs=3", number_of_steps(3 * STEPS)),
        Row("trainer.max_epochs=0", without_numbers("max_epochs=0"), resumes=False),
        Row("trainer.max_epochs=-1 trainer.max_steps=10", number_of_steps(10)),
    ],
    "min_epochs": [
        Row("trainer.min_epochs=2"),
        Row("trainer.min_epochs=3", refused="trainer.min_epochs=3: is more than"),
    ],
    "max_steps": [
        Row("trainer.max_steps=10", number_of_steps(10)),
        Row("trainer.max_steps=3", prints("the last epoch has no val/perplexity"), resumes=False),
    ],
    "min_steps": [Row("trainer.min_steps=3")],
    "max_time": [
        Row("trainer.max_time=00:00:10:00"),
        Row(
            "trainer.max_epochs=null trainer.max_time=00:00:00:01 training.warm_up=0.05",
            refused="trainer.max_epochs=null: rates over time need a number of steps",
        ),
    ],
    "limit_train_batches": [
        Row("trainer.limit_train_batches=2", number_of_steps(4)),
        Row("trainer.limit_train_batches=0.4", number_of_steps(4)),
        Row("trainer.limit_train_batches=0", without_numbers("limit_train_batches=0"), resumes=False),
    ],
    "limit_val_batches": [
        Row("trainer.limit_val_batches=1"),
        Row("trainer.limit_val_batches=0", prints("limit_val_batches=0")),
    ],
    "limit_test_batches": [Row("trainer.limit_test_batches=1"), Row("trainer.limit_test_batches=0")],
    "limit_predict_batches": [Row("trainer.limit_predict_batches=1")],
    "overfit_batches": [Row("trainer.overfit_batches=2", refused="trainer.overfit_batches=2: .*data.num_train=128")],
    "val_check_interval": [
        Row("trainer.val_check_interval=2", prints("epoch 2, step 9 of 10")),
        Row("trainer.val_check_interval=2 seed=3", rows((1, 2), (1, 4), (1, 5), (2, 7), (2, 9), (2, 10))),
        Row("trainer.val_check_interval=0.4", rows((1, 2), (1, 4), (1, 5), (2, 7), (2, 9), (2, 10))),
        Row("trainer.val_check_interval=0", refused="trainer.val_check_interval=0: must be positive"),
    ],
    "check_val_every_n_epoch": [
        Row("trainer.check_val_every_n_epoch=2"),
        Row(
            "trainer.check_val_every_n_epoch=null trainer.val_check_interval=3",
            rows((1, 3), (1, 5), (2, 6), (2, 9), (2, 10)),
        ),
    ],
    "num_sanity_val_steps": [Row("trainer.num_sanity_val_steps=2", rows((1, 5), (2, 10)))],
    "log_every_n_steps": [Row("trainer.log_every_n_steps=1", number_of_steps(EPOCHS * STEPS))],
    "enable_checkpointing": [
        Row("trainer.enable_checkpointing=false", lambda at, _: not (at / "checkpoints").exists(), resumes=False)
    ],
    "enable_progress_bar": [Row("trainer.enable_progress_bar=true", prints("Epoch"))],
    "enable_model_summary": [Row("trainer.enable_model_summary=true", prints("Modules in eval mode"))],
    "accumulate_grad_batches": [Row("trainer.accumulate_grad_batches=3", number_of_steps(4))],
    "gradient_clip_val": [Row("trainer.gradient_clip_val=0.01", lambda folder, _: clips(folder, 0.01))],
    "gradient_clip_algorithm": [
        Row(
            "trainer.gradient_clip_algorithm=value trainer.gradient_clip_val=0.001", lambda folder, _: clips(folder, 1)
        ),
        Row("trainer.gradient_clip_algorithm=x", refused="trainer.gradient_clip_algorithm=x"),
    ],
    "deterministic": [Row("trainer.deterministic=true")],
    "benchmark": [Row("trainer.benchmark=true")],
    "inference_mode": [Row("trainer.inference_mode=false")],
    "use_distributed_sampler": [Row("trainer.use_distributed_sampler=false")],
    "profiler": [
        Row("trainer.profiler=simple", leaves_file("fit-profile.txt")),
        Row("trainer.profiler=advanced", leaves_file("fit-profile.txt")),
        Row("trainer.profiler=nonsense", refused="trainer.profiler=nonsense"),
    ],
    "detect_anomaly": [Row("trainer.detect_anomaly=true")],
    "barebones": [Row("trainer.barebones=true", without_numbers("barebones=true"), resumes=False)],
    "plugins": [Row("trainer.plugins=nonsense", refused="trainer.plugins=nonsense")],
    "sync_batchnorm": [Row("trainer.sync_batchnorm=true")],
    "reload_dataloaders_every_n_epochs": [
        Row("trainer.reload_dataloaders_every_n_epochs=1"),
        Row(
            "trainer.reload_dataloaders_every_n_epochs=1 training.carry_state=true training.teacher=0.5",
            refused="trainer.reload_dataloaders_every_n_epochs=1: would write the teacher's text anew",
        ),
    ],
    "enable_autolog_hparams": [Row("trainer.enable_autolog_hparams=false")],
    "model_registry": [Row("trainer.model_registry=x")],
}


NO_EFFECT = {
    "limit_predict_batches", "log_every_n_steps", "use_distributed_sampler", "sync_batchnorm",
    "reload_dataloaders_every_n_epochs", "enable_autolog_hparams", "model_registry",
}  # fmt: skip


def clips(folder: Path, most: float) -> bool:
    steps = read_numbers(folder / "steps.csv")
    return all(row["grad_norm_clipped"] <= min(row["grad_norm"], most * (1 + 1e-9)) for row in steps) and any(
        row["grad_norm"] > row["grad_norm_clipped"] for row in steps
    )


MODEL = {
    "hiddens": [Row("model.hiddens=9")],
    "sigma": [Row("model.sigma=0.3")],
    "lr": [Row("model.lr=0.5")],
    "activation": [Row("model.activation=relu")],
    "input": [Row("model.input=embedding")],
    "embedding_dim": [Row("model.input=embedding model.embedding_dim=3")],
    "embedding_sigma": [Row("model.input=embedding model.embedding_sigma=0.1")],
    "input_lr_factor": [Row("model.input_lr_factor=4")],
    "backward": [Row(f"model.backward={name}", has_kernel(name)) for name in ("fused", "bptt", "autograd")],
    "cell": [Row("model.cell=lstm", refused="model.cell=lstm: must be one of rnn")],
}
TRAINING = {
    "optimizer": [Row("training.optimizer=adamw model.lr=0.01")],
    "schedule": [Row("training.schedule=cosine")],
    "warm_up": [Row("training.warm_up=0.5")],
    "carry_state": [Row("training.carry_state=true data.batch_size=8")],
    "input_dropout": [Row("training.input_dropout=0.2")],
    "output_dropout": [Row("training.output_dropout=0.2")],
    "teacher": [
        Row("training.teacher=0.5 training.carry_state=true data.batch_size=8"),
        Row("training.teacher=0.5", refused="training.teacher=0.5: goes with"),
    ],
    "teacher_networks": [Row("training.teacher_networks=1", refused="training.teacher_networks=1: nothing is written")],
}
DATA = {
    "corpus": [Row(f"data.corpus={REPOSITORY}/LICENSE data.num_train=300 data.num_val=300")],
    "search_dirs": [Row("data.search_dirs=[nowhere]")],
    "batch_size": [Row("data.batch_size=100", number_of_steps(8))],
    "num_steps": [Row("data.num_steps=3")],
    "num_train": [Row("data.num_train=128", number_of_steps(4))],
    "num_val": [Row("data.num_val=100"), Row("data.num_train=null data.num_val=null data.batch_size=8192")],
}
OTHERS = {
    "seed": [Row("seed=7")],
    "probes": [Row("probes=[stream]"), Row("probes=[nonsense]", refused="no measurement nonsense")],
}
ALONE = {"trainer": TRAINER, "model": MODEL, "training": TRAINING, "data": DATA, "": OTHERS}
CASES = {row.typed: row for section in ALONE.values() for entries in section.values() for row in entries}


def recipes() -> Iterator[Row]:
    """Each with little to read and to write."""
    for file in sorted((CONF / "recipe").glob("*.yaml")):
        with initialize_config_dir(str(CONF), **VERSION):
            training = compose("train", [f"recipe={file.stem}"]).training
        changes = "training.teacher_networks=0" + (" training.teacher=0.2" if training.teacher else "")
        rate = 0.01 if training.optimizer.name == "adamw" else 0.5
        yield Row(f"recipe={file.stem} {changes} model.lr={rate} data.batch_size=8")


# Not here: exercises, which are sweeps (tests/exercises), and several processes (tests/test_ddp.py).
CHOICES = {
    "trainer": [
        Row("trainer=auto"),
        Row("trainer=cpu"),
        *([] if torch.cuda.is_available() else [Row("trainer=gpu", refused="trainer.accelerator=gpu: .* none")]),
        Row("trainer=ddp_nodes", refused="trainer.num_nodes=2: it waits"),
    ],
    "data": [Row("data=full data.corpus=sample"), Row("data=book data.corpus=sample"), Row("data=sample")],
    "logger": [
        Row("logger=csv"),
        Row("logger=tensorboard", leaves_file("tensorboard")),
        Row("logger=wandb", leaves_file("wandb")),
    ],
    "recipe": [*recipes()],
    "scale": [Row("scale=full")],
}
CASES |= {row.typed: row for entries in CHOICES.values() for row in entries}


def test_each_setting_and_each_choice_has_a_row() -> None:
    for section, schema in (("trainer", Trainer), ("model", Model), ("training", Training), ("data", Data)):
        assert ALONE[section].keys() == {field.name for field in fields(schema)}
    for group, entries in CHOICES.items():
        known = {file.stem for file in (CONF / group).glob("*.yaml")}
        chosen = {row.typed.split()[0].partition("=")[2] for row in entries}
        left = {"ddp", "ddp_cpu", "gpu"} if group == "trainer" else {"smoke"} if group == "scale" else set()
        assert known - left <= chosen <= known


def run(folder: Path, *typed: str, resume: bool = False) -> Done:
    if resume:
        return call_program("train.py", f"resume={folder}")
    names = {argument.lstrip("~").partition("=")[0] for argument in typed}  # no setting twice, none of a choice's own
    own = {"trainer": "trainer.accelerator", "data": "data.", "logger": "logger"}
    hidden = "|".join([*(own[name] for name in own if name in names), "$"])
    small = [a for a in SMALL if a.partition("=")[0] not in names and not re.match(hidden, a)]
    return call_program("train.py", *small, f"hydra.run.dir={folder}", *typed)


class InterruptAfterFirstEpoch(Callback):
    """As Ctrl-C would."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt


def interrupted(folder: Path, *typed: str) -> Done:
    build = training_trainer.build_trainer

    def build_interrupted(*arguments: Any, **named: Any) -> pl.Trainer:
        trainer = build(*arguments, **named)
        vars(trainer)["callbacks"].append(InterruptAfterFirstEpoch())
        return trainer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_trainer, "build_trainer", build_interrupted)
        return run(folder, *typed)


@pytest.fixture
def num_optimizer_steps() -> Iterator[list[int]]:
    """One element, which counts them all."""
    count = [0]

    def add(*_: object) -> None:
        count[0] += 1

    handle = register_optimizer_step_post_hook(add)
    yield count
    handle.remove()


# Relative, of a perplexity: the type's epsilon times the terms of the sums before it, some hundred, and their depth.
ROUNDING = {"64-true": 2**-53, "16-true": 2**-11, "bf16-true": 2**-8, "bf16-mixed": 2**-8}


def tolerance(precision: str | None) -> float:
    return min(1e3 * ROUNDING.get(str(precision), 2**-24), 0.05)


def exact_perplexity(folder: Path, split: str, limit: float | None) -> float:
    """Of a split's windows, or so many batches of them, by the exported weights and the readable loop in float64."""
    weights, about = read_safetensors(folder / "model.safetensors")
    model = RNNLMScratch(**about["hyper_parameters"] | {"backward": "autograd"}).double()
    model.load_state_dict({name: weight.double() for name, weight in weights.items()})
    settings = read_summary(folder)["settings"]["data"]
    corpus = find_corpus(settings.pop("corpus"), settings.pop("search_dirs"))
    data = TimeMachine(**settings, corpus=corpus)
    loader = data.windows(split)
    batches = len(loader) if limit is None else int(limit * len(loader)) if isinstance(limit, float) else limit
    with torch.no_grad():
        nlls = [model.nll(batch).flatten() for batch, _ in zip(loader, range(batches), strict=False)]
    return torch.cat(nlls).mean().exp().item() if nlls else math.nan


def check_numbers(folder: Path, optimizer_steps: int) -> None:
    """The perplexities are those of the final weights, the steps those of the optimiser, each once."""
    summary = read_summary(folder)
    metrics, trainer = summary["metrics"], summary["settings"]["trainer"]
    epochs, steps = read_numbers(folder / "metrics.csv"), read_numbers(folder / "steps.csv")
    if trainer["barebones"] or trainer["fast_dev_run"]:
        assert not (metrics or epochs or steps)
        return
    assert [row["step"] for row in steps] == [*range(1, optimizer_steps + 1)]
    relative = tolerance(trainer["precision"])
    assert metrics["step"] == optimizer_steps
    for name in ("val", "test"):
        rows = [row for row in epochs if not math.isnan(row[f"{name}/perplexity"])]
        if rows and rows[-1]["step"] == optimizer_steps:
            expected = exact_perplexity(folder, name, trainer[f"limit_{name}_batches"])
            assert metrics[f"{name}/perplexity"] == pytest.approx(expected, rel=relative), name
    training = summary["settings"]["training"]
    if (
        optimizer_steps
        and trainer["accumulate_grad_batches"] == 1
        and training["output_dropout"] == training["teacher"] == 0
    ):
        last = [row["loss"] for row in steps if row["epoch"] == metrics["epoch"]]
        share = summary["settings"]["data"]["num_train"] or 0  # the last batch of an epoch may be smaller
        size = summary["settings"]["data"]["batch_size"]
        weights = [min(size, share - size * number) if share else 1 for number in range(len(last))]
        if min(weights) > 0 and (share or training["carry_state"]):
            mean = sum(w * loss for w, loss in zip(weights, last, strict=True)) / sum(weights)
            assert metrics["train/perplexity"] == pytest.approx(math.exp(mean), rel=relative)


def what_is_left(folder: Path) -> dict[str, Any]:
    """Tables, but for the times in them, and weights."""
    with (folder / "metrics.csv").open(newline="") as file:
        epochs = [{k: v for k, v in row.items() if k != "chars_per_second"} for row in csv.DictReader(file)]
    state = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    return {
        "metrics": epochs,
        "steps": (folder / "steps.csv").read_text(),
        "weights": {name: weight.tolist() for name, weight in state.items()},
    }


def check(row: Row, folder: Path, steps: list[int]) -> bool:
    """Check a row but for resuming; return whether it was a run, and not refused."""
    done = run(folder, *row.typed.split())
    if row.refused or (done.returncode and row.seen is None):
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ") and re.search(row.refused, line)
        assert not folder.exists()
        return False
    assert done.returncode == 0, done.stderr
    check_numbers(folder, steps[0])
    assert row.seen is None or row.seen(folder, done)
    return True


def check_resumes(row: Row, folder: Path, whole: Path) -> None:
    """Interrupt a run after its first epoch and resume it: it ends as the whole one."""
    assert interrupted(folder, *row.typed.split()).returncode == 130
    again = run(folder, resume=True)
    assert again.returncode == 0, again.stderr
    assert what_is_left(folder) == what_is_left(whole)


def test_what_a_resumed_run_changes_is_written_down_with_its_epoch(tmp_path: Path) -> None:
    assert run(tmp_path / "run", "trainer.max_epochs=1").returncode == 0
    for epochs, rate in ((2, 0.5), (2, 0.5), (3, 0.25)):
        typed = [f"resume={tmp_path / 'run'}", f"trainer.max_epochs={epochs}", f"model.lr={rate}"]
        assert call_program("train.py", *typed).returncode == 0
    summary = read_summary(tmp_path / "run")
    assert [change["from_epoch"] for change in summary["changes"]] == [2, 3]
    assert [change["settings"]["model.lr"] for change in summary["changes"]] == [
        {"before": 1.0, "now": 0.5},
        {"before": 0.5, "now": 0.25},
    ]
    assert [row["lr"] for row in read_numbers(tmp_path / "run" / "metrics.csv")] == [1.0, 0.5, 0.25]


@pytest.mark.parametrize("typed", ["trainer.max_steps=10 trainer.max_epochs=5", "trainer.max_steps=8", "seed=1"])
def test_a_run_with_nothing_left_to_do_is_tested_to_the_same_numbers(typed: str, tmp_path: Path) -> None:
    assert run(tmp_path / "run", *typed.split()).returncode == 0
    files = [tmp_path / "run" / name for name in ("metrics.csv", "steps.csv")]
    before, metrics = [file.read_text() for file in files], read_summary(tmp_path / "run")["metrics"]
    done = run(tmp_path / "run", resume=True)
    assert done.returncode == 0, done.stderr
    assert [file.read_text() for file in files] == before
    assert read_summary(tmp_path / "run")["metrics"] == metrics


NOT_RESUMED = {
    "training.schedule=cosine trainer.max_epochs=3": "training.schedule=cosine: the run began with",
    "training.warm_up=0.1 trainer.max_epochs=3": "training.warm_up=0.1: the run began with",
    "model.input_lr_factor=2 trainer.max_epochs=3": "model.input_lr_factor=2.0: the run began with",
    "trainer.barebones=true trainer.max_epochs=3": "trainer.barebones=true: keeps no checkpoint",
    "trainer.fast_dev_run=true": "trainer.fast_dev_run=true: keeps no checkpoint",
    "trainer.max_steps=7": "trainer.max_steps=7: the run has 10 steps already; type trainer.max_steps=10 or more",
    "trainer.max_epochs=1": "trainer.max_epochs=1: the run has 2 epochs already",
}


@pytest.mark.parametrize("typed", NOT_RESUMED)
def test_what_a_run_cannot_be_resumed_with_is_one_line_and_changes_nothing(
    typed: str, plain_run: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(plain_run, tmp_path / "run")
    names = ("metrics.csv", "steps.csv", "summary.json", ".hydra/overrides.yaml", "checkpoints/last.ckpt")
    before = [(folder / name).read_bytes() for name in names]
    done = call_program("train.py", f"resume={folder}", *typed.split())
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith(f"error: {NOT_RESUMED[typed]}")
    assert [(folder / name).read_bytes() for name in names] == before


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "run"
    assert run(folder).returncode == 0
    return folder


@pytest.mark.parametrize("name", sorted(NO_EFFECT))
def test_what_is_said_to_have_no_effect_has_none(name: str, plain_run: Path, tmp_path: Path) -> None:
    assert run(tmp_path / "run", TRAINER[name][0].typed).returncode == 0
    assert what_is_left(tmp_path / "run") == what_is_left(plain_run)


def test_what_has_no_effect_is_listed() -> None:
    listed = (CONF / "README.md").read_text().partition("without any effect here, are")[2].partition(".\n")[0]
    assert set(re.findall(r"`trainer\.(\w+)`", listed)) == NO_EFFECT


@pytest.mark.parametrize("typed", CASES, ids=str)
def test_a_setting_alone(typed: str, tmp_path: Path, num_optimizer_steps: list[int]) -> None:
    assert check(CASES[typed], tmp_path / "run", num_optimizer_steps) is not bool(CASES[typed].refused)


SOON = ("64-true", "interval=2", "accumulate", "adamw", "carry_state=true data.batch_size=8", "max_steps=10")


def resumed_cases() -> Iterator[Any]:
    """Most take their time: .ci/run tries them."""
    for typed, row in CASES.items():
        if row.resumes and not row.refused:
            is_soon = any(part in typed for part in SOON) and "recipe" not in typed
            yield pytest.param(row, id=typed, marks=[] if is_soon else pytest.mark.slow)


@pytest.mark.parametrize("row", [*resumed_cases()])
def test_a_run_with_a_setting_is_resumed_bit_for_bit(row: Row, tmp_path: Path) -> None:
    assert run(tmp_path / "whole", *row.typed.split()).returncode == 0
    check_resumes(row, tmp_path / "cut", tmp_path / "whole")


ACCEPTED = [
    (name, row) for section in ALONE.values() for name, entries in section.items() for row in entries if not row.refused
]
PAIRS = random.Random(0).sample([*itertools.combinations(ACCEPTED, 2)], int(os.environ.get("PAIRS", 24)))


@pytest.mark.slow
@pytest.mark.parametrize(("one", "other"), [(a[1], b[1]) for a, b in PAIRS if a[0] != b[0]], ids=lambda row: row.typed)
def test_a_pair_of_settings(one: Row, other: Row, tmp_path: Path, num_optimizer_steps: list[int]) -> None:
    both = Row(f"{one.typed} {other.typed}")
    if check(both, tmp_path / "whole", num_optimizer_steps) and one.resumes and other.resumes:
        check_resumes(both, tmp_path / "cut", tmp_path / "whole")
