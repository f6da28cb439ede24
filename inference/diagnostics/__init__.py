"""Is the uncertainty right? Diagnostics of a predictive distribution against observations.

Their input is a `posterity.models.mixtures.Mixture` (such as ``posterior.predictive(x)``) and y; draws (S, N) of any
predictive, such as the samples of a generator, and y; or ArviZ data with ``posterior_predictive`` and
``observed_data``. They return an `xarray.Dataset` with one value for each observation, and a second function of each
kind summarises it. Importing this package does not import torch; only diagnostics of mixtures and models need torch.

- *Calibration.* `pulls` and `pull_summary`: by what factor predicted errors are wrong. `pit`, `uniformity_test` and
  `pit_ecdf`: whether the shape of the predictive is right, and where it is not. `coverage`: whether regions contain
  the stated share of observations, in groups too. `mixture_tests`: which components are wrong, and how.
  `calibration_tests` runs all of them and names the fault; `Recalibrator` repairs it. `mahalanobis` is for several
  targets, `class_calibration_error` for classes.
- *Scoring.* A calibrated predictive can be useless: see `sharpness`. `scores`, `interval_score`, `energy_score`,
  `variogram_score`, `score_summary`, `paired_difference` and `elpd_heldout` compare models on the same held-out
  observations; `loo`, `loo_pit` and `compare` need no held-out data (`waic` needs ArviZ 0.23). Where `loo` fails,
  `moment_matching` (ArviZ 1.x) or `leave_one_out` repairs single observations, and `elpd_kfold` fits the folds again.
- *Checks of the model.* `posterior_predictive_check` and `prior_predictive_check` with test statistics;
  `power_sensitivity`: what changes if the prior, or the likelihood, gets more weight.
- *Decomposition.* `uncertainty_split` divides the variance into noise, ambiguity and lack of data, `information_split`
  the entropy. `component_usage` and `component_information`: which components are used, and whether they tell
  events apart. `ood_scores`, `ood_detection` and `refusal_curve`: whether the uncertainty is large where the model
  knows nothing.
- *Sampling.* `convergence_report` says in words whether the chains can be used and what to change.
  `function_convergence` compares chains on the functions that they predict, `nested_rhat` many short chains;
  `locate_divergences` finds where trajectories diverged.
- *Simulation.* `sbc` and `tarp` fit simulated data (`simulate`, `refit`) and test whether posteriors contain the true
  parameters as often as they should. `lc2st` tests an amortised posterior at one observation.
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
from posterity.inference.diagnostics.checks.power_sensitivity import power_sensitivity
from posterity.inference.diagnostics.checks.predictive_check import posterior_predictive_check
from posterity.inference.diagnostics.checks.prior_check import prior_predictive_check
from posterity.inference.diagnostics.decomposition.component_information import component_information
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
from posterity.inference.diagnostics.scoring.cross_validation import elpd_kfold
from posterity.inference.diagnostics.scoring.crps import crps_from_draws, crps_normal_mixture
from posterity.inference.diagnostics.scoring.interval_score import interval_score
from posterity.inference.diagnostics.scoring.loo import leave_one_out, loo
from posterity.inference.diagnostics.scoring.loo_pit import loo_pit
from posterity.inference.diagnostics.scoring.moment_matching import moment_matching
from posterity.inference.diagnostics.scoring.multivariate import energy_score, variogram_score
from posterity.inference.diagnostics.scoring.scores import elpd_heldout, paired_difference, score_summary, scores
from posterity.inference.diagnostics.scoring.waic import waic
from posterity.inference.diagnostics.simulation.lc2st import lc2st
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
    "component_information",
    "component_usage",
    "convergence_report",
    "coverage",
    "crps_from_draws",
    "crps_normal_mixture",
    "ecdf_band",
    "elpd_heldout",
    "elpd_kfold",
    "energy_score",
    "fpr_at_tpr",
    "function_convergence",
    "information_split",
    "interval_score",
    "label_order",
    "lc2st",
    "leave_one_out",
    "locate_divergences",
    "loo",
    "loo_pit",
    "mahalanobis",
    "mixture_tests",
    "moment_matching",
    "nested_rhat",
    "ood_detection",
    "ood_scores",
    "paired_difference",
    "pit",
    "pit_ecdf",
    "posterior_predictive_check",
    "power_sensitivity",
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
