"""Exercise 4: adjust the hyperparameters. How low can you go?"""

import math
from statistics import stdev

from matplotlib.figure import Figure

from timemachine.exercises import COLOURS, Findings
from timemachine.exercises.claims import UNDECIDED, by_seed, difference, lowest
from timemachine.exercises.drawing import plain_numbers
from timemachine.exercises.jobs import Job, grouped, mean_sd

HIDDENS, NUM_STEPS, LR = "model.hiddens", "data.num_steps", "model.lr"
NAMES = {HIDDENS: "hidden units", NUM_STEPS: "time steps", LR: "learning rate"}
BOOK = (32, 32, 1.0)
PARTS = {"train": "training text", "val": "validation", "test": "rest of the novel"}
STYLES = {"train": "o-", "val": "s--", "test": "^:"}
LEADING = 4  # combinations that are worth several seeds
Point = tuple[int, int, float]


def findings(jobs: list[Job]) -> Findings:
    """Report a row for each point of the grid, the best on validation first."""
    sound = (job for job in jobs if job.status == "completed" and job.stream("val") < math.inf)
    groups: dict[Point, list[Job]] = grouped(sound, *NAMES)
    groups = dict(sorted(groups.items(), key=lambda item: mean(item[1], "val")))
    lost = len(jobs) - sum(map(len, groups.values()))
    answer, longer = _answer(groups)
    return Findings(
        number="4",
        question="Adjust the hyperparameters, such as the number of epochs, of hidden units, of time steps, and the "
        "learning rate. How low can you go while sticking with this simple architecture?",
        setting="All combinations of the values in the table, the number of epochs being the axis of the curves.",
        columns=["hidden units", "time steps", "learning rate", "runs", *PARTS.values()],
        rows=[
            [str(hiddens), str(num_steps), f"{lr:g}", str(len(group))]
            + [mean_sd(job.stream(part) for job in group) for part in PARTS]
            for (hiddens, num_steps, lr), group in groups.items()
        ],
        figures={"slices": _slices(groups), "map": _map(groups), "curves": _curves(groups)},
        captions={
            "slices": "Stream perplexity when one hyperparameter varies and the others are the best point's; with its "
            "standard deviation where there are several seeds.",
            "map": "Stream perplexity on validation for hidden units × time steps, at the best learning rate of each.",
            "curves": "Window perplexity over epochs, first seed: solid on the training windows, dashed on validation.",
        },
        answer=answer,
        longer=longer,
        notes=[
            "Stream perplexity, on the same characters for all, of the model of the last epoch; chosen on validation. "
            "Rows are in the order of validation perplexity. "
            f"{lost} of {len(jobs)} runs diverged or failed and are left out."
        ],
    )


def mean(jobs: list[Job], part: str) -> float:
    """Return the mean stream perplexity of the jobs on train, val or test."""
    return sum(job.stream(part) for job in jobs) / len(jobs)


def _slices(groups: dict[Point, list[Job]]) -> Figure:
    figure = Figure(figsize=(10, 3.5), dpi=150, layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    best = next(iter(groups), ())
    for place, (axes, title) in enumerate(zip(panels, NAMES.values(), strict=True)):
        here = {
            k[place]: jobs
            for k, jobs in sorted(groups.items())
            if k[:place] + k[place + 1 :] == best[:place] + best[place + 1 :]
        }
        for number, (part, label) in enumerate(PARTS.items()):
            axes.errorbar(
                range(len(here)),
                [mean(jobs, part) for jobs in here.values()],
                [stdev(job.stream(part) for job in jobs) if len(jobs) > 1 else 0 for jobs in here.values()],
                fmt=STYLES[part],
                color=COLOURS[number],
                label=label,
                capsize=3,
            )
        axes.set_xticks(range(len(here)), [f"{value:g}" for value in here])
        axes.set(xlabel=title, ylabel="stream perplexity")
        axes.grid(alpha=0.3)
        axes.label_outer()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(PARTS))
    return figure


def _map(groups: dict[Point, list[Job]]) -> Figure:
    figure = Figure(figsize=(6, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    hiddens, num_steps = (sorted({key[place] for key in groups}) for place in (0, 1))
    cells = [
        [
            min((mean(jobs, "val") for (h, t, _), jobs in groups.items() if (h, t) == (row, column)), default=math.nan)
            for column in num_steps
        ]
        for row in hiddens
    ]
    if groups:
        figure.colorbar(axes.imshow(cells, cmap="viridis_r", aspect="auto"), label="stream perplexity, validation")
        middle = (min(map(min, cells)) + max(map(max, cells))) / 2
        for i, row in enumerate(cells):
            for j, value in enumerate(row):
                axes.text(j, i, f"{value:.2f}", ha="center", va="center", color="black" if value < middle else "white")
    axes.set_xticks(range(len(num_steps)), map(str, num_steps))
    axes.set_yticks(range(len(hiddens)), map(str, hiddens))
    axes.set(xlabel="time steps", ylabel="hidden units")
    return figure


def _curves(groups: dict[Point, list[Job]]) -> Figure:
    figure = Figure(figsize=(7, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    by_heart = sorted(groups, key=lambda key: mean(groups[key], "train"))[:1]
    shown = dict.fromkeys(key for key in (BOOK, *list(groups)[:1], *by_heart) if key in groups)
    for number, key in enumerate(shown):
        epochs = groups[key][0].epochs()
        label = "{} units, {} steps, rate {:g}".format(*key)
        for part, style in (("train", "-"), ("val", "--")):
            y = [row[f"{part}/perplexity"] for row in epochs]
            axes.plot(
                [row["epoch"] for row in epochs],
                y,
                style,
                color=COLOURS[number],
                label=label if part == "train" else None,
            )
    axes.set(xlabel="epoch", ylabel="perplexity (log scale)", yscale="log")
    axes.grid(alpha=0.3)
    if shown:
        plain_numbers(axes.yaxis)
        axes.legend()
    return figure


def _answer(groups: dict[Point, list[Job]]) -> tuple[str, list[str]]:
    """Return the answer, and what else was found."""
    if not groups:
        return "", []
    values = {key: by_seed(jobs, lambda job: job.stream("val")) for key, jobs in groups.items()}
    several = {key: found for key, found in values.items() if len(found) > 1}
    best, *level = lowest(several) or [next(iter(groups))]
    repeated = best in several
    among = "Of the combinations with several seeds the" if 0 < len(several) < len(groups) else "The"
    answer = (
        f"{among} lowest validation perplexity, {mean(groups[best], 'val'):.2f} as a stream, is that of "
        f"{_named(best)}; on the rest of the novel it has {mean(groups[best], 'test'):.2f}. "
    )
    if not repeated:
        answer += (
            "It has one seed, and two seeds of one combination can differ by more than the leading combinations do: "
            "which of them is best cannot be said."
        )
    elif level:
        answer += f"{'; '.join(map(_named, level))} {UNDECIDED} from it."
    else:
        answer += "Every other of these is higher on validation by more than two standard errors."
    longer = []
    if book := groups.get(BOOK):
        longer.append(
            f"The book's own settings give {mean(book, 'val'):.2f}, and {mean(book, 'test'):.2f} on the rest."
        )
    tried = [sorted({key[place] for key in groups}) for place in range(3)]
    edges = [
        f"{name} ({value:g})"
        for name, value, there in zip(NAMES.values(), best, tried, strict=True)
        if len(there) > 1 and value in (there[0], there[-1])
    ]
    if edges and not repeated:  # several seeds are for a part of a grid that was searched before
        longer.append(f"It lies at the edge of the grid in {' and '.join(edges)}: beyond may be better.")
    longer.append(_on_the_rest(groups, best))
    if not repeated:
        low, key = min((mean(group, "train"), key) for key, group in groups.items())
        val, test = mean(groups[key], "val"), mean(groups[key], "test")
        longer.append(
            f"Lowest on its own training text, {low:.2f}, is {_named(key)}, with {val:.2f} on validation and "
            f"{test:.2f} on the rest{': overfitted' if key != best and low < val / 1.2 else ''}."
        )
        leading = [sorted({key[place] for key in list(groups)[:LEADING]}) for place in range(3)]
        typed = " ".join(
            f"{name}={','.join(f'{v:g}' for v in found)}" for name, found in zip(NAMES, leading, strict=True)
        )
        longer.append(
            f"Five seeds of the leading ones: `python train.py exercise=hyperparameters {typed} seed=0,1,2,3,4`."
        )
    return answer, longer


def _on_the_rest(groups: dict[Point, list[Job]], best: Point) -> str:
    """Return how the best on validation does on text on which nothing was chosen."""
    values = {key: by_seed(jobs, lambda job: job.stream("test")) for key, jobs in groups.items()}
    key = min(groups, key=lambda key: mean(groups[key], "test"))
    text = f"On the rest of the novel, on which nothing was chosen, the lowest is {mean(groups[key], 'test'):.2f}, of "
    if key == best:
        return f"{text}the same."
    if len(values[best]) < 2:
        return f"{text}{_named(key)}."
    apart = difference(values[best], values[key]).apart
    verdict = "is higher there by more than two standard errors" if apart else f"{UNDECIDED} from it"
    return f"{text}{_named(key)}; the best on validation {verdict}."


def _named(point: Point) -> str:
    return "{} hidden units with {} time steps and a rate of {:g}".format(*point)
