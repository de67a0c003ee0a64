"""Runs side by side

Any runs and sweeps, given to `python -m timemachine.report` together: their settings that differ, and their curves.
"""

from matplotlib.figure import Figure
from pandas import DataFrame

from timemachine.exercises.drawing import panels
from timemachine.exercises.generic import FORMATS as FORMATS
from timemachine.exercises.generic import SETTINGS as SETTINGS
from timemachine.exercises.generic import SETUP as SETUP
from timemachine.exercises.generic import draw_epochs
from timemachine.exercises.generic import table as table

CAPTION = "The metric that a search would minimise, over epochs."


def figure(jobs: DataFrame) -> Figure:
    """Draw the curve of each run on one axis."""
    fig, ((axes,),) = panels(height=4.5)
    draw_epochs(fig, axes, jobs)
    return fig
