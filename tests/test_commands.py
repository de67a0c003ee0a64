"""Each command of README.md, CONTRIBUTING.md and docs/*.md runs as it is printed.

The diffs of docs/extending.md are applied to a copy of the repository, which also has what the pages name: a run, a
sweep, texts and the model of README.md. Words that are appended shorten the commands.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from tests.exercises.test_exercises import SAMPLE, SMALL
from tests.support.documents import BLOCK, PAGES, commands, filled_in
from tests.support.programs import DEADLINE, assert_succeeded, run_program
from tests.support.runs import summary
from tests.test_extending import copy as copy
from timemachine.config import REPOSITORY
from timemachine.texts import CATALOGUE

PRINTED = [command for page in PAGES if page != "CHANGELOG.md" for command in commands(page)]
NOT_RUN = {  # why -> commands
    "needs the network, an account or a remote repository": (
        "apt-get install chromium", "git clone <the address of this repository> timemachine && cd timemachine",
        "git clone <your fork> timemachine && cd timemachine", "python -m timemachine dashboard project=timemachine",
        "wandb agent …", "wandb login", "wandb sweep --project timemachine conf/wandb_sweep.yaml", "wandb sync",
    ),
    "needs a Slurm cluster; tests with the mark slurm start such jobs": (
        "python train.py -m hydra/launcher=submitit_slurm hydra.launcher.partition=main model.hiddens=16,32,64",
        "python train.py -m exercise=clipping hydra/launcher=submitit_slurm hydra.launcher.array_parallelism=20",
        "sbatch --nodes=2 --ntasks-per-node=4 --gpus-per-node=4 --requeue --open-mode=append --signal=TERM@60 --wrap "
        "'srun python train.py trainer=ddp trainer.num_nodes=2 trainer.devices=4 || "
        "{ test $? -eq 130 && scontrol requeue $SLURM_JOB_ID; }'",
        "tools/slurm/start",
    ),
    "installs packages; test_packaging.py does, and .ci/run in .venv": (
        "pip install -e '.[dashboard]'", "pip install -e '.[search]'", "pip install -e '.[slurm]'",
        "pip install -e '.[tensorboard]'", "pip install .", "pip install jupyterlab", "uv run --no-sync train.py",
        "uv run pytest", "uv sync", "uv sync --extra dev", "uv venv && uv pip install --torch-backend=auto -e .",
    ),
    "waits for a person": (
        "jupyter lab book.ipynb", "pip install jupyterlab && jupyter lab outputs/lab/book.ipynb",
        "tensorboard --logdir outputs", "wandb leet <the run's folder>/wandb/<its run>",
        "wandb leet inspect --summary …",
    ),
    "changes the clone or the shell": (
        "git apply", "git commit", "git switch -c my-change", "pre-commit install", "source .venv/bin/activate",
    ),
    "tests, which .ci/run and make torture run": (
        ".ci/run", ".venv/bin/python -m pytest -m browser tests/page", ".venv/bin/python -m pytest -m gpu",
        ".venv/bin/python -m pytest -m site tests/test_site.py", ".venv/bin/python -m pytest -m slow",
        ".venv/bin/python -m pytest -m slurm", ".venv/bin/python -m pytest -q",
        ".venv/bin/python -m pytest -q tests/test_cells.py", "pytest tests/test_cells.py",
        "python -m tools.executed", "python -m tools.soak part", "tools/lower_bounds", "tools/upper_bounds",
    ),
    "needs root on Debian": (".venv/bin/python -m tools.other_python",),
    "needs Chromium, and replaces the published page": ("python -m tools.picture",),
    "a program without its arguments": ("python -m timemachine report",),
}  # fmt: skip
LISTED = [command for reason in NOT_RUN.values() for command in reason]
MAKE = [command for command in dict.fromkeys(PRINTED) if command.startswith("make ")]
ROWS = [each for each in dict.fromkeys(map(filled_in, PRINTED)) if each not in {*LISTED, *MAKE}]
BEFORE = {  # a command -> the one that trains its run
    "python generate.py run=latest model._target_=my_models.MomentumLM":
        "python train.py model._target_=my_models.MomentumLM model.lr=0.1",
}  # fmt: skip
OF_TOKENS = "data.num_train=1000 data.num_val=500 model.hiddens=8"


def shortened(command: str) -> str:
    """Return a command with words that shorten it."""
    if command.startswith("python evaluate.py run=sweeps/reference") and "data.corpus=" not in command:
        return f"{command} data.corpus=sample"  # its own text may be absent
    if not command.startswith("python train.py"):
        return command
    words = ["trainer.max_epochs=1"]
    if exercise := re.search(r" exercise=(\w+)", command):
        words = [*SAMPLE.split(), *SMALL.get(exercise[1], "").split(), "hydra.launcher.n_jobs=1"]
    elif "hydra/sweeper=" in command:
        words += ["hydra.sweeper.n_trials=2"]
    if "recipe=" in command:
        words += OF_TOKENS.split() if "next_edition" in command else ["model.hiddens=8"]
    # Two sweeps over a setting would be a product.
    typed = {word.partition("=")[0] for word in shlex.split(command) if "," in word}
    return " ".join([command, *(shlex.quote(word) for word in words if word.partition("=")[0] not in typed)])


@pytest.fixture(scope="module")
def place(copy: Path) -> Path:
    """Return the copy, with books (all are the sample), texts, a model, a run and a sweep."""
    sample = (REPOSITORY / "src/timemachine/texts/sample.txt").read_bytes()
    books = copy.parent / "shared/corpora"  # `data.search_dirs`, relative to the copy
    for folder in (books, copy / "my_texts", copy / "outputs", copy / "sweeps"):
        folder.mkdir(parents=True, exist_ok=True)
    names = [*(books / f"{name}.txt" for name in (*CATALOGUE, "my_book")), copy / "my_texts/one.txt"]
    for path in (*names, *(copy / name for name in ("my_text.txt", "my_book.txt", "my text (2nd).txt"))):
        path.write_bytes(sample)
    catalogue = copy / "src/timemachine/texts/__init__.py"
    entries = re.sub(r'"sha\d+:\w+"', f'"sha256:{sha256(sample).hexdigest()}"', catalogue.read_text(encoding="utf-8"))
    catalogue.write_text(entries, encoding="utf-8")
    (own,) = (block for _, block in BLOCK.findall(PAGES["README.md"]) if "# my_models.py" in block)
    (copy / "my_models.py").write_text(own, encoding="utf-8")
    (copy / "sweeps/reference").symlink_to(REPOSITORY / "sweeps/reference")
    typed = ["-m", "seed=0,1", "trainer.max_epochs=1", "hydra.sweep.dir=sweeps/width", "logger.wandb.offline=true"]
    assert_succeeded(run_program(str(copy / "train.py"), *typed, cwd=copy, PYTHONPATH=str(copy / "src")))
    shutil.copytree(copy / "sweeps/width/0", copy / "outputs/run")
    return copy


def run(command: str, place: Path, folder: Path) -> None:
    """Run a command of bash in a folder, with the modules of the copy, which lacks an account of W&B."""
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=dict(os.environ) | {"PATH": path, "PYTHONPATH": str(place / "src")},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=DEADLINE,
    )
    assert_succeeded(done)


@pytest.mark.slow
@pytest.mark.parametrize("command", ROWS)
def test_command(command: str, place: Path, tmp_path: Path) -> None:
    assert re.match(r"python |sha256sum ", command), "neither run here nor in NOT_RUN"
    if "hydra/sweeper=" in command:
        pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs Hydra 1.4: pip install -e '.[search]'")
    folder = tmp_path / "timemachine"
    shutil.copytree(place, folder, symlinks=True, ignore=shutil.ignore_patterns("src", ".*"))
    if before := BEFORE.get(command):
        run(shortened(before), place, folder)
    if is_resumed := "hydra.run.dir=" in command:
        shutil.rmtree(folder / "outputs/run")
        run(shortened(command), place, folder)
    run(f"{shortened(command)} {'trainer.max_epochs=2' if is_resumed else ''}", place, folder)
    assert not is_resumed or summary(folder / "outputs/run")["resumed"]


def test_all_commands_are_found() -> None:
    """No listed command is gone from the pages; each target of make exists."""
    assert {*LISTED} <= {*PRINTED}
    assert len(ROWS) > 70
    for command in MAKE:
        done = subprocess.run(
            ["make", "--dry-run", *command.split()[1:]], cwd=REPOSITORY, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
