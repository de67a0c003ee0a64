"""Chapter 10, continued: Over how many characters do the cells remember a letter?

L delay, M blocks of the recall corpus, T time steps.
"""

import torch
from matplotlib.figure import Figure
from pandas import DataFrame

from timemachine.datamodule import TimeMachine
from timemachine.exercises import cells
from timemachine.language_model import RNNLMScratch
from timemachine.perplexity import in_evaluation_mode
from timemachine.study.comparison import at_best
from timemachine.study.drawing import MARKERS
from timemachine.study.figures import COLOURS, panels
from timemachine.texts.recall import RECALLED, delay_of

REQUIRES = {"data.corpus": ("recall", "recall_*"), "data.tokens": ("letters", "characters")}
MAX_BLOCKS = 1000
CHANCE = 1 / len(RECALLED)
ACCURACY = "recall/accuracy"

SETTINGS = (*cells.SETTINGS, "data.num_steps")
SETUP = """
The recall corpus consists of blocks: one of 16 letters, fillers, a space, and the letter again, which follows after a
delay. Models of about 24,000 parameters are trained with AdamW, with 2,000 updates of 16 windows of two blocks. One
rate, faster inputs and larger inputs: as in [exercise cells](../cells/report.md), but with a factor of 10 and a scale
of 1. For each delay, cell and way, the rate with the lowest mean validation perplexity of those that were tried.
Accuracy: share of the repeated letters that are the likeliest next character, in up to 1,000 blocks that no run was
trained on, each read with the block before from a zero state; one number per seed. Chance: 1/16."""
CAPTION = "Accuracy at the repeated letter by delay. Points: seeds; lines join means. Grey: chance."
FORMATS = {"parameters": ",.0f", "rate": "g"}


@in_evaluation_mode
def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, float]:
    """Return the accuracy at the repeated letters of the test text, each read with the block before from a zero state.

    Of the first 1,000 blocks, or as many as there are: chance is 1/16, with a standard error of at most 0.016.
    """
    delay = delay_of(str(data.hparams["corpus"])) or 0
    tokens_N = data.tokens_N.cpu().long()
    places_M = (tokens_N == data.vocab[" "]).nonzero()[:, 0]  # of the spaces, which the repeated letter follows
    is_tested = (places_M - 2 * delay >= data.splits["test"].targets.start) & (places_M + 1 < len(tokens_N))
    places_M = places_M[is_tested][:MAX_BLOCKS]
    X_MT = tokens_N[places_M[:, None] - torch.arange(2 * delay, -1, -1)].to(model.device)
    predicted_M = model(X_MT)[0][:, -1].argmax(-1).cpu()
    return {"accuracy": (predicted_M == tokens_N[places_M + 1]).double().mean().item()}


def table(jobs: DataFrame) -> DataFrame:
    """Return the accuracy of each cell and way by delay: the mean, and each seed's."""
    runs = runs_of(jobs)
    rows = runs.groupby(["delay", "cell", "way"], sort=False)
    columns = {name: rows[name].first() for name in ("parameters", "factor", "scale", "rate")}
    columns |= {"seeds": rows.size(), "accuracy": rows[ACCURACY].mean()}
    return DataFrame(columns | {"of each seed": rows[ACCURACY].agg(lambda each: ", ".join(map("{:.2f}".format, each)))})


def figure(jobs: DataFrame) -> Figure:
    """Draw the accuracy by delay: one panel per way, one line per cell."""
    runs = runs_of(jobs)
    delays = sorted(runs["delay"].unique())
    names = [name for name in cells.NAMES.values() if name in {*runs["cell"]}]
    fig, (row,) = panels(1, len(cells.WAYS), height=3.6, sharey=True)
    for axes, way in zip(row, cells.WAYS, strict=True):
        for number, name in enumerate(names):
            group = runs[(runs["way"] == way) & (runs["cell"] == name)]
            style = {"color": COLOURS[number], "markerfacecolor": "none"}
            places = group["delay"] * 1.05 ** (number - 1)  # next to each other
            axes.plot(places, group[ACCURACY], MARKERS[number], markersize=4, **style)
            means = group.groupby("delay")[ACCURACY].mean()
            axes.plot(means.index * 1.05 ** (number - 1), means, color=COLOURS[number], label=name)
        axes.axhline(CHANCE, color="grey", linewidth=1)
        axes.set(title=way, xlabel="delay in characters", xscale="log", ylim=(0, 1.05))
        axes.set_xticks(delays, [f"{delay:g}" for delay in delays])
        axes.minorticks_off()
    row[0].set_ylabel("accuracy at the repeated letter")
    row[0].legend(fontsize="small")
    return fig


def runs_of(jobs: DataFrame) -> DataFrame:
    """Return the runs at the best rate for each delay, cell and way, with `delay` and the columns of `cells`."""
    runs = cells.runs_of(jobs)
    runs = runs.assign(delay=runs["data.corpus"].map(delay_of))
    best = at_best(runs, ["rate", "factor", "scale"], ["delay", "way", "cell"], "val/perplexity")
    order = {"way": cells.WAYS, "cell": [*cells.NAMES.values()]}
    places = {f"{name} place": best[name].map(names.index) for name, names in order.items()}
    return best.assign(**places).sort_values(["delay", "cell place", "way place", "seed"], ignore_index=True)
