"""`hydra/sweeper=search` and `optuna`: Hydra's Optuna sweeper, with one job per trial."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.support.programs import Program, assert_succeeded
from tests.support.runs import table

pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs Hydra 1.4: pip install -e '.[search]'")

SMALL = [
    "data.corpus=sample",
    "data.num_train=64",
    "data.num_val=64",
    "trainer.max_epochs=1",
    "trainer.limit_test_batches=0",
]
SMALL += ["logger=csv", "hydra.sweeper.n_jobs=1"]


def jobs(program: Program, folder: Path, *arguments: str) -> list[dict[str, str]]:
    """Run a search in the folder and return the rows of its summary.csv."""
    assert_succeeded(program("train.py", "-m", *SMALL, f"hydra.sweep.dir={folder}", *arguments))
    return table(folder / "summary.csv")


def test_seed_and_bounds_of_a_search(program: Program, tmp_path: Path) -> None:
    search = ("hydra/sweeper=search", "hydra.sweeper.n_trials=3")
    rows = jobs(program, tmp_path / "one", *search)
    assert len(rows) == 3
    for row in rows:
        assert 0.1 <= float(row["model.lr"]) <= 10 and 16 <= int(row["model.hiddens"]) <= 128
        assert "data.num_steps" not in row  # perplexity on windows falls with num_steps
    found = OmegaConf.load(tmp_path / "one/optimization_results.yaml")
    best = min(rows, key=lambda row: float(row["val/perplexity"]))
    assert found.best_value == pytest.approx(float(best["val/perplexity"]))
    assert found.best_params["model.lr"] == pytest.approx(float(best["model.lr"]))
    again = jobs(program, tmp_path / "two", *search, "hydra/launcher=joblib")
    assert [row["model.lr"] for row in again] == [row["model.lr"] for row in rows]
