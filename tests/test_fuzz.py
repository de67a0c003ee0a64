"""Random values of known settings: train.py trains, or prints one line and exits with status 1.

Runs share this process because starting a program takes seconds. tests/test_matrix.py tests the effect of each setting.
"""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.support.programs import call_program
from tests.support.runs import summary
from timemachine.cli.schema import leaves
from timemachine.config import Train

CASES = int(os.environ.get("CASES", 100)) // 5  # `make torture`: 2,000
TEXT = b"the time traveller for so it will be convenient to speak of him"
TINY = ["data.corpus=tiny.txt", "logger=csv", "trainer=cpu", "trainer.max_epochs=1", "model.hiddens=2"]
TINY += ["data.num_steps=2", "data.batch_size=4", "data.num_train=8", "data.num_val=4", "hydra.run.dir=run"]

# These settings start other processes, wait for other nodes or read other folders.
LEFT_OUT = {"trainer.strategy", "trainer.devices", "trainer.num_nodes", "data.search_dirs", "resume"}
BOUNDED = {"trainer.max_epochs", "trainer.min_epochs", "trainer.max_steps", "trainer.min_steps"}
NAMES = sorted(name for name, _ in leaves(Train) if name not in LEFT_OUT)

numbers = st.sampled_from([
    "0", "1", "2", "3", "-2", "0.5", "1e-9", "1e9", "1e400", "-1e400", "nan", "inf", "-inf", "1_0", "0x1",
    "-1", "100", "8192", "8193", "99999999999999999999999", "2147483647",
])  # fmt: skip
words = st.sampled_from(
    ["null", "true", "false", "tanh", "cpu", "gpu", "32", "16-mixed", "64-true", "[]", "[a,b]", "é"]
)
values = st.one_of(numbers, numbers, words, st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=6))
small = st.sampled_from(["0", "1", "3", "-2", "0.5", "nan", "null", "[]"])


def setting(name: str) -> SearchStrategy[str]:
    """Draw a value for a setting. Limits on the length of the training are small."""
    return (small if name in BOUNDED else values).map(lambda value: f"{name}={value}")


some_settings = st.lists(st.sampled_from(NAMES).flatmap(setting), min_size=1, max_size=3)
few = settings(phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None)


@pytest.fixture
def tiny(tmp_path: Path, quick_calls: None) -> None:
    Path("tiny.txt").write_bytes(TEXT)


def check(*arguments: str) -> None:
    """Train. The exit status is 0 and the run is complete, or it is 1 and the last line is the error."""
    shutil.rmtree("run", ignore_errors=True)
    done = call_program("train.py", *TINY, *arguments)
    report = f"{arguments}\n{done.returncode}\n{done.stderr}"
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in done.stderr, report
    if done.returncode == 0:
        assert summary(Path("run"))["status"] == "completed" and not errors, report
    else:
        assert done.returncode == 1 and errors == done.stderr.splitlines()[-1:], report


@pytest.mark.torture
@pytest.mark.filterwarnings("ignore:`max_epochs` was not set")  # Lightning's, for trainer.max_epochs=null
def test_random_settings(tiny: None) -> None:
    @seed(0)
    @settings(few, max_examples=CASES)
    @given(some_settings)
    def case(typed: list[str]) -> None:
        check(*typed)

    case()
