"""Resolutions that are known, with their errors."""

import math

import pytest
import torch

from posterity.data import Calorimeter, Layer, Showers
from posterity.inference.showers import fit_resolution, observables


def sample(a: float, b: float, n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    energy = 100 ** torch.rand(n, generator=random, dtype=torch.double)
    sd = (a**2 / energy + b**2).sqrt()
    return energy, 0.9 * (1 + 0.01 * energy.log()) * (1 + sd * torch.randn(n, generator=random, dtype=torch.double))


def test_terms_are_found_and_their_errors_are_right() -> None:
    """Pulls of a for 60 samples, seeds 0 to 59: mean within 4 standard errors, width from 0.7 to 1.4.

    The mean response depends on the energy.
    """
    fits = [fit_resolution(*sample(0.1, 0.02, 1500, seed), seed=seed, bootstrap=50) for seed in range(60)]
    pulls = torch.tensor([(fit.a - 0.1) / fit.a_se for fit in fits])
    assert abs(float(pulls.mean())) < 4 / math.sqrt(60)
    assert 0.7 < float(pulls.std()) < 1.4


def test_a_mean_response_that_depends_on_energy_is_no_spread() -> None:
    """Seed 5; with the slope counted as spread, b would be too large by many errors."""
    energy, response = sample(0.1, 0.02, 6000, 5)
    fit = fit_resolution(energy, response * (1 + 0.3 * energy.log()), seed=0, bootstrap=50)
    assert fit.a == pytest.approx(0.1, abs=4 * fit.a_se)
    assert fit.b == pytest.approx(0.02, abs=4 * fit.b_se)


def test_small_samples_have_no_bias() -> None:
    """The mean a of 100 samples of 240 showers, seeds 0 to 99, within 4 standard errors: errors by the observed spreads

    would give 0.089.
    """
    found = torch.tensor([fit_resolution(*sample(0.1, 0.0, 240, seed), seed=0, bootstrap=2).a for seed in range(100)])
    assert abs(float(found.mean()) - 0.1) < 4 * float(found.std()) / 10


@pytest.mark.parametrize("bins", [6, 12])
def test_beams_of_fixed_energy(bins: int) -> None:
    random = torch.Generator().manual_seed(4)
    energy = torch.tensor([5.0, 10.0, 20.0, 50.0, 80.0, 150.0]).double().repeat_interleave(1000)
    sd = (0.1**2 / energy + 0.01**2).sqrt()
    fit = fit_resolution(energy, 1 + sd * torch.randn(6000, generator=random), seed=0, bins=bins, bootstrap=50)
    assert fit.a == pytest.approx(0.1, abs=4 * fit.a_se)
    assert fit.b == pytest.approx(0.01, abs=4 * fit.b_se)
    assert fit.chi2 < 30


def test_one_term_alone() -> None:
    fit = fit_resolution(*sample(0.1, 0.0, 5000, 0), seed=0, bootstrap=50)
    assert fit.b < 0.01
    assert fit.a == pytest.approx(0.1, abs=5 * fit.a_se)
    fit = fit_resolution(*sample(0.0, 0.05, 5000, 0), seed=0, bootstrap=50)
    assert fit.a < 0.03
    assert fit.b == pytest.approx(0.05, abs=5 * fit.b_se)


def test_the_sampling_term_of_the_simulation_is_found() -> None:
    """A calorimeter that misses nothing has a = 0.1 and b = 0, seed 3."""
    layer = Layer(0, 80, 1, 1, height=1e5, width=1e5)
    showers = Showers(Calorimeter((layer,), sampling=0.1, threshold=0.0), step=4)
    drawn = showers.simulate(showers.draw_energies(4000, seed=3), seed=3)
    response = observables(drawn.cells, drawn.energy, showers.calorimeter)["response"]
    fit = fit_resolution(drawn.energy, response, seed=0, bootstrap=60)
    assert fit.a == pytest.approx(0.1, abs=4 * fit.a_se)
    assert fit.b < 0.012


@pytest.mark.parametrize(
    ("energy", "response", "complaint"),
    [
        (torch.ones(10), torch.ones(10), "N of 240 or more"),
        (torch.ones(300), torch.ones(299), "response of shape"),
        (torch.zeros(300), torch.ones(300), "expected energy above 0"),
        (torch.linspace(1, 9, 300), torch.ones(300), "expected response to differ between showers, got 1 for all"),
        (torch.linspace(1, 9, 300), (torch.linspace(1, 9, 300) > 5).float(), "response above 0 on average, got 0 near"),
        (torch.full((300,), 50.0), torch.ones(300), "expected energy of several values, got 50 alone"),
        (torch.ones(300), torch.full((300,), math.nan), "response"),
    ],
)
def test_bad_samples_are_refused(energy: torch.Tensor, response: torch.Tensor, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        fit_resolution(energy, response, seed=0)
