"""`hydra/sweeper=search` and `optuna`: Hydra's Optuna sweeper, with one job per trial."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.support.programs import assert_succeeded, call_program
from tests.support.runs import table

pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs Hydra 1.4: pip install -e '.[search]'")

SMALL = ["data.corpus=sample", "data.num_train=64", "data.num_val=64", "trainer.max_epochs=1"]
SMALL += ["trainer.limit_test_batches=0", "hydra.sweeper.n_jobs=1"]


def test_bounds_of_a_search(tmp_path: Path) -> None:
    search = ("hydra/sweeper=search", "hydra.sweeper.n_trials=3", "hydra.sweep.dir=search")
    assert_succeeded(call_program("train.py", "-m", *SMALL, *search))
    rows = table(tmp_path / "search/summary.csv")
    assert len(rows) == 3
    for row in rows:
        assert 0.1 <= float(row["model.lr"]) <= 10 and 16 <= int(row["model.hiddens"]) <= 128
        assert "data.num_steps" not in row  # perplexity on windows falls with num_steps
    found = OmegaConf.load(tmp_path / "search/optimization_results.yaml")
    assert found.best_value == pytest.approx(min(float(row["val/perplexity"]) for row in rows))
