"""A change of unit or origin of x or y scales predictions and changes nothing else.

Outputs say how they follow y -> a y + b: a power of the unit (0: a probability, a count, a pull; 1: a width; 2: a
variance), "place" (a location), "density" (a log density, less log a for each target) or "entropy" (the other way).
Scaling by 1e-9 and 1e9 holds to rounding; so does a shift by 1e6 standard deviations, which costs six of 16 digits.
"""

import math
from functools import cache

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr

from posterity.data import Observations, Standardization
from posterity.inference import SVI, Ensemble, infer
from posterity.inference import diagnostics as d
from posterity.inference.predictive import PredictiveMixture
from posterity.models import (
    Mixture,
    bayesian_mixture_density,
    bayesian_regression,
    mixture_density,
    mixture_priors,
    multivariate_mixture_head,
)

N, DRAWS, K = 12, 3, 2
UNITS = {
    "1e-9": (1e-9, 0.0, 1e-9),
    "1e9": (1e9, 0.0, 1e-9),
    "shifted": (1.0, 2e6, 1e-4),
    "small and shifted": (1e-9, 2e-3, 1e-4),
}  # a, b, tolerance relative to the largest value
GENERATOR = torch.Generator().manual_seed(0)
LOGITS, LOC, SCALE = (torch.randn(N, DRAWS * K, generator=GENERATOR, dtype=torch.double) for _ in range(3))
LOGITS = 0.3 * LOGITS
LOC, SCALE = LOC + torch.tensor([-1.5, 1.5] * DRAWS), 0.3 + 0.2 * SCALE.abs()
PLACES = torch.randn(N, DRAWS * K, 2, generator=GENERATOR, dtype=torch.double)
FACTOR = torch.tensor([[1.0, 0.0], [0.5, 0.7]], dtype=torch.double).expand(N, DRAWS * K, 2, 2)


def one_target(a, b):
    return PredictiveMixture(dist.Categorical(logits=LOGITS), dist.Normal(b + a * LOC, a * SCALE), DRAWS)


def two_targets(a, b):
    components = dist.MultivariateNormal(b + a * PLACES, scale_tril=a * FACTOR)
    return PredictiveMixture(dist.Categorical(logits=LOGITS), components, DRAWS)


def drawn(predictive, *shape):
    torch.manual_seed(1)
    return predictive.sample(shape)


def fields(names):
    return lambda p, y: {name: getattr(p, name) for name in names.split()}


def draws_of(function):
    """A diagnostic of draws instead of the mixture."""
    return lambda p, y: function(drawn(p, 60).numpy(), y.numpy())


def seeded(function):
    def call(p, y):
        torch.manual_seed(2)
        return function(p, y)

    return call


SPLIT = dict.fromkeys(("noise", "ambiguity", "epistemic", "total"), 2)
SUMMARY = dict.fromkeys(("mean", "mean_se", "width", "width_se", "robust_width", "n"), 0)
WIDTHS = dict.fromkeys(("width", "sd", "mean_width", "mean_sd", "rms_sd"), 1)
INTERVAL = {"interval_score": 1, "length": 1, "covered": 0}
RANKS = {"pit": 0, "pit_sf": 0}
ENTROPIES = dict.fromkeys(("total_entropy", "expected_entropy", "noise_entropy"), "entropy")
INFORMATION = ENTROPIES | dict.fromkeys(("mutual_information", "mutual_information_se", "ambiguity"), 0)

# What is called with a predictive and y, and how each of its outputs follows the unit of y.
ONE_TARGET = {
    "mean": (fields("mean"), {"mean": "place"}),
    "variances": (
        fields("variance noise ambiguity epistemic within_component between_component"),
        dict.fromkeys(("variance", "noise", "ambiguity", "epistemic", "within_component", "between_component"), 2),
    ),
    "log_draw_weights": (fields("log_draw_weights"), {"log_draw_weights": 0}),
    "cdf": (lambda p, y: {"cdf": p.cdf(y), "sf": p.sf(y)}, {"cdf": 0, "sf": 0}),
    "icdf": (lambda p, y: {"icdf": p.icdf([1e-4, 0.5, 0.9])}, {"icdf": "place"}),
    "log_prob": (lambda p, y: {"log_prob": p.log_prob(y)}, {"log_prob": "density"}),
    "responsibilities": (lambda p, y: {"share": p.responsibilities(y)}, {"share": 0}),
    "modes": (lambda p, y: vars(p.modes()), {"location": "place", "log_density": "density", "probability": 0}),
    "hdr": (
        lambda p, y: vars(p[:3].hdr(0.7)),
        {"lower": "place", "upper": "place", "level": 0, "log_density": "density"},
    ),
    "hdr_level": (lambda p, y: {"level": p.hdr_level(y)}, {"level": 0}),
    "sample": (lambda p, y: {"sample": drawn(p, 3)}, {"sample": "place"}),
    "entropy": (seeded(lambda p, y: {"entropy": p.entropy(20)}), {"entropy": "entropy"}),
    "tempered": (lambda p, y: fields("mean variance")(p.tempered(0.5), y), {"mean": "place", "variance": 2}),
    "per_draw": (lambda p, y: fields("mean variance")(p.per_draw, y), {"mean": "place", "variance": 2}),
    "crps_normal_mixture": (lambda p, y: {"crps": d.crps_normal_mixture(p, y)}, {"crps": 1}),
    "crps_from_draws": (draws_of(lambda s, y: {"crps": d.crps_from_draws(s, y)}), {"crps": 1}),
    "scores": (d.scores, {"log_score": "density", "crps": 1, "squared_error": 2}),
    "scores of draws": (draws_of(d.scores), {"crps": 1, "squared_error": 2}),
    "score_summary": (
        lambda p, y: d.score_summary(d.scores(p, y)),
        {"log_score": "density", "log_score_se": 0, "crps": 1, "squared_error": 2},
    ),
    "interval_score": (d.interval_score, INTERVAL | {"weighted_interval_score": 1}),
    "interval_score, hdi": (
        lambda p, y: d.interval_score(p[:3], y[:3], kind="hdi", levels=[0.5]),
        INTERVAL | {"intervals": 0},
    ),
    "interval_score of draws": (draws_of(d.interval_score), INTERVAL),
    "sharpness": (d.sharpness, WIDTHS),
    "sharpness of draws": (draws_of(d.sharpness), WIDTHS),
    "calibration_error": (d.calibration_error, None),
    "calibration_tests": (d.calibration_tests, {"p_value": 0}),
    "component_usage": (d.component_usage, None),
    "mixture_tests": (d.mixture_tests, {"p_value": 0, "joint_p_value": 0}),
    "posterior_predictive_check": (d.posterior_predictive_check, {"p_value": 0, "upper_tail": 0}),
    "posterior_predictive_check of draws": (draws_of(d.posterior_predictive_check), {"p_value": 0}),
    "coverage": (d.coverage, {"coverage": 0, "lower": 0, "upper": 0}),
    "coverage, hdi": (lambda p, y: d.coverage(p, y, kind="hdi", draws=40), {"coverage": 0}),
    "region_level": (d.region_level, {"level": 0}),
    "region_level, hdi": (lambda p, y: d.region_level(p, y, kind="hdi", draws=40), {"level": 0}),
    "pit": (d.pit, RANKS),
    "pit, rank": (lambda p, y: d.pit(p, y, kind="rank", draws=40), RANKS),
    "pit, hdi": (lambda p, y: d.pit(p, y, kind="hdi", draws=40), RANKS),
    "pit_ecdf": (lambda p, y: d.pit_ecdf(d.pit(p, y)), {"ecdf": 0, "lower": 0}),
    "uniformity_test": (lambda p, y: d.uniformity_test(d.pit(p, y)), {"p_value": 0, "statistic": 0}),
    "pulls": (d.pulls, {"pull": 0}),
    "pulls, moment": (lambda p, y: d.pulls(p, y, kind="moment"), {"pull": 0}),
    "pulls, component": (lambda p, y: d.pulls(p, y, kind="component"), {"pull": 0, "component": 0}),
    "pulls of draws": (draws_of(d.pulls), {"pull": 0}),
    "pull_summary": (lambda p, y: d.pull_summary(d.pulls(p, y)), SUMMARY),
    "uncertainty_split": (lambda p, y: d.uncertainty_split(p), SPLIT),
    "split_shares": (lambda p, y: d.split_shares(d.uncertainty_split(p)), None),
    "information_split": (lambda p, y: d.information_split(p), INFORMATION),
    "ood_scores": (
        lambda p, y: d.ood_scores(p),
        {"entropy": "entropy", "mutual_information": 0, "variance": 2, "epistemic": 2},
    ),
    "label_order": (lambda p, y: {"order": d.label_order(p, y)}, {"order": 0}),
    "relabel": (lambda p, y: {"mean": d.relabel(p, y).per_draw.component_distribution.mean}, {"mean": "place"}),
}
TWO_TARGETS = {
    "moments": (fields("mean variance covariance_matrix"), {"mean": "place", "variance": 2, "covariance_matrix": 2}),
    "log_prob": (lambda p, y: {"log_prob": p.log_prob(y)}, {"log_prob": "density"}),
    "modes": (lambda p, y: vars(p[:2].modes()), {"location": "place", "log_density": "density", "probability": 0}),
    "marginal": (lambda p, y: {"icdf": p.marginal(0).icdf([0.1, 0.5])}, {"icdf": "place"}),
    "conditional": (lambda p, y: {"mean": p.conditional(0, y[:, 0]).mean}, {"mean": "place"}),
    "energy_score": (lambda p, y: d.energy_score(p, y, draws=50), {"energy": 1}),
    "variogram_score": (lambda p, y: d.variogram_score(p, y, draws=50), {"variogram": 1}),
    "mahalanobis": (d.mahalanobis, {"squared_distance": 0, "pit": 0, "pit_sf": 0}),
    "region_level": (lambda p, y: d.region_level(p, y, kind="hdi", draws=40), {"level": 0}),
    "scores": (lambda p, y: d.scores(p, y, draws=50), {"log_score": "density", "energy": 1, "squared_error": 2}),
    "uncertainty_split": (lambda p, y: d.uncertainty_split(p), SPLIT),
    "information_split": (lambda p, y: d.information_split(p), INFORMATION),
}
CASES = [(1, name) for name in ONE_TARGET] + [(2, name) for name in TWO_TARGETS]


def arrays(result):
    names = result.data_vars if isinstance(result, xr.Dataset) else result
    found = {str(name): np.asarray(result[name]) for name in names}
    return {name: values.astype(float) for name, values in found.items() if values.dtype.kind in "biuf"}


@cache
def evaluated(targets, name, a, b):
    make, table = (one_target, ONE_TARGET) if targets == 1 else (two_targets, TWO_TARGETS)
    y = b + a * drawn(make(1.0, 0.0))
    return arrays(table[name][0](make(a, b), y))


def followed(values, how, a, b, targets):
    """The transformation of an output."""
    if how == "place":
        return b + a * values
    if how in ("density", "entropy"):
        return values + targets * math.log(a) * (1 if how == "entropy" else -1)
    return values * a**how


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(("targets", "name"), CASES)
def test_an_output_follows_the_unit_of_y(targets, name, unit):
    a, b, tolerance = UNITS[unit]
    base, found = evaluated(targets, name, 1.0, 0.0), evaluated(targets, name, a, b)
    wanted = (ONE_TARGET if targets == 1 else TWO_TARGETS)[name][1] or dict.fromkeys(base, 0)
    assert wanted.keys() <= base.keys()
    for output, how in wanted.items():
        expected = followed(base[output], how, a, b, targets)
        error, size = found[output] - expected, np.nanmax(np.abs(expected - (b if how == "place" else 0)), initial=0)
        largest = np.nanmax(np.abs(error), initial=0)
        assert np.array_equal(np.isnan(found[output]), np.isnan(expected)), output
        # A maximum is found to the root of the rounding error of the density.
        assert largest <= (max(tolerance, 1e-5) if name == "modes" else tolerance) * size, (output, largest, size)


def test_every_diagnostic_of_a_predictive_is_in_the_table():
    """Fails for a new diagnostic until it is in the table."""
    others = {
        "ConvergenceReport", "Finding", "Recalibrator", "auroc", "average_precision", "class_calibration_error",
        "component_information",
        "compare", "convergence_report", "ecdf_band", "elpd_heldout", "elpd_kfold", "lc2st", "moment_matching",
        "power_sensitivity", "fpr_at_tpr", "function_convergence",
        "leave_one_out", "locate_divergences", "loo", "loo_pit", "nested_rhat", "ood_detection", "paired_difference",
        "prior_predictive_check", "refit", "refusal_curve", "sbc", "simulate", "tarp", "to_elpd", "waic",
    }  # fmt: skip
    here = {name.split(",")[0].split(" of ")[0] for table in (ONE_TARGET, TWO_TARGETS) for name in table}
    assert set(d.__all__) - others <= here


X = torch.linspace(-1, 1, 30, dtype=torch.double)[:, None] * torch.tensor([1.0, 0.3]).double()
Y = torch.sin(3 * X[:, 0]) + 0.1 * torch.randn(30, generator=GENERATOR, dtype=torch.double)
TINY = {"members": 2, "steps": 15, "engine": "eager", "progress": False}
READY = {
    "regression, constant noise": (lambda s: bayesian_regression(s, hidden=(3,), noise="constant"), 1),
    "regression, noise of the input": (lambda s: bayesian_regression(s, hidden=(3,)), 1),
    "mixture density": (lambda s: mixture_density(s, components=2, hidden=(3,), decay=0.1), 1),
    "mixture priors": (
        lambda s: mixture_density(
            s, components=2, hidden=(3,), mixture_priors=(mixture_priors.WideScales(), mixture_priors.EvenWeights())
        ),
        1,
    ),
    "Bayesian mixture density": (lambda s: bayesian_mixture_density(s, components=2, hidden=(3,)), 1),
    "several targets": (
        lambda s: mixture_density(s, hidden=(3,), head=multivariate_mixture_head(2, 2)),
        2,
    ),
}
METHODS = {
    "Ensemble": lambda: Ensemble(**TINY),
    "SVI": lambda: SVI(steps=15, draws=4, progress=False),
}


@cache
def predicted(name, method, sx, bx, sy, by):
    build, targets = READY[name]
    x, y = bx + sx * X, by + sy * (Y if targets == 1 else torch.stack([Y, Y**2], 1))
    pair = build(Standardization.fit(Observations(x, y)))
    predictive = infer(pair, x, y, method=METHODS[method](), seed=3).predictive(x)
    return predictive.mean, predictive.variance, predictive.log_prob(y)


@pytest.mark.parametrize(
    ("sx", "bx", "sy", "by", "tolerance"),
    [(1e-9, 0.0, 1e9, 0.0, 1e-7), (1e9, 0.0, 1e-9, 0.0, 1e-7), (1.0, 1e6, 1.0, 1e6, 1e-3)],
    ids=["small x, large y", "large x, small y", "shifted"],
)
@pytest.mark.parametrize(
    ("name", "method"),
    [(name, "Ensemble") for name in READY] + [("regression, noise of the input", "SVI"), ("mixture density", "SVI")],
)
def test_a_ready_model_follows_the_units_of_x_and_y(name, method, sx, bx, sy, by, tolerance):
    """Two fits with one seed: inside, both see the same standardised numbers."""
    mean, variance, score = predicted(name, method, 1.0, 0.0, 1.0, 0.0)
    other_mean, other_variance, other_score = predicted(name, method, sx, bx, sy, by)
    torch.testing.assert_close((other_mean - by) / sy, mean, rtol=0, atol=tolerance)
    torch.testing.assert_close(other_variance / sy**2, variance, rtol=tolerance, atol=0)
    torch.testing.assert_close(other_score + READY[name][1] * math.log(sy), score, rtol=0, atol=10 * tolerance)


@pytest.mark.parametrize("unit", [1e-6, 1.0])
def test_a_small_y_has_its_own_width(unit):
    """Noise of 10 % at y of size 1e-6 is predicted as 1e-7, and not as a resolution of 1e-3. In float32."""
    generator = torch.Generator().manual_seed(4)
    x = torch.rand(200, 1, generator=generator)
    y = unit * (1 + 0.1 * torch.randn(200, generator=generator))
    pair = mixture_density(Standardization.fit(Observations(x, y)), components=1, hidden=(4,))
    method = Ensemble(members=1, steps=100, learning_rate=0.05, progress=False)
    predictive = infer(pair, x, y, method=method).predictive(x)
    assert float(predictive.variance.sqrt().mean()) / unit == pytest.approx(0.1, rel=0.2)
    inside = (predictive.cdf(y) > 0.05) & (predictive.cdf(y) < 0.95)
    assert 0.84 < float(inside.double().mean()) < 0.96


def test_a_resolution_stays_in_units_of_y():
    scale = Standardization(torch.zeros(1), torch.ones(1), torch.tensor(0.0), torch.tensor(1e-6))
    for resolution, expected in ((None, 1e-9), (1e-7, 1e-7)):
        pair = mixture_density(scale, components=1, hidden=(2,), resolution=resolution)
        sharp = {"net.output.bias": torch.tensor([0.0, 0.0, -60.0]), "net.output.weight": torch.zeros(3, 2)}
        mixture: Mixture = pair_at(pair, sharp)
        torch.testing.assert_close(mixture.component_distribution.scale, torch.full((4, 1), expected))


def pair_at(pair, values):
    """The distribution of y at these parameters."""
    with pyro.get_param_store().scope():
        for name, value in values.items():
            pyro.param(name, value)
        return pyro.poutine.trace(pair.model).get_trace(torch.zeros(4, 1)).nodes["y"]["fn"]


def test_a_head_has_a_floor_of_its_own():
    scale = Standardization.identity(1)
    with pytest.raises(ValueError, match="expected either resolution or head, which has its own floor, got both"):
        mixture_density(scale, resolution=0.1, head=multivariate_mixture_head(2, 2))
