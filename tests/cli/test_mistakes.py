"""A user's mistakes: each is answered in one line that says what to type, with exit status 1."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import Done, Program, call_program

MISTAKES = [
    ("model.hidens=64", "type for example model.hiddens=64"),
    ("model.hiddens=abc", "type for example model.hiddens=32"),
    ("model.hiddens=8,16", "type it with -m"),
    ("model.sigma=11", "must be a number from 0 to 10; type for example model.sigma=0.01"),
    ("model.activation=sigmoid", "one of tanh, relu; type for example model.activation=tanh"),
    ("training.carry_state=maybe", "must be true or false; type for example training.carry_state=false"),
    ("data.num_train=10**9", "type for example data.num_train=10000"),
    ("data.num_val=null", "type for example data.num_train=10000 data.num_val=5000"),
    ("data.search_dirs=texts", "must be a list; type for example data.search_dirs=[../shared/corpora]"),
    ("data.corpus=/nowhere", "type a book (time_machine, "),
    ("data.corpus=time_machin", "type data.corpus=time_machine,"),
    ("data.corpus=hollow", "has no *.txt; type a folder of texts, or the path of a text"),
    ("data.corpus=empty.txt", "type the path of an English text, or train with data.tokens=characters"),
    ("data.tokens=words", "must be one of letters, characters; type for example data.tokens=letters"),
    ("data.min_count=0", "type for example data.min_count=1"),
    ("data.corpus=binary.txt", "type the path of a text"),
    ("epochs=3", "type for example trainer.max_epochs=3"),
    ("trainer.lr=1", "type for example model.lr=1"),
    ("model.lr=???", "stands for a missing value in Hydra; type for example model.lr=1.0"),
    ("logger=wand", "type for example logger=wandb "),
    ("logger.wandb=false", "logger=wandb"),
    ("probes=[strem]", "type for example probes=[stream] (stream, history, "),
    ("excercise=clipping", "type for example exercise=clipping"),
    ("experiment=mine", "type for example recipe=novel, or recipe=<a file of your own in conf/recipe/>"),
    ("trainer.callbacks=[a]", "type for example callbacks=early_stopping, or callbacks.NAME._target_=<a class>"),
    ("callbacks=early_stoping", "type for example callbacks=early_stopping "),
    ("logger=[csv,wand]", "type for example logger=wandb "),
    ("callbacks.a=1", "callbacks.NAME._target_="),
    ("callbacks.a._target_=lightning.pytorch.callbacks.Timr", "callbacks.a._target_=lightning.pytorch.callbacks.Timer"),
    ("callbacks.a._target_=EarlyStoping", "callbacks.a._target_=lightning.pytorch.callbacks.EarlyStopping"),
    ("callbacks.a._target_=os.system", "callbacks.a._target_="),
    ("logger.a._target_=lightning.pytorch.logger.CSVLogger", "logger.a._target_=lightning.pytorch.loggers.CSVLogger"),
    ("callbacks.a._target_=lightning.pytorch.callbacks.BatchSizeFinder", ""),
    ("callbacks.a._target_=my.Own", "PYTHONPATH"),
    ("hydra.searchpath=[hollow,/nowhere]", "there is no such folder; type hydra.searchpath=[<a folder>]"),
    ("scale=smoke", "makes an exercise small; type exercise=<its name> as well"),
    ("hydra/launcher=joblib", "runs the jobs of a sweep; type -m as well"),
    # For these Lightning is asked, or the text is read.
    ("data.corpus=short.txt", "needs 33; type the path of a longer text"),
    ("data.num_train=1000000000", "type for example data.num_train="),
    ("data.start=1000000", "characters; type for example data.start=0"),
]  # fmt: skip
OF_A_MODEL = [
    ("generate.py", "prefix=1895!", "type for example prefix='it has'"),
    ("generate.py", "prefix=???", "type for example prefix='it has'"),
    ("generate.py", "num_preds=-1", "type for example num_preds=20"),
    ("generate.py", "alpa=1", "type for example alpha=1"),
    ("generate.py", "run=hollow", "type run=<the folder that train.py printed at its end>"),
    ("evaluate.py", "data.corpus=[sample,/nowhere]", "type a book (time_machine, "),
    ("evaluate.py", "data.corpus=[]", "names no text; type for example data.corpus=time_machine"),
]


def assert_one_line_error(done: Done, mistake: str, hint: str) -> None:
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"error: [^\n]+\n", done.stderr) and hint in done.stderr
    name, _, value = mistake.partition("=")
    assert name in done.stderr
    assert value.strip("[]").rpartition(",")[2] in done.stderr  # the wrong one of a list


@pytest.fixture(autouse=True)
def _folder() -> None:
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
        ("-m model.activation=glob(*)", "glob: matches nothing; type some values"),
        ("-m model.hiddens=8,0", "model.hiddens=0: must be a whole number from 1 to 8,192"),
        ("-m model.lr=1,x", "model.lr=1,x: must be a positive number; type for example model.lr=1.0"),
        (
            "-m hydra/launcher=jobib",
            "hydra/launcher=jobib: no such choice; type for example hydra/launcher=joblib (basic, ",
        ),
        ("-m model.lr=interval(0.1,1)", "BasicSweeper does not support sweep type : INTERVAL_SWEEP"),
        (
            "exercise=clipping scale=smoke model.lr=1 model.hiddens=8,16",
            "model.hiddens=8,16: exercise=clipping varies model.lr, seed, trainer.gradient_clip_val alone; type ",
        ),
        ("-m exercise=history,clipping", "exercise=history,clipping: an exercise is a sweep by itself; type exercise="),
        ("trainer.min_steps=5 trainer.max_steps=3", "trainer.min_steps=5: is more than trainer.max_steps=3; type for "),
    ],
)
def test_what_does_not_go_together_is_answered_before_anything_is_written(typed: str, message: str) -> None:
    before = sorted(Path().iterdir())
    done = call_program("train.py", "data=sample", "logger=csv", *typed.split())
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"error: {message}")
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize(
    ("typed", "content", "message"),
    [
        ("callbacks=mine", "a:\n\tb: 1", "{files}/callbacks/mine.yaml: line 2, column 1: "),
        ("exercise=mine", "a: [b\n", "{files}/exercise/mine.yaml: line 2, column 1: "),
        ("callbacks=mine", "a: \1", '"{files}/callbacks/mine.yaml", position 3; type plain text in that file'),
        (
            "callbacks=mine",
            "_target_: a.B",
            "error: callbacks._target_=a.B: ",
        ),
        ("exercise=mine", "seed: 1", "exercise/mine.yaml: its settings count as exercise.…; its first line must be # "),
        ("+group=mine", "seed: 1", "group/mine.yaml: its settings count as group.…; its first line must be # "),
    ],
)
def test_a_mistake_in_a_file_of_ones_own_is_answered_in_one_line(typed: str, content: str, message: str) -> None:
    file = Path("files", typed.strip("+").replace("=", "/") + ".yaml")
    file.parent.mkdir(parents=True)
    file.write_text(content)
    done = call_program("train.py", "data=sample", "logger=csv", "hydra.searchpath=[files]", typed)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: ") and message.format(files=Path("files").absolute()) in done.stderr


@pytest.mark.parametrize("typed", ["hydra.run.dir=", "-m hydra.sweep.dir="])
def test_a_folder_elsewhere_that_cannot_be_made_is_answered_in_one_line(
    typed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Path("binary.txt/run").absolute()
    monkeypatch.chdir("hollow")
    done = call_program("train.py", "data=sample", "logger=csv", *f"{typed}{place}".split())
    assert done.returncode == 1
    assert done.stderr == f"error: {place}: Not a directory; type {typed.split()[-1]}<a folder to write to>\n"


@pytest.mark.parametrize(("name", "mistake", "hint"), OF_A_MODEL)
def test_a_mistake_with_a_run_is_answered_in_one_line(name: str, mistake: str, hint: str, run: Path) -> None:
    given = [] if mistake.startswith("run=") else [f"run={run}"]
    assert_one_line_error(call_program(name, *given, mistake), mistake, hint)


def test_a_run_that_has_just_begun_has_no_checkpoint_yet(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text()) | {"status": "running", "message": None}
    Path("hollow/summary.json").write_text(json.dumps(summary))
    done = call_program("generate.py", "run=hollow")
    assert_one_line_error(done, "run=hollow", "has no checkpoint yet: it is running, or ")


@pytest.mark.parametrize("name", ["generate.py", "evaluate.py"])
def test_a_missing_run_is_answered_in_one_line(name: str) -> None:
    assert_one_line_error(call_program(name), "run", "type run=")


@pytest.mark.parametrize("argument", ["--help", "model.hidens=64", "data.corpus=/nowhere"])
def test_quick_answers_import_nothing_heavy(argument: str, program: Program) -> None:
    imported = program("train.py", argument, PYTHONPROFILEIMPORTTIME="1").stderr  # in a process of its own
    assert re.search(r"\| +timemachine\.config$", imported, re.MULTILINE)  # so the list is there
    assert not re.search(r"\| +(torch|lightning|torchmetrics|wandb|matplotlib)\b", imported)


def test_windows_by_itself_is_refused_in_one_line() -> None:
    pretended = "import sys; sys.platform = 'win32'; import timemachine.cli"
    done = subprocess.run([sys.executable, "-c", pretended], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: Windows by itself is not supported yet; type the same in WSL")
