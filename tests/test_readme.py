"""The settings of the commands in the Markdown pages, their examples and links. test_commands.py runs the commands."""

import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

import timemachine.run.program  # noqa: F401 (registers the resolvers of conf/)
from tests.support.documents import PAGES, commands, filled_in
from tests.support.programs import Program
from timemachine.config import EVALUATE, GENERATE, REPOSITORY, check
from timemachine.page import EXPERIMENTS
from timemachine.run.console import with_quoted
from timemachine.run.program import VERSION_BASE
from timemachine.study.probes import PACKAGES

# Not the commands of the diffs in docs/extending.md, which test_commands.py applies.
PRINTED = [command for page in PAGES if page not in ("CHANGELOG.md", "docs/extending.md") for command in commands(page)]
COMMANDS = [
    each for each in dict.fromkeys(map(filled_in, PRINTED)) if re.match(r"python (-m timemachine|\w+\.py) ", each)
]
SOURCE = REPOSITORY / "src/timemachine"
OPTIONAL = {"hydra/sweeper": "hydra_optuna_sweeper", "submitit": "hydra_submitit_launcher"}  # Hydra's plugins


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures(page: str) -> None:
    here, text = REPOSITORY / page, PAGES[page]
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for path, _, anchor in (target.partition("#") for target in targets if not target.startswith("https:")):
        found = here.parent / path if path else here
        assert found.exists(), f"{page} links to {path}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in anchors, f"{page} links to {path}#{anchor}"


def test_lecture_has_the_numbers_of_the_page() -> None:
    """The table of experiments in docs/teaching.md: names, rates, radii and final perplexities."""
    _, _, section = PAGES["docs/teaching.md"].partition("## A lecture without installation")
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    assert [name for name, *_ in rows[1:]] == [experiment["name"] for experiment in EXPERIMENTS]
    for experiment, (_, question, seen) in zip(EXPERIMENTS, rows[1:], strict=True):
        expected = ["diverged" if value is None else f"{value:.2f}" for value in experiment["python"]]
        assert re.findall(r"diverged|\d+\.\d\d", seen) == expected
        network = {"lr": 1, "gradient_clip_val": 1} | experiment["networks"][-1]
        for word, name in (("rate", "lr"), ("radius", "gradient_clip_val")):
            for value in re.findall(rf"{word} of (\d[\d.]*)", question + seen):
                assert float(value) == network[name]


def test_all_probes_are_listed() -> None:
    modules = [Path(file) for folder in PACKAGES for file in (SOURCE / folder.partition(".")[2]).glob("*.py")]
    probes = {file.stem for file in modules if "\ndef measure(" in file.read_text(encoding="utf-8")}
    _, _, section = PAGES["docs/settings.md"].partition("## Probes")
    assert {*re.findall(r"^\| `(\w+)` \|", section.partition("\n## ")[0], re.MULTILINE)} == probes


def first_job(overrides: list[str]) -> list[str]:
    parsed = OverridesParser.create().parse_overrides(overrides)
    return [
        f"{each.get_key_element()}={next(each.sweep_string_iterator())}" if each.is_discrete_sweep() else typed
        for each, typed in zip(parsed, overrides, strict=True)
        if not each.is_sweep_override() or each.is_discrete_sweep()
    ]


def composed(name: str, overrides: list[str]) -> DictConfig:
    """Return the settings of a command, or of the first job of a sweep or an exercise."""
    with initialize_config_dir(str(REPOSITORY / "conf"), **VERSION_BASE):
        config = compose(name, first_job(overrides), return_hydra_config=True)
        if not (params := config.hydra.sweeper.params):
            with read_write(config), open_dict(config):
                del config["hydra"]
            return config
        return compose(name, first_job([*(f"{key}={values}" for key, values in params.items()), *overrides]))


@pytest.mark.filterwarnings("ignore:hydra.utils.instantiate")  # outside hydra.main Hydra 1.4 warns of any class
@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any) -> None:
    """Compose the settings, and build the text and the model; other tests train, evaluate and generate."""
    name, *arguments = shlex.split(command)[1:]
    if name == "-m":
        assert importlib.util.find_spec(arguments[0])
        return
    for words, plugin in OPTIONAL.items():
        if words in command:
            pytest.importorskip(f"hydra_plugins.{plugin}")
    if name == "generate.py":
        arguments = with_quoted("prefix", arguments)
    config = composed(name.removesuffix(".py"), [word for word in arguments if not word.startswith("-")])
    if name != "train.py":
        settings: Any = OmegaConf.to_container(config)
        check(settings, {"evaluate.py": EVALUATE, "generate.py": GENERATE}[name])
        return
    (tmp_path / "my_models.py").write_text("from timemachine.language_model import RNNLMScratch as MomentumLM\n")
    monkeypatch.syspath_prepend(tmp_path)
    config.data.search_dirs = [str(request.getfixturevalue("novels"))]
    if config.data.corpus in ("my_texts", "my_text.txt", "my text (2nd).txt"):
        config.data.corpus = str(REPOSITORY / "src/timemachine/texts")  # includes the sample
    data = instantiate(config.data, _convert_="all")
    instantiate(config.model, vocab_size=len(data.vocab), _convert_="all")


@pytest.mark.slow
def test_ngrams_example(novels: Path, program: Program) -> None:
    example, *_ = re.findall(r"```python\n(.*?)```", PAGES["docs/exercises.md"], re.DOTALL)
    assert "3-gram: validation 7.85, rest 9.42" in program("-c", example).stdout
