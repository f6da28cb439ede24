"""Discriminators: the bound of a spectral norm, packs, conditions, Fourier features."""

import pytest
import torch
from torch import nn

from posterity.models import discriminators
from posterity.models.discriminators import (
    FourierFeatures,
    dcgan_discriminator,
    dense_discriminator,
    packed,
    strong_discriminator,
)


def weights(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("make", [dense_discriminator, strong_discriminator, dcgan_discriminator])
def test_with_spectral_norm_no_slope_is_above_that_of_the_layers(make):
    """Dense layers of norm one: no more than 1. A convolution's kernel is normalised as a matrix, which bounds its own
    norm by the root of how many places of the kernel a pixel meets: 9, or 4 with a stride of two."""
    torch.manual_seed(0)
    settings = {"norm": "spectral"} if make is dcgan_discriminator else {"spectral": True}
    if make is strong_discriminator:
        settings |= {"widths": (4, 4), "hidden": 16}
    net = make((1, 8, 8), **settings)
    for _ in range(50):  # power iterations go on in training
        net(torch.randn(4, 1, 8, 8))
    net.eval()
    bound = {dense_discriminator: 1.0, strong_discriminator: 9.0, dcgan_discriminator: 2.0}[make]
    x = 3 * torch.randn(50, 1, 8, 8, requires_grad=True)
    (slope,) = torch.autograd.grad(net(x).sum(), x)
    assert float(slope.flatten(1).norm(dim=1).max()) <= bound * 1.01
    if make is dense_discriminator:
        plain = make((1, 8, 8))
        with torch.no_grad():
            for layer in plain.net:
                if isinstance(layer, nn.Linear):
                    layer.weight.mul_(10)
        (slope,) = torch.autograd.grad(plain(x).sum(), x)
        assert float(slope.flatten(1).norm(dim=1).max()) > 1


def test_a_pack_is_judged_together_in_order():
    net = packed(dense_discriminator, 3, (2,), hidden=(8,))
    x = torch.randn(6, 2)
    both = net(x)
    assert both.shape == (2,)
    torch.testing.assert_close(net(x[3:])[0], both[1])
    torch.testing.assert_close(net.net(x.reshape(2, 6)), both)
    images = packed(dcgan_discriminator, 2, (1, 8, 8), width=4)
    assert images(torch.randn(4, 1, 8, 8)).shape == (2,)
    with pytest.raises(ValueError, match="expected a multiple of 3 samples, got 4"):
        net(x[:4])


def test_a_discriminator_is_told_what_it_looks_at():
    """Its logits are those of its network for samples with the condition as further coordinates or channels."""
    judge = discriminators.conditional_discriminator(dense_discriminator, (5,), 3, hidden=(8,))
    x, classes = torch.randn(4, 5), torch.eye(3)[[0, 1, 2, 0]]
    torch.testing.assert_close(judge(x, classes), judge.net(torch.cat([x, classes], 1)))
    images = discriminators.conditional_discriminator(dcgan_discriminator, (1, 8, 8), 3, width=4, norm="none")
    picture = torch.randn(4, 1, 8, 8)
    whole = torch.cat([picture, classes[:, :, None, None] * torch.ones(1, 1, 8, 8)], 1)
    torch.testing.assert_close(images(picture, classes), images.net(whole))
    with pytest.raises(ValueError, match=r"expected condition of shape \(4, 3\), got \(4, 2\)"):
        judge(x, classes[:, :2])
    with pytest.raises(ValueError, match="condition"):
        discriminators.conditional_discriminator(dense_discriminator, (5,), 0)


def test_fourier_features_are_those_of_every_number():
    x = torch.tensor([[0.25, -0.5]])
    one, two = torch.pi * x, 2 * torch.pi * x
    angle = torch.cat([one, two], 1)
    torch.testing.assert_close(FourierFeatures(2)(x), torch.cat([x, angle.sin(), angle.cos()], 1))
    assert weights(dense_discriminator((2,), hidden=(4,), octaves=3)) == (2 * 7 * 4 + 4) + (4 + 1)
    with pytest.raises(ValueError, match="expected octaves to be a whole number of 0 or more, got -1"):
        dense_discriminator((2,), octaves=-1)
