"""Runs and workspaces in Weights & Biases. Importing this module does not import wandb, which is slow."""

import os
from collections.abc import Iterable

LOGGER = "timemachine.weights_and_biases.run.WandbRun"  # the `_target_` of conf/logger/wandb.yaml
# Arguments that a resumed run reads from its folder: none of them names a server, a key, a path or code.
RESUMABLE = {
    "project", "entity", "name", "group", "tags", "notes", "job_type", "mode", "offline", "id", "version", "log_model",
    "checkpoint_name", "add_file_policy", "sample_every_n_epochs",
}  # fmt: skip

PROJECT = "timemachine"  # W&B's project, unless a setting or WANDB_PROJECT names another
CHANGES = "changes"  # in a run's config: its text and the typed settings, except for the seed
FIGURE = "perplexity"  # a wandb.Image: perplexity.png
SAMPLES = "samples"  # a wandb.Table: epoch, prefix, and two continuations, a greedy and a sampled one
EVALUATION = "evaluation"  # a wandb.Table: the table that evaluate.py prints


def is_wanted(typed: Iterable[str]) -> bool:
    """Return whether the user asked for W&B: by `logger` on the command line, by a mode, or by an API key."""
    if any(argument.lstrip("+~").startswith("logger") for argument in typed):
        return True
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    return wandb.setup().settings.mode != "online" or wandb.login(prompt=False, verify=False)
