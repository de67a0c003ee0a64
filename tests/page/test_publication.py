"""The published page of the book's run, which `python -m tests.page.picture` updates."""

import csv

import pytest

from tests.page.parts import Parts
from timemachine.config import REPOSITORY
from timemachine.page import fill

FOLDER = REPOSITORY / "sweeps/reference/book"


def test_published_page_is_up_to_date() -> None:
    published = (FOLDER / "page.html").read_bytes()
    run = Parts(published).run
    table = dict(run["table"])
    assert published == fill(table["text"], run)
    with (FOLDER / "summary.csv").open(newline="") as file:
        expected = {row["seed"]: row for row in csv.DictReader(file)}[table["seed"]]
    for name in ("train/perplexity", "val/perplexity", "test/perplexity"):
        assert float(table[name]) == pytest.approx(float(expected[name]), rel=1e-5)
    assert [epoch["epoch"] for epoch in run["epochs"]] == [0, 1, 5, 10, 20, 50, 100]
