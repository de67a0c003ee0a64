"""From settings to Lightning's Trainer, and what watches a run."""
