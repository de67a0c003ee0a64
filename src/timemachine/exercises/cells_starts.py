"""Chapter 10, continued: How large is the GRU's lead where libraries start the weights?"""

import numpy as np
from matplotlib.figure import Figure
from pandas import DataFrame

from timemachine.exercises import cells
from timemachine.study.comparison import Estimate, at_best, compare, holm
from timemachine.study.drawing import points_by_place
from timemachine.study.figures import panels

TUNING = 10  # seed of the runs that choose the rates, on The Time Machine
NETWORK = ("model.cell", "model.hiddens", "model.sigma", "model.sigma_xh", "model.init_hh", "model.input")
STARTS = ["the book's", "PyTorch's, embedding", "PyTorch's", "Keras'", "Glorot's", "orthogonal W_hh"]

SETTINGS = (*NETWORK, cells.RATE, cells.TEXT)
SETUP = """
As in [exercise cells](../cells/report.md), with one rate for all weights and one seed. The rate has the lowest
validation loss on The Time Machine of at least five, each twice the one before; more were tried where the best one
was the lowest or highest. Weights are normal: where a library draws them from a uniform distribution, with its
standard deviation; biases are zero. H hidden units, V = 28 symbols. PyTorch's: 1/√(3H) for all weights. Embedding: 32
numbers per character from N(0, 1), instead of one-hot inputs. Keras': √(2/(V + H)) for inputs (GRU: √(2/(V + 3H)))
and outputs, and an orthogonal W_hh, for each gate. Glorot's: √(2/(V + H)) for inputs, 1/√H for W_hh and outputs.
Orthogonal W_hh: the others from N(0, 0.01²). Lead: the RNN's loss on the rest of a novel minus that of the GRU with
as many parameters, in nats per character; mean over novels ± the half-width of its 95% interval. Bold: significant
after Holm's correction over all rows."""
CAPTION = "The GRU's lead over the RNN with as many parameters. Points: novels; bars: means."
FORMATS = {"parameters": ",.0f", "RNN's rate": "g", "GRU's rate": "g", "RNN": ".3f", "GRU": ".3f"}


def table(jobs: DataFrame) -> DataFrame:
    """Return the rates, the losses and the GRU's lead for each start and size."""
    runs = runs_of(jobs)
    lead = leads(runs)
    claimed = holm(lead)
    rows = runs.groupby(["start", "size"], sort=False)
    columns = {"parameters": rows["parameters"].max(), "novels": rows[cells.TEXT].nunique()}
    for cell in ("RNN", "GRU"):
        ours = runs[runs["cell"] == cell].groupby(["start", "size"])
        columns |= {f"{cell}'s rate": ours[cells.RATE].first(), cell: ours["test nats"].mean()}
    table = DataFrame(columns).reindex(columns["parameters"].index)
    table["lead"] = [f"**{lead[key]:+.3f}**" if claimed[key] else f"{lead[key]:+.3f}" for key in table.index]
    return table.droplevel("size")


def leads(runs: DataFrame) -> dict[tuple[str, int], Estimate]:
    """Return the RNN's loss minus the GRU's, by start and size."""
    nats = runs.pivot_table("test nats", cells.TEXT, ["start", "size", "cell"], sort=False)
    return {key: compare(nats[*key, "RNN"], nats[*key, "GRU"]) for key in dict.fromkeys(nats.columns.droplevel("cell"))}


def figure(jobs: DataFrame) -> Figure:
    """Draw the GRU's lead on each novel, by start and size."""
    runs = runs_of(jobs)
    nats = runs.pivot_table("test nats", cells.TEXT, ["start", "size", "cell"], sort=False)
    keys = [*dict.fromkeys(nats.columns.droplevel("cell"))]
    fig, ((axes,),) = panels()
    parameters = runs.groupby(["start", "size"])["parameters"].max()
    places = ["\n".join([*key[0].split(), cells.thousands(parameters[key])]) for key in keys]
    points_by_place(axes, places, {"": [(nats[*key, "RNN"] - nats[*key, "GRU"]).tolist() for key in keys]})
    axes.axhline(0, color="grey", linewidth=1)
    axes.set(ylabel="nats per character: the GRU's lead", xlabel="initial weights and number of parameters")
    return fig


def runs_of(jobs: DataFrame) -> DataFrame:
    """Return the runs on the novels at the rate that is best on The Time Machine, with `start`, `cell` and `size`."""
    runs = jobs[jobs["status"] == "completed"]
    is_orthogonal, is_book = runs["model.init_hh"] == "orthogonal", runs["model.sigma"] == 0.01
    conditions = {
        "PyTorch's, embedding": runs["model.input"] == "embedding",
        "orthogonal W_hh": is_orthogonal & is_book,
        "the book's": is_book,
        "Keras'": is_orthogonal,
        "Glorot's": runs["model.sigma_xh"].notna(),
    }
    runs = runs.assign(
        start=np.select([*conditions.values()], [*conditions], "PyTorch's"),
        cell=runs["model.cell"].replace(cells.NAMES),
        size=runs["parameters"].map(cells.sizes(runs["parameters"])),
        **{"test nats": np.log(runs["stream/test/perplexity"])},
    )
    model = ["start", "size", "cell"]
    best = at_best(runs[runs["seed"] == TUNING], [cells.RATE], model, "stream/val/perplexity")
    runs = runs[runs["seed"] != TUNING].merge(best[[*model, cells.RATE]].drop_duplicates())
    place = runs["start"].map(STARTS.index)
    return runs.assign(place=place).sort_values(["place", "size", "cell", cells.TEXT], ignore_index=True)
