"""Does the inference find the truth? Fits of simulated data side by side, and what they say together."""
