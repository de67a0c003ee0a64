"""Small versions of the exercises, started from the command line, and the registry of probes."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.gpu import on_a_gpu
from tests.support.programs import TINY as TINY_RUN
from tests.support.programs import call_program
from timemachine.config import REPOSITORY
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.language_model import RNNLMScratch
from timemachine.run.summary import read_summary
from timemachine.study import figures
from timemachine.study.jobs import load_jobs
from timemachine.study.probes import load_probes

EXERCISES = sorted(file.stem for file in (REPOSITORY / "conf/exercise").glob("*.yaml") if file.stem != "none")
OF_TOKENS = sorted(file.stem for file in (REPOSITORY / "conf/exercise/next_edition").glob("*.yaml"))
QUICK = "one_hot_is_embedding"
SAMPLE = "data.corpus=sample data.num_train=2000 data.num_val=500 trainer.max_epochs=2"
CELLS = (
    "rates.small.updates=20 rates.small.rnn.hiddens=12 rates.small.gru.hiddens=6 network.size=small model.cell=rnn,gru"
)
SMALL = {  # fewer and shorter runs
    "cells": f"{CELLS} network.way=one_rate,faster,larger",
    "cells_reach": f"{CELLS} network.way=one_rate,faster",
    "cells_starts": "trainer.max_steps=20 network={hiddens:12,input:embedding},{cell:gru,hiddens:6,input:embedding} "
                    "network.trial={seed:10,corpus:sample,rate:a},{seed:0,corpus:sample,rate:a}",
    "cells_tuning": "data.start=0,2000 network={cell:rnn,hiddens:12,updates:20},{cell:gru,hiddens:6,updates:20} "
                    "rates={factor:1,lr:0.01},{factor:10,lr:0.01},{sigma:1,lr:0.01}",
    "clipping": "model.lr=1,8 trainer.gradient_clip_val=null,1 data.start=0",
    "embedding": "model={input:one_hot},{input_lr_factor:32},{input:embedding,embedding_dim:32} data.start=0,1000",
    "excerpts": "trainer.max_steps=20 data.start=0,1000 seed=0",
    "history": "data={num_steps:4,batch_size:10000},{num_steps:32,batch_size:1250} trainer.max_steps=40 data.start=0",
    "how_low": "network={hiddens:6},{hiddens:8} seed=0 trainer.limit_train_batches=20",
    "hyperparameters": "trainer.max_steps=200 trainer.check_val_every_n_epoch=1 data.start=0 data.num_steps=8,32 "
                       "model={hiddens:16,lr:1},{hiddens:16,lr:2}",
    "one_hot_is_embedding": "seed=0",
    "other_authors": "data.start=0,2000",
    "recall": "trainer.max_steps=20 trainer.val_check_interval=10 data.corpus=recall_4 "  # which its probe requires
              "network={start:rnn,corpus:recall_4,num_steps:9},{start:gru,corpus:recall_4,num_steps:9} "
              "network.trial={seed:10,rate:half},{seed:11,rate:half},{seed:0,rate:half}",
    "relu": "model.activation=relu callbacks.recurrent_weights.initial=null,1.3,identity model.lr=1 "
            "trainer.gradient_clip_val=null,1 data.start=0",
    "sampling": "data.start=0,1000",
    "small_data": "data.start=0,2000",
    "tying": "model.hiddens=16 model.embedding_dim=16 data.vocab_size=300 data.start=0",
    "vocabulary": "trainer.limit_train_batches=0.5 data.vocab_size=256,512 model.lr=0.012 data.start=0,2000",
    "war_of_the_worlds": "trainer.max_steps=153 data.start=0,2000",  # one epoch of the full novel
}  # fmt: skip
TINY = ["recipe=next_edition", "data.corpus=sample", "data.vocab_size=300", "data.num_train=1000", "data.num_val=500",
        "model.hiddens=8", "model.embedding_dim=8", "data.start=0"]  # fmt: skip
SHORT = {"history": ["trainer.max_steps=5"], "hyperparameters": ["trainer.max_steps=10", "data.num_steps=8"]}


def sweeps() -> Iterator[Any]:
    """Yield each exercise and its settings. Most are slow; the next edition's repeat code of the book's exercises."""
    for exercise in EXERCISES:
        marks = () if exercise == QUICK else pytest.mark.slow
        yield pytest.param(exercise, [*SAMPLE.split(), *SMALL.get(exercise, "").split()], id=exercise, marks=marks)
    for exercise in OF_TOKENS:
        marks = pytest.mark.slow if exercise == "clipping" else pytest.mark.torture
        typed = TINY + SHORT.get(exercise, ["trainer.max_epochs=5"])
        yield pytest.param(exercise, typed, id=f"{exercise} next edition", marks=marks)


@pytest.mark.parametrize(("exercise", "typed"), [*sweeps()])
def test_every_exercise_ends_in_a_report(
    exercise: str, typed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "perplexity_figure", lambda *_: None)  # a fifth of the time
    here = "hydra.launcher.n_jobs=1"  # workers would import again
    done = call_program("train.py", "-m", f"exercise={exercise}", *typed, here)
    assert done.returncode == 0, done.stderr
    (sweep,) = (tmp_path / "sweeps" / exercise).iterdir()
    report, jobs = (sweep / "report.md").read_text(), load_jobs(sweep)
    assert all(part in report for part in ("# ", "figure.png", "## Results", "## Setup"))
    assert len((sweep / "summary.csv").read_text().splitlines()) == 1 + len(jobs)
    assert {run.summary["status"] for run in jobs.values()} <= {"completed", "diverged"}


PROBES_OF_TEXTS = ["stream", "trigrams", "ngrams", "history", "sampling", "books", "one_hot_is_embedding", "how_low",
                   "hyperparameters", "cells"]  # fmt: skip


@pytest.mark.parametrize(("corpus", "names"), [("sample", PROBES_OF_TEXTS), ("recall", ["recall"])])
def test_probes_after_a_fit_on_a_gpu(corpus: str, names: list[str], tmp_path: Path) -> None:
    """Lightning moves the model back to the CPU, but no tensor of a data module."""
    short = ["trainer=cpu", "trainer.max_epochs=1", "trainer.max_steps=10", "data.batch_size=64"]
    with on_a_gpu() as moved:
        done = call_program("train.py", *TINY_RUN, f"data.corpus={corpus}", *short, f"probes=[{','.join(names)}]")
    assert done.returncode == 0 and moved, done.stderr
    (folder,) = tmp_path.glob("outputs/*/*")
    assert [*read_summary(folder)["probes"]] == names
    assert (folder / "sample.txt").exists() and (folder / "page.html").exists()


@pytest.mark.parametrize(
    ("names", "text", "cell"),
    [
        *((["stream", name], {}, "rnn") for name in ("trigram", "../exercises/relu")),
        *(([name], {"tokens": "characters"}, "rnn") for name in ("sampling", "books")),
        (["stream", "one_hot_is_embedding"], {}, "gru"),
        *((["recall"], text, "rnn") for text in ({}, {"corpus": "recall", "tokens": "bpe", "vocab_size": 256})),
    ],
)
def test_invalid_probes_are_rejected(names: list[str], text: dict[str, Any], cell: str) -> None:
    """Unknown probes, and probes that require the book's letters, its cell or another text."""
    data = TimeMachine(64, 8, 200, 100, **{"corpus": "sample"} | text)
    with pytest.raises(SettingError, match=rf"^probes=\[{re.escape(','.join(names))}\]: "):
        load_probes(names, data, RNNLMScratch(len(data.vocab), cell=cell))
