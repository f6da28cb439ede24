"""Fitted profiles against those of the simulation, and against exact shares."""

import pytest
import torch

from posterity.data import Calorimeter, Layer, Showers
from posterity.inference.showers import fit_profile

SHOWERS = Showers()
COARSE = Calorimeter(tuple(Layer(a, b, 1, 1) for a, b in ((0, 6), (6, 18), (18, 25))))


def test_exact_shares_give_the_profile_back() -> None:
    """One cell for each layer, without noise or sampling."""
    calorimeter = Calorimeter(tuple(Layer(a, b, 1, 1) for a, b in ((0, 6), (6, 18), (18, 25))))
    profile = torch.tensor([[5.0, 3.0], [7.0, 4.5], [8.0, 5.0], [3.0, 2.0]], dtype=torch.double)
    shares = Showers(calorimeter, step=1e9).layer_shares(profile)
    torch.testing.assert_close(fit_profile(shares, calorimeter), profile, rtol=1e-4, atol=0)
    torch.testing.assert_close(fit_profile(1000 * shares, calorimeter), profile, rtol=1e-4, atol=0)


def test_simulated_showers_have_the_fitted_profile() -> None:
    """At 20 to 100 GeV: T within 1% and alpha within 4% for all but a few, with seed 0."""
    sample = SHOWERS.simulate(SHOWERS.draw_energies(1000, low=20.0, seed=0), seed=0)
    ratio = (fit_profile(sample.cells, SHOWERS.calorimeter) / sample.profile).log().abs()
    assert bool((ratio.quantile(0.9, dim=0) < torch.tensor([0.02, 0.08])).all())


def test_exact_shares_are_fitted_at_all_energies() -> None:
    """The profiles of 1,000 simulated showers of 1 to 100 GeV: T and alpha within 1% for all but 2%, and no large rest.

    Far from the maximum, the error is flat in both numbers: some of the lowest energies need more iterations.
    """
    energy = SHOWERS.draw_energies(1000, seed=3)
    profile = SHOWERS.simulate(energy, seed=4).profile
    shares = Showers(COARSE, step=1e9).layer_shares(profile)
    found = fit_profile(shares, COARSE)
    wrong = ((found / profile).log().abs() > 0.01).any(1)
    assert float(wrong.double().mean()) < 0.02
    again = Showers(COARSE, step=1e9).layer_shares(found)
    rest = again / again.sum(1, keepdim=True) - shares / shares.sum(1, keepdim=True)
    assert float(rest.abs().max()) < 0.02


def test_a_shower_without_energy_has_no_profile() -> None:
    cells = torch.zeros(2, SHOWERS.calorimeter.cells)
    cells[1] = SHOWERS.simulate(torch.tensor([50.0]), seed=0).cells[0]
    found = fit_profile(cells, SHOWERS.calorimeter)
    assert bool(found[0].isnan().all())
    assert bool(found[1].isfinite().all())


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"expected cells of shape \(N, 504\)"):
        fit_profile(torch.ones(2, 3), SHOWERS.calorimeter)
    with pytest.raises(ValueError, match="expected cells of at least 0"):
        fit_profile(-torch.ones(2, 504), SHOWERS.calorimeter)
    with pytest.raises(ValueError, match="at least three layers"):
        fit_profile(torch.ones(2, 4), Calorimeter((Layer(0, 6, 2, 2),)))
    with pytest.raises(ValueError, match="calorimeter"):
        fit_profile(torch.ones(2, 4), None)  # type: ignore[arg-type]
