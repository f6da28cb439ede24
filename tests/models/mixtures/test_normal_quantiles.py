"""Quantiles of many normals by Halley's method: against Newton's, which works for all families."""

import numpy as np
import pytest
import torch
from scipy import stats

from posterity.models import Mixture
from posterity.models.mixtures import normal_quantiles, quantiles


def solved(mixture, levels):
    components = mixture.component_distribution
    return normal_quantiles.normal_mixture_quantiles(
        mixture.log_weights.exp(), components.loc, components.scale, levels[:, None].expand(-1, len(components.loc))
    )


@pytest.mark.parametrize("components", [1, 2, 20, 700])
def test_both_methods_agree(components, monkeypatch):
    """Widths over a factor of some 400, and weights over as many; to 1e-9 of the widest, of which the tails are."""
    generator = torch.Generator().manual_seed(components)
    logits, loc, log_scale = (torch.randn(6, components, generator=generator).double() for _ in range(3))
    mixture = Mixture.normal(1.5 * logits, 4 * loc, log_scale.exp())
    levels = torch.tensor([2e-6, 0.05, 0.5, 0.9, 0.999]).double()
    fast = solved(mixture, levels)
    monkeypatch.setattr(quantiles, "FEWEST", components + 1)
    exact = mixture.icdf(levels[:, None])
    widest = mixture.component_distribution.scale.amax(-1)
    assert float(((fast - exact).abs() / widest).max()) < 1e-9


def test_a_weight_of_zero_and_a_gap():
    mixture = Mixture.normal(
        torch.tensor([[0.0, 0.0, -torch.inf]]).double(),
        torch.tensor([[-50.0, 50.0, 1e6]]).double(),
        torch.ones(1, 3).double(),
    )
    levels = torch.tensor([0.25, 0.5 - 1e-9, 0.75]).double()
    np.testing.assert_allclose(mixture.cdf(solved(mixture, levels))[:, 0], levels, atol=1e-12)


def test_icdf_takes_the_fast_method_for_many_normals_and_the_other_for_far_tails(monkeypatch):
    """100 equal components are one normal; the unused method is made to fail."""
    mixture = Mixture.normal(torch.zeros(2, 100), torch.zeros(2, 100), torch.ones(2, 100))

    def fails(*_):
        raise AssertionError("the other method was called")

    with monkeypatch.context() as patch:
        patch.setattr(quantiles, "_bracket", fails)
        levels = torch.tensor([[0.1, 0.9], [0.5, 1e-5]])  # of each mixture its own
        found = mixture.icdf(levels)
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found, stats.norm.ppf(levels.double()), rtol=2e-6, atol=1e-7)
    with monkeypatch.context() as patch:
        patch.setattr(normal_quantiles, "normal_mixture_quantiles", fails)
        far = mixture.icdf(1e-12)
        np.testing.assert_allclose(far, stats.norm.ppf(1e-12), rtol=1e-5)
