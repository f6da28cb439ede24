"""Plots of what the diagnostics computed, and of predictives over one input.

Each takes ``ax=None`` (a new figure then), returns the matplotlib axes, and shows nothing by itself.

- A predictive over x: `plot_bands` for its quantiles, `plot_density` for its shape, `plot_split` for its origin.
- A diagnostic: `plot_pulls`, `plot_pit`, `plot_coverage`.
- Generated images: `plot_samples`.
"""

from posterity.inference.plots.bands import plot_bands
from posterity.inference.plots.coverage import plot_coverage
from posterity.inference.plots.density import plot_density
from posterity.inference.plots.pit import plot_pit
from posterity.inference.plots.pulls import plot_pulls
from posterity.inference.plots.samples import plot_samples
from posterity.inference.plots.split import plot_split

__all__ = ["plot_bands", "plot_coverage", "plot_density", "plot_pit", "plot_pulls", "plot_samples", "plot_split"]
