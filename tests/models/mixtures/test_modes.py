"""Modes of mixtures, against dense grids and closed forms. All in double precision, without sampling."""

import itertools
import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import optimize, signal

from posterity.models import Mixture
from tests.mixture_cases import on_a_grid, random_mixture, von_mises_mixture


def test_a_narrow_direction_beside_the_seam_keeps_its_probability():
    """Equal weights, concentrations 10^6 and 50, either side of pi: between the minima by a grid of 10^6 points."""
    mixture = Mixture(
        dist.Categorical(logits=torch.zeros(2).double()),
        dist.VonMises(torch.tensor([3.1, -3.1]).double(), torch.tensor([1e6, 50.0]).double()),
    )
    modes = mixture.modes()
    x = torch.linspace(-math.pi, math.pi, 1_000_001).double()
    # Away from the peaks: the least point between -3.1 and 3.1, and the one across the seam.
    across = torch.cat([torch.linspace(3.1, math.pi, 200_001), torch.linspace(-math.pi, -3.1, 200_001)]).double()
    least = across[mixture.log_prob(across).argmin()]
    inner = x[(x > -3.0) & (x < 3.0)]
    other = inner[mixture.log_prob(inner).argmin()]
    narrow = (
        float(mixture.cdf(least) - mixture.cdf(other)) % 1
        if least > 0
        else 1 - float(mixture.cdf(other) - mixture.cdf(least))
    )
    found = modes.probability[(modes.location - 3.1).abs().argmin()]
    assert float(found) == pytest.approx(narrow, abs=1e-4)
    assert float(modes.probability.sum()) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("family", ["normal", "laplace", "student_t", "log_normal"])
@pytest.mark.parametrize("seed", range(5))
def test_modes_are_those_of_a_dense_grid(family, seed):
    mixture = random_mixture(seed=seed, components=5, family=family)
    expected, x, _ = on_a_grid(mixture)
    modes = mixture.modes()
    found = modes.location.sort().values
    found = found[(found > x[0]) & (found < x[-1])]
    assert len(found) == len(expected)
    torch.testing.assert_close(found, expected, rtol=0, atol=2 * float(x[1] - x[0]))
    assert float(modes.probability.sum()) == pytest.approx(1, abs=1e-9)
    assert bool((modes.log_density.diff() <= 0).all())


def test_a_modes_probability_is_what_lies_between_the_minima():
    mixture = random_mixture(seed=3, components=3)
    modes = mixture.modes()
    order = modes.location.argsort()
    location, probability = modes.location[order], modes.probability[order]
    assert len(location) > 1
    cuts = [
        optimize.minimize_scalar(lambda v: float(mixture.log_prob(torch.tensor(v))), bounds=(float(a), float(b)),
                                 method="bounded", options={"xatol": 1e-10}).x
        for a, b in itertools.pairwise(location)
    ]  # fmt: skip
    edges = [0.0, *(float(mixture.cdf(torch.tensor(c, dtype=torch.double))) for c in cuts), 1.0]
    np.testing.assert_allclose(probability, np.diff(edges), atol=1e-6)


@pytest.mark.parametrize(("apart", "count"), [(1.0, 1), (1.99, 1), (2.05, 2), (8.0, 2)])
def test_two_equal_normals_merge_within_two_standard_deviations(apart, count):
    """de Helguero 1904: bimodal if and only if the means are more than two standard deviations apart."""
    loc = torch.tensor([-apart / 2, apart / 2], dtype=torch.double)
    assert int(Mixture.normal(torch.zeros(2), loc, torch.ones(2)).modes().count) == count


def test_a_narrow_component_of_small_weight_is_a_mode_and_can_be_left_out():
    weights = torch.tensor([1 - 1e-6, 1e-6, 1e-30], dtype=torch.double)
    mixture = Mixture.normal(weights.log(), torch.tensor([0.0, 0.5, 1e3]), torch.tensor([1.0, 1e-7, 1.0]))
    modes = mixture.modes()
    torch.testing.assert_close(modes.location.sort().values, torch.tensor([0.0, 0.5, 1e3], dtype=torch.double))
    assert mixture.modes(min_probability=1e-9).count == 2
    assert mixture.modes(min_probability=0.5).location.tolist() == pytest.approx([0.0], abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_modes_of_two_targets_are_those_of_a_dense_grid(seed):
    generator = torch.Generator().manual_seed(seed)
    loc = 2.5 * torch.randn(4, 2, generator=generator, dtype=torch.double)
    raw = torch.randn(4, 2, 2, generator=generator, dtype=torch.double)
    tril = 0.5 * raw.tril(-1) + torch.diag_embed((0.3 * raw.diagonal(dim1=-2, dim2=-1)).exp())
    mixture = Mixture.multivariate_normal(torch.randn(4, generator=generator, dtype=torch.double), loc, tril)
    side = torch.linspace(-9, 9, 901, dtype=torch.double)
    height = mixture.log_prob(torch.stack(torch.meshgrid(side, side, indexing="ij"), -1))
    inner = height[1:-1, 1:-1]
    around = torch.stack([height[1 + i : 900 + i, 1 + j : 900 + j] for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j])
    peaks = (inner > around.amax(0)).nonzero() + 1
    expected = side[peaks]
    modes = mixture.modes()
    apart = torch.cdist(modes.location[: int(modes.count)], expected)
    # A slanting ridge can have several maxima on the grid: each must be near a mode, and each mode near one of them.
    assert float(apart.amin(1).max()) < 0.06
    assert float(apart.amin(0).max()) < 0.06
    assert float(modes.probability.nansum()) == pytest.approx(1)


def test_a_mean_on_a_saddle_is_no_mode():
    """The middle component has its mean between the two others and nearly no weight."""
    loc = torch.tensor([[-2.0, 0.0], [0.0, 0.0], [2.0, 0.0]], dtype=torch.double)
    weights = torch.tensor([0.5, 1e-9, 0.5], dtype=torch.double)
    modes = Mixture.multivariate_normal(weights.log(), loc, torch.ones(3, 2, dtype=torch.double)).modes()
    assert int(modes.count) == 2
    torch.testing.assert_close(modes.location[:2, 0].abs(), modes.location[:2, 0].abs().mean().expand(2))


def test_angles_have_modes_around_the_circle_and_quantiles_on_it():
    mixture = von_mises_mixture()
    x = torch.linspace(-math.pi, math.pi, 400_001, dtype=torch.double)[:-1]
    height = mixture.log_prob(x).numpy()
    expected = sorted(x[signal.argrelmax(height, mode="wrap")[0]].tolist())
    modes = mixture.modes()
    assert sorted(modes.location.tolist()) == pytest.approx(expected, abs=1e-4)
    lows = x[signal.argrelmin(height, mode="wrap")[0]]
    edges = mixture.cdf(lows.sort().values)
    inner = edges.diff()
    expected_probability = sorted([*inner.tolist(), float(1 - inner.sum())])
    assert sorted(modes.probability.tolist()) == pytest.approx(expected_probability, abs=1e-4)
    p = torch.tensor([0.01, 0.3, 0.5, 0.99], dtype=torch.double)
    torch.testing.assert_close(mixture.cdf(mixture.icdf(p)), p)
    region = mixture.hdr(0.7)
    assert float(region.probability) == pytest.approx(0.7, abs=1e-6)
