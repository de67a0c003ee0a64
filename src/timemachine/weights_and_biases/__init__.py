"""Runs, workspaces and reports in Weights & Biases. Here: the names that runs log and workspaces draw."""

PROJECT = "timemachine"  # W&B's project, unless a setting or WANDB_PROJECT names another
STEP = "trainer/global_step"  # Lightning's name for a step's number
CHANGES = "changes"  # in a run's config: its text and the typed settings, except for the seed
FIGURE = "perplexity"  # a wandb.Image: perplexity.png
SAMPLES = "samples"  # a wandb.Table: epoch, prefix, and two continuations, the likeliest characters and a sample
EVALUATION = "evaluation"  # a wandb.Table: what evaluate.py prints
GAP = "gap/bits_per_character"  # validation less training
PAGE = "page"  # a wandb.Html, with log_model: the model in a browser
