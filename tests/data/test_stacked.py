"""Stacks of three images: independent channels, and every combination as often."""

import pytest
import torch

from posterity.data import Images, StackedImages, digits


def test_channels_are_independent_and_uniform():
    """Images of 3 grey levels: 27 combinations, each 1/27 of 27,000 stacks within five standard errors."""
    levels = torch.tensor([0, 100, 255], dtype=torch.uint8)[:, None, None, None].expand(3, 1, 2, 2)
    latent, stacks = StackedImages(Images(levels.clone()), latent=2).draw(27_000, torch.Generator().manual_seed(0))
    assert latent.shape == (27_000, 2)
    classes = torch.bucketize(stacks[:, :, 0, 0].contiguous(), torch.tensor([-0.9, 0.5]))
    counts = torch.bincount(classes @ torch.tensor([9, 3, 1]), minlength=27).double()
    assert float((counts - 1000).abs().max()) < 5 * (1000 * 26 / 27) ** 0.5


def test_images_of_several_channels_are_refused():
    with pytest.raises(ValueError, match="expected images of one channel, got 3"):
        StackedImages(Images(torch.zeros(4, 3, 8, 8, dtype=torch.uint8)), latent=2)
    with pytest.raises(ValueError, match="latent"):
        StackedImages(digits(), latent=0)
    assert "latent 2" in StackedImages(digits(), latent=2).recipe
