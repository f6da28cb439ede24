"""Rules that rearrange elements, against torch: values and gradients."""

import pytest
import torch

from posterity.inference.engine.lanes.expressions import Input
from posterity.inference.engine.lanes.rules.views import select, sliced, unsqueeze
from tests.inference.engine.lanes.rules.cases import both, check

Q = Input("q", (3, 4))


@both
def test_views_compute_what_torch_does(dtype, monkeypatch):
    check("views", dtype, monkeypatch)


def test_a_slice_of_everything_is_the_value():
    assert sliced(Q, 1, 0, 4) is Q
    assert sliced(Q, -1) is Q
    assert sliced(Q, 1, 0, 100) is Q


@pytest.mark.parametrize(("start", "end", "step"), [(1, 3, 1), (-2, None, 1), (0, 4, 2), (3, 1, 1), (1, 100, 2)])
def test_a_slice_has_the_shape_of_torchs(start, end, step):
    assert sliced(Q, 1, start, end, step).shape == tuple(torch.empty(3, 4)[:, slice(start, end, step)].shape)


def test_dimensions_count_from_either_end():
    assert select(Q, -1, -1).shape == select(Q, 1, 3).shape == (3,)
    assert unsqueeze(Q, -1).shape == unsqueeze(Q, 2).shape == (3, 4, 1)
