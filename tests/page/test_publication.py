"""The published page of the book's run and README's picture of it, which `python -m tools.picture` updates."""

import csv
import hashlib

import pytest
from PIL import Image, ImageSequence

from tests.page.parts import Parts
from timemachine.config import REPOSITORY
from timemachine.page import fill

FOLDER = REPOSITORY / "sweeps/reference/book"


def test_published_page_is_up_to_date() -> None:
    published = (FOLDER / "page.html").read_bytes()
    run = Parts(published).run
    assert len(published) <= 450_000 and len(run["text"]) > 170_000
    table = dict(run["table"])
    assert published == fill(table["text"], run)
    with (FOLDER / "summary.csv").open(newline="") as file:
        expected = {row["seed"]: row for row in csv.DictReader(file)}[table["seed"]]
    for name in ("train/perplexity", "val/perplexity", "test/perplexity"):
        assert float(table[name]) == pytest.approx(float(expected[name]), rel=1e-5)
    assert [epoch["epoch"] for epoch in run["epochs"]] == [0, 1, 5, 10, 20, 50, 100]


def test_animated_picture_is_up_to_date() -> None:
    """It shows the published page, loops, and is small enough for a README."""
    path = FOLDER / "page.gif"
    assert path.stat().st_size < 500_000
    with Image.open(path) as picture:
        assert picture.info["comment"].decode() == hashlib.sha256((FOLDER / "page.html").read_bytes()).hexdigest()
        assert picture.info["loop"] == 0  # without end
        seconds = sum(frame.info["duration"] for frame in ImageSequence.Iterator(picture)) / 1000
    assert 8 < seconds < 16
