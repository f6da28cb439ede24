"""`MaskedImages`: batches of images with a hidden part, moved a little each time; `jittered` moves them."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from posterity.data.images import Images
from posterity.random import as_generator
from posterity.validation import check_flag, check_floating, check_integer, check_number, shown, shown_shape

TURN, STRETCH, SHIFT = 0.1, 0.1, 0.1  # radians, share of the size, share of half the picture
CONTRAST, BRIGHTNESS = 0.25, 0.16  # share of the contrast, of the range from -1 to 1


@dataclass(frozen=True, eq=False)
class MaskedImages:
    """Random images with a random one of several masks, a source for `posterity.inference.adversarial.train`.

    The inputs of the generator have the channels: the image with hidden pixels set to 0; the mask, 1 where pixels are
    hidden; and ``latent`` planes, each a single normal number in all pixels. A real sample has the image and the mask
    as its channels.

    Args:
        images: grey images (N, 1, H, W), used from -1 to 1.
        masks: boolean (K, H, W), True where pixels are hidden.
        latent: number of latent numbers of an input.
        jitter: how much images are turned, stretched, moved and changed in contrast (see `jittered`).
        mirror: whether each image is mirrored with probability 1/2.

    Raises:
        ValueError: images that are not grey, masks of another size, one that hides all pixels or none, no latent
            number, or a negative jitter.

    >>> from posterity.data import digits
    >>> images = digits()
    >>> lower = torch.arange(8)[:, None].expand(8, 8) >= 4
    >>> source = MaskedImages(images, lower[None], latent=3)
    >>> inputs, real = source.draw(5, torch.Generator().manual_seed(0))
    >>> inputs.shape, real.shape
    (torch.Size([5, 5, 8, 8]), torch.Size([5, 2, 8, 8]))
    """

    images: Images
    masks: Tensor
    latent: int = 16
    jitter: float = 1.0
    mirror: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.images, Images):
            raise ValueError(f"expected images to be Images, got {shown(self.images)}")
        channels, height, width = self.images.shape
        if channels != 1:
            raise ValueError(f"expected images of one channel, got {channels}: see Images.grey")
        check_masks(self.masks, height, width)
        check_integer("latent", self.latent, 1)
        check_number("jitter", self.jitter, "[0, inf)")
        check_flag("mirror", self.mirror)

    def draw(self, n: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """n inputs (n, 2 + latent, H, W) and n real samples (n, 2, H, W)."""
        rows = torch.randint(len(self.images), (n,), generator=random)
        images = self.images.pixels[rows].float().mul_(2 / 255).sub_(1)
        if self.jitter or self.mirror:
            images = jittered(images, seed=random, amount=self.jitter, mirror=self.mirror)
        masks = self.masks[torch.randint(len(self.masks), (n,), generator=random)][:, None]
        z = torch.randn(n, self.latent, generator=random)
        return masked_inputs(images, masks, z), torch.cat([images, masks.to(images)], 1)

    @property
    def recipe(self) -> str:
        """Text that identifies the source in a checkpoint."""
        hidden = self.masks.sum((1, 2)).tolist()
        moved = f"jitter {self.jitter:g}, mirror {self.mirror}"
        return f"masked {self.images!r}, hidden {hidden}, latent {self.latent}, {moved}"


def masked_inputs(images: Tensor, masks: Tensor, z: Tensor) -> Tensor:
    """Inputs (N, 2 + latent, H, W) from images and masks (N, 1, H, W) and latent numbers (N, latent)."""
    hidden = masks.to(images)
    planes = z[:, :, None, None].expand(-1, -1, *images.shape[2:])
    return torch.cat([images * (1 - hidden), hidden, planes], 1)


def jittered(images: Tensor, *, seed: int | torch.Generator, amount: float = 1.0, mirror: bool = True) -> Tensor:
    """Images (N, C, H, W) from -1 to 1, each turned, stretched, moved, mirrored and changed in contrast at random.

    Each change is uniform and symmetric around zero. With an ``amount`` of 1, they go up to 0.1 radians, 10% of the
    size, 5% of the picture aside, 25% of contrast and 8% of the range of brightness; with ``mirror``, each image is
    mirrored with probability 1/2. Pixels from outside the image repeat its border.

    Raises:
        ValueError: images of another shape, or a negative amount.
    """
    check_floating("images", images)
    if images.ndim != 4:
        raise ValueError(f"expected images of shape (N, C, H, W), got {shown_shape(images)}")
    check_number("amount", amount, "[0, inf)")
    check_flag("mirror", mirror)
    random, n = as_generator(seed), len(images)
    turn, stretch, right, down, contrast, brightness = (
        amount * size * (2 * torch.rand(n, generator=random) - 1)
        for size in (TURN, STRETCH, SHIFT, SHIFT, CONTRAST, BRIGHTNESS)
    )
    side = torch.where(torch.rand(n, generator=random) < 0.5 * mirror, -1.0, 1.0)
    shape = images.shape[2] / images.shape[3]  # coordinates go from -1 to 1 along both sides
    cosine, sine = (1 + stretch) * turn.cos(), (1 + stretch) * turn.sin()
    rows = [torch.stack([cosine * side, -sine * shape, right], 1), torch.stack([sine * side / shape, cosine, down], 1)]
    grid = affine_grid(torch.stack(rows, 1).to(images), list(images.shape), align_corners=False)
    moved = grid_sample(images, grid, padding_mode="border", align_corners=False)
    centre = moved.mean((1, 2, 3), keepdim=True)
    gain, offset = ((1 + contrast)[:, None, None, None], brightness[:, None, None, None])
    return (centre + gain.to(moved) * (moved - centre) + offset.to(moved)).clamp(-1, 1)


def check_masks(masks: Tensor, height: int, width: int) -> None:
    """``ValueError`` unless masks are boolean (K, H, W) and each hides some pixels, not all."""
    if not isinstance(masks, Tensor) or masks.dtype != torch.bool or masks.ndim != 3:
        raise ValueError(f"expected masks to be a boolean tensor (K, {height}, {width}), got {shown(masks)}")
    if masks.shape[1:] != (height, width) or not len(masks):
        raise ValueError(f"expected masks of shape (K, {height}, {width}), got {shown_shape(masks)}")
    hidden = masks.flatten(1).float().mean(1)
    if bool(((hidden == 0) | (hidden == 1)).any()):
        raise ValueError(f"expected masks that hide some pixels, not all, got shares {hidden.tolist()}")
