"""One line where a launcher or a sweeper of Hydra's is not installed, or ends with an error of its library."""

import traceback
from concurrent.futures import BrokenExecutor

EXTRAS = {"submitit_slurm": "slurm", "submitit_local": "slurm", "optuna": "search"}  # of pyproject.toml
LIBRARIES = ("submitit", "optuna", "sqlalchemy")  # what their errors say, a user can mend; sqlalchemy stores a study


def how_to_install(choice: str) -> str | None:
    """Return what to type to have a launcher or a sweeper, None if no extra of ours has it."""
    return f"is not installed; type pip install -e '.[{EXTRAS[choice]}]'" if choice in EXTRAS else None


def describe_launcher_error(error: Exception) -> str | None:
    """Return a line for an error that a launcher's or a sweeper's library raised, None for any other error."""
    if isinstance(error, BrokenExecutor):  # joblib has lost a worker, and ended the others
        return "a process of the sweep was killed from outside"
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    is_mistake_in_a_job = "with trace:" in str(error)
    if frame.f_globals["__name__"].partition(".")[0] in LIBRARIES and not is_mistake_in_a_job:
        return " ".join(str(error).strip().split("\n")[:2])
    return None
