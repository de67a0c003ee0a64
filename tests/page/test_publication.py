"""The workflows, the published page of the book's run, and README's link to it."""

import csv
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.page.parts import Parts
from timemachine.config import REPOSITORY
from timemachine.page import fill

WORKFLOWS = REPOSITORY / ".github/workflows"
WORKFLOW: dict[Any, Any] = yaml.safe_load((WORKFLOWS / "pages.yml").read_text(encoding="utf-8"))
STEPS: list[dict[str, Any]] = WORKFLOW["jobs"]["publish"]["steps"]
PAGE = "sweeps/reference/book/page.html"


def test_readme_links_the_published_page(tmp_path: Path) -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\[!\[The page of the book's run\]\(\S+\)\]\((\S+)\)$", readme, re.MULTILINE) == [PAGE]
    assert PAGE in WORKFLOW[True]["push"]["paths"]  # YAML reads `on` so
    page = tmp_path / PAGE
    page.parent.mkdir(parents=True)
    page.write_text("a page")
    (publish,) = (step["run"] for step in STEPS if PAGE in step.get("run", ""))
    subprocess.run(["bash", "-e", "-c", publish], cwd=tmp_path, check=True)  # as GitHub does
    (upload,) = (step for step in STEPS if "upload-pages-artifact" in step.get("uses", ""))
    assert {path.name: path.read_text() for path in (tmp_path / upload["with"]["path"]).iterdir()} == {
        "index.html": "a page"
    }


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.yml")), ids=lambda path: path.name)
def test_no_workflow_may_write_contents(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"]["contents"] == "read"
    assert not any("permissions" in job for job in workflow["jobs"].values())


def test_the_published_page_is_todays_around_the_books_run() -> None:
    """`python -m tests.page.picture` writes it anew."""
    published = (REPOSITORY / PAGE).read_bytes()
    run = Parts(published).run
    table = dict(run["table"])
    assert published == fill(table["text"], run)
    with (REPOSITORY / "sweeps/reference/book/summary.csv").open(newline="") as file:
        of_the_seed = {row["seed"]: row for row in csv.DictReader(file)}[table["seed"]]
    for name in ("train/perplexity", "val/perplexity", "test/perplexity"):
        assert float(table[name]) == pytest.approx(float(of_the_seed[name]), rel=1e-5)
    assert [epoch["epoch"] for epoch in run["epochs"]] == [0, 1, 5, 10, 20, 50, 100]
    assert len(published) < 200_000
