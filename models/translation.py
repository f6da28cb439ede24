"""Networks that translate images between two domains without pairs (Zhu et al. 2017, CycleGAN, arXiv:1703.10593).

A sample is a pair of unrelated images (B, 2, C, H, W): one of the first domain, one of the second. A `Translator` holds
the two generators and exchanges the domains: its output has a translation of the second image in place 0 and one of the
first in place 1, so that applied twice it leads back. A `PairedDiscriminator` judges place 0 as an image of the first
domain and place 1 as one of the second. Both are single modules, so that `posterity.inference.adversarial.train` needs
no loop of its own for two networks against two networks. The loss should be a mean over logits, such as least squares:
`relativistic_average` would compare an image with the mean of both domains.

`image_generator` builds a generator. For discriminators see `posterity.models.discriminators.patch_discriminator`.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample

from posterity.models.generators import check_layers, halvings, started_he
from posterity.models.residual import START, ResidualBlock, shrink_last_layers
from posterity.validation import check_floating, check_integer, check_number, shown_shape

ADJUSTMENT = 10.0  # of the affine map: its few numbers learn faster than the weights
CONTENT = 1.5  # weight of the image itself before the tanh


class Translator(nn.Module):
    """Two generators between two domains: pairs (B, 2, C, H, W) -> pairs with the domains exchanged.

    Args:
        to_first: from images of the second domain to images of the first, (B, C, H, W) -> (B, C, H, W).
        to_second: the other way.

    >>> net = Translator(image_generator((1, 28, 28), width=8), image_generator((1, 28, 28), width=8))
    >>> net(torch.zeros(3, 2, 1, 28, 28)).shape
    torch.Size([3, 2, 1, 28, 28])
    """

    def __init__(self, to_first: nn.Module, to_second: nn.Module) -> None:
        super().__init__()
        self.to_first, self.to_second = to_first, to_second

    def forward(self, pairs: Tensor) -> Tensor:
        """Raises ``ValueError`` if ``pairs`` have another shape than (B, 2, C, H, W)."""
        first, second = _unpaired(pairs)
        return torch.stack([self.to_first(second), self.to_second(first)], 1)


class PairedDiscriminator(nn.Module):
    """Two discriminators, one for each place of a pair: (B, 2, C, H, W) -> logits (B, 2, P) of P patches, or P = 1.

    >>> from posterity.models.discriminators import patch_discriminator
    >>> one, other = (patch_discriminator((1, 28, 28), width=8) for _ in range(2))
    >>> PairedDiscriminator(one, other)(torch.zeros(3, 2, 1, 28, 28)).shape
    torch.Size([3, 2, 49])
    """

    def __init__(self, of_first: nn.Module, of_second: nn.Module) -> None:
        super().__init__()
        self.of_first, self.of_second = of_first, of_second

    def forward(self, pairs: Tensor) -> Tensor:
        """Raises ``ValueError`` if ``pairs`` have another shape than (B, 2, C, H, W)."""
        first, second = _unpaired(pairs)
        logits = (self.of_first(first), self.of_second(second))
        return torch.stack([one.reshape(len(pairs), -1) for one in logits], 1)


def _unpaired(pairs: Tensor) -> tuple[Tensor, Tensor]:
    check_floating("pairs", pairs)
    if pairs.ndim != 5 or pairs.shape[1] != 2:
        raise ValueError(f"expected pairs of shape (B, 2, C, H, W), got {shown_shape(pairs)}")
    return pairs[:, 0], pairs[:, 1]


class ImageGenerator(nn.Module):
    """See `image_generator`."""

    def __init__(self, shape: tuple[int, int, int], width: int, blocks: int, content: float) -> None:
        super().__init__()
        channels, height, across = shape
        self.shape, self.content = tuple(shape), content
        self.placement: Tensor
        self.coordinates: Tensor
        self.register_buffer("placement", torch.eye(2, 3))  # place of an output pixel -> place in the input
        self.adjustment = nn.Parameter(torch.zeros(2, 3))
        sides = (torch.linspace(-1, 1, side) for side in (height, across))
        self.register_buffer("coordinates", torch.stack(torch.meshgrid(*sides, indexing="ij")), persistent=False)
        last = nn.Conv2d(width, channels, 3, padding=1)
        self.net = nn.Sequential(
            nn.Conv2d(channels + 2, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 4, 2, 1), nn.ReLU(),
            *(ResidualBlock(2 * width) for _ in range(blocks)),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.ReLU(),
            last,
        )  # fmt: skip
        started_he(self.net)
        shrink_last_layers(self.net)
        with torch.no_grad():
            last.weight.mul_(START)

    def forward(self, images: Tensor) -> Tensor:
        check_floating("images", images)
        if tuple(images.shape[1:]) != self.shape:
            wanted = ", ".join(map(str, self.shape))
            raise ValueError(f"expected images of shape (N, {wanted}), got {shown_shape(images)}")
        moved = self.moved(images)
        coordinates = self.coordinates.to(images).expand(len(images), -1, -1, -1)
        return torch.tanh(self.net(torch.cat([moved, coordinates], 1)) + self.content * moved)

    def moved(self, images: Tensor) -> Tensor:
        """The images under the affine map; pixels from outside of an image are black (-1)."""
        with torch.autocast(images.device.type, enabled=False):  # half precision would move by up to a tenth of a pixel
            placement = (self.placement + ADJUSTMENT * self.adjustment).to(images).expand(len(images), -1, -1)
            grid = affine_grid(placement, list(images.shape), align_corners=False)
            return grid_sample(images + 1, grid, align_corners=False) - 1

    @torch.no_grad()
    def match_moments(self, inputs: Tensor, outputs: Tensor) -> None:
        """Set the affine map so that moved inputs have the mean position and the spread of brightness of the outputs.

        A start for domains of another size or position, from the means over images (N, C, H, W) and (M, C, H, W).

        Raises:
            ValueError: images of another shape, with values outside [-1, 1], or bright in a single row or column.
        """
        (middle, spread), (wanted_middle, wanted_spread) = (
            _moments(name, images, self.shape) for name, images in (("inputs", inputs), ("outputs", outputs))
        )
        zoom = spread / wanted_spread
        self.placement.copy_(torch.cat([zoom.diag(), (middle - zoom * wanted_middle)[:, None]], 1))


def _moments(name: str, images: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (2,) of the place of brightness, horizontally and vertically, from -1 to 1."""
    check_floating(name, images)
    if tuple(images.shape[1:]) != shape or not len(images):
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"expected {name} of shape (N, {wanted}), got {shown_shape(images)}")
    low, high = (float(value) for value in images.aminmax())
    if not -1 <= low <= high <= 1:
        raise ValueError(f"expected {name} from -1 (black) to 1, got {low:g} to {high:g}")
    brightness = (images.double() + 1).mean((0, 1))
    found = []
    for dim in (0, 1):  # sums over rows are a function of the column
        profile = brightness.sum(dim)
        side = len(profile)
        places = (torch.arange(side, dtype=torch.double, device=profile.device) + 0.5) * 2 / side - 1
        total = profile.sum()
        if not float(total) > 0:
            raise ValueError(f"expected {name} from -1 (black) to 1 that are not all black, got a mean of -1")
        mean = (profile * places).sum() / total
        spread = ((profile * (places - mean) ** 2).sum() / total).sqrt()
        if float(spread) < 1 / side:
            raise ValueError(f"expected {name} that are bright in several rows and columns, got a single one")
        found.append((mean, spread))
    means, sds = zip(*found, strict=True)
    return torch.stack(means).to(images), torch.stack(sds).to(images)


def image_generator(
    shape: tuple[int, int, int], *, width: int = 24, blocks: int = 4, content: float = CONTENT
) -> ImageGenerator:
    """A convolutional network, images (N, C, H, W) in (-1, 1) -> images of the same shape in (-1, 1).

    The image is first moved and scaled by one affine map, the same for all images, which is learned (Jaderberg et al.
    2015, arXiv:1506.02025) and can start from `ImageGenerator.match_moments`. Residual blocks then act on half the size
    (Johnson et al. 2016); the coordinates of each pixel are two further inputs (Liu et al. 2018, arXiv:1807.03247). The
    moved image is added before the tanh, so that the first translations resemble it. This makes a permutation of
    classes unlikely, which the cycle alone cannot exclude.

    Args:
        shape: (C, H, W) of an image, with even H and W above 4.
        width: channels at full size; the residual blocks have twice as many.
        blocks: number of residual blocks of two convolutions.
        content: weight of the input before the tanh; 0 for none.

    Raises:
        ValueError: a size below 1, sides that are not even and above 4, or a weight below 0.
    """
    check_layers(shape, (), dimensions=3)
    check_integer("width", width, 1)
    check_integer("blocks", blocks, 0)
    check_number("content", content, "[0, inf)")
    halvings(shape[1], shape[2])
    return ImageGenerator(shape, width, blocks, content)
