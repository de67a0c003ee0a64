"""The exercises of the book: what each measures, and what it found.

`conf/exercise/<name>.yaml` says what is run. The module of that name here has `findings(jobs) -> Findings`, from what
the jobs of the sweep left in their folders; without one the report is `generic`'s. The first line of its docstring is
the report's title. A command that varies other settings than the YAML and the seed is refused, unless the module says
`ANY_SETTINGS = True`: that its report tells runs apart by all of them. What it measures of each model at its end is
`measure(model, data)`, a probe with a row in `exercises.probes`.

What the modules share: `groups` (the runs in groups, and tables in Markdown), `comparison` (which differences may be
claimed), `outcomes` (what became of a run), `drawing` (figures in one style).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The exercise of each of the book's numbers, from 1 on; 4 is also `how_low`.
BY_NUMBER = (
    "history", "history", "one_hot_is_embedding", "hyperparameters", "embedding", "war_of_the_worlds", "other_authors",
    "sampling", "clipping", "relu",
)  # fmt: skip

Picture = tuple["Figure", str]  # with its caption


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The content of a report; what is empty is left out.

    `answer`: one format string of the numbers, or the line of `groups.missing`; the report opens with it, and the first
    figure follows. `columns`, `rows`: the main table, which is printed in the terminal, too. `notes`: paragraphs and
    tables in Markdown that follow it. `arrays`: name -> what `arrays.npz` keeps, where an interval needs more than
    summary.csv has.
    """

    answer: str = ""
    setting: str = ""
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    figures: dict[str, Picture] = field(default_factory=dict)
    arrays: Mapping[str, Any] = field(default_factory=dict)
