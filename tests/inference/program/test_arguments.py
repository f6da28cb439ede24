"""Arguments of a model: arrays and lists as tensors, names and positions, arguments that are None."""

import numpy as np
import pytest
import torch

from posterity.inference.program.arguments import (
    bind_arguments,
    check_arguments,
    describe_arguments,
    describe_none_arguments,
    none_arguments,
    read_arguments,
    replace_argument,
)


def model(x, z=None, weight=1.0, *, keyword=None, y=None):
    return x


def plain(x, z=None, weight=1.0, y=None):
    return x


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ">f8", np.int16, np.uint8, bool])
def test_arrays_keep_values_and_dtype_and_are_copied(dtype):
    array = np.arange(6).reshape(3, 2).astype(dtype)
    (read,) = read_arguments((array,))
    np.testing.assert_array_equal(read.numpy(), array)
    assert read.numpy().dtype == np.dtype(dtype).newbyteorder("=")
    array[:] = 0
    assert float(read.max()) > 0


def test_lists_of_the_length_of_the_data_become_tensors_and_other_values_stay():
    x = torch.zeros(3, dtype=torch.float64)
    x_read, y, sizes, text, rows = read_arguments((x, [1, 2, 3], [1, 2], "a", [[1.0, 2.0]] * 3))
    assert x_read is x
    assert y.dtype == torch.int64
    assert sizes == [1, 2]
    assert text == "a"
    assert rows.shape == (3, 2)
    assert read_arguments(([1.0, 2.0],))[0].dtype == torch.get_default_dtype()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((torch.zeros(2), []), "expected data, got an empty list as argument 1"),
        ((torch.zeros(0, 3),), r"expected data, got an empty argument 0 of shape \(0, 3\)"),
        ((torch.zeros(2) + 0j,), "expected real numbers, got argument 0 of torch.complex64"),
        ((torch.tensor([1.0, torch.nan, torch.inf]),), "expected finite values, got 2 that are not in argument 0"),
        (({"a": {"b": torch.tensor([torch.nan])}},), r"got 1 that are not in argument 0\['a'\]\['b'\]"),
    ],
)
def test_data_that_cannot_be_used_are_refused(args, message):
    with pytest.raises(ValueError, match=message):
        check_arguments(args)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.ma.masked_less(np.arange(3.0), 1), "expected argument 0 without a mask, got a masked array"),
        (np.array(["a", "b"]), "expected argument 0 of real numbers, got an array of <U1"),
        ([[1.0], [2.0, 3.0]], "expected argument 0 with rows of one length, got a list of different ones"),
    ],
)
def test_arrays_that_are_not_numbers_are_refused(value, message):
    with pytest.raises(ValueError, match=message):
        read_arguments((value,))


def test_names_are_put_in_their_positions_with_the_defaults_between():
    assert bind_arguments(plain, (1,), {}) == ((1,), [])
    assert bind_arguments(plain, (1,), {"y": 4}) == ((1, None, 1.0, 4), ["z", "weight"])
    assert bind_arguments(plain, (), {"z": 2, "x": 1}) == ((1, 2), [])
    with pytest.raises(TypeError, match=r"unexpected arguments \['w'\] by name: the model has no argument"):
        bind_arguments(plain, (1,), {"w": 2})
    with pytest.raises(TypeError, match=r"unexpected arguments \['x'\] by name: the model got them by position too"):
        bind_arguments(plain, (1,), {"x": 2})
    with pytest.raises(ValueError, match=r"expected the model's arguments \['x'\] beside \['z'\], got none"):
        bind_arguments(plain, (), {"z": 2})


def test_arguments_that_are_none():
    assert none_arguments(plain, (1, None)) == {"z": True, "y": False}
    assert describe_none_arguments(plain, (1, None)) == " (not given: 'z', 'y')"
    assert describe_none_arguments(plain, (1, 2, 3, 4)) == ""
    assert none_arguments(model, (1,)) == {"z": False, "keyword": False, "y": False}
    assert none_arguments(max, (1,)) == {}  # without a signature
    assert replace_argument(plain, (1,), "y", 4) == (1, None, 1.0, 4)
    assert replace_argument(plain, (1, 2, 3), "z", 4) == (1, 4, 3)


def test_a_description_has_shapes_and_types():
    assert describe_arguments((torch.zeros(2, 3), None, "a")) == "(2, 3) float32, None, str"
