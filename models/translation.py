"""Networks that translate images between two domains without pairs (Zhu et al. 2017, CycleGAN, arXiv:1703.10593).

A sample is a pair of unrelated images (B, 2, C, H, W): one of the first domain, one of the second. A `Translator` holds
the two generators and exchanges the domains: its output has a translation of the second image in place 0 and one of the
first in place 1, so that applied twice it leads back. A `PairedDiscriminator` judges place 0 as an image of the first
domain and place 1 as one of the second. Both are single modules, so that `posterity.inference.adversarial.train` needs
no loop of its own for two networks against two networks.

- `image_generator`: from image to image, with residual blocks.
- `patch_discriminator`: one logit for each patch of the image (Isola et al. 2017, arXiv:1611.07004, section 3.2.2).
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample

from posterity.models.generators import check_layers, halvings, started_he
from posterity.models.residual import START, ResidualBlock, shrink_last_layers
from posterity.validation import check_floating, check_integer, check_number, shown_shape

SLOPE = 0.2
MOTION = 10.0
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
        channels = shape[0]
        self.shape, self.content = tuple(shape), content
        self.motion = nn.Parameter(torch.zeros(2, 3))
        self.places: Tensor
        rows, columns = (torch.linspace(-1, 1, side) for side in shape[1:])
        self.register_buffer("places", torch.stack(torch.meshgrid(rows, columns, indexing="ij")), persistent=False)
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
        inputs = torch.cat([images, self.places.to(images).expand(len(images), -1, -1, -1)], 1)
        if self.motion is not None:
            still = torch.eye(2, 3).to(images)
            grid = affine_grid(
                (still + MOTION * self.motion).expand(len(images), -1, -1), images.shape, align_corners=False
            )
            inputs = torch.cat([grid_sample(images + 1, grid, align_corners=False) - 1, inputs[:, -2:]], 1)
            images = inputs[:, :-2]
        return torch.tanh(self.net(inputs) + self.content * images)


def image_generator(
    shape: tuple[int, int, int], *, width: int = 24, blocks: int = 4, content: float = CONTENT
) -> ImageGenerator:
    """A convolutional network, images (N, C, H, W) in (-1, 1) -> images of the same shape in (-1, 1).

    Residual blocks act on images of half the size (Johnson et al. 2016). The input is added before the tanh, so that
    the first translations resemble the image. This makes a permutation of classes unlikely, which the cycle alone
    cannot exclude.

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


def patch_discriminator(shape: tuple[int, int, int], *, width: int = 24, kernel: int = 3) -> nn.Sequential:
    """A convolutional network, images (N, C, H, W) -> a map of logits (N, 1, H / 4, W / 4), one for each patch.

    A logit depends on 14 + 4 ``kernel`` pixels in each direction: small patches judge textures, large ones also the
    size and the place of an object.

    Args:
        shape: (C, H, W) of an image, with H and W divisible by 4.
        width: channels after the first convolution; later layers have two and four times as many.
        kernel: side of the last convolution, an odd number.

    Raises:
        ValueError: a size below 1, or sides that are not divisible by 4.
    """
    check_layers(shape, (), dimensions=3)
    check_integer("width", width, 1)
    check_integer("kernel", kernel, 1)
    if kernel % 2 == 0:
        raise ValueError(f"expected kernel to be odd, got {kernel}")
    channels, height, across = shape
    if height % 4 or across % 4:
        raise ValueError(f"expected images whose sides are divisible by 4, got {height} x {across}: see Images.padded")
    net = nn.Sequential(
        nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(SLOPE),
        nn.Conv2d(width, 2 * width, 4, 2, 1), nn.LeakyReLU(SLOPE),
        nn.Conv2d(2 * width, 4 * width, 3, 1, 1), nn.LeakyReLU(SLOPE),
        nn.Conv2d(4 * width, 1, kernel, 1, kernel // 2),
    )  # fmt: skip
    return started_he(net, SLOPE)
