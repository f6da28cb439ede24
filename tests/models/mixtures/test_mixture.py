import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from posterity.models import Mixture, MixtureHead, mixture_head, tails
from posterity.models.parameters import map_parameters

KS_FAILURE_RATE = 1e-3


def random_mixture(*batch, components=4, seed=0, dtype=torch.double):
    generator = torch.Generator().manual_seed(seed)
    logits, loc, log_scale = torch.randn(3, *batch, components, generator=generator, dtype=dtype)
    return Mixture.normal(logits, 3 * loc, log_scale.exp())


def component_families(loc, scale):
    return {
        "Normal": (dist.Normal(loc, scale), lambda i: stats.norm(loc[i].item(), scale[i].item())),
        "StudentT": (dist.StudentT(3.5, loc, scale), lambda i: stats.t(3.5, loc[i].item(), scale[i].item())),
        "Laplace": (dist.Laplace(loc, scale), lambda i: stats.laplace(loc[i].item(), scale[i].item())),
    }


def scipy_sum(weights, parts, function, value):
    return sum(w * getattr(part, function)(value) for w, part in zip(weights, parts, strict=True))


mixtures = st.integers(1, 6).flatmap(
    lambda k: st.tuples(
        st.lists(st.floats(-5, 5), min_size=k, max_size=k),
        st.lists(st.floats(-50, 50), min_size=k, max_size=k),
        st.lists(st.floats(-4, 4), min_size=k, max_size=k),
    )
).map(lambda t: Mixture.normal(*(torch.tensor(v, dtype=torch.double).exp() if i == 2 else
                                 torch.tensor(v, dtype=torch.double) for i, v in enumerate(t))))  # fmt: skip


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


def test_moments_with_an_event_dimension_are_torchs():
    weights, loc = torch.randn(5, 3), torch.randn(5, 3, 2)
    parts = dist.Normal(loc, loc.exp()).to_event(1)
    mixture = Mixture(dist.Categorical(logits=weights), parts)
    reference = dist.MixtureSameFamily(dist.Categorical(logits=weights), parts)
    torch.testing.assert_close(mixture.mean, reference.mean)
    torch.testing.assert_close(mixture.variance, reference.variance)
    y = torch.randn(5, 2)
    r = mixture.responsibilities(y)
    by_hand = torch.softmax(torch.log_softmax(weights, -1) + parts.log_prob(y[:, None]), -1)
    torch.testing.assert_close(r, by_hand)
    with pytest.raises(ValueError, match=r"expected one target dimension for icdf, got event shape \(2,\)"):
        mixture.icdf(0.5)


@given(mixtures)
def test_variance_splits_within_and_between(mixture):
    """Against E[Y²] - E[Y]² by hand: the two parts are each non-negative and sum to the whole."""
    weights = mixture.log_weights.exp()
    loc, scale = mixture.component_distribution.loc, mixture.component_distribution.scale
    mean = (weights * loc).sum()
    whole = (weights * (scale**2 + (loc - mean) ** 2)).sum()
    assert mixture.within_component >= 0 <= mixture.between_component
    torch.testing.assert_close(mixture.within_component + mixture.between_component, whole)
    torch.testing.assert_close(mixture.within_component, (weights * scale**2).sum())


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


@pytest.mark.parametrize("family", ["Normal", "StudentT", "Laplace"])
@pytest.mark.parametrize("probability", [1e-100, 1e-20, 1e-9, 0.3, 0.5, 0.7, 1 - 1e-9])
def test_quantile_of_one_component_is_scipys(family, probability):
    components, scipy_part = component_families(torch.tensor([3.0]).double(), torch.tensor([2.0]).double())[family]
    mixture = Mixture(dist.Categorical(logits=torch.zeros(1, dtype=torch.double)), components)
    # An upper quantile is told by 1 - p, which float64 keeps to 1e-16 alone.
    tolerance = 1e-9 if probability < 0.9 else 1e-7
    np.testing.assert_allclose(mixture.icdf(probability), scipy_part(0).ppf(probability), rtol=tolerance)


@pytest.mark.parametrize("family", ["Normal", "StudentT", "Laplace"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_quantile_inverts_the_distribution_function(family, data):
    """cdf(icdf(p)) is p to 1e-9 of the smaller tail, for scales over twelve orders of magnitude."""
    k = data.draw(st.integers(1, 5))
    floats = lambda low, high: data.draw(st.lists(st.floats(low, high), min_size=k, max_size=k))  # noqa: E731
    loc = torch.tensor(floats(-10, 10), dtype=torch.double)
    scale = 10 ** torch.tensor(floats(-6, 6), dtype=torch.double)
    logits = torch.tensor(floats(-5, 5), dtype=torch.double)
    p = torch.tensor(data.draw(st.floats(1e-12, 1 - 1e-12)), dtype=torch.double)
    mixture = Mixture(dist.Categorical(logits=logits), component_families(loc, scale)[family][0])
    y = mixture.icdf(p)
    tail, wanted = (mixture.sf(y), 1 - p) if p > 0.5 else (mixture.cdf(y), p)
    # y itself is rounded: 2 ulp of it move the cdf by this much.
    rounding = 8 * np.spacing(y.abs().item()) * mixture.log_prob(y).exp().item()
    assert abs(tail - wanted) <= 1e-9 * wanted + rounding


@settings(max_examples=60, deadline=None)
@given(mixtures, st.floats(-40, 40))
def test_value_comes_back_from_its_probability(mixture, value):
    y = torch.tensor(value, dtype=torch.double)
    lower, upper = mixture.cdf(y), mixture.sf(y)
    density = mixture.log_prob(y).exp()
    # Where the density is nearly zero between components, a probability does not tell y.
    assume(min(lower, upper) > 1e-12 and density > 1e-4 * min(lower, upper))
    p = lower
    conditioning = np.spacing(1.0) * max(p.item(), 1e-3) / density.item()
    assert abs(mixture.icdf(p) - y) <= 1e-9 * (1 + abs(value)) + 50 * conditioning


@pytest.mark.parametrize("components", [1, 100])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_quantile_of_a_large_batch(components, scale):
    """Every entry of a batch is solved, not only the slowest one."""
    torch.manual_seed(components)
    loc, log_scale, logits = torch.randn(3, 200, components, dtype=torch.double)
    mixture = Mixture.normal(logits, scale * 3 * loc, scale * log_scale.exp())
    p = torch.rand(5, 200, dtype=torch.double)
    torch.testing.assert_close(mixture.cdf(mixture.icdf(p)), p, rtol=0, atol=1e-9)
    single = torch.stack([mixture[i].icdf(p[0, i]) for i in range(3)])
    torch.testing.assert_close(single, mixture.icdf(p)[0, :3], rtol=1e-12, atol=0)


def test_a_weight_of_1e_30_is_seen_in_its_own_tail():
    logits = torch.log(torch.tensor([1.0, 1e-30], dtype=torch.double))
    mixture = Mixture.normal(logits, torch.tensor([0.0, 100.0]).double(), torch.ones(2).double())
    # Beyond 40 the far component is all there is: sf = 1e-30 sf_2, so its median has sf 5e-31.
    np.testing.assert_allclose(mixture.sf(torch.tensor(100.0).double()), 5e-31, rtol=1e-9)
    np.testing.assert_allclose(mixture.icdf(0.5), 0.0, atol=1e-12)
    # The mirror image has the rare component in the lower tail, where a probability of 5e-31 can be told.
    mirrored = Mixture.normal(logits, torch.tensor([0.0, -100.0]).double(), torch.ones(2).double())
    np.testing.assert_allclose(mirrored.icdf(5e-31), -100.0, rtol=1e-9)


def test_a_component_of_no_weight_does_not_widen_anything():
    logits = torch.tensor([0.0, -math.inf], dtype=torch.double)
    mixture = Mixture.normal(logits, torch.tensor([1.0, 1e9]).double(), torch.tensor([2.0, 1e9]).double())
    np.testing.assert_allclose(mixture.icdf(0.975), 1 + 2 * stats.norm.ppf(0.975), rtol=1e-12)


def test_plateau_between_separated_components():
    """Half of the mass at -1000 and half at +1000: quantiles step across, the median is on the plateau."""
    mixture = Mixture.normal(torch.zeros(2).double(), torch.tensor([-1e3, 1e3]).double(), torch.ones(2).double())
    q = mixture.icdf(torch.tensor([0.25, 0.5 - 1e-9, 0.5, 0.5 + 1e-9, 0.75], dtype=torch.double))
    np.testing.assert_allclose(q[0], -1000, rtol=1e-12)
    np.testing.assert_allclose(q[1], -1000 + stats.norm.ppf(1 - 2e-9), rtol=1e-9)
    assert -1000 < q[2] < 1000
    assert mixture.cdf(q[2]) == 0.5
    np.testing.assert_allclose(q[3], 1000 + stats.norm.ppf(2e-9), rtol=1e-9)
    np.testing.assert_allclose(q[4], 1000, rtol=1e-12)


@pytest.mark.parametrize(
    ("family", "ends"),
    [
        (dist.Normal(torch.zeros(2), torch.ones(2)), (-math.inf, math.inf)),
        (dist.Laplace(torch.zeros(2), torch.ones(2)), (-math.inf, math.inf)),
        (dist.StudentT(3.0, torch.zeros(2), torch.ones(2)), (-math.inf, math.inf)),
        (dist.LogNormal(torch.zeros(2), torch.ones(2)), (0.0, math.inf)),
        (dist.Uniform(torch.tensor([-1.0, 0.0]), torch.tensor([1.0, 4.0])), (-1.0, 4.0)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_quantiles_at_0_and_1_are_the_ends_of_the_support(family, ends):
    mixture = Mixture(dist.Categorical(logits=torch.tensor([0.0, 1.0])), family)
    found = mixture.icdf(torch.tensor([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(found[[0, 2]], ends, rtol=1e-6, atol=1e-6)
    below = tails.cdf(map_parameters(family, torch.clone), found[1])
    assert (mixture.log_weights.exp() * below).sum() == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("probability", [-0.1, 1.1, math.nan])
def test_a_probability_outside_0_1_raises(probability):
    with pytest.raises(ValueError, match=r"expected probabilities to be a number in \[0, 1\], got"):
        random_mixture().icdf(probability)


def test_quantiles_broadcast_over_a_batch():
    mixture = random_mixture(6)
    levels = torch.tensor([0.1, 0.9], dtype=torch.double)
    both = mixture.icdf(levels[:, None])
    assert both.shape == (2, 6)
    torch.testing.assert_close(mixture.cdf(both), levels[:, None].expand(2, 6))


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
    with pytest.raises(ValueError, match="expected a mixture with a batch to index"):
        random_mixture()[0]


def test_works_after_its_parts_were_read():
    """Reading probs caches it beside logits; a mixture must still be taken apart."""
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
    with pytest.raises(ValueError, match=r"expected logits, loc and scale that broadcast .* got \(3,\), \(2,\) and"):
        Mixture.normal(torch.zeros(3), torch.zeros(2), torch.ones(()))


def test_normal_broadcasts():
    mixture = Mixture.normal(torch.zeros(2), torch.zeros(5, 1), torch.tensor(2.0))
    assert mixture.batch_shape == (5,)
    assert mixture.num_components == 2


# The head of a mixture density network


def test_the_floor_is_a_floor():
    """exp(s + 1e-6) is none. At features of -1000 the scale is the floor itself, and never less."""
    head = mixture_head(3, floor=0.02)
    features = torch.cat([torch.linspace(-1000, 5, 200)[:, None].expand(-1, 9), torch.full((1, 9), -1000.0)])
    scale = head(features).component_distribution.scale
    assert (scale >= 0.02 * (1 - 1e-6)).all()
    torch.testing.assert_close(scale[-1], torch.full((3,), 0.02))


def test_the_scale_is_the_root_of_floor_squared_plus_width_squared():
    head = mixture_head(4, floor=0.5)
    features = torch.randn(10, 12, dtype=torch.double)
    width = features[:, 8:].exp() / math.sqrt(4)
    torch.testing.assert_close(head(features).component_distribution.scale, (0.25 + width**2).sqrt())


@pytest.mark.parametrize("components", [1, 2, 3, 5, 10, 30])
def test_at_the_start_components_lie_apart_and_cover_a_unit_normal(components):
    mixture = mixture_head(components)(torch.zeros(3 * components, dtype=torch.double))
    loc = mixture.component_distribution.loc
    anchors = stats.norm.ppf((np.arange(components) + 0.5) / components)
    np.testing.assert_allclose(loc, anchors, atol=1e-12)
    assert (loc.diff() > 0).all()
    assert abs(mixture.mean) < 1e-9
    # Near enough to a standard normal that a start costs little: the Kullback-Leibler divergence, by quadrature.
    y = torch.linspace(-8, 8, 4001, dtype=torch.double)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(y)
    divergence = torch.trapezoid(normal.exp() * (normal - mixture.log_prob(y)), y)
    assert 0 <= divergence + 1e-12 < 0.2


@pytest.mark.parametrize("value", [-1000.0, -100.0, 0.0, 100.0])
def test_gradients_are_finite_at_extreme_features(value):
    features = torch.full((5, 9), value, requires_grad=True)
    (gradient,) = torch.autograd.grad(mixture_head(3)(features).log_prob(torch.zeros(5)).sum(), features)
    assert torch.isfinite(gradient).all()


def test_logits_locations_and_scales_are_not_scrambled():
    """Public code reshaped (K, D) as (D, K). Each block of features moves its own parameter of its own component."""
    head, k = mixture_head(3), 3
    base = torch.zeros(2, 4, 9, dtype=torch.double)
    start = head(base)
    for block, name in enumerate(("logits", "loc", "scale")):
        for component in range(k):
            moved = base.clone()
            moved[1, 2, block * k + component] = 0.7
            part = head(moved)
            parts = {
                "logits": (part.mixture_distribution.logits.exp(), start.mixture_distribution.logits.exp()),
                "loc": (part.component_distribution.loc, start.component_distribution.loc),
                "scale": (part.component_distribution.scale, start.component_distribution.scale),
            }
            for other, (after, before) in parts.items():
                changed = {tuple(i) for i in (after != before).nonzero().tolist()}
                rows = {(1, 2, j) for j in range(k)} if name == "logits" else {(1, 2, component)}
                assert changed == (rows if other == name else set())
    assert start.batch_shape == (2, 4)


def test_repr_and_number_of_features():
    head = mixture_head(4, floor=0.1)
    assert head.features == 12
    assert repr(head) == "mixture_head(components=4, floor=0.1, spread=1.0)"
    assert isinstance(head, MixtureHead)


@pytest.mark.parametrize("shape", [(), (9,), (5, 3), (5, 7)])
def test_features_of_another_width_raise(shape):
    with pytest.raises(ValueError, match=r"expected features of shape \(\.\.\., 6\) for 2 components, got"):
        mixture_head(2)(torch.zeros(shape))


def test_bad_settings_of_the_head_raise():
    with pytest.raises(ValueError, match="expected components to be a whole number of 1 or more, got 0"):
        mixture_head(0)
    for floor in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="expected floor to be a finite number above 0"):
            mixture_head(2, floor=floor)
