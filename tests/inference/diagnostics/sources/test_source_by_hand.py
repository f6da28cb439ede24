"""A mixture and draws of it answer alike to all that a diagnostic asks."""

import numpy as np
import pytest
import torch

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
