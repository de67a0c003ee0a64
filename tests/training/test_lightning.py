"""What Lightning shows of a run under way."""

import re
from pathlib import Path

import pytest

from tests.support.programs import assert_succeeded, call_program


@pytest.mark.parametrize("columns", [80, 120])
def test_the_progress_bar_takes_one_line(columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = ("trainer.enable_progress_bar=true", "trainer.max_epochs=1", "trainer.limit_test_batches=0")
    done = call_program("train.py", "data=sample", "model.hiddens=4", "logger=csv", "hydra.run.dir=run", *shown)
    assert_succeeded(done)
    (bar,) = (line for line in done.stdout.splitlines() if line.startswith("Epoch"))
    assert len(bar) <= columns
    assert re.search(r"^Epoch 1/1 +[━╸╺]+ 10/10 (.*[\d.]+it/s )?train: [\d.]+ val: [\d.]+ *$", bar)
    assert bool(re.search(r"\d:\d\d:\d\d", bar)) == (columns == 120)
