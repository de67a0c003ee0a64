"""User mistakes: each exits with status 1 and one line that names the setting."""

import json
import re
import sys
from pathlib import Path

import pytest

from tests.support.programs import Done, Program, call_program

TRAIN = "train.py data=sample logger=csv "
MISTAKES = [  # command -> text in its error message
    # Names
    (TRAIN + "model.hidens=64", "model.hiddens"),
    (TRAIN + "model={hidens:64}", "model.hiddens"),
    (TRAIN + "model=64", "model.hiddens=64"),
    (TRAIN + "epochs=3", "trainer.max_epochs"),
    (TRAIN + "excercise=clipping", "exercise"),
    (TRAIN + "+nothing=1", "nothing"),
    (TRAIN + "model.hiddens", "model.hiddens"),
    (TRAIN + "--model.hiddens=3", "model.hiddens"),
    (TRAIN + "=3", "=3"),
    (TRAIN + "trainer.callbacks=[a]", "callbacks"),
    (TRAIN + "hydra.job.env_set.FOO=1", "+hydra.job.env_set.FOO=1"),
    ("evaluate.py corpus=sample", "data.corpus"),
    ("generate.py prefx=it", "prefix"),
    ("generate.py", "run"),
    ("evaluate.py", "run"),
    # Choices
    (TRAIN + "trainer=gpux", "trainer=gpu"),
    (TRAIN + "logger=[csv,wand]", "logger=wandb"),
    (TRAIN + "callbacks=rich_progress_bar", "callbacks.NAME._target_"),
    (TRAIN + "exercise=cliping", "exercise=clipping"),
    (TRAIN + "-m hydra/launcher=jobib", "hydra/launcher=joblib"),
    (TRAIN + "--config-name=trian", "trian"),
    (TRAIN + "--config-dir=nowhere", "nowhere"),
    # Values
    (TRAIN + "model.hiddens=abc", "model.hiddens=abc"),
    (TRAIN + "model.hiddens=(1", "model.hiddens=(1"),
    (TRAIN + "model.activation=sigmoid", "model.activation=sigmoid"),
    (TRAIN + "model.lr=???", "model.lr=???"),
    (TRAIN + "model=null", "model=null"),
    (TRAIN + "model=64", "model=64"),
    (TRAIN + "seed=${oc.env:NO_SEED}", "seed=${oc.env:NO_SEED}"),
    (TRAIN + "model.hiddens=${data.numsteps}", "model.hiddens=${data.numsteps}"),
    (TRAIN + "data.num_train=10**9", "data.num_train=10**9"),
    (TRAIN + "data.num_val=null", "data.num_train"),
    (TRAIN + "logger.wandb=false", "logger.wandb"),
    (TRAIN + "recipe=novel data=book", "data=book"),
    (TRAIN + "trainer.strategy=ddp_spawn", "trainer.strategy=ddp_spawn"),
    (TRAIN + "hydra.sweeper.max_batch_size=abc -m", "hydra.sweeper.max_batch_size=abc"),
    # Texts, folders and classes
    (TRAIN + "data.corpus=/nowhere", "data.corpus=/nowhere"),
    (TRAIN + "data.corpus=", "data.corpus="),
    (TRAIN + "resume=", "resume="),
    (TRAIN + "data.corpus=time_machin", "data.corpus=time_machine"),
    (TRAIN + "data.corpus=binary.txt", "data.corpus=binary.txt"),
    (TRAIN + "data.corpus=short.txt", "data.num_train"),
    (TRAIN + "init_from=hollow", "init_from=hollow"),
    (TRAIN + "callbacks.a=1", "callbacks.a"),
    (TRAIN + "callbacks.a._target_=os.system", "callbacks.a._target_"),
    (TRAIN + "+hydra.callbacks.a={_target_:os.system,command:ls}", "cannot be authorized"),  # the full message
    (TRAIN + "hydra.run.dir=binary.txt/run", "hydra.run.dir=binary.txt/run"),
    # Sweeps
    (TRAIN + "-m hydra.sweep.dir=binary.txt/run", "hydra.sweep.dir=binary.txt/run"),
    (TRAIN + "-m model.lr=0.1,1,0", "model.lr=0.0"),
    (TRAIN + "-m trainer=cpu,gpux,auto", "trainer=gpux"),
    (TRAIN + "-m model.lr=interval(0.1,1)", "model.lr=interval(0.1,1)"),
    (TRAIN + "-m exercise=history,clipping", "exercise=history,clipping"),
    (TRAIN + "exercise=9 scale=smoke model.lr=1 model.hiddens=8,16", "model.hiddens=8,16"),
]
OF_A_MODEL = [
    ("generate.py", "prefix=1895!", "prefix="),
    ("generate.py", "num_preds=-1", "num_preds=-1"),
    ("generate.py", "temperature=0", "temperature=0"),
    ("generate.py", "run=hollow", "run=hollow"),
    ("generate.py", "run=nowhere", "run=nowhere"),
    ("evaluate.py", "data.corpus=[sample,/nowhere]", "data.corpus=/nowhere"),
]


def assert_one_line(done: Done, named: str) -> None:
    assert done.returncode == 1
    assert re.fullmatch(r"error: [^\n]+\n", done.stderr) and named in done.stderr, done.stderr


@pytest.fixture(autouse=True)
def _folder() -> None:
    Path("empty.txt").touch()
    Path("binary.txt").write_bytes(b"a text\0of sorts")
    Path("short.txt").write_text("shorter than a window")
    Path("hollow").mkdir()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a completed run."""
    folder = tmp_path_factory.mktemp("run")
    small = ("model.hiddens=2", "data.num_train=64", "data.num_val=64", "trainer.max_epochs=1")
    done = call_program("train.py", "data=sample", "logger=csv", "trainer=cpu", *small, f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(("command", "named"), MISTAKES)
def test_one_line(command: str, named: str) -> None:
    assert_one_line(call_program(*command.split()), named)


@pytest.mark.parametrize(("name", "mistake", "named"), OF_A_MODEL)
def test_one_line_about_a_run(name: str, mistake: str, named: str, run: Path) -> None:
    given = [] if mistake.startswith("run=") else [f"run={run}"]
    assert_one_line(call_program(name, *given, mistake), named)


@pytest.mark.parametrize(
    ("typed", "content", "named"),
    [
        ("callbacks=mine", "a:\n\tb: 1", "callbacks/mine.yaml"),
        ("exercise=mine", "a: [b\n", "exercise/mine.yaml"),
        ("callbacks=mine", "_target_: a.B", "callbacks._target_=a.B"),
        ("exercise=mine", "seed: 1", "exercise/mine"),  # "# @package _global_" is missing
        ("+group=mine", "# @package _global_\nmodel:\n  hidens: 1", "model.hiddens"),
    ],
)
def test_file_of_ones_own(typed: str, content: str, named: str) -> None:
    file = Path("files", typed.strip("+").replace("=", "/") + ".yaml")
    file.parent.mkdir(parents=True)
    file.write_text(content)
    assert_one_line(call_program("train.py", "data=sample", "logger=csv", "hydra.searchpath=[files]", typed), named)


def test_run_without_checkpoint(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text()) | {"status": "running", "message": None}
    Path("hollow/summary.json").write_text(json.dumps(summary))
    assert_one_line(call_program("generate.py", "run=hollow"), "run=hollow")


@pytest.mark.parametrize("argument", ["--help", "data.corpus=/nowhere"])
def test_quick_answers(argument: str, program: Program) -> None:
    imported = program("train.py", argument, PYTHONPROFILEIMPORTTIME="1").stderr  # in a new process
    assert re.search(r"\| +timemachine\.config$", imported, re.MULTILINE)  # so the import times were printed
    assert not re.search(r"\| +(torch|lightning|torchmetrics|wandb|matplotlib)\b", imported)


def test_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert_one_line(call_program("train.py"), "Windows")
