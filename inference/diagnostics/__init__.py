"""Is the uncertainty right? Diagnostics of a predictive distribution against what was observed.

They take a `posterity.models.mixtures.Mixture` (such as ``posterior.predictive(x)``) and y; draws (S, N) of any
predictive, as a generator gives them, and y; or ArviZ data with ``posterior_predictive`` and ``observed_data``. They
return an `xarray.Dataset` with one value for each observation; a second function of each kind sums it up. Nothing here
needs torch to be imported; what takes mixtures or models needs it when called, of stored results nothing else does.

- *Calibration.* `pulls` and `pull_summary` say by what factor the predicted errors are wrong; `pit`,
  `uniformity_test` and `pit_ecdf` whether the shape is right, and where not; `coverage` whether the stated regions
  hold what they promise, in groups too; `mixture_tests` which components are wrong, and how. `calibration_tests` runs
  all of them and names the fault. `Recalibrator` mends it. Of several targets: `mahalanobis`. Of classes:
  `class_calibration_error`.
- *Skill.* A predictive can be calibrated and useless: `sharpness`. `scores`, `interval_score`, `energy_score`,
  `variogram_score`, `score_summary`, `paired_difference`, `elpd_heldout` compare models on the same observations;
  `loo`, `loo_pit` and `compare` do it without held-out ones (`waic` where ArviZ still has it).
- *Checks of the model.* `posterior_predictive_check` and `prior_predictive_check` by statistics of one's own.
- *Origin.* `uncertainty_split` tells noise, ambiguity and lack of data apart in the variance, `information_split` in
  entropy; `ood_scores`, `ood_detection` and `refusal_curve` say whether the last finds what the model does not know.
- *Sampling.* `convergence_report` says in words whether the chains can be believed and what to do;
  `function_convergence` asks of them whether they agree on the functions they predict, `nested_rhat` of many short
  ones, `locate_divergences` where trajectories broke off.
- *Inference itself.* `sbc` and `tarp` fit simulated data again and again (`simulate`, `refit`) and see whether the
  posterior holds the truth as often as it says.
"""

from posterity.inference.diagnostics.calibration.ecdf import ecdf_band, pit_ecdf
from posterity.inference.diagnostics.calibration.mahalanobis import mahalanobis
from posterity.inference.diagnostics.calibration.mixture_tests import mixture_tests
from posterity.inference.diagnostics.calibration.panel import calibration_tests
from posterity.inference.diagnostics.calibration.recalibration import Recalibrator
from posterity.inference.diagnostics.calibration.regions import coverage, region_level
from posterity.inference.diagnostics.calibration.residuals import pulls
from posterity.inference.diagnostics.calibration.sharpness import calibration_error, class_calibration_error, sharpness
from posterity.inference.diagnostics.calibration.transform import pit
from posterity.inference.diagnostics.calibration.uniformity import uniformity_test
from posterity.inference.diagnostics.calibration.widths import pull_summary
from posterity.inference.diagnostics.checks.predictive_check import posterior_predictive_check
from posterity.inference.diagnostics.checks.prior_check import prior_predictive_check
from posterity.inference.diagnostics.decomposition.components import component_usage, label_order, relabel
from posterity.inference.diagnostics.decomposition.information import information_split
from posterity.inference.diagnostics.decomposition.ood import (
    auroc,
    average_precision,
    fpr_at_tpr,
    ood_detection,
    ood_scores,
    refusal_curve,
)
from posterity.inference.diagnostics.decomposition.variance import split_shares, uncertainty_split
from posterity.inference.diagnostics.sampling.convergence import function_convergence
from posterity.inference.diagnostics.sampling.divergences import locate_divergences
from posterity.inference.diagnostics.sampling.nested import nested_rhat
from posterity.inference.diagnostics.sampling.report import ConvergenceReport, Finding, convergence_report
from posterity.inference.diagnostics.scoring.comparison import compare, to_elpd
from posterity.inference.diagnostics.scoring.crps import crps_from_draws, crps_normal_mixture
from posterity.inference.diagnostics.scoring.interval_score import interval_score
from posterity.inference.diagnostics.scoring.loo import leave_one_out, loo
from posterity.inference.diagnostics.scoring.loo_pit import loo_pit
from posterity.inference.diagnostics.scoring.multivariate import energy_score, variogram_score
from posterity.inference.diagnostics.scoring.scores import elpd_heldout, paired_difference, score_summary, scores
from posterity.inference.diagnostics.scoring.waic import waic
from posterity.inference.diagnostics.simulation.refits import refit, simulate
from posterity.inference.diagnostics.simulation.sbc import sbc
from posterity.inference.diagnostics.simulation.tarp import tarp

__all__ = [
    "ConvergenceReport",
    "Finding",
    "Recalibrator",
    "auroc",
    "average_precision",
    "calibration_error",
    "calibration_tests",
    "class_calibration_error",
    "compare",
    "component_usage",
    "convergence_report",
    "coverage",
    "crps_from_draws",
    "crps_normal_mixture",
    "ecdf_band",
    "elpd_heldout",
    "energy_score",
    "fpr_at_tpr",
    "function_convergence",
    "information_split",
    "interval_score",
    "label_order",
    "leave_one_out",
    "locate_divergences",
    "loo",
    "loo_pit",
    "mahalanobis",
    "mixture_tests",
    "nested_rhat",
    "ood_detection",
    "ood_scores",
    "paired_difference",
    "pit",
    "pit_ecdf",
    "posterior_predictive_check",
    "prior_predictive_check",
    "pull_summary",
    "pulls",
    "refit",
    "refusal_curve",
    "region_level",
    "relabel",
    "sbc",
    "score_summary",
    "scores",
    "sharpness",
    "simulate",
    "split_shares",
    "tarp",
    "to_elpd",
    "uncertainty_split",
    "uniformity_test",
    "variogram_score",
    "waic",
]
