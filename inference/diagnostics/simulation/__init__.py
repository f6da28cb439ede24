"""Does the inference find the truth? Fits of many simulated data sets, and tests of their posteriors."""
