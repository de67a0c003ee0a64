"""`make numbers` would change no file: the reports on the reference sweeps, and the numbers quoted in documents."""

import re

import pytest

from tests.support.kept import REFERENCE
from tests.support.numbers import REWRITTEN, SECTIONS, page, report
from timemachine.config import REPOSITORY


@pytest.mark.usefixtures("quick_calls")
@pytest.mark.parametrize("name", REWRITTEN)
def test_report_is_that_of_kept_files(name: str) -> None:
    assert (REFERENCE / name / "report.md").read_text(encoding="utf-8") == report(name)


@pytest.mark.parametrize("name", SECTIONS)
def test_page_quotes_the_kept_files(name: str) -> None:
    assert (REPOSITORY / name).read_text(encoding="utf-8") == page(name)


def test_reports_have_their_figures_and_text() -> None:
    for report_md in REFERENCE.rglob("report.md"):
        text, folder = report_md.read_text(encoding="utf-8"), report_md.parent
        assert set(re.findall(r"\]\((\w+\.png)\)", text)) == {path.name for path in folder.glob("*.png")}, folder
        assert (folder / "text.md").read_text(encoding="utf-8").strip() in text, folder
