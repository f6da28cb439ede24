"""Smoothed importance weights: in any order of rows, of few draws, and of densities far apart."""

import math

import numpy as np
import pytest
import xarray as xr
from scipy.special import logsumexp

from posterity.inference.arviz import from_arrays, from_groups, group
from posterity.inference.diagnostics.scoring.loo import loo
from tests.inference.diagnostics.scoring.loo_cases import (
    fitted,
    observations,
)


def test_blocks_of_rows_and_several_dimensions_in_any_order_change_nothing(monkeypatch):
    whole = loo(fitted(observations()))
    monkeypatch.setattr("posterity.inference.diagnostics.scoring._psis.CHUNK", 3 * 4000)
    xr.testing.assert_identical(loo(fitted(observations())), whole)
    data = fitted(observations())
    square = {
        "posterior": group(data, "posterior"),
        "log_likelihood": group(data, "log_likelihood")
        .assign_coords(row=np.arange(20))
        .coarsen(row=4)
        .construct(row=("a", "b"))
        .transpose("a", "draw", "b", "chain"),
    }
    found = loo(from_groups(square))
    assert found.elpd.dims == ("a", "b")
    np.testing.assert_array_equal(found.elpd.values.reshape(-1), whole.elpd)


def test_too_few_draws_for_a_tail_are_said_to_be():
    with pytest.warns(UserWarning, match="20 draws have no tail .* compare on held-out data"):
        found = loo(fitted(observations(), draws=5))
    assert np.isfinite(found.elpd).all()


def test_densities_further_apart_than_floats_reach_stay_finite():
    """A row from -20,000 to 0 nats: with a tail that no Pareto fits, elpd is minus the log mean of 1/p, as without."""
    y = observations(n=2)
    log_likelihood = np.stack([np.linspace(-20_000.0, 0, 400), np.full(400, -1.0)], 1)[None]
    data = from_arrays(
        posterior={"w": np.zeros((1, 400))}, log_likelihood={"y": log_likelihood}, observed_data={"y": y}
    )
    with pytest.warns(UserWarning, match=r"Pareto k of 2 of 2 observations .* \(highest inf\)"):
        found = loo(data)
    expected = math.log(400) - logsumexp(-log_likelihood[0], axis=0)
    np.testing.assert_allclose(found.elpd, expected, rtol=1e-12)
    assert found.elpd[0] < -19_990
