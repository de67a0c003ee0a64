"""The exercises of the book: what each found, from what the jobs of its sweep left in their folders.

`conf/exercise/<name>.yaml` says what is run. The module of that name here has `findings(jobs) -> Findings`, and reads
only what the jobs wrote down.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Told apart by a colour-blind reader: Okabe and Ito.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The content of a report. `captions` has the figures' names in their order."""

    number: str
    question: str
    setting: str
    columns: list[str]
    rows: list[list[str]]
    figures: "dict[str, Figure]"
    captions: dict[str, str]
    answer: str
    notes: list[str] = field(default_factory=list)
