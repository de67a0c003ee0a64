"""Runs, workspaces and reports in Weights & Biases. This module's names need no import of wandb, which is slow."""

LOGGER = "timemachine.weights_and_biases.run.WandbRun"  # the `_target_` of conf/logger/wandb.yaml
# Arguments that a resumed run reads from its folder: none of them names a server, a key, a path or code.
RESUMABLE = {
    "project", "entity", "name", "group", "tags", "notes", "job_type", "mode", "offline", "id", "version", "log_model",
    "checkpoint_name", "add_file_policy", "sample_every_n_epochs",
}  # fmt: skip

PROJECT = "timemachine"  # W&B's project, unless a setting or WANDB_PROJECT names another
CHANGES = "changes"  # in a run's config: its text and the typed settings, except for the seed
FIGURE = "perplexity"  # a wandb.Image: perplexity.png
SAMPLES = "samples"  # a wandb.Table: epoch, prefix, and two continuations, the likeliest characters and a sample
EVALUATION = "evaluation"  # a wandb.Table: what evaluate.py prints
