"""A run's folder from somebody else: nothing in it is executed, nothing outside it changes, and damage is one line.

The commands of a security review, each as a test; then folders that are damaged at random.
"""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.proof.tally import SHARD, Note, Tally, shards
from tests.support.programs import Done, assert_succeeded, call_program

CASES = int(os.environ.get("CASES", 250)) // 5  # `make torture`: 2,000
TYPED = ["data=sample", "data.num_train=64", "data.num_val=64", "model.hiddens=2", "trainer=cpu", "logger=csv"]
TYPED += ["trainer.max_epochs=1"]
STOPPING = "lightning.pytorch.callbacks.EarlyStopping"

pytestmark = pytest.mark.usefixtures("quick_calls")


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, which no test changes."""
    folder = tmp_path_factory.mktemp("honest") / "run"
    assert_succeeded(call_program("train.py", *TYPED, f"hydra.run.dir={folder}"))
    return folder


@pytest.fixture
def folder(honest: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(honest, tmp_path / "run")


def change(path: Path, changes: Callable[[Any], Any]) -> None:
    """Change what a file in JSON or YAML holds."""
    read, write = (json.loads, json.dumps) if path.suffix == ".json" else (yaml.safe_load, yaml.safe_dump)
    content = read(path.read_text())
    changes(content)
    path.write_text(write(content))


def resume(folder: Path, *typed: str) -> Done:
    return call_program("train.py", f"resume={folder}", "trainer.max_epochs=2", *typed)


def assert_one_line(done: Done) -> None:
    """Exit status 0, or 1 and one line."""
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
        {"_target_": "subprocess.check_output", "args": ["touch", "executed"]},
        {"_target_": "os.system", "command": "touch executed"},
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


@pytest.mark.parametrize("spelling", ["+hydra", pytest.param("hydra@_global_", marks=pytest.mark.slow)])
def test_recorded_overrides_are_ignored(spelling: str, folder: Path) -> None:
    """Hydra's own settings among them: a search path, environment variables, callbacks."""
    Path("evil").mkdir()
    git = Path("evil/git")
    git.write_text(f"#!/bin/sh\ntouch {Path('executed').absolute()}\n")
    git.chmod(0o755)
    overrides = folder / ".hydra/overrides.yaml"
    path = f"{Path('evil').absolute()}:{os.environ['PATH']}"
    lines = [f"{spelling}.job.env_set={{PATH: '{path}', WANDB_BASE_URL: 'http://127.0.0.1:9'}}"]
    lines += [f"{spelling}.callbacks.note={{_target_: shutil.copyfile, src: evil/git, dst: executed}}"]
    lines += ["--help", "--cfg=all", "-m", "recipe=evil", "++callbacks.x._target_=os.abort"]
    overrides.write_text(yaml.safe_dump([*yaml.safe_load(overrides.read_text()), *lines]))
    change(folder / "summary.json", lambda summary: summary["overrides"].extend(lines))
    assert_succeeded(resume(folder))
    assert not Path("executed").exists()


def test_recorded_folder_is_ignored(folder: Path, honest: Path) -> None:
    """The run that is trained on is the one whose folder is typed."""
    other = shutil.copytree(honest, folder.parent / "other")
    before = {path: path.read_bytes() for path in other.rglob("*") if path.is_file()}
    change(folder / ".hydra/overrides.yaml", lambda lines: lines.append(f"hydra.run.dir={other}"))
    change(folder / "summary.json", lambda summary: summary["settings"].update(resume=str(other)))
    assert_succeeded(resume(folder))
    assert {path: path.read_bytes() for path in other.rglob("*") if path.is_file()} == before
    assert json.loads((folder / "summary.json").read_text())["metrics"]["epoch"] == 2


def test_recorded_search_path_is_ignored(folder: Path) -> None:
    own = folder / "conf/recipe"
    own.mkdir(parents=True)
    (own / "evil.yaml").write_text("# @package _global_\ncallbacks: {x: {_target_: os.abort}}\n")
    source = {"provider": "command-line", "path": str(folder / "conf"), "schema": "file"}
    change(folder / ".hydra/hydra.yaml", lambda it: it["hydra"]["runtime"]["config_sources"].append(source))
    change(folder / ".hydra/overrides.yaml", lambda lines: lines.append("recipe=evil"))
    assert_succeeded(resume(folder))


# Where data goes


@pytest.mark.parametrize(
    ("group", "entry"),
    [
        (
            "logger",
            {"_target_": "lightning.pytorch.loggers.WandbLogger", "settings": {"base_url": "http://127.0.0.1:9"}},
        ),
        ("logger", {"_target_": "lightning.pytorch.loggers.MLFlowLogger", "tracking_uri": "http://127.0.0.1:9"}),
        ("logger", {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": "{outside}"}),
        ("logger", {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": ".", "name": "../outside"}),
        ("logger", {"_target_": "lightning.pytorch.loggers.CSVLogger", "save_dir": "outside", "name": ""}),
        ("callbacks", {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "dirpath": "{outside}"}),
        ("callbacks", {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "dirpath": "outside"}),
        ("callbacks", {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "dirpath": "memory://outside"}),
    ],
)
def test_recorded_places_elsewhere(group: str, entry: dict[str, Any], folder: Path) -> None:
    entry = {name: it.format(outside=Path("outside").absolute()) if isinstance(it, str) else it
             for name, it in entry.items()}  # fmt: skip
    change(folder / "summary.json", lambda summary: summary["settings"][group].update(x=entry))
    done = resume(folder)
    assert_one_line(done)
    assert done.returncode == 1 and f"{group}.x" in done.stderr and not Path("outside").exists()
    assert_succeeded(resume(folder, f"{group}={'csv' if group == 'logger' else 'none'}"))


@pytest.mark.parametrize("name", ["../../outside", "{outside}"])
def test_recorded_names_that_are_paths(name: str, folder: Path) -> None:
    name = name.format(outside=Path("outside").absolute())
    entry = {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint"}
    change(folder / "summary.json", lambda summary: summary["settings"]["callbacks"].update({name: entry}))
    done = resume(folder)
    assert_one_line(done)
    assert done.returncode == 1 and not Path("outside").exists() and not Path("../outside").exists()


def test_recorded_callback_and_logger_resume() -> None:
    entries = [f"+callbacks.stop._target_={STOPPING}", "+callbacks.stop.monitor=val/perplexity"]
    entries += ["+logger.table._target_=lightning.pytorch.loggers.CSVLogger"]
    assert_succeeded(call_program("train.py", *TYPED, *entries, "hydra.run.dir=run"))
    assert_succeeded(resume(Path("run")))
    settings = json.loads(Path("run/summary.json").read_text())["settings"]
    assert settings["callbacks"]["stop"]["monitor"] == "val/perplexity" and "table" in settings["logger"]


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
    """A value of any kind that JSON has."""
    deep: Any = []
    for _ in range(draw.choice([1, 50])):
        deep = [deep]
    return draw.choice([None, True, -1, 1e300, 3, "", "nan", "../x", "=1+1", "\x1b[31m", [], {}, {"a": 1}, [[]], deep])


def damage(folder: Path, draw: random.Random) -> str:
    """Damage one file of a run in one way, and return what was done."""
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


COMMANDS: dict[str, list[str]] = {
    "train.py": ["resume={}", "trainer.max_epochs=2"],
    "generate.py": ["run={}", "num_preds=3"],
    "evaluate.py": ["run={}", "data.corpus=sample"],
}
TORTURE = [pytest.mark.slow, pytest.mark.torture]


@pytest.mark.parametrize(("number", "cases"), [(0, 5), *(pytest.param(*it, marks=TORTURE) for it in shards(CASES))])
def test_damaged_folders(number: int, cases: int, honest: Path, tmp_path: Path, record_property: Note) -> None:
    """Each program answers with one line, or as if nothing were wrong, and writes nothing outside the folder."""
    draw, tally = random.Random(number), Tally("damaged folders")
    Path("here").mkdir()
    os.chdir("here")
    for _ in range(cases):
        folder = shutil.copytree(honest, tmp_path / "run")
        what, program = damage(folder, draw), draw.choice(["train.py", *COMMANDS])
        again = f"python -m pytest -m slow tests/run/test_hostile_folders.py -k 'damaged and {number}-'"
        with tally.case(f"CASES={5 * (number + 1) * SHARD} {again}  # {program}, {what}"):
            assert_one_line(call_program(program, *(it.format(folder) for it in COMMANDS[program])))
            assert not [*Path().iterdir()]
        shutil.rmtree(folder)
    tally.end(record_property)


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [["corpus", "source"], ["corpus", "sha256"], ["settings", "data"], ["settings", "data", "tokens"], ["corpus"]],
)
def test_missing_entries(names: list[str], folder: Path) -> None:
    def remove(summary: Any) -> None:
        for name in names[:-1]:
            summary = summary[name]
        del summary[names[-1]]

    change(folder / "summary.json", remove)
    for program, typed in COMMANDS.items():
        assert_one_line(call_program(program, *(it.format(folder) for it in typed)))


@pytest.mark.slow
def test_damaged_job_of_a_sweep() -> None:
    sweep = ["-m", *TYPED, "seed=0,1", "hydra.sweep.dir=sweep"]
    assert_succeeded(call_program("train.py", *sweep))
    Path("sweep/0/summary.json").write_text("[]")
    done = call_program("train.py", *sweep, "resume=sweep")
    assert_one_line(done)
    assert done.returncode == 1 and "summary.json" in done.stderr


@pytest.mark.parametrize("depth", [3_000, 100_000])
def test_deep_nesting(depth: int, folder: Path) -> None:
    (folder / "summary.json").write_text("[" * depth)
    (folder / ".hydra/hydra.yaml").write_text("[" * depth)
    for program, typed in COMMANDS.items():
        done = call_program(program, *(it.format(folder) for it in typed))
        assert_one_line(done)
        assert done.returncode == 1
