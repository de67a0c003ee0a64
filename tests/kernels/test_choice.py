"""Which kernel model.backward=auto takes, in a new run, in one that is resumed, and where there is no library."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.conftest import Program
from tests.support.jobs import leave_job
from timemachine.kernels import choice, fused
from timemachine.runs.record import Record
from timemachine.runs.resuming import kept_backward
from timemachine.runs.summaries import read_summary

SMALL = ["data=sample", "data.num_train=200", "data.num_val=100", "data.batch_size=64", "data.num_steps=8"]
SMALL += ["model.hiddens=4", "logger=csv", "trainer.enable_progress_bar=false"]
needs_library = pytest.mark.skipif(not choice.is_compiled(), reason="the fused kernel is not compiled")


@pytest.mark.parametrize(
    ("network", "compiled", "on_cpu", "expected"),
    [
        (("auto", 32, 28, "tanh"), True, True, "fused"),
        (("auto", 32, 28, "tanh"), False, True, "bptt"),
        (("auto", 32, 28, "tanh"), True, False, "bptt"),
        (("auto", 512, 256, "relu"), True, True, "fused"),
        (("auto", 513, 28, "tanh"), True, True, "bptt"),
        (("auto", 32, 28, "softsign"), True, True, "bptt"),
        (("fused", 8192, 28, "tanh"), True, True, "fused"),
        (("fused", 32, 28, "tanh"), False, True, "bptt"),
        (("bptt", 32, 28, "tanh"), True, True, "bptt"),
    ],
)
def test_what_a_setting_comes_to(
    network: tuple[str, int, int, str],
    compiled: bool,
    on_cpu: bool,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choice, "is_compiled", lambda: compiled)
    assert choice.kernel_of(*network, on_cpu) == expected


def began_with(kernel: str, folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    summary["kernel"] = kernel
    (folder / "summary.json").write_text(json.dumps(summary))


@needs_library
def test_a_resumed_run_keeps_its_kernel(program: Program, tmp_path: Path) -> None:
    run, ours = tmp_path / "run", f"fused ({fused.available()})"
    begun = program("train.py", *SMALL, "trainer.max_epochs=1", "hydra.run.dir=run")
    assert begun.returncode == 0, begun.stderr
    assert "kernel" not in begun.stdout
    assert read_summary(run)["kernel"] == ours
    for epochs, (then, now) in enumerate([(ours, ours), ("fused (other)", ours), ("bptt", "bptt")], 2):
        began_with(then, run)
        resumed = program("train.py", "resume=run", f"trainer.max_epochs={epochs}")
        assert resumed.returncode == 0, resumed.stderr
        assert read_summary(run)["kernel"] == now
        line = f"kernel  fused (other) when the run began, {ours} now: the last digits may differ\n"
        assert (line in resumed.stdout) == (then == "fused (other)")


def as_settings(**model: Any) -> dict[str, Any]:
    return {"settings": {"resume": "sweep", "model": {"cell": "rnn", "hiddens": 32, "activation": "tanh"} | model}}


def as_run(**attributes: Any) -> Record:
    return cast(Record, SimpleNamespace(**{"before": {}, "in_sweep": False, "summary": as_settings()} | attributes))


@pytest.mark.parametrize(
    ("before", "kept"),
    [
        ({}, "auto"),
        (as_settings(backward="bptt"), "bptt"),
        (as_settings(backward="auto"), "auto"),  # killed before its kernel was known
        (as_settings(backward="auto") | {"kernel": "bptt"}, "bptt"),
        (as_settings(backward="bptt") | {"kernel": "autograd"}, "autograd"),
    ],
)
def test_what_a_run_began_with_is_kept(before: dict[str, Any], kept: str) -> None:
    assert kept_backward(as_run(before=before), "auto") == kept
    assert kept_backward(as_run(before=before), "autograd") == "autograd"


def test_another_cell_has_no_kernel_to_keep() -> None:
    before = as_settings(cell="gru", backward="auto") | {"kernel": "autograd"}
    assert kept_backward(as_run(before=before, summary=as_settings(cell="gru")), "auto") == "auto"


@pytest.mark.parametrize(
    ("others", "kept"),
    [
        ([], "auto"),
        ([({"hiddens": 600, "backward": "auto"}, "bptt")], "auto"),  # which says nothing of this job
        ([({"backward": "autograd"}, "autograd")], "auto"),
        ([({"backward": "auto"}, None)], "auto"),
        ([({"hiddens": 600, "backward": "auto"}, "bptt"), ({"backward": "auto"}, "bptt")], "bptt"),  # had no library
        ([({"backward": "auto"}, "fused (avx2)")], "auto"),
    ],
)
def test_what_other_jobs_began_with_is_kept_where_it_tells(
    others: list[tuple[dict[str, Any], str | None]], kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "is_compiled", lambda: True)
    for model, kernel in others:
        summary: dict[str, Any] = {"corpus": {"vocabulary": 28}} | ({"kernel": kernel} if kernel else {})
        leave_job(tmp_path / "sweep", as_settings(**model)["settings"], **summary)
    run = as_run(in_sweep=True, folder=tmp_path / "sweep/9")
    (tmp_path / "sweep").mkdir(exist_ok=True)
    assert kept_backward(run, "auto") == kept


@pytest.mark.slow
def test_without_a_library_it_is_said_once_and_a_run_that_needs_one_is_refused(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(  # which Python runs before each program
        "from pathlib import Path\nfrom timemachine.kernels import build\nbuild.LIBRARY = Path('/nonexistent')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    done = program("train.py", *SMALL, "trainer.max_epochs=1", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(choice.what_is_missed()) == 1
    assert read_summary(tmp_path / "run")["kernel"] == "bptt"
    sweep = program("train.py", "-m", *SMALL, "trainer.max_epochs=1", "seed=0,1")
    assert sweep.stdout.count(choice.what_is_missed()) == 1, sweep.stderr
    began_with("fused (avx2)", tmp_path / "run")
    refused = program("train.py", "resume=run", "trainer.max_epochs=2")
    assert refused.returncode == 1
    assert refused.stderr.startswith(
        "error: resume=run: began with the fused kernel, which is not compiled here; type "
    )
    assert refused.stderr.count("\n") == 1
    typed = program("train.py", *SMALL, "model.backward=fused")
    assert typed.returncode == 1
    assert typed.stderr.startswith("error: model.backward=fused: is not compiled; type ")
