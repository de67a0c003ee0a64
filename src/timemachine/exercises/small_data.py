"""Next edition, exercise 5: 10,000 windows and 100 epochs. What do the curves of training and validation show?"""

from matplotlib.figure import Figure
from pandas import DataFrame

from timemachine.study.figures import draw_curves, panels
from timemachine.study.generic import curve_of

SETTINGS = ()
SETUP = """
Perplexities are window perplexities, as in the book. Each excerpt is a rotation of the text with different training and
validation parts and a different seed; the tokens are learned from the whole text."""
CAPTION = "Training and validation perplexity of each excerpt."
COLUMNS = {"best_epoch": "best epoch", "best_val/perplexity": "validation, best", "val/perplexity": "validation, last",
           "train/perplexity": "training, last", "val/bits_per_byte_at_best_epoch": "bits per byte, best",
           "val/bits_per_byte": "bits per byte, last"}  # fmt: skip
FORMATS = {"per training token": ".0f", "best epoch": ".0f", "validation, best": ".1f", "validation, last": ".1f",
           "training, last": ".1f", "bits per byte, best": ".3f", "bits per byte, last": ".3f"}  # fmt: skip


def table(jobs: DataFrame) -> DataFrame:
    """Return the lowest and the last validation perplexity of each excerpt."""
    per_token = jobs["parameters"] / (jobs["data.num_train"] + jobs["data.num_steps"])
    rows = jobs.assign(**{"excerpt": jobs["data.start"], "per training token": per_token}).rename(columns=COLUMNS)
    return rows.set_index("excerpt")[["parameters", "per training token", *COLUMNS.values()]]


def figure(jobs: DataFrame) -> Figure:
    """Draw the training and validation perplexity of each run over its epochs: one panel per excerpt."""
    fig, (row,) = panels(1, len(jobs))
    for axes, start, folder in zip(row, jobs["data.start"], jobs["folder"], strict=True):
        draw_curves(axes, {split: [*curve_of(folder, f"{split}/perplexity").items()] for split in ("train", "val")})
        axes.set_title(f"excerpt from character {start:,}")
        axes.legend()
    return fig
