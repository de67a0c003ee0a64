"""Chapter 10: What is a gate worth?

A cell leads if its loss on the rest of a text is lower than the loss of the RNN with as many parameters. The lead is
measured with one learning rate and one initial scale for all weights, with a larger rate of the input weights, and with
a larger initial scale of the input weights; all are chosen for each model in `cells_tuning`, on another text.
"""

from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame, Series

from timemachine.cells import input_weights
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.study.comparison import Estimate, compare, holm
from timemachine.study.drawing import MARKERS, plain_numbers
from timemachine.study.figures import COLOURS, panels
from timemachine.study.stream import PARTS

FACTOR, SCALE, RATE, TEXT = "model.input_lr_factor", "model.sigma_xh", "model.lr", "data.corpus"
TRAINING = ["model.optimizer", "model.schedule", "trainer.max_steps"]
SETTINGS = (*TRAINING, "model.cell", "model.hiddens", FACTOR, SCALE, RATE, TEXT)
SETUP = """
The first 150,000 windows of each novel are trained on, in batches of 32, without weight decay; losses are of its rest,
read as one stream. Gain: the cell's own loss with one rate minus its loss. Lead and gain are means over novels, of
means over seeds; ± is the half-width of the 95% interval of Student's t, paired by novel. Bold: significant after
Holm's correction over a cell's nine leads. Input weights: their root mean square after the last update."""
CAPTION = (
    "Left: the GRU's lead over the RNN with as many parameters; one point per novel, lines join means. Above zero the "
    "GRU predicts better. Right: size of the input weights during training, at about 24,000 parameters."
)
NAMES = {"rnn": "RNN", "gru": "GRU", "lstm": "LSTM", "deep_rnn": "deep RNN"}
PLAIN = "RNN"
WAYS = ["one rate", "faster inputs", "larger inputs"]
GROUP = ["training", "size", "way"]  # models that are compared
EQUAL = 1.25  # largest ratio of parameters between models of one size
QUARTERS = (0, 25, 50, 75, 100)  # percent of the updates
RMS = [f"cells/rms/{percent}" for percent in QUARTERS]
FORMATS = {"parameters": ",.0f", "loss": ".3f", "lead": "+.3f", "gain": "+.3f", "input weights": ".2f"}


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, dict[str, float]]:
    """Return the measurements that `InputWeights` made during training."""
    (weights,) = (each for each in model.trainer.callbacks if isinstance(each, InputWeights))  # type: ignore[attr-defined]
    return {"rms": weights.rms}


class InputWeights(Callback):
    """Measures the root mean square of the input weights before training and after each quarter of the updates.

    `rms["25"]`: after 25 percent of them.
    """

    def __init__(self) -> None:
        self.rms: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the measurements so far."""
        return {"rms": self.rms}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the measurements of an interrupted run."""
        self.rms = state_dict["rms"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Measure the initial weights."""
        self._measure(trainer, pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Measure the weights if the model has reached a quarter of its updates."""
        self._measure(trainer, pl_module)

    def _measure(self, trainer: pl.Trainer, model: RNNLMScratch) -> None:
        updates = trainer.estimated_stepping_batches
        for percent in QUARTERS:
            if trainer.global_step == updates * percent // 100:
                weights = torch.cat([weight.detach().flatten() for weight in input_weights(model.rnn)])
                self.rms[str(percent)] = weights.square().mean().sqrt().item()


callback = InputWeights


def table(jobs: DataFrame) -> DataFrame:
    """Return each model's loss, its lead over the RNN, its gain over one rate, and the size of its input weights."""
    runs = runs_of(jobs)
    rows = runs.groupby([*GROUP, "cell"], sort=False)
    columns: dict[str, Any] = {name: rows[name].first() for name in ("parameters", "units", "factor", "scale", "rate")}
    columns |= {"novels": rows[TEXT].nunique(), "loss": rows["test nats"].mean()}
    lead = leads(losses(runs))
    claimed = claims(lead)
    texts = {key: f"**{one:+.3f}**" if claimed[key] else f"{one:+.3f}" for key, one in lead.items()}
    columns |= {"lead": Series(texts, dtype=object), "gain": Series(gains(losses(runs)), dtype=object)}
    columns["input weights"] = rows[RMS[-1]].mean()
    return DataFrame(columns).reindex(columns["novels"].index).droplevel("size")


def losses(runs: DataFrame) -> DataFrame:
    """Return the loss on the rest of each text: rows by text, columns by training, size, way and cell."""
    return runs.pivot_table("test nats", TEXT, [*GROUP, "cell"])


def leads(nats: DataFrame) -> dict[tuple[Any, ...], Estimate]:
    """Return the RNN's loss minus that of each other cell, in the same way, by training, size, way and cell."""
    others = {key: (*key[:3], PLAIN) for key in nats if key[3] != PLAIN}
    return {key: compare(nats[rnn], nats[key]) for key, rnn in others.items() if rnn in nats}


def gains(nats: DataFrame) -> dict[tuple[Any, ...], Estimate]:
    """Return each cell's loss with one rate minus its loss in another way, by training, size, way and cell."""
    plain = {key: (*key[:2], WAYS[0], key[3]) for key in nats if key[2] != WAYS[0]}
    return {key: compare(nats[one], nats[key]) for key, one in plain.items() if one in nats}


def claims(lead: dict[tuple[Any, ...], Estimate]) -> dict[tuple[Any, ...], bool]:
    """Return which leads are significant: Holm's correction is over sizes and ways, for each training and cell."""
    families: dict[tuple[Any, ...], dict[tuple[Any, ...], Estimate]] = {}
    for key, estimate in lead.items():
        training, *_, cell = key
        families.setdefault((training, cell), {})[key] = estimate  # one question: where does this cell lead?
    return {key: claim for family in families.values() for key, claim in holm(family).items()}


def figure(jobs: DataFrame) -> Figure:
    """Draw the GRU's lead by parameters, and the size of the input weights over training, by way."""
    runs = runs_of(jobs)
    runs = runs[runs["training"] == runs["training"].iloc[0]]
    fig, ((left, right),) = panels(1, 2)
    _draw_leads(left, runs)
    middle = sorted(runs["size"].unique())[runs["size"].nunique() // 2]
    _draw_weights(right, runs[runs["size"] == middle])
    return fig


def _draw_leads(axes: Axes, runs: DataFrame) -> None:
    nats, parameters = losses(runs), runs.groupby("size")["parameters"].mean()
    axes.set_xscale("log")
    for number, way in enumerate(WAYS):
        keys = [key for key in nats if key[2] == way and key[3] == "GRU" and (*key[:3], PLAIN) in nats]
        leads = {key: nats[(*key[:3], PLAIN)] - nats[key] for key in keys}
        places = [parameters[key[1]] * 1.06 ** (number - 1) for key in keys]  # next to each other
        style: dict[str, Any] = {"color": COLOURS[number], "markerfacecolor": "none"}
        for x, values in zip(places, leads.values(), strict=True):
            axes.plot([x] * len(values), values, MARKERS[number], markersize=4, **style)
        axes.plot(places, [lead.mean() for lead in leads.values()], MARKERS[number] + "-", label=way, **style)
    axes.axhline(0, color="grey", linewidth=1)
    plain_numbers(axes.xaxis)
    axes.set_xticks(parameters, [*map(thousands, runs.groupby("size")["parameters"].max())])
    axes.minorticks_off()
    axes.set(xlabel="parameters", ylabel="nats per character: the GRU's lead over the RNN")
    axes.legend(fontsize="small")


def _draw_weights(axes: Axes, runs: DataFrame) -> None:
    for (way, cell), group in runs.groupby(["way", "cell"], sort=False):
        means, number = group[RMS].mean(), WAYS.index(way)
        style = {PLAIN: "-", "GRU": "--"}.get(cell)
        if style and means.notna().all():
            axes.plot(QUARTERS, means, style, color=COLOURS[number], marker=MARKERS[number], label=f"{cell}, {way}",
                      markerfacecolor="none")  # fmt: skip
    axes.set_yscale("log")
    plain_numbers(axes.yaxis, (0.01, 0.1, 1))
    axes.set(xlabel="percent of the updates", ylabel="root mean square of the input weights")
    if axes.lines:
        axes.legend(fontsize="small")


def runs_of(jobs: DataFrame) -> DataFrame:
    """Return the completed runs, the smallest models first, with the columns of the table.

    `size`: the smallest number of parameters of the models that a model is compared with. A model whose best factor is
    1 counts as one rate and as faster inputs.
    """
    runs = jobs[jobs["status"] == "completed"]
    optimizer, schedule = runs["model.optimizer"].map({"adamw": "AdamW", "sgd": "SGD"}), runs["model.schedule"]
    cosine = schedule.map(lambda name: "" if name == "constant" else f", {name}")
    scale = runs[SCALE].astype(float)
    runs = runs.reindex(columns=[*runs, *(name for name in RMS if name not in runs)]).assign(
        training=optimizer + cosine + runs["trainer.max_steps"].map(", {:,.0f} updates".format),
        size=runs["parameters"].map(sizes(runs["parameters"])),
        cell=runs["model.cell"].replace(NAMES),
        way=np.where(scale.notna(), WAYS[2], np.where(runs[FACTOR] == 1, WAYS[0], WAYS[1])),
        units=runs["model.hiddens"],
        factor=runs[FACTOR],
        scale=scale.fillna(0.01),
        rate=runs[RATE],
        **{f"{part} nats": np.log(runs[name]) for part in PARTS if (name := f"stream/{part}/perplexity") in runs},
    )
    model = ["training", "size", "cell"]
    has_factor = runs["way"].eq(WAYS[1]).groupby([runs[name] for name in model]).transform("any")
    with_factor_1 = runs[(runs["way"] == WAYS[0]) & ~has_factor]
    runs = pd.concat([runs, with_factor_1.assign(way=WAYS[1])])
    order = {"training": [*dict.fromkeys(runs["training"])], "way": WAYS, "cell": [*NAMES.values()]}
    places = {f"{name} place": runs[name].map(names.index) for name, names in order.items()}
    return runs.assign(**places).sort_values(
        ["training place", "size", "way place", "cell place", TEXT], kind="stable", ignore_index=True
    )


def sizes(parameters: "Series[int]") -> dict[int, int]:
    """Return the smallest number of parameters of the models that each model is compared with."""
    sizes, size = {}, 0
    for number in sorted(parameters.unique()):
        size = number if number > EQUAL * size else size
        sizes[number] = size
    return sizes


def thousands(parameters: float) -> str:
    """Return a number of parameters in thousands, such as "24,000"."""
    return f"{parameters / 1000:.0f},000"
