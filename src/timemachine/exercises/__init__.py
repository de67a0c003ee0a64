"""The exercises of the book: measurements and reports.

`conf/exercise/<name>.yaml` defines the runs of an exercise, `conf/grid/full/<recipe>/<name>.yaml` those with a recipe.
The module of the same name in this package defines its report: `findings(jobs) -> Findings` reads the files that the
sweep's jobs wrote. Without a module of that name the report comes from `generic`. The first line of the module's
docstring is the title of the report; `TITLE_OF_TOKENS` replaces it if the runs read byte-pair tokens. A command may
vary only the seed and the settings that the YAML varies, unless the module sets `ANY_SETTINGS = True` because its
report separates runs by every setting. `measure(model, data)` is a probe, registered in `exercises.probes`, that runs
on each trained model.

Shared modules: `groups` (groups of runs, Markdown tables), `comparison` (significance of differences), `outcomes`
(whether a run learned or diverged), `drawing` (figures in one style).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Picture = tuple["Figure", str]  # figure, caption


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """The content of a report; empty fields are skipped.

    `answer`: a sentence with the main numbers, or the line from `groups.missing`. It opens the report, followed by the
    first figure. `setting`: how the runs were made. `columns`, `rows`: the main table, which is also printed to the
    terminal. `notes`: Markdown paragraphs and tables after the main table. `arrays`: the content of `arrays.npz`, for
    intervals that cannot be computed from summary.csv. Without rows the report has no figures.
    """

    answer: str = ""
    setting: str = ""
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    figures: dict[str, Picture] = field(default_factory=dict)
    arrays: Mapping[str, Any] = field(default_factory=dict)
