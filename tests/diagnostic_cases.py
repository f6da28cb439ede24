"""A call that works of every public diagnostic and plot, for the tests of bad input, of layout and of order."""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
import xarray as xr
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis

from posterity.inference import PredictiveMixture, arviz, diagnostics, plots
from posterity.inference.diagnostics import (
    calibration_tests,
    coverage,
    loo,
    ood_scores,
    pit,
    posterior_predictive_check,
    pulls,
    scores,
    uncertainty_split,
)
from posterity.models import Mixture

N, S = 12, 20
RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Case:
    """A call that works: its arguments, and other words that a message may name an argument by."""

    arguments: dict[str, Any]
    words: dict[str, str] = field(default_factory=dict)


ELSEWHERE = {
    "ConvergenceReport", "Finding",  # results
    "Recalibrator",  # methods of a class: test_recalibrator below
    "convergence_report", "refit", "sbc", "tarp",  # fit: test_those_that_fit below
    "elpd_kfold", "leave_one_out", "moment_matching",  # in their own tests
}  # fmt: skip
NAMES = sorted({*diagnostics.__all__, *plots.__all__} - ELSEWHERE)


def model(x: Any, y: Any = None) -> Any:
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)


SOURCE = r"[Mm]ixture|draws|ArviZ|group|source|predictive|component|rows|observed|target|Dataset"
RESULT = r"observations|result|pull|pit|Dataset|score|split|p.value|panel|coverage|loo|elpd|statistic"
ARRAY = r"draws|values|chains|array"


@dataclass(frozen=True)
class Predicts:
    """An estimator that predicts the same for any table of N rows."""

    predictive: Mixture

    def predict_distribution(self, table: Any) -> Mixture:
        return self.predictive


@cache
def cases() -> dict[str, Case]:
    x = torch.linspace(-1, 1, N)
    bare = Mixture.normal(torch.zeros(2), x[:, None] + torch.tensor([-1.0, 1.0]), torch.full((N, 2), 0.5))
    y = torch.as_tensor(RNG.normal(size=N)).float()
    random = torch.Generator().manual_seed(0)
    loc = torch.randn(S, N, 2, generator=random)
    drawn = PredictiveMixture.from_draws(Mixture.normal(torch.zeros(2), loc, torch.ones(S, N, 2)))
    several = Mixture.multivariate_normal(
        torch.zeros(N, 2), torch.randn(N, 2, 2, generator=random), torch.ones(N, 2, 2)
    )
    y2 = torch.randn(N, 2, generator=random)
    draws = RNG.normal(size=(4, S, N))
    data = arviz.from_arrays(
        posterior={"slope": RNG.normal(size=(4, S))},
        posterior_predictive={"y": draws},
        log_likelihood={"y": 0.1 * RNG.normal(size=(4, S, N)) - 1},
        observed_data={"y": y.numpy()},
    )
    scaled = arviz.from_arrays(
        posterior={"slope": draws[..., 0]},
        log_prior={"slope": -(draws[..., 0] ** 2)},
        log_likelihood={"y": 0.1 * draws - 1},
    )
    pulled, transformed = pulls(bare, y), pit(bare, y)
    scored, split = scores(bare, y), uncertainty_split(bare)
    inside, outside = ood_scores(drawn), ood_scores(drawn)
    chains = RNG.normal(size=(8, S, 3))
    levels = {"levels": [0.5, 0.9]}
    return {
        "auroc": Case({"inside": np.arange(5.0), "outside": np.arange(6.0)}),
        "average_precision": Case({"inside": np.arange(5.0), "outside": np.arange(6.0)}),
        "fpr_at_tpr": Case({"inside": np.arange(5.0), "outside": np.arange(6.0), "tpr": 0.9}),
        "calibration_error": Case({"source": bare, "y": y, "kind": "central", "seed": 0, **levels}),
        "calibration_tests": Case({"source": bare, "y": y, "level": 0.05, "seed": 0}),
        "class_calibration_error": Case(
            {"probabilities": np.full((N, 3), 1 / 3), "labels": np.arange(N) % 3, "bins": 5}
        ),
        "compare": Case({"models": {"a": data, "b": data}, "method": "stacking"}, {"models": f"{SOURCE}|model"}),
        "component_information": Case(
            {"components": np.array([0, 1, 1, 0]), "labels": np.array([1, 0, 1, 1]), "permutations": 9, "seed": 0}
        ),
        "component_usage": Case({"mixture": bare, "y": y, "least": 0.01}),
        "coverage": Case({"source": bare, "y": y, "kind": "hdi", "confidence": 0.9, "by": x, "bins": 2, **levels}),
        "crps_from_draws": Case({"draws": draws[0], "y": y.numpy()}),
        "crps_normal_mixture": Case({"mixture": bare, "y": y}),
        "ecdf_band": Case({"n": 20, "prob": 0.9, "points": 10}),
        "elpd_heldout": Case({"source": bare, "y": y}),
        "energy_score": Case({"source": several, "y": y2, "draws": 10, "seed": 0}),
        "function_convergence": Case({"values": chains}, {"values": ARRAY}),
        "information_split": Case({"source": drawn, "samples": 20, "seed": 0}),
        "interval_score": Case({"source": bare, "y": y, "kind": "central", **levels}),
        "label_order": Case({"predictive": drawn, "y": y}),
        "lc2st": Case(
            {
                "source": (draws[0, :, :1], draws[1, :9, :1, None]),
                "truths": draws[2, :, 0],
                "data": draws[3, :, :1],
                "observations": draws[3, :1, :1],
                "permutations": 2,
                "classifier": QuadraticDiscriminantAnalysis(),
                "seed": 0,
            },
            {"source": "draw|finite|posterior", "data": "observations", "observations": "data"},
        ),
        "locate_divergences": Case(
            {
                "values": xr.DataArray(chains, dims=("chain", "draw", "w")),
                "diverging": np.arange(8 * S).reshape(8, S) % 7 == 0,
            }
        ),
        "loo": Case({"data": data, "reff": 0.9, "threshold": 0.7}),
        "loo_pit": Case({"data": data, "reff": 0.9, "seed": 0}),
        "mahalanobis": Case({"source": several, "y": y2, "reference": "rank", "seed": 0}),
        "mixture_tests": Case({"source": bare, "y": y, "seed": 0}),
        "nested_rhat": Case({"values": chains, "superchains": 2}, {"values": ARRAY}),
        "ood_detection": Case(
            {"inside": inside, "outside": outside}, {n: f"{n}|{RESULT}" for n in ("inside", "outside")}
        ),
        "ood_scores": Case({"source": drawn, "samples": 20, "seed": 0}),
        "paired_difference": Case({"a": scored, "b": scored}, {"a": RESULT, "b": RESULT}),
        "pit": Case({"source": bare, "y": y, "kind": None, "draws": 10, "seed": 0}),
        "pit_ecdf": Case({"pit_values": transformed, "prob": 0.9, "points": 10}, {"pit_values": RESULT}),
        "posterior_predictive_check": Case({"source": bare, "y": y, "statistics": None, "draws": 10, "seed": 0}),
        "power_sensitivity": Case({"source": scaled, "var_names": ["slope"], "delta": 0.05}),
        "prior_predictive_check": Case(
            {"model": model, "inputs": x, "count": 5, "seed": 0, "plausible": (-3.0, 3.0), "site": "y"},
            {"inputs": "argument"},
        ),
        "pull_summary": Case(
            {
                "pulls": pulled,
                "by": x,
                "bins": 2,
                "errors": "moments",
                "event": np.arange(N) // 2,
                "resamples": 20,
                "seed": 0,
            },
            {"pulls": RESULT},
        ),
        "pulls": Case({"source": bare, "y": y, "kind": "gaussianised", "seed": 0}),
        "refusal_curve": Case({"score": np.arange(5.0), "correct": np.array([1, 0, 1, 1, 0])}),
        "region_level": Case({"source": bare, "y": y, "kind": "hdi", "draws": 10, "seed": 0}),
        "relabel": Case({"predictive": drawn, "y": y}),
        "score_summary": Case({"scores": scored}, {"scores": RESULT}),
        "scores": Case({"source": bare, "y": y, "draws": 10, "seed": 0}),
        "sharpness": Case({"source": bare, "y": y, "kind": "central", **levels}),
        "simulate": Case({"model": model, "inputs": x, "count": 3, "seed": 0, "site": "y"}, {"inputs": "argument"}),
        "split_shares": Case({"split": split}, {"split": RESULT}),
        "to_elpd": Case({"result": loo(data)}, {"result": RESULT}),
        "uncertainty_split": Case({"predictive": bare}),
        "uniformity_test": Case({"pit_values": transformed, "test": "ks", "bins": 4}, {"pit_values": RESULT}),
        "variogram_score": Case(
            {"source": several, "y": y2, "order": 0.5, "weights": np.ones((2, 2)), "draws": 10, "seed": 0}
        ),
        "waic": Case({"data": data}),
        "plot_bands": Case({"predictive": bare, "x": x, "y": y, "x_data": x, "split": True, "ax": None, **levels}),
        "plot_bands_along": Case(
            {
                "source": Predicts(bare),
                "data": np.stack([x, y], 1),
                "column": 0,
                "y": y,
                "at": "median",
                "resolution": N,
                "draws": 10,
                "split": True,
                "ax": None,
                **levels,
            },
            {"source": "Posterior", "data": "data|x|column"},
        ),
        "plot_calibration_tests": Case(
            {"panel": calibration_tests(bare, y), "limit": 10.0, "ax": None}, {"panel": RESULT}
        ),
        "plot_compare_uncertainty": Case(
            {"models": {"a": bare}, "x": x, "y": y, "x_data": x, "shares": False, "ax": None, **levels},
            {"models": f"{SOURCE}|model|split"},
        ),
        "plot_conditional_density": Case(
            {"predictive": bare, "x": x, "y": y, "x_data": x, "limits": (-2, 2), "resolution": 9, "ax": None}
        ),
        "plot_coverage": Case({"coverage": coverage(bare, y), "ax": None, "colors": None}, {"coverage": RESULT}),
        "plot_khat": Case({"loo": loo(data), "ax": None}, {"loo": f"{RESULT}|k"}),
        "plot_ood": Case(
            {
                "in_scores": np.arange(5.0),
                "out_scores": np.arange(6.0),
                "bins": 5,
                "labels": ("a", "b"),
                "colors": None,
                "ax": None,
            },
            {"in_scores": "score", "out_scores": "score"},
        ),
        "plot_pit_ecdf": Case({"pit": transformed, "prob": 0.9, "ax": None, "colors": None}, {"pit": RESULT}),
        "plot_ppc": Case(
            {"result": posterior_predictive_check(bare, y, draws=20), "statistics": None, "bins": 5, "ax": None},
            {"result": RESULT},
        ),
        "plot_pull": Case({"pulls": pulled, "limit": 5.0, "bins": 5, "ax": None}, {"pulls": RESULT}),
        "plot_pull_vs": Case(
            {"pulls": pulled, "by": x, "bins": 2, "prob": 0.9, "limit": 3.5, "ax": None, "colors": None},
            {"pulls": RESULT},
        ),
        "plot_recalibration": Case(
            {"before": transformed, "after": transformed, "prob": 0.9, "ax": None, "colors": None},
            {"before": RESULT, "after": RESULT},
        ),
        "plot_samples": Case({"images": torch.zeros(4, 1, 5, 5), "columns": 2, "ax": None}),
        "plot_sbc": Case(
            {
                "result": xr.Dataset(
                    {"pit": (("simulation", "quantity"), RNG.random((30, 2)))}, {"quantity": ["a", "b"]}
                ),
                "quantities": None,
                "prob": 0.9,
                "ax": None,
                "figsize": None,
            },
            {"result": RESULT, "quantities": "names of quantity"},
        ),
        "plot_uncertainty_split": Case(
            {"split": split, "x": x, "shares": False, "ax": None, "colors": None}, {"split": f"{RESULT}|component"}
        ),
    }
