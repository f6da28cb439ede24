"""Does the model make data like these? Predictive checks, before and after the data."""
