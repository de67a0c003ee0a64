"""Exercise 4, continued: How low can you go while sticking with this simple architecture?

The probe scores the held-out text, read as one stream, under the run's model and under Kneser-Ney n-grams, both trained
on the same characters.
"""

from matplotlib.figure import Figure
from pandas import DataFrame
from pandas.api.typing import DataFrameGroupBy

from timemachine.datamodule import TimeMachine
from timemachine.evaluation.baselines import KNESER_NEY, ngrams_nll, with_context
from timemachine.evaluation.scores import score, stream_nll
from timemachine.language_model import RNNLMScratch
from timemachine.study.comparison import estimate
from timemachine.study.drawing import plain_numbers
from timemachine.study.figures import COLOURS, panels

STEPS = {  # setting -> column of the table
    "model.optimizer": "optimizer",
    "model.hiddens": "units",
    "model.input_lr_factor": "inputs, times as fast",
    "model.activation": "activation",
    "model.output_dropout": "dropout",
}
SETTINGS = tuple(STEPS)
DEFAULTS = {"model.optimizer": "sgd", "model.output_dropout": 0}  # of runs without these settings
SETUP = """
One recurrent layer with a linear output layer, trained on the first 90% of the novel. The first row is the book's run
on this text; each of the next rows adds a step, with the learning rate, the initial weights and the number of epochs
adjusted to it; the last row is `recipe=novel`. Dropout: of the hidden units before the output layer; of the inputs, a
third as much. The steps were chosen on the next 5%. Perplexities are of the text read as one stream, ± over seeds."""
CAPTION = "Perplexity of the next 5% of the novel (validation) after each step. Points: seeds; numbers: means."


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, dict[str, float]]:
    """Return the model's perplexity on the training text, and the model's and the n-grams' on val and test."""
    model, tokens_N, train = model.cpu(), data.tokens_N, data.splits["train"].targets
    scores = {"train": {"model": score(stream_nll(model, tokens_N, train)).perplexity}}
    for part in ("val", "test"):
        if targets := with_context(data.splits[part].targets):
            ngrams_N = ngrams_nll(data.vocab, tokens_N[: train.stop], tokens_N, targets)
            named = {"model": stream_nll(model, tokens_N, targets), "kneser_ney": ngrams_N}
            scores[part] = {name: score(nll_N).perplexity for name, nll_N in named.items()}
    return scores


def table(jobs: DataFrame) -> DataFrame:
    """Return each part's perplexity after each step, and the n-grams' perplexity on the last part."""
    steps = _steps(jobs)
    return DataFrame(
        {
            "training": steps["how_low/train/model"].agg(estimate),
            "next 5%": steps["how_low/val/model"].agg(estimate),
            "last 5%": steps["how_low/test/model"].agg(estimate),
            "last 5%, Kneser-Ney": steps["how_low/test/kneser_ney"].mean().map("{:.2f}".format),
        }
    )


def figure(jobs: DataFrame) -> Figure:
    """Draw the validation perplexity after each step."""
    steps = _steps(jobs)
    fig, ((axes,),) = panels(height=0.5 * len(steps) + 1.5)
    axes.set_xscale("log")
    labels = []
    for row, ((optimizer, hiddens, factor, activation, dropout), runs) in enumerate(steps):
        values = runs["how_low/val/model"]
        axes.plot(values, [row] * len(values), "o", color=COLOURS[0], markerfacecolor="none")
        axes.annotate(f"{values.mean():.2f}", (1, row), (4, 0), va="center", textcoords="offset points",
                      xycoords=("axes fraction", "data"), annotation_clip=False)  # fmt: skip
        faster = f", inputs {factor:g} times as fast" if factor != 1 else ""
        others = f",\n{activation}, dropout" if dropout else ""
        labels.append(f"{hiddens:,g} units, {optimizer}{faster}{others}")
    axes.axvline(jobs["how_low/val/kneser_ney"].iloc[0], color="black", label=KNESER_NEY)
    axes.legend(loc="lower right")
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xlabel("perplexity of the novel's next 5% (validation)")
    plain_numbers(axes.xaxis, [3.5, 4, 5, 6, 7])
    return fig


def _steps(jobs: DataFrame) -> DataFrameGroupBy:
    """Return the runs that differ in their seed only, in the order of the jobs."""
    values = {setting: jobs.get(setting) for setting in STEPS}
    columns = DataFrame(values, index=jobs.index, dtype=object)
    columns = columns.where(columns.notna(), DataFrame(DEFAULTS, index=jobs.index))
    return jobs.join(columns.rename(columns=STEPS)).groupby([*STEPS.values()], sort=False)
