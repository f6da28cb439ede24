"""Rules that join tensors, or write one into a copy of another, against torch: values and gradients."""

import torch

from posterity.inference.engine.lanes.expressions import Input
from posterity.inference.engine.lanes.rules.pieces import cat
from tests.inference.engine.lanes.rules.cases import both, check


@both
def test_pieces_compute_what_torch_does(dtype, monkeypatch):
    check("pieces", dtype, monkeypatch)


def test_empty_tensors_are_left_out_of_a_concatenation():
    q = Input("q", (3, 4))
    joined = cat([torch.empty(0), q, torch.zeros(3, 2)], -1)
    assert joined.shape == (3, 6)
    assert [offset for _, offset in joined.source.pieces] == [0, 4]
