"""A mixture and draws of it answer alike to all that a diagnostic asks."""

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

S = 20_000


@pytest.fixture
def pair() -> tuple[Source, Source]:
    """A mixture with y, and 20,000 draws of it with the same y."""
    mixture = Mixture.normal(torch.randn(5, 2), torch.randn(5, 2), torch.rand(5, 2) + 0.5)
    source = read(mixture, mixture.sample().double())
    return source, source.as_draws(S, seed=1)


def test_tails_and_moments_agree_within_five_standard_errors(pair):
    exact, drawn = pair
    lower, upper = exact.tails(0)
    np.testing.assert_allclose(lower + upper, 1, rtol=1e-12)
    assert (np.abs(drawn.tails(0)[0] - lower) < 5 * np.sqrt(lower * upper / S) + 2 / S).all()
    (mean, sd), (mean_drawn, sd_drawn) = exact.moments(), drawn.moments()
    assert (np.abs(mean_drawn - mean) < 5 * sd / np.sqrt(S)).all()
    np.testing.assert_allclose(sd_drawn, sd, rtol=5 * np.sqrt(3 / S))


def test_quantiles_have_their_probability(pair):
    probabilities = np.array([0.1, 0.5, 0.9])
    exact, drawn = pair
    below = (drawn.draws(S, 0)[None] <= exact.quantiles(probabilities)[:, None]).mean(1)
    error = 5 * np.sqrt(probabilities * (1 - probabilities) / S)
    assert (np.abs(below - probabilities[:, None]) < error[:, None]).all()


def test_kind_of_pit_number_of_draws_and_names(pair):
    exact, drawn = pair
    assert (exact.default_pit_kind, drawn.default_pit_kind) == ("cdf", "rank")
    assert (exact.draw_count(7), drawn.draw_count(7)) == (7, S)
    for source in pair:
        result = source.dataset({"y": source.observed}, unit="m")
        assert result["y"].dims == ("obs",)
        assert result.attrs == {"unit": "m"}
        assert not source.is_constant().any()


def test_an_incomplete_source_cannot_be_made():
    with pytest.raises(TypeError, match="abstract"):
        Source()


SETS, ROWS = 400, 30
RNG = np.random.default_rng(0)
Y, DRAWS = RNG.normal(size=ROWS), RNG.normal(size=(SETS, ROWS))
LOC = torch.randn(5, ROWS, 2, generator=torch.Generator().manual_seed(0))
INPUTS = {
    "mixture": (Mixture.normal(torch.zeros(2), torch.tensor([-1.0, 1.0]), torch.tensor(1.0)).expand([ROWS]), Y),
    "predictive": (PredictiveMixture.from_draws(Mixture.normal(torch.zeros(2), LOC, torch.ones(5, ROWS, 2))), Y),
    "draws": (DRAWS, Y),
    "tensor": (torch.as_tensor(DRAWS), torch.as_tensor(Y)),
    "arviz": (
        from_arrays(
            posterior_predictive={"y": DRAWS.reshape(4, SETS // 4, ROWS)},
            log_likelihood={"y": -0.5 * (DRAWS.reshape(4, SETS // 4, ROWS) - Y) ** 2},
            observed_data={"y": Y},
        ),
    ),
}


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
