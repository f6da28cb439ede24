"""Showers against the distributions they are drawn from: profiles, layers, cells, resolution, and limits."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import gamma, kstest

from posterity.data import Calorimeter, Layer, Material, Showers
from posterity.data.showers import gamma_shares

N = 20_000


def whole(**changes: float) -> Showers:
    """One layer that misses nothing: so wide and deep that all energy is in it."""
    layer = Layer(0, 80, 1, 1, height=1e5, width=1e5)
    return Showers(Calorimeter((layer,), **{"sampling": 0.0, "threshold": 0.0} | changes), step=4)


def energies(value: float, n: int = N) -> torch.Tensor:
    return torch.full((n,), value, dtype=torch.double)


def test_the_parameters_are_those_of_the_paper() -> None:
    """Grindhammer & Peters, appendix A.1, computed by hand for lead at y = 1,000."""
    showers = Showers(Calorimeter(material="lead"))
    normal = showers.profile_distribution(torch.tensor([7.43]))
    log_y = math.log(1000)
    assert normal.mean[0].exp().tolist() == pytest.approx([log_y - 0.812, 0.81 + (0.458 + 2.26 / 82) * log_y])
    sd = normal.covariance_matrix[0].diag().sqrt()
    assert sd.tolist() == pytest.approx([1 / (-1.4 + 1.26 * log_y), 1 / (-0.58 + 0.86 * log_y)])
    assert float(normal.covariance_matrix[0, 0, 1] / sd.prod()) == pytest.approx(0.705 - 0.023 * log_y)
    assert float(showers.spots(torch.tensor([10.0]))) == pytest.approx(93 * math.log(82) * 10**0.876)


def test_the_radial_profile_is_that_of_the_paper() -> None:
    """Grindhammer & Peters, appendix A.1.3, computed by hand for Z = 82, E = 10 GeV and tau = 1.5."""
    showers = Showers(Calorimeter(material="lead"))
    core, tail, share = showers._radial_profile(torch.tensor([10.0]).double(), torch.tensor([1.5]).double())
    log_e = math.log(10)
    assert float(core) == pytest.approx(0.0251 + 0.00319 * log_e + (0.1162 - 0.000381 * 82) * 1.5)
    k1, k4 = 0.659 - 0.00309 * 82, 0.3585 + 0.0421 * log_e
    assert float(tail) == pytest.approx(k1 * (math.exp(-2.59 * 0.855) + math.exp(k4 * 0.855)))
    x = (0.401 + 0.00187 * 82 - 1.5) / (1.313 - 0.0686 * log_e)
    assert float(share) == pytest.approx((2.632 - 0.00094 * 82) * math.exp(x - math.exp(x)))


def test_spots_have_a_profile_of_their_own() -> None:
    """T and alpha of the spots are (0.698 + 0.00212 Z) T and (0.639 + 0.00334 Z) alpha, appendix A.1.4."""
    showers = Showers(Calorimeter((Layer(0, 6, 1, 1), Layer(6, 18, 1, 1)), material="lead"))
    energy, profile = torch.tensor([10.0]).double(), torch.tensor([[6.0, 4.0]]).double()
    spots = [float(part[0]) for part in showers._layers(energy, profile, torch.zeros(1, 2).double())]
    t, alpha = (0.698 + 0.00212 * 82) * 6, (0.639 + 0.00334 * 82) * 4
    shares = np.diff(gamma(alpha, scale=t / (alpha - 1)).cdf([0, 6, 18]))
    assert spots == pytest.approx(93 * math.log(82) * 10**0.876 * shares)


def test_profiles_are_drawn_from_their_distribution() -> None:
    """Means, standard deviations and correlation of ln T and ln alpha within 4 standard errors, seed 1."""
    showers = Showers(Calorimeter((Layer(0, 20, 1, 1),)))
    drawn = showers.simulate(energies(20.0), seed=1).profile.log()
    normal = showers.profile_distribution(torch.tensor([20.0]))
    sd = normal.covariance_matrix[0].diag().sqrt()
    assert bool(((drawn.mean(0) - normal.mean[0]).abs() < 4 * sd / math.sqrt(N)).all())
    assert bool(((drawn.std(0) / sd - 1).abs() < 4 / math.sqrt(2 * N)).all())
    rho = float(normal.covariance_matrix[0, 0, 1] / sd.prod())
    assert abs(float(torch.corrcoef(drawn.T)[0, 1]) - rho) < 4 * (1 - rho**2) / math.sqrt(N)


def test_nothing_is_lost_in_a_calorimeter_without_end() -> None:
    sample = whole().simulate(energies(30.0, 200), seed=0)
    assert sample.cells.shape == (200, 1)
    np.testing.assert_allclose(sample.cells[:, 0], 30.0, rtol=1e-4)


def test_the_resolution_is_that_of_sampling() -> None:
    """The energy seen is a gamma variable with mean E and variance a² E: Kolmogorov-Smirnov, seed 2, p > 0.001."""
    sample = whole(sampling=0.1).simulate(energies(4.0), seed=2)
    assert kstest(sample.cells[:, 0].double(), gamma(4.0 / 0.01, scale=0.01).cdf).pvalue > 1e-3


def test_layers_have_the_share_of_the_gamma_profile() -> None:
    layers = (Layer(0, 6, 1, 1, 1e5, 1e5), Layer(6, 18, 1, 1, 1e5, 1e5))
    showers = Showers(Calorimeter(layers, sampling=0.0, threshold=0.0))
    sample = showers.simulate(energies(10.0, 300), seed=3)
    t, alpha = sample.profile.T.numpy()
    edges = gamma(alpha[:, None], scale=(t / (alpha - 1))[:, None]).cdf([0.0, 6.0, 18.0])
    np.testing.assert_allclose(showers.layer_shares(sample.profile), np.diff(edges), rtol=1e-10)
    np.testing.assert_allclose(sample.cells / 10.0, np.diff(edges), rtol=1e-4)


def test_the_mean_of_each_cell_is_the_one_that_is_stated() -> None:
    """Means of 20,000 showers with one profile within 4.5 standard errors in each of 90 cells, seed 4."""
    layers = (Layer(0, 6, 1, 30), Layer(6, 20, 6, 10))

    class OneProfile(Showers):
        def profile_distribution(self, energy: torch.Tensor) -> torch.distributions.MultivariateNormal:
            found = super().profile_distribution(energy)
            return torch.distributions.MultivariateNormal(found.mean, 1e-12 * found.covariance_matrix)

    showers = OneProfile(Calorimeter(layers, threshold=0.0))
    position = torch.tensor([[0.4, -0.7]]).expand(N, 2)
    sample = showers.simulate(energies(5.0), seed=4, position=position)
    mean = showers.mean_cells(energies(5.0, 1), sample.profile[:1], position=position[:1])[0]
    error = sample.cells.double().std(0) / math.sqrt(N)
    assert float(((sample.cells.double().mean(0) - mean) / error).abs().max()) < 4.5


def test_cells_of_a_layer_fluctuate_as_a_number_of_spots() -> None:
    """A share p of n spots, Poisson, has the variance p (1 - p) E[1 / n] within 5 standard errors, seed 5."""
    layer = Layer(0, 80, 1, 2, height=1e5, width=2e5)  # half of the spots in each cell
    showers = Showers(Calorimeter((layer,), sampling=0.0, threshold=0.0), step=4)
    share = showers.simulate(energies(1.0), seed=5).cells[:, 0].double()
    spots = float(showers.spots(torch.tensor([1.0])))
    assert float(share.var()) == pytest.approx(0.25 / spots, rel=5 * math.sqrt(2 / N))


def test_a_shower_is_the_same_wherever_the_calorimeter_is_moved() -> None:
    """A position moves the means as the same shift of the cells would."""
    showers = Showers(Calorimeter((Layer(0, 10, 1, 40, 1e4, 8.0),)))
    energy, profile = energies(10.0, 1), torch.tensor([[6.0, 4.0]], dtype=torch.double)
    there = showers.mean_cells(energy, profile, position=torch.tensor([[0.0, 0.4]]))
    here = showers.mean_cells(energy, profile)
    np.testing.assert_allclose(there[0, 2:], here[0, :-2], rtol=1e-6, atol=1e-9)


def test_a_finer_step_changes_little() -> None:
    energy, profile = energies(10.0, 1), torch.tensor([[6.0, 4.0]], dtype=torch.double)
    coarse, fine = (Showers(step=step).mean_cells(energy, profile) for step in (2.0, 0.25))
    assert float((coarse - fine).abs().sum() / fine.sum()) < 0.02
    assert float(coarse.sum()) == pytest.approx(float(fine.sum()), rel=2e-3)


def test_noise_and_threshold() -> None:
    quiet = Calorimeter((Layer(400, 401, 20, 20),), sampling=0.0, noise=0.01, threshold=0.02)  # behind all showers
    cells = Showers(quiet).simulate(energies(1.0, 500), seed=6).cells
    assert float((cells > 0).double().mean()) == pytest.approx(0.02275, abs=4 * math.sqrt(0.0223 / cells.numel()))
    assert float(cells[cells > 0].min()) > 0.02


def test_energies_are_log_uniform() -> None:
    drawn = Showers().draw_energies(5000, low=2.0, high=50.0, seed=7)
    assert kstest((drawn / 2).log() / math.log(25), "uniform").pvalue > 1e-3


def test_extreme_profiles_have_finite_cells() -> None:
    """At low energies alpha of the spots can fall below 1, where a gamma profile has no maximum."""
    cells = Showers().simulate(energies(0.5), seed=8).cells
    assert bool(torch.isfinite(cells).all())
    assert bool((cells >= 0).all())


def test_a_seed_repeats_a_sample_and_another_does_not() -> None:
    showers, energy = Showers(), torch.tensor([3.0, 30.0])
    one, same, other = (showers.simulate(energy, seed=seed).cells for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_gamma_shares_of_a_known_profile() -> None:
    """alpha = 2, T = 1: 1 - (1 + t) exp(-t)."""
    share = gamma_shares(torch.tensor([0.0, 1.0, 3.0]).double(), torch.tensor([[1.0, 2.0]]).double())
    upto = [1 - (1 + t) * math.exp(-t) for t in (0.0, 1.0, 3.0)]
    assert share[0].tolist() == pytest.approx(np.diff(upto))


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Showers(3), "expected calorimeter to be a Calorimeter"),
        (lambda: Showers(step=0), "step"),
        (lambda: Showers().simulate(torch.tensor([0.1])), r"expected energy from 0.5 to 1000 GeV, got 0.1 to 0.1"),
        (lambda: Showers().simulate(torch.tensor([-1.0, 5.0])), "energy from 0.5"),
        (lambda: Showers().simulate(torch.tensor([math.nan])), "energy"),
        (lambda: Showers().simulate(torch.tensor([[5.0]])), r"energy of shape \(N,\)"),
        (lambda: Showers().simulate(torch.tensor([5])), "energy"),
        (lambda: Showers().simulate(torch.tensor([5.0]), position=torch.zeros(2, 2)), r"position of shape \(1, 2\)"),
        (lambda: Showers().simulate(torch.tensor([5.0]), position=torch.tensor([[0.0, 3.0]])), "inside of all layers"),
        (
            lambda: Showers(Calorimeter(material=Material(2, 200.0, 5.0, 5.0))).simulate(torch.tensor([1.0])),
            "energy of at least 4 GeV in this material, got 1",
        ),
        (lambda: Showers().draw_energies(0), "n"),
        (lambda: Showers().layer_shares(torch.tensor([[5.0, 1.0]])), "alpha above 1, got 5 and 1"),
        (lambda: Showers().layer_shares(torch.ones(3)), r"profile of shape \(N, 2\)"),
        (lambda: Showers().mean_cells(torch.ones(2), torch.tensor([[5.0, 2.0]])), r"profile of shape \(2, 2\)"),
        (lambda: Showers().draw_energies(5, low=10.0, high=2.0), "high"),
    ],
)
def test_bad_input_is_refused(make, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make()
