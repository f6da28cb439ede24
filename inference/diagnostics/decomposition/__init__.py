"""Where the uncertainty comes from, and whether it is large where it should be."""
