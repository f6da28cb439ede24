"""Every public diagnostic and plot, given bad arguments: each outcome is a result or a `ValueError` that names it.

A case is a call that works. Each of its arguments is replaced by each bad value in turn: wrong shapes and types, nan
and infinity, nothing, one row, an array with a mask. A result is right as well: a bad y may be a good seed.
"""

import re
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from matplotlib import pyplot as plt

from posterity.inference import arviz, diagnostics, plots
from posterity.models import Mixture
from tests.diagnostic_cases import ELSEWHERE, NAMES, SOURCE, N, S, cases


def bad_values(good: Any) -> Iterator[tuple[str, Any]]:
    """Names and values; of arrays and mixtures also what is nearly right."""
    yield from {
        "None": None,
        "text": "text",
        "empty list": [],
        "list": [1.0, 2.0],
        "dict": {},
        "object": object(),
        "nan": float("nan"),
        "inf": float("inf"),
        "-1": -1,
        "0": 0,
        "2.5": 2.5,
        "True": True,
        "huge": 10**30,
        "complex": 1j,
        "function": len,
        "empty": np.zeros(0),
        "empty rows": np.zeros((S, 0)),
        "no draws": np.zeros((0, N)),
        "one": np.ones(1),
        "scalar array": np.array(1.0),
        "texts": np.array(["a"] * N),
        "times": np.zeros(N, "datetime64[s]"),
        "complex array": np.ones(N, complex),
        "ragged": [[1.0], [1.0, 2.0]],
        "objects": np.array([None] * N),
        "list of text": ["a", "b"],
        "deep": np.zeros((2, 2, 2, 2, 2)),
        "Dataset": xr.Dataset(),
        "other Dataset": xr.Dataset({"a": ("b", [1.0])}),
        "DataArray": xr.DataArray(np.ones(N), dims="obs"),
        "masked": np.ma.masked_equal(np.arange(N) * 1.0, 3.0),
        "tensor": torch.ones(N),
        "empty tensor": torch.zeros(0),
        "gradient": torch.ones(N, requires_grad=True),
        "no data": arviz.from_arrays(posterior={"w": np.zeros((2, 5))}),
        "one row": Mixture.normal(torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1, 2)),
        "no rows": Mixture.normal(torch.zeros(0, 2), torch.zeros(0, 2), torch.ones(0, 2)),
        "scalar": Mixture.normal(torch.zeros(2), torch.zeros(2), torch.ones(2)),
        "batched twice": Mixture.normal(torch.zeros(3, 4, 2), torch.zeros(3, 4, 2), torch.ones(3, 4, 2)),
        "pairs": Mixture.multivariate_normal(torch.zeros(N, 2), torch.zeros(N, 2, 2), torch.ones(N, 2, 2)),
        "counts": Mixture(dist.Categorical(torch.ones(N, 2)), dist.Poisson(torch.ones(N, 2))),
        "angles": Mixture(dist.Categorical(torch.ones(N, 2)), dist.VonMises(torch.zeros(N, 2), torch.ones(N, 2))),
        "a distribution": dist.Normal(torch.zeros(N), torch.ones(N)),
    }.items()
    array = good.detach().numpy() if isinstance(good, torch.Tensor) else good
    if isinstance(array, np.ndarray):
        number = array.astype(float)
        yield from {
            "column": number[..., None],
            "shorter": number[:-1],
            "one row of it": number[:1],
            "turned": number.T,
            "as list": number.tolist(),
            "as float32": number.astype(np.float32),
            "as tensor": torch.as_tensor(number),
            "with nan": np.where(number == number.flat[0], np.nan, number),
            "all nan": number * np.nan,
            "with inf": np.where(number == number.flat[0], np.inf, number),
            "as whole": number.astype(int),
            "as text": number.astype(str),
            "masked of it": np.ma.masked_array(number, np.arange(number.size).reshape(number.shape) == 2),
        }.items()
    if isinstance(good, xr.Dataset):
        first = next(iter(good.data_vars))
        yield "without its first", good.drop_vars(first)
        yield "a variable of text", good.assign({first: good[first].astype(str)})
        yield "with nan", good.assign({first: good[first] * np.nan}) if good[first].dtype.kind == "f" else good
        for dim in good.dims:
            yield f"no {dim}", good.isel({dim: slice(0)})
            yield f"one {dim}", good.isel({dim: slice(1)})
            yield f"other {dim}", good.rename({dim: "else"})


def call(name: str, arguments: dict[str, Any]) -> None:
    function = getattr(diagnostics, name, None) or getattr(plots, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = dict(arguments)  # the arguments of a model are given by position
        by_place = [given.pop(name) for name in ("model", "inputs")] if "inputs" in given else []
        function(*by_place, **given)


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_argument_gives_a_result_or_an_error_that_names_it(name: str) -> None:
    if name == "waic" and not arviz.HAS_INFERENCE_DATA:
        pytest.skip("ArviZ 1.x has no WAIC")
    case, wrong, count = cases()[name], [], 0
    call(name, case.arguments)
    # Where two arguments do not fit, a message may name either of them.
    named = "|".join(rf"\b{argument.removesuffix('s')}" for argument in case.arguments)
    for argument, good in case.arguments.items():
        words = (
            case.words.get(argument, SOURCE if argument in ("source", "predictive", "mixture", "data") else "")
            or argument
        )
        for label, value in bad_values(good):
            count += 1
            try:
                call(name, {**case.arguments, argument: value})
            except ValueError as error:
                if not re.search(f"{named}|{words}", str(error)) or not re.search(
                    "expected .*got", str(error), re.DOTALL
                ):
                    wrong.append(f"{argument} = {label}: {type(error).__name__}: {str(error)[:160]}")
            except Exception as error:  # noqa: BLE001 - what this test is about
                wrong.append(f"{argument} = {label}: {type(error).__name__}: {str(error)[:160]}")
            plt.close("all")
    share = f"{count - len(wrong)} of {count} are a result or an error that names the argument"
    assert not wrong, share + ", not:\n" + "\n".join(wrong)


def test_the_table_has_every_public_name() -> None:
    public = {*diagnostics.__all__, *plots.__all__}
    assert public == {*cases(), *ELSEWHERE}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_an_option_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'no_option'"):
        call(name, {**cases()[name].arguments, "no_option": 1})
