"""Plots of diagnostics, and of predictives over one input.

Each function takes ``ax=None`` (then a new figure is made), returns the matplotlib axes, or an array of them for
several panels, and does not show the figure. Figure size, fonts, line widths and the colours of series are those of
``rcParams`` if the user changed them; ``plot_kwargs`` go to the main artist. Only plots of mixtures need torch.

- A predictive over x: `plot_bands` for quantiles, `plot_bands_along` for one of several inputs,
  `plot_conditional_density` for the shape, `plot_uncertainty_split` for the parts of the variance;
  `plot_compare_uncertainty` for several models side by side.
- Calibration: `plot_pull`, `plot_pull_vs` over a covariate, `plot_pit_ecdf`, `plot_coverage`, and
  `plot_calibration_tests` for all tests together; `plot_recalibration` before and after.
- Inference and model: `plot_sbc`, `plot_ppc`, `plot_khat` of leave-one-out, `plot_ood` of scores of unusual
  observations. `plot_coverage` also draws results of `tarp`.
- Generated images: `plot_samples`.
"""

from posterity.inference.plots.bands import plot_bands
from posterity.inference.plots.bands_along import plot_bands_along
from posterity.inference.plots.calibration_tests import plot_calibration_tests
from posterity.inference.plots.compare_uncertainty import plot_compare_uncertainty
from posterity.inference.plots.conditional_density import plot_conditional_density
from posterity.inference.plots.coverage import plot_coverage
from posterity.inference.plots.khat import plot_khat
from posterity.inference.plots.ood import plot_ood
from posterity.inference.plots.pit_ecdf import plot_pit_ecdf
from posterity.inference.plots.ppc import plot_ppc
from posterity.inference.plots.pull import plot_pull
from posterity.inference.plots.pull_vs import plot_pull_vs
from posterity.inference.plots.recalibration import plot_recalibration
from posterity.inference.plots.samples import plot_samples
from posterity.inference.plots.sbc import plot_sbc
from posterity.inference.plots.uncertainty_split import plot_uncertainty_split

__all__ = [
    "plot_bands",
    "plot_bands_along",
    "plot_calibration_tests",
    "plot_compare_uncertainty",
    "plot_conditional_density",
    "plot_coverage",
    "plot_khat",
    "plot_ood",
    "plot_pit_ecdf",
    "plot_ppc",
    "plot_pull",
    "plot_pull_vs",
    "plot_recalibration",
    "plot_samples",
    "plot_sbc",
    "plot_uncertainty_split",
]
