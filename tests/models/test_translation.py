"""Translators: domains are exchanged, an untrained network resembles its input, and wrong shapes are refused."""

import pytest
import torch
from torch import nn

from posterity.models.discriminators import patch_discriminator
from posterity.models.translation import PairedDiscriminator, Translator, image_generator


class Add(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, x):
        return x + self.by


def test_a_translator_exchanges_the_domains():
    pairs = torch.rand(4, 2, 1, 3, 3)
    found = Translator(Add(-1.0), Add(1.0))(pairs)
    assert torch.equal(found[:, 0], pairs[:, 1] - 1)
    assert torch.equal(found[:, 1], pairs[:, 0] + 1)
    assert torch.allclose(Translator(Add(-1.0), Add(1.0))(found), pairs)


def test_each_discriminator_judges_its_own_domain():
    class Mean(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def forward(self, x):
            return self.factor * x.mean((1, 2, 3))

    pairs = torch.ones(3, 2, 1, 4, 4)
    assert PairedDiscriminator(Mean(1.0), Mean(5.0))(pairs).tolist() == [[[1.0], [5.0]]] * 3


def test_an_untrained_generator_resembles_its_input():
    torch.manual_seed(0)
    images = 2 * torch.rand(5, 1, 28, 28) - 1
    found = image_generator((1, 28, 28), width=8)(images)
    assert torch.corrcoef(torch.stack([found.detach().flatten(), images.flatten()]))[0, 1] > 0.95
    assert float(found.detach().abs().max()) <= 1


@pytest.mark.parametrize("kernel", [3, 7])
def test_a_logit_depends_on_a_patch(kernel):
    torch.manual_seed(0)
    net = patch_discriminator((1, 64, 64), width=4, kernel=kernel)
    images = torch.randn(1, 1, 64, 64, requires_grad=True)
    logits = net(images)
    assert logits.shape == (1, 1, 16, 16)
    logits[0, 0, 8, 8].backward()
    rows = images.grad[0, 0].abs().sum(1).nonzero()[:, 0]
    assert int(rows.max() - rows.min()) + 1 == 14 + 4 * kernel


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"expected pairs of shape \(B, 2, C, H, W\), got \(4, 1, 28, 28\)"):
        Translator(nn.Identity(), nn.Identity())(torch.zeros(4, 1, 28, 28))
    with pytest.raises(ValueError, match=r"expected pairs of shape \(B, 2, C, H, W\), got \(4, 3, 1, 28, 28\)"):
        PairedDiscriminator(nn.Identity(), nn.Identity())(torch.zeros(4, 3, 1, 28, 28))
    with pytest.raises(ValueError, match=r"expected images of shape \(N, 1, 28, 28\), got \(2, 3, 28, 28\)"):
        image_generator((1, 28, 28))(torch.zeros(2, 3, 28, 28))
    with pytest.raises(ValueError, match="expected images whose sides are divisible by 4, got 30 x 28"):
        patch_discriminator((1, 30, 28))
    with pytest.raises(ValueError, match="sides are even and above 4"):
        image_generator((1, 27, 28))
    with pytest.raises(ValueError, match="kernel"):
        patch_discriminator((1, 28, 28), kernel=4)
    with pytest.raises(ValueError, match="blocks"):
        image_generator((1, 28, 28), blocks=-1)


def test_moments_place_a_small_square_where_the_large_one_is():
    """Squares of 8 and 16 pixels at other places: moved, the small one covers the large one within one pixel."""
    small, large = -torch.ones(3, 1, 32, 32), -torch.ones(3, 1, 32, 32)
    small[..., 2:10, 4:12] = 1
    large[..., 14:30, 10:26] = 1
    net = image_generator((1, 32, 32), width=4)
    net.match_moments(small, large)
    with torch.no_grad():
        moved = net.moved(small)
    assert bool((moved[..., 15:29, 11:25] > 0.99).all())
    outside = large < 0
    outside[..., 13:31, 9:27] = False
    assert bool((moved[outside] < -0.99).all())
    one_column = -torch.ones(3, 1, 32, 32)
    one_column[..., 7] = 1
    for inputs, complaint in (
        (torch.zeros(3, 1, 8, 8), r"expected inputs of shape \(N, 1, 32, 32\), got \(3, 1, 8, 8\)"),
        (-torch.ones(3, 1, 32, 32), "expected inputs from -1 .* that are not all black"),
        (2 * torch.ones(3, 1, 32, 32), r"expected inputs from -1 \(black\) to 1, got 2 to 2"),
        (one_column, "expected inputs that are bright in several rows and columns, got a single one"),
    ):
        with pytest.raises(ValueError, match=complaint):
            net.match_moments(inputs, large)


def test_equal_domains_move_nothing():
    images = 2 * torch.rand(5, 1, 28, 28) - 1
    net = image_generator((1, 28, 28), width=4)
    net.match_moments(images, images)
    assert torch.allclose(net.placement, torch.eye(2, 3), atol=1e-6)
    assert torch.allclose(net.moved(images), images, atol=1e-5)
