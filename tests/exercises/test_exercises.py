"""The exercises at their smallest scale, as started from the command line, and the registry of probes."""

import re
from pathlib import Path

import pytest

from tests.support.gpu import on_a_gpu
from tests.support.programs import TINY as TINY_RUN
from tests.support.programs import call_program
from timemachine.config import REPOSITORY
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.language_model import RNNLMScratch
from timemachine.run import artifacts
from timemachine.run.summary import read_summary
from timemachine.study.jobs import load_jobs
from timemachine.study.probes import PROBES, load_probes

EXERCISES = sorted(file.stem for file in (REPOSITORY / "conf/exercise").glob("*.yaml") if file.stem != "none")
QUICK = "one_hot_is_embedding"
SMOKE = ["scale=smoke", "data.corpus=sample", "data.num_train=2000", "data.num_val=500", "trainer.max_epochs=2"]
TINY = ["recipe=next_edition", "data.corpus=sample", "data.vocab_size=300", "data.num_train=1000", "data.num_val=500",
        "model.hiddens=8", "model.embedding_dim=8", "data.start=0"]  # fmt: skip
SHORT = {"history": ["trainer.max_steps=5"], "hyperparameters": ["trainer.max_steps=10", "data.num_steps=8"]}
OF_TOKENS = sorted(file.stem for file in (REPOSITORY / "conf/grid/full/next_edition").glob("*.yaml"))
OTHER = {"recall": ["data.corpus=recall"]}  # which its probe requires
SWEEPS = [(exercise, SMOKE + OTHER.get(exercise, [])) for exercise in EXERCISES if exercise != QUICK]
SWEEPS += [(exercise, TINY + SHORT.get(exercise, ["trainer.max_epochs=5"])) for exercise in OF_TOKENS]


@pytest.mark.parametrize(
    ("exercise", "typed"), [(QUICK, SMOKE), *(pytest.param(*it, marks=pytest.mark.slow) for it in SWEEPS)]
)
def test_every_exercise_ends_in_a_report(
    exercise: str, typed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "write_curves", lambda *_: None)  # a fifth of the time
    here = "hydra.launcher.n_jobs=1"  # workers would import again
    done = call_program("train.py", f"exercise={exercise}", *typed, here)
    assert done.returncode == 0, done.stderr
    (sweep,) = (tmp_path / "sweeps" / exercise).iterdir()
    report, jobs = (sweep / "report.md").read_text(), load_jobs(sweep)
    assert all(part in report for part in ("# ", "figure.png", "## Results", "## Setup"))
    assert len((sweep / "summary.csv").read_text().splitlines()) == 1 + len(jobs)
    assert {job.status for job in jobs} <= {"completed", "diverged"}


PROBES_OF_TEXTS = {*PROBES} - {"recall"}


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ([], PROBES_OF_TEXTS), (["data.corpus=recall"], {"recall"}),
        (["model=regularized", "model.carry_state=true"], PROBES_OF_TEXTS - {"differences"}),
    ],
)  # fmt: skip
def test_probes_after_a_fit_on_a_gpu(settings: list[str], names: set[str], tmp_path: Path) -> None:
    """Lightning moves the model back to the CPU, but no tensor of a data module."""
    short = ["trainer=cpu", "trainer.max_epochs=1", "trainer.max_steps=10", "data.batch_size=64"]
    with on_a_gpu() as moved:
        done = call_program("train.py", *TINY_RUN, *settings, *short, f"probes=[{','.join(sorted(names))}]")
    assert done.returncode == 0 and moved, done.stderr
    (folder,) = tmp_path.glob("outputs/*/*")
    assert read_summary(folder)["probes"].keys() == names
    assert (folder / "sample.txt").exists() and (folder / "page.html").exists()


@pytest.mark.parametrize(
    ("names", "tokens", "cell"),
    [
        *((["stream", name], "letters", "rnn") for name in ("trigram", "../exercises/relu")),
        *(([name], "characters", "rnn") for name in ("samples", "books", "reading")),
        (["stream", "differences"], "letters", "gru"),
    ],
)
def test_invalid_probes_are_rejected(names: list[str], tokens: str, cell: str) -> None:
    """Unknown probes, and probes that require the book's letters or its cell."""
    data = TimeMachine(64, 8, 200, 100, tokens=tokens, corpus="sample")
    with pytest.raises(SettingError, match=rf"^probes=\[{re.escape(','.join(names))}\]: "):
        load_probes(names, data, RNNLMScratch(len(data.vocab), cell=cell))
