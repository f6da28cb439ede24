"""Scores of models on held-out observations, leave-one-out, and comparisons."""
