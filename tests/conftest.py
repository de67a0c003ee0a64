"""Fixtures for all tests: no network, no accounts, one thread, and programs run from an empty folder."""

import base64
import functools
import os
from dataclasses import replace
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # set before importing torch; two threads on two busy cores spin

import pytest
import torch
from hydra._internal.hydra import Hydra
from hypothesis import settings
from matplotlib.figure import Figure

from tests.support.programs import Program as Program
from tests.support.programs import run_program
from timemachine.config import REPOSITORY
from timemachine.corpus import Corpus, find_corpus
from timemachine.texts import CATALOGUE

# A PNG of one pixel.
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==")
NOVELS = REPOSITORY / "../shared/corpora"

settings.register_profile("project", deadline=None, max_examples=50)  # timings vary on two busy cores
settings.load_profile("project")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _stranger(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder without the developer's accounts, cache or network."""
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    for name in [name for name in os.environ if name.startswith(("WANDB_", "SLURM_", "PL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    # For all tests, since each program would otherwise search the machine for fonts.
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path_factory.getbasetemp() / "matplotlib"))
    for proxy in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # connections are refused immediately
        monkeypatch.setenv(proxy.upper(), "http://127.0.0.1:9")


@pytest.fixture
def sample() -> Corpus:
    """Return the text that ships with the project."""
    return find_corpus("sample", [])


@pytest.fixture
def excerpt(sample: Corpus) -> Corpus:
    return replace(sample, characters=sample.characters[:900])


@pytest.fixture
def novels() -> Path:
    if not all((NOVELS / f"{name}.txt").is_file() for name in CATALOGUE):
        pytest.skip("the real novels are absent")
    return NOVELS


@pytest.fixture
def quick_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save 40% of the time of a small run in `call_program`.

    Hydra composes the settings once instead of twice, which assumes that the run is no sweep, and matplotlib draws no
    curves.
    """
    monkeypatch.setattr(Hydra, "get_mode", lambda *_, **__: None)
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **_: file.write(PIXEL))


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Run `train.py`, `evaluate.py` or `generate.py` in an empty folder and return its output."""
    return functools.partial(run_program, cwd=tmp_path)
