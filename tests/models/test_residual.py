"""Residual blocks: the input passes unchanged where the weights are zero, and a deep network starts near it."""

import torch
from torch import nn

from posterity.models.residual import ResidualBlock, shrink_last_layers


def test_a_block_without_weights_is_the_identity():
    block = ResidualBlock(3)
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    images = torch.randn(2, 3, 5, 5)
    assert torch.equal(block(images), images)


def test_many_shrunk_blocks_keep_the_scale():
    torch.manual_seed(0)
    net = nn.Sequential(*(ResidualBlock(16) for _ in range(20)))
    images = torch.randn(2, 16, 9, 9)
    shrink_last_layers(net)
    assert 0.9 < float(net(images).detach().std() / images.std()) < 1.3
