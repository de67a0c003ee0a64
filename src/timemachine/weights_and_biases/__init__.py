"""Runs and workspaces in Weights & Biases."""
