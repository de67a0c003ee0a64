"""Texts with all their characters: train on one, continue it, and load the run."""

import re
from pathlib import Path

import pytest
import torch

import timemachine
from tests.support.runs import fit
from tests.support.texts import path_of, read
from timemachine.datamodule import TimeMachine
from timemachine.decoding import continue_text
from timemachine.errors import SettingError
from timemachine.evaluation.lost_characters import readable_prefix
from timemachine.language_model import RNNLMScratch
from timemachine.run.load import load_initial_weights


def train(folder: Path, tokens: str, max_epochs: int = 1) -> None:
    torch.manual_seed(0)
    data = TimeMachine(64, 8, None, None, tokens=tokens, corpus=str(path_of("english")))
    fit(folder, RNNLMScratch(len(data.vocab), 16, sigma=0.1, lr=2), data, max_epochs=max_epochs)


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run on the English text."""
    folder = tmp_path_factory.mktemp("english") / "run"
    train(folder, "characters", max_epochs=10)
    return folder


def test_generated_characters(english: Path) -> None:
    run = timemachine.load_run(english)
    assert run.vocab.idx_to_token == run.data.vocab.idx_to_token == sorted({*read("english"), "<unk>"})
    assert run.data.corpus.characters == read("english")
    prefix = '"Who lit it?" Tom asked, and\nPeter (72) said: \'Mind the "third" step!\''
    (text,) = continue_text(run.model, run.vocab, prefix, 500, alpha=1.0)
    written = text.removeprefix(prefix)
    assert len(written) == 500 < len(text) and {*written} <= {*read("english")}
    assert all(re.search(kind, written) for kind in ("[a-z]", "[A-Z]", "[.,]", "\n."))


def test_prefix_with_unknown_characters(english: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert readable_prefix("Zoe\u0308 is 100%,\r\n", timemachine.load_run(english).vocab) == "Zo\u00eb is 100%,\n"
    assert {*"Zë0%"} <= {*capsys.readouterr().err}


def test_weights_of_other_tokens(english: Path, tmp_path: Path) -> None:
    train(tmp_path / "letters", "letters")
    for parent, child in ((tmp_path / "letters", english), (english, tmp_path / "letters")):
        run = timemachine.load_run(child)
        with pytest.raises(SettingError, match=rf"^init_from={parent}: "):
            load_initial_weights(str(parent), run.model, run.vocab)
