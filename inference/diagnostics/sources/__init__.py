"""What diagnostics are computed from: a mixture and y, draws and y, or ArviZ data, checked and read in blocks.

`source.read` tells them apart; modules named ``mixture`` need torch, and are imported by nobody without a mixture.
"""
