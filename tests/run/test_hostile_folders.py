"""Untrusted run folders: no code is executed, no file outside changes, and damage gives a one-line error.

First the commands of a security review, one test each, then folders with random damage.
"""

import json
import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.programs import Done, assert_succeeded, call_program
from timemachine import load_run, report
from timemachine.errors import SettingError
from timemachine.page import __main__ as page

CASES = int(os.environ.get("CASES", 100)) // 5  # `make torture`: 2,000
TYPED = ["data=sample", "data.num_train=64", "data.num_val=64", "model.hiddens=2", "trainer=cpu", "logger=csv"]
TYPED += ["trainer.max_epochs=1"]
STOPPING = "lightning.pytorch.callbacks.EarlyStopping"

pytestmark = pytest.mark.usefixtures("quick_calls")


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run. Tests do not change it."""
    folder = tmp_path_factory.mktemp("honest") / "run"
    assert_succeeded(call_program("train.py", *TYPED, f"hydra.run.dir={folder}"))
    return folder


@pytest.fixture
def folder(honest: Path, tmp_path: Path) -> Path:
    """Return a copy of the run's folder."""
    return shutil.copytree(honest, tmp_path / "run")


def change(path: Path, changes: Callable[[Any], Any]) -> None:
    """Change the content of a JSON or YAML file."""
    read, write = (json.loads, json.dumps) if path.suffix == ".json" else (yaml.safe_load, yaml.safe_dump)
    content = read(path.read_text())
    changes(content)
    path.write_text(write(content))


def resume(folder: Path, *typed: str) -> Done:
    return call_program("train.py", f"resume={folder}", "trainer.max_epochs=2", *typed)


def assert_one_line(done: Done) -> None:
    """Check for exit status 0, or for exit status 1 and one line."""
    assert "Traceback" not in done.stderr, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == len(lines) <= 1, done.stderr


# Code


CODE = {"_target_": "subprocess.check_output", "args": ["touch", "executed"]}


@pytest.mark.parametrize(
    "entry",
    [
        {"_target_": "lightning.pytorch.callbacks.ModelSummary", "max_depth": CODE},
        {"_target_": STOPPING, "monitor": "val/perplexity", "mode": [{"deep": CODE}]},
        CODE,
        "subprocess.check_output",
    ],
)
@pytest.mark.parametrize("group", ["callbacks", pytest.param("logger", marks=pytest.mark.slow)])
def test_code_in_recorded_entries(group: str, entry: Any, folder: Path) -> None:
    change(folder / "summary.json", lambda summary: summary["settings"][group].update(x=entry))
    done = resume(folder)
    assert_one_line(done)
    assert done.returncode == 1 and f"{group}.x" in done.stderr
    assert not Path("executed").exists()


def test_recorded_overrides_are_ignored(folder: Path, honest: Path) -> None:
    """Hydra's settings are ignored as well: folders, a search path, environment variables, callbacks."""
    other = shutil.copytree(honest, folder.parent / "other")
    before = {path: path.read_bytes() for path in other.rglob("*") if path.is_file()}
    git, own = Path("evil/git"), folder / "conf/recipe/evil.yaml"
    for path, text in (
        (git, f"#!/bin/sh\ntouch {Path('executed').absolute()}\n"),
        (own, "# @package _global_\ncallbacks: {x: {_target_: os.abort}}\n"),
    ):
        path.parent.mkdir(parents=True)
        path.write_text(text)
    git.chmod(0o755)
    source = {"provider": "command-line", "path": str(folder / "conf"), "schema": "file"}
    change(folder / ".hydra/hydra.yaml", lambda it: it["hydra"]["runtime"]["config_sources"].append(source))
    lines = [f"hydra.run.dir={other}", "--help", "--cfg=all", "-m", "recipe=evil", "++callbacks.x._target_=os.abort"]
    search = f"{Path('evil').absolute()}:{os.environ['PATH']}"
    for spelling in ("+hydra", "hydra@_global_"):
        lines.append(f"{spelling}.job.env_set={{PATH: '{search}', WANDB_BASE_URL: 'http://127.0.0.1:9'}}")
        lines.append(f"{spelling}.callbacks.note={{_target_: shutil.copyfile, src: evil/git, dst: executed}}")
    change(folder / ".hydra/overrides.yaml", lambda overrides: overrides.extend(lines))
    change(folder / "summary.json", lambda summary: summary["overrides"].extend(lines))
    change(folder / "summary.json", lambda summary: summary["settings"].update(resume=str(other)))
    assert_succeeded(resume(folder))
    assert not Path("executed").exists()
    assert {path: path.read_bytes() for path in other.rglob("*") if path.is_file()} == before
    assert json.loads((folder / "summary.json").read_text())["metrics"]["epoch"] == 2


# Locations of data


LOGGERS, CHECKPOINTS = "lightning.pytorch.loggers", "lightning.pytorch.callbacks.ModelCheckpoint"


@pytest.mark.parametrize(
    ("group", "name", "entry"),
    [
        ("logger", "x", {"_target_": f"{LOGGERS}.WandbLogger", "settings": {"base_url": "http://127.0.0.1:9"}}),
        ("logger", "x", {"_target_": f"{LOGGERS}.MLFlowLogger", "tracking_uri": "http://127.0.0.1:9"}),
        ("logger", "x", {"_target_": f"{LOGGERS}.CSVLogger", "save_dir": ".", "name": "../outside"}),
        ("logger", "x", {"_target_": f"{LOGGERS}.CSVLogger", "save_dir": "outside", "name": ""}),
        ("callbacks", "x", {"_target_": CHECKPOINTS, "dirpath": "{outside}"}),
        ("callbacks", "x", {"_target_": CHECKPOINTS, "dirpath": "outside"}),
        ("callbacks", "x", {"_target_": CHECKPOINTS, "dirpath": "memory://outside"}),
        ("callbacks", "../../outside", {"_target_": CHECKPOINTS}),
        ("callbacks", "{outside}", {"_target_": CHECKPOINTS}),
    ],
)
def test_recorded_places_elsewhere(group: str, name: str, entry: dict[str, Any], folder: Path) -> None:
    outside = str(Path("outside").absolute())
    entry = {key: it.replace("{outside}", outside) if isinstance(it, str) else it for key, it in entry.items()}
    name = name.replace("{outside}", outside)
    change(folder / "summary.json", lambda summary: summary["settings"][group].update({name: entry}))
    done = resume(folder)
    assert_one_line(done)
    assert done.returncode == 1 and f"{group}.{name}" in done.stderr
    assert not Path("outside").exists() and not Path("../outside").exists()
    assert_succeeded(resume(folder, f"{group}={'csv' if group == 'logger' else 'none'}"))


# Links


@pytest.mark.parametrize("name", ["checkpoints", ".hydra", "summary.json", "metrics.csv", "summary.json.part", ".lock"])
def test_links_to_the_outside(name: str, folder: Path) -> None:
    outside = Path("outside")
    if (folder / name).exists():
        shutil.move(folder / name, outside)
    else:
        outside.write_text("a user's own")
    (folder / name).symlink_to(outside.absolute())
    before = {path: path.read_bytes() for path in [outside, *outside.rglob("*")] if path.is_file()}
    done = resume(folder)
    assert_one_line(done)
    assert done.returncode == 1 and "resume=" in done.stderr
    assert {path: path.read_bytes() for path in [outside, *outside.rglob("*")] if path.is_file()} == before


# Damage


def other_value(draw: random.Random) -> Any:
    """Draw a JSON value of any type."""
    deep: Any = []
    for _ in range(draw.choice([1, 50])):
        deep = [deep]
    return draw.choice([None, True, -1, 1e300, 3, "", "nan", "../x", "=1+1", "\x1b[31m", [], {}, {"a": 1}, [[]], deep])


def damage(folder: Path, draw: random.Random) -> str:
    """Damage one file of a run and return a description."""
    name = draw.choice(["summary.json"] * 4 + ["metrics.csv", "steps.csv", ".hydra/hydra.yaml", ".hydra/overrides.yaml",
                        "epochs.safetensors", "model.safetensors", "checkpoints/last.ckpt"])  # fmt: skip
    path, how = folder / name, draw.choice(["cut", "flip", "zero", "shape", "shape", "shape"])
    content = bytearray(path.read_bytes())
    position = draw.randrange(len(content))
    if how == "shape" and path.suffix == ".json":
        summary = json.loads(content)
        node, key = summary, draw.choice(sorted(summary))
        while isinstance(node[key], dict) and node[key] and draw.random() < 0.8:
            node, key = node[key], draw.choice(sorted(node[key]))
        if draw.random() < 0.2:
            how = f"without {key}"
            del node[key]
        else:
            node[key] = other_value(draw)
            how = f"{key}={str(node[key])[:40]}"
        path.write_text(json.dumps(summary))
    elif how == "shape":
        how = f"byte {position} and more inserted"
        content[position:position] = bytes(draw.randrange(256) for _ in range(draw.randrange(1, 20)))
        path.write_bytes(content)
    else:
        content[position:] = {"cut": b"", "zero": bytes(len(content) - position)}.get(how, content[position:])
        if how == "flip":
            content[position] ^= draw.randrange(1, 256)
        path.write_bytes(content)
    return f"{name}: {how} at {position}"


def load() -> None:
    """Load a run in Python, as a program whose argument is the folder."""
    try:
        run = load_run(sys.argv[1])
        assert run.data.vocab.idx_to_token == run.vocab.idx_to_token and run.model
    except SettingError as error:
        sys.exit(f"error: {error}")


COMMANDS: dict[str, tuple[Callable[[], None] | None, list[str]]] = {
    "train.py": (None, ["resume={folder}", "trainer.max_epochs=2"]),
    "generate.py": (None, ["run={folder}", "num_preds=3"]),
    "evaluate.py": (None, ["run={folder}", "data.corpus=sample"]),
    "page": (page.main, ["run={folder}"]),
    "report": (report.main, ["{folder.parent}"]),
    "load_run": (load, ["{folder}"]),
}


@pytest.mark.parametrize("seed", [*range(5), *(pytest.param(it, marks=pytest.mark.torture) for it in range(5, CASES))])
def test_damaged_folders(seed: int, folder: Path) -> None:
    """Each program prints one line or succeeds, and writes nothing outside the folder."""
    draw = random.Random(seed)
    what, program = damage(folder, draw), draw.choice(["train.py", *COMMANDS])
    main, arguments = COMMANDS[program]
    Path("here").mkdir()
    os.chdir("here")
    print(program, what)
    assert_one_line(call_program(program, *(it.format(folder=folder) for it in arguments), main=main))
    assert not [*Path().iterdir()]
