"""`UnpairedImages`: images of two domains without a pairing; `edges`: outlines of images."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posterity.data.images import Images
from posterity.validation import shown


@dataclass(frozen=True, eq=False)
class UnpairedImages:
    """Random images of two domains, as a source of batches for `posterity.inference.adversarial.train`.

    Args:
        first: images of the first domain, (N, C, H, W).
        second: images of the second domain, (M, C, H, W).

    Raises:
        ValueError: images of different channels or sizes, or a domain of fewer than two images.

    >>> from posterity.data import digits
    >>> upright = digits()
    >>> pairs = UnpairedImages(upright, upright.subset(slice(100)))
    >>> pairs.draw(5, torch.Generator().manual_seed(0))[0].shape
    torch.Size([5, 2, 1, 8, 8])
    """

    first: Images
    second: Images

    def __post_init__(self) -> None:
        for name in ("first", "second"):
            images = getattr(self, name)
            _check_images(name, images)
            if len(images) < 2:
                raise ValueError(f"expected {name} to have at least two images, got {len(images)}")
        if self.first.shape[0] != self.second.shape[0]:
            raise ValueError(
                f"expected two domains of equal channels, got {self.first.shape[0]} and {self.second.shape[0]}: see "
                "Images.grey"
            )
        if self.first.shape != self.second.shape:
            sizes = " and ".join(f"{height} x {width}" for _, height, width in (self.first.shape, self.second.shape))
            raise ValueError(f"expected two domains of equal sizes, got {sizes}: see Images.resized and Images.padded")

    def draw(self, n: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """n pairs of unrelated images (n, 2, C, H, W) from -1 to 1, as inputs and as real samples."""
        domains = (self.first, self.second)
        parts = [images.pixels[torch.randint(len(images), (n,), generator=random)] for images in domains]
        pairs = torch.stack(parts, 1).float().mul_(2 / 255).sub_(1)
        return pairs, pairs

    @property
    def recipe(self) -> str:
        """Text that identifies the domains in a checkpoint."""
        return f"unpaired {self.first!r} and {self.second!r}"


def edges(images: Images) -> Images:
    """Outlines: the length of the Sobel gradient of each image, scaled so that an edge from black to white is white.

    Colours are averaged. The gradient has a direction and a sign, which outlines lack, so that two images can have the
    same outlines.

    Raises:
        ValueError: ``images`` is not a `posterity.data.Images`.
    """
    from scipy.ndimage import correlate1d  # scipy.ndimage.sobel would smooth from one image to the next

    _check_images("images", images)
    grey = images.pixels.float().mean(1).numpy()
    padded = np.pad(grey, ((0, 0), (1, 1), (1, 1)))  # an image that ends bright has an edge there
    slopes = [correlate1d(correlate1d(padded, [-1, 0, 1], one), [1, 2, 1], other) for one, other in ((1, 2), (2, 1))]
    length = np.hypot(*slopes)[:, 1:-1, 1:-1] / 4
    pixels = torch.from_numpy(np.rint(np.minimum(length, 255)).astype(np.uint8))[:, None]
    return replace(images, pixels=pixels, name=f"edges of {images.name}")


def _check_images(name: str, images: Any) -> None:
    if not isinstance(images, Images):
        raise ValueError(f"expected {name} to be Images, got {shown(images)}")
