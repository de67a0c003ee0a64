"""Every number that the texts say of the exercises, derived from what the reference sweeps left.

A module here of an exercise's name yields passages with their numbers, as they must stand in the texts. What they do
not cover has no digit, but for code, links and `GIVEN`: numbers that are settings of the experiment, not results.
"""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kept import REFERENCE, table
from timemachine.config import REPOSITORY

MODULES = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith(("test_", "__")))
PLAIN = re.compile(
    r"```.*?```|`[^`]*`|!\[[^\]]*\]\([^)]*\)|(?<=\])\([^)]*\)|<!--.*?-->|^\| \d[\w, ]* \||^- \*\*[\d, and]+",
    re.DOTALL | re.MULTILINE,
)


SECTIONS = {"how_low": "How low can it go?", "characters": "Characters instead of letters"}  # of sweeps/README.md


def texts(name: str) -> Iterator[tuple[str, str]]:
    """Yield where a text on an exercise, or on characters, stands, and the text."""
    readme, results = ((REPOSITORY / file).read_text(encoding="utf-8") for file in ("README.md", "sweeps/README.md"))
    if name == "speed":
        (section,) = re.findall(r"<!-- speed: begin -->(.*)<!-- speed: end -->", readme, re.DOTALL)
        (row,) = re.findall(r"^\| a training step, .*$", readme, re.MULTILINE)
        yield from (("README.md", section), ("README.md, how it compares", row))
        return
    rows = re.findall(r"^\|.*$", readme, re.MULTILINE) if name != "characters" else readme.split("\n\n")
    (row,) = (row for row in rows if f"[{name}](" in row)
    yield "README.md", row
    own = rf"^- \*\*[^\n]*{re.escape(f'[{name}](')}.*?(?=^- |\n\n|\Z)"
    if name in SECTIONS:
        own = rf"^## {re.escape(SECTIONS[name])}$.*?(?=^## |\Z)"
    (paragraph,) = re.findall(own, results, re.MULTILINE | re.DOTALL)
    yield "sweeps/README.md", paragraph
    if (report := REFERENCE / name / "report.md").is_file():
        yield "report.md", report.read_text(encoding="utf-8").split("\n\n")[1]
    if (by_hand := REFERENCE / name / "text.md").is_file():
        yield "text.md", by_hand.read_text(encoding="utf-8")


def plain(text: str) -> str:
    """Return a text without code, links and numbers of exercises, on one line."""
    return " ".join(PLAIN.sub(" ", text).split())


@pytest.mark.parametrize("name", MODULES)
def test_every_number_is_derived_from_the_kept_files(name: str) -> None:
    module = importlib.import_module(f"tests.reference.{name}")
    passages = sorted({" ".join(passage.split()) for passage in module.numbers()}, key=len, reverse=True)
    found = {where: plain(text) for where, text in texts(name)}
    missing = [passage for passage in passages if not any(passage in text for text in found.values())]
    assert not missing, f"what the kept files give stands in no text: {missing}"
    for where, text in found.items():
        for passage in (*passages, *module.GIVEN):
            text = text.replace(passage, "…")
        left = [text[max(0, number.start() - 40) : number.end() + 20] for number in re.finditer(r"\d+", text)]
        assert not left, f"{where} has numbers that nothing derives: {left}"


def test_a_report_has_its_own_text_and_all_its_files() -> None:
    for folder in REFERENCE.iterdir():
        if (folder / "report.md").is_file():
            report = (folder / "report.md").read_text(encoding="utf-8")
            figures = set(re.findall(r"\]\((\w+\.png)\)", report))
            assert figures == {path.name for path in folder.glob("*.png")}, folder
            if (folder / "text.md").is_file():
                assert (folder / "text.md").read_text(encoding="utf-8").strip() in report, folder


def test_the_table_of_runs_and_minutes_is_that_of_the_reports() -> None:
    page = (REPOSITORY / "sweeps/README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| [^|]+ \| `(\w+)` \| .* \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    assert len(lines) == 10
    total = sum(float(minutes.split(" and ")[0]) for name, _, minutes in lines if name != "how_low")
    assert f"`make exercises` runs takes {total:.1f} minutes" in page
    for name, *cells in lines:
        reports = [REFERENCE / name / "report.md", *REFERENCE.glob(f"{name}/*/report.md")]
        effort = re.compile(r"^([\d,]+) runs \(.*\) in ([\d.]+) minutes", re.MULTILINE)
        found = [effort.findall(report.read_text(encoding="utf-8"))[0] for report in reports]
        assert cells == [" and ".join(numbers) for numbers in zip(*found, strict=True)], name


def test_the_book_runs_numbers_are_those_of_its_three_seeds() -> None:
    page, readme = ((REPOSITORY / name).read_text(encoding="utf-8") for name in ("sweeps/README.md", "README.md"))
    jobs = table("book")
    means = {name: sum(job[f"{name}/perplexity"] for job in jobs) / len(jobs) for name in ("train", "val", "test")}
    text = f"the training perplexity is {means['train']:.1f}, the validation perplexity {means['val']:.1f}, and "
    assert f"After 100 epochs {text}{means['test']:.1f} on the rest of the novel" in " ".join(readme.split())
    for job in jobs:
        ends = rf"\| {job['seed']:.0f} \| .* / {job['train/perplexity']:.2f} \| .* / {job['val/perplexity']:.2f} "
        assert re.search(ends + rf"\| {job['test/perplexity']:.2f} \|", page)
    assert f"the largest of the three seeds is {max(job['largest_grad_norm'] for job in jobs):.2f}" in page
