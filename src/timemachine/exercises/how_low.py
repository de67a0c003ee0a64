"""Exercise 4, continued: How low can you go while sticking with this simple architecture?

The probe scores the held-out text, read as one stream, under the run's model, Kneser-Ney n-grams and the mixture of
n-grams, all trained on the same characters. The text that the mixture generates for a run's training is no part of it.
"""

from matplotlib.figure import Figure
from pandas import DataFrame
from pandas.api.typing import DataFrameGroupBy

from timemachine.datamodule import TimeMachine
from timemachine.evaluation.baselines import KNESER_NEY, MIXTURE, Baselines, with_context
from timemachine.evaluation.scores import BLOCK, mean_and_error, score, stream_nll
from timemachine.language_model import RNNLMScratch
from timemachine.study.comparison import LEVEL, estimate, student_t
from timemachine.study.drawing import plain_numbers
from timemachine.study.figures import COLOURS, panels

REQUIRES = {"data.tokens": ("letters",)}  # n-grams of letters
STEPS = {  # setting -> column of the table
    "data.num_train": "training windows",
    "model.optimizer": "optimizer",
    "model.hiddens": "units",
    "model.input_lr_factor": "inputs, times as fast",
    "data.teacher": "generated text, times as long",
}
SETTINGS = tuple(STEPS)
DEFAULTS = {"data.num_train": "90%", "model.optimizer": "sgd", "data.teacher": 0}  # where a run has no such value
SETUP = """
One recurrent layer with a linear output layer. The first row is the book's run on 90% of the novel; each of the next
rows adds a step (`conf/recipe/low_*.yaml`), with the learning rate, the initial weights and the number of epochs
adjusted to it; the last row with 90% is `recipe=novel`. The steps were chosen on the next 5%. The row with 10,000
windows is `recipe=book_split`, chosen on the last 1,000 of its training characters; there "next" and "last 5%" are
the book's validation text and the rest of the novel. Perplexities are of the text read as one stream, ± over seeds. The
last column is in nats per character, paired, ± over blocks of text, without the variation between seeds."""
CAPTION = "Perplexity of the next 5% of the novel (validation) after each step. Points: seeds; numbers: means."


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, dict[str, float]]:
    """Return the perplexity of the training text, and the scores of the model and of the baselines on val and test.

    `difference`: mean negative log-likelihood of the model minus the mixture's, in nats, and `half_width` of its 95%
    interval, from blocks of 100 characters, or of 1,000 in a text of 100,000 or more, where differences drift.
    """
    model, tokens_N, train = model.cpu(), data.tokens_N, data.splits["train"].targets
    baselines = Baselines(data.vocab, data.corpus.characters[: train.stop])
    scores = {"train": {"model": score(stream_nll(model, tokens_N, train)).perplexity}}
    for part in ("val", "test"):
        if targets := with_context(data.splits[part].targets):
            nlls = baselines.nll(data.corpus.characters, targets)
            model_N, mixture_N = stream_nll(model, tokens_N, targets), nlls[MIXTURE]
            size = BLOCK if len(targets) < 1000 * BLOCK else 10 * BLOCK
            difference, error = mean_and_error(model_N - mixture_N, block_size=size)
            blocks = -(-len(targets) // size)
            named = {"model": model_N, "kneser_ney": nlls[KNESER_NEY], "mixture": mixture_N}
            scores[part] = {name: score(nll_N).perplexity for name, nll_N in named.items()}
            scores[part] |= {"difference": difference, "half_width": student_t(LEVEL, max(blocks - 1, 1)) * error}
    return scores


def table(jobs: DataFrame) -> DataFrame:
    """Return each part's perplexity after each step, and the baselines' perplexity on the last part."""
    recipes = _recipes(jobs)
    paired = recipes[["reading/test/difference", "reading/test/half_width"]].mean()
    return DataFrame(
        {
            "training": recipes["reading/train/model"].agg(estimate),
            "next 5%": recipes["reading/val/model"].agg(estimate),
            "last 5%": recipes["reading/test/model"].agg(estimate),
            "last 5%, Kneser-Ney": recipes["reading/test/kneser_ney"].mean().map("{:.2f}".format),
            "last 5%, mixture": recipes["reading/test/mixture"].mean().map("{:.2f}".format),
            "minus the mixture": [f"{mean:+.3f} ± {half:.3f}" for mean, half in paired.itertuples(index=False)],
        }
    )


def figure(jobs: DataFrame) -> Figure:
    """Draw the validation perplexity after each step."""
    whole = jobs[jobs["data.num_train"].isna()]
    recipes = _recipes(whole if len(whole) else jobs)
    fig, ((axes,),) = panels(height=0.5 * len(recipes) + 1.5)
    axes.set_xscale("log")
    labels = []
    for row, (step, runs) in enumerate(recipes):
        values = runs["reading/val/model"]
        axes.plot(values, [row] * len(values), "o", color=COLOURS[0], markerfacecolor="none")
        axes.annotate(f"{values.mean():.2f}", (1, row), (4, 0), va="center", textcoords="offset points",
                      xycoords=("axes fraction", "data"), annotation_clip=False)  # fmt: skip
        _, optimizer, hiddens, factor, teacher = step
        faster = f", inputs {factor:g} times as fast" if factor != 1 else ""
        more = f",\nand {teacher:g} times as much generated text" if teacher else ""
        labels.append(f"{hiddens:,g} units, {optimizer}{faster}{more}")
    for style, label, name in (("-", KNESER_NEY, "kneser_ney"), ("--", MIXTURE, "mixture")):
        axes.axvline(jobs[f"reading/val/{name}"].iloc[0], linestyle=style, color="black", label=label)
    axes.legend(loc="lower right")
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xlabel("perplexity of the novel's next 5% (validation)")
    plain_numbers(axes.xaxis, [3.5, 4, 5, 6, 7])
    return fig


def _recipes(jobs: DataFrame) -> DataFrameGroupBy:
    """Return the runs that differ in their seed only, in the order of the jobs."""
    values = {setting: jobs.get(setting) for setting in STEPS}
    columns = DataFrame(values, index=jobs.index, dtype=object)
    columns = columns.where(columns.notna(), DataFrame(DEFAULTS, index=jobs.index)).rename(columns=STEPS)
    return jobs.join(columns).groupby([*columns], sort=False)
