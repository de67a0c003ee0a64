"""One line where a launcher or a sweeper of Hydra's is not installed, or ends with an error of its library."""

from concurrent.futures import BrokenExecutor

EXTRAS = {"submitit_slurm": "slurm", "submitit_local": "slurm", "optuna": "search"}  # of pyproject.toml


def how_to_install(choice: str) -> str | None:
    """Return what to type to have a launcher or a sweeper, None if no extra of ours has it."""
    return f"is not installed; type pip install -e '.[{EXTRAS[choice]}]'" if choice in EXTRAS else None


def describe_launcher_error(error: Exception) -> str | None:
    """Return a line for an error of joblib's or submitit's, None for any other error."""
    if isinstance(error, BrokenExecutor):  # joblib has lost a worker, and ended the others
        return "a process of the sweep was killed from outside"
    if type(error).__module__.startswith("submitit.") or "are you indeed on a slurm cluster" in str(error):
        return str(error).strip().split("\n")[0]
    return None
