"""Can the draws of the posterior be believed? Convergence of functions, divergences, and a report in words."""
