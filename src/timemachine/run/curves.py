"""Both perplexities over epochs, as in the book's figure."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
STYLES = {"train": ("training", "-", COLOURS[0]), "val": ("validation", "--", COLOURS[1])}


def draw_curves(axes: Axes, curves: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Draw the perplexities over epochs. `curves`: (epoch, perplexity) of `train` and of `val`."""
    for name, points in curves.items():
        label, style, colour = STYLES[name]
        axes.plot([x for x, _ in points], [y for _, y in points], style, color=colour,
                  label=f"{label} {points[-1][1]:.2f}" if points else label,
                  marker="." if len(points) < 3 else None)  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="perplexity", ylim=(0, None))
    axes.grid(alpha=0.3)
