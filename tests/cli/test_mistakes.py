"""A user's mistakes: each is answered in one line that says what to type, with exit status 1.

They are tried in this process, where a start costs nothing; a handful as a user starts the programs.
"""

import json
import re
from pathlib import Path

import pytest
import torch

from tests.support.programs import Done, Program, call_program

MISTAKES = [
    ("model.hidens=64", "type for example model.hiddens=64"),
    ("+model.hidens=64", "type for example model.hiddens=64"),
    ("+model.hiddens=64", "type it as model.hiddens=64"),
    ("hiddens=64", "type for example model.hiddens=64"),
    ("model.hiddens", "type for example model.hiddens="),
    ("model.hiddens=abc", "type for example model.hiddens=32"),
    ("model.hiddens=0", "type for example model.hiddens=32"),
    ("model.hiddens=8,16", "type it with -m"),
    ("model.lr=-1", "type for example model.lr=1"),
    ("model.activation=sigmoid", "one of tanh, relu; type for example model.activation=tanh"),
    ("model.cell=lstm", "type for example model.cell=rnn"),
    ("seed=-1", "type for example seed=0"),
    ("data.num_steps=0", "type for example data.num_steps=32"),
    ("data.num_train=10**9", "type for example data.num_train=10000"),
    ("data.num_val=null", "type for example data.num_train=10000 data.num_val=5000"),
    ("data.corpus=/nowhere", "type a book (time_machine, "),
    ("data.corpus=time_machin", "type data.corpus=time_machine,"),
    ("data.corpus=empty.txt", "type the path of an English text"),
    ("data.corpus=binary.txt", "type the path of a text"),
    ("epochs=3", "type for example trainer.max_epochs=3"),
    ("num_epochs=5", "type for example trainer.max_epochs=5"),
    ("--epochs=3", "type for example trainer.max_epochs=3"),
    ("trainer.lr=1", "type for example model.lr=1"),
    ("training.optimizer=adam", "type for example training.optimizer=adamw"),
    ("logger=none", "type for example logger=csv "),
    ("logger.wandb=false", "type for example logger=csv"),
    ("model.sigma=11", "must be a number from 0 to 10; type for example model.sigma=0.01"),
    ("model.activation=glob(*)", "glob goes over the choices of a group, such as data=glob(*); type -m and"),
    ("data=glob(z*)", "no such choice; type for example data="),
    ("data=choice(book,sampel)", "no such choice; type for example data=sample "),
    ("trainer.max_epoch=5", "type for example trainer.max_epochs=5"),
    ("training.carry_state=maybe", "must be true or false; type for example training.carry_state=false"),
    ("training.teacher=0.5", "type training.carry_state=true as well"),
    ("training.teacher_networks=2", "nothing is written; type training.teacher_networks=0"),
    ("probes=stream", "must be a list; type for example probes=[stream]"),
    ("probes=[strem]", "type for example probes=[stream] (stream, history, "),
    ("probes=[report]", "type for example probes=["),  # a file of exercises/ that measures nothing
    ("data.search_dirs=texts", "must be a list; type for example data.search_dirs=[../shared/corpora]"),
    ("excercise=clipping", "type for example exercise=clipping"),
    ("scale=smoke", "makes an exercise small; type exercise=<its name> as well"),
    ("dta=sample", "type for example data=sample"),
    ("hydra/launcher=jobib", "no such choice; type for example hydra/launcher=joblib (basic, joblib, submitit_local, "),
    ("hydra/sweeper=serch", "no such choice; type for example hydra/sweeper=search (basic, "),
    ("model.lr=interval(0.1,1)", "type -m hydra/sweeper=optuna model.lr=interval(0.1,1), "),
    ("exercise=history,clipping", "a sweep by itself; type exercise=history, then exercise=clipping"),
    ("model.lr=1" + 400 * "0", "type for example model.lr=1"),  # Python makes no float of it
    ("seed=1" + 5000 * "0", "type for example seed=0"),  # nor does it read this
    ("trainer.min_epochs=101", "is more than trainer.max_epochs=100; type for example trainer.min_epochs=100"),
    ("trainer.gradient_clip_val=-1", "type for example trainer.gradient_clip_val=1"),
    ("trainer=gpux", "type for example trainer=gpu "),
    ("data=sampel", "type for example data=sample "),
    ("logger=wand", "type for example logger=wandb "),
    ("exercise=non", "type for example exercise=none "),
    # For these Lightning is asked, or the text is read.
    ("data.corpus=short.txt", "needs 33; type the path of a longer text"),
    ("data.num_train=1000000000", "type for example data.num_train="),
    pytest.param(
        "trainer.accelerator=gpu",
        "type trainer.accelerator=",
        marks=pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU"),
    ),
]

GENERATE_MISTAKES = [
    ("prefix=1895!", "type for example prefix='it has'"),
    ("num_preds=-1", "type for example num_preds=20"),
    ("alpha=0", "type for example alpha=1"),
    ("alpa=1", "type for example alpha=1"),
    ("run=hollow", "type run=<the folder that train.py printed at its end>"),
]

EVALUATE_MISTAKES = [
    ("run=hollow", "type run=<the folder that train.py printed at its end>"),
    ("data.corpus=[sample,/nowhere]", "type a book (time_machine, "),
]


AS_A_USER = [  # in a process of their own
    ("train.py", "model.hidens=64", "type for example model.hiddens=64"),
    ("train.py", "model.hiddens=0", "type for example model.hiddens=32"),
    ("evaluate.py", "baselines=perhaps", "type for example baselines=false"),
    ("generate.py", "run=hollow", "type run=<the folder that train.py printed at its end>"),
]


def assert_one_line_error(done: Done, mistake: str, hint: str) -> None:
    assert done.returncode == 1
    assert re.fullmatch(r"error: [^\n]+\n", done.stderr)
    assert hint in done.stderr
    assert done.stdout == ""
    name, _, value = mistake.partition("=")
    assert name in done.stderr
    assert value.strip("[]").rpartition(",")[2] in done.stderr  # the wrong one of a list


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").touch()
    Path("binary.txt").write_bytes(b"a text\0of sorts")
    Path("short.txt").write_text("shorter than a window")
    Path("hollow").mkdir()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has ended."""
    folder = tmp_path_factory.mktemp("run")
    small = ("model.hiddens=2", "data.num_train=64", "data.num_val=64", "trainer.max_epochs=1")
    done = call_program("train.py", "data=sample", "logger=csv", "trainer=cpu", *small, f"hydra.run.dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(("mistake", "hint"), MISTAKES)
def test_a_mistake_is_answered_in_one_line(mistake: str, hint: str) -> None:
    assert_one_line_error(call_program("train.py", "data=sample", "logger=csv", mistake), mistake, hint)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("--epochs 3", "--epochs: there is no such flag; type for example trainer.max_epochs=3"),
        ("-m model.activation=glob(*)", "model.activation=glob(*): glob goes over the choices of a group, such as "),
        ("-m exercise=glob(*)", "exercise=glob(*): an exercise is a sweep by itself; type exercise=<its name>"),
        ("-m exercise=history,clipping", "exercise=history,clipping: an exercise is a sweep by itself; type exercise="),
        ("exercise=history exercise=relu", "exercise=history exercise=relu: an exercise is a sweep by itself; type "),
        ("-m model.lr=interval(0.1,1)", "model.lr=interval(0.1,1): an interval has no end of values; type -m hydra/sw"),
        ("-m model.lr=tag(log,interval(0.1,1))", "model.lr=tag(log,interval(0.1,1)): an interval has no end of "),
        (
            "-m seed=0,1 hydra/launcher=jobib",
            "hydra/launcher=jobib: no such choice; type for example hydra/launcher=jo",
        ),
        ("model.hiddens=-1", "model.hiddens=-1: must be a whole number from 1 to 8,192; type for example model.hid"),
        ("trainer.min_steps=5 trainer.max_steps=3", "trainer.min_steps=5: is more than trainer.max_steps=3; type for "),
    ],
)
def test_what_does_not_go_together_is_answered_before_anything_is_written(typed: str, message: str) -> None:
    before = sorted(Path().iterdir())
    done = call_program("train.py", "data=sample", "logger=csv", *typed.split())
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"error: {message}")
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize("typed", ["data=glob([s*,f*])", "data=choice(sample,full)", "data=sample,full"])
def test_a_sweep_goes_over_a_group_as_hydra_documents(typed: str) -> None:
    small = ("model.hiddens=2", "data.num_train=64", "data.num_val=64", "data.corpus=sample", "trainer.max_epochs=1")
    done = call_program("train.py", "-m", "logger=csv", *small, typed, "hydra.sweep.dir=sweep")
    assert done.returncode == 0, done.stderr
    chosen = [(Path("sweep") / job / ".hydra/overrides.yaml").read_text() for job in ("0", "1")]
    assert sorted("data=sample" in overrides for overrides in chosen) == [False, True]


@pytest.mark.parametrize(
    ("name", "mistake", "hint"),
    [("generate.py", *row) for row in GENERATE_MISTAKES] + [("evaluate.py", *row) for row in EVALUATE_MISTAKES],
)
def test_a_mistake_with_a_run_is_answered_in_one_line(name: str, mistake: str, hint: str, run: Path) -> None:
    given = [] if mistake.startswith("run=") else [f"run={run}"]
    assert_one_line_error(call_program(name, *given, mistake), mistake, hint)


@pytest.mark.parametrize("has_text", [True, False])
@pytest.mark.parametrize("name", ["generate.py", "evaluate.py"])
def test_a_run_that_has_just_begun_has_no_checkpoint_yet(name: str, has_text: bool, run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text()) | {"status": "running", "message": None}
    if not has_text:
        del summary["corpus"]
    Path("hollow/summary.json").write_text(json.dumps(summary))
    assert_one_line_error(call_program(name, "run=hollow"), "run=hollow", "has no checkpoint yet: it is running, or ")


@pytest.mark.parametrize("name", ["generate.py", "evaluate.py"])
def test_a_missing_run_is_answered_in_one_line(name: str) -> None:
    assert_one_line_error(call_program(name), "run", "type run=")


@pytest.mark.parametrize(("name", "mistake", "hint"), AS_A_USER)
def test_a_user_sees_one_line(name: str, mistake: str, hint: str, program: Program) -> None:
    given = ["data=sample"] if name == "train.py" else []
    assert_one_line_error(program(name, *given, mistake), mistake, hint)


@pytest.mark.parametrize("argument", ["--help", "model.hidens=64", "model.hiddens=0", "data.corpus=/nowhere"])
def test_quick_answers_import_nothing_heavy(argument: str, program: Program) -> None:
    imported = program("train.py", argument, PYTHONPROFILEIMPORTTIME="1").stderr
    assert re.search(r"\| +timemachine\.config$", imported, re.MULTILINE)  # so the list is there
    assert not re.search(r"\| +(torch|lightning|torchmetrics|wandb|matplotlib)\b", imported)
