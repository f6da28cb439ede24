"""Nodes of mixtures of many components: dense enough to find all modes, and not too many."""

import pytest
import torch
from scipy import signal

from posterity.models import Mixture
from posterity.models.mixtures import density
from tests.mixture_cases import random_mixture


def test_many_components_use_the_quantiles_of_the_mixture():
    """A posterior's predictive of 1,000 draws, 3 components each."""
    mixture = random_mixture(components=3, seed=5)
    loc, scale = mixture.component_distribution.loc, mixture.component_distribution.scale
    jitter = 1e-3 * torch.randn(1000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    several = Mixture.normal(
        mixture.log_weights.expand(1000, 3).reshape(-1), (loc + jitter * scale).reshape(-1), scale.repeat(1000)
    )
    x = torch.linspace(-12, 12, 16_001, dtype=torch.double)
    height = torch.cat([several.log_prob(part) for part in x.split(500)])
    peaks = x[signal.argrelmax(height.numpy())[0]]
    torch.testing.assert_close(several.modes(min_probability=0.01).location.sort().values, peaks, rtol=0, atol=1.5e-3)
    region = several.hdr(0.8)
    assert float(region.probability) == pytest.approx(0.8, abs=1e-7)
    assert float((height.exp() * (x[1] - x[0]))[region.contains(x)].sum()) == pytest.approx(0.8, abs=2e-3)
    torch.testing.assert_close(
        several.log_prob(region.upper), region.log_density.expand(region.upper.shape), atol=1e-8, rtol=0
    )
    main = mixture.modes(min_probability=0.01).location
    torch.testing.assert_close(several.modes(min_probability=0.01).location, main, rtol=0, atol=2e-2)
    torch.testing.assert_close(several.hdr(0.8).lower, mixture.hdr(0.8).lower, rtol=0, atol=2e-2)


def test_modes_and_regions_of_very_many_components_ask_for_few_densities(monkeypatch):
    """Evaluations of all components for each row: about 2,080 for the search, the others for refinement."""
    asked = []
    in_chunks = density._in_chunks
    monkeypatch.setattr(
        density, "_in_chunks", lambda f, v, k: asked.append(int(v.isfinite().sum())) or in_chunks(f, v, k)
    )
    mixture = random_mixture(3, components=600, seed=2)
    mixture.modes(min_probability=0.05)
    modes, asked[:] = sum(asked), []
    mixture.hdr(0.9)
    assert modes / 3 < 4000
    assert sum(asked) / 3 < 5000
