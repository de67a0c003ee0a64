"""Folders as a stranger may send them: whatever a file in them says, each program reads it, or says one line.

One entry of one file is another value, is missing, or is doubled, and each reader of that file is called, in this
process. Bytes that are flipped in checkpoints and exports are `test_checkpoints.py`'s.
"""

import json
import math
import os
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from tests.proof.tally import Note, Tally, shards
from tests.support.jobs import leave_job
from tests.test_fuzz import folder as folder
from tests.test_fuzz import typed
from timemachine.runs.checkpoints import read_safetensors, write_safetensors

CASES = int(os.environ.get("CASES", 250)) // 5
SMALL = ["data=sample", "data.num_train=300", "data.num_val=100", "data.batch_size=128", "data.num_steps=8"]
SMALL += ["model.hiddens=4", "model.lr=2", "logger=csv", "trainer.max_epochs=1"]
RUN = [*SMALL, "hydra.run.dir=run"]
SWEEP = ["-m", *SMALL, "hydra.sweep.dir=sweep", "seed=0,1"]
ODD: list[Any] = [
    None, True, -1, 0, 7, 0.5, 1e300, 10**30, float("nan"), "", "x", "nan", "1e999", "\33[31mred", "a\nb", "../..", "/",
    "${seed}", [], {}, [[]], [1], ["x"], {"a": 1}, {"_target_": "os.mkdir", "path": "executed"}, "executed\0", "é🙂",
    "x" * 10_000,
]  # fmt: skip

Tree = Any
Reader = tuple[str, list[str]]

EVALUATES, GENERATES = ("evaluate.py", ["run=run"]), ("generate.py", ["run=run"])
EXPORT = "run=run/model.safetensors"
RESUMES = ("train.py", ["resume=run", "trainer.max_epochs=2"])
RESUMES_SWEEP = ("train.py", [*SWEEP, "resume=sweep"])
RESUMES_JOB = ("train.py", ["resume=sweep/0", "trainer.max_epochs=2"])
REPORTS, PAGE = ("timemachine.report", ["sweep"]), ("timemachine.page.__main__", ["run=run"])
READERS: dict[str, list[Reader]] = {
    "run/summary.json": [RESUMES, EVALUATES, GENERATES, PAGE],
    "run/.hydra/overrides.yaml": [RESUMES],
    "run/.hydra/config.yaml": [RESUMES],
    "run/.hydra/hydra.yaml": [RESUMES],
    "run/metrics.csv": [RESUMES],
    "run/steps.csv": [RESUMES],
    "run/checkpoints/last.ckpt": [RESUMES, EVALUATES, GENERATES, PAGE],
    "run/model.safetensors": [("evaluate.py", [EXPORT]), ("generate.py", [EXPORT])],
    "sweep/multirun.yaml": [RESUMES_SWEEP, REPORTS],
    "sweep/0/summary.json": [RESUMES_JOB],  # what a report makes of a damaged job is a traceback
    "sweep/0/.hydra/overrides.yaml": [RESUMES_SWEEP, RESUMES_JOB],
    "sweep/0/metrics.csv": [RESUMES_JOB],
    "sweep/0/steps.csv": [RESUMES_JOB],
}


def changed(tree: Tree, draw: random.Random) -> Tree:
    """The same with one entry, at any depth, replaced, removed or doubled."""
    if isinstance(tree, dict | list) and tree and draw.random() < 0.85:
        key = draw.choice(list(tree) if isinstance(tree, dict) else range(len(tree)))
        copy = tree.copy()
        if draw.random() < 0.1:
            del copy[key]
        elif isinstance(copy, list) and draw.random() < 0.1:
            copy.append(copy[key])
        else:
            copy[key] = changed(tree[key], draw)
        return copy
    return draw.choice(ODD)


def change_json(path: Path, draw: random.Random) -> None:
    path.write_text(json.dumps(changed(json.loads(path.read_text()), draw)))


def change_yaml(path: Path, draw: random.Random) -> None:
    path.write_text(yaml.safe_dump(changed(yaml.safe_load(path.read_text()), draw)))


def change_table(path: Path, draw: random.Random) -> None:
    cells = changed([line.split(",") for line in path.read_text().splitlines()], draw)
    lines = cells if isinstance(cells, list) else [cells]
    path.write_text("".join(",".join(map(str, line if isinstance(line, list) else [line])) + "\n" for line in lines))


def change_checkpoint(path: Path, draw: random.Random) -> None:
    torch.save(changed(torch.load(path, weights_only=True), draw), path)


def change_export(path: Path, draw: random.Random) -> None:
    """One whose checksum is right."""
    weights, about = read_safetensors(path)
    weights = {str(name): weight for name, weight in changed(weights, draw).items()} if draw.random() < 0.2 else weights
    entry = draw.choice(list(about))
    write_safetensors(path, weights, about | {entry: changed(about[entry], draw)})


CHANGES: dict[str, Callable[[Path, random.Random], None]] = {
    ".json": change_json,
    ".yaml": change_yaml,
    ".csv": change_table,
    ".ckpt": change_checkpoint,
    ".safetensors": change_export,
}


def fuzz_folders(number: int, cases: int) -> Tally:
    tally, draw = Tally("folders of strangers"), random.Random(number)
    for begins in (RUN, SWEEP):
        status, _, errors = typed(*begins)
        assert status == 0, errors
    shutil.copytree(".", "../sound")
    for _ in range(cases):
        shutil.rmtree(".", ignore_errors=True)  # the folder itself stays: this process is in it
        shutil.copytree("../sound", ".", dirs_exist_ok=True)
        name = draw.choice(list(READERS))
        try:
            CHANGES[Path(name).suffix](Path(name), draw)
        except (AttributeError, TypeError, ValueError):  # there is no such file
            continue
        program, arguments = draw.choice(READERS[name])
        content = Path(name).read_bytes()
        with tally.case(f"{name} = {content[:5000]!r}; {program} {' '.join(arguments)}"):
            status, output, errors = typed(*arguments, program=program)
            said = f"{status}\n{output}\n{errors}"
            assert status in (0, 1) and "Traceback" not in errors, said
            assert status == 0 or errors.splitlines()[-1].startswith("error: "), said
            assert errors.isascii() or errors.replace("\n", "").isprintable(), said
            assert not Path("executed").exists(), said
    return tally


def test_some_folders(folder: Path, record_property: Note) -> None:
    fuzz_folders(0, 10).end(record_property)


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.parametrize(("number", "cases"), shards(CASES))
def test_many_folders(number: int, cases: int, folder: Path, record_property: Note) -> None:
    fuzz_folders(number, cases).end(record_property)


@pytest.mark.parametrize("started", [None, 3, math.nan, "nan", "9999-12-31T23:59:59+0000"])
def test_a_job_that_began_at_no_time(started: object, folder: Path) -> None:
    assert typed(*SWEEP)[0] == 0
    path = Path("sweep/0/summary.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"started": started}))
    status, _, errors = typed(*SWEEP, "resume=sweep")
    assert status in (0, 1) and errors.count("\n") == status


def test_a_table_with_a_number_that_is_too_large(folder: Path) -> None:
    assert typed(*RUN)[0] == 0
    path = Path("run/metrics.csv")
    path.write_text(f"{path.read_text().splitlines()[0]}\n1e999\n")
    status, _, errors = typed("resume=run", "trainer.max_epochs=2")
    assert status == 1 and errors.startswith("error: resume=run: metrics.csv is damaged (") and errors.count("\n") == 1


class Executed:
    """An object whose pickle makes a folder when it is read."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("executed",)


def job_of(exercise: str) -> Path:
    """The job of a sweep of an exercise, as it is left where nothing is damaged."""
    choices = {"hydra": {"runtime": {"choices": {"exercise": exercise}}}}
    settings = {"seed": 0, "model": {"activation": "relu", "sigma": 0.01, "lr": 1.0}, "data": {"num_train": None}}
    settings |= {"trainer": {"gradient_clip_val": None}}
    numbers = {"train": {"perplexity": 3.0}, "val": {"perplexity": 4.0}}
    job = leave_job(Path("of_exercise"), settings, metrics={"val/perplexity": 4.0}, probes={"reading": numbers})
    Path("of_exercise/multirun.yaml").write_text(yaml.safe_dump(choices))
    return job


@pytest.mark.parametrize("damage", ["sound", "pickle", "shape", "kind", "bytes", "missing"])
def test_what_an_exercise_measured_is_numbers_and_never_executed(damage: str, folder: Path) -> None:
    job = job_of("how_low")
    arrays: dict[str, Any] = {f"val_{name}": np.ones(200) for name in ("adaptive", "kneser_ney", "mixture")}
    arrays |= {"val": np.ones(200), "val_mixture_adaptive": np.ones(200)}
    arrays |= {"val_place": np.zeros(200, int), "val_since": np.zeros(200, int)}
    arrays["val"] = {"pickle": np.array([Executed()]), "shape": np.ones(7), "kind": np.full(200, "x")}.get(
        damage, arrays["val"]
    )
    if damage == "missing":
        del arrays["val_since"]
    np.savez(job / "reading.npz", **arrays)
    if damage == "bytes":
        (job / "reading.npz").write_bytes(b"PK\3\4 and more")
    if damage == "sound":
        assert typed("of_exercise", program="timemachine.report")[0] == 0
    else:
        with pytest.raises((ValueError, KeyError, TypeError, RuntimeError, OSError, zipfile.BadZipFile)):
            typed("of_exercise", program="timemachine.report")
    assert not Path("executed").exists()


@pytest.mark.parametrize("name", [".hydra", "checkpoints", "wandb", "summary.json", "metrics.csv", "model.safetensors"])
def test_a_file_in_a_folders_place_or_a_folder_in_a_files(name: str, folder: Path) -> None:
    status, _, errors = typed(*RUN)
    assert status == 0, errors
    path = Path("run", name)
    if path.is_dir():
        shutil.rmtree(path)
        path.write_text("a file")
    elif path.suffix:
        path.unlink()
        path.mkdir()
    else:
        path.write_text("a file")
    for program, arguments in (EVALUATES, GENERATES, PAGE, RESUMES):
        status, output, errors = typed(*arguments, program=program)
        assert status in (0, 1) and "Traceback" not in errors, f"{program}\n{output}\n{errors}"
        assert status == 0 or errors.splitlines()[-1].startswith("error: "), errors
