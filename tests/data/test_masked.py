"""Masked images: what is hidden is not in the inputs, and jitter moves images within its bounds."""

import pytest
import torch

from posterity.data import Images, digits
from posterity.data.masked import MaskedImages, jittered, masked_inputs

LOWER = (torch.arange(8)[:, None] >= 4).expand(8, 8)


def test_hidden_pixels_are_not_in_the_inputs() -> None:
    """Two images that differ in their lower half alone give equal inputs."""
    source = MaskedImages(digits(), LOWER[None], latent=3, jitter=0, mirror=False)
    inputs, real = source.draw(20, torch.Generator().manual_seed(0))
    assert bool((inputs[:, 0][:, LOWER] == 0).all())
    assert torch.equal(inputs[:, 0][:, ~LOWER], real[:, 0][:, ~LOWER])
    assert torch.equal(inputs[:, 1] == 1, LOWER.expand(20, 8, 8))
    assert torch.equal(real[:, 1], inputs[:, 1])
    planes = inputs[:, 2:].flatten(2)
    assert torch.equal(planes.amin(2), planes.amax(2))


def test_latent_numbers_are_normal_and_masks_equally_frequent() -> None:
    masks = torch.stack([LOWER, ~LOWER])
    inputs, _ = MaskedImages(digits(), masks, latent=4).draw(2000, torch.Generator().manual_seed(1))
    z = inputs[:, 2:, 0, 0]
    assert abs(float(z.mean())) < 4 / 8000**0.5
    assert abs(float(z.var()) - 1) < 4 * (2 / 8000) ** 0.5
    assert abs(float(inputs[:, 1, 7, 7].mean()) - 0.5) < 4 * 0.5 / 2000**0.5


def test_the_real_images_are_those_of_the_set_without_jitter() -> None:
    images = digits().subset(slice(5))
    _, real = MaskedImages(images, LOWER[None], jitter=0, mirror=False).draw(50, torch.Generator().manual_seed(2))
    known = {tuple(image.flatten().tolist()) for image in images.scaled()}
    assert {tuple(image.flatten().tolist()) for image in real[:, :1]} == known


def test_a_spot_moves_within_the_bounds_of_jitter() -> None:
    """A bright square in the middle of 40 x 40 pixels: its centre moves by at most 2 pixels, and on average by none."""
    images = torch.full((400, 1, 40, 40), -0.5)
    images[:, :, 18:22, 18:22] = 0.5
    moved = jittered(images, seed=0)[:, 0]
    weights = (moved - moved.amin((1, 2), keepdim=True)).square()
    places = torch.arange(40) - 19.5
    for dims in (1, 2):
        centre = (weights.sum(3 - dims) * places).sum(1) / weights.sum((1, 2))
        assert 1.5 < float(centre.abs().max()) < 2.4
        assert abs(float(centre.mean())) < 4 * float(centre.std()) / 20
    assert float(moved.abs().max()) <= 1


def test_jitter_of_zero_only_mirrors() -> None:
    images = digits().subset(slice(50)).scaled()
    moved = jittered(images, seed=0, amount=0.0)
    same = (moved - images).abs().amax((1, 2, 3)) < 1e-5
    mirrored = (moved - images.flip(3)).abs().amax((1, 2, 3)) < 1e-5
    assert bool((same | mirrored).all())
    assert 10 < int(same.sum()) < 40
    assert float((jittered(images, seed=0, amount=0.0, mirror=False) - images).abs().max()) < 1e-5


def test_a_turn_keeps_distances_also_in_a_picture_that_is_not_square() -> None:
    """Two spots of a wide picture: with turns alone, their distance in pixels stays within 1%."""
    from posterity.data import masked

    images = torch.full((50, 1, 40, 120), -1.0)
    images[:, :, 18:22, 28:32] = images[:, :, 18:22, 88:92] = 1.0
    others = {name: getattr(masked, name) for name in ("STRETCH", "SHIFT", "CONTRAST", "BRIGHTNESS")}
    try:
        for name in others:
            setattr(masked, name, 0.0)
        moved = jittered(images, seed=0, mirror=False)[:, 0] + 1
    finally:
        for name, value in others.items():
            setattr(masked, name, value)
    down, right = torch.meshgrid(torch.arange(40.0), torch.arange(120.0), indexing="ij")
    left = right < 60
    spots = [
        torch.stack([(moved * half * place).sum((1, 2)) / (moved * half).sum((1, 2)) for place in (down, right)], 1)
        for half in (left, ~left)
    ]
    apart = spots[1] - spots[0]
    assert float(apart[:, 0].abs().max()) > 4  # of 60 pixels, turned by up to 0.1
    torch.testing.assert_close(apart.square().sum(1).sqrt(), torch.full((50,), 60.0), rtol=0.01, atol=0)


def test_bad_arguments_are_named() -> None:
    images = digits()
    for masks, complaint in (
        (LOWER, r"boolean tensor \(K, 8, 8\)"),
        (LOWER[None].float(), r"boolean tensor \(K, 8, 8\)"),
        (LOWER[None, :4], r"shape \(K, 8, 8\)"),
        (torch.zeros(1, 8, 8, dtype=torch.bool), "hide some pixels, not all"),
        (torch.ones(1, 8, 8, dtype=torch.bool), "hide some pixels, not all"),
    ):
        with pytest.raises(ValueError, match=complaint):
            MaskedImages(images, masks)
    colour = Images(torch.zeros(3, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match="one channel"):
        MaskedImages(colour, LOWER[None])
    with pytest.raises(ValueError, match="images"):
        MaskedImages(torch.zeros(3, 1, 8, 8), LOWER[None])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="latent"):
        MaskedImages(images, LOWER[None], latent=0)
    with pytest.raises(ValueError, match="jitter"):
        MaskedImages(images, LOWER[None], jitter=-1.0)
    with pytest.raises(ValueError, match=r"images of shape \(N, C, H, W\)"):
        jittered(torch.zeros(8, 8), seed=0)
    assert masked_inputs(torch.ones(2, 1, 8, 8), LOWER.expand(2, 1, 8, 8), torch.zeros(2, 1)).shape == (2, 3, 8, 8)
