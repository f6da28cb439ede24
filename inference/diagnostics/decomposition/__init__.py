"""Parts of the uncertainty by source, and whether the uncertainty is large where it should be."""
