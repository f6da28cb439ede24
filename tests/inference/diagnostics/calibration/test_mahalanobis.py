import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats
from torch.distributions import Categorical, Independent, LowRankMultivariateNormal, StudentT

from posterity.inference.arviz import from_groups
from posterity.inference.diagnostics import pit_ecdf
from posterity.inference.diagnostics.calibration.mahalanobis import mahalanobis
from posterity.models.mixtures import Mixture


def mixture(n: int, correlation: float = 0.8, width: float = 1.0) -> Mixture:
    """Three targets, two components; of the same widths for any correlation."""
    matrix = torch.full((3, 3), correlation).double().fill_diagonal_(1.0)
    factor = width * torch.linalg.cholesky(matrix)
    loc = torch.tensor([[-1.0, 0.0, 2.0], [2.0, 1.0, 0.0]]).double()
    logits = torch.tensor([0.0, 1.0]).double()
    return Mixture.multivariate_normal(
        logits.expand(n, 2), loc.expand(n, 2, 3), torch.stack([factor, 0.5 * factor]).expand(n, 2, 3, 3)
    )


def test_of_a_normal_is_the_textbook_formula():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(9, 3, 3))
    covariance, loc, y = (
        root @ np.swapaxes(root, 1, 2) + 0.1 * np.eye(3),
        rng.normal(size=(9, 3)),
        rng.normal(size=(9, 3)),
    )
    factor = torch.linalg.cholesky(torch.tensor(covariance))[:, None]
    one = Mixture.multivariate_normal(torch.zeros(9, 1).double(), torch.tensor(loc)[:, None], factor)
    result = mahalanobis(one, torch.tensor(y))
    expected = np.einsum("ni,nij,nj->n", y - loc, np.linalg.inv(covariance), y - loc)
    np.testing.assert_allclose(result.squared_distance, expected, rtol=1e-8)
    np.testing.assert_allclose(result.pit, stats.chi2.cdf(expected, 3), rtol=1e-8)
    far = mahalanobis(one, torch.tensor(y + 1000.0))
    np.testing.assert_array_equal(far.pit, 1.0)
    assert bool((far.pit_sf < 1e-300).all())


def test_other_normal_components_of_the_same_covariance_agree():
    y = torch.randn(5, 2).double()
    diagonal = Mixture.multivariate_normal(
        torch.zeros(5, 1).double(), torch.zeros(5, 1, 2).double(), torch.full((5, 1, 2), 2.0).double()
    )
    low_rank = Mixture(
        Categorical(logits=torch.zeros(5, 1).double()),
        LowRankMultivariateNormal(
            torch.zeros(5, 1, 2).double(), torch.zeros(5, 1, 2, 1).double(), torch.full((5, 1, 2), 4.0).double()
        ),
    )
    expected = (y**2).sum(1) / 4
    for source in (diagonal, low_rank):
        np.testing.assert_allclose(mahalanobis(source, y).squared_distance, expected, rtol=1e-10)


def test_uniform_for_the_right_mixture_and_for_no_wrong_one():
    """4,000 values; the nearest component's distance, and the distance from the mixture's mean, are not chi²."""
    torch.manual_seed(1)
    n = 4000
    y = mixture(n).sample()
    right = mahalanobis(mixture(n), y, seed=1)
    assert stats.kstest(right.pit, "uniform").pvalue > 0.01
    assert pit_ecdf(right).attrs["outside"] == 0
    np.testing.assert_allclose(right.pit + right.pit_sf, 1, atol=1e-12)
    for wrong in (mixture(n, correlation=0.5), mixture(n, width=0.9)):
        assert stats.kstest(mahalanobis(wrong, y, seed=1).pit, "uniform").pvalue < 1e-6
    moments = mixture(1)
    away = y.numpy() - moments.mean.numpy()
    inverse = np.linalg.inv(moments.covariance_matrix.numpy()[0])
    from_mean = np.einsum("ni,ij,nj->n", away, inverse, away)
    assert stats.kstest(stats.chi2.cdf(from_mean, 3), "uniform").pvalue < 1e-6


def test_nearest_component_would_be_too_near():
    """Two components 2 sigma apart: why the component is drawn and not chosen."""
    torch.manual_seed(2)
    n = 4000
    loc = torch.tensor([[-1.0, 0.0], [1.0, 0.0]]).double()
    two = Mixture.multivariate_normal(torch.zeros(n, 2).double(), loc.expand(n, 2, 2), torch.ones(n, 2, 2).double())
    y = two.sample()
    assert stats.kstest(mahalanobis(two, y).pit, "uniform").pvalue > 0.01
    nearest = ((y[:, None] - loc) ** 2).sum(-1).amin(-1)
    assert stats.kstest(stats.chi2.cdf(nearest, 2), "uniform").pvalue < 1e-6


def banana(rng: np.random.Generator, *shape: int) -> np.ndarray:
    first, second = rng.normal(size=shape), rng.normal(size=shape)
    return np.stack([first, 0.3 * second + first**2], -1)


@pytest.mark.parametrize("draws", [4, 20])
def test_rank_among_draws_of_any_shape_is_uniform(draws):
    rng = np.random.default_rng(3)
    made, y = banana(rng, draws, 4000), banana(rng, 4000)
    result = mahalanobis(made, y, seed=4)
    assert stats.kstest(result.pit, "uniform").pvalue > 0.01
    np.testing.assert_allclose(result.pit + result.pit_sf, 1, atol=1e-12)
    # The normal reference is not for bananas.
    assert stats.kstest(mahalanobis(made, y, reference="normal").pit, "uniform").pvalue < 1e-6
    assert stats.kstest(mahalanobis(made, 1.5 * y).pit, "uniform").pvalue < 1e-6


@pytest.mark.parametrize("draws", [5, 20])
def test_normal_reference_of_normal_draws_is_exact(draws):
    """Correlated normal targets; chi² in its place would be rejected, of 20 draws by far."""
    rng = np.random.default_rng(5)
    factor = np.array([[1.0, 0.0, 0.0], [0.9, 0.2, 0.0], [-0.4, 0.3, 2.0]])
    made, y = rng.normal(size=(draws, 4000, 3)) @ factor.T, rng.normal(size=(4000, 3)) @ factor.T
    result = mahalanobis(made, y, reference="normal")
    assert stats.kstest(result.pit, "uniform").pvalue > 0.01
    assert stats.kstest(stats.chi2.cdf(result.squared_distance, 3), "uniform").pvalue < 1e-6
    centred = y[0] - made[:, 0].mean(0)
    expected = centred @ np.linalg.inv(np.cov(made[:, 0].T)) @ centred
    assert float(result.squared_distance[0]) == pytest.approx(expected, rel=1e-8)


def test_many_draws_are_the_mixture():
    torch.manual_seed(6)
    one = Mixture.multivariate_normal(
        torch.zeros(40, 1).double(), torch.zeros(40, 1, 2).double(), torch.ones(40, 1, 2).double()
    )
    y = one.sample()
    exact = mahalanobis(one, y)
    found = mahalanobis(one.sample(torch.Size([20_000])), y, reference="normal")
    np.testing.assert_allclose(found.pit, exact.pit, atol=0.03)
    ranked = mahalanobis(one.sample(torch.Size([20_000])), y)
    np.testing.assert_allclose(ranked.pit, exact.pit, atol=0.03)


def test_units_do_not_matter():
    rng = np.random.default_rng(7)
    made, y, units = rng.normal(size=(30, 20, 3)), rng.normal(size=(20, 3)), np.array([1e-9, 1.0, 1e12])
    for reference in ("rank", "normal"):
        plain, scaled = (mahalanobis(made * f, y * f, reference=reference) for f in (1.0, units))
        np.testing.assert_allclose(plain.pit, scaled.pit, rtol=1e-8)


def test_arviz_data_and_blocks_give_what_arrays_give(monkeypatch, tmp_path):
    rng = np.random.default_rng(8)
    made, y = rng.normal(size=(15, 9, 2)), rng.normal(size=(9, 2))
    whole = mahalanobis(made, y)
    monkeypatch.setattr("posterity.inference.diagnostics.sources.draws.CHUNK", 50)
    data = from_groups(
        {
            "posterior_predictive": xr.Dataset({"y": (("chain", "draw", "obs", "axis"), made[None])}),
            "observed_data": xr.Dataset({"y": (("obs", "axis"), y)}),
        }
    )
    result = mahalanobis(data)
    np.testing.assert_allclose(result.pit, whole.pit, rtol=1e-12)
    result.to_netcdf(tmp_path / "result.nc", engine="h5netcdf")


def test_bad_input_is_refused():
    rng = np.random.default_rng(9)
    made, y = rng.normal(size=(15, 4, 2)), np.zeros((4, 2))
    with pytest.raises(ValueError, match="expected reference to be one of 'rank', 'normal', got 'chi2'"):
        mahalanobis(made, y, reference="chi2")
    with pytest.raises(ValueError, match="expected more draws than the 2 targets, got 2"):
        mahalanobis(made[:2], y)
    still = made.copy()
    still[:, 1, 0] = 3.0
    with pytest.raises(ValueError, match="expected draws whose covariance has an inverse, got 1 observations without"):
        mahalanobis(still, y)
    with pytest.raises(ValueError, match="expected draws whose covariance has an inverse, got 4 observations without"):
        mahalanobis(made[..., [0, 0]], y)
    heavy = Mixture(Categorical(logits=torch.zeros(2, 1)), Independent(StudentT(torch.full((2, 1, 2), 5.0)), 1))
    with pytest.raises(ValueError, match="expected normal components of several targets"):
        mahalanobis(heavy, torch.zeros(2, 2))
