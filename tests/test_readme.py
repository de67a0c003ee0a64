"""Every command and every example of README.md, with small settings appended."""

import csv
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from timemachine.config import REPOSITORY

README = (REPOSITORY / "README.md").read_text()
COMMANDS = [
    line.partition("  #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("python ")
]
SMALL = ["trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.limit_test_batches=1"]


def run(folder: Path, *command: str) -> str:
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    run(folder, str(REPOSITORY / "train.py"), "hydra.run.dir=trained", "data=sample", "logger=csv", *SMALL)
    return folder / "trained"


def test_readme_shows_each_program() -> None:
    assert {shlex.split(command)[1] for command in COMMANDS} == {"train.py", "evaluate.py", "generate.py", "-m"}


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in COMMANDS if "launcher=slurm" not in command])
def test_command(command: str, trained: Path, tmp_path: Path, novels: Path) -> None:
    words = shlex.split(command)[1:]
    arguments = [f"run={trained}" if word == "run=outputs/…" else word for word in words]
    if words[0] == "-m":
        assert run(tmp_path, *arguments)
        return
    smoke = ["scale=smoke"] if any(word.startswith("exercise=") for word in words) else []
    run(tmp_path, str(REPOSITORY / arguments[0]), *arguments[1:], *(SMALL if words[0] == "train.py" else []), *smoke)


def example(number: int) -> str:
    return str(re.findall(r"```python\n(.*?)```", README, re.DOTALL)[number])


def test_the_books_cells(tmp_path: Path) -> None:
    small = example(0).replace("max_epochs=100", "max_epochs=1, limit_train_batches=2, enable_progress_bar=False")
    assert run(tmp_path, "-c", small).splitlines()[-1].startswith("it has")


def test_ngrams_find_the_rest_harder(novels: Path, tmp_path: Path) -> None:
    # It looks for the novel where the repository does, seen from any folder.
    assert "3-gram: validation 7.85, rest 9.42" in run(tmp_path, "-c", example(1))
    assert "(trigrams: 7.85 and 9.42)" in README


def test_table_of_seeds_is_that_of_the_reference() -> None:
    with (REPOSITORY / "sweeps/reference/book/summary.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            train, val, rest = (float(row[f"{split}/perplexity"]) for split in ("train", "val", "test"))
            line = next(line for line in README.splitlines() if line.startswith(f"| {row['seed']} |"))
            assert [f"/ {train:.2f} |" in line, f"/ {val:.2f} |" in line, f"| {rest:.2f} |" in line] == [True] * 3


def test_how_low_it_went_is_what_the_report_says() -> None:
    report = (REPOSITORY / "sweeps/reference/how_low/report.md").read_text()
    for text in ("novel, next 5 %", "novel, last 5 %", "book split, 10,032 to 15,031", "the rest, 15,032 to the end"):
        ours, theirs = (
            next(line for line in page.splitlines() if line.startswith(f"| {text} |")).split(" | ")
            for page in (README, report)
        )
        witten_bell, kneser_ney, one, as_one, adapting, ppmd = ours[1:]
        assert [one, as_one, witten_bell, kneser_ney, adapting, ppmd.rstrip(" |")] == [
            theirs[1].split(" ± ")[0], theirs[2], *theirs[5:8], theirs[8].rstrip(" |"),
        ]  # fmt: skip
    assert "0.043 ± 0.006 nats" in README and "-0.043 ± 0.006 nats" in report
