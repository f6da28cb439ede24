"""The diagnostics that ``diagnostics.py`` measures, each run here in a separate process."""

import json
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

OBSERVATIONS, DRAWS, MIXTURES, COMPONENTS = 10_000, 4_000, 100_000, 20
Case = tuple[Callable[[float], Any], Callable[[Any], Any]]


def stored(scale: float, targets: int = 0) -> Any:
    """ArviZ data: predictive draws, observations and log likelihood, in single precision as a run stores them."""
    from posterity.inference.arviz import from_arrays

    n, draws = max(20, round(scale * OBSERVATIONS)), (DRAWS if scale == 1 else 400)
    rng = np.random.default_rng(0)
    shape = (4, draws // 4, n, targets) if targets else (4, draws // 4, n)
    predictive = rng.standard_normal(shape, dtype=np.float32)
    y = rng.standard_normal(shape[2:], dtype=np.float32)
    dims = {"y": ["obs", "target"][: y.ndim]}
    groups: dict[str, Any] = {"posterior_predictive": {"y": predictive}, "observed_data": {"y": y}}
    if not targets:
        spread = 0.1 * rng.standard_normal((4, draws // 4, 1), dtype=np.float32)
        groups["log_likelihood"] = {"y": -0.5 * (y - spread) ** 2 - np.float32(0.919)}
        groups["posterior"] = {"mean": spread[..., 0]}
    return from_arrays(**groups, dims=dims)


def predictive(scale: float) -> Any:
    """A network's posterior predictive: a normal for each draw and point, and y."""
    import pyro.distributions as dist
    import torch

    from posterity.inference import PredictiveMixture

    n, draws = max(20, round(scale * OBSERVATIONS)), (DRAWS if scale == 1 else 400)
    torch.manual_seed(0)
    loc = 0.1 * torch.randn(draws, 1) + torch.zeros(n)
    return PredictiveMixture.from_draws(dist.Normal(loc, torch.ones(draws, n))), torch.randn(n)


def mixture(scale: float, targets: int = 0) -> Any:
    """Analytic mixtures of normals, and y."""
    import torch

    from posterity.models import Mixture

    n = max(20, round(scale * MIXTURES))
    torch.manual_seed(0)
    logits, shape = torch.randn(n, COMPONENTS), (n, COMPONENTS, targets) if targets else (n, COMPONENTS)
    build = Mixture.multivariate_normal if targets else Mixture.normal
    made = build(logits, 3 * torch.randn(shape), 0.3 + torch.rand(shape))
    return made, made.sample()


def functions(scale: float) -> np.ndarray:
    """Draws of functions (chain, draw, points)."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((4, DRAWS // 4 if scale == 1 else 100, max(20, round(scale * OBSERVATIONS))))


def classes(scale: float) -> np.ndarray:
    """Probabilities of 3 classes (draws, N, 3), single precision."""
    rng = np.random.default_rng(0)
    shape = (DRAWS if scale == 1 else 100, max(20, round(scale * OBSERVATIONS)), 3)
    values = rng.random(shape, dtype=np.float32)
    return values / values.sum(-1, keepdims=True)


def call(name: str, *args: Any, of: Callable[[Any], tuple[Any, ...]] = lambda data: (data,), **settings: Any) -> Any:
    """Register a diagnostic of the data that ``of`` makes."""

    def run(data: Any) -> Any:
        from posterity.inference import diagnostics

        return getattr(diagnostics, name)(*of(data), *args, **settings)

    return run


def after(first: str, second: str, of: Callable[[Any], tuple[Any, ...]] = lambda data: (data,), **settings: Any) -> Any:
    """Register a diagnostic of the result of another one."""

    def run(data: Any) -> Any:
        from posterity.inference import diagnostics

        return getattr(diagnostics, second)(getattr(diagnostics, first)(*of(data)), **settings)

    return run


def pair(data: Any) -> tuple[Any, ...]:
    return tuple(data)


def head(data: Any) -> tuple[Any, ...]:
    return (data[0],)


def by_x(data: Any) -> Any:
    """Pulls of a mixture and their widths in bins of y."""
    from posterity.inference.diagnostics import pull_summary, pulls

    return pull_summary(pulls(*data), by=data[1], bins=20)


def recalibrated(data: Any) -> Any:
    from posterity.inference.diagnostics import Recalibrator

    model, y = data
    half = len(y) // 2
    return Recalibrator.fit(model[:half], y[:half]).recalibrated_pit(model[half:], y[half:])


ALL_TESTS = ("ks", "ad", "chi2", "berkowitz", "pot_c")
CASES: dict[str, Case] = {
    "pit.draws": (stored, call("pit")),
    "pulls.draws": (stored, call("pulls")),
    "pull_summary.draws": (stored, after("pulls", "pull_summary")),
    "uniformity_test.draws": (stored, after("pit", "uniformity_test", test=ALL_TESTS)),
    "pit_ecdf.draws": (stored, after("pit", "pit_ecdf")),
    "coverage.draws": (stored, call("coverage")),
    "calibration_error.draws": (stored, call("calibration_error")),
    "sharpness.draws": (stored, call("sharpness")),
    "scores.draws": (stored, call("scores")),
    "interval_score.draws": (stored, call("interval_score")),
    "calibration_tests.draws": (stored, call("calibration_tests")),
    "posterior_predictive_check.draws": (stored, call("posterior_predictive_check")),
    "loo.draws": (stored, call("loo")),
    "loo_pit.draws": (stored, call("loo_pit")),
    "energy_score.draws": (partial(stored, targets=2), call("energy_score")),
    "variogram_score.draws": (partial(stored, targets=2), call("variogram_score")),
    "mahalanobis.draws": (partial(stored, targets=2), call("mahalanobis")),
    "function_convergence.draws": (functions, call("function_convergence")),
    "nested_rhat.draws": (functions, call("nested_rhat", superchains=2)),
    "information_split.classes": (classes, call("information_split")),
    "pit.predictive": (predictive, call("pit", of=pair)),
    "pulls.predictive": (predictive, call("pulls", of=pair)),
    "pulls_component.predictive": (predictive, call("pulls", of=pair, kind="component")),
    "pulls_moment.predictive": (predictive, call("pulls", of=pair, kind="moment")),
    "coverage_central.predictive": (predictive, call("coverage", of=pair)),
    "coverage_hdi.predictive": (predictive, call("coverage", of=pair, kind="hdi")),
    "scores.predictive": (predictive, call("scores", of=pair)),
    "interval_score.predictive": (predictive, call("interval_score", of=pair)),
    "sharpness.predictive": (predictive, call("sharpness", of=pair)),
    "mixture_tests.predictive": (predictive, call("mixture_tests", of=pair)),
    "calibration_tests.predictive": (predictive, call("calibration_tests", of=pair)),
    "uncertainty_split.predictive": (predictive, call("uncertainty_split", of=head)),
    "information_split.predictive": (predictive, call("information_split", of=head)),
    "posterior_predictive_check.predictive": (predictive, call("posterior_predictive_check", of=pair)),
    "pit.mixture": (mixture, call("pit", of=pair)),
    "pulls.mixture": (mixture, call("pulls", of=pair)),
    "pulls_component.mixture": (mixture, call("pulls", of=pair, kind="component")),
    "pulls_moment.mixture": (mixture, call("pulls", of=pair, kind="moment")),
    "pull_summary.mixture": (mixture, by_x),
    "coverage_central.mixture": (mixture, call("coverage", of=pair)),
    "coverage_hdi.mixture": (mixture, call("coverage", of=pair, kind="hdi")),
    "uniformity_test.mixture": (mixture, after("pit", "uniformity_test", of=pair, test=ALL_TESTS)),
    "scores.mixture": (mixture, call("scores", of=pair)),
    "interval_score.mixture": (mixture, call("interval_score", of=pair)),
    "sharpness.mixture": (mixture, call("sharpness", of=pair)),
    "mixture_tests.mixture": (mixture, call("mixture_tests", of=pair)),
    "calibration_tests.mixture": (mixture, call("calibration_tests", of=pair)),
    "uncertainty_split.mixture": (mixture, call("uncertainty_split", of=head)),
    "component_usage.mixture": (mixture, call("component_usage", of=pair)),
    "recalibration.mixture": (mixture, recalibrated),
}


def arviz_loo(data: Any) -> Any:
    import arviz

    return arviz.loo(data, pointwise=True)


def arviz_rhat(data: np.ndarray) -> Any:
    """The peers' way to the result of `function_convergence`: one function at a time."""
    import arviz
    import xarray as xr

    draws = xr.Dataset({"f": (("chain", "draw", "point"), data)})
    return arviz.rhat(draws), arviz.ess(draws), arviz.ess(draws, method="tail")


def ensemble(data: Any) -> tuple[np.ndarray, np.ndarray]:
    from posterity.inference.arviz import group

    values = group(data, "posterior_predictive")["y"].values
    return group(data, "observed_data")["y"].values.astype(float), values.reshape(-1, values.shape[-1]).T.astype(float)


def scoringrules_crps(data: Any) -> Any:
    import scoringrules

    y, draws = ensemble(data)
    return scoringrules.crps_ensemble(y, draws, estimator="pwm")


def toolbox(data: Any) -> Any:
    """All of its metrics, of normal predictives."""
    import uncertainty_toolbox

    y, draws = ensemble(data)
    return uncertainty_toolbox.get_all_metrics(draws.mean(1), draws.std(1), y, verbose=False)


PEERS: dict[str, Case] = {
    "arviz_loo": (stored, arviz_loo),
    "arviz_convergence": (functions, arviz_rhat),
    "scoringrules_crps": (stored, scoringrules_crps),
    "uncertainty_toolbox": (stored, toolbox),
}
AGAINST = (
    ("loo.draws", "arviz_loo"),
    ("function_convergence.draws", "arviz_convergence"),
    ("scores.draws", "scoringrules_crps"),
    ("calibration_tests.draws", "uncertainty_toolbox"),
)


def main(name: str, scale: float) -> None:
    build, run = (CASES | PEERS)[name]
    run(build(0.005))  # imports and first-call overhead
    data = build(scale)
    begun = time.perf_counter()
    run(data)
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mb": peak}))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
