"""Nested R-hat: against the definition written out, in its limits, and where superchains have not mixed."""

import math

import arviz
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr

from posterity.inference import HMC, infer
from posterity.inference.diagnostics import nested_rhat


def by_definition(values, superchains):
    """Margossian et al. 2024, section 2.2, in loops over superchains k and chains m."""
    size = len(values) // superchains
    means, within = [], []
    for k in range(superchains):
        chains = [list(values[k * size + m]) for m in range(size)]
        of_chains = [sum(c) / len(c) for c in chains]
        means.append(sum(of_chains) / size)
        between = np.var(of_chains, ddof=1) if size > 1 else 0.0
        inside = [np.var(c, ddof=1) if len(c) > 1 else 0.0 for c in chains]
        within.append(between + sum(inside) / size)
    return math.sqrt(1 + np.var(means, ddof=1) / np.mean(within))


@pytest.mark.parametrize(("superchains", "size", "draws"), [(4, 3, 5), (3, 4, 1), (6, 1, 7), (2, 2, 2)])
def test_it_is_the_definition(superchains, size, draws):
    values = np.random.default_rng(0).normal(size=(superchains * size, draws, 3)) * [1.0, 5.0, 0.1] + [0.0, 30.0, -1.0]
    found = nested_rhat(torch.as_tensor(values), superchains)
    assert found.nested_rhat.dims == ("point",)
    expected = [by_definition(values[..., point], superchains) for point in range(3)]
    np.testing.assert_allclose(found.nested_rhat, expected, rtol=1e-12)


def test_a_case_by_hand():
    """Means of superchains 1 and 5 (variance 8), of chains 0, 2 and 4, 6 (2 each), each chain +-1 (2): 1 + 8 / 4."""
    values = np.array([[-1.0, 1], [1, 3], [3, 5], [5, 7]])[..., None]
    assert float(nested_rhat(values, 2).nested_rhat[0]) == pytest.approx(math.sqrt(3))


@pytest.mark.parametrize(("size", "draws"), [(8, 1), (4, 10), (1, 20)])
@pytest.mark.parametrize("rank", [False, True])
def test_independent_draws_reach_the_stated_value(size, draws, rank):
    """R² - 1 = B / W has mean 1 / M for N = 1, and 1 / (M (N + 1)): over 200 points, to 5 standard errors; seed 1.

    W is of 400 superchains, so that the mean of the ratio is the ratio of the means. Of ranks the larger of two is
    taken, above the value by about half a standard deviation of B, which is sqrt(2 / 400) of it.
    """
    values = np.random.default_rng(1).normal(size=(400 * size, draws, 200))
    found = nested_rhat(values, 400, rank=rank)
    excess = found.nested_rhat.values**2 - 1
    expected = found.attrs["independent"] ** 2 - 1
    assert expected == pytest.approx({8: 1 / 8, 4: 1 / 44, 1: 1 / 20}[size])
    if rank:
        assert expected < excess.mean() < expected * (1 + 2 * math.sqrt(2 / 400))
    else:
        # 1 / 400 of it for the ratio of means.
        assert abs(excess.mean() - expected) < 5 * excess.std() / math.sqrt(200) + expected / 400


def test_one_chain_for_each_superchain_is_rhat():
    """R-hat without ranks and splitting has (N - 1) / N where nested R-hat has 1."""
    values = np.random.default_rng(2).normal(size=(6, 50, 4)) + np.linspace(0, 1, 6)[:, None, None]
    plain = arviz.rhat(xr.Dataset({"f": (("chain", "draw", "point"), values)}), method="identity")["f"]
    np.testing.assert_allclose(nested_rhat(values, 6).nested_rhat ** 2 - 1 / 50, plain**2, rtol=1e-10)


@pytest.mark.parametrize("rank", [False, True])
def test_one_superchain_that_is_stuck_elsewhere_is_found_at_its_point_alone(rank):
    """It is not found where the same number of chains, one of each superchain, is elsewhere: those are modes."""
    values = np.random.default_rng(3).normal(size=(64, 5, 3))
    values[8:16, :, 1] += 3.0
    values[::8, :, 2] += 3.0
    found = nested_rhat(values, 8, rank=rank)
    independent = found.attrs["independent"]
    assert found.nested_rhat[0] < independent + 0.02
    assert found.nested_rhat[1] > independent + 0.1
    assert found.nested_rhat[2] < independent + 0.02


def test_ranks_see_a_scale_that_differs_while_means_agree():
    values = np.random.default_rng(4).normal(size=(64, 50, 1))
    values[:8] *= 4.0
    assert nested_rhat(values, 8).nested_rhat[0] < 1.02
    assert nested_rhat(values, 8, rank=True).nested_rhat[0] > 1.05


def test_ranks_do_not_depend_on_the_unit():
    """Nor on heavy tails: x |x| has the same order, also about the median, which is 0 here for both."""
    values = np.random.default_rng(5).normal(size=(12, 5, 2))
    values[6:] = -values[:6]
    heavy = values * np.abs(values)
    xr.testing.assert_identical(*(nested_rhat(v, 4, rank=True) for v in (values, heavy)))
    assert not np.allclose(nested_rhat(values, 4).nested_rhat, nested_rhat(heavy, 4).nested_rhat, rtol=1e-3)


def test_arviz_data_have_their_other_dimensions_as_points():
    values = np.random.default_rng(6).normal(size=(2, 6, 5, 3))
    array = xr.DataArray(values, dims=("layer", "chain", "draw", "unit"))
    expected = nested_rhat(values.transpose(1, 2, 0, 3).reshape(6, 5, 6), 3)
    xr.testing.assert_identical(nested_rhat(array, 3), expected)
    assert nested_rhat(array[0, :, :, 0], 3).nested_rhat.shape == (1,)


def test_superchains_may_be_a_whole_number_of_numpy(tmp_path):
    values = np.random.default_rng(7).normal(size=(4, 5, 2))
    found = nested_rhat(values, superchains=np.int64(2))
    xr.testing.assert_identical(found, nested_rhat(values, superchains=2))
    found.to_netcdf(tmp_path / "nested.nc", engine="h5netcdf")


def test_superchains_that_stand_still_apart_are_infinitely_far():
    values = np.repeat(np.arange(4.0), 4)[:, None, None] * np.ones((1, 10, 1))
    assert float(nested_rhat(values, 4).nested_rhat[0]) == math.inf


def test_result_is_written_as_netcdf(tmp_path):
    nested_rhat(torch.randn(4, 3, 3), 2).to_netcdf(tmp_path / "nested.nc", engine="h5netcdf")


@pytest.mark.parametrize(
    ("values", "superchains", "message"),
    [
        (np.zeros((4, 100)), 2, r"expected values of shape \(chain, draw, points\), got \(4, 100\)"),
        (np.zeros((4, 0, 1)), 2, r"expected values of shape .* got \(4, 0, 1\)"),
        (np.zeros((4, 10, 1)), 1, "expected superchains to be a whole number of 2 or more, got 1"),
        (np.zeros((4, 10, 1)), 3, "expected superchains that 4 chains can fill equally, got 3"),
        (np.zeros((4, 10, 1)), [0, 0, 1, 1], r"superchains to be a whole number of 2 or more, got \[0, 0, 1, 1\]"),
        (np.zeros((4, 10, 1)), 2.0, "expected superchains to be a whole number of 2 or more, got 2.0"),
        (np.zeros((4, 10, 1)), True, "expected superchains to be a whole number of 2 or more, got True"),
        (np.zeros((4, 1, 1)), 4, "expected 2 draws or more in each superchain, got 1"),
        (np.full((4, 10, 3), np.nan), 2, "expected finite values, got 120 of 120"),
        (np.zeros((4, 10, 3)), 2, "expected values that differ between draws, got 3 points"),
        (np.zeros((4, 10, 3), complex), 2, "expected real numbers as values, got complex128"),
        (np.full((4, 10, 3), "1"), 2, "expected real numbers as values, got <U1"),
        (np.ma.masked_all((4, 10, 3)), 2, "expected values without a mask"),
        (xr.DataArray(np.zeros((4, 10)), dims=("chain", "step")), 2, "dimensions chain and draw, got .*step"),
    ],
)
def test_bad_input_is_refused(values, superchains, message):
    with pytest.raises(ValueError, match=message):
        nested_rhat(values, superchains)


# The sampler's side


def flat(x, y=None):
    w = pyro.sample("w", dist.Normal(x.new_zeros(2), 1.0).to_event(1))
    with pyro.plate("obs", len(x)):
        return pyro.sample("y", dist.Normal(x @ w, 1.0), obs=y)


X, Y = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0.5, -0.5])


def test_chains_of_a_superchain_start_from_one_point_and_part():
    """A tiny step and one draw: chains are where they started, but for a thousandth."""
    method = HMC(
        chains=6, superchains=3, warmup=0, draws=1, step_size=1e-4, trajectory_length=1e-3, engine="eager",
        threads=1, progress=False,
    )  # fmt: skip
    w = infer(flat, X, Y, method=method, seed=0).draws["w"][:, 0].view(3, 2, 2)
    inside, between = (w[:, 0] - w[:, 1]).norm(dim=-1), torch.pdist(w[:, 0])
    assert inside.min() > 0
    assert inside.max() < 0.02
    assert between.min() > 0.1


def test_nested_rhat_falls_as_chains_forget_their_start():
    settings = {"chains": 64, "superchains": 8, "step_size": 0.3, "engine": "eager", "threads": 1, "progress": False}
    early, late = (
        infer(flat, X, Y, method=HMC(warmup=0, draws=draws, thin=1, trajectory_length=0.3, **settings), seed=0)
        for draws in (1, 40)
    )
    last = late.draws["w"][:, -5:]
    assert nested_rhat(early.draws["w"], 8).nested_rhat.min() > 1.5
    found = nested_rhat(last, 8)
    assert found.nested_rhat.max() < math.sqrt(1 + 1 / 8) + 0.1


@pytest.mark.parametrize(
    ("superchains", "expected"),
    [(0, "to be a whole number of 1 or more"), (4, "that 6 chains can fill equally"), (1.5, "to be a whole number")],
)
def test_superchains_that_chains_cannot_fill_are_refused(superchains, expected):
    with pytest.raises(ValueError, match=f"expected superchains {expected}.*, got {superchains}"):
        HMC(chains=6, superchains=superchains)
