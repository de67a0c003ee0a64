"""The trained models of docs/models.md are the files that the table describes, and can be used at once."""

import hashlib
import re

import pytest

from timemachine import load_run
from timemachine.config import REPOSITORY
from timemachine.decoding import continue_text

ROWS = re.findall(
    r"^\| \[\w+]\(\.\./(\S+)\) \| ([\d,]+) \| ([\d.]+) \| `(\w{64})` \|$",
    (REPOSITORY / "docs/models.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)


def test_all_models_are_small_and_listed() -> None:
    models = [*(REPOSITORY / "sweeps/reference").rglob("*.safetensors")]
    assert {REPOSITORY / path for path, *_ in ROWS} == {*models}
    assert len(models) == 3
    assert sum(path.stat().st_size for path in models) < 2_000_000


@pytest.mark.parametrize(("path", "parameters", "perplexity", "digest"), ROWS)
def test_model_is_that_of_the_table(path: str, parameters: str, perplexity: str, digest: str) -> None:
    file = REPOSITORY / path
    assert hashlib.sha256(file.read_bytes()).hexdigest() == digest
    run = load_run(file)
    assert f"{sum(weights.numel() for weights in run.model.parameters()):,}" == parameters
    assert run.summary["metrics"]["val/perplexity"] == pytest.approx(float(perplexity), abs=0.006)
    (text,) = continue_text(run.model, run.vocab, "the time traveller", 20, alpha=1)
    assert len(text) > len("the time traveller")
