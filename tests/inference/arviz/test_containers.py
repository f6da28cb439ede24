"""ArviZ data made from groups and arrays, looked into, written and read, in ArviZ 0.23 and 1.x."""

import arviz as az
import numpy as np
import pytest
import xarray as xr

from posterity.inference import arviz as boundary


def dataset(name="w", seed=0, *, size=4):
    values = np.random.default_rng(seed).normal(size=(2, 50, size))
    return xr.Dataset({name: (("chain", "draw", "row"), values)}, coords={"chain": [0, 1], "draw": np.arange(50)})


GROUPS = {"posterior": dataset(), "log_likelihood": dataset("y", 1)}


def test_groups_go_in_and_come_out():
    data = boundary.from_groups(GROUPS, {"method": "NUTS", "seed": 3})
    assert boundary.group_names(data) == ["posterior", "log_likelihood"]
    for name, values in GROUPS.items():
        xr.testing.assert_equal(boundary.group(data, name), values)
    assert data.attrs["method"] == "NUTS"
    assert data.attrs["seed"] == 3


def test_arviz_reads_them():
    summary = az.summary(boundary.from_groups(GROUPS), round_to="none")
    np.testing.assert_allclose(summary["mean"], GROUPS["posterior"]["w"].mean(("chain", "draw")), rtol=1e-9)


def test_a_missing_group_raises():
    with pytest.raises(ValueError, match=r"expected ArviZ data with a group 'prior', got groups \['posterior', 'log_"):
        boundary.group(boundary.from_groups(GROUPS), "prior")


@pytest.mark.parametrize("data", [3, {"posterior": 1}, xr.Dataset()], ids=lambda d: type(d).__name__)
def test_anything_else_raises(data):
    with pytest.raises(ValueError, match=rf"expected ArviZ data .* got {type(data).__name__}"):
        boundary.group_names(data)


def test_an_xarray_tree_is_arviz_data_too():
    tree = xr.DataTree.from_dict(GROUPS)
    assert boundary.group_names(tree) == ["posterior", "log_likelihood"]
    xr.testing.assert_equal(boundary.group(tree, "posterior"), GROUPS["posterior"])


def test_a_file_is_the_same_again_and_can_be_overwritten(tmp_path):
    path = tmp_path / "data.nc"
    for seed in (0, 1):
        data = boundary.from_groups({"posterior": dataset(seed=seed)}, {"seed": seed})
        assert boundary.save(data, path) == path
        back = boundary.load(path)
        xr.testing.assert_equal(boundary.group(back, "posterior"), dataset(seed=seed))
        assert back.attrs["seed"] == seed
    assert [p.name for p in tmp_path.iterdir()] == ["data.nc"]


def test_a_crash_while_writing_keeps_the_old_file(tmp_path, monkeypatch):
    path = boundary.save(boundary.from_groups(GROUPS), tmp_path / "data.nc")
    before = path.read_bytes()
    data = boundary.from_groups(GROUPS)

    def crash(self, target, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(type(data), "to_netcdf", crash)
    with pytest.raises(OSError, match="disk full"):
        boundary.save(data, path)
    assert path.read_bytes() == before


def test_arrays_become_groups_with_named_and_labelled_dimensions():
    rng = np.random.default_rng(0)
    w, y, draws = rng.normal(size=(4, 50, 3)), rng.normal(size=(5, 2)), rng.normal(size=(4, 50, 5, 2))
    data = boundary.from_arrays(
        posterior={"w": w, "b": w[..., 0]},
        posterior_predictive={"y": draws},
        log_likelihood={"y": draws[..., 0]},  # of both targets together
        observed_data={"y": y},
        dims={"y": ["row", "target"]},
        coords={"target": ["left", "right"]},
        attrs={"method": "NUTS"},
    )
    assert boundary.group_names(data) == ["posterior", "posterior_predictive", "log_likelihood", "observed_data"]
    assert boundary.group(data, "posterior")["w"].dims == ("chain", "draw", "w_dim_0")
    assert boundary.group(data, "log_likelihood")["y"].dims == ("chain", "draw", "row")
    predictive = boundary.group(data, "posterior_predictive")["y"]
    np.testing.assert_array_equal(predictive.sel(target="right", row=3), draws[:, :, 3, 1])
    np.testing.assert_array_equal(boundary.group(data, "observed_data")["y"].sel(target="left"), y[:, 0])
    assert dict(data.attrs) == {"method": "NUTS"}


def test_draws_of_no_chain_are_stored_as_one_and_said_so():
    """Both versions summarise them and take their leave-one-out; without a chain 1.x does neither."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(200, 2))
    data = boundary.from_arrays(posterior={"w": w}, log_likelihood={"y": np.sin(w)}, chains=False)
    assert boundary.group(data, "posterior").sizes == {"chain": 1, "draw": 200, "w_dim_0": 2}
    assert data.attrs["sampling"] == "independent draws, stored as one chain"
    np.testing.assert_allclose(az.summary(data, kind="stats", round_to="none")["mean"], w.mean(0), rtol=1e-9)
    assert np.isfinite(az.loo(data).se)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "expected at least one group"),
        ({"posterior": 3}, "expected posterior to be values by name, .* got int"),
        ({"posterior": None}, "expected posterior to be values by name, .* got NoneType"),
        ({"posterior": {"w": np.zeros((4, 5))}, "dims": ["w"]}, "expected dims to be values by name, .* got list"),
        ({"observed_data": {"y": np.ma.masked_all(3)}}, r"expected observed_data\['y'\] without a mask"),
        ({"posterior": {"w": np.zeros(3)}}, r"expected posterior\['w'\] of shape \(chain, draw, ...\), got \(3,\)"),
        (
            {"posterior": {"w": np.zeros((4, 5, 3))}, "dims": {"w": ["a", "b"]}},
            r"dimensions \['a', 'b'\], got \(4, 5, 3",
        ),
        (
            {"posterior": {"w": np.zeros((4, 5)), "b": np.zeros((4, 6))}},
            r"with one length of each dimension, got b .*6",
        ),
        (
            {"posterior": {"w": np.zeros((4, 5, 3))}, "coords": {"w_dim_0": [1]}},
            "with one length of each dimension, got w",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        boundary.from_arrays(**settings)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"dims": {"w": ["obs"], "v": ["obs"]}}, r"expected dims of the variables \['w'\], got others: \['v'\]"),
        ({"coords": {"osb": [1, 2]}}, r"expected coords of the dimensions .*'w_dim_0'.*, got others: \['osb'\]"),
    ],
)
def test_names_that_fit_nothing_are_refused(more, message):
    """A mistyped one would leave its dimension without labels."""
    with pytest.raises(ValueError, match=message):
        boundary.from_arrays(posterior={"w": np.zeros((2, 5, 2))}, **more)
