"""The Job of conf/clusters.md, with bash in place of its pods."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.support.programs import Program, assert_succeeded
from tests.support.runs import epochs, what_is_left
from timemachine.config import REPOSITORY
from timemachine.run.jobs import load_sweep

(YAML,) = re.findall(r"```yaml\n(.*?)```", (REPOSITORY / "conf/clusters.md").read_text(), re.DOTALL)
JOB = yaml.safe_load(YAML)["spec"]
SETTINGS = ["data=sample", "data.num_train=515", "data.num_val=100", "data.num_steps=8", "logger=csv"]
SETTINGS += ["trainer.max_epochs=100"]


def pod(index: int, folder: Path) -> "subprocess.Popen[bytes]":
    (container,) = JOB["template"]["spec"]["containers"]
    script = container["args"][0].replace("python /timemachine", f"{sys.executable} {REPOSITORY}")
    environment = os.environ | {"JOB_COMPLETION_INDEX": str(index)}
    return subprocess.Popen([*container["command"], script, "bash", *SETTINGS], cwd=folder, env=environment)


@pytest.mark.slow
def test_a_pod_that_is_killed_goes_on_in_the_next_one(program: Program, tmp_path: Path) -> None:
    pods = [pod(index, tmp_path) for index in range(JOB["completions"])]
    while epochs(tmp_path / "sweeps/width/1") < 2 and pods[1].poll() is None:
        time.sleep(0.05)
    pods[1].kill()
    assert [each.wait() for each in pods] == [0, -9, 0]
    assert pod(1, tmp_path).wait() == 0
    assert_succeeded(program("-m", "timemachine.report", "sweeps/width"))
    rows = [(row["status"], row["model.hiddens"], row["model.lr"]) for row in load_sweep(tmp_path / "sweeps/width")]
    assert rows == [("completed", 16, 1), ("completed", 32, 1), ("completed", 64, 0.5)]
    assert_succeeded(program("train.py", *SETTINGS, "model.hiddens=32", "hydra.run.dir=alone"))
    assert what_is_left(tmp_path / "sweeps/width/1") == what_is_left(tmp_path / "alone")
