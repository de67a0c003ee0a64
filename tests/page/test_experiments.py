"""The commands that the page shows: each is valid, and gives the numbers of experiments.json."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.programs import Program
from tests.test_readme import composed
from timemachine.config import REPOSITORY
from timemachine.page import EXPERIMENTS
from timemachine.run.summary import read_summary

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

COMMANDS = """experiments => experiments.map(experiment => {
    const { networks, data } = settingsOf(experiment);
    return networks.map(network => commandOf(network, data));
})"""
OTHERS = [  # settings that no experiment has
    {
        "networks": [{"layers": 3, "activation": "relu", "sigma_hh": 2, "input_lr_factor": 3}],
        "data": {"batch_size": 48, "seed": 7},
    },
    {"networks": [{"cell": "lstm", "layers": 2, "sigma_hh": 2}], "data": {"text": "recall", "delay": 8, "updates": 30}},
]


@pytest.fixture
def page(browser: "Browser") -> Iterator["Page"]:
    """Open the published page, which has the whole novel."""
    page = browser.new_page(reduced_motion="reduce")
    page.goto((REPOSITORY / "sweeps/reference/book/page.html").as_uri())
    yield page
    page.close()


def arguments(command: str) -> list[str]:
    return shlex.split(command)[2:]  # without python train.py


def test_commands_compose(page: "Page") -> None:
    for commands in page.evaluate(COMMANDS, [*EXPERIMENTS, *OTHERS]):
        for command in commands:
            config = composed("train", arguments(command))
            assert config.data.num_train is not None


@pytest.mark.torture
def test_commands_give_the_numbers_of_the_page(page: "Page", tmp_path: Path, novels: Path, program: Program) -> None:
    """Validation perplexities differ between kernels and machines: at a learning rate of 10 by some per cent."""
    wrong = []
    for number, commands in enumerate(page.evaluate(COMMANDS, EXPERIMENTS)):
        for place, command in enumerate(commands):
            folder, python = tmp_path / f"{number}-{place}", EXPERIMENTS[number]["python"][place]
            program("train.py", *arguments(command), f"hydra.run.dir={folder}", f"data.search_dirs=[{novels}]")
            summary = read_summary(folder)
            measured = None if summary["status"] == "diverged" else summary["metrics"]["val/perplexity"]
            if (python is None) != (measured is None) or (python and measured != pytest.approx(python, rel=0.05)):
                wrong.append((command, python, measured))
    assert not wrong
