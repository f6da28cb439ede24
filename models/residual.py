"""`ResidualBlock`: two convolutions whose output is added to their input (He et al. 2016), for networks of images."""

import torch
from torch import Tensor, nn

START = 0.1  # of the last convolution: a network of many blocks starts near the identity (Zhang et al. 2019, Fixup)


class ResidualBlock(nn.Module):
    """Images of C channels (N, C, H, W) -> the same shape; without normalisation, as Lim et al. 2017 (EDSR).

    >>> ResidualBlock(4)(torch.zeros(2, 4, 8, 8)).shape
    torch.Size([2, 4, 8, 8])
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        changed: Tensor = images + self.last(torch.relu(self.first(images)))
        return changed


@torch.no_grad()
def shrink_last_layers(net: nn.Module) -> None:
    """Scale the last weights of each residual block of ``net`` down, so that it starts near the identity."""
    for module in net.modules():
        if isinstance(module, ResidualBlock):
            module.last.weight.mul_(START)
