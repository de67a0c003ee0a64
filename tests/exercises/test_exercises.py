"""The exercises at their smallest scale, as started from the command line, and the registry of probes."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from timemachine.config import REPOSITORY, Tokens
from timemachine.corpus import Corpus, find_corpus
from timemachine.errors import SettingError
from timemachine.exercises import probes
from timemachine.run.jobs import load_jobs

EXERCISES = sorted(file.stem for file in (REPOSITORY / "conf/exercise").glob("*.yaml") if file.stem != "none")
QUICK = ("one_hot_is_embedding",)
SMOKE = ["scale=smoke", "data=sample", "data.num_train=2000", "data.num_val=500", "trainer.max_epochs=2"]
SMOKE += ["hydra.launcher.n_jobs=1"]  # workers would import everything again


@pytest.mark.parametrize("exercise", [pytest.param(e, marks=[] if e in QUICK else pytest.mark.slow) for e in EXERCISES])
def test_every_exercise_ends_in_a_report(exercise: str, program: Any, tmp_path: Path) -> None:
    done = program("train.py", f"exercise={exercise}", *SMOKE)
    assert done.returncode == 0, done.stderr
    (sweep,) = (tmp_path / "sweeps" / exercise).iterdir()
    report = (sweep / "report.md").read_text()
    for heading in ("# ", "## Setup", "## Results"):
        assert heading in report
    assert len((sweep / "summary.csv").read_text().splitlines()) == 1 + len(load_jobs(sweep))


OF_TOKENS = sorted(file.stem for file in (REPOSITORY / "conf/grid/full/next_edition").glob("*.yaml"))
TINY = ["data.corpus=sample", "data.num_train=1000", "data.num_val=500", "model.hiddens=8", "model.embedding_dim=8",
        "data.start=0", "hydra.launcher.n_jobs=1"]  # fmt: skip
SHORT = {"history": "trainer.max_steps=5", "hyperparameters": "trainer.max_steps=10"}


@pytest.mark.slow
@pytest.mark.parametrize("exercise", OF_TOKENS)
def test_exercises_of_the_next_edition(exercise: str, program: Any, tmp_path: Path) -> None:
    """They read tokens: the report has another title, and bits per byte where it has a table."""
    short = SHORT.get(exercise, "trainer.max_epochs=5")
    done = program("train.py", f"exercise={exercise}", "recipe=next_edition", *TINY, short)
    assert done.returncode == 0, done.stderr
    (sweep,) = (tmp_path / "sweeps" / exercise).iterdir()
    assert (sweep / "report.md").read_text().startswith("# Next edition, exercise ")
    assert {job.status for job in load_jobs(sweep)} <= {"completed", "diverged"}


def test_probes_measure(sample: Corpus) -> None:
    for module in probes.PROBES.values():
        assert callable(importlib.import_module(f"timemachine.exercises.{module}").measure)
    probes.check([*probes.PROBES], sample)


@pytest.mark.parametrize(
    ("names", "tokens", "cell"),
    [
        *(
            (["stream", name], Tokens.letters, "rnn")
            for name in ("trigram", "clipping", "how_low", "../exercises/relu")
        ),
        *(([name], Tokens.characters, "rnn") for name in ("samples", "books", "reading")),
        (["stream", "weights"], Tokens.letters, "gru"),
    ],
)
def test_invalid_probes_are_rejected(names: list[str], tokens: Tokens, cell: str) -> None:
    """Unknown probes, and probes that require the book's letters or its cell."""
    with pytest.raises(SettingError, match=rf"^probes=\[{re.escape(','.join(names))}\]: .*{re.escape(names[-1])}"):
        probes.check(names, find_corpus("sample", [], tokens), cell)
