"""Exercise 7: how well does a model predict books by other authors?"""

import math
from collections.abc import Iterable
from itertools import combinations
from statistics import fmean, pstdev

from matplotlib.figure import Figure

from timemachine.exercises import Findings
from timemachine.exercises.war_of_the_worlds import book_names, entries, mean, sound_groups
from timemachine.sweep import Job, mean_sd

MODELS = {"stream": "model", "witten_bell": "n-gram"}

Groups = dict[str, list[Job]]  # the jobs of each training book


def findings(jobs: list[Job]) -> Findings:
    """Training book × book read: a row a training book, for the model and for n-grams."""
    groups = _by_book(jobs)
    left_out = len(jobs) - sum(map(len, groups.values()))
    read = book_names(job for group in groups.values() for job in group)
    names = [name for name in groups if name in read] + [name for name in read if name not in groups]
    titles = _titles(groups, names)
    errors = [mean(group, name, "stream", "standard_error") for group in groups.values() for name in names]
    errors = sorted(error for error in errors if math.isfinite(error))
    spread = f" ({errors[0]:.2f} to {errors[-1]:.2f} here)" if errors else ""
    return Findings(
        number="7",
        question="How well does a model predict books by other authors?",
        setting="The book's run on each book at hand (the same number of characters and of updates), each model read "
        "on all of them: characters 15,032 to 135,031 of every book, which no model was trained or validated on.",
        columns=["trained on", "author", "seeds", "", *(titles[name] for name in names)],
        rows=[row for group in groups.values() for row in _rows(group, names)],
        figures={"matrix": _matrix(groups, names)} if groups else {},
        captions={
            "matrix": "Stream perplexity of each book under each training book, of the model (mean over seeds) and of "
            "the Witten-Bell n-gram from the same characters. Brighter is better predicted."
        } if groups else {},
        answer=" ".join(_answer(groups, names)) or "No run has ended with a measurement yet.",
        notes=[
            "Stream perplexity. Model: mean ± standard deviation over seeds. n-gram: interpolated Witten-Bell, of the "
            "order that is best by validation, trained on the same characters. A cell's standard error is what the "
            f"choice of the text leaves open, from blocks of 100 characters{spread}; within a column it is "
            "the same text that is read. Headers and footers of Project Gutenberg are cut.",
            *([f"Left out: {left_out} of {len(jobs)} runs, which did not end with a measurement."] if left_out else []),
        ],
    )  # fmt: skip


def _by_book(jobs: list[Job]) -> Groups:
    """In the order of the sweep."""
    groups: Groups = {}
    sound = sorted((job for group in sound_groups(jobs).values() for job in group), key=jobs.index)
    for job in sound:
        groups.setdefault(job.probes["books"]["trained_on"], []).append(job)
    return groups


def _titles(groups: Groups, names: list[str]) -> dict[str, str]:
    return {name: entry["title"] for name in names for jobs in groups.values() for entry in entries(jobs, name)}


def _rows(jobs: list[Job], names: list[str]) -> Iterable[list[str]]:
    probe = jobs[0].probes["books"]
    for model, label in MODELS.items():
        cells = [[entry[model]["perplexity"] for entry in entries(jobs, name)] for name in names]
        texts = [mean_sd(cell if model == "stream" else cell[:1]) for cell in cells]
        yield [probe["title"], probe["author"], str(len(jobs)) if model == "stream" else "", label, *texts]


def _matrix(groups: Groups, names: list[str]) -> Figure:
    titles = _titles(groups, names)
    width, height = 3.2 + 1.3 * len(names), 2.6 + 0.45 * len(groups)
    figure = Figure(figsize=(min(width, 15), 2 * height), dpi=110, layout="constrained")
    grid = figure.subplots(len(MODELS), 1, squeeze=False, sharex=True)
    for axes, model in zip(grid.flat, MODELS, strict=True):
        values = [[mean(jobs, name, model) for name in names] for jobs in groups.values()]
        finite = [value for row in values for value in row if math.isfinite(value)] or [1.0]
        low, high = min(finite), max(finite)
        image = axes.imshow(values, cmap="cividis_r", aspect="auto", vmin=low, vmax=max(high, low + 1e-6))
        for y, row in enumerate(values):
            for x, value in enumerate(row):
                text = f"{value:.2f}" if value < 1e4 else ("" if math.isnan(value) else f"{value:.0e}")
                colour = "white" if value > (low + high) / 2 else "black"
                axes.text(x, y, text, ha="center", va="center", fontsize=9, color=colour)
        axes.set_yticks(range(len(groups)), [jobs[0].probes["books"]["title"] for jobs in groups.values()])
        axes.set(title="the model" if model == "stream" else "Witten-Bell n-gram", ylabel="trained on")
        figure.colorbar(image, ax=axes, label="perplexity")
    grid[-1, 0].set_xticks(range(len(names)), [titles[name] for name in names], rotation=30, ha="right")
    grid[-1, 0].set_xlabel("read")
    return figure


def _answer(groups: Groups, names: list[str]) -> Iterable[str]:
    bits = {
        (row, column): value
        for row, jobs in groups.items()
        for column in names
        if math.isfinite(value := mean(jobs, column, "stream", "bits"))
    }
    columns = [name for name in names if sum((row, name) in bits for row in groups) > 1 and (name, name) in bits]
    if len(columns) < 2:
        if groups:
            yield "Fewer than two books were both trained on and read, so there is nothing to compare yet."
        return
    ranks = {name: _rank(bits, name, name, groups) for name in columns}
    first = sum(rank == 1 for rank in ranks.values())
    gaps = [
        fmean(bits[row, name] for row in groups if row != name and (row, name) in bits) - bits[name, name]
        for name in columns
    ]
    gap = fmean(gaps)
    yield (
        f"Of {len(columns)} books, {first} {'is' if first == 1 else 'are'} predicted best by the model trained on the "
        f"beginning of the same book; on average that model needs {abs(gap):.2f} bits a character "
        f"{'less' if gap > 0 else 'more'} than one trained on another book."
    )
    rows = [name for name in columns if all((name, column) in bits for column in columns)]
    if len(rows) > 1:
        by_read = [fmean(bits[row, column] for row in rows if row != column) for column in columns]
        by_training = [fmean(bits[row, column] for column in columns if row != column) for row in rows]
        yield (
            f"Between different books, which one is read moves the mean by a standard deviation of "
            f"{pstdev(by_read):.2f} bits, which one was trained on by {pstdev(by_training):.2f}."
        )
    yield from _same_author(groups, bits)
    better = [mean(groups[row], column, "stream") < mean(groups[row], column, "witten_bell") for row, column in bits]
    yield f"The n-gram from the same characters is ahead of the model in {better.count(False)} of {len(better)} cells."
    yield "One or two books of an author say nothing of the author: these are differences between books."


def _rank(bits: dict[tuple[str, str], float], row: str, column: str, rows: Iterable[str]) -> int:
    """1: no other training book predicts this column better."""
    return 1 + sum(bits.get((other, column), math.inf) < bits[row, column] for other in rows)


def _same_author(groups: Groups, bits: dict[tuple[str, str], float]) -> Iterable[str]:
    """For two books of one author: how the one as training text does among all foreign ones on the other."""
    about = {name: jobs[0].probes["books"] for name, jobs in groups.items()}
    for one, two in combinations(groups, 2):
        if not about[one]["author"] or about[one]["author"] != about[two]["author"]:
            continue
        for row, column in ((one, two), (two, one)):
            foreign = [name for name in groups if name != column and (name, column) in bits]
            if (row, column) in bits and len(foreign) > 1:
                values = [mean(groups[name], column, "stream") for name in foreign]
                yield (
                    f"{about[column]['title']} is predicted from {about[row]['title']}, by the same author, with "
                    f"{mean(groups[row], column, 'stream'):.2f}: place {_rank(bits, row, column, foreign)} among the "
                    f"{len(foreign)} other books, with which it is {min(values):.2f} to {max(values):.2f}."
                )
