"""Dictionaries of data: their leaves, and the same dictionaries with other tensors."""

from collections import OrderedDict

import torch

from posterity.inference.program.nested import leaves, map_leaves, tensors_in, with_tensors

X, Y = torch.zeros(2), torch.ones(3)
DATA = OrderedDict(x=X, size=3, of={"y": Y, "name": "a"})


def test_leaves_have_names():
    assert [(name, leaf) for name, leaf in leaves(DATA)] == [("x", X), ("size", 3), ("of.y", Y), ("of.name", "a")]
    assert list(leaves(X, "x")) == [("x", X)]


def test_a_function_of_the_leaves_keeps_the_dictionary_and_changes_a_copy():
    changed = map_leaves(lambda label, leaf: label, DATA, "data")
    assert type(changed) is OrderedDict
    assert changed["of"] == {"y": "data['of']['y']", "name": "data['of']['name']"}
    assert DATA["of"]["y"] is Y


def test_tensors_are_replaced_in_order():
    args = (Y, DATA, "text", None)
    assert [id(tensor) for tensor in tensors_in(args)] == [id(Y), id(X), id(Y)]
    one, data, *rest = with_tensors(args, [X, Y, X])
    assert one is X
    assert data["x"] is Y
    assert data["of"]["y"] is X
    assert rest == ["text", None]
