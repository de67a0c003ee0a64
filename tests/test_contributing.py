"""What someone new is told to type, and what runs on a change, are there."""

import re
import subprocess
from typing import Any

import yaml

from tests.support.readme import TARGETS
from timemachine.config import REPOSITORY


def read(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def test_contributing_takes_five_commands_and_each_is_there() -> None:
    (block,) = re.findall(r"```bash\n(.*?)```", read("CONTRIBUTING.md"), re.DOTALL)
    commands = block.splitlines()
    assert len(commands) <= 5
    assert set(re.findall(r"\bmake ([\w-]+)", read("CONTRIBUTING.md"))) <= set(TARGETS)
    for path in re.findall(r"(?<![\w/])tests/\w+\.py", block):
        assert (REPOSITORY / path).is_file()


def test_the_workflow_runs_what_ci_run_runs() -> None:
    jobs: dict[str, Any] = yaml.safe_load(read(".github/workflows/ci.yml"))["jobs"]
    ran = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}
    assert ran == {"linux": [".ci/run"], "macos": ["make test"]}
    assert jobs["linux"]["strategy"]["matrix"]["python"] == ["3.11", "3.13"]
    assert all(job["env"] == {"PYTHON": "python"} for job in jobs.values())  # of the matrix, not the machine's own
    subprocess.run(["bash", "-n", ".ci/run"], cwd=REPOSITORY, check=True)


def test_pre_commit_takes_the_ruff_of_make_lint() -> None:
    (repository,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    entries = [hook["entry"] for hook in repository["hooks"]]
    assert repository["repo"] == "local"
    assert [entry.split()[:2] for entry in entries] == [[".venv/bin/ruff", "check"], [".venv/bin/ruff", "format"]]
