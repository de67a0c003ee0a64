"""Every command, example and link of the Markdown pages."""

import csv
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import DEADLINE, assert_succeeded, call_program, run_program
from timemachine.cli import sweep
from timemachine.cli.program import program, training_program
from timemachine.config import REPOSITORY, Evaluate, Generate, Tokens, Train
from timemachine.corpus import find_corpus
from timemachine.run.record import Record
from timemachine.run.user_classes import build_classes

FOLDERS = (".", "conf", "src/timemachine", "sweeps", "tests", "tests/proof")
FILES = [file for folder in FOLDERS for file in sorted((REPOSITORY / folder).glob("*.md"))]
PAGES = {file.relative_to(REPOSITORY).as_posix(): file.read_text(encoding="utf-8") for file in FILES}
COMMANDS = [
    line.partition("  #")[0].strip()
    for text in PAGES.values()
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    for line in re.sub(r"\s*\\\n\s*", " ", block).splitlines()  # a backslash joins two lines
    if line.startswith("python ")
]


def run(folder: Path, *command: str) -> str:
    if command[0].endswith(".py") or command[0] == "-m":
        done = run_program(*command, cwd=folder)
    else:
        done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    small = ["trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.limit_test_batches=1", "logger=csv"]
    run(folder, "train.py", "hydra.run.dir=trained", "data=sample", *small)
    return folder / "trained"


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures(page: str) -> None:
    here, text = REPOSITORY / page, PAGES[page]
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for path, _, anchor in (target.partition("#") for target in targets if not target.startswith("https:")):
        found = here.parent / path if path else here
        assert found.exists(), f"{page} links to {path}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in anchors, f"{page} links to {path}#{anchor}"


CLUSTER = "launcher=submitit_slurm|timemachine.dashboard"  # these need a cluster or a W&B account


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[], None]]:
    """Return the main of each program without its task: they check the settings and find the texts and classes."""

    def find(settings: Any) -> None:
        if settings.data.corpus is not None:
            find_corpus(settings.data.corpus, settings.data.search_dirs, Tokens.characters)

    def train(settings: Train, run: Record) -> None:
        find(settings)
        settings.logger.pop("wandb", None)
        for group in ("callbacks", "logger"):
            assert len([*build_classes(settings, group, run)]) == len(getattr(settings, group))

    monkeypatch.setattr(sweep, "end", lambda config: None)  # there are no numbers to report
    return {
        "train.py": training_program(train),
        "evaluate.py": program(Evaluate)(find),
        "generate.py": program(Generate)(lambda settings: None),
    }


@pytest.mark.parametrize("command", [command for command in COMMANDS if not re.search(CLUSTER, command)])
def test_command(command: str, trained: Path, tmp_path: Path, novels: Path, checks: Any) -> None:
    """Other tests train, evaluate and generate with such settings."""
    known = {f"{name}=outputs/…": f"{name}={trained}" for name in ("run", "init_from")}
    known["data.corpus=my_texts"] = f"data.corpus={REPOSITORY / 'src/timemachine/texts'}"  # includes the sample
    known["sweeps/width"] = str(trained.parent)
    name, *arguments = (known.get(word, word) for word in shlex.split(command)[1:])
    if name == "-m":
        run(tmp_path, name, *arguments)
        return
    if "hydra/sweeper=" in command:
        pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs pip install -e '.[search]'")
        arguments.append("hydra.sweeper.n_trials=2")
    if "launcher=joblib" in command:
        arguments.append("hydra.launcher.n_jobs=1")  # in this process
    if "exercise=" in command:
        arguments += ["scale=smoke", "hydra.launcher.n_jobs=1"]
    assert_succeeded(call_program(name, *arguments, main=checks[name]))


def example(page: str) -> str:
    (found,) = re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL)
    return str(found)


@pytest.mark.slow
def test_python_example_against_train_py(tmp_path: Path) -> None:
    """Two epochs of each give the same bits. Python prints enough digits of a float to restore it."""
    small = example("README.md").replace("max_epochs=100", "max_epochs=2, enable_progress_bar=False")
    assert small != example("README.md") and "seed_everything(0)" in small
    names = ("train/perplexity", "val/perplexity")
    shown = f"\nprint(*(float(trainer.callback_metrics[name]) for name in {names}))"
    sample, ours = run(tmp_path, "-c", small + shown).splitlines()[-2:]
    run(tmp_path, "train.py", "trainer.max_epochs=2", "trainer.limit_test_batches=0", "logger=csv", "hydra.run.dir=run")
    with (tmp_path / "run/metrics.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert ours.split() == [last[name] for name in names]
    assert sample == (tmp_path / "run/sample.txt").read_text().rstrip("\n") and sample.startswith("it has")


def test_ngrams_example(novels: Path, tmp_path: Path) -> None:
    assert "3-gram: validation 7.85, rest 9.42" in run(tmp_path, "-c", example("sweeps/README.md"))
