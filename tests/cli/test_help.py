"""--help of the three programs: each setting in a line, with its value, its meaning and what it may be."""

import re
import subprocess
import sys
from enum import Enum
from pathlib import Path

import pytest

from tests.support.programs import DEADLINE, assert_succeeded, call_program
from timemachine.cli.help import GROUPS, described
from timemachine.cli.schema import CONF, choices, leaves
from timemachine.config import REPOSITORY, Evaluate, Generate, Train

PROGRAMS = [("train.py", Train), ("evaluate.py", Evaluate), ("generate.py", Generate)]


def helped(name: str, *arguments: str) -> list[str]:
    done = call_program(name, *arguments, "--help")
    assert_succeeded(done)
    return done.stdout.splitlines()


@pytest.mark.parametrize(("name", "schema"), PROGRAMS)
def test_each_setting_has_a_line_with_its_meaning_and_what_it_may_be(name: str, schema: type) -> None:
    lines = helped(name)
    for setting, field in leaves(schema):
        found = [line for line in lines if line.startswith(f"  {setting}=")]
        if not field.metadata.get("meaning"):
            assert setting.startswith("trainer.")
            assert found == []
            continue
        (line,) = found
        assert line.endswith(f"  {described(field)}")
        if isinstance(field.default, Enum):
            assert f" ({', '.join(type(field.default).__members__)})" in line
        if "least" in field.metadata:
            assert re.search(r" \((-?[\d.]+ (to [\d.,]+|or more)|a positive number)\)$", line)
        if field.type in (bool, bool | None):
            assert line.endswith(" (true or false)")
    assert max(map(len, lines)) <= 110


def test_lines_are_as_a_user_wants_them() -> None:
    lines = helped("train.py")
    for line in (
        "  trainer.max_epochs=100      epochs; -1: without end (-1 to 2,147,483,647)",  # of conf/, not of the schema
        "  model.hiddens=32            hidden units, the book's num_hiddens (1 to 8,192)",
        "  model.activation=tanh       φ of the recurrence (tanh, relu)",
        "  data.search_dirs=[../shared/corpora]  folders with books, seen from the repository",
        "  data=book                   the text and its windows: book, full, sample",
        "  trainer.…=…                 any argument of Lightning's Trainer but logger, callbacks and default_root_dir",
    ):
        assert line in lines
    assert "  run=outputs/…               a run's folder, checkpoint or model.safetensors" in helped("generate.py")
    for typed in ("-m", "exercise=clipping", "resume=outputs/…", "--hydra-help", "--cfg job", "--info"):
        assert typed in "\n".join(lines)


def test_all_groups_are_listed_with_all_choices() -> None:
    assert GROUPS.keys() == {path.name for path in CONF.iterdir() if path.is_dir()} - {"hydra", "smoke"}
    text = " ".join("\n".join(helped("train.py")).split())
    for group in GROUPS:
        assert re.search(rf" {group}=\w+ [^:]+: {', '.join(choices(group))} ", text)


def test_values_are_those_after_what_was_typed() -> None:
    lines = helped("train.py", "-m", "recipe=novel", "model.lr=0.5", "seed=1,2", "logger=csv")
    for value in ("recipe=novel", "model.hiddens=1024", "model.lr=0.5", "data.num_train=null", "seed=0", "logger=csv"):
        assert any(line.startswith(f"  {value} ") for line in lines)


@pytest.mark.parametrize("flag", ["-h", "--help", "--hel"])
def test_flags_of_hydras_for_help_are_ours(flag: str) -> None:
    assert call_program("generate.py", flag).stdout.startswith("Continue a text with a trained model.\n")


def test_a_mistake_is_answered_before_help_is_given() -> None:
    done = call_program("train.py", "--help", "model.lr=abc")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: model.lr=abc: must be a positive number; type for example model.lr=1.0\n"


@pytest.mark.parametrize(("name", "_"), PROGRAMS)
def test_hydras_other_flags_stay_its_own(name: str, _: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call_program(name, "--hydra-help").stdout.startswith("Hydra (")
    assert "seed: 0\n" in call_program(name, "--cfg", "job").stdout or name == "evaluate.py"
    assert "Config path" in call_program(name, "--info", "defaults").stdout


@pytest.mark.parametrize(("name", "_"), PROGRAMS)
def test_a_flag_of_hydras_that_goes_with_others_is_refused_alone(name: str, _: type) -> None:
    done = call_program(name, "--resolve")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: --resolve: --resolve goes with --cfg or --help; type --hydra-help to see all flags\n"
    done = call_program(name, "--info", "all", "--cfg", "job")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: --info all --cfg job: only one of --run, ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("reader", ["head -1", "true"])
def test_a_closed_pipe_is_no_error(reader: str) -> None:
    command = f"set -o pipefail; {sys.executable} {REPOSITORY / 'train.py'} --help | {reader}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=DEADLINE)
    assert_succeeded(done)
    assert done.stdout.count("\n") == (reader == "head -1")
