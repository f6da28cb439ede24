"""What every kind of source promises: probabilities, quantiles, draws, and coordinates of observations."""

import numpy as np
import pytest
import torch
import xarray as xr

from posterity.inference import PredictiveMixture
from posterity.inference.arviz import from_arrays
from posterity.inference.diagnostics import calibration_tests, interval_score, pit, pulls, scores
from posterity.inference.diagnostics.sources.reading import read
from posterity.inference.diagnostics.sources.source import Source
from posterity.models.mixtures import Mixture

N, S = 30, 400
RNG = np.random.default_rng(0)
Y = RNG.normal(size=N)
DRAWS = RNG.normal(size=(S, N))
LIKELIHOOD = Mixture.normal(torch.zeros(5, N, 2), torch.randn(5, N, 2, generator=torch.Generator().manual_seed(0)),
                            torch.ones(5, N, 2))  # fmt: skip
INPUTS = {
    "mixture": (Mixture.normal(torch.zeros(N, 2), torch.tensor([-1.0, 1.0]), torch.tensor(1.0)).expand([N]), Y),
    "predictive": (PredictiveMixture.from_draws(LIKELIHOOD), Y),
    "draws": (DRAWS, Y),
    "tensor": (torch.as_tensor(DRAWS), torch.as_tensor(Y)),
    "arviz": (
        from_arrays(
            posterior_predictive={"y": DRAWS.reshape(4, S // 4, N)},
            log_likelihood={"y": -0.5 * (DRAWS.reshape(4, S // 4, N) - Y) ** 2},
            observed_data={"y": Y},
        ),
    ),
}


@pytest.fixture(params=INPUTS)
def source(request: pytest.FixtureRequest) -> Source:
    return read(*INPUTS[request.param])


def test_both_tails_sum_to_one_and_quantiles_invert_them(source):
    lower, upper = source.tails(seed=0)
    np.testing.assert_allclose(lower + upper, 1, rtol=1e-12)
    levels = np.array([0.1, 0.5, 0.9])
    quantiles = source.quantiles(levels)
    assert quantiles.shape == (3, N)
    assert (np.diff(quantiles, axis=0) > 0).all()
    for level, quantile in zip(levels, quantiles, strict=True):
        # The tail at y is above the level where y is above the quantile; a rank is random within one step.
        sure = np.abs(lower - level) > 1.5 / S
        np.testing.assert_array_equal((lower > level)[sure], (source.observed > quantile)[sure])


def test_draws_have_the_moments_of_the_source(source):
    mean, sd = source.moments()
    count = source.draw_count(4000)
    drawn = source.draws(4000, seed=1)
    assert drawn.shape == (count, N)
    assert np.abs((drawn.mean(0) - mean) / (sd / np.sqrt(count))).max() < 4.5
    chunks = list(source.draw_chunks(4000, seed=1))
    np.testing.assert_array_equal(np.concatenate([np.arange(N)[rows] for rows, _ in chunks]), np.arange(N))
    assert sum(part.shape[1] for _, part in chunks) == N
    assert sum(len(sets) for sets in source.replicates(50, seed=2)) == source.draw_count(50)


def test_a_density_goes_with_the_kind_of_pit(source):
    assert source.has_density == (source.kind == "mixture")
    assert source.default_pit_kind == ("cdf" if source.has_density else "rank")
    assert not source.is_constant().any()
    ranked = source.as_draws(100, seed=3)
    assert ranked.default_pit_kind == "rank"
    assert ranked.num_draws == (100 if source.has_density else S)
    np.testing.assert_array_equal(ranked.observed, source.observed)


@pytest.mark.parametrize("name", INPUTS)
def test_a_source_that_was_read_gives_what_its_input_gives(name):
    given = INPUTS[name]
    for diagnostic in (pit, pulls, scores, interval_score, calibration_tests):
        xr.testing.assert_identical(diagnostic(read(*given)), diagnostic(*given))


def test_results_have_the_dimensions_of_the_observations():
    y = xr.DataArray(np.zeros((4, 3)), dims=("day", "place"), coords={"day": [3, 2, 1, 0]})
    data = from_arrays(
        posterior_predictive={"y": np.zeros((2, 5, 4, 3))}, observed_data={"y": y.values}, dims={"y": ["day", "place"]},
        coords={"day": [3, 2, 1, 0]},
    )  # fmt: skip
    found = read(data).dataset({"a": np.arange(12)}, unit="m")
    assert found.a.dims == ("day", "place")
    np.testing.assert_array_equal(found.day, y.day)
    assert found.attrs == {"unit": "m"}
    np.testing.assert_array_equal(found.a, np.arange(12).reshape(4, 3))
