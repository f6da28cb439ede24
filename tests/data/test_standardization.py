import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
import torch.distributions as td
from hypothesis import given
from hypothesis import strategies as st
from torch.fx.experimental.proxy_tensor import make_fx

from posterity.data import Observations, Standardization


@pytest.fixture
def data() -> Observations:
    rng = np.random.default_rng(1)
    return Observations(rng.normal([5.0, -2.0], [3.0, 0.1], (50, 2)), rng.normal(100, 15, 50), ["age", "dose"])


@pytest.fixture
def two_targets(data) -> Observations:
    return Observations(data.x, torch.stack([data.y, 0.01 * data.y**2], -1))


def test_standardised_columns_have_mean_zero_and_deviation_one(data, two_targets):
    for table in (data, two_targets):
        s = Standardization.fit(table)
        for values in (s.x(table.x), s.y(table.y)):
            torch.testing.assert_close(values.mean(0), torch.zeros_like(values[0]), atol=1e-12, rtol=0)
            torch.testing.assert_close(values.std(0, correction=0), torch.ones_like(values[0]))


def test_the_way_back_is_the_inverse(data, two_targets):
    for table in (data, two_targets):
        s = Standardization.fit(table)
        torch.testing.assert_close(s.inverse_x(s.x(table.x)), table.x)
        torch.testing.assert_close(s.inverse_y(s.y(table.y)), table.y)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.lists(st.floats(-10, 10), min_size=2, max_size=20))
def test_there_and_back_at_any_place_and_scale(loc, scale, values):
    place, spread = torch.tensor([loc], dtype=torch.float64), torch.tensor([scale], dtype=torch.float64)
    s = Standardization(place, spread, place[0], spread[0])
    z = torch.tensor(values, dtype=torch.float64)
    # One rounding at the size of y is 1e-16 |y| / scale in units of z.
    tolerance = 1e-14 * (1 + abs(loc) / scale)
    torch.testing.assert_close(s.y(s.inverse_y(z)), z, rtol=1e-12, atol=tolerance)
    torch.testing.assert_close(s.x(s.inverse_x(z[:, None])), z[:, None], rtol=1e-12, atol=tolerance)


def test_a_narrow_float32_column_far_from_zero_keeps_its_spread():
    x = (torch.arange(1000) % 2 * 2 + 1_000_000.0)[:, None]  # 1,000,000 and 1,000,002: standard deviation 1
    assert Standardization.fit(Observations(x, torch.arange(1000.0))).x_scale.item() == pytest.approx(1.0)


def test_constant_columns_are_named(data):
    x = data.x.clone()
    x[:, 1] = 0.1
    with pytest.raises(ValueError, match=r"expected columns that vary, got 0\.1 in all 50 rows of 'dose'"):
        Standardization.fit(Observations(x, data.y, ["age", "dose"]))
    with pytest.raises(ValueError, match="got 3 in all 50 rows of 'weight'"):
        Standardization.fit(Observations(data.x, torch.full((50,), 3.0), y_names=["weight"]))
    with pytest.raises(ValueError, match="expected columns that vary, got 2 in all 1 rows of 'x0'"):
        Standardization.fit(Observations([[2.0]], [1.0]))


def test_identity_changes_nothing(data, two_targets):
    s = Standardization.identity(2)
    assert s.x(data.x).equal(data.x)
    assert s.inverse_y(data.y).equal(data.y)
    assert Standardization.identity(2, targets=2).y(two_targets.y).equal(two_targets.y)


def test_the_wider_dtype_wins(data):
    s, narrow = Standardization.fit(data), Standardization.fit(data.to(dtype=torch.float32))
    assert s.x(data.x.float()).dtype == s.y(data.y.float()).dtype == torch.float64
    assert narrow.y(data.y).dtype == Standardization.identity(2).inverse_x(data.x).dtype == torch.float64
    assert narrow.x(data.x.float()).dtype == narrow.x(data.x.long()).dtype == torch.float32
    assert s.x(data.x.numpy()).equal(s.x(data.x))


@pytest.mark.parametrize("target", ["x", "y"])
def test_time_stamps_are_standardised_before_they_are_narrowed(target):
    """Ten seconds apart in 2023: float32 steps by 128 seconds there. Exact values from Python's fractions."""
    stamps = 1_700_000_000 + 10 * torch.arange(200)
    table = Observations(stamps[:, None], stamps)
    s = Standardization.fit(table)
    exact = [(i - 99.5) / ((200**2 - 1) / 12) ** 0.5 for i in range(200)]
    values = {"x": stamps[:, None], "y": stamps}[target]
    for table_values in (values, values.double()):
        standardised = getattr(s, target)(table_values).flatten()
        assert standardised.float().tolist() == pytest.approx(exact, abs=1e-6)
        back = getattr(s, f"inverse_{target}")(standardised.reshape(values.shape))
        torch.testing.assert_close(back, values.double(), rtol=0, atol=1e-5)
    narrow = Standardization(*(t.float() for t in (s.x_loc, s.x_scale, s.y_loc, s.y_scale)))
    steps = getattr(narrow, target)(values).flatten().diff()  # a map of float32: its mean is off, its steps are not
    torch.testing.assert_close(steps, torch.full_like(steps, 10 / float(s.y_scale)), rtol=0, atol=1e-5)


def test_a_float32_table_far_from_zero_gets_a_map_in_float64():
    """At 1,000,000 float32 steps by 1/16: a mean rounded to it would shift predictions of y by as much."""
    y = (1_000_000 + torch.arange(100) / 16.0).float()
    s = Standardization.fit(Observations(torch.arange(100.0)[:, None], y))
    assert (s.x_loc.dtype, s.y_loc.dtype) == (torch.float32, torch.float64)
    assert s.y_loc.item() == 1_000_000 + 99 / 32
    back = s.undo(td.Normal(torch.tensor([0.001]), torch.tensor([0.001])))
    assert back.loc.item() == pytest.approx(1_000_000 + 99 / 32 + 0.001 * s.y_scale.item(), abs=1e-8)


@pytest.mark.parametrize("unit", [1e-200, 1e-30, 1e200])
def test_moments_of_any_unit(unit):
    y = unit * torch.arange(5.0, dtype=torch.float64)
    s = Standardization.fit(Observations(torch.arange(5.0)[:, None], y))
    assert (s.y_loc / unit).item() == pytest.approx(2)
    assert (s.y_scale / unit).item() == pytest.approx(2**0.5)


def test_wrong_shapes_are_refused(data, two_targets):
    s, t = Standardization.fit(data), Standardization.fit(two_targets)
    with pytest.raises(ValueError, match=r"expected x of shape \(..., 2\), got \(50,\)"):
        s.x(data.x[:, 0])
    with pytest.raises(ValueError, match=r"expected x of shape \(..., 2\), got \(50, 1\)"):
        s.inverse_x(data.x[:, :1])
    with pytest.raises(ValueError, match=r"expected y of shape \(..., 2\), got \(50,\)"):
        t.y(data.y)
    with pytest.raises(ValueError, match=r"expected a distribution of event shape \(2,\), .* got \(\)"):
        t.undo(td.Normal(torch.zeros(2), torch.ones(2)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_loc": torch.tensor(0.0)}, r"x_loc and x_scale of one shape \(\) or \(features,\), got \(\) and \(1,\)"),
        ({"y_loc": torch.zeros(2)}, r"y_loc and y_scale of one shape \(\) or \(targets,\), got \(2,\) and \(\)"),
        ({"y_scale": torch.tensor(0.0)}, "finite positive y_scale, got 0.0 and 0.0"),
        ({"x_scale": torch.tensor([torch.nan])}, r"finite positive x_scale, got \[0.0\] and \[nan\]"),
        ({"x_loc": [0.0]}, "expected x_loc to be a floating tensor, got list"),
        ({"y_scale": torch.tensor(2)}, "expected y_scale to be a floating tensor, got torch.int64"),
        ({"y_loc": torch.tensor(torch.inf)}, "finite y_loc .* got inf and 1.0"),
    ],
)
def test_wrong_parameters_are_refused(change, message):
    good = {
        "x_loc": torch.zeros(1),
        "x_scale": torch.ones(1),
        "y_loc": torch.tensor(0.0),
        "y_scale": torch.tensor(1.0),
    }
    with pytest.raises(ValueError, match=message):
        Standardization(**(good | change))


def test_what_cannot_be_mapped_is_named(data):
    s = Standardization.fit(data)
    with pytest.raises(ValueError, match="expected y to be real numbers, got dtype <U1"):
        s.y(["a"])
    with pytest.raises(ValueError, match="expected distribution to be one of torch's or Pyro's, got NoneType"):
        s.undo(None)
    with pytest.raises(ValueError, match="expected observations to be Observations, got Tensor"):
        Standardization.fit(data.x)
    with pytest.raises(ValueError, match="expected features to be a whole number of 1 or more, got 0"):
        Standardization.identity(0)


@pytest.mark.parametrize("lib", [td, dist], ids=["torch", "pyro"])
def test_undo_brings_the_density_back_to_the_units_of_y(data, two_targets, lib):
    s = Standardization.fit(data)
    mixing = lib.Categorical(logits=torch.zeros(50, 3))
    mixture = lib.MixtureSameFamily(mixing, lib.Normal(torch.randn(50, 3).double(), torch.ones(50, 3).double()))
    back = s.undo(mixture)
    assert type(back) is type(mixture)
    torch.testing.assert_close(back.log_prob(data.y), mixture.log_prob(s.y(data.y)) - s.y_scale.log())
    torch.testing.assert_close(back.mean, s.inverse_y(mixture.mean))

    t = Standardization.fit(two_targets)
    joint = lib.MultivariateNormal(torch.zeros(50, 2).double(), torch.tensor([[1.0, 0.9], [0.9, 1.0]]).double())
    expected = joint.log_prob(t.y(two_targets.y)) - t.y_scale.log().sum()
    torch.testing.assert_close(t.undo(joint).log_prob(two_targets.y), expected)


def test_undo_names_the_family_it_cannot_move(data):
    with pytest.raises(ValueError, match=r"expected a location-scale family .* got Poisson"):
        Standardization.fit(data).undo(td.Poisson(torch.ones(50)))


def build(lib, family, loc):
    pair = torch.stack([loc, loc + 1], -1)
    match family:
        case "normal":
            return lib.Normal(loc, 1.0)
        case "uniform":
            return lib.Uniform(loc - 1, loc + 1)
        case "student":
            return lib.StudentT(4.0, loc, 1.0)
        case "mixture":
            return lib.MixtureSameFamily(lib.Categorical(logits=pair), lib.Normal(pair, torch.ones(2)))
        case _:
            return lib.MultivariateNormal(pair, scale_tril=torch.eye(2).expand(*loc.shape, 2, 2))


@pytest.mark.parametrize("lib", [td, dist], ids=["torch", "pyro"])
@pytest.mark.parametrize("family", ["normal", "uniform", "student", "mixture", "joint"])
def test_undo_can_be_mapped_and_captured(lib, family, monkeypatch):
    monkeypatch.setattr(td.Distribution, "_validate_args", False)  # as the engine does: checks branch on values
    if family == "joint":
        s = Standardization(torch.zeros(1), torch.ones(1), torch.tensor([3.0, -1.0]), torch.tensor([2.0, 0.1]))
    else:
        s = Standardization(torch.zeros(1), torch.ones(1), torch.tensor(3.0), torch.tensor(2.0))
    y = s.y_loc + torch.zeros(5, *s.y_loc.shape)

    def log_prob(loc):
        return s.undo(build(lib, family, loc)).log_prob(y)

    draws = torch.linspace(-0.5, 0.5, 15).reshape(3, 5)
    one_by_one = torch.stack([log_prob(loc) for loc in draws])
    torch.testing.assert_close(torch.func.vmap(log_prob)(draws), one_by_one)
    captured = make_fx(torch.func.vmap(log_prob))(torch.zeros(3, 5))
    torch.testing.assert_close(captured(draws), one_by_one)  # nothing was frozen at the values of the capture


@pytest.mark.parametrize("dtype", [torch.uint8, torch.long, torch.bool])
def test_one_location_and_scale_of_whole_numbers_are_not_whole_numbers(dtype):
    x = torch.tensor([[0, 1], [1, 1], [0, 1]]).to(dtype)
    scale = Standardization.whole(x, torch.tensor([0, 1, 3]))
    assert float(scale.x_loc) == pytest.approx(4 / 6)
    assert float(scale.y_scale) == pytest.approx(math.sqrt(14 / 9))
    torch.testing.assert_close(scale.x(x).double().mean(), torch.tensor(0.0).double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("bad", [torch.zeros(0), torch.tensor([1.0, math.nan]), torch.tensor([1.0, math.inf])])
def test_what_has_no_location_is_refused(bad):
    with pytest.raises(ValueError, match="expected finite values of x, at least one, got shape"):
        Standardization.whole(bad, torch.randn(3))
    with pytest.raises(ValueError, match="expected finite values of y"):
        Standardization.whole(torch.randn(3), bad)
