"""Tiles: with a margin as wide as the reach of a network, the result is that of the whole image."""

import pytest
import torch
from torch import nn

from posterity.models.super_resolution import super_resolution
from posterity.models.tiling import in_tiles


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 37), (40, 33), (64, 64)])
def test_tiles_with_the_reach_of_a_network_change_nothing(height, width):
    torch.manual_seed(0)
    net = super_resolution("small")
    low = torch.rand(1, 1, height, width)
    with torch.no_grad():
        whole = net(low)
    tiled = in_tiles(net, low, tile=16, margin=net.reach, scale=4)
    assert torch.allclose(tiled, whole, atol=1e-5)


def test_a_margin_smaller_than_the_reach_leaves_seams():
    torch.manual_seed(0)
    net = super_resolution("small")
    low = torch.rand(1, 1, 40, 40)
    with torch.no_grad():
        difference = (in_tiles(net, low, tile=16, margin=0, scale=4) - net(low)).abs()
    assert float(difference.max()) > 1e-3


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"expected a function that enlarges \(5, 5\) by 2, got \(1, 1, 5, 5\)"):
        in_tiles(nn.Identity(), torch.zeros(1, 1, 5, 5), scale=2)
    for name, changes in (("tile", {"tile": 0}), ("margin", {"margin": -1}), ("scale", {"scale": 0})):
        with pytest.raises(ValueError, match=name):
            in_tiles(nn.Identity(), torch.zeros(1, 1, 5, 5), **changes)
    with pytest.raises(ValueError, match=r"expected images of shape \(N, C, H, W\)"):
        in_tiles(nn.Identity(), torch.zeros(5, 5))
