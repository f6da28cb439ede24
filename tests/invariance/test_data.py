"""Tables and standardisations do not depend on units, offsets, the order of rows and the dtype.

A table is read, standardised and mapped back in other units of x and y (1e-9 to 1e9), shifted by a million standard
deviations, with its rows in another order, and in both dtypes. Each way in is one of the loaders below; each must give
the same standardised numbers as Python's fractions do.
"""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, Normal, StudentT

from posterity.data import Clusters, Observations, Standardization, bishop, cross_validation, read_csv, simulate_curve
from posterity.data.affine import affine

DOUBLE = torch.float64
COUNT = 40
X = [Fraction(i * i % 41, 8) for i in range(COUNT)]  # whole eighths, as a file may hold them
Y = [Fraction(i * 7 % 41, 4) - 3 for i in range(COUNT)]


def csv(x: list[float], y: list[float], folder: Path, **settings: str) -> Observations:
    delimiter, mark = settings.get("delimiter", ","), settings.get("decimal", ".")
    lines = [f"a{delimiter}b", *(f"{u!r}{delimiter}{v!r}".replace(".", mark) for u, v in zip(x, y, strict=True))]
    path = folder / "t.csv"
    path.write_text("\n".join(lines), encoding=settings.get("encoding", "utf-8"))
    return read_csv(path, "a", "b", **settings)


def column(x: list[float]) -> list[list[float]]:
    return [[value] for value in x]


LOADERS: dict[str, Callable[[list[float], list[float], Path], Observations]] = {
    "read_csv": csv,
    "read_csv of decimal commas": lambda x, y, folder: csv(x, y, folder, delimiter=";", decimal=","),
    "read_csv of UTF-16": lambda x, y, folder: csv(x, y, folder, encoding="utf-16"),
    "lists": lambda x, y, _: Observations(column(x), y),
    "arrays": lambda x, y, _: Observations(np.array(column(x)), np.array(y)),
    "an array and a list": lambda x, y, _: Observations(np.array(column(x)), y),
    "tensors": lambda x, y, _: Observations(torch.tensor(column(x), dtype=DOUBLE), torch.tensor(y, dtype=DOUBLE)),
}


def standardised(values: list[Fraction]) -> list[float]:
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / len(values)
    return [float(value - mean) / float(variance) ** 0.5 for value in values]


def spread(values: list[Fraction]) -> Fraction:
    mean = sum(values) / len(values)
    return Fraction(float(sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5)


UNITS = {
    "1e-9": Fraction(1, 10**9),
    "1e-3": Fraction(1, 1000),
    "1": Fraction(1),
    "1e6": Fraction(10**6),
    "1e9": Fraction(10**9),
}
SHIFTS = {"none": 0, "a million sd up": 1_000_000, "a million sd down": -1_000_000}


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("loader", LOADERS)
def test_units_and_offsets_change_nothing_but_the_units(loader: str, unit: str, shift: str, tmp_path: Path) -> None:
    """To 2e-9 sd in float64, where a million sd away the numbers of a file are rounded by 1e-10 sd; 1e-6 in float32."""
    scaled = {}
    for name, values in {"x": X, "y": Y}.items():
        origin = SHIFTS[shift] * spread(values)
        scaled[name] = [float(UNITS[unit] * (value + origin)) for value in values]
    table = LOADERS[loader](scaled["x"], scaled["y"], tmp_path)
    s = Standardization.fit(table)
    tolerance = 2e-9 if table.x.dtype == torch.float64 else 1e-6
    assert s.x(table.x)[:, 0].tolist() == pytest.approx(standardised(X), abs=tolerance)
    assert s.y(table.y).tolist() == pytest.approx(standardised(Y), abs=tolerance)
    back = s.inverse_y(s.y(table.y))
    rounding = 4 * torch.finfo(back.dtype).eps * float(table.y.abs().max())
    torch.testing.assert_close(back, table.y, rtol=0, atol=rounding)
    if shift != "none":
        assert table.x.dtype == torch.float64  # float32 has 17 values to a standard deviation there


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("shift", SHIFTS)
def test_a_score_in_other_units_differs_by_their_logarithm_alone(shift: str, unit: str) -> None:
    """log p(y) of a prediction made in standardised units, in float32, brought back: also a million sd from zero."""
    y = torch.tensor([float(UNITS[unit] * (value + SHIFTS[shift] * spread(Y))) for value in Y], dtype=torch.float64)
    s = Standardization.fit(Observations(torch.arange(float(COUNT)).double()[:, None], y))
    loc = torch.linspace(-2, 2, COUNT)
    weights = torch.tensor([0.3, 0.7]).expand(COUNT, 2)
    families = {
        "normal": Normal(loc, 0.1),
        "student": StudentT(4.0, loc, 0.1),
        "mixture": MixtureSameFamily(
            Categorical(weights), Normal(torch.stack([loc, -loc], -1), torch.full((COUNT, 2), 0.1))
        ),
    }
    exact = torch.tensor(standardised(Y), dtype=torch.float64)
    for family in families.values():
        wide = affine(family, torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64))
        expected = wide.log_prob(exact) - s.y_scale.log()
        # A rounding of y of 1e-10 sd moves a z of up to 40 at 0.1 sd by 4e-8; ten times that.
        torch.testing.assert_close(s.undo(family).log_prob(y), expected, rtol=1e-7, atol=4e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_the_order_of_rows_changes_nothing_but_the_order(dtype: torch.dtype) -> None:
    table = Observations(column([float(v) for v in X]), [float(v) for v in Y]).to(dtype=dtype)
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))
    one, other = Standardization.fit(table), Standardization.fit(table.subset(order))
    tolerance = {"rtol": 4 * torch.finfo(dtype).eps, "atol": 4 * torch.finfo(dtype).eps}
    torch.testing.assert_close(other.x(table.x), one.x(table.x), **tolerance)
    torch.testing.assert_close(other.y(table.y[order]), one.y(table.y)[order], **tolerance)


def test_both_dtypes_say_the_same() -> None:
    wide = Observations(np.array(column([float(v) for v in X])), [float(v) for v in Y])
    narrow = wide.to(dtype=torch.float32)
    one, other = Standardization.fit(wide), Standardization.fit(narrow)
    assert (one.y_scale.dtype, other.y_scale.dtype) == (torch.float64, torch.float32)
    torch.testing.assert_close(other.x(narrow.x).double(), one.x(wide.x), rtol=0, atol=1e-6)
    torch.testing.assert_close(other.y(wide.y), one.y(wide.y), rtol=0, atol=1e-6)


def test_splits_keep_the_digits() -> None:
    stamps = 1_700_000_000 + 10 * torch.arange(50)
    table = Observations(stamps[:, None], stamps % 7)
    for train, test in cross_validation(table, 5, seed=0):
        assert train.x.dtype == test.x.dtype == torch.float64
        assert len(torch.cat([train.x, test.x]).unique()) == 50
        scale = Standardization.fit(train)
        steps = scale.x(test.x).sort(0).values.diff(dim=0) * scale.x_scale
        assert (steps / 10).round().allclose(steps / 10, atol=1e-6)


@pytest.mark.parametrize("setting", ["far x", "far y", "little noise"])
def test_simulated_noise_is_not_lost_in_digits(setting: str) -> None:
    """Residuals over the stated sd are standard normal: mean square 1 within 5 standard errors, seed 0."""
    n, origin, height, noise = 2000, 0.0, 0.0, 0.1
    match setting:
        case "far x":
            origin = 1.7e9
        case "far y":
            height = 1e9
        case "little noise":
            noise = 1e-8

    def curve(x: Tensor) -> Tensor:
        return height + torch.sin(x - origin)

    data = simulate_curve(curve, n, noise=noise, interval=(origin, origin + 5), seed=0)
    truth = data.oracle(data.x)
    residual = (data.y - truth.mean) / truth.stddev
    assert abs(float((residual**2).mean()) - 1) < 5 * (2 / n) ** 0.5
    assert len(data.x.unique()) == n


@pytest.mark.parametrize("scale", [0.1, 1e-5])
def test_the_oracle_of_an_inverse_problem_with_little_noise_is_of_these_numbers(scale: float) -> None:
    """x - curve(t) over the scale is uniform on (-1, 1): rounded to float32 it would leave it, or lie on a grid."""
    data = bishop(2000, scale=scale, seed=0)
    t = data.y.double()
    residual = (data.x[:, 0].double() - t - 0.3 * torch.sin(2 * torch.pi * t)) / scale
    assert float(residual.abs().max()) < 1 + 1e-4
    assert abs(float((residual**2).mean()) - 1 / 3) < 5 * (4 / 45 / 2000) ** 0.5
    assert bool(data.oracle_log_prob().isfinite().all())


def test_clusters_far_from_zero_keep_their_width() -> None:
    clusters = Clusters(torch.tensor([[1e6, 0.0], [1e6, 1.0]], dtype=torch.float64), 0.01)
    draws = clusters.sample(4000, seed=0)
    _, away = clusters.nearest(draws)
    assert float((away**2).mean()) == pytest.approx(2, abs=5 * 2 / 4000**0.5)
    assert clusters.distribution.log_prob(draws).dtype == torch.float64
