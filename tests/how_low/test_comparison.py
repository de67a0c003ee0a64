from pathlib import Path

import pytest

from timemachine.corpus import Corpus, find_corpus
from timemachine.how_low.comparison import ppmd_bits

pytest.importorskip("pyppmd", reason="pyppmd is not installed")


def test_what_is_known_costs_little(sample: Corpus) -> None:
    known, text = sample.characters[:5000], sample.characters[5000:7000]
    assert 1.5 < ppmd_bits(known, text) / len(text) < ppmd_bits(b"", text) / len(text) < 4
    assert ppmd_bits(known, known[1000:3000]) < 2000
    assert ppmd_bits(known, b"") == 0


def test_the_novel_has_the_perplexities_that_are_known(novels: Path) -> None:
    text = find_corpus("time_machine", [str(novels)]).characters
    val = range(len(text) * 90 // 100, len(text) * 95 // 100)
    found = {
        order: 2 ** (ppmd_bits(text[: val.start], text[val.start : val.stop], order) / len(val)) for order in (5, 6, 8)
    }
    assert found == pytest.approx({5: 3.63, 6: 3.60, 8: 3.62}, abs=0.006)
