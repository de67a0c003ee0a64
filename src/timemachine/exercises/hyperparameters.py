"""Exercise 4: adjust the hyperparameters. How low can you go?"""

import math
from collections.abc import Iterable

from matplotlib.figure import Figure

from timemachine.exercises import COLOURS, Findings
from timemachine.sweep import Job, grouped, mean_sd

HIDDENS, NUM_STEPS, LR = "model.hiddens", "data.num_steps", "model.lr"
NAMES = {HIDDENS: "hidden units", NUM_STEPS: "time steps", LR: "learning rate"}
BOOK = (32, 32, 1.0)
PARTS = {"train": "training text", "val": "validation", "test": "rest of the novel"}
STYLES = {"train": "o-", "val": "s--", "test": "^:"}
Point = tuple[int, int, float]


def findings(jobs: list[Job]) -> Findings:
    """A row for each point of the grid, the best on validation first."""
    sound = (job for job in jobs if job.status == "completed" and job.stream("val") < math.inf)
    groups: dict[Point, list[Job]] = grouped(sound, *NAMES)
    groups = dict(sorted(groups.items(), key=lambda item: mean(item[1], "val")))
    lost = len(jobs) - sum(map(len, groups.values()))
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
            "slices": "Stream perplexity when one hyperparameter varies and the others are the best point's.",
            "map": "Stream perplexity on validation for hidden units × time steps, at the best learning rate of each.",
            "curves": "Window perplexity over epochs: solid on the training windows, dashed on validation.",
        },
        answer=" ".join(_answer(groups)),
        notes=[
            "Stream perplexity, on the same characters for all, of the model of the last epoch; chosen on validation. "
            "Rows are in the order of validation perplexity. "
            f"{lost} of {len(jobs)} runs diverged or failed and are left out."
        ],
    )


def mean(jobs: list[Job], part: str) -> float:
    """Mean stream perplexity of the jobs on train, val or test."""
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
            axes.plot(
                range(len(here)),
                [mean(jobs, part) for jobs in here.values()],
                STYLES[part],
                color=COLOURS[number],
                label=label,
            )
        axes.set_xticks(range(len(here)), [f"{value:g}" for value in here])
        axes.set(xlabel=title, ylabel="stream perplexity")
        axes.grid(alpha=0.3)
        axes.label_outer()
    panels[0].legend()
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
        axes.legend()
    return figure


def _answer(groups: dict[Point, list[Job]]) -> Iterable[str]:
    if not groups:
        return
    (hiddens, num_steps, lr), best = next(iter(groups.items()))
    yield (
        f"The lowest validation perplexity of the grid, {mean(best, 'val'):.2f} as a stream, is that of {hiddens} "
        f"hidden units, {num_steps} time steps and a learning rate of {lr:g}; on the rest of the novel it has "
        f"{mean(best, 'test'):.2f}."
    )
    values = [sorted({key[place] for key in groups}) for place in range(3)]
    if at_edge := [
        f"{name} ({value:g})"
        for name, value, tried in zip(NAMES.values(), (hiddens, num_steps, lr), values, strict=True)
        if len(tried) > 1 and value in (tried[0], tried[-1])
    ]:
        yield f"It lies at the edge of the grid in {' and '.join(at_edge)}: beyond may be better."
    if book := groups.get(BOOK):
        yield f"The book's own settings give {mean(book, 'val'):.2f} and {mean(book, 'test'):.2f}."
    lowest, key = min((mean(group, "train"), key) for key, group in groups.items())
    val, test = mean(groups[key], "val"), mean(groups[key], "test")
    yield (
        f"Lowest on its own training text is {key[0]} units, {key[1]} steps, rate {key[2]:g}: {lowest:.2f}, with "
        f"{val:.2f} on validation and {test:.2f} on the rest."
    )
    if lowest < val / 1.2:
        yield "Training perplexity can be pushed down, towards 1 in the end, by learning 10,000 characters by heart."
        yield "That does not carry over."
    for place, name in enumerate(NAMES.values()):
        spans = []
        for value in sorted({key[place] for key in groups}):
            spans.append(
                f"{min(mean(jobs, 'val') for k, jobs in groups.items() if k[place] == value):.2f} with {value:g}"
            )
        yield f"Best validation perplexity by {name}: {', '.join(spans)}."
