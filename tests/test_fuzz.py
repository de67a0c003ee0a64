"""Whatever is typed and whatever the text is: the program trains, or says one line. Never a traceback, never a hang.

In this process, because a start takes seconds: `main` as the shell calls it, with its output caught. What makes a case
cheap changes nothing that is checked: Hydra composes the same arguments once, and the disk is not waited for.
"""

import copy
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.proof.tally import Note, Tally, command, shards
from tests.support.programs import DEADLINE, Done, call_program
from timemachine.cli.schema import choices, leaves
from timemachine.config import Evaluate, Generate, Train
from timemachine.run.record import read_summary

CASES = int(os.environ.get("CASES", 100))  # of each kind; `make torture`: 10,000
TINY_TEXT = b"the time traveller for so it will be convenient to speak of him"

TINY = ["data.corpus=tiny.txt", "logger=csv", "trainer=cpu", "trainer.max_epochs=1", "model.hiddens=2"]
TINY += ["data.num_steps=2", "data.batch_size=4", "data.num_train=8", "data.num_val=4", "hydra.run.dir=run"]

# What would start other processes, wait for other machines, or train for hours, as it should.
LEFT_OUT = {"trainer.strategy", "trainer.devices", "trainer.num_nodes", "data.search_dirs", "resume"}
BOUNDED = {"trainer.max_epochs", "trainer.min_epochs", "trainer.max_steps", "trainer.min_steps"}

numbers = st.sampled_from([
    "0", "1", "2", "3", "-2", "0.5", "1e-9", "1e9", "1e400", "-1e400", "nan", "inf", "-inf", "1_0", "0x1", "1e", "٣",
])  # fmt: skip
large = st.sampled_from(["-1", "100", "8192", "8193", "99999999999999999999999", "2147483647"])
words = st.sampled_from([
    "null", "true", "false", "tanh", "relu", "cpu", "gpu", "mps", "32", "16-mixed", "bf16-true", "64-true",
])  # fmt: skip
odd = st.sampled_from([
    "[]", "[a,b]", "[stream]", "[1,2", "{}", "{a:1}", "{_target_:os.getcwd}", "a=b", "=", "${x}", "${seed}",
    "${oc.env:HOME}", "\\", "a\\", "a,b", "é", "🙂", "''", '"', "'", "/", "..", "~", "(", "glob(*)", "range(3)", "",
    " ", "a b",
])  # fmt: skip
text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
values = st.one_of(numbers, large, words, odd, text)


def setting_of(name: str) -> SearchStrategy[str]:
    chosen = st.one_of(numbers, words, odd, text).filter(lambda value: not re.fullmatch(r"\s*(-1|1e9|inf)\s*", value))
    return (chosen if name in BOUNDED else values).map(lambda value: f"{name}={value}")


def choice_of(group: str) -> SearchStrategy[str]:
    found = [choice for choice in choices(group) if not choice.startswith(("ddp", "wandb", "auto"))]
    return st.sampled_from(found).map(lambda name: f"{group}={name}")


names = sorted(name for name, _ in leaves(Train) if name not in LEFT_OUT)
valid_name = st.sampled_from(names).flatmap(setting_of)
misspelt = st.builds(
    lambda name, at, letter, value: f"{name[:at]}{letter}{name[at + 1 :]}={value}",
    st.sampled_from(names), st.integers(0, 20), st.sampled_from("xX.=+~-/@: "), values,
)  # fmt: skip
marked = st.builds(lambda mark, typed: mark + typed, st.sampled_from(["+", "++", "~", "-", "--", "@"]), valid_name)
of_a_group = st.sampled_from(["trainer", "logger"]).flatmap(choice_of)
unknown_choice = st.builds(lambda group, value: f"{group}={value}", st.sampled_from(["trainer", "data", "scale"]), text)
argument = st.one_of(valid_name, valid_name, valid_name, misspelt, marked, of_a_group, unknown_choice, text)


class Hang(BaseException):
    """Not an error that the program would catch."""


def _hangs(number: int, frame: FrameType | None) -> NoReturn:
    raise Hang


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, but for a text, for cases by the thousand."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    Path("tiny.txt").write_bytes(TINY_TEXT)
    monkeypatch.setattr(os, "fsync", lambda file: None)
    signal.signal(signal.SIGALRM, _hangs)
    compose, known = ConfigLoaderImpl.load_configuration, dict[str, Any]()

    def composed_once(loader: ConfigLoaderImpl, **arguments: Any) -> Any:
        if (key := repr(arguments)) not in known:
            if len(known) > 8:
                known.clear()
            known[key] = compose(loader, **arguments)
        return copy.deepcopy(known[key])

    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", composed_once)
    return here


def answered(program: str, *arguments: str) -> Done:
    """Call the program. It does what was asked, or the last line on stderr says what is wrong."""
    signal.alarm(DEADLINE)
    try:
        done = call_program(program, *arguments)
    except Hang:
        raise AssertionError("it hangs") from None
    finally:
        signal.alarm(0)
    report = f"{arguments}\n{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.returncode in (0, 1, 2) and "Traceback" not in done.stderr, report
    if done.returncode:
        assert done.stderr.splitlines()[-1].startswith("error: "), report
    return done


def trains(program: str, *arguments: str) -> bool:
    """Whether it trained: the other answer is one line, or the help."""
    shutil.rmtree("run", ignore_errors=True)
    done = answered(program, *arguments)
    if done.returncode == 0 and "== Settings" not in done.stdout:
        assert read_summary(Path("run"))["status"] in ("completed", "diverged")
        return True
    return "error: diverged" in done.stderr


def fuzz(
    kind: str, strategy: SearchStrategy[Any], number: int, cases: int,
    typed: Callable[[Any], list[str]], succeeds: Callable[..., bool],
) -> Tally:  # fmt: skip
    """Try so many command lines, `typed` for what the strategy draws, others for another number. Some succeed."""
    tally, succeeded = Tally(kind), 0

    @seed(number)
    @settings(max_examples=cases, phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None)
    @given(strategy)
    def case(drawn: Any) -> None:
        nonlocal succeeded
        program, *arguments = typed(drawn)
        texts = {path.stem: path.read_bytes() for path in Path.cwd().glob("*.txt")}
        with tally.case(command(program, *arguments, **texts)):
            succeeded += succeeds(program, *arguments)

    case()
    assert cases < 100 or succeeded > cases / 50
    return tally


def fuzz_settings(number: int, cases: int) -> Tally:
    some = st.lists(argument, min_size=1, max_size=3)
    return fuzz("settings", some, number, cases, lambda drawn: ["train.py", *TINY, *drawn], trains)


# Texts

of_bytes = st.one_of(
    st.binary(max_size=300),
    st.binary(max_size=300).map(lambda some: TINY_TEXT + some),
    st.sampled_from([b"a", b"ab", b"\xff", b"\xef\xbb\xbf", b"\n", b"a" * 10**6, b" " * 10**6, b"1234567890" * 100]),
    st.text(st.sampled_from("🙂😀éßñ中"), max_size=300).map(str.encode),
    st.text(max_size=100).map(lambda some: some.encode("utf-16", "surrogatepass")),
    st.sampled_from([b"*** START OF THIS PROJECT GUTENBERG EBOOK X ***\n", b"*** END OF\n*** START OF\na"]),
)
cut = st.sampled_from(
    [["data.num_train=null", "data.num_val=null"], ["data.num_steps=50"], ["data.tokens=characters"], []]
)


def fuzz_texts(number: int, cases: int) -> Tally:
    def typed(drawn: tuple[bytes, list[str]]) -> list[str]:
        content, how = drawn
        Path("text.txt").write_bytes(content)
        return ["train.py", *TINY, "data.batch_size=200000", "data.corpus=text.txt", *how]

    return fuzz("texts", st.tuples(of_bytes, cut), number, cases, typed, trains)


# Command lines of all three programs, flags and folders among them

flag = st.sampled_from([
    "-h", "--help", "-m", "--multirun", "--cfg", "job", "hydra", "all", "-c", "--info", "defaults", "-p", "data",
    "--resolve", "--version", "--config-name", "--config-name=train", "--config-dir=.", "--no-such-flag", "--", "-",
    "-x=1", "--hydra-help", "-sc", "--config-name=evaluate",
])  # fmt: skip
places = st.sampled_from([
    "trained", "trained/model.safetensors", "trained/checkpoints", "trained/checkpoints/last.ckpt", "sweep", "sweep/0",
    "tiny.txt", "nowhere", "", ".", "..", "/", "~", "[trained,trained]", "[trained]", "trained,trained", "'trained'",
    "${seed}",
])  # fmt: skip
of_training = st.one_of(
    argument,
    flag,
    places.map("resume={}".format),
    st.sampled_from(["seed=0,1", "model.hiddens=1,2", "model.lr=0.1,nan", "trainer.max_epochs=range(3)", "exercise=x"]),
    st.sampled_from(["probes=[stream]", "data.num_val=null", "recipe=novel", "hydra.sweep.dir=swept", "logger=x"]),
)


def of_a_model(schema: type) -> SearchStrategy[str]:
    """An argument of evaluate.py or generate.py."""
    own = [name for name, _ in leaves(schema) if name not in LEFT_OUT and not name.startswith("logger.")]
    setting = st.builds(lambda name, value: f"{name}={value}", st.sampled_from(own), values)
    return st.one_of(setting, setting, flag, places.map("run={}".format), text)


lines = st.one_of(
    st.tuples(st.just("train.py"), st.lists(of_training, min_size=1, max_size=4)),
    st.tuples(st.just("evaluate.py"), st.lists(of_a_model(Evaluate), max_size=4)),
    st.tuples(st.just("generate.py"), st.lists(of_a_model(Generate), max_size=4)),
)


def fuzz_command_lines(number: int, cases: int) -> Tally:
    for how in (["hydra.run.dir=trained"], ["-m", "hydra.sweep.dir=sweep", "seed=0,1"]):
        assert call_program("train.py", *TINY, "model.lr=0.01", *how).returncode == 0
    shutil.copytree(".", "../sound")

    def typed(drawn: tuple[str, list[str]]) -> list[str]:
        program, arguments = drawn
        shutil.rmtree(".", ignore_errors=True)  # the folder itself stays: this process is in it
        shutil.copytree("../sound", ".", dirs_exist_ok=True)
        if program == "train.py":
            return [program, *TINY, "hydra.sweep.dir=another", *arguments]
        sound = ["run=trained", "data.corpus=tiny.txt"][: 1 + (program == "evaluate.py")] if number % 2 else []
        return [program, *sound, *arguments]

    return fuzz("command lines", lines, number, cases, typed, lambda *line: answered(*line).returncode == 0)


# The tests


@pytest.mark.parametrize("fuzz", [fuzz_settings, pytest.param(fuzz_texts, marks=pytest.mark.slow), fuzz_command_lines])
def test_some(fuzz: Callable[[int, int], Tally], folder: Path, record_property: Note) -> None:
    fuzz(0, 20).end(record_property)


MANY = [(fuzz, *shard) for fuzz in (fuzz_settings, fuzz_texts) for shard in shards(CASES)]
MANY += [(fuzz_command_lines, *shard) for shard in shards(CASES // 5)]


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.parametrize(("fuzz", "number", "cases"), MANY)
def test_many(fuzz: Callable[[int, int], Tally], number: int, cases: int, folder: Path, record_property: Note) -> None:
    fuzz(number, cases).end(record_property)
