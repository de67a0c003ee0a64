"""recipe=next_edition, and the same model in Python."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest

from tests.support.programs import assert_succeeded, call_program
from tests.support.runs import rows
from timemachine.datamodule import TimeMachine
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.perplexity import BitsPerByte

WINDOWS: dict[str, Any] = {"batch_size": 64, "num_train": 200, "num_val": 100, "tokens": "bpe", "vocab_size": 1024}


@pytest.mark.usefixtures("quick_calls")
@pytest.mark.filterwarnings("ignore")
def test_the_recipe_from_python(tmp_path: Path) -> None:
    """Perplexities are equal to the last bit."""
    typed = [f"data.{name}={value}" for name, value in WINDOWS.items()]
    typed += ["data.corpus=sample", "trainer.max_epochs=2", "trainer=cpu", "logger=csv", "hydra.run.dir=run"]
    assert_succeeded(call_program("train.py", "recipe=next_edition", *typed))
    pl.seed_everything(0)
    data = TimeMachine(**WINDOWS, num_steps=32, corpus="sample")
    model = FusedRNNLM(len(data.vocab), hiddens=128, lr=4, input="embedding", embedding_dim=64)
    trainer = pl.Trainer(max_epochs=2, gradient_clip_val=1, accelerator="cpu", logger=False, num_sanity_val_steps=0,
                         enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
                         callbacks=[BitsPerByte()])  # fmt: skip
    trainer.fit(model, data)
    last = rows(tmp_path / "run/metrics.csv")[-1]
    for name in ("train/perplexity", "val/perplexity", "val/bits_per_byte"):
        assert last[name] == float(trainer.callback_metrics[name]), name
