"""The Job in conf/clusters.md: valid YAML, one run per index, and valid settings of train.py."""

import re
import shlex

import yaml
from hydra import compose, initialize_config_dir

from timemachine.cli.schema import CONF, VERSION


def test_kubernetes_job() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (CONF / "clusters.md").read_text(encoding="utf-8"), re.DOTALL)
    job = yaml.safe_load(text)["spec"]
    (container,) = job["template"]["spec"]["containers"]
    (script,) = container["args"]
    (runs,) = re.findall(r"^runs=\((.*)\)$", script, re.MULTILINE)
    assert len(shlex.split(runs)) == job["completions"]
    assert "resume=$D" in script and "hydra.run.dir=$D" in script
    with initialize_config_dir(str(CONF), **VERSION):
        for run in shlex.split(runs):
            compose("train", run.split())
