"""The three programs: their output, their files, and their exit status."""

import json
import math
import re
import shlex
import shutil
import signal
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from omegaconf import OmegaConf

from tests.support.programs import Done, Program, assert_succeeded, call_program, run_program, with_callback
from tests.support.runs import rows, table
from timemachine.config import REPOSITORY
from timemachine.page.epochs import page_of
from timemachine.run.program import EXTRAS
from timemachine.run.run import load_run
from timemachine.run.summary import read_summary
from timemachine.run.weights import load_model

BRIEF = ("data.corpus=sample", "trainer.max_epochs=2")  # with the default logger, which takes seconds
SHORT = (*BRIEF, "logger=csv")
SETTINGS = ("model.hiddens=8", "seed=1", "data.num_train=9219", "trainer.gradient_clip_val=0.15")

# The first step is so large that the loss of the second step is not finite.
EXPLODES = ("model.sigma=0.6", "model.activation=relu", "trainer.gradient_clip_val=0")


class Run:
    """A completed run of train.py: its output and its folder."""

    def __init__(self, cwd: Path) -> None:
        self.done = run_program("train.py", *BRIEF, *SETTINGS, cwd=cwd)
        (self.folder,) = cwd.glob("outputs/*/*")

    def text(self, name: str) -> str:
        return (self.folder / name).read_text()


@pytest.fixture(scope="module")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("run"))


# A run


def test_output(short_run: Run) -> None:
    done, epochs = short_run.done, rows(short_run.folder / "metrics.csv")
    assert_succeeded(done)
    lines = re.findall(r"^epoch +(\d+) .*? ([\d.]+) training, ([\d.]+) validation ", done.stdout, re.MULTILINE)
    names = ("epoch", "train/perplexity", "val/perplexity")
    assert [[float(number) for number in line] for line in lines] == [
        [pytest.approx(row[name], abs=0.051) for name in names] for row in epochs
    ]
    for name in ("train/perplexity", "val/perplexity", "val/bits_per_byte", "test/perplexity"):
        assert re.search(rf"^  {name} +{epochs[-1][name]:.3f} +epoch 2 *$", done.stdout, re.MULTILINE)
    acted = sum(row["grad_norm"] > 0.15 for row in rows(short_run.folder / "steps.csv"))
    assert 0 < acted < 20 and re.search(rf"clipped steps +{acted} of 20", done.stdout)
    assert f'"{short_run.text("sample.txt")[:-1]}"\n' in done.stdout  # without the final line break
    folder = Path(*short_run.folder.parts[-3:])  # outputs/<date>/<time>, relative to the working directory
    assert done.stdout.endswith(f" {folder}\n")


def test_files(short_run: Run) -> None:
    assert {path.name for path in short_run.folder.iterdir()} == {
        ".hydra", ".lock", "checkpoints", "metrics.csv", "model.safetensors", "page.html",
        "perplexity.png", "sample.txt", "steps.csv", "summary.json", "wandb", "wandb.json",
    }  # fmt: skip
    assert {path.name for path in (short_run.folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert set(BRIEF + SETTINGS) == set(re.findall(r"^- (.*)$", short_run.text(".hydra/overrides.yaml"), re.MULTILINE))
    model, vocab = load_model(str(short_run.folder / "model.safetensors"))
    assert short_run.text("sample.txt") == model.predict("it has", 20, vocab) + "\n"
    assert (short_run.folder / "perplexity.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    summary, epochs = read_summary(short_run.folder), rows(short_run.folder / "metrics.csv")
    assert (summary["status"], summary["settings"]["seed"], summary["corpus"]["name"]) == ("completed", 1, "sample")
    assert {name: summary["metrics"][name] for name in epochs[-1]} == epochs[-1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize(("precision", "tolerance"), [("32", 1e-2), ("bf16-mixed", 0.1)])
def test_gpu_against_cpu(precision: str, tolerance: float, program: Program, tmp_path: Path) -> None:
    """The tolerance is relative: a thousand steps amplify the rounding of sums in a different order."""
    found = {}
    for trainer, chosen in (("cpu", "32"), ("gpu", precision)):
        typed = ("data.corpus=sample", "logger=csv", f"trainer.precision={chosen}", f"hydra.run.dir={trainer}")
        assert_succeeded(program("train.py", *typed, f"trainer={trainer}"))
        found[trainer] = read_summary(tmp_path / trainer)["metrics"]["val/perplexity"]
    assert found["gpu"] == pytest.approx(found["cpu"], rel=tolerance)


# The other programs on the same run


def test_generate(short_run: Run, program: Program) -> None:
    run = f"run={short_run.folder}"
    done = program("generate.py", run, "prefix=Time, traveller (it's ${me})!")
    model, vocab = load_model(str(short_run.folder))
    assert_succeeded(done)
    assert done.stdout == model.predict("time traveller it s me ", 20, vocab) + "\n"
    done = call_program("generate.py", run, "prefix=It", "alpha=1", "num_preds=50", "num_samples=3")
    assert_succeeded(done)
    lines = done.stdout.splitlines()
    assert len(set(lines)) == 3 and all(re.fullmatch(r"it[a-z ]{50}", line) for line in lines)
    last = short_run.folder / "checkpoints/last.ckpt"
    assert call_program("generate.py", f"run={last}").stdout == short_run.text("sample.txt")


def test_evaluate(short_run: Run, tmp_path: Path) -> None:
    """A list of texts gives one table."""
    (tmp_path / "letter.txt").write_text("In 1895 a café — and no other! — was open. " * 20)
    done = call_program("evaluate.py", f"run={short_run.folder}", "data.corpus=[sample,letter.txt]")
    assert_succeeded(done)
    row = r"^  (\w*) +(train|val|test|all) +([\d,]+) +([\d.]+) ±[\d.]+ +([\d.]+) ±[\d.]+ +([\d.]+) +([\d.]+) *$"
    parts = re.findall(row, done.stdout, re.MULTILINE)
    assert [row[:2] for row in parts] == [*(("sample", part) for part in ("train", "val", "test")), ("letter", "all")]
    metrics = read_summary(short_run.folder)["metrics"]
    for _, part, _, perplexity, *_ in parts[1:3]:  # windows from a zero state, as in training
        assert float(perplexity) == pytest.approx(metrics[f"{part}/perplexity"], abs=0.005)
    for row in parts:  # a letter is a byte
        assert float(row[5]) == float(row[6]) == pytest.approx(math.log2(float(row[4])), abs=0.002)


def test_the_model_in_other_code(tmp_path: Path) -> None:
    """The lines of docs/runs.md; the export to ONNX needs packages that are not installed here."""
    done = call_program("train.py", *SHORT, "model=scratch", "trainer.max_epochs=1", "hydra.run.dir=run")
    assert_succeeded(done)
    page = (REPOSITORY / "docs/runs.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code if find_spec("onnxscript") else code.partition("# ONNX")[0], names)
    exported = load_model(tmp_path / "run")[0].state_dict()
    for weights in (names["weights"], names["model"].state_dict()):
        assert weights.keys() == exported.keys()
        assert all(torch.equal(weights[name], exported[name]) for name in weights)
    assert names["tokens"] == load_run("run").vocab.idx_to_token


# Sweeps


def test_a_sweep(short_run: Run, tmp_path: Path) -> None:
    """Each job has a folder and a row, and equals a single run with the same settings."""
    jobs = ("trainer.max_epochs=1", "model.hiddens=4,8", "hydra.sweep.dir=sweep")
    assert_succeeded(call_program("train.py", "-m", *SHORT, *SETTINGS, *jobs))
    sweep = tmp_path / "sweep"
    jobs_rows = table(sweep / "summary.csv")
    assert [(row["job"], row["model.hiddens"]) for row in jobs_rows] == [("0", "4"), ("1", "8")]
    for row in jobs_rows:
        metrics = read_summary(sweep / row["job"])["metrics"]
        assert {name: float(row[name]) for name in metrics} == metrics
    assert (sweep / "1/steps.csv").read_text().splitlines() == short_run.text("steps.csv").splitlines()[:11]


# Diverging runs


@pytest.mark.parametrize("typed", [EXPLODES, ["model.lr=8", "trainer.max_epochs=3"]], ids=["not finite", "guessing"])
def test_a_run_that_diverges(typed: Sequence[str], tmp_path: Path) -> None:
    done = call_program("train.py", *SHORT, *typed, "hydra.run.dir=run")
    summary = read_summary(tmp_path / "run")
    assert (done.returncode, summary["status"]) == (1, "diverged")
    assert done.stderr.splitlines().count(f"error: {summary['message']}") == 1 and "Traceback" not in done.stderr
    if typed is EXPLODES:
        assert not math.isfinite(rows(tmp_path / "run/steps.csv")[1]["loss"])  # the step that was not taken has a row
    else:
        assert summary["metrics"]["val/perplexity"] > 28


# A user's own classes


FAILING = """
from pathlib import Path

from lightning.pytorch import Callback


class Failing(Callback):
    def __init__(self, note=""):
        self.note = note

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1 and not Path("failed").exists():
            Path("failed").touch()
            raise ValueError("my mistake")
"""

OWN = """
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch


class Scaled(RNNLMScratch):
    def __init__(self, vocab_size, *, scale=3.0, **network):
        super().__init__(vocab_size, **network)
        self.scale = scale

    def output_layer(self, H_TBH):
        return self.scale * super().output_layer(H_TBH)


class Broken(RNNLMScratch):
    def __init__(self, vocab_size, **network):
        raise ValueError("my mistake")


class Strided(TimeMachine):
    def __init__(self, num_steps=16, **windows):
        super().__init__(num_steps=num_steps, **windows)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a user's module, and return its folder, which is in sys.path."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "own_models.py").write_text(OWN)
    monkeypatch.syspath_prepend(folder)
    return folder


def test_own_model(tmp_path: Path, own: Path) -> None:
    """Training, resuming and the other programs use the class, or say that they need it; never another one."""
    named = "model._target_=own_models.Scaled"
    typed = ("train.py", *BRIEF, named, "+model.scale=2", "model.hiddens=8", "hydra.run.dir=run")
    assert_succeeded(run_program(*typed, cwd=tmp_path, PYTHONPATH=str(own)))
    metrics = read_summary(tmp_path / "run")["metrics"]
    for command in (
        ("train.py", *SHORT, "hydra.run.dir=run", "trainer.max_epochs=3"), ("generate.py", "run=run"),
        ("train.py", *SHORT, "init_from=run", "hydra.run.dir=child"),
        ("evaluate.py", "run=run", "model._target_=own_models.Broken"),
    ):  # fmt: skip
        done = call_program(*command)
        assert done.returncode == 1 and re.search(r"^error: .*own_models\b", done.stderr, re.MULTILINE), done.stderr
    done = call_program("generate.py", "run=run", "model._target_=own_models.Missing")
    assert done.returncode == 1 and "own_models.Missing" in done.stderr
    assert call_program("evaluate.py", "run=run", "model._target_=1").stderr.startswith("error: model._target_=1: ")
    assert read_summary(tmp_path / "run")["metrics"] == metrics
    done = call_program("evaluate.py", "run=run", named)
    assert f" {metrics['val/perplexity']:.2f} ±" in done.stdout, done.stderr
    assert_succeeded(call_program(*typed, "logger=csv", "trainer.max_epochs=3"))
    assert read_summary(tmp_path / "run")["metrics"]["epoch"] == 3


def test_arguments_that_are_left_to_the_class(tmp_path: Path, own: Path) -> None:
    """A short YAML file of a user's, and settings that are removed on the command line."""
    (tmp_path / "files/data").mkdir(parents=True)
    text = "_target_: own_models.Strided\ncorpus: sample\nbatch_size: 100\nnum_train: 300\nnum_val: 200\n"
    (tmp_path / "files/data/strided.yaml").write_text(text)
    typed = ["--config-dir=files", "data=strided", "logger=csv", "hydra.run.dir=run"]
    removed = ["~tags", "~trainer.max_epochs", "~trainer.gradient_clip_val", "~trainer.devices", "trainer.max_steps=6"]
    assert_succeeded(call_program("train.py", *typed, "trainer.accelerator=cpu", *removed))
    assert_succeeded(call_program("evaluate.py", "run=run"))
    assert page_of(Path("run")).read_bytes() == Path("run/page.html").read_bytes()
    run = load_run("run")
    assert run.settings["data"]["num_steps"] == run.data.num_steps == 16
    assert run.data.splits["train"].starts == range(300)


# Mistakes


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        # a value out of range
        ("seed=x", "seed=x"), ("tags=wide", "wide"), ("model.hiddens=-3", "-3"), ("model.cell={a:1}", "model.cell"),
        ("trainer.accumulate_grad_batches=0", "batches=0"), ("callbacks.progress.every_n_epochs=-3", "-3"),
        ("callbacks=early_stopping +callbacks.early_stopping.min_delta=-inf", "min_delta=-inf"),
        ("init_from=''", "init_from"), ("optimized_metric=epoch", "optimized_metric=epoch"),
        # a name that nothing is found for
        ("data.corpus=nowhere.txt", "nowhere"), ("init_from=nowhere", "nowhere"),
        # a value that cannot be resolved
        ("model.hiddens=${nothing}", "nothing"), ("model.hiddens='???'", "model.hiddens"),
        ("model.hiddens=${divide:1,0}", "model.hiddens"), ("+name=${nothing}", "nothing"),
        ("hydra.run.dir=", "hydra.run.dir"),
        # a device or a package that is missing: Lightning's message
        ("trainer=gpu trainer.devices=99", "gpu"), ("trainer.strategy=deepspeed", "DeepSpeed"),
        # a value that nothing would read
        ("+hidens=64", "hidens=64"), ("+model.vocab_size=5", "model.vocab_size=5"),
        ("+trainer.callbacks=x", "trainer.callbacks"), ("model.embedding_dim=8", "embedding_dim=8"),
        ("model=scratch model.backward=fused", "backward=fused"), ("hydra.job.chdir=true", "hydra.job.chdir=true"),
        ("data._target_=types.SimpleNamespace", "data._target_"),
        # a sweep whose report could not be written, or that is no sweep
        ("-m exercise=clipping model.hiddens=4,8", "clipping"), ("-m exercise=clipping recipe=novel", "recipe=novel"),
        ("-m exercise=clipping,relu", "exercise"), ("-m exercise=cells model=rnn", "model=regularized"),
        ("-m exercise=clipping callbacks=default", "callbacks.early_stopping"),
        ("exercise=clipping", "train.py -m .*exercise=clipping"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_one_line(typed: str, says: str, tmp_path: Path) -> None:
    words = typed.split()
    flags = ["-m"] if words[0] == "-m" else []
    words = ["data.corpus=sample", "logger=csv", "hydra.run.dir=run", *words[len(flags) :]]
    done = call_program("train.py", *flags, *words)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert re.search(says, done.stderr), done.stderr


@pytest.mark.parametrize("typed", EXTRAS)
def test_a_missing_extra_is_named(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timemachine.run.program.find_spec", lambda _: None)
    done = call_program("train.py", typed)
    assert done.returncode == 1 and done.stderr.startswith(f"error: {typed}: ") and EXTRAS[typed][1] in done.stderr


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("recipe=novel", "data.num_"), ("model=scratch", "model._target_"), ("seed=2", "seed=2"),
        ("seed=2 model.lr=2 data.num_steps=9", "seed=2 model.lr=2 data.num_steps=9 .*: .* seed=1 model.lr=1"),
        ("init_from=other", "init_from"), ("trainer.val_check_interval=1000", "val_check_interval"),
        ("optimized_metric=val/bits_per_byte", "optimized_metric"),
    ],
)  # fmt: skip
def test_a_rejected_resume_changes_nothing(typed: str, says: str, short_run: Run, tmp_path: Path) -> None:
    folder = shutil.copytree(short_run.folder, tmp_path / "run")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    again = (*SHORT, *SETTINGS, "hydra.run.dir=run", "trainer.max_epochs=4", *typed.split())
    done = call_program("train.py", *again)
    assert done.returncode == 1, done.stderr
    said = re.search(f"^(error|ValueError): .*{says}", done.stderr, re.MULTILINE)  # the second is Lightning's
    assert said, done.stderr
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_an_unfinished_run_prints_how_to_resume(tmp_path: Path, own: Path) -> None:
    """The printed command continues it: here one whose callback failed, with words that need quotes."""
    (own / "failing.py").write_text(FAILING)
    named = "+callbacks.failing={_target_:failing.Failing,note:'a, b'}"
    done = call_program("train.py", *SHORT, named, "hydra.run.dir='the run, (1)'", "model.hiddens=8")
    assert done.returncode == 1 and "my mistake" in done.stderr
    assert_succeeded(call_program(*resume_command(done)))
    assert [row["epoch"] for row in rows(tmp_path / "the run, (1)/metrics.csv")] == [1, 2]


def resume_command(done: Done) -> list[str]:
    """Return the program and the arguments that an unfinished run has printed."""
    printed = re.search(r"^resume with +python (.*)$", done.stdout, re.MULTILINE)
    assert printed, done.stdout
    return shlex.split(printed[1])


def test_tuned_values_are_kept(tmp_path: Path, own: Path) -> None:
    """What Lightning's tuners find is recorded, and a run that continues keeps it instead of searching again."""
    (own / "failing.py").write_text(FAILING)
    rate = {"_target_": "lightning.pytorch.callbacks.LearningRateFinder", "min_lr": 0.001, "max_lr": 0.01}
    size = {"_target_": "lightning.pytorch.callbacks.BatchSizeFinder", "init_val": 64, "max_trials": 2}
    typed = [f"+callbacks.rate.{name}={value}" for name, value in (rate | {"num_training_steps": 20}).items()]
    typed += [f"+callbacks.size.{name}={value}" for name, value in (size | {"steps_per_trial": 1}).items()]
    typed += ["+callbacks.failing._target_=failing.Failing", "model.hiddens=4", "hydra.run.dir=run"]
    done = call_program("train.py", *SHORT, *typed)
    settings = read_summary(tmp_path / "run")["settings"]
    assert "my mistake" in done.stderr and settings["data"]["batch_size"] != 256
    assert_succeeded(call_program(*resume_command(done)))
    both = rows(tmp_path / "run/metrics.csv")
    assert [row["lr"] for row in both] == [settings["model"]["lr"]] * 2 and 0.001 <= both[0]["lr"] <= 0.01
    assert read_summary(tmp_path / "run")["settings"] == settings


def test_slurm_does_not_replace_the_last_checkpoint(
    short_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a job of Slurm, Lightning saves hpc_ckpt_1.ckpt at a signal, and tests the model with its weights."""
    for name, value in {"NTASKS": 1, "JOB_ID": 7, "JOB_NAME": "job", "PROCID": 0, "LOCALID": 0, "NODEID": 0}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    folder, handlers = shutil.copytree(short_run.folder, tmp_path / "run"), []

    class Watch(pl.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            handlers.append(signal.getsignal(signal.SIGUSR1))

    typed = ("train.py", *SHORT, *SETTINGS, "hydra.run.dir=run", "trainer.max_epochs=4")
    with with_callback(Watch()):
        assert_succeeded(call_program(*typed))
    assert {*handlers} == {signal.SIG_DFL}
    shutil.copy(folder / "checkpoints/best.ckpt", folder / "hpc_ckpt_1.ckpt")
    done = call_program(*typed)
    assert done.returncode == 1 and done.stderr.startswith("error: run/hpc_ckpt_1.ckpt: ")


def test_a_mistake_in_code_is_a_traceback(own: Path) -> None:
    (own / "wrong.py").write_text("import nothing_of_this_name\n")
    for target, said in (("own_models.Broken", "my mistake"), ("wrong.Model", "nothing_of_this_name")):
        done = call_program("train.py", *SHORT, f"model._target_={target}")
        assert done.returncode == 1 and said in done.stderr and "Traceback" in done.stderr


def test_nothing_in_a_folder_is_imported(tmp_path: Path, own: Path) -> None:
    """Neither the settings in summary.json nor the files in .hydra/ are built or composed: only what is typed."""
    typed = ("train.py", *SHORT, "hydra.run.dir=run", "model.hiddens=8")
    assert_succeeded(call_program(*typed, "trainer.max_epochs=1"))
    (own / "evil.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n")
    path, evil = tmp_path / "run/summary.json", {"_target_": "evil.Evil"}
    content = json.loads(path.read_text())
    content["settings"] |= {"callbacks": {"evil": evil}, "logger": {"evil": evil}}
    content["settings"]["trainer"] |= {"plugins": [evil], "profiler": evil}
    content["overrides"] += ["+callbacks.evil._target_=evil.Evil"]
    path.write_text(json.dumps(content))
    for name in ("config", "overrides", "hydra"):
        (path.parent / ".hydra" / f"{name}.yaml").write_text("callbacks:\n  evil:\n    _target_: evil.Evil\n")
    assert_succeeded(call_program(*typed))
    settings = content["settings"]
    for other in ({"data": settings["data"] | {"extra": evil}}, {"model": settings["model"] | evil}, {"model": 3}):
        path.write_text(json.dumps(content | {"settings": settings | other}))
        done = call_program(*typed, "trainer.max_epochs=3")
        assert done.returncode == 1 and done.stderr.startswith("error: "), done.stderr
    assert not (tmp_path / "executed").exists()


VICTIMS = ("local://{}", "{}", "run/checkpoints/../../victim", "file://{}", "~/victim", "../victim/notes.ckpt")


@pytest.mark.parametrize("path", VICTIMS)
@pytest.mark.parametrize("guard", ["callbacks=none", "trainer.plugins=null"])
def test_paths_of_a_checkpoint_are_not_followed(
    guard: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning removes the former best checkpoint at any path that the state of a ModelCheckpoint names.

    The folder is somebody else's; the user types settings that leave out callbacks or plugins.
    """
    monkeypatch.setenv("HOME", str(tmp_path))
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "notes.ckpt").touch()
    typed = ["train.py", *SHORT, "hydra.run.dir=run", "model.hiddens=8", guard]
    if guard == "callbacks=none":
        saver = {"monitor": "val/perplexity", "filename": "best", "dirpath": "run/checkpoints", "save_last": "true"}
        saver["_target_"] = "lightning.pytorch.callbacks.ModelCheckpoint"
        typed += [f"+callbacks.mine.{name}={value}" for name, value in saver.items()]
    assert_succeeded(call_program(*typed, "trainer.max_epochs=1"))
    checkpoint = tmp_path / "run/checkpoints/last.ckpt"
    content, named = torch.load(checkpoint, weights_only=True), path.format(victim)
    states = [state for name, state in content["callbacks"].items() if name.startswith("ModelCheckpoint")]
    for state in states:
        state |= dict.fromkeys(("best_model_path", "kth_best_model_path", "last_model_path"), named)
        state |= {"best_k_models": {named: torch.tensor(1e9)}, "best_model_score": torch.tensor(1e9)}
    torch.save(content, checkpoint)
    assert_succeeded(call_program(*typed))
    assert states and (victim / "notes.ckpt").exists()


@pytest.mark.parametrize("link", ["checkpoints", ".hydra", "checkpoints/best.ckpt", "wandb"])
def test_a_link_out_of_a_folder_is_not_followed(link: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/last.ckpt").touch()
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    if (tmp_path / "run" / link).exists():
        (tmp_path / "run" / link).rmdir()
    (tmp_path / "run" / link).symlink_to(tmp_path / "mine")
    done = call_program("train.py", *SHORT, "hydra.run.dir=run")
    assert done.returncode == 1 and done.stderr.startswith(f"error: run/{link}: ") and done.stderr.count("\n") == 1
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("link", ["multirun.yaml", "0"])
def test_a_link_out_of_a_sweep_is_not_followed(link: str, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep/loop").symlink_to("loop")  # leads nowhere
    (tmp_path / "sweep" / link).symlink_to(tmp_path / "mine" / ("notes" if link == "multirun.yaml" else ""))
    done = call_program("train.py", "-m", *SHORT, "hydra.sweep.dir=sweep", "seed=0")
    assert done.returncode == 1 and done.stderr.startswith(f"error: sweep/{link}: ") and done.stderr.count("\n") == 1
    assert not any((tmp_path / "mine").iterdir())


def test_names_that_a_plus_adds_are_rejected() -> None:
    """In programs that pass nothing on, also names of a known group. Names of settings are taken."""
    for name, typed in (("generate.py", "+num_pred=5"), ("evaluate.py", "+data.corpu=x")):
        done = call_program(name, "run=run", typed)
        assert done.returncode == 1 and done.stderr.startswith(f"error: {typed[1:]}: "), done.stderr
    for name, typed in (("generate.py", "~num_preds"), ("generate.py", "num_preds='???'"), ("evaluate.py", "~run")):
        done = call_program(name, "run=run", typed)
        assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    done = call_program("generate.py", "run=nowhere", "+top_k=3")
    assert done.returncode == 1 and done.stderr.startswith("error: run=nowhere: "), done.stderr


def test_a_prefix_is_a_text(short_run: Run) -> None:
    """As it is typed, also for several runs: no list, no choice of a sweep, no interpolation, no missing value."""
    for typed, read in (("{a: 1}", " a "), ("a, b", "a b"), ("null", "null"), ("${oc.env:HOME}", " oc env home ")):
        done = call_program("generate.py", "-m", f"prefix={typed}", f"run={short_run.folder}", "num_preds=1")
        assert_succeeded(done)
        assert re.fullmatch(f"{read}[a-z ]\n", done.stdout), done.stdout
    done = call_program("generate.py", f"run={short_run.folder}", "++prefix=[a]")
    assert done.returncode == 1 and done.stderr.startswith("error: prefix=")


@pytest.mark.parametrize("name", ["evaluate", "generate"])
def test_help_has_the_comments_of_conf(name: str) -> None:
    """And examples, on one screen."""
    shown = call_program(f"{name}.py", "--help").stdout.splitlines()
    text = (REPOSITORY / f"conf/{name}.yaml").read_text(encoding="utf-8").partition("\nhydra:")[0]
    comments = re.findall(r"^ *(\w+): .*# (.*)$", text, re.MULTILINE)
    listed = [re.fullmatch(r"  ([\w.]+) {2,}(.*)", line) for line in shown]
    assert [(found[1].rpartition(".")[2], found[2]) for found in listed if found] == comments and len(comments) > 4
    assert len(shown) <= 24 and max(map(len, shown)) < 100


def test_help_names_files_of_conf() -> None:
    """`--help` lists the groups that a user chooses from."""
    text = OmegaConf.load(REPOSITORY / "conf/train.yaml").hydra["help"].template
    groups = dict(re.findall(r"^  (\w+) +(\w+(?:, \w+)+)$", text, re.MULTILINE))
    assert groups.keys() >= {"model", "data", "trainer", "logger", "callbacks", "recipe"}
    for group, names in groups.items():
        files = {path.stem for path in (REPOSITORY / "conf" / group).glob("*.yaml")}
        assert files - {"default", "none"} == {*names.split(", ")} - {"default", "none"}, group
