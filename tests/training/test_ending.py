"""The end of a run: its final numbers, the files it leaves, and what it prints."""

from pathlib import Path

import pytest
import torch

from timemachine.config import Train, Trainer, to_dict
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.runs.letters import letters_perplexity
from timemachine.runs.models import load_model
from timemachine.runs.record import Record
from timemachine.runs.rows import final_numbers
from timemachine.runs.summaries import read_summary
from timemachine.training.ending import finish

METRICS = """\
epoch,step,train/perplexity,val/perplexity,test/perplexity,grad_norm,grad_norm_clipped,clip_fraction,chars_per_second
2,4,7.5,7.25,,2.0,0.75,1.0,2000
3,5,6.5,7.75,8.5,0.25,0.25,0.0,3000
"""
STEPS = """\
epoch,step,loss,grad_norm,grad_norm_clipped
2,4,1.75,3.0,1.0
3,5,1.5,0.25,0.25
"""


def test_a_finished_run_leaves_its_files_and_prints_its_numbers(
    tmp_path: Path, sample: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "metrics.csv").write_text(METRICS)
    (tmp_path / "steps.csv").write_text(STEPS)
    torch.manual_seed(0)
    data = TimeMachine(corpus=sample)
    model = RNNLMScratch(len(data.vocab))
    settings = to_dict(Train(trainer=Trainer(gradient_clip_val=1)))
    with Record(tmp_path, settings, in_sweep=False) as run:
        run.describe(data, model)
        finish(run, model, data)
    continuation, summary = model.predict("it has", 20, data.vocab), read_summary(tmp_path)
    assert (tmp_path / "sample.txt").read_text() == f"{continuation}\n"
    exported, vocab = load_model(str(tmp_path / "model.safetensors"))
    assert exported.predict("it has", 20, vocab) == continuation
    assert (tmp_path / "perplexity.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert (summary["status"], summary["message"]) == ("completed", None)
    assert summary["metrics"] == final_numbers(tmp_path)
    assert summary["corpus"]["letters"]["val/perplexity"] == letters_perplexity(data, "val")
    printed = " ".join(capsys.readouterr().out.split())
    for line in (
        "test/perplexity 8.500 epoch 3",
        "best val/perplexity 7.250 epoch 2",
        "clipping acted in 1 of 2 steps radius 1, largest norm 3",
        'continuation "it has',
    ):
        assert line in printed
