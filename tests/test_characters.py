"""A text with all its characters, as a user trains on it, goes on with it and reads others: data.tokens=characters."""

import re
from collections import Counter
from pathlib import Path

import pytest

import timemachine
from tests.support.programs import Done, Program, assert_said, assert_succeeded, call_program
from tests.support.runs import rows, summary
from tests.support.texts import LANGUAGES, path_of, read
from timemachine.evaluation.scores import evaluate

SMALL = ["data.num_train=null", "data.num_val=null", "data.num_steps=8", "data.batch_size=64", "logger=csv"]
SMALL += ["model.hiddens=16", "model.sigma=0.1", "model.lr=2", "data.tokens=characters"]


def train(folder: Path, language: str, *typed: str) -> Done:
    return call_program("train.py", *SMALL, f"data.corpus={path_of(language)}", *typed, f"hydra.run.dir={folder}")


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """The folder of a run on the English text, and what it printed."""
    folder = tmp_path_factory.mktemp("english") / "run"
    done = train(folder, "english", "trainer.max_epochs=10", "probes=[stream,history,weights]")
    assert_succeeded(done)
    return folder, done


def test_a_run_learns_from_all_that_the_text_has(english: tuple[Path, Done]) -> None:
    folder, done = english
    found, text = summary(folder), read("english")
    assert re.search(rf"^  text +{len(text):,} characters +english *$", done.stdout, re.MULTILINE)
    assert re.search(rf"^  parameters .* vocabulary of {len({*text}) + 1} *$", done.stdout, re.MULTILINE)
    sample = (folder / "sample.txt").read_text()[:-1]
    assert sample.startswith("it has")
    assert 'continuation  "' + sample.replace("\n", "↵") + '"' in done.stdout.splitlines()
    assert found["metrics"]["train/perplexity"] < found["corpus"]["unigram"]["train/perplexity"]
    probes = found["probes"]
    assert (
        probes["stream"]["val"]["perplexity"] < len({*text}) and probes["history"]["tv"] and probes["weights"]["logits"]
    )


def test_generate_writes_capitals_punctuation_and_line_breaks(english: tuple[Path, Done]) -> None:
    prefix = '"Who lit it?" Tom asked, and\nPeter (72) said: \'Mind the "third" step!\''
    done = call_program("generate.py", f"run={english[0]}", f"prefix={prefix}", "alpha=1", "num_preds=500")
    assert_succeeded(done)
    written = done.stdout.removeprefix(prefix)
    assert len(written) == 501 < len(done.stdout) and {*written} <= {*read("english")}
    assert all(re.search(kind, written) for kind in ("[a-z]", "[A-Z]", "[.,]", "\n."))


def test_samples_that_may_have_line_breaks_are_a_blank_line_apart(english: tuple[Path, Done]) -> None:
    typed = ("prefix=Tom", "alpha=1", "num_preds=9")
    (one,), three = (
        call_program("generate.py", f"run={english[0]}", *typed, f"num_samples={number}").stdout.split("\n\nTom")
        for number in (1, 3)
    )
    assert len(one) == 13 and [len(text) for text in three] == [12, 9, 10]


def test_generate_says_what_the_run_has_never_seen(english: tuple[Path, Done]) -> None:
    done = call_program("generate.py", f"run={english[0]}", "prefix=Zoe\u0308 is 100 %,\r\n")
    assert_succeeded(done)
    told = "prefix: not in the run's vocabulary, read as <unk>: 'Z' 'ë' '0' '%'; type prefix=<a text of its characters>"
    assert_said(done.stderr, told)
    assert done.stdout.startswith("Zoë is 100 %,\n")
    done = call_program("generate.py", f"run={english[0]}", "prefix= ", "num_preds=0")
    assert (done.stdout, done.stderr) == (" \n", "")


def test_a_runs_own_text_is_not_taken_for_another_where_it_was_changed(tmp_path: Path) -> None:
    text, run = tmp_path / "text.txt", tmp_path / "run"
    text.write_text(read("english"))
    typed = (f"data.corpus={text}", "trainer.max_epochs=1", f"hydra.run.dir={run}")
    assert_succeeded(call_program("train.py", *SMALL, *typed))
    text.write_text(read("english") + "And more.\n")
    done = call_program("evaluate.py", f"run={run}")
    told = f"{text} is no longer the text that the run was trained on; type data.corpus={text} to read it as another"
    assert done.returncode == 1 and done.stderr == f"error: data.corpus=null: {told} text\n"
    assert_succeeded(call_program("evaluate.py", f"run={run}", f"data.corpus={text}"))


def test_evaluate_counts_what_the_run_has_never_seen(english: tuple[Path, Done]) -> None:
    done = call_program("evaluate.py", f"run={english[0]}", f"data.corpus=[{path_of('german')},{path_of('english')}]")
    assert_succeeded(done)
    german = Counter(read("german"))
    unknown = [character for character in german if character not in read("english")]
    times = sum(german[character] for character in unknown)
    rule = f"{times} characters of {len(unknown)} kinds are not in the run's vocabulary"
    shown = " ".join(map(repr, unknown[:10]))
    assert f"\ngerman: {rule} ({shown} …): read and scored as <unk>, " in done.stdout
    assert "german: 2,254 characters\n" in done.stdout and "english: 2,479 characters\n" in done.stdout
    assert len(re.findall(r"^  (?:german +all|english +(?:train|val|test)) +[\d,]+ ", done.stdout, re.MULTILINE)) == 4
    assert not re.search("normalisation|^english: .*vocabulary", done.stdout, re.MULTILINE)


def test_a_run_in_python_has_the_same_symbols_and_numbers(english: tuple[Path, Done]) -> None:
    run = timemachine.load_run(english[0])
    assert run.vocab.idx_to_token == run.data.vocab.idx_to_token == sorted({*read("english"), "<unk>"})
    assert run.data.corpus.characters == read("english")
    _, *held_out = evaluate(run.model, run.vocab, run.summary, run.data.corpus)
    for row, part in zip(held_out, ("val", "test"), strict=True):
        perplexity = run.summary["metrics"][f"{part}/perplexity"]
        assert row.part == part and row.window and row.window.perplexity == pytest.approx(perplexity, rel=1e-5)


@pytest.mark.usefixtures("quick_calls")
@pytest.mark.parametrize(("language", "min_count"), [("german", 1), ("greek", 1), ("chinese", 2)])
def test_any_language_is_trained_on_continued_and_read(language: str, min_count: int, tmp_path: Path) -> None:
    assert_succeeded(train(tmp_path / "run", language, "trainer.max_epochs=2", f"data.min_count={min_count}"))
    text = read(language)
    kept = {character for character, count in Counter(text).items() if count >= min_count}
    assert summary(tmp_path / "run")["corpus"]["vocabulary"] == len(kept) + 1
    start = re.findall(r"\w+", text)[-3]
    done = call_program("generate.py", "run=run", f"prefix={start}", "alpha=1", "num_preds=200")
    assert_succeeded(done)
    assert done.stdout.startswith(start) and {*done.stdout} <= {*text}
    done = call_program("generate.py", "run=run", "num_preds=9")
    is_known = language == "german"
    assert len(done.stdout) == 9 + 6 * is_known + 1 and ("so the text begins without one" in done.stderr) != is_known
    done = call_program("evaluate.py", "run=run", "data.corpus=" + str([str(path_of(it)) for it in LANGUAGES]))
    assert_succeeded(done)
    seldom = sum(character not in kept for character in text)
    assert (f"{language}: {seldom} characters of" in done.stdout) == (seldom > 0)
    assert done.stdout.count(": read and scored as <unk>") == 3 + (seldom > 0)


@pytest.mark.usefixtures("quick_calls")
def test_the_weights_of_a_run_on_letters_do_not_fit(english: tuple[Path, Done], tmp_path: Path) -> None:
    assert_succeeded(train(tmp_path / "letters", "english", "data.tokens=letters", "trainer.max_epochs=1"))
    for parent, own, others in ((tmp_path / "letters", "characters", "letters"), (english[0], "letters", "characters")):
        done = train(tmp_path / "child", "english", f"data.tokens={own}", f"init_from={parent}")
        (line,) = done.stderr.splitlines()
        assert done.returncode == 1 and line.startswith(f"error: init_from={parent}: ") and others in line
        assert not (tmp_path / "child").exists()


def test_an_exercise_of_the_books_letters_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    done = call_program("train.py", "exercise=sampling", "scale=smoke", "data=sample", "data.tokens=characters")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "samples measures data.tokens=letters alone; type another probe, or data.tokens=letters" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"home"}


@pytest.mark.slow
def test_two_processes_are_the_same_run_as_one(program: Program, tmp_path: Path) -> None:
    typed = [*SMALL, f"data.corpus={path_of('chinese')}", "trainer.max_epochs=2", "trainer.precision=64-true"]
    for name in ("cpu", "ddp_cpu"):
        done = program("train.py", *typed, f"trainer={name}", f"hydra.run.dir={name}")
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    for name in ("steps.csv", "metrics.csv"):
        one, two = (rows(tmp_path / trainer / name) for trainer in ("cpu", "ddp_cpu"))
        assert len(one) == len(two) > 0
        for ours, theirs in zip(one, two, strict=True):
            assert ours == pytest.approx(theirs | {k: v for k, v in ours.items() if "second" in k}, rel=1e-12)
