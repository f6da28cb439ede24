"""Observed sites and inputs as variables: shared and own dimensions, names of inputs."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference.export import ArvizNames
from posterity.inference.export_sites import export_sites, input_dataset, name_coordinate, numbered
from posterity.inference.program.likelihood import score_sites

X = torch.arange(4.0)
KEPT = torch.tensor([True, False, True, True])


def model(x, y, z, u):
    w = pyro.sample("w", dist.Normal(0.0, 1.0))
    with pyro.plate("obs", len(x)):
        pyro.sample("y", dist.Normal(w * x, 1.0), obs=y)
        with pyro.poutine.mask(mask=KEPT):
            pyro.sample("z", dist.Normal(w * x, 1.0), obs=z)
    pyro.sample("u", dist.Normal(w, 1.0), obs=u)


def scores(sites=("y", "z", "u")):
    return score_sites(model, (X, X, X, X[0]), {"w": torch.zeros(5)}, sites)[0]


def test_sites_with_the_same_rows_share_a_dimension_and_others_have_their_own():
    exported = export_sites(ArvizNames(["y", "z", "u"]), scores(), None)
    assert {name: one.dims for name, one in exported.items()} == {"y": ("obs",), "z": ("obs_z",), "u": ()}
    assert exported["z"].coords["obs_z"][1].tolist() == [0, 2, 3]
    assert exported["y"].coords["obs"][1].tolist() == [0, 1, 2, 3]


def test_a_site_that_is_masked_is_left_out_and_all_masked_raise(monkeypatch):
    monkeypatch.setattr(f"{__name__}.KEPT", torch.zeros(4, dtype=torch.bool))
    assert set(export_sites(ArvizNames(["y", "z", "u"]), scores(), None)) == {"y", "u"}
    with pytest.raises(ValueError, match="expected observations that the model scores, got 4, all masked out"):
        export_sites(ArvizNames(["z"]), scores(["z"]), None)


def test_inputs_are_numbered_and_data_of_a_dictionary_keep_their_keys():
    assert numbered((X, "a"), [("w",)]) == {"x": (X, ("w",))}
    assert list(numbered((X, 3, X), [None], without=[])) == ["x0", "x1"]
    data = {"x": X, "of": {"u": X}, "n": 3}
    assert list(numbered((data, X), [])) == ["x", "of.u", "x1"]


def test_inputs_of_other_lengths_have_dimensions_of_their_own():
    groups = torch.zeros(2)
    dataset = input_dataset(ArvizNames(["x0", "x1"]), {"x0": (groups, None), "x1": (X, None)}, None, ("obs",))
    assert {name: variable.dims for name, variable in dataset.items()} == {"x0": ("x0_dim",), "x1": ("obs",)}


def test_names_are_coordinates_of_one_dimension_of_their_number():
    assert name_coordinate(("d",), ("a", "b"), (2,)) == {"d": ("d", ["a", "b"])}
    assert name_coordinate(("d",), ("a", "b"), (3,)) == name_coordinate((), ("a",), ()) == {}
