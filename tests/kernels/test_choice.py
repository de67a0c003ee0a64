"""Which kernel model.backward comes to, and what a program says where there is no library."""

from pathlib import Path

import pytest

from tests.support.programs import call_program
from timemachine.kernels import choice
from timemachine.runs.summaries import read_summary

SMALL = ["data=sample", "data.num_train=200", "data.num_val=100", "data.batch_size=64", "data.num_steps=8"]
SMALL += ["model.hiddens=4", "logger=csv", "trainer=cpu", "trainer.enable_progress_bar=false", "trainer.max_epochs=1"]


@pytest.mark.parametrize(
    ("network", "compiled", "on_cpu", "expected"),
    [
        (("auto", 32, 28, "tanh"), True, True, "fused"),
        (("auto", 32, 28, "tanh"), False, True, "bptt"),
        (("auto", 32, 28, "tanh"), True, False, "bptt"),
        (("auto", 513, 28, "tanh"), True, True, "bptt"),  # too wide to be faster
        (("auto", 32, 28, "softsign"), True, True, "bptt"),
        (("fused", 8192, 28, "tanh"), True, True, "fused"),
        (("bptt", 32, 28, "tanh"), True, True, "bptt"),
    ],
)
def test_what_a_setting_comes_to(
    network: tuple[str, int, int, str], compiled: bool, on_cpu: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "is_compiled", lambda: compiled)
    assert choice.kernel_of(*network, on_cpu) == expected


def test_without_a_library_a_run_says_so_once_and_one_that_needs_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "is_compiled", lambda: False)
    monkeypatch.chdir(tmp_path)
    done = call_program("train.py", *SMALL, "hydra.run.dir=run")
    assert done.stdout.count(choice.what_is_missed()) == 1, done.stderr
    assert read_summary(tmp_path / "run")["kernel"] == "bptt"
    refused = call_program("train.py", *SMALL, "model.backward=fused", "hydra.run.dir=refused")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert refused.stderr.startswith("error: model.backward=fused: is not compiled; type ")
