"""Index expressions against NumPy's, with integers in the place of C variables; constants and their literals."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posterity.inference.engine.lanes.expressions import (
    Buffer,
    Constant,
    FreshNames,
    Input,
    Pointwise,
    Scope,
    broadcast_index,
    integers_at,
    linear,
    literal,
    reshaped,
)


def evaluate(expression, values=None):
    """The value of a C expression of integers."""
    return eval(expression.replace("/", "//"), {}, values or {})


def elements(value, name="q"):
    """The positions in ``q`` that each element of a value reads."""
    found = np.empty(value.shape, dtype=int)
    for index in itertools.product(*map(range, value.shape)):
        text = value.at(tuple(map(str, index)), Scope(FreshNames()))
        found[index] = evaluate(text.removeprefix(f"{name}[").removesuffix("]"))
    return found


SHAPES = [(12,), (3, 4), (4, 3), (2, 6), (2, 3, 2), (1, 12), (3, 1, 4), (12, 1), (1, 2, 1, 6), (6, 2, 1), (2, 2, 3)]


@pytest.mark.parametrize("old", SHAPES, ids=str)
def test_a_reshaped_value_has_the_elements_of_numpys(old):
    for new in SHAPES:
        expected = np.arange(12).reshape(new)
        np.testing.assert_array_equal(elements(reshaped(Input("q", old), new)), expected, err_msg=str(new))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_the_linear_position_is_numpys(shape, data):
    index = tuple(data.draw(st.integers(0, size - 1)) for size in shape)
    names = [f"i{d}" for d in range(len(shape))]
    found = evaluate(linear(shape, tuple(names)), dict(zip(names, index, strict=True)))
    assert found == np.ravel_multi_index(index, shape)


def test_an_argument_is_read_as_it_is_broadcast():
    a = Input("q", (3, 1))
    total = Pointwise("({0})", a)
    assert total.shape == (3, 1)
    assert broadcast_index((3, 1), ("i", "j")) == ("i", "0")
    assert broadcast_index((4,), ("i", "j")) == ("j",)
    assert Pointwise("({0} + {1})", a, Input("q", (4,))).shape == (3, 4)


@pytest.mark.parametrize(("number", "text"), [
    (0.1, "(S)0.1"), (-2.0, "(S)-2.0"), (math.inf, "INF"), (-math.inf, "-INF"), (math.nan, "NOT_A_NUMBER"),
    (1e-300, "(S)1e-300"),
])  # fmt: skip
def test_literals_are_c(number, text):
    assert literal(number) == text


def test_constants_that_repeat_are_stored_once():
    """Expanded dimensions, and tensors of one value; data that differ stay as they are."""
    data = torch.arange(4.0)
    assert Constant(data[None].expand(3, 4)).tensor.shape == (1, 4)
    assert Constant(torch.full((3, 4), 2.5)).uniform == 2.5
    assert Constant(data).uniform is None
    assert Constant(torch.zeros(0)).tensor.shape == (0,)
    scope = Scope(FreshNames())
    expanded = Constant(data[None].expand(3, 4))
    assert expanded.at(("i", "j"), scope) == "fill(K0[j])"
    assert expanded.at(("i", "k"), scope) == "fill(K0[k])"
    assert len(scope.names.floats) == 1  # one array, however often it is read
    assert Constant(torch.tensor([True, False])).at(("i",), scope) == "(fill(K1[i]) != 0)"


def test_the_same_element_is_computed_once_in_a_loop():
    scope = Scope(FreshNames())
    value = Pointwise("v_exp({0})", Input("q", (4,)))
    assert value.at(("i",), scope) == value.at(("i",), scope)
    assert value.at(("j",), scope) != value.at(("i",), scope)
    assert scope.lines == ["V t1 = v_exp(q[i]);", "V t2 = v_exp(q[j]);"]


def test_a_stored_value_is_read_from_its_buffer_but_where_that_is_filled():
    names = FreshNames()
    value = Pointwise("v_exp({0})", Input("q", (4,)))
    names.stored[id(value)] = buffer = Buffer(value, (4,))
    buffer.name = "b0"
    assert value.at(("i",), Scope(names)) == "b0[i]"
    names.filling = buffer
    assert value.at(("i",), Scope(names)) == "t1"


def test_integer_arrays_are_shared_and_single_ones_written_out():
    names, positions = SimpleNamespace(integers=[]), torch.tensor([3, 0, 2])
    assert integers_at(names, positions, ("i",)) == "J0[i]"
    assert integers_at(names, positions, ("j",)) == "J0[j]"
    assert integers_at(names, torch.tensor([7]), ("0",)) == "7"
