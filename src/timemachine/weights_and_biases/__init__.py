"""Runs and workspaces in Weights & Biases. Importing this module does not import wandb, which is slow."""

import shlex
from pathlib import Path

from timemachine.run.files import relative_path

PROJECT = "timemachine"  # W&B's project, unless a setting or WANDB_PROJECT names another
CHANGES = "changes"  # in a run's config: the typed settings, except for the seed
FIGURE = "perplexity"  # a wandb.Image: perplexity.png
SAMPLES = "samples"  # a wandb.Table: epoch, prefix, and two continuations, a greedy and a sampled one
# Plotted against the epoch; other metrics against Lightning's `trainer/global_step`.
EPOCH_METRICS = (
    "train/perplexity", "val/perplexity", "val/bits_per_byte", "test/perplexity", "test/bits_per_byte", "clip_fraction",
    "chars_per_second", "lr",
)  # fmt: skip


def upload_line(folder: Path, jobs: str = "") -> str:
    """Return a line with the command that uploads an offline run, or all jobs of a sweep; "" if nothing is left.

    `folder`: the `wandb/` of a run, or the folder of a sweep with `jobs`, a shell pattern for the `wandb/` of its jobs.
    `wandb sync` marks each part of a run that it has uploaded with a `.synced` file.
    """
    parts = folder.glob(f".{jobs}/offline-run-*/*.wandb")
    if all(part.with_suffix(".wandb.synced").exists() for part in parts):
        return ""
    return f"W&B           offline; upload with: wandb sync {shlex.quote(relative_path(folder))}{jobs}"
