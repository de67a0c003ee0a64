"""The end of a run: its final numbers and the files it leaves. What it prints: tests/test_programs.py."""

from pathlib import Path

import torch

from tests.support.runs import fit
from timemachine.config import Train, to_dict
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.runs.checkpoints import load_model
from timemachine.runs.record import Record, letters_perplexity
from timemachine.runs.rows import final_numbers
from timemachine.runs.summaries import read_summary
from timemachine.training.ending import finish


def test_a_finished_run_leaves_its_numbers_its_weights_and_what_they_write(sample: Corpus, tmp_path: Path) -> None:
    torch.manual_seed(0)
    data, model = TimeMachine(64, 8, 310, 70, corpus=sample), RNNLMScratch(28, hiddens=4)
    fit(tmp_path, model, data, max_epochs=1)
    with Record(tmp_path, to_dict(Train()), in_sweep=False) as run:
        run.describe(data, model)
        finish(run, model, data)
    exported, vocab = load_model(str(tmp_path / "model.safetensors"))
    continuation, summary = model.predict("it has", 20, data.vocab), read_summary(tmp_path)
    assert exported.predict("it has", 20, vocab) == continuation
    assert (tmp_path / "sample.txt").read_text() == f"{continuation}\n"
    assert (tmp_path / "perplexity.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert (summary["status"], summary["message"]) == ("completed", None)
    assert summary["metrics"] == final_numbers(tmp_path)
    assert summary["corpus"]["letters"]["val/perplexity"] == letters_perplexity(data, "val")
