"""Exercise 7: how well does a model predict books by other authors?"""

import math
from collections.abc import Iterable
from itertools import permutations
from statistics import fmean

from matplotlib.figure import Figure

from timemachine.exercises import Findings
from timemachine.exercises.claims import APART, UNDECIDED, by_seed, difference, lowest
from timemachine.exercises.jobs import Job, markdown, mean_sd
from timemachine.exercises.war_of_the_worlds import book_names, entries, mean, sound_groups

MODELS = {"stream": "model", "witten_bell": "n-gram"}

Groups = dict[str, list[Job]]  # the jobs of each training book


def findings(jobs: list[Job]) -> Findings:
    """Report training book × book read: a row a training book, for the model and for n-grams."""
    groups = _by_book(jobs)
    left_out = len(jobs) - sum(map(len, groups.values()))
    read = book_names(job for group in groups.values() for job in group)
    names = [name for name in groups if name in read] + [name for name in read if name not in groups]
    titles = _titles(groups, names)
    errors = [mean(group, name, "stream", "standard_error") for group in groups.values() for name in names]
    errors = sorted(error for error in errors if math.isfinite(error))
    spread = f" ({errors[0]:.2f} to {errors[-1]:.2f} here)" if errors else ""
    answer, longer = _answer(groups, names) if groups else ("No run has ended with a measurement yet.", [])
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
            "the Witten-Bell n-gram from the same characters. Brighter is better predicted, on one scale for both."
        } if groups else {},
        answer=answer,
        longer=longer,
        notes=[
            "Stream perplexity. Model: mean ± standard deviation over seeds. n-gram: interpolated Witten-Bell, of the "
            "order that is best by validation, trained on the same characters. A cell's standard error is what the "
            f"choice of the text leaves open, from blocks of 100 characters{spread}; within a column it is "
            "the same text that is read, and models are compared by differences paired over seeds. Headers and "
            "footers of Project Gutenberg are cut.",
            *([f"Left out: {left_out} of {len(jobs)} runs, which did not end with a measurement."] if left_out else []),
        ],
    )  # fmt: skip


def _by_book(jobs: list[Job]) -> Groups:
    """Return the jobs by book, in the order of the sweep."""
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
    every = [mean(jobs, name, model) for model in MODELS for jobs in groups.values() for name in names]
    finite = [value for value in every if math.isfinite(value)] or [1.0]
    low, high = min(finite), max(finite)  # one scale for both
    for axes, model in zip(grid.flat, MODELS, strict=True):
        values = [[mean(jobs, name, model) for name in names] for jobs in groups.values()]
        image = axes.imshow(values, cmap="cividis_r", aspect="auto", vmin=low, vmax=max(high, low + 1e-6))
        for y, row in enumerate(values):
            for x, value in enumerate(row):
                text = f"{value:.2f}" if value < 1e4 else ("" if math.isnan(value) else f"{value:.0e}")
                colour = "white" if value > (low + high) / 2 else "black"
                axes.text(x, y, text, ha="center", va="center", fontsize=9, color=colour)
        axes.set_yticks(range(len(groups)), [jobs[0].probes["books"]["title"] for jobs in groups.values()])
        axes.set(title="the model" if model == "stream" else "Witten-Bell n-gram", ylabel="trained on")
    figure.colorbar(image, ax=grid, label="perplexity, the same scale in both")
    grid[-1, 0].set_xticks(range(len(names)), [titles[name] for name in names], rotation=30, ha="right")
    grid[-1, 0].set_xlabel("read")
    return figure


def _answer(groups: Groups, names: list[str]) -> tuple[str, list[str]]:
    """Return the answer, and what else was found."""
    bits = {
        (row, column): found
        for row, jobs in groups.items()
        for column in names
        if (found := _bits(jobs, column)) and all(map(math.isfinite, found.values()))
    }
    columns = [name for name in names if sum((row, name) in bits for row in groups) > 1 and (name, name) in bits]
    if len(columns) < 2:
        return "Fewer than two books were both trained on and read, so there is nothing to compare yet.", []
    leading = {
        column: lowest({row: bits[row, column] for row in groups if (row, column) in bits}) for column in columns
    }
    titles = {name: jobs[0].probes["books"]["title"] for name, jobs in groups.items()}
    own = [column for column in columns if leading[column] == [column]]
    gap = fmean(
        fmean(bits[row, column].values()) - fmean(bits[column, column].values())
        for column in columns
        for row in groups
        if row != column and (row, column) in bits
    )
    answer = (
        f"{len(own)} of {len(columns)} books are predicted best, beyond {APART} standard errors, by the model of their "
        f"own beginning. The model of another book needs {gap:.2f} bits a character more on average."
    )
    longer = [
        f"Which model predicts a book best; those that are named together {UNDECIDED}:",
        markdown(
            ["read", "trained on", "ahead of the next one, bits"],
            [[titles[c], " or ".join(titles[row] for row in leading[c]), _ahead(bits, c)] for c in columns],
        ),
    ]
    if directions := list(_same_author(groups, bits)):
        head = ["read", "trained on, by the same author", "better than from", "worse than from", UNDECIDED]
        longer += [
            "Two books of one author, against the books by others:",
            markdown(head, directions),
        ]
    cells = [mean(groups[row], column, "stream") < mean(groups[row], column, "witten_bell") for row, column in bits]
    longer.append(
        f"The n-gram from the same characters has the lower mean in {cells.count(False)} of {len(cells)} cells."
    )
    longer.append("One or two books of an author say nothing of the author: these are differences between books.")
    return answer, longer


def _ahead(bits: dict[tuple[str, str], dict[int, float]], column: str) -> str:
    """Return how far the lowest mean on a book is below the next one, paired by seed."""
    first, second = sorted(
        (found for (_, read), found in bits.items() if read == column), key=lambda v: fmean(v.values())
    )[:2]
    found = difference(second, first)
    return f"{found.mean:.3f} ± {found.error:.3f}" if math.isfinite(found.error) else "one seed"


def _bits(jobs: list[Job], column: str) -> dict[int, float]:
    """Return the bits a character of each seed's model on a book."""
    return by_seed(
        (job for job in jobs if column in job.probes["books"]["books"]),
        lambda job: float(job.probes["books"]["books"][column]["stream"]["bits"]),
    )


def _same_author(groups: Groups, bits: dict[tuple[str, str], dict[int, float]]) -> Iterable[list[str]]:
    """Return for two books of one author, in both directions: the one as training text against each foreign one."""
    about = {name: jobs[0].probes["books"] for name, jobs in groups.items()}
    for row, column in permutations(groups, 2):
        if not about[row]["author"] or about[row]["author"] != about[column]["author"] or (row, column) not in bits:
            continue
        foreign = [name for name in groups if about[name]["author"] != about[row]["author"] and (name, column) in bits]
        verdicts = {
            name: difference(bits[row, column], bits[name, column]).verdict("better", "worse") for name in foreign
        }
        if foreign:
            kinds = ([about[name]["title"] for name in foreign if verdicts[name] == kind]
                     for kind in ("better", "worse", UNDECIDED))  # fmt: skip
            yield [about[column]["title"], about[row]["title"], *(", ".join(kind) or "none" for kind in kinds)]
