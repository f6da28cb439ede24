"""What every fit by gradients shares: steps, schedules, held-out rows, convergence tests, the last good state."""
