"""`StackedImages`: colour images of three random grey ones, for counting the modes that a generator finds."""

from dataclasses import dataclass

import torch
from torch import Tensor

from posterity.data.images import Images
from posterity.validation import check_integer, shown

CHANNELS = 3


@dataclass(frozen=True, eq=False)
class StackedImages:
    """Three random images as red, green and blue: ten classes of digits give 1,000 modes.

    Metz, Poole, Pfau & Sohl-Dickstein 2017 (arXiv:1611.02163, section 3.3.1). A source of batches for
    `posterity.inference.adversarial.train`: inputs are latent points, and no image is drawn twice in practice.

    Args:
        images: grey images (N, 1, H, W).
        latent: dimension of the latent points, draws from the standard normal distribution.

    Raises:
        ValueError: images that are not grey, or a latent dimension below 1.

    >>> from posterity.data import digits
    >>> latent, stacks = StackedImages(digits(), latent=16).draw(5, torch.Generator().manual_seed(0))
    >>> latent.shape, stacks.shape
    (torch.Size([5, 16]), torch.Size([5, 3, 8, 8]))
    """

    images: Images
    latent: int

    def __post_init__(self) -> None:
        if not isinstance(self.images, Images):
            raise ValueError(f"expected images to be Images, got {shown(self.images)}")
        if self.images.shape[0] != 1:
            raise ValueError(f"expected images of one channel, got {self.images.shape[0]}: see Images.grey")
        check_integer("latent", self.latent, 1)

    def draw(self, n: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Latent points (n, latent) and stacks (n, 3, H, W) from -1 to 1."""
        rows = torch.randint(len(self.images), (n, CHANNELS), generator=random)
        stacks = self.images.pixels[:, 0][rows].float().mul_(2 / 255).sub_(1)
        return torch.randn(n, self.latent, generator=random), stacks

    @property
    def recipe(self) -> str:
        """Text that identifies the source in a checkpoint."""
        return f"stacks of {self.images!r}, latent {self.latent}"
