"""Bugs of public code for mixture density networks: each as a formula, and a check that it fails and `Mixture` passes.

A check that the bug would pass shows nothing, so every test here makes both statements. Statistical tolerances are 5
standard errors, from the seed that every test starts with.
"""

import itertools
import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import special, stats

from posterity.data import Standardization
from posterity.inference import Ensemble, infer
from posterity.models import Mixture, mixture_density, mixture_head, mixture_priors, multivariate_mixture_head
from posterity.models.mixtures import fused

ERRORS = 5  # standard errors


# A standard deviation taken for a variance


def takes_variances(loc, scale, draws):
    return loc + scale.sqrt() * torch.randn(draws, *loc.shape, dtype=loc.dtype)


def spread_is(y, scale):
    """Whether samples (N, ...) have these standard deviations; that of N normals is known to scale / sqrt(2 N)."""
    error = ERRORS * scale / math.sqrt(2 * len(y))
    return bool(((y.std(0) - scale).abs() < error).all())


@pytest.mark.parametrize("width", [1e-3, 0.3, 40.0])
def test_samples_spread_by_the_scale_and_not_by_its_root(width):
    """Also of a batch, of several targets and with a gradient; a scale of 1 would not show it."""
    draws, scale = 20_000, width * torch.tensor([1.0, 2.0], dtype=torch.double)
    one = Mixture.normal(torch.zeros(2, 1), torch.zeros(2, 1), scale[:, None])
    several = Mixture.multivariate_normal(torch.zeros(1), torch.zeros(1, 2).double(), scale[None])
    full = Mixture.multivariate_normal(torch.zeros(1), torch.zeros(1, 2).double(), torch.diag(scale)[None])
    for mixture in (one, several, full):
        assert spread_is(mixture.sample((draws,)), scale)
        assert spread_is(mixture.rsample((draws,)), scale)
    assert not spread_is(takes_variances(torch.zeros(2).double(), scale, draws), scale)


# A sampler that returns an index which is none, or a component of no weight


def adds_up_until_reached(weights, uniform):
    """keras-mdn-layer: the first index whose running sum reaches the uniform number, or -1."""
    reached = (np.cumsum(weights.numpy(), dtype=np.float32) >= uniform).nonzero()[0]
    return int(reached[0]) if len(reached) else -1


def searches_the_sum(weights, uniform):
    """The place of the uniform number in the running sum: K, where that falls short of it."""
    return int(torch.searchsorted(weights.cumsum(0), torch.tensor(uniform)))


def takes_the_first_above(weights, uniform):
    """The first running sum above the number by argmax, which is 0 where there is none."""
    return int((weights.cumsum(0) > uniform).to(torch.uint8).argmax())


def is_a_component(index, weights):
    return 0 <= index < len(weights) and bool(weights[index] > 0)


JUST_BELOW_1 = 1 - 2.0**-24  # the largest float32 below 1; torch.rand can return it
WEIGHTS = {
    "first_has_none": torch.tensor([0.0, 0.5, 0.5]),
    "last_has_none": torch.tensor([0.5, 0.5, 0.0]),
    "middle_has_none": torch.tensor([0.5, 0.0, 0.5]),
    "only_one": torch.tensor([0.0, 1.0, 0.0]),
    "tiny": torch.tensor([1e-30, 1.0, 1e-30]),
    "tiny_first_none": torch.tensor([0.0, 1e-30, 1.0]),
    "falls_short": torch.cat([torch.zeros(1), torch.full((99,), 1 / 99), torch.zeros(1)]),
    "falls_short_of_100": torch.full((100,), 0.01),
}
UNIFORMS = (0.0, 1e-30, 0.25, 0.5, 0.75, JUST_BELOW_1)


def float32_sum(weights):
    return float(np.cumsum(weights.numpy(), dtype=np.float32)[-1])


@pytest.mark.parametrize("uniform", UNIFORMS)
@pytest.mark.parametrize("name", WEIGHTS)
def test_every_uniform_number_picks_a_component_that_has_weight(name, uniform):
    weights = WEIGHTS[name]
    index = fused.pick(weights.log(), torch.tensor(uniform))
    assert is_a_component(int(index), weights)
    rows = fused.pick(weights.log().expand(5, -1), torch.full((5,), uniform))
    assert rows.tolist() == [int(index)] * 5
    logits = Mixture.normal(weights.log(), torch.zeros(()), torch.ones(())).log_weights
    assert is_a_component(int(fused.pick(logits, torch.tensor(uniform))), weights)


def test_the_check_of_a_component_rejects_public_samplers():
    short = WEIGHTS["falls_short_of_100"]
    assert float32_sum(short) < JUST_BELOW_1
    assert adds_up_until_reached(short, JUST_BELOW_1) == -1
    assert not is_a_component(-1, short)
    assert searches_the_sum(torch.tensor([0.5, 0.4999]), JUST_BELOW_1) == 2
    assert not is_a_component(2, torch.tensor([0.5, 0.4999]))
    none_first = torch.tensor([0.0, 0.5, 0.4999])
    assert takes_the_first_above(none_first, JUST_BELOW_1) == 0
    for buggy in (adds_up_until_reached, searches_the_sum):
        assert not is_a_component(buggy(WEIGHTS["first_has_none"], 0.0), WEIGHTS["first_has_none"])
    assert not is_a_component(takes_the_first_above(none_first, JUST_BELOW_1), none_first)


@pytest.mark.parametrize("uniform", UNIFORMS)
@pytest.mark.parametrize("name", WEIGHTS)
def test_samples_come_from_a_component_that_has_weight(name, uniform, monkeypatch):
    """The whole way, with this number in place of every uniform one: centres 1000 apart tell the component."""
    weights = WEIGHTS[name]
    mixture = Mixture.normal(weights.log(), 1000.0 * torch.arange(len(weights)), torch.ones(()))
    monkeypatch.setattr(torch, "rand", lambda shape, **options: torch.full(shape, uniform, **options))
    y = mixture.sample((50,))
    index = (y / 1000).round().long()
    assert len(index.unique()) == 1
    assert is_a_component(int(index[0]), weights)
    assert bool(((y - 1000 * index).abs() < 6).all())


# Features that are taken for other components' or other targets'


def by_hand(features, components, targets, covariance, floor, start):
    """Centres (K, D) and covariances (K, D, D), one number at a time, from features as the docstring orders them."""
    couplings = {"diagonal": 0, "full": targets * (targets - 1) // 2, "low_rank": 2 * targets}[covariance]
    each = 1 + 2 * targets + couplings
    logits, centres, covariances = [], [], []
    for k in range(components):
        own = [features[k * each + j] + start[k * each + j] for j in range(each)]
        logits.append(own[0])
        centres.append(own[1 : 1 + targets])
        scale = [math.sqrt(floor**2 + math.exp(2 * s)) for s in own[1 + targets : 1 + 2 * targets]]
        rest = iter(own[1 + 2 * targets :])
        if covariance == "low_rank":
            factor = np.array([[next(rest) * scale[d] for _ in range(2)] for d in range(targets)])
            covariances.append(factor @ factor.T + np.diag(np.square(scale)))
            continue
        tril = np.diag(scale)
        if covariance == "full":
            for row in range(targets):
                for column in range(row):
                    tril[row, column] = next(rest) * scale[row]
        covariances.append(tril @ tril.T)
    return special.softmax(logits), np.array(centres), np.array(covariances)


def density(weights, centres, covariances, y):
    parts = [stats.multivariate_normal(m, c).pdf(y) for m, c in zip(centres, covariances, strict=True)]
    return float(np.log(np.dot(weights, parts)))


def repeated_the_wrong_way(centres, scales):
    """The "isotropic" bug: one scale a component, repeated as (D, K) and read as (K, D)."""
    count, targets = centres.shape
    return np.tile(scales, targets).reshape(count, targets)


@pytest.mark.parametrize("covariance", ["diagonal", "full", "low_rank"])
@pytest.mark.parametrize(("components", "targets"), [(1, 3), (3, 2), (2, 3), (4, 4)])
def test_every_feature_reaches_its_component_and_target(covariance, components, targets):
    """The density from features by loops over plain numbers; features read as the transposed block give another."""
    head = multivariate_mixture_head(components, targets, covariance=covariance, rank=2, floor=0.05)
    features = 0.7 * torch.randn(head.features, dtype=torch.double)
    start = np.concatenate([row.numpy() for row in head._offsets])
    y = torch.randn(targets, dtype=torch.double)
    mixture = head(features)
    expected = by_hand(features.tolist(), components, targets, covariance, 0.05, start)
    np.testing.assert_allclose(mixture.component_distribution.mean, expected[1], rtol=1e-12)
    np.testing.assert_allclose(mixture.log_weights.exp(), expected[0], rtol=1e-12)
    assert float(mixture.log_prob(y)) == pytest.approx(density(*expected, y.numpy()), rel=1e-10)
    turned = features.reshape(components, -1).T.flatten().tolist()
    wrong = by_hand(turned, components, targets, covariance, 0.05, start)
    assert components == 1 or float(mixture.log_prob(y)) != pytest.approx(density(*wrong, y.numpy()), rel=1e-3)


def test_a_batch_of_heads_is_each_head_alone():
    """Rows are not scrambled with components either, whatever the rank of the batch."""
    for head in (mixture_head(3, floor=0.1), multivariate_mixture_head(3, 2, floor=0.1)):
        features = torch.randn(2, 4, head.features, dtype=torch.double)
        together = head(features)
        y = torch.randn(2, 4, *together.event_shape, dtype=torch.double)
        for i, j in itertools.product(range(2), range(4)):
            torch.testing.assert_close(together.log_prob(y)[i, j], head(features[i, j]).log_prob(y[i, j]))


def test_one_scale_for_all_targets_of_a_component_stays_with_it():
    """Isotropic components as people write them: log-scales repeated D times into the features of a head."""
    components, targets = 3, 2
    head = multivariate_mixture_head(components, targets, covariance="diagonal", floor=1e-3)
    each = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.double)
    features = torch.zeros(components, 1 + 2 * targets, dtype=torch.double)
    features[:, 1 + targets :] = each[:, None]  # the offsets are the same for all components and targets
    scales = head(features.flatten()).component_distribution.base_dist.scale
    assert bool((scales == scales[:, :1]).all())
    torch.testing.assert_close(scales[:, 0] / scales[1, 0], each.exp(), rtol=1e-4, atol=0)
    wrong = repeated_the_wrong_way(np.zeros((components, targets)), each.exp().numpy())
    assert not (wrong == wrong[:, :1]).all()


# A floor that is none


def has_a_floor(scale_of, floor):
    """Whether no log-scale gives less than the floor, and small ones come close to it."""
    s = torch.linspace(-200, 0, 401, dtype=torch.double)
    scale = scale_of(s)
    return bool((scale >= floor * (1 - 1e-12)).all()) and bool(scale[0] < 1.01 * floor)


@pytest.mark.parametrize("family", ["normal", "laplace", "student_t", "log_normal"])
def test_the_floor_holds_for_every_family(family):
    def of_the_head(s):
        features = torch.zeros(len(s), 3, dtype=torch.double)
        features[:, 2] = s
        component = mixture_head(1, floor=0.03, family=family)(features).component_distribution
        return getattr(component, "scale")[:, 0]  # noqa: B009 - families differ

    assert has_a_floor(of_the_head, 0.03)
    assert not has_a_floor(lambda s: torch.exp(s + 1e-6), 0.03)
    assert not has_a_floor(lambda s: torch.exp(s + 0.03), 0.03)


@pytest.mark.parametrize("covariance", ["diagonal", "full", "low_rank"])
def test_no_target_is_known_better_than_the_floor_given_those_before_it(covariance):
    """From the covariance alone, by its Cholesky factor, with random couplings and log-scales down to -40."""
    head = multivariate_mixture_head(1, 3, covariance=covariance, rank=1, floor=0.05)
    features = torch.randn(300, head.features, dtype=torch.double)
    features[:, 4:7] = -40 * torch.rand(300, 3, dtype=torch.double)
    given_before = torch.linalg.cholesky(head(features).covariance_matrix).diagonal(dim1=-2, dim2=-1)
    assert bool((given_before >= 0.05 * (1 - 1e-9)).all())
    assert not bool((torch.exp(features[:, 4:7] + 0.05) >= 0.05 * (1 - 1e-9)).all())


# A density that is not normalised


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


# A prediction from one component, drawn


def centre_of_a_drawn_component(mixture):
    chosen = torch.distributions.Categorical(logits=mixture.log_weights).sample()
    return mixture.component_distribution.mean.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)


def is_the_mean(predict, mixture, draws=40_000):
    """The same at every call, and the mean of samples within standard errors, in every row."""
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


# Components that close in on single points


def few_points(rows, seed):
    generator = torch.Generator().manual_seed(seed)
    x = 2 * torch.rand(rows, 1, generator=generator) - 1
    return x, torch.sin(2 * x[:, 0]) + 0.3 * torch.randn(rows, generator=generator)


def trained_on_12(resolution, *priors):
    """Scales of every member and component at the training rows, scores there and on rows that were not trained on."""
    x, y = few_points(12, seed=0)
    scale = Standardization(x.mean(0), x.std(0), y.mean(), y.std())
    pair = mixture_density(scale, components=3, hidden=(16,), resolution=resolution, mixture_priors=priors)
    method = Ensemble(members=2, steps=800, learning_rate=0.02, progress=False)
    posterior = infer(pair, x, y, method=method, seed=0)
    found, (x_new, y_new) = posterior.predictive(x), few_points(400, seed=1)
    members = posterior.predictive(x_new).per_draw
    return {
        "narrowest": float(members.component_distribution.scale.min()),
        "train": float(found.log_prob(y).mean()),
        "worst": float(members.log_prob(y_new[:, None]).mean(0).min()),  # the mean score of the worst member
    }


NOISE = -0.5 * math.log(2 * math.pi * math.e * 0.09)  # the best mean score there is, -0.2
TOLERATED = -15.0  # nats a row for the worst member, against hundreds where components have collapsed


def has_not_collapsed(found):
    return found["train"] - NOISE < 2.0 and found["worst"] > TOLERATED


def test_without_a_floor_components_collapse_on_few_points():
    """What the two tests below guard against does happen here: scales far below the noise of 0.3."""
    found = trained_on_12(1e-8)
    assert found["narrowest"] < 1e-2
    assert not has_not_collapsed(found)


def test_a_resolution_keeps_components_from_collapsing():
    """No scale is below it, so that no row scores more than the peak of a normal that wide."""
    found = trained_on_12(0.1)
    assert found["narrowest"] >= 0.1 * (1 - 1e-5)
    assert found["train"] <= -math.log(0.1 * math.sqrt(2 * math.pi))
    assert has_not_collapsed(found)


@pytest.mark.parametrize("strength", [1.0, 12.0])
def test_a_prior_over_scales_keeps_components_from_collapsing(strength):
    """Without a floor to speak of. One that counts as much as the 12 rows is nearer to the best score there is."""
    found = trained_on_12(1e-8, mixture_priors.WideScales(scale=0.3, strength=strength))
    assert found["narrowest"] > 0.05
    assert has_not_collapsed(found)
    assert strength == 1.0 or NOISE - found["worst"] < 1.5


def test_classes_without_an_order_have_no_mean():
    """torch gives nan, which would spread in silence; the log_prob of each class is there."""
    classes = Mixture(
        dist.Categorical(torch.ones(4, 2)), dist.Categorical(torch.tensor([0.2, 0.3, 0.5]).expand(4, 2, 3))
    )
    for name in ("mean", "variance", "stddev", "within_component", "between_component"):
        with pytest.raises(ValueError, match=r"expected components with a (mean|variance), got Categorical"):
            getattr(classes, name)
    torch.testing.assert_close(classes.log_prob(torch.tensor(2)).exp(), torch.full((4,), 0.5))
