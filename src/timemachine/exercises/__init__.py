"""The exercises of the book: what each measures, and what it found.

`conf/exercise/<name>.yaml` says what is run. The module of that name here has `findings(jobs) -> Findings`, from what
the jobs of the sweep left in their folders; without one the report is `generic`'s. What it measures of each model at
its end is `measure(model, data)`, for `probes=[<name>]` (`exercises.probes`).
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Told apart by a colour-blind reader: Okabe and Ito.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The content of a report. `captions` has the figures' names in their order; what is empty is left out.

    `answer`: two sentences, with which the report opens. `longer`: short paragraphs, one a finding, with which it ends.
    """

    number: str = ""
    question: str = ""
    setting: str = ""
    columns: list[str]
    rows: list[list[str]]
    figures: "dict[str, Figure]"
    captions: dict[str, str]
    answer: str = ""
    longer: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
