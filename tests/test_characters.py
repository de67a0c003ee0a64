"""data.tokens=characters: train on a text with all its characters, continue it, and evaluate other texts."""

import re
from pathlib import Path

import pytest

import timemachine
from tests.support.programs import Done, assert_succeeded, call_program
from tests.support.runs import summary
from tests.support.texts import path_of, read
from timemachine.evaluation.scores import evaluate

SMALL = ["data.num_train=null", "data.num_val=null", "data.num_steps=8", "data.batch_size=64", "logger=csv"]
SMALL += ["model.hiddens=16", "model.sigma=0.1", "model.lr=2", "data.tokens=characters"]


def train(folder: Path, text: str | Path, *typed: str) -> Done:
    return call_program("train.py", *SMALL, f"data.corpus={text}", *typed, f"hydra.run.dir={folder}")


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run on the English text."""
    folder = tmp_path_factory.mktemp("english") / "run"
    assert_succeeded(train(folder, path_of("english"), "trainer.max_epochs=10"))
    return folder


def test_run_on_characters(english: Path) -> None:
    found, run = summary(english), timemachine.load_run(english)
    assert run.vocab.idx_to_token == run.data.vocab.idx_to_token == sorted({*read("english"), "<unk>"})
    assert run.data.corpus.characters == read("english")
    _, *held_out = evaluate(run.model, run.vocab, run.summary, run.data.corpus)
    for row, part in zip(held_out, ("val", "test"), strict=True):
        perplexity = found["metrics"][f"{part}/perplexity"]
        assert row.part == part and row.window and row.window.perplexity == pytest.approx(perplexity, rel=1e-5)


def test_generated_characters(english: Path) -> None:
    prefix = '"Who lit it?" Tom asked, and\nPeter (72) said: \'Mind the "third" step!\''
    done = call_program("generate.py", f"run={english}", f"prefix={prefix}", "alpha=1", "num_preds=500")
    assert_succeeded(done)
    written = done.stdout.removeprefix(prefix)
    assert len(written) == 501 < len(done.stdout) and {*written} <= {*read("english")}
    assert all(re.search(kind, written) for kind in ("[a-z]", "[A-Z]", "[.,]", "\n."))


def test_generated_samples_and_unknown_characters(english: Path) -> None:
    """Samples may have line breaks, so a blank line separates them."""
    done = call_program("generate.py", f"run={english}", "prefix=Tom", "alpha=1", "num_preds=9", "num_samples=3")
    assert [len(text) for text in done.stdout.split("\n\nTom")] == [12, 9, 10]
    done = call_program("generate.py", f"run={english}", "prefix=Zoe\u0308 is 100%,\r\n")
    assert_succeeded(done)
    assert len(done.stderr.splitlines()) == 1 and "'Z' 'ë' '0' '%'" in done.stderr
    assert done.stdout.startswith("Zoë is 100%,\n")


@pytest.mark.usefixtures("quick_calls")
def test_weights_of_other_tokens(english: Path, tmp_path: Path) -> None:
    text = path_of("english")
    assert_succeeded(train(tmp_path / "letters", text, "data.tokens=letters", "trainer.max_epochs=1"))
    for parent, own, others in ((tmp_path / "letters", "characters", "letters"), (english, "letters", "characters")):
        done = train(tmp_path / "child", text, f"data.tokens={own}", f"init_from={parent}")
        (line,) = done.stderr.splitlines()
        assert done.returncode == 1 and line.startswith(f"error: init_from={parent}: ") and others in line
        assert not (tmp_path / "child/metrics.csv").exists()
