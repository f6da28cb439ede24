"""Scores of strangers and their measures: against scikit-learn, closed forms, the bootstrap and curves by hand."""

import math
from itertools import permutations

import numpy as np
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from posterity.inference import PredictiveMixture
from posterity.inference.arviz import from_groups
from posterity.inference.diagnostics.decomposition.information import information_split
from posterity.inference.diagnostics.decomposition.ood import (
    auroc,
    average_precision,
    fpr_at_tpr,
    ood_detection,
    ood_scores,
    refusal_curve,
)
from posterity.inference.diagnostics.decomposition.variance import uncertainty_split
from posterity.models.mixtures import Mixture

whole = {"seed": st.integers(0, 10_000), "n": st.integers(2, 40), "m": st.integers(2, 40), "values": st.integers(1, 50)}


def two_samples(seed: int, n: int, m: int, values: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores with ties, the more the fewer ``values``."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, values, n).astype(float), rng.integers(0, values + 5, m).astype(float)


def labelled(inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat([0, 1], [len(inside), len(outside)]), np.concatenate([inside, outside])


@settings(max_examples=40, deadline=None)
@given(**whole)
def test_measures_equal_scikit_learns(seed, n, m, values):
    inside, outside = two_samples(seed, n, m, values)
    labels, scores = labelled(inside, outside)
    assert float(auroc(inside, outside).auroc) == pytest.approx(metrics.roc_auc_score(labels, scores), abs=1e-12)
    expected = metrics.average_precision_score(labels, scores)
    assert average_precision(inside, outside) == pytest.approx(expected, abs=1e-12)
    # The known are the positive class there, and a large score speaks against them.
    false, true, _ = metrics.roc_curve(1 - labels, -scores, drop_intermediate=False)
    for tpr in (0.5, 0.95, 1.0):
        assert fpr_at_tpr(inside, outside, tpr) == pytest.approx(false[true >= tpr - 1e-9].min(), abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(**whole)
def test_the_error_is_delongs_written_out(seed, n, m, values):
    """DeLong et al. 1988, eqs. 3 to 5, in loops over all pairs."""
    inside, outside = two_samples(seed, n, m, values)
    wins = np.array([[float(b > a) + 0.5 * float(b == a) for b in outside] for a in inside])
    expected = wins.mean(1).var(ddof=1) / n + wins.mean(0).var(ddof=1) / m
    assert float(auroc(inside, outside).auroc_se) == pytest.approx(math.sqrt(expected), abs=1e-12)


def test_two_normals_have_their_closed_form_and_an_honest_error():
    """AUROC = Phi(d / sqrt 2). Over 400 repetitions at n = 60, m = 40 the truth is within 1 error in 68 ± 7 %: 3 sd.

    The error is that of the bootstrap (both samples, 2,000 times), to 10 %. Seed 0.
    """
    rng = np.random.default_rng(0)
    truth = stats.norm.cdf(1 / math.sqrt(2))
    inside, outside = rng.normal(size=(400, 60)), rng.normal(size=(400, 40)) + 1
    found = [auroc(a, b) for a, b in zip(inside, outside, strict=True)]
    areas, errors = (np.array([float(one[name]) for one in found]) for name in ("auroc", "auroc_se"))
    assert abs(areas.mean() - truth) < 4 * errors.mean() / 20
    assert 0.61 < (abs(areas - truth) < errors).mean() < 0.75
    assert errors.mean() == pytest.approx(areas.std(), rel=0.1)
    a, b = rng.choice(inside[0], (2000, 60)), rng.choice(outside[0], (2000, 40))
    wins = (b[:, None] > a[..., None]).mean((1, 2)) + 0.5 * (b[:, None] == a[..., None]).mean((1, 2))
    assert errors[0] == pytest.approx(wins.std(), rel=0.1)


def test_order_alone_counts_and_infinities_have_their_place():
    inside, outside = two_samples(1, 20, 30, 12)
    xr.testing.assert_identical(auroc(inside, outside), auroc(np.exp(inside), np.exp(outside)))
    far = np.where(outside == outside.max(), np.inf, outside)
    xr.testing.assert_identical(auroc(inside, far), auroc(inside, np.where(np.isinf(far), 1e9, far)))
    assert float(auroc([0, 1], [2, 3]).auroc) == 1.0
    assert float(auroc([0, 1], [2, 3]).auroc_se) == 0.0
    assert float(auroc([1, 1], [1, 1]).auroc) == 0.5


# Scores


def test_scores_of_numbers_are_the_splits():
    predictive = PredictiveMixture.from_draws(Mixture.normal(*torch.randn(2, 4, 6, 2).abs(), torch.ones(1)))
    scores = ood_scores(predictive, samples=32, seed=3)
    information, variance = information_split(predictive, samples=32, seed=3), uncertainty_split(predictive)
    expected = {
        "entropy": information.total_entropy,
        "mutual_information": information.mutual_information,
        "variance": variance.total,
        "epistemic": variance.epistemic,
    }
    assert set(scores.data_vars) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(scores[name], values)
    xr.testing.assert_identical(ood_scores(scores), scores)
    assert set(ood_scores(variance).data_vars) == {"variance", "epistemic"}


def test_scores_of_a_likelihood_are_those_of_its_mixture():
    likelihood = dist.NegativeBinomial(5.0, logits=torch.randn(4, 3))  # which has probabilities, and no classes
    scores = ood_scores(likelihood, samples=8)
    np.testing.assert_allclose(scores.epistemic, likelihood.mean.var(0, correction=0), rtol=1e-5)


def test_scores_of_several_targets_are_summed():
    loc = torch.tensor([[[0.0, 0.0]], [[2.0, 4.0]]])
    scores = ood_scores(PredictiveMixture.from_draws(dist.Normal(loc, 1.0).to_event(1)))
    assert scores.epistemic.dims == ("obs",)
    np.testing.assert_allclose(scores.epistemic, [5.0], rtol=1e-6)


def test_every_score_of_classes_is_larger_for_what_is_stranger():
    sure = np.tile([0.98, 0.01, 0.01], (5, 8, 1))
    lost = np.random.default_rng(0).dirichlet(np.full(3, 0.3), size=(5, 8))
    found = ood_detection(ood_scores(sure), ood_scores(lost))
    assert found.score.values.tolist() == ["entropy", "mutual_information", "variation_ratio", "max_probability"]
    assert float(found.auroc.min()) > 0.9


def test_ambiguous_is_not_strange():
    """Points where all draws agree that it is even, against others of which each draw is sure: what tells them apart
    is the information, and neither the entropy nor the largest probability, which are the same."""
    even = np.full((2, 10, 2), 0.5)
    torn = np.tile([[[1.0, 0.0]], [[0.0, 1.0]]], (1, 10, 1))
    found = ood_detection(information_split(even), information_split(torn))
    values = dict(zip(found.score.values.tolist(), found.auroc.values.tolist(), strict=True))
    assert values == {"entropy": 0.5, "max_probability": 0.5, "mutual_information": 1.0, "variation_ratio": 1.0}


def test_detection_lists_each_measure(tmp_path):
    inside, outside = two_samples(2, 30, 20, 10)
    scores = [
        xr.Dataset({"mutual_information": ("obs", values), "epistemic": ("obs", -values)})
        for values in (inside, outside)
    ]
    found = ood_detection(*scores)
    assert float(found.auroc.sel(score="mutual_information")) == float(auroc(inside, outside).auroc)
    assert float(found.auroc.sel(score="epistemic")) == pytest.approx(1 - float(auroc(inside, outside).auroc))
    assert float(found.aupr.sel(score="mutual_information")) == average_precision(inside, outside)
    assert float(found.fpr95.sel(score="mutual_information")) == fpr_at_tpr(inside, outside)
    assert found.attrs == {"n_inside": 30, "n_outside": 20, "share": 0.4}
    found.to_netcdf(tmp_path / "ood.nc", engine="h5netcdf")


def test_arviz_data_of_two_dimensions_are_all_their_observations():
    p = np.random.default_rng(0).dirichlet(np.ones(3), size=(2, 5, 4, 6))
    dims = ("chain", "draw", "row", "column", "class")
    scores = ood_scores(from_groups({"posterior": xr.Dataset({"p": (dims, p)})}), var_name="p")
    assert scores.entropy.dims == ("row", "column")
    assert ood_detection(scores, scores).attrs["n_inside"] == 24
    np.testing.assert_array_equal(ood_detection(scores, scores).auroc, 0.5)


# Refusals


def test_refusals_by_hand():
    curve = refusal_curve([0.4, 0.1, 0.3, 0.2], [False, True, False, True])
    np.testing.assert_allclose(curve.refused, [0.0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(curve.accuracy, [0.5, 2 / 3, 1.0, 1.0])
    np.testing.assert_allclose(curve.accuracy_se[:2], [0.25, math.sqrt(2 / 9 / 3)])
    assert float(curve.area) == float(curve.area_best) == pytest.approx((0.5 + 2 / 3 + 2) / 4)
    assert float(curve.area_random) == 0.5


def test_tied_scores_are_the_mean_over_all_orders():
    score, right = np.array([1.0, 2.0, 2.0, 2.0, 3.0]), np.array([1.0, 0.0, 1.0, 1.0, 0.0])
    orders = [refusal_curve(score + np.array([0, *order, 0]) / 10, right) for order in permutations(range(3))]
    expected = refusal_curve(score, right).accuracy
    np.testing.assert_allclose(np.mean([curve.accuracy for curve in orders], axis=0), expected, rtol=1e-12)
    np.testing.assert_allclose(refusal_curve(np.zeros(5), right).accuracy, 0.6)


def test_a_score_that_knows_lies_between_nothing_and_the_oracle():
    rng = np.random.default_rng(0)
    sure = rng.beta(4, 1, size=4000)
    curve = refusal_curve(1 - sure, rng.random(4000) < sure)
    assert float(curve.area_random) + 0.05 < float(curve.area) < float(curve.area_best)
    # Of those above a confidence c, E[sure | sure > c] are right: the calibrated curve, to 4 standard errors.
    half = int(np.searchsorted(curve.refused, 0.5))
    expected = np.sort(sure)[half:].mean()
    assert abs(float(curve.accuracy[half]) - expected) < 4 * float(curve.accuracy_se[half])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: auroc([1.0], [1.0, 2.0]), r"expected inside of shape \(N,\), N of 2 or more, got \(1,\)"),
        (lambda: auroc([1.0, 2.0], np.ones((2, 2))), r"expected outside of shape .* got \(2, 2\)"),
        (lambda: auroc([1.0, np.nan], [1.0, 2.0]), "expected inside without nan, got 1"),
        (lambda: fpr_at_tpr([1, 2], [1, 2], 0.0), r"expected tpr to be a number in \(0, 1\], got 0.0"),
        (
            lambda: ood_scores(xr.Dataset({"pit": ("obs", [1.0])})),
            r"expected a result of information_split.* got \['pit'\]",
        ),
        (
            lambda: ood_detection(
                xr.Dataset({"epistemic": ("obs", [1.0])}), xr.Dataset({"total_entropy": ("obs", [1.0])})
            ),
            r"expected Datasets with a score in common, got \['epistemic'\] and \['entropy'\]",
        ),
        (lambda: refusal_curve([1.0, 2.0], [True]), r"expected correct of shape \(2,\), got \(1,\)"),
        (lambda: refusal_curve([1.0, 2.0], [1, 2]), "expected correct to be true or false"),
        (lambda: refusal_curve([], []), r"expected score of shape \(N,\), N of 1 or more, got \(0,\)"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
