"""What every fit by gradient shares: step sizes, rows held out, early stopping, the last good state, checkpoints."""
