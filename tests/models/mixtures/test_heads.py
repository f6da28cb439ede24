"""Heads of all families: the parameters they make, where they start, and the priors over them."""

import math

import pyro
import pytest
import torch
from scipy import stats
from torch import nn

from posterity.models import Mixture, mixture_head, mixture_priors, multivariate_mixture_head
from posterity.models.mixtures.heads import FAMILIES

N = torch.Generator().manual_seed(0)
GROUPED = torch.cat([m + s * torch.randn(n, generator=N) for m, s, n in ((-3, 0.1, 300), (0, 0.5, 500), (4, 1, 200))])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", [(), (5,), (2, 7), (2, 3, 4)])
def test_features_of_any_rank_make_a_mixture_of_that_batch(family, shape):
    """A table's rows, a sequence's steps, an image's pixels: everything before the last dimension is batch."""
    head = mixture_head(3, family=family)
    mixture = head(torch.randn(*shape, head.features, generator=torch.Generator().manual_seed(0)))
    assert mixture.batch_shape == shape
    assert mixture.event_shape == ()
    assert bool(mixture.log_prob(torch.ones(shape)).isfinite().all())
    assert family == "log_normal" or bool((mixture.variance > 0).all())  # exp of a normal of scale 10 has none


def test_a_convolutional_and_a_recurrent_network_end_in_a_head():
    head = mixture_head(2, family="laplace")
    image = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 36, head.features))
    assert head(image(torch.zeros(4, 1, 8, 8))).batch_shape == (4,)
    recurrent = nn.GRU(2, head.features, batch_first=True)
    assert head(recurrent(torch.zeros(4, 6, 2))[0]).batch_shape == (4, 6)


def test_zero_features_are_where_components_start():
    head = mixture_head(4, floor=0.01, spread=2.0)
    mixture = head(torch.zeros(12))
    expected = 2.0 * torch.tensor([stats.norm.ppf((k + 0.5) / 4) for k in range(4)])
    torch.testing.assert_close(mixture.component_distribution.loc, expected.float())
    torch.testing.assert_close(mixture.component_distribution.scale, torch.full((4,), math.sqrt(1 + 0.01**2)))
    around = mixture_head(4, family="von_mises")(torch.zeros(16)).component_distribution.loc
    torch.testing.assert_close(around, math.pi * torch.tensor([-0.75, -0.25, 0.25, 0.75]))


@pytest.mark.parametrize("log_scale", [-50.0, 0.0, 50.0])
def test_no_scale_is_below_the_floor_and_its_gradient_is_finite(log_scale):
    for family in ("normal", "laplace", "student_t", "log_normal"):
        features = torch.tensor([0.0, 0.0, log_scale], requires_grad=True)
        component = mixture_head(1, floor=0.02, family=family)(features).component_distribution
        scale = getattr(component, "scale")  # noqa: B009 - families differ
        assert float(scale.detach()) >= 0.02 * (1 - 1e-6)
        (gradient,) = torch.autograd.grad(scale.sum(), features)
        assert bool(gradient.isfinite().all())
    narrow = mixture_head(1, floor=0.02, family="von_mises")(torch.tensor([0.0, 0.0, 1.0, 100.0]))
    assert float(narrow.component_distribution.concentration) <= 1 / 0.02**2 * (1 + 1e-5)


@pytest.mark.parametrize("method", ["quantiles", "k_means"])
def test_components_start_where_the_data_are(method):
    mixture = mixture_head(3, floor=1e-3).started_at(GROUPED, method=method)(torch.zeros(9))
    if method == "k_means":
        torch.testing.assert_close(mixture.component_distribution.loc, torch.tensor([-3.0, 0.0, 4.0]), atol=0.2, rtol=0)
        torch.testing.assert_close(mixture.log_weights.exp(), torch.tensor([0.3, 0.5, 0.2]), atol=0.03, rtol=0)
        torch.testing.assert_close(
            mixture.component_distribution.scale, torch.tensor([0.1, 0.5, 1.0]), atol=0.2, rtol=0
        )
    else:
        torch.testing.assert_close(mixture.log_weights.exp(), torch.full((3,), 1 / 3), atol=0.01, rtol=0)
    plain = mixture_head(3, floor=1e-3)(torch.zeros(9))
    assert float(mixture.log_prob(GROUPED).mean()) > float(plain.log_prob(GROUPED).mean())
    assert float(mixture.mean) == pytest.approx(float(GROUPED.mean()), abs=1e-4)


def test_other_families_start_where_the_data_are_too():
    generator = torch.Generator().manual_seed(1)
    counts = torch.poisson(torch.tensor([2.0, 40.0]).repeat(500), generator=generator)
    rates = mixture_head(2, family="poisson").started_at(counts, method="k_means")(torch.zeros(4))
    torch.testing.assert_close(rates.component_distribution.rate, torch.tensor([2.0, 40.0]), rtol=0.15, atol=0)
    positive = torch.exp(
        torch.cat([torch.randn(400, generator=generator) * 0.1, 5 + torch.randn(400, generator=generator)])
    )
    logs = mixture_head(2, family="log_normal").started_at(positive, method="k_means")(torch.zeros(6))
    torch.testing.assert_close(logs.component_distribution.loc, torch.tensor([0.0, 5.0]), atol=0.3, rtol=0)
    angles = torch.cat([torch.full((50,), -2.0), torch.full((50,), 1.0)]) + 0.1 * torch.randn(100, generator=generator)
    around = mixture_head(2, family="von_mises").started_at(angles)(torch.zeros(8))
    torch.testing.assert_close(around.component_distribution.loc, torch.tensor([-2.0, 1.0]), atol=0.05, rtol=0)


@pytest.mark.parametrize("covariance", ["diagonal", "full", "low_rank"])
def test_heads_of_several_targets(covariance):
    head = multivariate_mixture_head(2, 3, covariance=covariance, rank=2, floor=0.05)
    features = torch.randn(4, 6, head.features, generator=torch.Generator().manual_seed(0), requires_grad=True)
    mixture = head(features)
    assert mixture.batch_shape == (4, 6)
    assert mixture.event_shape == (3,)
    covariances = mixture.covariance_matrix
    assert bool((torch.linalg.eigvalsh(covariances) > 0).all())
    assert bool((mixture.component_distribution.variance >= 0.05**2 * 0.999).all())
    correlated = bool(mixture.component_distribution.mean.shape[-1] == 3)
    assert correlated
    (gradient,) = torch.autograd.grad(mixture.log_prob(torch.zeros(3)).sum(), features)
    assert bool(gradient.isfinite().all())
    low = head(torch.full((head.features,), -40.0))
    assert bool((low.component_distribution.variance >= 0.05**2 * 0.999).all())


def test_components_stay_apart_when_there_are_several_targets_and_components():
    """The classic bug of reshaping (K x D) features the wrong way round: every number has its own place."""
    head = multivariate_mixture_head(3, 2, covariance="diagonal")
    start = head(torch.zeros(head.features)).component_distribution.mean
    for k in range(3):
        for d in range(2):
            features = torch.zeros(3, 5)
            features[k, 1 + d] = 1.0
            moved = head(features.flatten()).component_distribution.mean - start
            expected = torch.zeros(3, 2)
            expected[k, d] = 1.0
            torch.testing.assert_close(moved, expected)


def test_several_targets_start_at_k_means():
    generator = torch.Generator().manual_seed(2)
    centres = torch.tensor([[-4.0, 1.0], [0.0, 5.0], [3.0, -2.0]])
    y = centres.repeat(200, 1) + 0.3 * torch.randn(600, 2, generator=generator)
    for covariance in ("diagonal", "full", "low_rank"):
        mixture = multivariate_mixture_head(3, 2, covariance=covariance).started_at(y)
        found = mixture(torch.zeros(mixture.features)).component_distribution.mean
        torch.testing.assert_close(found, centres, atol=0.1, rtol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mixture_head(2, family="cauchy"), "expected a family from .*'normal'.*, got 'cauchy'"),
        (lambda: mixture_head(2, family="student_t", df=0.0), "expected df to be a finite number above 0, got 0.0"),
        (lambda: mixture_head(2).started_at(torch.zeros(5, 1)), r"expected y of shape \(N,\), got \(5, 1\)"),
        (lambda: mixture_head(6).started_at(torch.zeros(5)), "expected at least 6 rows of y for 6 components, got 5"),
        (lambda: mixture_head(2).started_at(torch.tensor([0.0, math.nan, 1.0])), "expected finite values of y"),
        (lambda: mixture_head(2).started_at(GROUPED, method="random"), "expected method from .*, got 'random'"),
        (
            lambda: mixture_head(2, family="log_normal").started_at(GROUPED),
            "expected y inside the support of log_normal",
        ),
        (
            lambda: mixture_head(2, family="von_mises").started_at(GROUPED, method="k_means"),
            "expected method='quantiles'",
        ),
        (lambda: multivariate_mixture_head(2, 0), "expected targets to be a whole number of 1 or more, got 0"),
        (lambda: multivariate_mixture_head(2, 2, covariance="tied"), "expected covariance from .*, got 'tied'"),
        (lambda: multivariate_mixture_head(2, 2, rank=3), "expected a rank from 1 to 2, got 3"),
        (lambda: multivariate_mixture_head(2, 2)(torch.zeros(3)), r"expected features of shape \(..., 12\)"),
        (lambda: multivariate_mixture_head(2, 2).started_at(torch.zeros(9, 3)), r"expected y of shape \(N, 2\)"),
    ],
)
def test_bad_heads_and_data_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Priors


def log_factor(prior, mixture):
    trace = pyro.poutine.trace(lambda: prior("prior", mixture)).get_trace()
    return float(trace.log_prob_sum())


def normals(weights, scale, rows=3):
    weights, scale = torch.tensor(weights), torch.tensor(scale)
    return Mixture.normal(weights.log().expand(rows, -1), torch.zeros(rows, len(weights)), scale.expand(rows, -1))


def test_wide_scales_is_an_inverse_gamma_with_its_maximum_at_the_scale():
    prior = mixture_priors.WideScales(scale=0.5, concentration=2.0)
    inverse_gamma = stats.invgamma(2.0, scale=3 * 0.25)  # mode scale / (a + 1)
    found = [log_factor(prior, normals([1.0], [s])) for s in (0.1, 0.5, 2.0)]
    expected = [inverse_gamma.logpdf(s**2) - inverse_gamma.logpdf(0.25) for s in (0.1, 0.5, 2.0)]
    assert found == pytest.approx(expected, rel=1e-4)
    assert log_factor(prior, normals([1.0], [1e-6])) < -1e10
    # The average of the rows, so that it counts once.
    assert log_factor(prior, normals([1.0], [2.0], rows=100)) == pytest.approx(found[2], rel=1e-4)


def test_even_weights_is_the_entropy_less_its_maximum():
    prior = mixture_priors.EvenWeights(strength=3.0)
    assert log_factor(prior, normals([0.5, 0.5], [1.0, 1.0])) == pytest.approx(0.0, abs=1e-6)
    entropy = stats.entropy([0.9, 0.1])
    assert log_factor(prior, normals([0.9, 0.1], [1.0, 1.0])) == pytest.approx(3 * (entropy - math.log(2)), rel=1e-5)
    assert math.isfinite(log_factor(prior, normals([1.0, 0.0], [1.0, 1.0])))


def test_sparse_weights_prefers_few_components():
    prior = mixture_priors.SparseWeights(concentration=0.2)
    few, many = (log_factor(prior, normals(w, [1.0, 1.0])) for w in ([0.999, 0.001], [0.5, 0.5]))
    expected = [stats.dirichlet.logpdf(w, [0.2, 0.2]) for w in ([0.999, 0.001], [0.5, 0.5])]
    assert few - many == pytest.approx(expected[0] - expected[1], rel=0.02)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: mixture_priors.WideScales(scale=0.0),
            "expected scale to be a finite number above 0 in WideScales, got 0.0",
        ),
        (
            lambda: mixture_priors.EvenWeights(strength=math.inf),
            "expected strength to be a finite number above 0 in EvenWeights",
        ),
        (lambda: mixture_priors.SparseWeights(concentration=1.0), r"expected a concentration below 1 .*, got 1.0"),
    ],
)
def test_bad_priors_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("family", ["normal", "laplace", "student_t", "log_normal"])
def test_no_scale_is_above_the_ceiling_nor_below_the_floor(family):
    head = mixture_head(1, floor=0.1, ceiling=2.0, family=family)
    log_scales = torch.linspace(-60, 60, 241, dtype=torch.double).requires_grad_()
    features = torch.stack([torch.zeros_like(log_scales), torch.zeros_like(log_scales), log_scales], -1)
    component = head(features).component_distribution
    scale = component.base_dist.scale if family == "log_normal" else component.scale
    assert float(scale.detach().min()) == pytest.approx(0.1)
    assert float(scale.detach().max()) == pytest.approx(math.hypot(0.1, 2.0))
    assert bool((scale.diff(dim=0) >= 0).all())
    (gradient,) = torch.autograd.grad(scale.sum(), log_scales)
    assert bool(torch.isfinite(gradient).all())
    wide = mixture_head(1, floor=0.1, ceiling=1e6, family=family)(features[100:125]).component_distribution
    free = mixture_head(1, floor=0.1, family=family)(features[100:125]).component_distribution
    torch.testing.assert_close(wide.mean, free.mean)
    torch.testing.assert_close(wide.variance, free.variance, rtol=1e-3, atol=0)


def test_a_ceiling_below_the_floor_raises():
    with pytest.raises(ValueError, match=r"expected a finite ceiling above the floor of 0.1, got 0.05"):
        mixture_head(2, floor=0.1, ceiling=0.05)
