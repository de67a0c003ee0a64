"""What someone new is told to type, and what runs on a change, are there."""

import re
from typing import Any

import yaml

from timemachine.config import REPOSITORY


def read(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def test_what_contributing_tells_to_type_is_there() -> None:
    (block,) = re.findall(r"```bash\n(.*?)```", read("CONTRIBUTING.md"), re.DOTALL)
    targets = re.findall(r"\bmake ([\w-]+)", read("CONTRIBUTING.md"))
    assert targets and all(re.search(rf"^{target}:", read("Makefile"), re.MULTILINE) for target in targets)
    for path in re.findall(r"(?<![\w/])tests/\w+\.py", block):
        assert (REPOSITORY / path).is_file()


def test_the_workflow_runs_what_ci_run_runs() -> None:
    jobs: dict[str, Any] = yaml.safe_load(read(".github/workflows/ci.yml"))["jobs"]
    ran = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}
    assert ran == {"linux": [".ci/run"], "macos": ["make test"]}
