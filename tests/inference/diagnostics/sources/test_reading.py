"""Which source an input is read as, and which inputs are refused."""

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

ONE = Mixture.normal(torch.zeros(3, 1), torch.zeros(3, 1), torch.ones(3, 1))
TWO = Mixture.multivariate_normal(torch.zeros(3, 1), torch.zeros(3, 1, 2), torch.ones(3, 1, 2))
DATA = from_arrays(posterior_predictive={"y": np.zeros((2, 5, 3, 2))}, observed_data={"y": np.zeros((3, 2))})


class LikeAMixture:
    """Weights are computed when they are asked for, which may take seconds."""

    num_components = 2

    @property
    def log_weights(self):
        raise AssertionError("weights were computed")

    def responsibilities(self, y):
        raise AssertionError("responsibilities were computed")


def test_a_mixture_is_known_by_its_interface_without_computing_anything():
    assert is_mixture(ONE)
    assert is_mixture(LikeAMixture())
    for other in (torch.distributions.Normal(0.0, 1.0), np.zeros(3), None, DATA, SimpleNamespace(num_components=2)):
        assert not is_mixture(other)
    with pytest.raises(ValueError, match="expected a Mixture, got LikeAMixture"):
        read(LikeAMixture(), np.zeros(3))


def test_arrays_are_those_of_numpy_xarray_and_torch():
    assert all(is_array(values) for values in (np.zeros(3), xr.DataArray(np.zeros(3)), torch.zeros(3)))
    assert not any(is_array(values) for values in ([0.0], ONE, DATA, xr.Dataset()))


def test_several_targets_are_seen_in_events_and_in_the_shape_of_draws():
    assert has_several_targets(TWO)
    assert has_several_targets(np.zeros((5, 3, 2)))
    assert not any(has_several_targets(source) for source in (ONE, np.zeros((5, 3)), DATA, read(ONE, np.zeros(3))))


def test_the_kind_is_that_of_the_input():
    assert read(ONE, np.zeros(3)).kind == "mixture"
    assert read(np.zeros((5, 3)), np.zeros(3)).kind == "draws"
    assert read(DATA).kind == "arviz"
    source = read(DATA, several=True)
    assert source.observed.shape == (3, 2)
    assert source.template.shape == (3,)


def test_y_may_be_left_out_where_it_is_not_needed():
    for source in (ONE, np.ones((5, 3))):
        data = read(source, needs_y=False)
        assert np.isnan(data.observed).all()
        assert np.isfinite(data.quantiles(np.array([0.5]))).all()


def test_a_source_is_returned_as_it_is_and_takes_no_other_y():
    data = read(ONE, np.zeros(3))
    assert read(data) is data
    with pytest.raises(ValueError, match="expected neither y nor var_name with a source that was read before"):
        read(data, np.zeros(3))


def test_a_mixture_is_required_by_name():
    data = read(ONE, np.zeros(3))
    assert require_mixture(data, "a density") is data
    with pytest.raises(ValueError, match="expected a Mixture for a density, got draws, which have no density"):
        require_mixture(read(np.zeros((5, 3)), np.zeros(3)), "a density")


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        ("text", {}, r"expected a Mixture with y, an array of draws \(draws, N\) with y, or ArviZ data .* got str"),
        ("text", {"needs_y": False}, r"expected a Mixture, an array of draws \(draws, N\), or ArviZ data .* got str"),
        (SimpleNamespace(predictive=None), {}, r"got SimpleNamespace: give its predictive, posterior.predictive\(x\)"),
        (
            ONE,
            {"y": np.zeros(3), "target_dim": "a"},
            "expected target_dim only with ArviZ data, got 'a' with a mixture",
        ),
        (DATA, {"y": np.zeros(3)}, "expected no y with ArviZ data, which hold y in 'observed_data', got y"),
        (DATA, {"target_dim": "a", "several": True}, "expected target_dim to be one of several dimensions"),
    ],
)
def test_other_inputs_are_refused(source, settings, message):
    with pytest.raises(ValueError, match=message):
        read(source, **settings)
