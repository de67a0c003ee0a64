"""Exercise 6: how well does the model of The Time Machine predict The War of the Worlds?"""

import math
from collections.abc import Iterable
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from timemachine.exercises import COLOURS, Findings
from timemachine.exercises.claims import APART, UNDECIDED, by_seed, difference
from timemachine.exercises.jobs import Job, mean_sd

ASKED = "war_of_the_worlds"
MODELS = {"stream": "the model", "witten_bell": "Witten-Bell n-gram", "laplace": "Laplace trigram"}

Key = tuple[str, int]  # what a model was trained on, and how many characters of it


def findings(jobs: list[Job]) -> Findings:
    """Report a row for each training text and book, over seeds."""
    groups = sound_groups(jobs)
    left_out = len(jobs) - sum(map(len, groups.values()))
    answer, longer = _answer(groups)
    return Findings(
        number="6",
        question="How well does the model predict The War of the Worlds, by the same author, and other books?",
        setting="The book's run, and the same network on 90 % of the whole novel, each read on every book at hand: "
        "characters 15,032 to 135,031 of each, and of its own book those that it was neither trained nor validated on.",
        columns=["trained on", "read", "author", "characters", "window", "stream", "standard error", "bits",
                 "Witten-Bell", "Laplace trigram"],
        rows=[row for key, group in groups.items() for row in _rows(key, group)],
        figures={"books": _figure(groups)} if groups else {},
        captions={
            "books": "Stream perplexity of the model (mean over seeds) and of n-grams from the same characters, with "
            "two standard errors to each side."
        } if groups else {},
        answer=answer,
        longer=longer,
        notes=[
            "Window and stream perplexity: mean ± standard deviation over seeds. Standard error: what the choice of the"
            " text leaves open in the stream's mean, from blocks of 100 characters; the n-grams' own stands after ±. "
            "Window perplexity is that of every eighth window.",
            "Bits a character are the stream's. Witten-Bell: the order that is best by validation. "
            "Headers and footers of Project Gutenberg are cut.",
            *_updates(groups),
            *([f"Left out: {left_out} of {len(jobs)} runs, which did not end with a measurement."] if left_out else []),
        ],
    )  # fmt: skip


def sound_groups(jobs: list[Job]) -> dict[Key, list[Job]]:
    """Return the completed jobs that read books, by what they were trained on, smaller texts first."""
    groups: dict[Key, list[Job]] = {}
    for job in jobs:
        if job.status == "completed" and (probe := job.probes.get("books", {})).get("books"):
            groups.setdefault((probe["trained_on"], probe["train_characters"]), []).append(job)
    return dict(sorted(groups.items(), key=lambda item: item[0][1]))


def book_names(jobs: Iterable[Job]) -> list[str]:
    """Return the books that the jobs read, in the order in which they first come."""
    return list(dict.fromkeys(name for job in jobs for name in job.probes["books"]["books"]))


def entries(jobs: Iterable[Job], name: str) -> list[dict[str, Any]]:
    """Return what each of the jobs that read this book measured."""
    return [job.probes["books"]["books"][name] for job in jobs if name in job.probes["books"]["books"]]


def mean(jobs: Iterable[Job], name: str, model: str, number: str = "perplexity") -> float:
    """Return the mean of one book's number over seeds, NaN if no job has it."""
    values = [float(entry[model][number]) for entry in entries(jobs, name)]
    return fmean(values) if values and all(map(math.isfinite, values)) else math.nan


def _rows(key: Key, jobs: list[Job]) -> Iterable[list[str]]:
    for name in book_names(jobs):
        found = entries(jobs, name)
        yield [
            _trained_on(key, jobs),
            found[0]["title"] + (", its test part" if name == key[0] else ""),
            found[0]["author"],
            f"{found[0]['stream']['num_targets']:,}",
            mean_sd(entry["window"]["perplexity"] for entry in found),
            mean_sd(entry["stream"]["perplexity"] for entry in found),
            f"{mean(jobs, name, 'stream', 'standard_error'):.2f}",
            f"{mean(jobs, name, 'stream', 'bits'):.3f}",
            *(_with_error(jobs, name, model) for model in ("witten_bell", "laplace")),
        ]


def _with_error(jobs: list[Job], name: str, model: str) -> str:
    return f"{mean(jobs, name, model):.2f} ± {mean(jobs, name, model, 'standard_error'):.2f}"


def _trained_on(key: Key, jobs: list[Job]) -> str:
    return f"{jobs[0].probes['books']['title']}, {key[1]:,} characters"


def _updates(groups: dict[Key, list[Job]]) -> Iterable[str]:
    for key, jobs in groups.items():
        if "num_steps_done" in jobs[0].metrics:
            yield f"{_trained_on(key, jobs)}: {jobs[0].metrics['num_steps_done']:,.0f} updates a run."


def _figure(groups: dict[Key, list[Job]]) -> Figure:
    names = book_names(job for jobs in groups.values() for job in jobs)
    titles = {name: entry["title"] for jobs in groups.values() for name in names for entry in entries(jobs, name)}
    figure = Figure(figsize=(5 + 2.5 * len(groups), 1.9 + 0.4 * len(names)), dpi=150, layout="constrained")
    grid = figure.subplots(1, len(groups), squeeze=False, sharex=True, sharey=True)
    for axes, (key, jobs) in zip(grid.flat, groups.items(), strict=True):
        for number, (model, label) in enumerate(MODELS.items()):
            points = [
                (mean(jobs, name, model), place + 0.2 * (number - 1), mean(jobs, name, model, "standard_error"))
                for place, name in enumerate(names)
            ]
            points = [point for point in points if math.isfinite(point[0]) and point[0] < 1e6]
            x, y, error = zip(*points, strict=True) if points else ((), (), ())
            errors = [APART * value if math.isfinite(value) else 0.0 for value in error]
            axes.errorbar(x, y, xerr=errors, fmt="osD"[number], color=COLOURS[number], markersize=4, label=label)
        axes.set(title=_trained_on(key, jobs), xlabel="perplexity")
        axes.title.set_fontsize(9)
        axes.grid(axis="x", alpha=0.3)
    grid[0, 0].set_yticks(range(len(names)), [titles[name] for name in names])
    grid[0, 0].invert_yaxis()
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize="small")
    return figure


def _answer(groups: dict[Key, list[Job]]) -> tuple[str, list[str]]:
    """Return the answer, and what else was found."""
    sentences, longer = [], []
    for key, jobs in groups.items():
        asked, own = mean(jobs, ASKED, "stream"), mean(jobs, key[0], "stream")
        if key[0] == ASKED or not math.isfinite(asked):
            continue
        there = f", and {own:.2f} on the unread rest of its own book" if math.isfinite(own) else ""
        sentences.append(
            f"Trained on {_trained_on(key, jobs)}, the model has a stream perplexity of {asked:.2f} on The War of the "
            f"Worlds{there}."
        )
        others = [name for name in book_names(jobs) if name not in (key[0], ASKED)]
        longer.append(f"**{_trained_on(key, jobs)}.** {_against_others(jobs, others)}".strip())
        longer.append(
            f"A Witten-Bell {jobs[0].probes['books']['witten_bell_order']}-gram from the same characters has "
            f"{mean(jobs, ASKED, 'witten_bell'):.2f} there, a Laplace trigram {mean(jobs, ASKED, 'laplace'):.2f}."
        )
    if sentences:
        longer.append("One book of an author says nothing of the author: these are differences between books.")
    elif groups:
        sentences.append("The War of the Worlds was not at hand, so nothing is said of it.")
    return " ".join(sentences) or "No run has ended with a measurement yet.", longer


def _against_others(jobs: list[Job], names: list[str]) -> str:
    """Return which books are harder, easier, or not told apart from the one that was asked for.

    The texts differ, so their errors are independent; a seed's two perplexities are not, so its difference counts.
    """
    lists: dict[str, list[str]] = {"easier": [], "harder": [], UNDECIDED: []}
    values = {book: _streams(jobs, book) for book in (*names, ASKED)}
    for name in names:
        if math.isfinite(other := mean(jobs, name, "stream")):
            of_texts = math.hypot(*(mean(jobs, book, "stream", "standard_error") for book in (name, ASKED)))
            kind = difference(values[name], values[ASKED], of_texts).verdict("easier", "harder")
            lists[kind].append(f"{entries(jobs, name)[0]['title']} ({other:.2f})")
    phrases = [f"{kind}: {', '.join(books)}" for kind, books in lists.items() if books]
    return f"Other books against The War of the Worlds: {'; '.join(phrases)}." if phrases else ""


def _streams(jobs: list[Job], name: str) -> dict[int, float]:
    return by_seed(
        (job for job in jobs if name in job.probes["books"]["books"]),
        lambda job: float(job.probes["books"]["books"][name]["stream"]["perplexity"]),
    )
