"""Dtypes that keep the digits of a column, and dtypes that are refused."""

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from posterity.data import Observations


def oracle(x):
    return Normal(2 * x[:, 0], torch.full_like(x[:, 0], 0.5))


@pytest.fixture
def data() -> Observations:
    x = torch.tensor([[0.0, 1.0], [1.0, 1.0], [2.0, 3.0]])
    return Observations(x, torch.tensor([0.1, 2.0, 3.5]), ["dose", "age"], ["response"], oracle, "trial", "here")


STAMPS = 1_700_000_000 + 10 * np.arange(200)  # float32 steps by 128 there


LONG = {
    "int64 array": STAMPS,
    "list of integers": STAMPS.tolist(),
    "list of floats": STAMPS.astype(float).tolist(),
    "int64 tensor": torch.from_numpy(STAMPS),
    "uint32 tensor": torch.from_numpy(STAMPS.astype(np.uint32)),
    "digits without a merge": [1e9 + 70.4 * i for i in range(5)],
    "merged beside a zero": [0, *STAMPS.tolist()],
    "merged twins of full precision": [0.1, 0.1 + 1e-10, 5.0],
    "beyond float32": [1e40, 2e40],
    "below float32": [1e-40, 2e-40],
}


@pytest.mark.parametrize("column", ["x", "y"])
@pytest.mark.parametrize("kind", LONG)
def test_what_float32_would_merge_or_blur_stays_in_float64(kind, column):
    values = LONG[kind]
    other = [float(i % 7) for i in range(len(values))]
    if column == "y":
        data = Observations([[v] for v in other], values)
        kept, beside = data.y, data.x[:, 0]
    else:
        data = Observations(values[:, None] if hasattr(values, "ndim") else [[v] for v in values], other)
        kept, beside = data.x[:, 0], data.y
    assert kept.dtype == beside.dtype == torch.float64
    assert kept.tolist() == [float(v) for v in values]


def test_lists_beside_float64_keep_all_their_digits():
    assert Observations(np.ones((2, 1)), [0.1, 0.2]).y.tolist() == [0.1, 0.2]


def test_ordinary_lists_stay_in_float32():
    years, temperatures = list(range(1990, 2024)), [293.15 + i / 10 for i in range(34)]
    assert Observations([[v] for v in years], temperatures).x.dtype == torch.float32
    codes = [16_000_000 + i for i in range(34)]  # whole numbers below 2^24 are exact
    assert Observations([[v] for v in codes], years).x.dtype == torch.float32


def test_to_refuses_a_dtype_that_would_ruin_a_column():
    data = Observations(STAMPS[:, None], STAMPS % 1000, x_names=["time"])
    with pytest.raises(
        ValueError,
        match=r"expected a dtype that holds the values, got torch.float32: torch.float32 would leave 17 of the 200 "
        r"different values of column 'time', which range from 1700000000 to 1700001990",
    ):
        data.to(dtype=torch.float32)
    with pytest.raises(ValueError, match=r"float16 cannot hold 1e\+06 in column 'y'"):
        Observations([[1.0], [2.0]], [1.0, 1e6]).to(dtype=torch.float16)
    with pytest.raises(ValueError, match="would lose the digits of column 'x0'"):
        Observations([[1e9 + 70.4 * i] for i in range(5)], range(5)).to(dtype=torch.float32)
    # Of 100,000 measurements of 15 digits float32 makes some equal; which is not damage.
    many = torch.randn(100_000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert len(Observations(many, many[:, 0]).to(dtype=torch.float32).x.unique()) < 100_000
    with pytest.raises(ValueError, match="expected dtype to be a floating dtype of torch, got 'float32'"):
        data.to(dtype="float32")
    with pytest.raises(ValueError, match="expected device to be an available device, got 'nowhere'"):
        data.to("nowhere")
