"""Is the uncertainty right? Diagnostics of a predictive distribution against what was observed.

They take a `posterity.models.mixtures.Mixture` (such as ``posterior.predictive(x)``) and y, or ArviZ data with
``posterior_predictive`` and ``observed_data``, and return an `xarray.Dataset` with one value for each observation;
a second function of each kind sums it up.

- *Calibration.* `pulls` and `pull_summary` say by what factor the predicted errors are wrong; `pit`,
  `uniformity_test` and `pit_ecdf` whether the shape is right, and where not; `coverage` whether the stated regions
  hold what they promise.
- *Skill.* A predictive can be calibrated and useless. `scores`, `score_summary`, `paired_difference` and
  `elpd_heldout` compare models on the same observations.
- *Origin.* `uncertainty_split` and `split_shares` tell noise, ambiguity and lack of data apart.
- *Sampling.* `function_convergence` asks of chains whether they agree on the functions they predict;
  `nested_rhat` asks it of many short ones.
"""

from posterity.inference.diagnostics.components import component_usage, label_order, relabel
from posterity.inference.diagnostics.convergence import function_convergence
from posterity.inference.diagnostics.crps import crps_from_draws, crps_normal_mixture
from posterity.inference.diagnostics.ecdf import ecdf_band, pit_ecdf
from posterity.inference.diagnostics.mixture_tests import mixture_tests
from posterity.inference.diagnostics.nested import nested_rhat
from posterity.inference.diagnostics.panel import calibration_tests
from posterity.inference.diagnostics.recalibration import Recalibrator
from posterity.inference.diagnostics.regions import coverage, region_level
from posterity.inference.diagnostics.residuals import pulls
from posterity.inference.diagnostics.scoring import elpd_heldout, paired_difference, score_summary, scores
from posterity.inference.diagnostics.transform import pit
from posterity.inference.diagnostics.uniformity import uniformity_test
from posterity.inference.diagnostics.variance import split_shares, uncertainty_split
from posterity.inference.diagnostics.widths import pull_summary

__all__ = [
    "Recalibrator",
    "calibration_tests",
    "component_usage",
    "coverage",
    "crps_from_draws",
    "crps_normal_mixture",
    "ecdf_band",
    "elpd_heldout",
    "function_convergence",
    "label_order",
    "mixture_tests",
    "nested_rhat",
    "paired_difference",
    "pit",
    "pit_ecdf",
    "pull_summary",
    "pulls",
    "region_level",
    "relabel",
    "score_summary",
    "scores",
    "split_shares",
    "uncertainty_split",
    "uniformity_test",
]
