"""What Lightning shows of a run under way."""

import re
from pathlib import Path

import pytest

from tests.support.programs import assert_succeeded, call_program


def test_the_progress_bar_takes_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = ("trainer.enable_progress_bar=true", "trainer.max_epochs=1", "trainer.limit_test_batches=0")
    done = call_program("train.py", "data=sample", "model.hiddens=4", "logger=csv", f"hydra.run.dir={tmp_path}", *shown)
    assert_succeeded(done)
    (bar,) = (line for line in done.stdout.splitlines() if line.startswith("Epoch"))
    assert len(bar) <= 80
    assert re.search(r"^Epoch 1/1 +[━╸╺]+ 10/10 (.*[\d.]+it/s )?train: [\d.]+ val: [\d.]+ *$", bar)
