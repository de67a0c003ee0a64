"""Exercise 5: Replace the one-hot encoding with learnable embeddings. Does it lead to better performance?"""

import numpy as np
from matplotlib.figure import Figure
from pandas import DataFrame

from timemachine.study.comparison import compare, estimate, holm, paired
from timemachine.study.drawing import points_by_place
from timemachine.study.figures import panels
from timemachine.study.stream import PARTS

SETTINGS = ("model.lr", "model.input", "model.input_lr_factor", "model.embedding_dim", "model.embedding_sigma")
SETUP = """
Each excerpt is a rotation of the text with a different seed. Row i of E W_xh is the input of token i, as row i of W_xh
is with one-hot inputs. A step on W_xh changes these rows by E Eᵀ times the one-hot step, and with D columns of variance
σ² (1 if not given) the diagonal of E Eᵀ is about Dσ². Speed: the factor on the rate of W_xh, times Dσ² for an
embedding. Differences are in nats per token, paired by excerpt. Bold: significant after Holm's correction."""
CAPTION = (
    "Loss on the rest of the text minus the loss with one-hot inputs of speed 1, without speeds below 1. Points: "
    "excerpts; bars: means."
)
KEY, ONE_HOT = ["rate", "speed", "input"], "one-hot"


def table(jobs: DataFrame) -> DataFrame:
    """Return the perplexity with each input, and its differences from one-hot inputs."""
    nats = _nats(jobs)
    gains = {
        (key, f"{name} vs. {control}"): compare(nats[part][key], nats[part][base])
        for control in ("one-hot", "one-hot as fast")
        for part, name in PARTS.items()
        for key in nats["val"]
        if (base := (key[0], "1" if control == "one-hot" else key[1], ONE_HOT)) in nats["val"] and base != key
    }
    perplexities = {name: np.exp(nats[part]).agg(estimate) for part, name in PARTS.items()}
    rows = DataFrame({"excerpts": nats["val"].count()} | perplexities)
    for (key, column), claimed in holm(gains).items():
        gain = f"{gains[key, column]:+.3f}"
        rows.loc[key, column] = f"**{gain}**" if claimed else gain
    return rows


def figure(jobs: DataFrame) -> Figure:
    """Draw the differences from one-hot inputs of speed 1 against the speed: one panel per rate."""
    nats = _nats(jobs)["test"]
    rates = sorted({rate for rate, _, _ in nats})
    fig, (row,) = panels(1, len(rates), sharey=True)
    for axes, rate in zip(row, rates, strict=True):
        keys = [key for key in nats if key[0] == rate and float(key[1]) >= 1 and key != (rate, "1", ONE_HOT)]
        speeds = sorted({speed for _, speed, _ in keys}, key=float)
        series: dict[str, list[list[float]]] = {}
        for key in keys:
            places = series.setdefault(key[2].partition(" ")[0], [[] for _ in speeds])
            places[speeds.index(key[1])] += paired(nats[key], nats.get((rate, "1", ONE_HOT), {}))
        points_by_place(axes, speeds, series)
        axes.axhline(0, color="grey", linewidth=1)
        axes.set(title=f"rate {rate:g}", xlabel="speed")
    row[0].set_ylabel("nats per token vs. one-hot inputs of speed 1")
    return fig


def _nats(jobs: DataFrame) -> dict[str, DataFrame]:
    """Return the nats per token of each part: one row per excerpt, one column per rate, speed and input."""
    runs = jobs[jobs["status"] == "completed"]
    is_one_hot = runs["model.input"] == "one_hot"
    width, sigma = runs["model.embedding_dim"], runs["model.embedding_sigma"]
    scale = sigma.astype(object).map(lambda value: "" if value == 1 else f", σ = {value:g}")
    runs = runs.assign(
        rate=runs["model.lr"],
        speed=runs["model.input_lr_factor"] * (width * sigma**2).mask(is_one_hot, 1),
        input=("embedding of " + width.astype(str) + scale).mask(is_one_hot, ONE_HOT),
        **{part: np.log(runs[f"stream/{part}/perplexity"]) for part in PARTS},
    ).sort_values(KEY)
    runs["speed"] = runs["speed"].map("{:g}".format)
    return {part: runs.pivot_table(part, "data.start", KEY, sort=False) for part in PARTS}
