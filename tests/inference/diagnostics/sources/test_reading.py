"""Mixtures, arrays and ArviZ data become sources of the same observations; anything else is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import xarray as xr

from posterity.inference.arviz import from_arrays
from posterity.inference.diagnostics.sources.reading import (
    has_several_targets,
    is_array,
    is_mixture,
    read,
    require_mixture,
)
from posterity.models.mixtures import Mixture

RNG = np.random.default_rng(0)
DRAWS, Y = RNG.normal(size=(8, 3)), RNG.normal(size=3)
MIXTURE = Mixture.normal(torch.zeros(3, 2), torch.randn(3, 2), torch.ones(3, 2))
DATA = from_arrays(posterior_predictive={"y": DRAWS.reshape(2, 4, 3)}, observed_data={"y": Y})


def test_arrays_of_every_library_and_arviz_data_are_the_same_source():
    given = [(DRAWS, Y), (torch.tensor(DRAWS), torch.tensor(Y)), (xr.DataArray(DRAWS), xr.DataArray(Y)), (DATA, None)]
    for source, y in given:
        data = read(source, y)
        np.testing.assert_array_equal(data.draws(1, 0), DRAWS)
        np.testing.assert_array_equal(data.observed, Y)
        assert not data.has_density


def test_kinds_of_sources_are_told_apart():
    assert [read(MIXTURE, Y).kind, read(DRAWS, Y).kind, read(DATA).kind] == ["mixture", "draws", "arviz"]
    assert is_mixture(MIXTURE)
    assert not is_mixture(DRAWS)
    assert not is_mixture(torch.distributions.Normal(0.0, 1.0))
    assert is_array(torch.zeros(2))
    assert not is_array([0.0])


def test_a_source_is_returned_as_it_is_and_takes_no_other_y():
    source = read(DRAWS, Y)
    assert read(source) is source
    with pytest.raises(ValueError, match="expected neither y nor var_name with a source that was read before"):
        read(source, Y)


def test_y_that_is_not_needed_is_nan():
    assert np.isnan(read(DRAWS, needs_y=False).observed).all()
    assert np.isnan(read(MIXTURE, needs_y=False).observed).all()


def test_of_several_targets_arviz_data_have_the_last_dimension():
    data = from_arrays(posterior_predictive={"y": DRAWS.reshape(1, 4, 3, 2)}, observed_data={"y": Y[:, None] * [1, 2]})
    source = read(data, several=True)
    np.testing.assert_array_equal(source.observed, Y[:, None] * [1, 2])
    np.testing.assert_array_equal(source.draws(1, 0), DRAWS.reshape(4, 3, 2))
    assert has_several_targets(DRAWS.reshape(4, 3, 2))
    assert not has_several_targets(MIXTURE)


class Fit:
    def predictive(self) -> None: ...


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        ({}, {"y": Y}, r"expected a Mixture with y, an array of draws \(draws, N\) with y, or ArviZ data .* got dict$"),
        (Fit(), {"y": Y}, r"got Fit: give its predictive, posterior.predictive\(x\)"),
        (DATA, {"y": Y}, "expected no y with ArviZ data, which hold y in 'observed_data'"),
        (DRAWS, {"y": Y, "var_name": "y"}, "expected var_name only with ArviZ data, got 'y' with an array of draws"),
        (MIXTURE, {"y": Y, "target_dim": "d"}, "expected target_dim only with ArviZ data, got 'd' with a mixture"),
    ],
)
def test_other_sources_and_arguments_are_refused(source, arguments, message):
    with pytest.raises(ValueError, match=message):
        read(source, **arguments)


def test_a_mixture_is_required_where_draws_will_not_do():
    data = read(MIXTURE, Y)
    assert require_mixture(data, "pulls") is data
    with pytest.raises(ValueError, match="expected a Mixture for pulls, got draws, which have no density"):
        require_mixture(read(DRAWS, Y), "pulls")


class LikeAMixture:
    """Weights are computed when they are asked for, which may take seconds."""

    num_components = 2

    @property
    def log_weights(self):
        raise AssertionError("weights were computed")

    def responsibilities(self, y):
        raise AssertionError("responsibilities were computed")


def test_a_mixture_is_known_by_its_interface_without_computing_anything():
    assert is_mixture(MIXTURE)
    assert is_mixture(LikeAMixture())
    for other in (torch.distributions.Normal(0.0, 1.0), np.zeros(3), None, DATA, SimpleNamespace(num_components=2)):
        assert not is_mixture(other)
    with pytest.raises(ValueError, match="expected a Mixture, got LikeAMixture"):
        read(LikeAMixture(), np.zeros(3))
