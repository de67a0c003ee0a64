"""The first seconds of a program: Ctrl-C is quiet, and a terminal hears of what takes long."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from timemachine.config import REPOSITORY


@pytest.mark.parametrize("module", ["hydra", "filelock", "safetensors"])
@pytest.mark.parametrize("program", ["train.py", "evaluate.py", "generate.py"])
def test_ctrl_c_while_libraries_are_imported_is_quiet(program: str, module: str, tmp_path: Path) -> None:
    (tmp_path / f"{module}.py").write_text("raise KeyboardInterrupt")
    path = os.pathsep.join([str(tmp_path), str(REPOSITORY / "src")])
    done = subprocess.run(
        [sys.executable, REPOSITORY / program], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.skipif(os.name != "posix", reason="a terminal of its own")
@pytest.mark.parametrize(
    ("typed", "environment", "hears"),
    [
        (["data=sample", "data.num_train=1000000000"], {}, True),
        (["data=sample", "data.num_train=1000000000"], {"LOCAL_RANK": "1"}, False),
        (["--help"], {}, False),
        (["model.hiddens=0"], {}, False),
    ],
)
def test_a_terminal_hears_that_imports_take_seconds(
    typed: list[str], environment: dict[str, str], hears: bool, tmp_path: Path
) -> None:
    ours, terminal = os.openpty()
    done = subprocess.run(
        [sys.executable, REPOSITORY / "train.py", "logger=csv", *typed],
        env=os.environ | environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=terminal,
    )  # fmt: skip
    os.write(terminal, b"\n")  # so that there is something to read
    told = os.read(ours, 10_000).decode()
    os.close(ours)
    os.close(terminal)
    assert ("importing PyTorch and Lightning" in told) == hears
    assert b"importing" not in done.stdout
