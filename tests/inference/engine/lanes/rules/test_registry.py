"""The table of rules, and the functions that many rules use."""

import torch

from posterity.inference.engine.lanes.expressions import Constant, Input, Pointwise
from posterity.inference.engine.lanes.rules import RULES
from posterity.inference.engine.lanes.rules.registry import as_mask, as_value, expanded, floats, is_constant, rule
from tests.inference.engine.lanes.rules.cases import GROUPS, OWN_RULES

Q = Input("q", (3, 1))
ABOVE = Pointwise("({0} > fill((S)0.0))", Q, mask=True)


def test_every_rule_is_in_the_table():
    """A rule that no case calls is untested, or unreachable because torch takes its operation apart."""
    assert set(RULES) == set().union(*OWN_RULES.values())
    assert OWN_RULES.keys() == GROUPS.keys()


def test_a_rule_is_registered_under_all_its_names(monkeypatch):
    monkeypatch.setitem(RULES, "one", None)
    monkeypatch.setitem(RULES, "two", None)
    assert rule("one", "two")(floats) is floats
    assert RULES["one"] is RULES["two"] is floats


def test_numbers_and_tensors_are_constants_of_the_precision_of_the_density():
    assert as_value(Q) is Q
    assert as_value(2.5).uniform == 2.5
    assert as_value(torch.ones(3), torch.float64).tensor.dtype == torch.float64
    assert as_value(torch.tensor([1, 2]), torch.float64).tensor.dtype == torch.int64
    assert as_value(True).mask
    assert not as_value(1).mask


def test_constants_are_told_by_their_number():
    assert is_constant(Constant(torch.zeros(2, 2)), 0)
    assert not is_constant(Constant(torch.zeros(2, 2)), 1)
    assert not is_constant(Constant(torch.tensor([0.0, 1.0])), 0)
    assert not is_constant(Constant(torch.tensor(False)), 0)  # a mask is no number
    assert not is_constant(Q, 0)


def test_masks_and_numbers_become_each_other_where_they_are_not_yet():
    assert floats(Q) is Q
    assert as_mask(ABOVE) is ABOVE
    assert not floats(ABOVE).mask
    assert as_mask(Q).mask


def test_a_value_is_expanded_only_where_it_changes():
    assert expanded(Q, (3, 1)) is Q
    assert expanded(Q, (3, 4)).shape == expanded(Q, (4,)).shape == (3, 4)
