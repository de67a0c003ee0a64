"""Whatever is typed and whatever the text is: the program trains, or says one line. Never a traceback, never a hang.

In this process, because a start takes seconds: `train.main` as the shell calls it, with its output caught.
"""

import contextlib
import io
import logging
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

import train
from timemachine.command_line import _choices, _leaves
from timemachine.config import Train
from timemachine.record import read_summary

CASES = int(os.environ.get("CASES", 500))  # of settings and texts together; `make torture`: 10,000
A_HANG = 60  # seconds; a case takes a fraction of one

TINY = [
    "data.corpus=tiny.txt",
    "logger=csv",
    "trainer=cpu",
    "trainer.max_epochs=1",
    "model.hiddens=2",
    "data.num_steps=2",
]
TINY += ["data.batch_size=4", "data.num_train=8", "data.num_val=4", "hydra.run.dir=run"]

# What would start other processes, wait for other machines, or train for hours, as it should.
LEFT_OUT = {"trainer.strategy", "trainer.devices", "trainer.num_nodes", "data.search_dirs", "resume"}
BOUNDED = {"trainer.max_epochs", "trainer.min_epochs", "trainer.max_steps", "trainer.min_steps"}

numbers = st.sampled_from([
    "0", "1", "2", "3", "-2", "0.5", "1e-9", "1e9", "1e400", "-1e400", "nan", "inf", "-inf", "1_0", "0x1", "1e",
    "٣",
])  # fmt: skip
large = st.sampled_from([
    "-1", "100", "8192", "8193", "99999999999999999999999", "2147483648",
])  # fmt: skip
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
    found = [choice for choice in _choices(group) if not choice.startswith(("ddp", "wandb", "auto"))]
    return st.sampled_from(found).map(lambda name: f"{group}={name}")


names = sorted(name for name, _ in _leaves(Train) if name not in LEFT_OUT)
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
    """Not an error that anything would catch."""


def _hangs(number: int, frame: FrameType | None) -> NoReturn:
    raise Hang


@contextlib.contextmanager
def as_it_was() -> Iterator[None]:
    """What the program changes in its process: it has the process for itself, otherwise."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    arguments, environment, raises = sys.argv, dict(os.environ), logging.raiseExceptions
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        sys.argv, logging.raiseExceptions = arguments, raises
        os.environ.clear()
        os.environ.update(environment)


def typed(*arguments: str) -> tuple[object, str, str]:
    """Exit status (or text, which Python prints and makes 1), stdout and stderr of train.py."""
    output, errors, status = io.StringIO(), io.StringIO(), object()
    before = signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(A_HANG)
    try:
        with as_it_was(), contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            sys.argv = ["train.py", *arguments]
            try:
                train.main()
                status = 0
            except SystemExit as end:
                status = end.code
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    if isinstance(status, str):
        errors.write(status + "\n")
        status = 1
    return status, output.getvalue(), errors.getvalue()


def assert_trains_or_says_one_line(*arguments: str) -> bool:
    """Whether it trained."""
    shutil.rmtree("run", ignore_errors=True)
    status, output, errors = typed(*arguments)
    said = f"{arguments}\n{status}\n{output}\n{errors}"
    if status == 0 and "== Settings" in output:  # the help
        return False
    if status == 0:
        assert read_summary(Path("run"))["status"] in ("completed", "diverged"), said
        return True
    assert status in (1, 2), said
    assert "Traceback" not in errors, said
    last = errors.splitlines()[-1]
    assert last.startswith("error: ") and ("type " in last.lower() or "diverged" in last), said
    return "diverged" in last


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("tiny.txt").write_text("the time traveller for so it will be convenient to speak of him")
    return tmp_path


def fuzz_settings(cases: int) -> None:
    trained = 0

    @settings(max_examples=cases, phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None)
    @given(st.lists(argument, min_size=1, max_size=3))
    def case(arguments: list[str]) -> None:
        nonlocal trained
        trained += assert_trains_or_says_one_line(*TINY, *arguments)

    case()
    assert cases < 100 or trained > cases / 50


# Texts

TEXT = "text.txt"
of_bytes = st.one_of(
    st.binary(max_size=300),
    st.binary(max_size=300).map(
        lambda some: b"the time traveller for so it will be convenient to speak of him " + some
    ),
    st.sampled_from([b"a", b"ab", b"\xff", b"\xef\xbb\xbf", b"\n", b"a" * 10**6, b" " * 10**6, b"1234567890" * 100]),
    st.text(st.sampled_from("🙂😀éßñ中"), max_size=300).map(str.encode),
    st.text(max_size=100).map(lambda some: some.encode("utf-16", "surrogatepass")),
    st.builds(
        lambda letter, count: letter * count, st.sampled_from([b"a", b"a ", b"ab\n", b"z\0"]), st.integers(0, 99)
    ),
    st.sampled_from([b"*** START OF THIS PROJECT GUTENBERG EBOOK X ***\n", b"*** END OF\n*** START OF\na"]),
)
cut = st.sampled_from([["data.num_train=null", "data.num_val=null"], ["data.num_steps=50"], []])


def write_text(content: bytes) -> None:
    Path(TEXT).write_bytes(content)


def make_folder() -> None:
    Path(TEXT).mkdir()


def make_pipe() -> None:
    os.mkfifo(TEXT)


def make_link_to_nowhere() -> None:
    Path(TEXT).symlink_to("nowhere")


def make_link_to_itself() -> None:
    Path(TEXT).symlink_to(TEXT)


def remove_text() -> None:
    if Path(TEXT).is_dir() and not Path(TEXT).is_symlink():
        Path(TEXT).rmdir()
    else:
        Path(TEXT).unlink(missing_ok=True)


def fuzz_texts(cases: int) -> None:
    trained = 0

    @settings(max_examples=cases, phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None)
    @given(of_bytes, cut)
    def case(content: bytes, how: list[str]) -> None:
        nonlocal trained
        remove_text()
        write_text(content)
        trained += assert_trains_or_says_one_line(*TINY, "data.batch_size=200000", f"data.corpus={TEXT}", *how)

    case()
    assert cases < 100 or trained > cases / 20


@pytest.mark.parametrize("make", [make_folder, make_pipe, make_link_to_nowhere, make_link_to_itself])
def test_what_is_no_file(make: Callable[[], None], folder: Path) -> None:
    make()
    assert not assert_trains_or_says_one_line(*TINY, f"data.corpus={TEXT}")


def test_a_file_that_vanishes_before_it_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(b"the time traveller " * 100)
    is_file = os.path.isfile

    def vanishes(path: str) -> bool:
        was_there = is_file(path)
        if Path(path).name == TEXT:
            remove_text()
        return was_there

    monkeypatch.setattr(os.path, "isfile", vanishes)
    assert not assert_trains_or_says_one_line(*TINY, f"data.corpus={TEXT}")


def test_some_texts(folder: Path) -> None:
    fuzz_texts(20)


@pytest.mark.slow
def test_many_texts(folder: Path) -> None:
    fuzz_texts(CASES * 2 // 5)


def test_some_settings(folder: Path) -> None:
    fuzz_settings(20)


@pytest.mark.slow
def test_many_settings(folder: Path) -> None:
    fuzz_settings(CASES * 3 // 5)
