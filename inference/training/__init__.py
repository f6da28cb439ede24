"""Parts that all fits by gradients share: steps, schedules, held-out rows, convergence tests, the last good state."""
