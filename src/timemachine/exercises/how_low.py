"""Exercise 4, continued: How low can you go while sticking with this simple architecture?

The probe scores the held-out text, read as one stream, under the run's model, Kneser-Ney n-grams and the mixture of
n-grams, all trained on the same characters. The text that the mixture generates for a run's training is no part of it.
"""

import json
import math
import textwrap
from pathlib import Path
from typing import Any

from timemachine.corpus import DEFAULT
from timemachine.datamodule import TimeMachine
from timemachine.evaluation.baselines import KNESER_NEY, MIXTURE, Baselines, with_context
from timemachine.evaluation.scores import BLOCK, mean_difference, score, stream_nll
from timemachine.exercises import Findings, Picture
from timemachine.exercises.comparison import LEVEL, Estimate, by_seed, compare, estimate, holm, student_t
from timemachine.exercises.drawing import COLOURS, panels, plain_numbers
from timemachine.exercises.groups import completed, grouped, markdown, missing
from timemachine.language_model import RNNLMScratch
from timemachine.run.jobs import Job
from timemachine.texts import CATALOGUE

Recipe = list[Job]  # runs that differ in their seed only
ANY_SETTINGS = True

PARTS = {
    (None, "val"): "next 5% (validation)",
    (None, "test"): "last 5%",
    (10_000, "val"): "the book's split, validation",
    (10_000, "test"): "the book's split, rest of the novel",
}
STEPS = {  # setting -> description of the step that changes it; a table lists all its changes
    "model.carry_state": "state carried between windows; AdamW, warm-up and cosine schedule",
    "model.hiddens": "{:,} hidden units",
    "model.input_lr_factor": "the input's weights learn {:g} times as fast",
    "data.teacher": "n-grams generate {:g} times as much text; ReLU",
}


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, dict[str, float]]:
    """Return the perplexity of the training text, and the scores of the model and of the baselines on val and test.

    `difference`: mean negative log-likelihood of the model minus the mixture's, in nats, and `half_width` of its 95%
    interval, from blocks of 100 characters, or of 1,000 in a text of 100,000 or more.
    """
    model, tokens_N, train = model.cpu(), data.tokens_N.cpu(), data.splits["train"].targets
    baselines = Baselines(data.vocab, data.corpus.characters[: train.stop])
    scores = {"train": {"model": score(stream_nll(model, tokens_N, train)).perplexity}}
    for part in ("val", "test"):
        if targets := with_context(data.splits[part].targets):
            nlls = baselines.nll(data.corpus.characters, targets)
            model_N, mixture_N = stream_nll(model, tokens_N, targets), nlls[MIXTURE]
            size = BLOCK if len(targets) < 1000 * BLOCK else 10 * BLOCK
            difference, error = mean_difference(model_N, mixture_N, size)
            blocks = -(-len(targets) // size)
            named = {"model": model_N, "kneser_ney": nlls[KNESER_NEY], "mixture": mixture_N}
            scores[part] = {name: score(nll_N).perplexity for name, nll_N in named.items()}
            scores[part] |= {"difference": difference, "half_width": student_t(LEVEL, max(blocks - 1, 1)) * error}
    return scores


def findings(jobs: list[Job]) -> Findings:
    """Report one row per step from the book's run to the novel's recipe, then compare two of them with baselines."""
    recipes = _recipes(jobs)
    path = recipes.get((DEFAULT, None)) or next(iter(recipes.values()), [])
    changes = [_changes(recipe, before) for recipe, before in zip(path, path[:1] + path, strict=False)]
    steps = ["the book's run, on 90% of the novel", *map(_step, changes[1:])][: len(path)]
    lowered = {row: compare(_val(path[row - 1]), _val(path[row])) for row in range(1, len(path))}
    claimed = holm(lowered)
    cells = {
        row: f"{difference:.2f}" if claimed[row] or not difference.count else f"({difference:.2f})"
        for row, difference in lowered.items()
    }
    return Findings(
        answer=_answer(jobs, path),
        setting="One recurrent layer with a linear output layer, trained on the first 90% of the novel. The first row "
        "is the book's run, and each row adds one step to the row before (`conf/recipe/low_*.yaml`; the last row is "
        "`recipe=novel`). A step may change several settings, because the learning rate, the initial weights and the "
        "number of epochs were adjusted with it. The steps were chosen on the next 5% of the novel. On the book's "
        "split other settings were used (`recipe=book_split`), which were chosen on the last 1,000 of its training "
        "characters.",
        columns=["step", "training text", "next 5%", "last 5%", "lower by"],
        rows=[
            [steps[row], *(f"{_score(recipe, part)}" for part in ("train", "val", "test")), cells.get(row, "")]
            for row, recipe in enumerate(path)
        ],
        figures={"path": _path_figure(path, steps)},
        notes=[
            "Stream perplexity; ± is the half-width of a 95% interval over seeds. `lower by` is on the next 5%; the "
            "gain of a step depends on the steps before it. Differences in brackets are not significant after Holm's "
            "correction.",
            "**Settings** changed by each step:",
            markdown(["step", "settings"], [[*row] for row in zip(steps, map(_listed, changes), strict=True)]),
            "**One layer compared with n-grams** that were trained on the same characters: of the runs with and "
            "without generated text, the recipe with the lowest perplexity on the next 5%. The order of the Kneser-Ney "
            "n-grams is the best one on the scored text itself. Differences are paired, in nats per character, with "
            "95% intervals over blocks of text. These do not contain the variation between seeds.",
            _baselines_table(recipes),
        ],
    )


def _recipes(jobs: list[Job]) -> dict[Any, list[Recipe]]:
    """Return the recipes of each text and split, in the order of the jobs."""
    scored = [job for job in completed(jobs) if job.probes.get("reading")]
    by_text = grouped(scored, "data.corpus", "data.num_train")
    return {text: [*grouped(group, _all_but_the_seed).values()] for text, group in by_text.items()}


def _all_but_the_seed(job: Job) -> str:
    settings = {name: value for name, value in job.settings.items() if name.split(".")[-1] not in ("seed", "resume")}
    return json.dumps(settings, sort_keys=True, default=str)


def _score(recipe: Recipe, part: str, name: str = "model") -> Estimate:
    """Return the mean of a score of `measure` over a recipe's seeds, by default the model's perplexity."""
    return estimate(job.probes["reading"].get(part, {}).get(name, math.nan) for job in recipe)


def _val(recipe: Recipe) -> dict[int, float]:
    """Return the validation perplexity by seed."""
    return by_seed(recipe, lambda job: float(job.probes["reading"]["val"]["model"]))


def _best(recipes: list[Recipe], is_taught: bool) -> Recipe:
    """Return the recipe with the lowest validation perplexity, with or without generated text; [] if there is none."""
    candidates = [recipe for recipe in recipes if bool(recipe[0].settings.get("data.teacher")) == is_taught]
    return min(candidates, key=lambda recipe: _score(recipe, "val").mean, default=[])


def _difference(recipe: Recipe, part: str) -> str:
    """Return the mean difference from the mixture, with the mean half-width of the seeds' intervals."""
    difference, half_width = (_score(recipe, part, name) for name in ("difference", "half_width"))
    return f"{difference.mean:+.3f} ± {half_width.mean:.3f}" if difference.count else "–"


def _baselines_table(recipes: dict[Any, list[Recipe]]) -> str:
    columns = ["text", KNESER_NEY, MIXTURE]
    for name in ("without generated text", "with generated text"):
        columns += [name, f"{name} − {MIXTURE}"]
    rows = []
    for (corpus, num_train), group in recipes.items():
        title = CATALOGUE[corpus].title if corpus in CATALOGUE else Path(corpus).name
        for part in ("val", "test"):
            row = [f"{title}, {PARTS.get((num_train, part), part)}"]
            row += [f"{_score(group[-1][:1], part, name)}" for name in ("kneser_ney", "mixture")]
            for is_taught in (False, True):
                recipe = _best(group, is_taught)
                row += [f"{_score(recipe, part)}", _difference(recipe, part)]
            rows.append(row)
    return markdown(columns, rows)


def _changes(recipe: Recipe, before: Recipe) -> dict[str, Any]:
    """Return the settings that differ from the row before, with their new values; not those that a new class adds."""
    now, then = recipe[0].settings, before[0].settings
    return {
        name: value
        for name, value in now.items()
        if value and value != then.get(name) and not name.endswith("_target_")
    }


def _step(changes: dict[str, Any]) -> str:
    """Describe a step by its main changes, or by all if `STEPS` has none of them."""
    return "; ".join(STEPS[name].format(changes[name]) for name in changes if name in STEPS) or _listed(changes)


def _listed(changes: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in changes.items())


def _answer(jobs: list[Job], path: list[Recipe]) -> str:
    without, taught = _best(path, False), _best(path, True)
    needed = {"step after the book's run": path[1:], "run with generated text": taught, "run without it": without}
    if line := missing(jobs, needed):
        return line
    without_text, with_text = (_score(recipe, "test").mean for recipe in (without, taught))
    ngrams, mixture = (_score(taught, "test", name).mean for name in ("kneser_ney", "mixture"))
    return (
        f"Trained on 90% of the novel, a single recurrent layer reaches a perplexity of {without_text:.2f} on its last "
        f"5%, and {with_text:.2f} with {taught[0].settings['data.teacher']:g} times as much text that a mixture of "
        f"n-grams generates; Kneser-Ney n-grams have {ngrams:.2f}, the mixture itself {mixture:.2f}."
    )


def _path_figure(path: list[Recipe], steps: list[str]) -> Picture:
    figure, ((axes,),) = panels(width=9, height=0.5 * len(path) + 1.5)
    axes.set_xscale("log")
    for row, recipe in enumerate(path):
        values = list(_val(recipe).values())
        axes.plot(values, [row] * len(values), "o", color=COLOURS[0], markerfacecolor="none")
        axes.annotate(f"{estimate(values).mean:.2f}", (1, row), (4, 0), va="center", textcoords="offset points",
                      xycoords=("axes fraction", "data"), annotation_clip=False)  # fmt: skip
    for style, label, model in (("-", KNESER_NEY, "kneser_ney"), ("--", MIXTURE, "mixture")):
        baseline = _score([job for recipe in path for job in recipe][:1], "val", model)
        if baseline.count:
            axes.axvline(baseline.mean, linestyle=style, color="black", label=label)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right")
    axes.set_yticks(range(len(path)), [textwrap.fill(step, 36) for step in steps])
    axes.invert_yaxis()
    axes.set_xlabel("perplexity of the novel's next 5% (validation)")
    plain_numbers(axes.xaxis, [3.5, 4, 5, 6, 7])
    return figure, "Stream perplexity of validation text after each step. Points: seeds; numbers: means."
