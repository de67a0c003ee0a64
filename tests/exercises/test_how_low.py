"""The report of exercise how_low, from folders as its jobs leave them, and what leaves them."""

import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from tests.support.jobs import leave_job
from timemachine.cli.schema import VERSION, checked
from timemachine.config import REPOSITORY, Train
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.evaluation.scores import stream_score
from timemachine.exercises import how_low
from timemachine.exercises.report import write_report
from timemachine.language_model import RNNLMScratch
from timemachine.runs.sweep import load_jobs


def left_by(sweep: Path, settings: dict[str, Any], perplexities: dict[str, float], status: str = "completed") -> None:
    """A job's folder: each of 400 targets has the perplexity that is given for its part."""
    ngrams = {f"{part}_{name}": 4.0 for part in ("val", "test") for name in ("witten_bell", "kneser_ney")}
    arrays: dict[str, Any] = {
        name: np.full(400, math.log(value), np.float32)
        for name, value in (ngrams | perplexities).items()
        if name != "train"
    }
    probes = {"reading": {name: {"perplexity": value} for name, value in (ngrams | perplexities).items()}}
    folder = leave_job(sweep, settings, status=status, metrics={"val/perplexity": 9.0}, probes=probes)
    np.savez(folder / "reading.npz", **arrays)


def all_parts(perplexity: float) -> dict[str, float]:
    parts = {"train": perplexity - 1, "val": perplexity, "test": perplexity + 0.5}
    return parts | {"val_adaptive": perplexity - 0.1, "test_adaptive": perplexity + 0.4}


def settings(seed: int, lr: float, num_train: int | None = None, relu: bool = False) -> dict[str, Any]:
    return {"seed": seed, "model": {"lr": lr, "relu": relu}, "data": {"num_train": num_train}}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "how_low"
    for lr, relu, perplexity in ((1.0, False, 8.0), (0.5, False, 5.0), (0.5, True, 2.0)):
        for seed in (0, 1):
            left_by(folder, settings(seed, lr, relu=relu), all_parts(perplexity * (1 + seed)))
    left_by(folder, settings(0, 1.0, num_train=10_000), all_parts(7.0))
    left_by(folder, settings(2, 0.5, relu=True), all_parts(1.5), status="diverged")
    return folder


def test_a_row_is_a_change_and_what_it_gained(sweep: Path) -> None:
    found = how_low.findings(load_jobs(sweep))
    assert [row[0] for row in found.rows] == ["to begin with", "`model.lr=0.5`", "`model.relu=true`"]
    assert [row[1] for row in found.rows] == ["2", "2", "2"]
    assert [row[4] for row in found.rows] == ["", "4.50", "4.50"]
    assert found.rows[2][3] == "3.00 ± 1.41"
    assert found.captions.keys() == found.figures.keys()


def test_seeds_read_as_one_have_the_mean_of_their_probabilities(sweep: Path) -> None:
    found = how_low.findings(load_jobs(sweep))
    as_one = 2 / (1 / 2 + 1 / 4)
    assert f"On novel, next 5 %, 2 seeds read as one have {as_one:.2f} (one alone 3.00 ± 1.41)" in found.answer
    assert f"below Witten-Bell's 4.00 (by {math.log(4 / as_one):.3f} ± 0.000 nats)" in found.answer
    as_one = 2 / (1 / 1.9 + 1 / 3.9)
    longer = " ".join(found.longer)
    assert f"may go on learning from what they have read: {as_one:.2f}." in longer  # PPMd's are the novel's
    assert "On book split, 10,032 to 15,031, 1 seeds read as one have 7.00" not in longer
    assert "On book split, 10,032 to 15,031, one model has 7.00" in longer


def test_the_report_says_what_did_not_pay(sweep: Path) -> None:
    write_report(sweep, "how_low")
    report = (sweep / "report.md").read_text()
    assert "What did not pay" in report
    assert "| label smoothing |" in report
    assert (sweep / "path.png").stat().st_size > 10_000


def test_the_path_leads_from_the_book_to_the_recipe_one_change_at_a_time() -> None:
    """Each row of the exercise builds on the one before, and starts with the book's settings."""
    with initialize_config_dir(str(REPOSITORY / "conf"), **VERSION):
        names = compose("train", ["exercise=how_low"], return_hydra_config=True).hydra.sweeper.params.recipe
        recipes = [checked(compose("train", [f"recipe={name.strip()}"]), Train) for name in names.split(",")]
        book = checked(compose("train"), Train)
    *path, none, book_split = recipes
    assert none == book
    assert (path[0].model, path[0].training) == (book.model, book.training)
    assert all(recipe.data.num_train is None for recipe in path)
    assert (book_split.data.num_train, book_split.data.num_val, book_split.data.num_steps) == (10_000, 5_000, 32)
    for recipe in recipes:  # or the last epoch would have no validation perplexity
        assert recipe.trainer.max_epochs and recipe.trainer.check_val_every_n_epoch
        assert recipe.trainer.max_epochs % recipe.trainer.check_val_every_n_epoch == 0


def test_the_probe_reads_each_target_once_with_each_reader(sample: Corpus, tmp_path: Path) -> None:
    data = TimeMachine(num_steps=8, num_train=2000, num_val=300, corpus=sample)
    torch.manual_seed(0)
    model = RNNLMScratch(len(data.vocab), hiddens=4, sigma=0.5)
    model.trainer = pl.Trainer(logger=False, enable_checkpointing=False, default_root_dir=tmp_path)
    found = how_low.measure(model, data)
    left = np.load(tmp_path / "reading.npz")
    readers = ("", "_adaptive", "_witten_bell", "_kneser_ney")
    assert set(left) == {part + reader for part in ("val", "test") for reader in readers}
    for part in ("val", "test"):
        targets = data.splits[part].targets
        expected = stream_score(model, data.chars_N, targets).perplexity
        assert found[part]["perplexity"] == pytest.approx(expected)
        for reader in readers:
            assert len(left[part + reader]) == len(targets)
            of_array = math.exp(left[part + reader].astype(float).mean())
            assert found[part + reader]["perplexity"] == pytest.approx(of_array, rel=1e-5)
    assert found["train"]["perplexity"] > 1
