"""Rules of elementwise operations against torch: values and gradients."""

import pytest
import torch

from posterity.inference.engine.lanes.expressions import Constant, Input, Pointwise, View
from posterity.inference.engine.lanes.rules.pointwise import add, div, mul, sub, where
from tests.inference.engine.lanes.cases import compiled
from tests.inference.engine.lanes.rules.cases import both, check, refused

Q = Input("q", (3,))
ZEROS, ONES = torch.zeros(3), torch.ones(3)


@both
@pytest.mark.parametrize("group", ["functions", "pointwise", "logic"])
def test_elementwise_rules_compute_what_torch_does(group, dtype, monkeypatch):
    check(group, dtype, monkeypatch)


def test_what_changes_nothing_is_not_computed():
    for value in (add(Q, ZEROS), add(ZEROS, Q), sub(Q, ZEROS), mul(Q, ONES), mul(ONES, Q), div(Q, ONES)):
        assert value is Q
    assert isinstance(add(torch.zeros(2, 3), Q), View)  # but broadcast
    assert where(Constant(torch.tensor([True, True, True])), Q, 7.0) is Q


def test_zero_times_a_value_is_zero_only_of_finite_ones():
    """Zero times nan is nan: the product with a mask is known, that with a latent value is computed."""
    mask = Pointwise("({0} > fill((S)0.0))", Q, mask=True)
    assert isinstance(mul(ZEROS, mask), Constant)
    assert isinstance(mul(ZEROS, torch.arange(3.0)), Constant)
    assert isinstance(mul(ZEROS, Q), Pointwise)
    assert isinstance(mul(ZEROS, torch.tensor([1.0, torch.inf, 2.0])), Pointwise)


def test_operations_on_whole_numbers_are_refused():
    refused(lambda q: q.div(2.0, rounding_mode="floor"), "operation floor_divide|integer division|operation floor")
    refused(lambda q: q.to(torch.int32) * q, "conversion to torch.int32")


@pytest.mark.parametrize("name", ["sin", "cos", "erf"])
def test_vectors_of_functions_are_accurate_everywhere(name):
    """Within four roundings of float32 of the value in float64, far from zero too, and as torch at infinity and nan.

    For sin and cos the absolute error counts, as beyond 8192 the argument itself is rounded.
    """
    function = getattr(torch, name)
    call = compiled(function, 512, torch.float32, 8)
    near, far = torch.linspace(-40, 40, 3584), torch.linspace(-8190, 3e5, 508)
    x = torch.cat([near, far, torch.tensor([torch.inf, -torch.inf, torch.nan, -0.0])]).reshape(8, 512)
    result, expected = call.gradient(x)[1], function(x.double())
    finite = expected.isfinite()
    assert ((result - expected).abs()[finite] < 4 * torch.finfo(torch.float32).eps).all()
    assert torch.equal(result.isnan(), expected.isnan())
