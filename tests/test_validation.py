"""Checks of arguments: every wording, and the values on both sides of each bound."""

import decimal
import math
import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posterity import validation
from posterity.validation import (
    check_callable,
    check_choice,
    check_fields,
    check_finite,
    check_flag,
    check_floating,
    check_integer,
    check_names,
    check_number,
    check_pair,
    check_real,
    check_seed,
    check_sizes,
    check_tensor,
    is_integer,
    is_number,
    is_positive,
    refuse_mask,
    shown,
    shown_shape,
    to_array,
    to_numbers,
)

NOT_NUMBERS = [None, "1", True, np.bool_(True), [1], torch.tensor(1.0), 1j, math.nan, decimal.Decimal(1)]
SPARSE = torch.eye(2).to_sparse()


@pytest.mark.parametrize("value", [*NOT_NUMBERS, math.inf, -math.inf, 2**63, -(2**63), np.float64("nan")])
def test_these_are_not_finite_numbers(value):
    assert not is_number(value)
    assert not is_positive(value)


@pytest.mark.parametrize("value", [1, 2.5, np.float32(0.5), np.int8(3), Fraction(1, 3), 2**63 - 1, 1e308])
def test_these_are_positive_numbers(value):
    assert is_number(value)
    assert is_positive(value)
    assert is_number(-value)
    assert not is_positive(-value)
    assert not is_positive(0)


def test_whole_numbers_are_of_an_integer_type():
    assert all(is_integer(value) for value in (0, -3, 2**70, np.uint8(1)))
    assert not any(is_integer(value) for value in (*NOT_NUMBERS, 1.0, np.float64(2)))


@pytest.mark.parametrize(
    ("bounds", "value", "message"),
    [
        ((), 1.0, "expected n to be a whole number, got 1.0"),
        ((), True, "expected n to be a whole number, got True"),
        ((1,), 0, "expected n to be a whole number of 1 or more, got 0"),
        ((1, 3), 4, "expected n to be a whole number from 1 to 3, got 4"),
        ((1, 3), 0, "expected n to be a whole number from 1 to 3, got 0"),
        ((), 2**53, f"expected n below 2**53, got {2**53}"),
        ((), -(2**53), f"expected n below 2**53, got {-(2**53)}"),
    ],
)
def test_a_whole_number_out_of_bounds_is_refused(bounds, value, message):
    with pytest.raises(ValueError) as error:
        check_integer("n", value, *bounds)
    assert str(error.value) == message


def test_a_whole_number_comes_back_as_an_int():
    for value in (1, np.int16(3), 2**53 - 1):
        found = check_integer("n", value, 1)
        assert type(found) is int
        assert found == value


FINITE = st.floats(-1e6, 1e6)


@given(FINITE, FINITE, st.sampled_from("[("), st.sampled_from(")]"), st.floats(allow_nan=True, allow_infinity=True))
@settings(max_examples=300, deadline=None)
def test_a_number_is_taken_exactly_where_its_interval_holds_it(one, other, left, right, value):
    low, high = sorted((one, other))
    for number in (value, low, high, math.nextafter(low, -math.inf), math.nextafter(high, math.inf), (low + high) / 2):
        inside = (low < number or (left == "[" and number == low)) and (
            number < high or (right == "]" and number == high)
        )
        interval = f"{left}{low!r}, {high!r}{right}"
        if inside:
            assert check_number("a", number, interval) == number
        else:
            with pytest.raises(ValueError, match=re.escape(f"expected a to be a number in {interval}, got {number!r}")):
                check_number("a", number, interval)


@pytest.mark.parametrize(
    ("interval", "value", "message"),
    [
        ("(-inf, inf)", math.inf, "expected a to be a finite number, got inf"),
        ("(-inf, inf)", "1", "expected a to be a finite number, got '1'"),
        ("(0, inf)", 0, "expected a to be a finite number above 0, got 0"),
        ("(0, inf)", math.inf, "expected a to be a finite number above 0, got inf"),
        ("[0, inf)", -1, "expected a to be a finite number of 0 or more, got -1"),
        ("(0, inf]", 0, "expected a to be a number in (0, inf], got 0"),
        ("(0, 1]", math.nan, "expected a to be a number in (0, 1], got nan"),
        ("(0, 1]", True, "expected a to be a number in (0, 1], got True"),
    ],
)
def test_a_number_outside_of_its_interval_is_refused(interval, value, message):
    with pytest.raises(ValueError) as error:
        check_number("a", value, interval)
    assert str(error.value) == message


def test_infinity_is_a_number_only_where_the_interval_holds_it():
    assert check_number("a", math.inf, "(0, inf]") == math.inf
    assert type(check_number("a", np.float32(0.5), "(0, 1]")) is float


@dataclass
class Settings:
    steps: int = 3
    rate: float = 0.1
    rank: int | None = None
    width: float | None = 1.0


def check(settings):
    check_fields(settings, counts=("steps", "rank"), positive=("rate", "width"))


def test_fields_are_checked_and_none_is_for_optional_ones():
    check(Settings())
    check(Settings(rank=2))
    for change, message in (
        ({"steps": 0}, "expected steps to be a whole number of 1 or more, got 0"),
        ({"steps": None}, "expected steps to be a whole number of 1 or more, got None"),
        ({"rank": 0}, "expected rank to be a whole number of 1 or more, got 0"),
        ({"rate": 0}, "expected rate to be a finite number above 0, got 0"),
        ({"width": None}, "expected width to be a finite number above 0, got None"),
    ):
        with pytest.raises(ValueError, match=message):
            check(Settings(**change))


@pytest.mark.parametrize("seed", [0, np.int64(7), 2**63 - 1])
def test_seeds_of_63_bits_are_taken(seed):
    assert check_seed(seed) == seed
    torch.Generator().manual_seed(check_seed(seed))
    np.random.default_rng(check_seed(seed))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_seed(-1), "expected seed to be a whole number of 0 or more, got -1"),
        (lambda: check_seed(1.0), "expected seed to be a whole number of 0 or more, got 1.0"),
        (lambda: check_seed(2**63), "expected seed below 2**63, got 9223372036854775808"),
        (lambda: check_choice("tier", "b", ("a", "c")), "expected tier to be one of 'a', 'c', got 'b'"),
        (lambda: check_choice("tier", ["a"], ("a", "c")), "expected tier to be one of 'a', 'c', got ['a']"),
        (lambda: check_flag("quick", 1), "expected quick to be True or False, got 1"),
        (
            lambda: check_pair("range", (1, 1)),
            "expected range to be two finite numbers (low, high) with low < high, got (1, 1)",
        ),
        (
            lambda: check_pair("range", "ab"),
            "expected range to be two finite numbers (low, high) with low < high, got 'ab'",
        ),
        (lambda: check_names("sites", ["a", 1]), "expected sites to be a list of strings, got ['a', 1]"),
        (lambda: check_names("sites", None), "expected sites to be a list of strings, got None"),
        (lambda: check_sizes("hidden", 3), "expected hidden to be a tuple of whole numbers, got 3"),
        (
            lambda: check_sizes("hidden", (3, 0)),
            "expected every number of hidden to be a whole number of 1 or more, got 0",
        ),
        (lambda: check_callable("f", 3, "the draws"), "expected f to be a function of the draws, got 3"),
        (lambda: check_finite("x", np.array([1, np.nan, np.inf])), "expected finite x, got 2 of 3 that are nan or infinite"),  # noqa: E501
        (lambda: check_finite("x", torch.tensor([torch.nan])), "expected finite x, got 1 of 1 that are nan or infinite"),  # noqa: E501
        (
            lambda: refuse_mask("x", np.ma.masked_less([1, 2], 2)),
            "expected x without a mask, got a masked array: remove the masked values",
        ),
        (lambda: to_numbers("x", ["a"]), "expected real numbers as x, got <U1"),
        (lambda: to_numbers("x", [1j]), "expected real numbers as x, got complex128"),
        (lambda: check_tensor("x", [1.0]), "expected x to be a tensor, got [1.0]"),
        (lambda: check_tensor("x", SPARSE), "expected x to be a tensor, got torch.float32 of shape (2, 2), torch.sparse_coo"),  # noqa: E501
        (lambda: check_floating("x", torch.tensor([1])), "expected x to be a floating tensor, got torch.int64 of shape (1,)"),  # noqa: E501
        (
            lambda: check_real("x", torch.tensor([1j])),
            "expected x to be a floating tensor, got torch.complex64 of shape (1,)",
        ),
    ],
)  # fmt: skip
def test_each_mistake_has_its_wording(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == message


def test_lists_that_are_no_array_are_refused():
    with pytest.raises(ValueError, match="expected y as an array, got list: "):
        to_array([[1], [2, 3]], "y")


def test_good_values_come_back():
    assert check_choice("tier", "a", ("a",)) == "a"
    assert check_flag("quick", np.bool_(True)) is True
    assert check_pair("range", np.array([1, 2])) == (1.0, 2.0)
    assert check_names("sites", "a") == ["a"]
    assert check_names("sites", np.array(["a", "b"])) == ["a", "b"]
    check_sizes("hidden", [3, np.int64(2)])
    check_sizes("hidden", ())
    check_callable("f", abs, "a number")
    check_finite("x", np.zeros(3, dtype=int))
    for value in (torch.zeros(2, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.float64)):
        check_tensor("x", value)
        check_floating("x", value)
    check_real("x", torch.tensor([True]))


@pytest.mark.parametrize("values", [[1, 2], (1.5, 2.5), np.arange(3, dtype="f4"), torch.ones(2, requires_grad=True), 3])
def test_arrays_keep_values_and_precision(values):
    array = to_array(values)
    plain = values.detach() if isinstance(values, torch.Tensor) else values
    np.testing.assert_array_equal(array, np.asarray(plain))
    assert array.dtype == np.asarray(plain).dtype
    assert to_numbers("x", values).dtype == np.float64


def test_values_are_shown_shortly():
    assert shown(torch.zeros(2, 3)) == "torch.float32 of shape (2, 3)"
    assert shown(np.zeros(2)) == "an array of float64 and shape (2,)"
    assert shown("a" * 58) == repr("a" * 58)  # 60 characters with the quotes
    assert shown("a" * 59) == "str"
    assert shown_shape(np.zeros((2, 1))) == "(2, 1)"
    assert shown_shape([1]) == "list"
    assert validation.LARGEST == 2**53
