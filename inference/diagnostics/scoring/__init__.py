"""Which model is better? Scores on held-out observations, leave-one-out, and comparisons."""
