"""Dropout, a carried state, AdamW, schedules and text from a teacher: exercise 4, continued.

`model=regularized` and `data=taught` choose these classes; the book's run imports nothing from this package.
"""

from timemachine.regularized.language_model import RegularizedRNNLM as RegularizedRNNLM
from timemachine.regularized.teacher import TaughtTimeMachine as TaughtTimeMachine
