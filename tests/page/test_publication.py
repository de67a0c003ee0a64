"""The workflow that publishes the page of the book's run, and what README's picture leads to."""

import csv
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.page.parts import Parts
from timemachine.config import REPOSITORY
from timemachine.page import fill

WORKFLOW: dict[Any, Any] = yaml.safe_load((REPOSITORY / ".github/workflows/pages.yml").read_text(encoding="utf-8"))
STEPS: list[dict[str, Any]] = WORKFLOW["jobs"]["publish"]["steps"]
PAGE = "sweeps/reference/book/page.html"
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def link(readme: str) -> str:
    """Return what the picture of the page leads to."""
    (target,) = re.findall(r"^\[!\[The page of the book's run\]\(\S+\)\]\((\S+)\)$", readme, re.MULTILINE)
    return str(target)


def shell(command: str, folder: Path, **environment: str) -> None:
    """Run a step as GitHub does."""
    subprocess.run(["bash", "-e", "-c", command], cwd=folder, env=os.environ | environment, check=True)


def test_the_published_page_is_the_one_that_readmes_picture_leads_to(tmp_path: Path) -> None:
    assert link(README) == PAGE or link(README).startswith("https://")  # once it is published
    assert PAGE in WORKFLOW[True]["push"]["paths"]  # YAML reads `on` so
    page = tmp_path / PAGE
    page.parent.mkdir(parents=True)
    page.write_text("a page")
    (publish,) = (step["run"] for step in STEPS if PAGE in step.get("run", ""))
    shell(publish, tmp_path)
    (upload,) = (step for step in STEPS if "upload-pages-artifact" in step.get("uses", ""))
    assert {path.name: path.read_text() for path in (tmp_path / upload["with"]["path"]).iterdir()} == {
        "index.html": "a page"
    }


def test_the_picture_leads_to_the_site_of_the_repository_that_published_last(tmp_path: Path) -> None:
    (step,) = (step for step in STEPS if "PAGE_URL" in step.get("env", {}))
    (deploy,) = (step for step in STEPS if "deploy-pages" in step.get("uses", ""))
    assert step["env"]["PAGE_URL"] == f"${{{{ steps.{deploy['id']}.outputs.page_url }}}}"
    (tmp_path / "README.md").write_text(README, encoding="utf-8")
    for url in ("https://one.github.io/rnn/", "https://one.github.io/rnn/", "https://a-fork.github.io/its-rnn/"):
        shell(step["run"], tmp_path, PAGE_URL=url)
        linked = (tmp_path / "README.md").read_text(encoding="utf-8")
        assert linked == README.replace(f"]({link(README)})\n", f"]({url})\n")
        assert link(linked) == url
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["README.md"]


def test_it_is_committed_where_the_picture_led_elsewhere(tmp_path: Path) -> None:
    origin, checkout = tmp_path / "origin", tmp_path / "checkout"
    shell("git init -q --bare origin && git init -q -b main checkout", tmp_path)
    (checkout / "README.md").write_text("one")
    author = "-c user.name=a -c user.email=a@b.c"
    shell(f"git remote add origin {origin} && git add . && git {author} commit -qm One", checkout)
    shell("git push -qu origin main", checkout)
    for text, commits in (("one", 1), ("another", 2), ("another", 2)):
        (checkout / "README.md").write_text(text)
        shell(STEPS[-1]["run"], checkout)
        count = subprocess.check_output(["git", "rev-list", "--count", "main"], cwd=origin, text=True)
        assert int(count) == commits


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
