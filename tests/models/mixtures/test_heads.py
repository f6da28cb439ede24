"""Heads of all families: their parameters, starting points and floors."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import nn

from posterity.models import (
    MixtureHead,
    mixture_head,
    multivariate_mixture_head,
)
from posterity.models.mixtures.heads import FAMILIES


def test_the_floor_is_a_floor():
    """Unlike exp(s + 1e-6). At features of -1000 the scale equals the floor."""
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
    # The Kullback-Leibler divergence from a standard normal, by quadrature, is small.
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


def by_hand(features, components, targets, covariance, floor, start):
    """Centres (K, D) and covariances (K, D, D), number by number, from features in the order of the docstring."""
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
    """The "isotropic" bug: one scale for each component, repeated as (D, K) and read as (K, D)."""
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
    """Rows and components are not mixed up, whatever the rank of the batch."""
    for head in (mixture_head(3, floor=0.1), multivariate_mixture_head(3, 2, floor=0.1)):
        features = torch.randn(2, 4, head.features, dtype=torch.double)
        together = head(features)
        y = torch.randn(2, 4, *together.event_shape, dtype=torch.double)
        for i, j in itertools.product(range(2), range(4)):
            torch.testing.assert_close(together.log_prob(y)[i, j], head(features[i, j]).log_prob(y[i, j]))


def test_one_scale_for_all_targets_of_a_component_stays_with_it():
    """Isotropic components as commonly written: log-scales repeated D times in the features of a head."""
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


N = torch.Generator().manual_seed(0)


GROUPED = torch.cat([m + s * torch.randn(n, generator=N) for m, s, n in ((-3, 0.1, 300), (0, 0.5, 500), (4, 1, 200))])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", [(), (5,), (2, 7), (2, 3, 4)])
def test_features_of_any_rank_make_a_mixture_of_that_batch(family, shape):
    """Rows of a table, steps of a sequence, pixels of an image: all dimensions but the last are batch."""
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
    """The classic bug of reshaping (K x D) features in the wrong order: each number has its own place."""
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
        (lambda: mixture_head(2, family="cauchy"), "expected family to be one of .*'normal'.*, got 'cauchy'"),
        (lambda: mixture_head(2, family="student_t", df=0.0), "expected df to be a finite number above 0, got 0.0"),
        (lambda: mixture_head(2).started_at(torch.zeros(5, 1)), r"expected y of shape \(N,\), got \(5, 1\)"),
        (lambda: mixture_head(6).started_at(torch.zeros(5)), "expected at least 6 rows of y for 6 components, got 5"),
        (lambda: mixture_head(2).started_at(torch.tensor([0.0, math.nan, 1.0])), "expected finite y, got 1 of 3"),
        (lambda: mixture_head(2).started_at(GROUPED, method="random"), "expected method to be one of .*, got 'random'"),
        (
            lambda: mixture_head(2, family="log_normal").started_at(GROUPED),
            "expected y in the support of log_normal",
        ),
        (
            lambda: mixture_head(2, family="von_mises").started_at(GROUPED, method="k_means"),
            "expected method to be 'quantiles' for angles",
        ),
        (lambda: multivariate_mixture_head(2, 0), "expected targets to be a whole number of 1 or more, got 0"),
        (lambda: multivariate_mixture_head(2, 2, covariance="tied"), "expected covariance to be one of .*, got 'tied'"),
        (lambda: multivariate_mixture_head(2, 2, rank=3), "expected rank to be a whole number from 1 to 2, got 3"),
        (lambda: multivariate_mixture_head(2, 2)(torch.zeros(3)), r"expected features of shape \(..., 12\)"),
        (lambda: multivariate_mixture_head(2, 2).started_at(torch.zeros(9, 3)), r"expected y of shape \(N, 2\)"),
    ],
)
def test_bad_heads_and_data_are_refused(make, message):
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
    with pytest.raises(ValueError, match=r"expected ceiling to be a finite number above 0.1, got 0.05"):
        mixture_head(2, floor=0.1, ceiling=0.05)
