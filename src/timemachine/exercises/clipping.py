"""Exercise 9: run the code without clipping the gradient. What happens?"""

from timemachine.exercises import Findings
from timemachine.exercises.jobs import Job


def findings(jobs: list[Job]) -> Findings:
    """Report."""
    return Findings(columns=[], rows=[])
