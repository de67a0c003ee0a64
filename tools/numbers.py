"""make numbers: copy the numbers in sweeps/reference into the documents.

A report consists of answer.md and of a table, a figure and settings from summary.csv. An answer.md starts with a block
of Python that defines its `{placeholders}` from `jobs` (the rows of summary.csv), `table` (of the report), the names of
the exercise's module, and `NAMES`. README.md and docs/*.md quote the reports and the tables of the book's run and of
`make bench`, between markers such as <!-- answers: begin -->.
"""

import math
import re
import textwrap
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pandas import DataFrame, Series

import timemachine.run.program  # noqa: F401  resolvers of conf/
from timemachine.config import REPOSITORY
from timemachine.run.program import VERSION_BASE
from timemachine.run.summary import flat
from timemachine.study import report
from timemachine.study.comparison import against, at_best, compare, estimate, fisher, holm
from timemachine.study.figures import image_of

REFERENCE = REPOSITORY / "sweeps/reference"
SURPRISING = ("history", "how_low", "cells", "sampling", "clipping")  # in README
CURVES = ("small_data",)  # their figures need the metrics.csv of the runs
MODELS: dict[str, dict[str, object]] = {  # label in the next edition's table -> settings other than the recipe's
    "`recipe=next_edition`: the RNN from scratch": {},
    "with initial weights as large as those of `nn.RNN`, `model.sigma=0.051`": {"model.sigma": 0.051},
    "two layers, `model.cell=deep_rnn`": {"model.cell": "deep_rnn"},
    "`model.cell=deep_rnn model.lr=2`": {"model.cell": "deep_rnn", "model.lr": 2},
    "`model.cell=deep_rnn model.lr=8`": {"model.cell": "deep_rnn", "model.lr": 8},
    "`model.cell=deep_rnn model.lr=16`": {"model.cell": "deep_rnn", "model.lr": 16},
    "`model.cell=gru`": {"model.cell": "gru"},
    "`model.cell=lstm`": {"model.cell": "lstm"},
    "`model.cell=lstm model.lr=8`": {"model.cell": "lstm", "model.lr": 8},
    "`model.cell=lstm model.lr=16`": {"model.cell": "lstm", "model.lr": 16},
    "the RNN on characters, `data.tokens=characters`": {"data.tokens": "characters"},
    "the RNN on letters, `data.tokens=letters`": {"data.tokens": "letters"},
}
RECIPE = {"model.cell": "rnn", "model.sigma": 0.01, "model.lr": 4, "data.tokens": "bpe"}
FIGURE = re.compile(r"^!\[(.*)\]\((\w+\.png)\)$", re.MULTILINE)
EFFORT = re.compile(r"^\d+ runs \(.*\) in [\d.]+ minutes; .*$", re.MULTILINE)
SPEED = REFERENCE / "speed/amd_epyc.csv"  # `make bench` writes a file per processor; docs/speed.md names this one
STEPS = {  # label in docs/speed.md -> label in the table
    "`torch.nn.RNN`, the book's sizes (T = 32, B = 1,024, H = 32)": "step against nn.RNN",
    "`torch.nn.RNN`, T = 128": "step against nn.RNN, T = 128",
    "`torch.nn.RNN`, H = 64": "step against nn.RNN, H = 64",
    "`torch.nn.RNN`, H = 256": "step against nn.RNN, H = 256",
    "`torch.nn.RNN`, H = 512": "step against nn.RNN, H = 512",
    "`torch.nn.RNN`, B = 64": "step against nn.RNN, B = 64",
    "the book's loop, differentiated by autograd (`model.backward=autograd`)": "step against the book's loop",
    "the same under `torch.compile`": "step against the book's loop under torch.compile",
    "gradients by hand in PyTorch (`model.backward=bptt`)": "fused against bptt, tanh, T, B, H, V = 32, 1024, 32, 28",
    "the book's own classes (`d2l` 1.0.3)": "step against d2l's own classes",
    "an epoch with validation of a plain Lightning program": "epoch with validation",
    "the book's own code without its figure, from start to end": "the whole program against the book's own",
    "the same, compared with page.html": "the page's training against the book's own program",
    "`train.py`, compared with page.html": "the page's training against train.py",
    "page.html with one worker, compared with two": "the page's training against one worker",
    "the book's `predict`": "greedy decoding of 500 characters against the book's",
}
OTHER_STEPS = {  # of other cells, and of the next edition
    "`torch.nn.GRU`, compared with `model.cell=gru`": "step of gru against torch.nn's",
    "the same, H = 256 (GRU)": "step of gru against torch.nn's, H = 256",
    "`torch.nn.LSTM`, compared with `model.cell=lstm`": "step of lstm against torch.nn's",
    "the same, H = 256 (LSTM)": "step of lstm against torch.nn's, H = 256",
    "`torch.nn.RNN` with two layers, compared with `model.cell=deep_rnn`": "step of deep_rnn against torch.nn's",
    "the same, H = 256 (two layers)": "step of deep_rnn against torch.nn's, H = 256",
    "one-hot inputs, compared with `model.input=embedding`": "step with an embedding against one-hot inputs",
    "`torch.nn.RNN`, compared with `recipe=next_edition`": "next edition: step against nn.RNN",
    "the loop of the next edition, compared with its recipe": "next edition: step against the book's loop",
    "an epoch of the next edition's own code": "next edition: epoch with validation against the book's own",
    "the next edition's own code, from start to end": "next edition: the whole program against the book's own",
}

CELLS = ("rnn", "gru", "lstm", "deep_rnn")
CPU_TIMES = {
    "`generate.py` for 20 characters": "generate.py, 20 characters, CPU time",
    "`train.py` without its epochs": "train.py without its epochs, CPU time",
}


def span(values: Iterable[float], form: str = ".3g") -> str:
    """Return "smallest to largest", or one number if both print the same."""
    numbers = [value for value in values if not math.isnan(value)]
    return " to ".join(dict.fromkeys(f"{number:{form}}" for number in (min(numbers), max(numbers))))


def percent(ratio: float, digits: int = 0) -> str:
    """Return how far a ratio is from 1, such as "11% lower"."""
    return f"{100 * abs(ratio - 1):.{digits}f}% {'lower' if ratio < 1 else 'higher'}"


def interval(outcomes: Series, excerpts: Series) -> str:
    """Return the 95% interval of a share of runs, such as "35% to 55%", from the shares of the excerpts."""
    share = estimate(outcomes.groupby(excerpts).mean())
    return " to ".join(f"{share.mean + sign * share.half_width:.0%}" for sign in (-1, 1))


NAMES = {"REFERENCE": REFERENCE, "pd": pd, "math": math, "DataFrame": DataFrame, "Series": Series, "span": span,
         "percent": percent, "estimate": estimate, "compare": compare, "against": against, "at_best": at_best,
         "holm": holm, "fisher": fisher, "interval": interval}  # fmt: skip


def _place(name: str) -> tuple[int, int, str, str]:
    """Return a sort key: exercises of the book, then of chapter 10, then of the next edition."""
    (title,) = re.findall("^# (.+?):", (REFERENCE / name / "answer.md").read_text(encoding="utf-8"), re.MULTILINE)
    return "ECN".index(title[0]), int(re.findall(r"\d+", title)[0]), title, name


ANSWERS = (path.parent.relative_to(REFERENCE).as_posix() for path in REFERENCE.rglob("answer.md"))
EXERCISES = sorted(ANSWERS, key=_place)


@cache
def jobs_of(name: str) -> DataFrame:
    """Return the runs of a reference sweep, also with the settings that all of them share."""
    jobs = pd.read_csv(REFERENCE / name / "summary.csv")
    recipe, _, exercise = name.rpartition("/")
    with initialize_config_dir(str(REPOSITORY / "conf"), **VERSION_BASE):
        typed = [f"exercise={exercise}", *([f"recipe={recipe}"] if recipe else [])]
        cfg = compose("train", typed, return_hydra_config=True)
    varied = OmegaConf.to_container(cfg.hydra.sweeper).get("params", {})  # type: ignore[union-attr]
    del cfg.trainer.plugins  # a path in the run's folder
    groups: Any = {group: OmegaConf.to_container(cfg[group], resolve=True) for group in ("model", "data", "trainer")}
    fixed = {it: yaml.safe_load(str(value)) for it, value in varied.items() if "." in it and "," not in str(value)}
    others = {
        it: value for it, value in (flat(groups) | fixed).items() if it not in jobs and not isinstance(value, list)
    }
    return pd.concat([jobs, DataFrame(others, index=jobs.index)], axis=1).copy()  # not fragmented


def head(name: str) -> str:
    """Return the first part of a report: answer.md, filled. Raises NameError for an unknown placeholder."""
    text = (REFERENCE / name / "answer.md").read_text(encoding="utf-8")
    code, text = re.fullmatch(r"```python\n(.*?)```\n(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    module, jobs = report.module_of(name.rpartition("/")[2]), jobs_of(name)
    names = vars(module) | NAMES | {"jobs": jobs, "table": module.table(jobs)}
    exec(code, names)
    paragraphs = str(eval(f"f'''{text.strip()}'''", names)).split("\n\n")
    return "\n\n".join(each if each.startswith(("#", "    ", "|")) else _wrapped(each) for each in paragraphs)


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(" ".join(paragraph.split()), 120, break_long_words=False, break_on_hyphens=False)


def report_of(name: str) -> str:
    """Return a rewritten report, with the duration in the stored one."""
    (effort,) = EFFORT.findall((REFERENCE / name / "report.md").read_text(encoding="utf-8"))
    return report.report(report.module_of(name.rpartition("/")[2]), jobs_of(name), head(name), effort)


def answer(name: str) -> tuple[str, str, str]:
    """Return a report's exercise and question, and its answer."""
    title, text = (REFERENCE / name / "report.md").read_text(encoding="utf-8").split("\n\n")[:2]
    number, _, question = title.partition(": ")
    return re.sub("^# (Exercises? )?", "", number), question, " ".join(text.split())


def five_answers() -> str:
    """Return README's list of answers."""
    answers = {name: answer(name)[1:] for name in SURPRISING}
    return "\n".join(
        f"- [*{question}*](sweeps/reference/{name}/report.md) {text}" for name, (question, text) in answers.items()
    )


def effort_of(name: str) -> tuple[str, str]:
    """Return the number of runs of a reference sweep, and its minutes."""
    written = (REFERENCE / name / "report.md").read_text(encoding="utf-8")
    ((runs, minutes),) = re.findall(r"^(\d+) runs \(.*\) in ([\d.]+) minutes", written, re.MULTILINE)
    return runs, minutes


def exercises() -> str:
    """Return a table of all exercises: number, question, setting, minutes and answer."""
    rows = []
    for name in EXERCISES:
        number, question, text = answer(name)
        recipe, _, exercise = name.rpartition("/")
        setting = f"`{exercise}`" + (f" `recipe={recipe}`" if recipe else "")
        minutes = f"{float(effort_of(name)[1]):.0f}"
        rows.append([number, f"[{question}](../sweeps/reference/{name}/report.md)", setting, minutes, text])
    return markdown(["", "question", "`exercise=`", "minutes", "answer"], rows)


def reports() -> str:
    """Return each exercise's question, first figure, and a link to its report."""
    parts = []
    for name in EXERCISES:
        number, question, _ = answer(name)
        written = (REFERENCE / name / "report.md").read_text(encoding="utf-8")
        figures = [f"![{caption}](../sweeps/reference/{name}/{file})" for caption, file in FIGURE.findall(written)]
        exercise, (runs, _) = name.rpartition("/")[2], effort_of(name)
        source = f"{number}: [{exercise}](../sweeps/reference/{name}/report.md), {runs} runs"
        parts += [f"### {question}", *figures[:1], source]
    return "\n\n".join(parts)


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table, without the padding of pandas, which would make long answers several times as long."""
    escaped = [[cell.replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [columns, ["---"] * len(columns), *escaped])


def table(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a table, with None for an empty cell."""
    return [*pd.read_csv(path).astype(object).where(lambda rows: rows.notna(), None).to_dict("records")]


def book() -> str:
    """Return the final numbers of the book's run, for each seed and on average."""
    jobs, columns = table(REFERENCE / "book/summary.csv"), ("train", "val", "test")
    rows = [[f"{job['seed']}", *(f"{job[f'{it}/perplexity']:.2f}" for it in columns), f"{job['largest_grad_norm']:.2f}",
             f"{job['clipped_steps']}"] for job in jobs]  # fmt: skip
    return markdown(["seed", "training", "validation", "rest of the novel", "largest gradient", "clipped steps"], rows)


def book_in_a_line() -> str:
    """Return README's text on the book's run."""
    jobs = table(REFERENCE / "book/summary.csv")
    train, val, rest = (f"{estimate(job[f'{it}/perplexity'] for job in jobs):.2f}" for it in ("train", "val", "test"))
    return (
        f"After 100 epochs the perplexity is {train} on the training text, {val} on the validation text and {rest} on "
        f"the test text, which is the rest of the novel (mean and 95% interval over {len(jobs)} seeds)."
    )


def next_edition_jobs(changes: dict[str, object]) -> dict[int, dict[str, Any]]:
    """Return the next edition's runs with some settings changed, by seed."""
    settings, jobs = RECIPE | changes, table(REFERENCE / "next_edition/summary.csv")
    return {job["seed"]: job for job in jobs if {name: job[name] for name in settings} == settings}


def next_edition() -> str:
    """Return README's text on the next edition's run."""
    jobs = next_edition_jobs({}).values()
    val, val_bits, rest, rest_bits = (
        f"{estimate(job[f'{split}/{unit}'] for job in jobs):{form}}"
        for split in ("val", "test")
        for unit, form in (("perplexity", ".1f"), ("bits_per_byte", ".3f"))
    )
    return (
        f"Over {len(jobs)} seeds the perplexity per token is {val} on the validation text and {rest} on the rest of "
        f"the novel: {val_bits} and {rest_bits} bits per byte, each window starting from a zero state."
    )


def next_edition_models() -> str:
    """Return the table of the next edition's model, others with its settings, and n-grams of the same tokens."""
    rows, scratch = [], next_edition_jobs({})
    for name, changes in MODELS.items():
        jobs = next_edition_jobs(changes)
        train, val, bits, rest = (
            f"{estimate(job[column] for job in jobs.values()):{form}}"
            for column, form in (
                ("train/perplexity", ".1f"), ("val/perplexity", ".1f"), ("stream/val/bits_per_byte", ".3f"),
                ("stream/test/bits_per_byte", ".3f"),
            )
        )  # fmt: skip
        in_bits = [{seed: run["stream/val/bits_per_byte"] for seed, run in runs.items()} for runs in (jobs, scratch)]
        is_other_text = changes.get("data.tokens") == "letters"  # in lower case, without punctuation: easier
        more = f"{compare(*in_bits):+.3f}" if changes and not is_other_text else ""
        rows.append([name, str(len(jobs)), train, val, bits, more, rest])
    for job in table(REFERENCE / "next_edition/ngrams.csv"):
        tokens = {"bpe": "byte pairs"}.get(job["data.tokens"], job["data.tokens"])
        bits, rest = (f"{job[f'ngrams/{split}/bits_per_byte']:.3f}" for split in ("val", "test"))
        rows.append([f"{job['ngrams/order']:.0f}-grams of {tokens}, Kneser-Ney", "", "", "", bits, "", rest])
    scores = ["training: perplexity", "validation: perplexity", "bits per byte", "minus the first row"]
    return markdown(["", "seeds", *scores, "rest of the novel: bits per byte"], rows)


def speed() -> str:
    """Return the ratios of medians from `make bench`."""
    rows = {(row["threads"], row["what"]): row for row in table(SPEED)}
    ratios = {key: f"{row['rival_ms'] / row['ours_ms']:.2g}" for key, row in rows.items() if row["rival_ms"]}
    tables = [
        [
            [words, *(ratios.get((threads, what), "") for threads in (1, 2))]
            for words, what in steps.items()
            if {(1, what), (2, what)} & ratios.keys()  # other groups of `make bench` were not run
        ]
        for steps in (STEPS, OTHER_STEPS)
    ]
    texts = [markdown(["", "one thread", "two threads"], lines) for lines in tables]
    shares = [[f"`model.cell={cell}`", ratios[1, f"step of {cell} against its arithmetic"]] for cell in CELLS]
    seconds = [[words, f"{rows[1, what]['ours_ms'] / 1e3:.1f} s"] for words, what in CPU_TIMES.items()]
    texts += [markdown(["", "share of the limit"], shares), markdown(["", "CPU time"], seconds)]
    return "\n\n".join(texts)


SECTIONS: dict[str, dict[str, Callable[[], str]]] = {  # page -> name of the markers -> text between them
    "README.md": {"book": book_in_a_line, "answers": five_answers},
    "docs/exercises.md": {"exercises": exercises, "book": book, "reports": reports},
    "docs/next_edition.md": {"next_edition": next_edition, "models": next_edition_models},
    "docs/speed.md": {"speed": speed},
}


def page(name: str) -> str:
    """Return a page with its marked sections rewritten."""
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    for section, write in SECTIONS[name].items():
        begin, end = (f"<!-- {section}: {it} -->" for it in ("begin", "end"))
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{write()}\n{end}{rest.partition(end)[2]}"
    return text


def main() -> None:
    """Write all reports, then the pages, which quote them."""
    for name in EXERCISES:
        (REFERENCE / name / "report.md").write_text(report_of(name), encoding="utf-8")
        if name not in CURVES:
            figure = report.module_of(name.rpartition("/")[2]).figure(jobs_of(name))
            (REFERENCE / name / "figure.png").write_bytes(image_of(figure))
    for name in SECTIONS:
        (REPOSITORY / name).write_text(page(name), encoding="utf-8")


if __name__ == "__main__":
    main()
