"""Every setting with a value that is not its default: either one line and nothing written, or right numbers.

Right is: the perplexities are those of the final weights, computed anew by the readable loop in float64; steps.csv has
each step of the optimiser once; a run that is interrupted after its first epoch goes on to the same files; and what the
setting promises can be seen. All in one process, on the sample text.
"""

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
from safetensors.torch import load_file
from torch.optim.optimizer import register_optimizer_step_post_hook

from tests.proof.tally import SHARD, Note, Tally, command, shards
from tests.support.programs import Done, assert_succeeded, call_program, with_callback
from tests.support.runs import rows, summary, what_is_left
from timemachine import kernels
from timemachine.cli.schema import CONF, VERSION
from timemachine.config import REPOSITORY, Data, Model, Tokens, Trainer, Training
from timemachine.corpus import find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch

pytestmark = pytest.mark.usefixtures("quick_calls")

# Five steps an epoch, two batches of validation.
SMALL = ["data=sample", "data.num_train=310", "data.batch_size=64", "data.num_val=1500", "data.num_steps=8"]
SMALL += ["model.hiddens=6", "model.sigma=0.1", "logger=csv", "trainer=cpu", "trainer.max_epochs=2"]
STEPS, EPOCHS = 5, 2

Seen = Callable[[Path, Done], bool]  # whether the run in this folder, which printed this, shows what was promised


@dataclass(frozen=True)
class Row:
    """What is typed, and what comes of it: a line that matches `refused`, or a run that shows what `seen` looks for."""

    typed: str
    seen: Seen | None = None
    refused: str = ""
    resumes: bool = True  # bit for bit; not what keeps no checkpoint, nor what ends within the first epoch
    has_effect: bool = True  # on what is left in the run's folder

    @property
    def names(self) -> set[str]:
        """The settings and groups that it names."""
        return {argument.partition("=")[0] for argument in self.typed.split()}


def steps(number: int) -> Seen:
    return lambda folder, _: len(rows(folder / "steps.csv")) == number


def rows_at(*epochs_and_steps: tuple[int, int], validated: tuple[int, ...]) -> Seen:
    def seen(folder: Path, _: Done) -> bool:
        found = rows(folder / "metrics.csv")
        with_val = tuple(row["step"] for row in found if "val/perplexity" in row)
        return [(row["epoch"], row["step"]) for row in found] == [*epochs_and_steps] and with_val == validated

    return seen


def prints(text: str) -> Seen:
    return lambda _, done: text in " ".join(done.stdout.split())


def leaves(name: str) -> Seen:
    return lambda folder, _: (folder / name).stat().st_size > 0


def computes_with(kernel: str) -> Seen:
    return lambda folder, _: summary(folder)["kernel"].startswith(kernel)


def weights_are(dtype: torch.dtype) -> Seen:
    return lambda folder, _: load_file(folder / "model.safetensors")["W_hq"].dtype == dtype


def has_no_numbers(folder: Path, done: Done) -> bool:
    return "has no train/perplexity and no val" in done.stdout and not (folder / "perplexity.png").exists()


def clips(most: float) -> Seen:
    def seen(folder: Path, _: Done) -> bool:
        norms = [(row["grad_norm"], row["grad_norm_clipped"]) for row in rows(folder / "steps.csv")]
        holds = all(after <= min(before, most * (1 + 1e-9)) for before, after in norms)
        return holds and any(after < before for before, after in norms)

    return seen


TRAINER = [
    Row("trainer.accelerator=gpu", refused="trainer.accelerator=gpu: "),
    Row("trainer.accelerator=cpu"),
    Row("trainer.strategy=single_device"),
    Row("trainer.strategy=nonsense", refused="trainer.strategy"),
    Row("trainer.devices=[0]", refused="trainer.devices"),
    Row("trainer.num_nodes=2", refused="waits for a process on each machine"),
    Row("trainer.precision=64-true", computes_with("fused" if kernels.is_compiled() else "bptt")),
    Row("trainer.precision=bf16-true", weights_are(torch.bfloat16)),
    Row("trainer.precision=16-true", weights_are(torch.float16)),
    Row("trainer.precision=bf16-mixed", computes_with("autograd")),
    Row("trainer.precision=bf16-mixed model.backward=fused", refused="model.backward=fused: .*=autograd"),
    Row("trainer.precision=16-mixed", refused="trainer.precision=16-mixed: .*bf16-mixed"),
    Row("trainer.fast_dev_run=true", has_no_numbers, resumes=False),
    Row("trainer.max_epochs=3", steps(3 * STEPS)),
    Row("trainer.max_epochs=0", has_no_numbers, resumes=False),
    Row("trainer.max_epochs=-1 trainer.max_steps=10", steps(10)),
    Row("trainer.min_epochs=2"),
    Row("trainer.min_epochs=3", refused="trainer.min_epochs=3: is more than"),
    Row("trainer.max_steps=10", steps(10)),
    Row("trainer.max_steps=3", prints("the last epoch has no val/perplexity"), resumes=False),
    Row("trainer.min_steps=3"),
    Row("trainer.max_time=00:00:10:00"),
    Row(
        "trainer.max_epochs=null trainer.max_time=00:00:00:01 training.warm_up=0.05",
        refused="trainer.max_epochs=null: rates over time need a number of steps",
    ),
    Row("trainer.limit_train_batches=2", steps(4)),
    Row("trainer.limit_train_batches=0.4", steps(4)),
    Row("trainer.limit_train_batches=0", has_no_numbers, resumes=False),
    Row("trainer.limit_val_batches=1"),
    Row("trainer.limit_val_batches=0", prints("the last epoch has no val/perplexity")),
    Row("trainer.limit_test_batches=1"),
    Row("trainer.limit_test_batches=0"),
    Row("trainer.limit_predict_batches=1", has_effect=False),
    Row("trainer.overfit_batches=2", steps(4)),
    Row("trainer.val_check_interval=2", prints("epoch 2, step 9 of 10")),
    Row(
        "trainer.val_check_interval=0.4",
        rows_at((1, 2), (1, 4), (1, 5), (2, 7), (2, 9), (2, 10), validated=(2, 4, 7, 9)),
    ),
    Row("trainer.val_check_interval=0", refused="trainer.val_check_interval=0: must be positive"),
    Row("trainer.check_val_every_n_epoch=2", rows_at((1, 5), (2, 10), validated=(10,))),
    Row(
        "trainer.check_val_every_n_epoch=null trainer.val_check_interval=3",
        rows_at((1, 3), (1, 5), (2, 6), (2, 9), (2, 10), validated=(3, 6, 9)),
    ),
    Row("trainer.num_sanity_val_steps=2", rows_at((1, 5), (2, 10), validated=(5, 10))),
    Row("trainer.log_every_n_steps=1", steps(EPOCHS * STEPS), has_effect=False),
    Row("trainer.enable_checkpointing=false", lambda at, _: not (at / "checkpoints").exists(), resumes=False),
    Row("trainer.enable_progress_bar=true", prints("Epoch")),
    Row("trainer.enable_model_summary=true", prints("Modules in eval mode")),
    Row("trainer.accumulate_grad_batches=3", steps(4)),
    Row("trainer.gradient_clip_val=0.01", clips(0.01)),
    Row("trainer.gradient_clip_algorithm=value trainer.gradient_clip_val=0.001", clips(1)),
    Row("trainer.gradient_clip_algorithm=x", refused="trainer.gradient_clip_algorithm=x"),
    Row("trainer.deterministic=true"),
    Row("trainer.benchmark=true"),
    Row("trainer.inference_mode=false"),
    Row("trainer.use_distributed_sampler=false", has_effect=False),
    Row("trainer.profiler=simple", leaves("fit-profile.txt")),
    Row("trainer.profiler=advanced", leaves("fit-profile.txt")),
    Row("trainer.profiler=nonsense", refused="trainer.profiler=nonsense"),
    Row("trainer.detect_anomaly=true"),
    Row("trainer.barebones=true", has_no_numbers, resumes=False),
    Row("trainer.plugins=nonsense", refused="trainer.plugins=nonsense"),
    Row("trainer.sync_batchnorm=true", has_effect=False),
    Row("trainer.reload_dataloaders_every_n_epochs=1", has_effect=False),
    Row(
        "trainer.reload_dataloaders_every_n_epochs=1 training.carry_state=true training.teacher=0.5",
        refused="trainer.reload_dataloaders_every_n_epochs=1: would write the teacher's text anew",
    ),
    Row("trainer.enable_autolog_hparams=false", has_effect=False),
    Row("trainer.model_registry=x", has_effect=False),
]
OTHERS = [
    Row("model.hiddens=9"),
    Row("model.sigma=0.3"),
    Row("model.sigma_hh=0.3"),
    Row("model.lr=0.5"),
    Row("model.activation=relu"),
    Row("model.input=embedding"),
    Row("model.input=embedding model.embedding_dim=3"),
    Row("model.input=embedding model.embedding_sigma=0.1"),
    Row("model.input_lr_factor=4"),
    Row("model.backward=fused", computes_with("fused"), refused="" if kernels.is_compiled() else "is not compiled"),
    *[Row(f"model.backward={name}", computes_with(name)) for name in ("bptt", "autograd")],
    Row("model.cell=lstm", refused="model.cell=lstm: must be one of rnn"),
    Row("training.optimizer=adamw model.lr=0.01"),
    Row("training.schedule=cosine"),
    Row("training.warm_up=0.5"),
    Row("training.carry_state=true data.batch_size=8"),
    Row("training.input_dropout=0.2"),
    Row("training.output_dropout=0.2"),
    Row("training.teacher=0.5 training.carry_state=true data.batch_size=8"),
    Row("training.teacher=0.5", refused="training.teacher=0.5: goes with"),
    Row("training.teacher_networks=1", refused="training.teacher_networks=1: nothing is written"),
    Row(f"data.corpus={REPOSITORY}/LICENSE data.num_train=300 data.num_val=300"),
    Row("data.search_dirs=[nowhere]"),
    Row("data.tokens=characters", prints("vocabulary of 63")),
    Row("data.tokens=characters data.min_count=9", prints("vocabulary of 48")),
    Row("data.tokens=words", refused="data.tokens=words: .*letters"),
    Row("data.min_count=30", refused="data.min_count=30: the book's letters are all kept"),
    Row("data.min_count=0", refused="data.min_count=0: must be"),
    Row("data.batch_size=100", steps(8)),
    Row("data.num_steps=3"),
    Row("data.num_train=128", steps(4)),
    Row("data.num_val=100"),
    Row("data.start=1000"),
    Row("data.num_train=null data.num_val=null data.batch_size=8192"),
    Row("seed=7"),
    Row("probes=[stream]"),
    Row("probes=[nonsense]", refused="probes=.*nonsense"),
]


def recipes() -> Iterator[Row]:
    """Each with little to read and to write."""
    for file in sorted((CONF / "recipe").glob("*.yaml")):
        with initialize_config_dir(str(CONF), **VERSION):
            training = compose("train", [f"recipe={file.stem}"]).training
        changes = "training.teacher_networks=0" + (" training.teacher=0.2" if training.teacher else "")
        rate = 0.01 if training.optimizer.name == "adamw" else 0.5
        yield Row(f"recipe={file.stem} {changes} model.lr={rate} data.batch_size=8")


CHOICES = [
    Row("trainer=auto"),
    Row("trainer=cpu"),
    *([] if torch.cuda.is_available() else [Row("trainer=gpu", refused="trainer=gpu ")]),
    Row("trainer=ddp_nodes", refused="trainer.num_nodes=2: it waits"),
    Row("data=full data.corpus=sample"),
    Row("data=book data.corpus=sample"),
    Row("data=sample"),
    Row("callbacks=none"),
    Row(
        "callbacks=early_stopping callbacks.early_stopping.patience=1 callbacks.early_stopping.min_delta=99", steps(10)
    ),
    Row("callbacks=learning_rate_monitor logger=tensorboard trainer.log_every_n_steps=1"),
    Row("callbacks=learning_rate_monitor", refused="callbacks|LearningRateMonitor"),
    Row("callbacks=device_stats_monitor logger=tensorboard"),
    Row("logger=csv"),
    Row("logger=tensorboard", leaves("tensorboard")),
    Row("logger=wandb", leaves("wandb")),
    Row("scale=full"),
    *recipes(),
]
# Not here: exercises, which are sweeps (tests/exercises), and several processes (tests/test_ddp.py).
ELSEWHERE = {"trainer=ddp", "trainer=ddp_cpu", "trainer=gpu", "scale=smoke"}


def test_each_setting_and_each_choice_has_a_row() -> None:
    for group, schema in (("trainer", Trainer), ("model", Model), ("training", Training), ("data", Data)):
        named = {name for row in TRAINER + OTHERS for name in row.names}
        assert {f"{group}.{field.name}" for field in fields(schema)} <= named
    for group in ("trainer", "data", "callbacks", "logger", "recipe", "scale"):
        choices = {f"{group}={file.stem}" for file in (CONF / group).glob("*.yaml")}
        assert choices - ELSEWHERE <= {row.typed.split()[0] for row in CHOICES}


def run(folder: Path, typed: str = "") -> Done:
    """Train with `SMALL` settings but for those that are typed."""
    settings = dict(argument.split("=", 1) for argument in [*SMALL, *typed.split()])
    arguments = [f"{name}={value}" for name, value in settings.items()]
    return call_program("train.py", *arguments, f"hydra.run.dir={folder}")


class InterruptAfterFirstEpoch(pl.Callback):
    """As Ctrl-C would."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt


@pytest.fixture
def num_optimizer_steps() -> Iterator[list[int]]:
    """One element, which counts them all."""
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


# Relative, of a perplexity: the type's epsilon times the terms of the sums before it, some hundred, and their depth.
ROUNDING = {"64-true": 2**-53, "16-true": 2**-11, "bf16-true": 2**-8, "bf16-mixed": 2**-8}


def exact_perplexity(folder: Path, split: str) -> float:
    """Of a split's windows, or as many as the Trainer was to take, by the readable loop in float64."""
    settings, weights = summary(folder)["settings"], load_file(folder / "model.safetensors")
    model = RNNLMScratch(vocab_size=len(weights["b_q"]), **settings["model"] | {"backward": "autograd"}).double()
    model.load_state_dict({name: weight.double() for name, weight in weights.items()})
    data = settings["data"]
    corpus = find_corpus(data.pop("corpus"), data.pop("search_dirs"), Tokens[data["tokens"]])
    limit = settings["trainer"][f"limit_{split}_batches"]
    limit = settings["trainer"]["overfit_batches"] or limit if split == "val" else limit
    loader = TimeMachine(**data, corpus=corpus).windows(split, None if limit is None else data["batch_size"])
    batches = len(loader) if limit is None else int(limit * len(loader)) if isinstance(limit, float) else limit
    with torch.no_grad():
        nlls = [model.nll(batch).flatten() for batch, _ in zip(loader, range(batches), strict=False)]
    return torch.cat(nlls).mean().exp().item() if nlls else math.nan


def perplexity_of(losses: list[float], data: dict[str, Any]) -> float:
    """Of the last epoch's losses, each the mean of a batch, of which the last may be smaller."""
    sizes = [data["batch_size"]] * len(losses)
    if data["num_train"]:
        sizes = [min(size, data["num_train"] - size * number) for number, size in enumerate(sizes)]
    return math.exp(sum(size * loss for size, loss in zip(sizes, losses, strict=True)) / sum(sizes))


def check_numbers(folder: Path, optimizer_steps: int) -> None:
    """The perplexities are those of the final weights, the steps those of the optimiser, each once."""
    found = summary(folder)
    metrics, settings = found["metrics"], found["settings"]
    epochs, steps = rows(folder / "metrics.csv"), rows(folder / "steps.csv")
    nothing_to_do = optimizer_steps == 0 and settings["trainer"]["limit_test_batches"] == 0
    if settings["trainer"]["barebones"] or settings["trainer"]["fast_dev_run"] or nothing_to_do:
        assert not (metrics or epochs or steps)
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
    losses = [row["loss"] for row in steps if row["epoch"] == metrics["epoch"]]
    training, data = settings["training"], settings["data"]
    one_batch_a_step = settings["trainer"]["accumulate_grad_batches"] == 1
    as_measured = training["output_dropout"] == training["teacher"] == 0  # not so: other losses teach than are shown
    sizes_are_known = bool(data["num_train"] or training["carry_state"])
    if losses and one_batch_a_step and as_measured and sizes_are_known:
        assert metrics["train/perplexity"] == pytest.approx(perplexity_of(losses, data), rel=tolerance)


def check_refused(done: Done, folder: Path, pattern: str) -> None:
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith("error: ") and re.search(pattern, line)
    assert not folder.exists()


def check_resumes(typed: str, whole: Path) -> None:
    """Interrupt such a run after its first epoch and resume it: it ends as the whole one."""
    folder = whole.parent / "cut"
    with with_callback(InterruptAfterFirstEpoch()):
        assert run(folder, typed).returncode == 130
    again = call_program("train.py", f"resume={folder}")
    assert again.returncode == 0, again.stderr
    assert what_is_left(folder) == what_is_left(whole)


SOON = (
    "64-true",
    "min_count=9",
    "interval=2",
    "accumulate",
    "adamw",
    "carry_state=true data.batch_size=8",
    "max_steps=10",
)


def cases() -> Iterator[Any]:
    """Each row, alone or resumed, too; most that are resumed take their time: .ci/run tries them."""
    for row in TRAINER + OTHERS + CHOICES:
        resumes = row.resumes and not row.refused
        soon = resumes and "recipe" not in row.names and any(part in row.typed for part in SOON)
        if not soon:
            yield pytest.param(row, False, id=row.typed)
        if resumes:
            yield pytest.param(row, True, id=f"{row.typed}, resumed", marks=[] if soon else pytest.mark.slow)


@pytest.mark.parametrize(("row", "is_resumed"), [*cases()])
def test_a_setting(row: Row, is_resumed: bool, tmp_path: Path, num_optimizer_steps: list[int], plain_run: Path) -> None:
    folder = tmp_path / "run"
    num_optimizer_steps[0] = 0  # not those of `plain_run`
    done = run(folder, row.typed)
    if row.refused:
        check_refused(done, folder, row.refused)
        return
    assert done.returncode == 0, done.stderr
    check_numbers(folder, num_optimizer_steps[0])
    assert row.seen is None or row.seen(folder, done)
    if not row.has_effect:
        assert what_is_left(folder) == what_is_left(plain_run)
    if is_resumed:
        check_resumes(row.typed, folder)


ACCEPTED = [row for row in TRAINER + OTHERS if not row.refused]
CASES = int(os.environ.get("CASES", 120)) // 5  # `make torture`: 2,000


def some_settings(random: random.Random) -> list[Row]:
    """Draw two or three rows that name different settings."""
    while True:
        chosen = random.sample(ACCEPTED, random.choice([2, 3]))
        names = [name for row in chosen for name in row.names]
        if len(names) == len(set(names)):
            return chosen


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.parametrize(("seed", "cases"), shards(CASES))
def test_pairs_and_triples_of_settings(
    seed: int, cases: int, tmp_path: Path, num_optimizer_steps: list[int], record_property: Note
) -> None:
    """Each is refused in a line, diverges, or has right numbers, the same if resumed; of a shard every fourth is."""
    draw, tally = random.Random(seed), Tally("pairs and triples of settings")
    for number in range(cases):
        chosen, folder = some_settings(draw), tmp_path / str(number) / "run"
        typed = " ".join(row.typed for row in chosen)
        with tally.case(command("train.py", *SMALL, *typed.split())):
            num_optimizer_steps[0] = 0
            done = run(folder, typed)
            if folder.exists() and summary(folder)["status"] == "diverged":
                continue  # as AdamW in float16, which cannot hold its ε of 1e-8
            if done.returncode:
                check_refused(done, folder, "")
                continue
            check_numbers(folder, num_optimizer_steps[0])
            if (cases < SHARD or number % 4 == 0) and all(row.resumes for row in chosen):
                check_resumes(typed, folder)
        shutil.rmtree(folder.parent, ignore_errors=True)
    tally.end(record_property)


def test_what_a_resumed_run_changes_is_written_down_with_its_epoch(tmp_path: Path) -> None:
    assert run(tmp_path / "run", "trainer.max_epochs=1").returncode == 0
    for epochs, rate in ((2, 0.5), (2, 0.5), (3, 0.25)):
        typed = [f"resume={tmp_path / 'run'}", f"trainer.max_epochs={epochs}", f"model.lr={rate}"]
        assert call_program("train.py", *typed).returncode == 0
    changes = summary(tmp_path / "run")["changes"]
    assert [(change["from_epoch"], change["settings"]["model.lr"]) for change in changes] == [
        (2, {"before": 1.0, "now": 0.5}),
        (3, {"before": 0.5, "now": 0.25}),
    ]
    assert [row["lr"] for row in rows(tmp_path / "run/metrics.csv")] == [1.0, 0.5, 0.25]


@pytest.mark.parametrize("typed", ["trainer.max_steps=10 trainer.max_epochs=5", "trainer.max_steps=8", "seed=1"])
def test_a_run_with_nothing_left_to_do_is_tested_to_the_same_numbers(typed: str, tmp_path: Path) -> None:
    assert run(tmp_path / "run", typed).returncode == 0
    left, metrics = what_is_left(tmp_path / "run"), summary(tmp_path / "run")["metrics"]
    assert_succeeded(call_program("train.py", f"resume={tmp_path / 'run'}"))
    assert (what_is_left(tmp_path / "run"), summary(tmp_path / "run")["metrics"]) == (left, metrics)


@pytest.mark.parametrize(
    ("typed", "refused"),
    [
        ("training.schedule=cosine trainer.max_epochs=3", "training.schedule=cosine"),
        ("training.warm_up=0.1 trainer.max_epochs=3", "training.warm_up=0.1"),
        ("model.input_lr_factor=2 trainer.max_epochs=3", "model.input_lr_factor=2.0"),
        ("trainer.barebones=true trainer.max_epochs=3", "trainer.barebones=true: keeps no checkpoint"),
        ("trainer.fast_dev_run=true", "trainer.fast_dev_run=true: keeps no checkpoint"),
        ("trainer.max_steps=7", "trainer.max_steps=7: "),
    ],
)
def test_what_a_run_cannot_be_resumed_with_is_one_line_and_changes_nothing(
    typed: str, refused: str, plain_run: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(plain_run, tmp_path / "run")
    names = ("metrics.csv", "steps.csv", "summary.json", ".hydra/overrides.yaml", "checkpoints/last.ckpt")
    before = [(folder / name).read_bytes() for name in names]
    done = call_program("train.py", f"resume={folder}", *typed.split())
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith(f"error: {refused}")
    assert [(folder / name).read_bytes() for name in names] == before
