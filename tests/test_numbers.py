"""`make numbers` would change no file: the reports on the reference sweeps, and the numbers quoted in documents.

So these tests also fail if an exercise's `table` changes: compare the two before `make numbers` writes the new one.
"""

import pytest

from timemachine.config import REPOSITORY
from timemachine.study.report import module_of
from tools.numbers import EFFORT, EXERCISES, REFERENCE, SECTIONS, answer, head, jobs_of, page, report_of

WORDS = {"cells": 700}  # of an answer and the description of its runs, where 350 do not suffice


@pytest.mark.parametrize("name", EXERCISES)
def test_report_is_that_of_kept_files(name: str) -> None:
    folder = REFERENCE / name
    report = (folder / "report.md").read_text(encoding="utf-8")
    assert report == report_of(name)
    assert (folder / "figure.png").is_file()
    (effort,) = EFFORT.findall(report)
    assert int(effort.split()[0]) == len(jobs_of(name))  # the only line that `make numbers` copies
    assert len(answer(name)[2].split()) <= 30
    paragraphs = [each for each in head(name).split("\n\n") if not each.startswith(("#", "    ", "|"))]  # text
    assert len(" ".join([*paragraphs, module_of(name.rpartition("/")[2]).SETUP]).split()) <= WORDS.get(name, 350)


@pytest.mark.parametrize("name", SECTIONS)
def test_page_quotes_the_kept_files(name: str) -> None:
    assert (REPOSITORY / name).read_text(encoding="utf-8") == page(name)
