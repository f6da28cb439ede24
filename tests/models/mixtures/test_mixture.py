"""`Mixture` as a distribution: densities, tails, samples, changes of units, indexing.

Bugs of public code are given as formulas for which the same check fails. Statistical tolerances are 4 or 5 standard
errors, from the seed of every test.
"""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import special, stats

from posterity.models import (
    Mixture,
    mixture_head,
    multivariate_mixture_head,
)
from tests.mixture_cases import component_families, kinds, random_mixture, scipy_sum, several

KS_FAILURE_RATE = 1e-3


def test_density_and_moments_are_torchs():
    mixture = random_mixture(7)
    reference = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=mixture.mixture_distribution.logits),
        torch.distributions.Normal(mixture.component_distribution.loc, mixture.component_distribution.scale),
    )
    y = torch.linspace(-20, 20, 7, dtype=torch.double)
    torch.testing.assert_close(mixture.log_prob(y), reference.log_prob(y))
    torch.testing.assert_close(mixture.mean, reference.mean)
    torch.testing.assert_close(mixture.variance, reference.variance)
    torch.testing.assert_close(mixture.stddev, reference.stddev)


@pytest.mark.parametrize("family", ["Normal", "StudentT", "Laplace"])
def test_distribution_function_and_both_tails_are_scipys(family):
    loc = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.double)
    scale = torch.tensor([0.3, 1.0, 2.0], dtype=torch.double)
    logits = torch.tensor([0.5, -1.0, 0.2], dtype=torch.double)
    components, scipy_part = component_families(loc, scale)[family]
    mixture = Mixture(dist.Categorical(logits=logits), components)
    weights, parts = logits.softmax(-1).numpy(), [scipy_part(i) for i in range(3)]
    # Both ends lie 12 standard deviations of the widest component out: probabilities down to 1e-33.
    y = np.linspace(-1 - 12 * 2.0, 2 + 12 * 2.0, 49)
    found = {name: getattr(mixture, name)(torch.tensor(y)).numpy() for name in ("cdf", "sf")}
    for name in ("cdf", "sf"):
        np.testing.assert_allclose(found[name], scipy_sum(weights, parts, name, y), rtol=1e-10)
        assert (found[name] > 0).all()
    np.testing.assert_allclose(mixture.log_prob(torch.tensor(y)).exp(), scipy_sum(weights, parts, "pdf", y), rtol=1e-10)


def test_samples_have_the_moments_and_the_law():
    """Mean within 4 standard errors, variance within 4 of its own, KS at one failure in a thousand; seed 0."""
    mixture = random_mixture(components=3, seed=5)
    n = 20_000
    y = mixture.sample((n,))
    assert y.dtype == torch.double
    mean, variance = mixture.mean, mixture.variance
    assert abs(y.mean() - mean) < 4 * (variance / n).sqrt()
    fourth = ((y - mean) ** 4).mean()
    assert abs(((y - mean) ** 2).mean() - variance) < 4 * ((fourth - variance**2) / n).sqrt()
    assert stats.kstest(y.numpy(), lambda v: mixture.cdf(torch.tensor(v)).numpy()).pvalue > KS_FAILURE_RATE


def test_sampling_takes_the_scale_as_a_standard_deviation():
    """Public code took sigma for a variance: 0.1 would give a spread of 0.316. Tolerance: 4 standard errors."""
    mixture = Mixture.normal(torch.zeros(1), torch.zeros(1), torch.tensor(0.1))
    n = 10_000
    assert abs(mixture.sample((n,)).std() - 0.1) < 4 * 0.1 / math.sqrt(2 * n)


def test_every_component_is_sampled_as_often_as_its_weight_says():
    """Public code could return index -1 or never reach the last; chi squared at one failure in a thousand."""
    k, n = 7, 14_000
    mixture = Mixture.normal(torch.zeros(k), 100.0 * torch.arange(k), torch.tensor(1.0))
    index = (mixture.sample((n,)) / 100).round().long()
    counts = torch.bincount(index, minlength=k)
    assert len(counts) == k
    assert stats.chisquare(counts.numpy()).pvalue > KS_FAILURE_RATE


def test_samples_of_a_batch_come_from_their_own_row():
    loc = torch.tensor([[0.0, 100.0], [1000.0, 1100.0], [2000.0, 2100.0]])
    mixture = Mixture.normal(torch.tensor([[0.0, -100.0], [-100.0, 0.0], [0.0, -100.0]]), loc, torch.tensor(1.0))
    y = mixture.sample((50,))
    assert y.shape == (50, 3)
    assert ((y - torch.tensor([0.0, 1100.0, 2000.0])).abs() < 6).all()


def test_samples_with_event_dimensions_keep_components_whole():
    """Both coordinates of a sample are from one component, and a full covariance keeps its correlation."""
    loc = torch.tensor([[-50.0, -50.0], [50.0, 50.0]])
    tril = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    mixture = Mixture(
        dist.Categorical(logits=torch.zeros(2)), dist.MultivariateNormal(loc, scale_tril=tril.expand(2, 2, 2))
    )
    y = mixture.sample((5000,))
    assert y.shape == (5000, 2)
    assert (y[:, 0].sign() == y[:, 1].sign()).all()
    residual = y - 50 * y.sign()
    correlation = torch.corrcoef(residual.T)[0, 1]
    assert abs(correlation - 0.8) < 4 * (1 - 0.8**2) / math.sqrt(5000)


def test_responsibilities_are_bayes_rule():
    mixture = random_mixture(5)
    y = torch.linspace(-5, 5, 5, dtype=torch.double)
    joint = (mixture.log_weights + mixture.component_distribution.log_prob(y[:, None])).exp()
    torch.testing.assert_close(mixture.responsibilities(y), joint / joint.sum(-1, keepdim=True))
    torch.testing.assert_close(mixture.responsibilities(y).sum(-1), torch.ones(5).double())


@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
@pytest.mark.parametrize("family", ["Normal", "StudentT", "Laplace"])
def test_temperature_sharpens_weights_and_scales(family, temperature):
    loc = torch.tensor([-1.0, 0.5, 2.0], dtype=torch.double)
    scale = torch.tensor([0.3, 1.0, 2.0], dtype=torch.double)
    logits = torch.tensor([0.5, -1.0, 0.2], dtype=torch.double)
    mixture = Mixture(dist.Categorical(logits=logits), component_families(loc, scale)[family][0])
    tempered = mixture.tempered(temperature)
    weights = logits.softmax(-1) ** (1 / temperature)
    torch.testing.assert_close(tempered.log_weights.exp(), weights / weights.sum())
    torch.testing.assert_close(tempered.component_distribution.loc, loc)
    torch.testing.assert_close(tempered.component_distribution.scale, scale * math.sqrt(temperature))


def test_a_temperature_of_0_raises():
    with pytest.raises(ValueError, match="expected temperature to be a finite number above 0, got 0"):
        random_mixture().tempered(0)


def test_affine_is_the_change_of_variables():
    mixture, y = random_mixture(3), torch.linspace(-2, 2, 3, dtype=torch.double)
    moved = mixture.affine(10.0, 4.0)
    assert type(moved) is Mixture
    torch.testing.assert_close(moved.log_prob(10 + 4 * y), mixture.log_prob(y) - math.log(4))
    torch.testing.assert_close(moved.icdf(0.3), 10 + 4 * mixture.icdf(0.3))


def test_expand_to_event_and_mask():
    mixture, y = random_mixture(3), torch.linspace(-2, 2, 3, dtype=torch.double)
    wide = mixture.expand([4, 3])
    assert isinstance(wide, Mixture)
    torch.testing.assert_close(wide.log_prob(y), mixture.log_prob(y).expand(4, 3))
    torch.testing.assert_close(wide.mean, mixture.mean.expand(4, 3))
    torch.testing.assert_close(wide.icdf(0.2), mixture.icdf(0.2).expand(4, 3))
    assert wide.sample((2,)).shape == (2, 4, 3)
    torch.testing.assert_close(mixture.to_event(1).log_prob(y), mixture.log_prob(y).sum())
    mask = torch.tensor([True, False, True])
    torch.testing.assert_close(mixture.mask(mask).log_prob(y), torch.where(mask, mixture.log_prob(y), 0.0))


@pytest.mark.parametrize("index", [0, -1, slice(1, 3), [2, 0], torch.tensor([True, False, True, True])], ids=str)
def test_indexing_is_that_of_the_batch(index):
    mixture = random_mixture(4, 2)
    part = mixture[index]
    torch.testing.assert_close(part.mean, mixture.mean[index])
    torch.testing.assert_close(part.variance, mixture.variance[index])


def test_a_single_mixture_cannot_be_indexed():
    with pytest.raises(ValueError, match="expected a mixture with a batch shape to index"):
        random_mixture()[0]


def test_works_after_its_parts_were_read():
    """Access to probs caches them beside logits; the mixture must still be split."""
    mixture = random_mixture(4)
    mixture.mixture_distribution.probs  # noqa: B018
    torch.testing.assert_close(mixture[1:].mean, mixture.mean[1:])
    assert mixture.to(torch.float32).mean.dtype == torch.float32


def test_in_a_pyro_model_with_a_plate():
    mixture, y = random_mixture(3), torch.linspace(-2, 2, 3, dtype=torch.double)

    def model(y=None):
        with pyro.plate("obs", 3):
            return pyro.sample("y", mixture, obs=y)

    trace = pyro.poutine.trace(model).get_trace(y)
    torch.testing.assert_close(trace.log_prob_sum(), mixture.log_prob(y).sum())
    assert model().shape == (3,)


@pytest.mark.parametrize("what", ["mean", "variance", "log_weights", "within_component", "between_component"])
def test_float64_is_kept(what):
    assert getattr(random_mixture(3), what).dtype == torch.double


def test_shapes_that_do_not_broadcast_raise():
    with pytest.raises(ValueError, match=r"expected logits, loc and scale to broadcast .* got \(3,\), \(2,\) and"):
        Mixture.normal(torch.zeros(3), torch.zeros(2), torch.ones(()))


def test_normal_broadcasts():
    mixture = Mixture.normal(torch.zeros(2), torch.zeros(5, 1), torch.tensor(2.0))
    assert mixture.batch_shape == (5,)
    assert mixture.num_components == 2


def test_an_index_is_one_into_the_batch_and_never_into_components():
    mixture = Mixture.normal(torch.zeros(3, 4, 2), torch.arange(24.0).reshape(3, 4, 2), torch.tensor(1.0))
    for index in (1, (1, 2), (..., 1), (slice(None), -1), (slice(1, 3), ...), torch.tensor([2, 0]), (None, 1)):
        found = mixture[index]
        assert found.num_components == 2
        torch.testing.assert_close(found.mean, mixture.mean[index])
    torch.testing.assert_close(mixture[mixture.mean > 7].mean, mixture.mean[mixture.mean > 7])
    with pytest.raises(IndexError, match=r"expected an index into a batch of shape \(3, 4\)"):
        mixture[:, 0, 0]


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"expected logits of shape \(..., K\), K of 1 or more, got \(3, 0\)"):
        Mixture.normal(torch.zeros(3, 0), torch.zeros(3, 0), torch.ones(3, 0))
    with pytest.raises(ValueError, match=r"expected logits to broadcast to \(5, 3\), got \(7, 3\)"):
        Mixture.multivariate_normal(torch.zeros(7, 3), torch.zeros(5, 3, 2), torch.ones(5, 3, 2))
    many = mixture_head(10)(torch.zeros(30_000, 30))
    for scale in (-1.0, 0.0, math.nan):
        with pytest.raises(ValueError, match="expected scale to be a finite number above 0"):
            many.affine(0.0, scale)
    with pytest.raises(ValueError, match="expected loc to be a finite number, got nan"):
        many.affine(math.nan, 1.0)
    for count in (2.5, True, 0):
        with pytest.raises(ValueError, match="expected components to be a whole number of 1 or more"):
            mixture_head(count)
        with pytest.raises(ValueError, match="expected components to be a whole number of 1 or more"):
            multivariate_mixture_head(count, 2)
    with pytest.raises(ValueError, match=r"expected targets to be a whole number of 1 or more, got 2\.0"):
        multivariate_mixture_head(2, 2.0)


def test_pyros_batch_shapes_of_plain_tuples():
    """The error names the family without a quantile function, instead of an AttributeError about its shape."""
    counts = dist.ZeroInflatedPoisson(torch.ones(3, 2), gate=torch.full((3, 2), 0.3))
    mixture = Mixture(dist.Categorical(torch.ones(3, 2)), counts)
    assert isinstance(mixture.batch_shape, torch.Size)
    torch.testing.assert_close(mixture.log_prob(torch.zeros(3)), counts.log_prob(torch.zeros(3, 2))[:, 0])
    for ask in (mixture.modes, lambda: mixture.hdr(0.9), lambda: mixture.icdf(0.5)):
        with pytest.raises(ValueError, match="expected a family with a quantile function, got ZeroInflatedPoisson"):
            ask()


ERRORS = 5  # standard errors


def takes_variances(loc, scale, draws):
    return loc + scale.sqrt() * torch.randn(draws, *loc.shape, dtype=loc.dtype)


def spread_is(y, scale):
    """Whether samples (N, ...) have these standard deviations; that of N normals is known to scale / sqrt(2 N)."""
    error = ERRORS * scale / math.sqrt(2 * len(y))
    return bool(((y.std(0) - scale).abs() < error).all())


@pytest.mark.parametrize("width", [1e-3, 0.3, 40.0])
def test_samples_spread_by_the_scale_and_not_by_its_root(width):
    """Also for a batch, several targets and with a gradient; a scale of 1 would hide the error."""
    draws, scale = 20_000, width * torch.tensor([1.0, 2.0], dtype=torch.double)
    one = Mixture.normal(torch.zeros(2, 1), torch.zeros(2, 1), scale[:, None])
    several = Mixture.multivariate_normal(torch.zeros(1), torch.zeros(1, 2).double(), scale[None])
    full = Mixture.multivariate_normal(torch.zeros(1), torch.zeros(1, 2).double(), torch.diag(scale)[None])
    for mixture in (one, several, full):
        assert spread_is(mixture.sample((draws,)), scale)
        assert spread_is(mixture.rsample((draws,)), scale)
    assert not spread_is(takes_variances(torch.zeros(2).double(), scale, draws), scale)


def without_the_constant(loc, scale, y):
    return -0.5 * (((y - loc) / scale) ** 2).sum(-1) - scale.log().sum(-1)


@pytest.mark.parametrize("targets", [1, 2, 3, 7])
def test_the_density_has_its_d_halves_of_log_two_pi(targets):
    """Against SciPy; a density without the constant is off by D/2 log(2 pi), and its integral is not 1."""
    loc, log_scale = torch.randn(2, 2, targets, dtype=torch.double)
    scale, y, logits = log_scale.exp(), torch.randn(targets).double(), torch.randn(2).double()
    weights = logits.softmax(0)
    parts = [stats.norm(loc[k], scale[k]).logpdf(y).sum() for k in range(2)]
    expected = special.logsumexp(parts, b=weights)
    found = Mixture.multivariate_normal(logits, loc, scale).log_prob(y)
    assert float(found) == pytest.approx(expected, rel=1e-12)
    if targets == 1:
        one = Mixture.normal(logits, loc[:, 0], scale[:, 0])
        assert float(one.log_prob(y[0])) == pytest.approx(expected, rel=1e-12)
    buggy = torch.logsumexp(weights.log() + without_the_constant(loc, scale, y), 0)
    assert float(buggy) != pytest.approx(expected, rel=1e-3)
    assert float(buggy) - expected == pytest.approx(targets / 2 * math.log(2 * math.pi))


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0])
@pytest.mark.parametrize("covariance", ["full", "low_rank"])
def test_no_jitter_is_in_one_half_of_the_density_alone(covariance, scale):
    """Against SciPy, for standard deviations down to the root of a usual jitter and correlations of 0.99."""
    targets, jitter = 3, 1e-6
    generator = torch.Generator().manual_seed(3)
    factor = scale * torch.randn(2, targets, 1, generator=generator, dtype=torch.double)
    diagonal = (0.2 * scale) ** 2 * (1 + torch.rand(2, targets, generator=generator, dtype=torch.double))
    loc = torch.zeros(2, targets, dtype=torch.double)
    sigma = factor @ factor.mT + torch.diag_embed(diagonal)
    weights = torch.tensor([0.3, 0.7], dtype=torch.double)
    if covariance == "full":
        mixture = Mixture.multivariate_normal(weights.log(), loc, torch.linalg.cholesky(sigma))
    else:
        components = dist.LowRankMultivariateNormal(loc, factor, diagonal)
        mixture = Mixture(dist.Categorical(logits=weights.log()), components)
    y = (torch.linalg.cholesky(sigma[0]) @ torch.tensor([1.0, -1.5, 0.5]).double()).requires_grad_()
    at = y.detach().numpy()
    expected = special.logsumexp([stats.multivariate_normal(np.zeros(3), s).logpdf(at) for s in sigma], b=weights)
    assert float(mixture.log_prob(y.detach())) == pytest.approx(expected, rel=1e-7)

    def jittered(s):
        quadratic = y.detach() @ torch.linalg.solve(s + jitter * torch.eye(targets), y.detach())
        return float(-0.5 * quadratic - 0.5 * torch.linalg.slogdet(s)[1] - targets / 2 * math.log(2 * math.pi))

    buggy = special.logsumexp([jittered(s) for s in sigma], b=weights)
    assert buggy != pytest.approx(expected, rel=1e-7)


def centre_of_a_drawn_component(mixture):
    chosen = torch.distributions.Categorical(logits=mixture.log_weights).sample()
    return mixture.component_distribution.mean.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)


def is_the_mean(predict, mixture, draws=40_000):
    """Whether predictions are equal at each call, and within standard errors of the mean of samples."""
    y = mixture.sample((draws,))
    error = ERRORS * y.std(0) / math.sqrt(draws)
    first = predict(mixture)
    return bool((first == predict(mixture)).all()) and bool(((first - y.mean(0)).abs() < error).all())


def test_a_prediction_is_the_mean_of_the_mixture():
    mixture = mixture_head(3)(torch.randn(20, 9, dtype=torch.double))
    assert is_the_mean(lambda m: m.mean, mixture)
    assert not is_the_mean(centre_of_a_drawn_component, mixture)
    # No other point has a smaller mean squared error: that of the mean is the variance.
    y = mixture.sample((40_000,))
    squares = (y - mixture.mean) ** 2
    assert bool(((squares.mean(0) - mixture.variance).abs() < ERRORS * squares.std(0) / 200).all())
    assert bool((((y - centre_of_a_drawn_component(mixture)) ** 2).mean(0).sum() > squares.mean(0).sum()).all())


@kinds
def test_tempered_and_affine_hold_for_several_targets(kind):
    mixture = several(kind, 2)
    tempered = mixture.tempered(0.25)
    torch.testing.assert_close(tempered.component_distribution.mean, mixture.component_distribution.mean)
    torch.testing.assert_close(tempered.component_distribution.variance, 0.25 * mixture.component_distribution.variance)
    moved = mixture.affine(torch.arange(4.0).double(), torch.tensor([1.0, 2.0, 0.5, 3.0]).double())
    rows = torch.tensor([1.0, 2.0, 0.5, 3.0]).double()
    torch.testing.assert_close(moved.covariance_matrix, rows[:, None] * mixture.covariance_matrix * rows)


def test_entropy_is_that_of_a_normal_within_its_own_error():
    mixture = Mixture.normal(torch.zeros(4, 1), torch.zeros(4, 1), torch.tensor([[0.1], [1.0], [5.0], [1e4]]))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        value, error = mixture.sampled_entropy(20_000)
    exact = 0.5 * math.log(2 * math.pi * math.e) + torch.tensor([0.1, 1.0, 5.0, 1e4]).log()
    assert bool(((value - exact).abs() < 5 * error).all())
    # The log density of a normal has a standard deviation of sqrt(1/2).
    torch.testing.assert_close(error, torch.full((4,), math.sqrt(0.5 / 20_000)), rtol=0.05, atol=0)
    with pytest.raises(ValueError, match="expected draws to be a whole number of 2 or more, got 1"):
        mixture.entropy(1)


@kinds
def test_expanding_keeps_the_kind_and_the_numbers(kind):
    mixture = several(kind, 2)
    wide = mixture.expand(torch.Size([5, 3, 2]))
    assert isinstance(wide, Mixture)
    assert wide.batch_shape == (5, 3, 2)
    torch.testing.assert_close(wide.mean, mixture.mean.expand(5, 3, 2, 4))
    y = mixture.mean
    torch.testing.assert_close(wide.log_prob(y), mixture.log_prob(y).expand(5, 3, 2))
