"""Next edition, exercise 6: Tokenizers of other sizes. Why would comparing perplexities mislead?"""

from matplotlib.figure import Figure
from pandas import DataFrame

from timemachine.study.comparison import against, at_best, estimate, verdicts
from timemachine.study.drawing import plain_numbers, points_by_place
from timemachine.study.figures import panels
from timemachine.study.stream import SCORE_FORMATS, SCORES

SETTINGS = ("data.vocab_size", "model.lr")
SETUP = """
128 hidden units, an embedding of 64, AdamW, batches of 32 windows of 32 tokens. All models read the training text eight
times, with fewer updates if tokens are longer. The text is read as one stream. Each excerpt is a rotation of the text
with a different held-out part, a different seed and a tokenizer learned from its training text. A row shows the
learning rate with the lowest mean bits per byte on validation. Differences are paired by excerpt. Holm's correction
applies to the last column, not to the ± intervals."""
CAPTION = "Scores on the rest of the text. Points: excerpts; bars: means."
BOOK = 1024  # tokens
VERSUS = f"rest vs. {BOOK:,} tokens, bits"
FORMATS = {"bytes per token": ".2f", "parameters": ",.0f"} | SCORE_FORMATS


def table(jobs: DataFrame) -> DataFrame:
    """Return the scores of each vocabulary at its best rate, and the difference in bits from the book's vocabulary."""
    runs = _runs(jobs)
    groups = runs.groupby("tokens")
    facts = {"bytes per token": groups["bytes per token"].mean()} | dict(groups[["parameters", "rate"]].first())
    scores = {name: groups[column].agg(estimate) for name, column in SCORES.items()}
    rows = DataFrame(facts | {"excerpts": groups.size()} | scores)
    gains = against(BOOK, runs.pivot_table("stream/test/bits_per_byte", "data.start", "tokens"))
    rows[[VERSUS, ""]] = DataFrame(verdicts(gains), index=[VERSUS, ""]).T
    return rows


def figure(jobs: DataFrame) -> Figure:
    """Draw the perplexity and the bits per byte of each vocabulary on each excerpt."""
    groups = _runs(jobs).groupby("tokens")
    fig, (row,) = panels(1, 2)
    for axes, unit in zip(row, ("perplexity", "bits per byte"), strict=True):
        values = groups[f"stream/test/{unit.replace(' ', '_')}"].agg(list)
        points_by_place(axes, [f"{size:,}" for size in values.index], {"": [*values]})
        axes.set(xlabel="tokens of the vocabulary", ylabel=f"{unit} of the rest of the text")
    row[0].set(yscale="log")
    plain_numbers(row[0].yaxis)
    return fig


def _runs(jobs: DataFrame) -> DataFrame:
    """Return the runs of each vocabulary at its best rate."""
    runs = at_best(jobs, ["model.lr"], ["data.vocab_size"], "stream/val/bits_per_byte")
    bytes_per_token = runs["stream/test/bits"] / runs["stream/test/bits_per_byte"]
    return runs.assign(
        **{"tokens": runs["data.vocab_size"], "rate": runs["model.lr"], "bytes per token": bytes_per_token}
    )
