"""Runs, workspaces and reports in Weights & Biases. Here: the names that runs log and workspaces draw."""

PROJECT = "timemachine"  # W&B's project, unless a setting or WANDB_PROJECT names another
CHANGES = "changes"  # in a run's config: its text and the typed settings, except for the seed
FIGURE = "perplexity"  # a wandb.Image: perplexity.png
SAMPLES = "samples"  # a wandb.Table: epoch, prefix, continuation
PAGE = "page"  # a wandb.Html, with log_model: the model in a browser
