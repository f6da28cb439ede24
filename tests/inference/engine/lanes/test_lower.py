"""From recorded operations to expressions: data are computed once, and what has no rule is named."""

import pytest
import torch

from posterity.inference.engine.lanes.expressions import Constant, Unsupported, Value
from posterity.inference.engine.lanes.rules import RULES
from tests.inference.engine.lanes.cases import SIZE, lowered


def constants(value, seen=None):
    """All constants that an expression reads."""
    seen = {} if seen is None else seen
    if id(value) not in seen:
        seen[id(value)] = value
        for parent in value.parents():
            constants(parent, seen)
    return [v for v in seen.values() if isinstance(v, Constant)]


def test_operations_on_data_are_computed_here_also_those_without_a_rule():
    """A sorted table and its eigenvalues: the expression reads their sum, one number for each row."""
    data = torch.linspace(-1, 1, SIZE)
    table = torch.eye(SIZE) + data

    def function(q):
        return q * (torch.sort(data, descending=True).values + torch.linalg.eigvals(table).real)

    _, values = lowered(function, SIZE, torch.float32)
    expected = torch.sort(data, descending=True).values + torch.linalg.eigvals(table).real
    assert any(torch.allclose(one.tensor, expected) for one in constants(values) if one.tensor.numel() == SIZE)


def test_an_unknown_operation_is_named():
    with pytest.raises(Unsupported, match="operation sort"):
        lowered(lambda q: q.sort().values, SIZE, torch.float32)


def test_numbers_of_higher_precision_than_the_density_are_not_rounded():
    with pytest.raises(Unsupported, match=r"numbers of torch.float64 among torch.float32"):
        lowered(lambda q: (q.double() * 2).float(), SIZE, torch.float32)


def test_lower_precision_is_computed_in_that_of_the_density():
    _, values = lowered(lambda q: (q.float() * 2).double(), SIZE, torch.float64)
    assert isinstance(values, Value)
    assert values.shape == (SIZE,)


def test_a_rule_of_another_shape_is_not_used(monkeypatch):
    """What a rule returns is compared with the shape that torch recorded."""
    monkeypatch.setitem(RULES, "exp", lambda x: Constant(torch.zeros(())))
    with pytest.raises(Unsupported, match=r"operation exp of shape \(12,\)"):
        lowered(torch.exp, SIZE, torch.float32)
