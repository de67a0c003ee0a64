"""Chapter 10, continued: How long does a cell take to learn to remember a letter?

L delay, M blocks of the recall corpus, T time steps.
"""

from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure
from pandas import DataFrame, Series

from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.perplexity import in_evaluation_mode
from timemachine.study.drawing import MARKERS
from timemachine.study.figures import COLOURS, panels
from timemachine.texts.recall import RECALLED, delay_of

REQUIRES = {"data.corpus": ("recall", "recall_*"), "data.tokens": ("letters", "characters")}
MAX_BLOCKS = 300
CHANCE = 1 / len(RECALLED)
LEARNED = 0.9  # accuracy at which a run has learned; conf/exercise/recall.yaml stops it there
TUNING = (10, 11)  # seeds that choose the rate and are not reported
ACCURACY = "recall/accuracy"
NETWORK = ["model.cell", "model.activation", "model.init_hh", "model.forget_bias", "model.sigma"]
STARTS: dict[str, tuple[Any, ...]] = {  # name -> values of NETWORK
    "RNN, N(0, 0.01²)": ("rnn", "tanh", "gaussian", 0, 0.01),
    "RNN, Keras' defaults": ("rnn", "tanh", "orthogonal", 0, 0.113),
    "RNN, ReLU and identity": ("rnn", "relu", "identity", 0, 0.01),
    "GRU": ("gru", "tanh", "gaussian", 0, 0.01),
    "LSTM": ("lstm", "tanh", "gaussian", 0, 0.01),
    "LSTM, forget bias 1": ("lstm", "tanh", "gaussian", 1, 0.01),
}

SETTINGS = (*NETWORK, "model.lr", "data.corpus", "data.num_steps")
SETUP = """
A block of the text is one of 16 letters, fillers, a space, and the letter again, after a delay. Models of about 24,000
parameters are trained with AdamW on batches of 16 windows of two blocks, until they repeat 90% of the letters of 300
validation blocks, each read with the block before: measured every 100 updates, at most 8,000. RNN,
GRU and LSTM start from N(0, 0.01²). Keras' defaults: Glorot and Bengio's scale for inputs and outputs, an orthogonal
W_hh. ReLU and identity: W_hh = I, inputs from N(0, 1). Of at least three rates, each twice the one before, two further
seeds chose: most runs that learn, then fewest updates, then accuracy. It is never the lowest or highest. Accuracy: of
300 test blocks. Chance: 1/16."""
CAPTION = (
    "Updates until 90% of the repeated letters are right, by delay. Points: three seeds that did not choose the rate; "
    "lines: medians. At the top: seeds, or medians, that do not get there in 8,000 updates."
)
FORMATS = {"delay": "g", "rate": "g"}


class Recall(Callback):
    """Logs the accuracy at the repeated letters of the validation text, `val/recall`, with each validation."""

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Log the accuracy. EarlyStopping reads it when the validation ends."""
        if trainer.state.fn == "fit":
            pl_module.log("val/recall", accuracy(pl_module, trainer.datamodule, "val"))  # type: ignore[attr-defined]


callback = Recall


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, float]:
    """Return the accuracy at the repeated letters of the test text."""
    return {"accuracy": accuracy(model, data, "test")}


@in_evaluation_mode
def accuracy(model: RNNLMScratch, data: TimeMachine, part: str) -> float:
    """Return the share of the repeated letters that are the likeliest next character, after two blocks.

    Of the first 300 blocks of the part, or as many as there are: chance is 1/16, with a standard error of 0.014.
    """
    delay = delay_of(str(data.hparams["corpus"])) or 0
    tokens_N, targets = data.tokens_N.cpu(), data.splits[part].targets
    places_M = (tokens_N == data.vocab[" "]).nonzero()[:, 0]  # of the spaces, which the repeated letter follows
    is_measured = (places_M - 2 * delay >= targets.start) & (places_M + 1 < targets.stop)
    places_M = places_M[is_measured][:MAX_BLOCKS]
    X_MT = tokens_N[places_M[:, None] - torch.arange(2 * delay, -1, -1)].to(model.device)
    predicted_M = model(X_MT)[0][:, -1].argmax(-1).cpu()
    return float((predicted_M == tokens_N[places_M + 1]).double().mean())


def table(jobs: DataFrame) -> DataFrame:
    """Return the rate of each start by delay, and the updates and the accuracy of each reported seed."""
    rows = runs_of(jobs).groupby(["delay", "start"], sort=False)
    columns = {"rate": rows["model.lr"].first(), "rates tried": rows["tried"].first()}
    columns["updates of each seed"] = rows["updates"].agg(
        lambda each: ", ".join("–" if np.isnan(value) else f"{value:,.0f}" for value in each)
    )
    columns["accuracy of each seed"] = rows[ACCURACY].agg(lambda each: ", ".join(map("{:.2f}".format, each)))
    return DataFrame(columns)


def figure(jobs: DataFrame) -> Figure:
    """Draw the updates until a run has learned by delay: one line per start, and at the top the runs that do not."""
    runs = runs_of(jobs)
    delays, limit = sorted(runs["delay"].unique()), runs["trainer.max_steps"].max()
    fig, ((axes,),) = panels(height=5)
    axes.set(xscale="log", yscale="log", xlabel="delay in characters", ylabel="updates until 90% are right")
    top = 1.6 * limit
    for number, (name, group) in enumerate(runs.groupby("start", sort=False)):
        style: dict[str, Any] = {"color": COLOURS[number], "markerfacecolor": "none"}
        shift = 1.025 ** (number - 2.5)  # next to each other
        axes.plot(group["delay"] * shift, group["updates"], MARKERS[number], markersize=5, **style)
        lost = group[group["updates"].isna()]
        axes.plot(lost["delay"] * shift, top * 1.06 ** lost["seed"].rank(), MARKERS[number], markersize=5, **style)
        medians = group["updates"].fillna(np.inf).groupby(group["delay"]).median().replace(np.inf, 1.12 * top)
        axes.plot(medians.index * shift, medians, color=COLOURS[number])
        axes.plot([], [], MARKERS[number] + "-", label=name, **style)
    axes.axhline(limit, color="grey", linewidth=1)
    ticks = [tick for tick in (100, 200, 500, 1000, 2000, 4000, 8000) if tick <= limit]
    axes.set_yticks([*ticks, top * 1.12], [*(f"{tick:,}" for tick in ticks), "never"])
    axes.set_xticks(delays, [f"{delay:g}" for delay in delays])
    axes.minorticks_off()
    fig.legend(loc="outside upper center", ncols=3, fontsize="small")
    return fig


def runs_of(jobs: DataFrame) -> DataFrame:
    """Return the runs of the reported seeds at the best rate, sorted by `delay` and `start`.

    `updates`: until the run has learned, NaN if it has not. `tried`: number of rates and their span.
    """
    runs = learning(jobs)
    rates = runs[runs["seed"].isin(TUNING)].groupby(["delay", "start", "model.lr"])
    scores = rates.agg(learned=("updates", "count"), updates=("updates", "mean"), accuracy=(ACCURACY, "mean"))
    order = scores.reset_index().sort_values(["learned", "updates", "accuracy"], ascending=[False, True, False])
    spans = order.groupby(["delay", "start"])["model.lr"].agg(lambda each: f"{each.min():g} to {each.max():g}")
    best = order.groupby(["delay", "start"])[["model.lr"]].first().join(spans.rename("tried")).reset_index()
    reported = runs[~runs["seed"].isin(TUNING)].merge(best)
    places = reported["start"].map([*STARTS].index)
    return reported.assign(place=places).sort_values(["delay", "place", "seed"], ignore_index=True)


def learning(jobs: DataFrame) -> DataFrame:
    """Return the runs that ended, with `delay`, `start` and `updates`, and an accuracy of 0 for those that diverged."""
    names = {values: name for name, values in STARTS.items()}
    starts = [names[tuple(values)] for values in jobs[NETWORK].to_numpy().tolist()]
    return jobs.assign(
        delay=jobs["data.corpus"].map(delay_of),
        start=Series(starts, jobs.index, dtype=object),
        updates=jobs["step"].where(jobs["val/recall"] > LEARNED).astype(float),
        **{ACCURACY: jobs[ACCURACY].astype(float).fillna(0)},
    )
