"""Every number that the texts say of the exercises, derived from what the reference sweeps left.

A module here of an exercise's name yields passages with their numbers, as they must stand in the texts. What they do
not cover has no digit, but for code, links and `GIVEN`: numbers that are settings of the experiment, not results.
"""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from timemachine.config import REPOSITORY

REFERENCE = REPOSITORY / "sweeps/reference"
MODULES = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith(("test_", "__")))
PLAIN = re.compile(
    r"```.*?```|`[^`]*`|!\[[^\]]*\]\([^)]*\)|(?<=\])\([^)]*\)|<!--.*?-->|^\| \d[\w, ]* \||^- \*\*[\d, and]+",
    re.DOTALL | re.MULTILINE,
)


def texts(name: str) -> Iterator[tuple[str, str]]:
    """Yield where a text on an exercise stands, and the text."""
    readme, results = ((REPOSITORY / file).read_text(encoding="utf-8") for file in ("README.md", "sweeps/README.md"))
    link = re.escape(f"[{name}](")
    (row,) = re.findall(rf"^\|.*{link}.*$", readme, re.MULTILINE)
    yield "README.md", row
    (paragraph,) = re.findall(rf"^- \*\*[^\n]*{link}.*?(?=^- |\n\n|\Z)", results, re.MULTILINE | re.DOTALL)
    yield "sweeps/README.md", paragraph
    report = (REFERENCE / name / "report.md").read_text(encoding="utf-8")
    yield "report.md", report.split("\n\n")[1]
    own = REFERENCE / name / "text.md"
    yield "text.md", own.read_text(encoding="utf-8") if own.is_file() else ""


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
