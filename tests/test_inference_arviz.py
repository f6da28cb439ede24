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


@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.sort_values")  # ArviZ 0.23 with pandas 4
def test_held_out_scores_are_compared_by_arviz():
    """The better model first, their difference and its standard error as computed by hand."""
    rng = np.random.default_rng(0)
    scores = {name: xr.DataArray(rng.normal(mean, 1.0, 100), dims="row") for name, mean in (("a", -2), ("b", -1))}
    elpd = {name: boundary.elpd_data(value, n_samples=50) for name, value in scores.items()}
    table = az.compare(elpd, method="BB-pseudo-BMA" if boundary.HAS_INFERENCE_DATA else "stacking")
    assert list(table.index) == ["b", "a"]
    column = "elpd_loo" if "elpd_loo" in table else "elpd"
    np.testing.assert_allclose(table.loc["a", column], scores["a"].sum(), rtol=1e-3)
    difference = (scores["b"] - scores["a"]).values
    np.testing.assert_allclose(table.loc["a", "elpd_diff"], difference.sum(), rtol=1e-2)
    np.testing.assert_allclose(table.loc["a", "dse"], np.sqrt(100 * difference.var()), rtol=5e-2)
