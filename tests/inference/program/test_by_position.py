"""Arguments by keyword alone in positions, against Python's own calls."""

import functools

import pytest
import torch
from pyro.infer.autoguide import AutoNormal

from posterity.inference.program.by_position import Absent, by_position, called_as, parameters_of, takes


def plain(x, y=None):
    return x, y


def keyword(x, z=2, *, y, weight=1.0):
    return x, z, y, weight


def open_ended(*data, y=None, **further):
    return data, y, further


def test_a_model_without_keywords_alone_is_unchanged():
    assert by_position(plain, (1,), {"y": 2}) is plain
    assert by_position(lambda **data: data, (), {}) is not None


def test_calls_are_those_of_python():
    model = by_position(keyword, (1,), {"y": 3})
    assert model(1, 2, 3) == keyword(1, 2, y=3)
    assert model(1, 2, 3, 4.0) == keyword(1, 2, y=3, weight=4.0)
    assert [one.name for one in parameters_of(model)] == ["x", "z", "y", "weight"]
    assert model.__name__ == "keyword"
    many = by_position(open_ended, (1, 2), {"y": 3, "u": 4})
    assert many(1, 2, 3, 4) == open_ended(1, 2, y=3, u=4)
    assert many(1, 2) == open_ended(1, 2)
    assert many(1, 2, Absent, 4) == open_ended(1, 2, u=4)
    assert by_position(functools.partial(plain, y=5), (1,), {})(1) == (1, 5)


def test_the_arguments_of_a_module_are_those_of_its_forward():
    class Net(torch.nn.Module):
        def forward(self, x, *, y=None):
            return x, y

    assert by_position(Net(), (1,), {"y": 2})(1, 2) == (1, 2)
    assert takes(Net(), "y")
    assert not takes(Net(), "z")
    assert takes(open_ended, "u")
    assert not takes(open_ended, "u", reserved=["u"])
    assert takes(open_ended, "y", reserved=["y"])
    assert parameters_of(max) == []


def test_a_guide_is_called_as_its_model():
    model = by_position(keyword, (1,), {"y": 3})
    wrapped = functools.update_wrapper(lambda *args: model(*args), model, updated=())
    assert called_as(keyword, wrapped)(1, 2, 3, 4.0) == (1, 2, 3, 4.0)
    assert called_as(plain, plain) is plain
    with pytest.raises(ValueError, match=r"expected a function or the name of a guide .*, got AutoNormal"):
        called_as(AutoNormal(keyword), model)
