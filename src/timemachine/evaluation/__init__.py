"""Scores of a model on any text."""
