"""Discriminators: modules that map samples (N, ...) to logits (N,), positive for samples that look real.

- `dense_discriminator`: fully connected, for points and small images.
- `dcgan_discriminator`: strided convolutions (Radford, Metz & Chintala 2016), with batch normalisation, spectral norm
  or neither.
- `patch_discriminator`: one logit for each patch of the image (Isola et al. 2017, arXiv:1611.07004, section 3.2.2).
- `strong_discriminator`: two convolutions at full size and a wide layer, too strong for a small generator.
- `conditional`: any of them, with the condition of the sample as a second input.
- `packed`: any of them, with one logit for several samples (Lin et al. 2018, PacGAN), so that a lack of variety shows.

``spectral=True`` divides each weight by its largest singular value (Miyato et al. 2018), which makes the discriminator
1-Lipschitz up to its activations.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from posterity.models.generators import check_layers, halvings, started_he, started_small
from posterity.models.modules import described_inputs
from posterity.validation import check_choice, check_flag, check_floating, check_integer

PATCH_SLOPE = 0.2  # of leaky ReLUs
NORMS = ("batch", "spectral", "none")


class Logit(nn.Module):
    """A network with one output for each sample, (N, ...) -> (N,)."""

    def __init__(self, net: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.net, self.shape = net, tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        check_floating("samples", x)
        if tuple(x.shape[1:]) != self.shape:
            wanted = ", ".join(map(str, self.shape))
            raise ValueError(f"expected samples of shape (N, {wanted}), got {tuple(x.shape)}")
        with described_inputs(self, x):
            logits: Tensor = self.net(x)
        return logits.squeeze(-1)


class FourierFeatures(nn.Module):
    r"""x (N, D) -> (N, D + 2 D octaves): x, and $\sin(\pi 2^k x)$ and $\cos(\pi 2^k x)$ for k from 0 to octaves - 1.

    Networks learn fine details of few coordinates slowly without them (Tancik et al. 2020, arXiv:2006.10739).
    """

    def __init__(self, octaves: int) -> None:
        super().__init__()
        self.octaves = octaves

    def forward(self, x: Tensor) -> Tensor:
        angle = torch.cat([torch.pi * 2**octave * x for octave in range(self.octaves)], -1)
        return torch.cat([x, angle.sin(), angle.cos()], -1)


def dense_discriminator(
    shape: tuple[int, ...],
    *,
    hidden: tuple[int, ...] = (392,),
    slope: float = 0.2,
    spectral: bool = False,
    octaves: int = 0,
) -> Logit:
    """A fully connected network with leaky ReLUs, (N, *shape) -> (N,).

    Args:
        shape: shape of one sample.
        hidden: widths of the hidden layers.
        slope: slope of the leaky ReLUs for negative inputs.
        spectral: whether weights have spectral norm.
        octaves: number of `FourierFeatures` of each value, with wavelengths 2, 1, 1/2, ..., for points in clusters that
            are much narrower than their distance; not for images.

    Raises:
        ValueError: a width or size below 1, or negative octaves.

    >>> dense_discriminator((1, 28, 28))(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5])
    """
    check_layers(shape, hidden, slope)
    check_flag("spectral", spectral)
    check_integer("octaves", octaves, 0)
    layers: list[nn.Module] = [nn.Flatten(), *([FourierFeatures(octaves)] if octaves else [])]
    width = torch.Size(shape).numel() * (1 + 2 * octaves)
    for size in hidden:
        layers += [nn.Linear(width, size), nn.LeakyReLU(slope)]
        width = size
    return _finished([*layers, nn.Linear(width, 1)], shape, spectral)


def dcgan_discriminator(
    shape: tuple[int, int, int],
    *,
    width: int = 64,
    hidden: tuple[int, ...] = (),
    norm: str = "batch",
    slope: float = 0.2,
) -> Logit:
    """A network of strided convolutions, images (N, C, H, W) -> (N,), as DCGAN.

    Images are halved as many times as `posterity.models.generators.dcgan_generator` doubles them.

    Args:
        shape: (C, H, W) of one image.
        width: channels after the first convolution, doubled at each further one.
        hidden: widths of dense layers after the convolutions.
        norm: "batch" (batch normalisation of all convolutions but the first and weights that start small, as Radford
            et al.), "spectral" or "none" (both with weights that start as He et al. 2015).
        slope: slope of the leaky ReLUs for negative inputs.

    Raises:
        ValueError: another norm, a width or size below 1, or sides that are not even and above 4.

    >>> dcgan_discriminator((1, 28, 28), width=8)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2])
    """
    check_layers(shape, hidden, slope, dimensions=3)
    check_integer("width", width, 1)
    check_choice("norm", norm, NORMS)
    channels, height, breadth = shape
    steps = halvings(height, breadth)
    layers: list[nn.Module] = []
    for step in range(steps):
        outputs = width * 2**step
        plain = norm != "batch" or step == 0
        layers.append(nn.Conv2d(channels, outputs, 4, stride=2, padding=1, bias=plain))
        if not plain:
            layers.append(nn.BatchNorm2d(outputs))
        layers.append(nn.LeakyReLU(slope))
        channels = outputs
    layers.append(nn.Flatten())
    features = channels * (height // 2**steps) * (breadth // 2**steps)
    for size in hidden:
        layers += [nn.Linear(features, size), nn.LeakyReLU(slope)]
        features = size
    if norm == "batch":
        started_small(nn.Sequential(*layers))
    else:
        started_he(nn.Sequential(*layers), slope)
    return _finished([*layers, nn.Linear(features, 1)], shape, norm == "spectral")


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
        nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(PATCH_SLOPE),
        nn.Conv2d(width, 2 * width, 4, 2, 1), nn.LeakyReLU(PATCH_SLOPE),
        nn.Conv2d(2 * width, 4 * width, 3, 1, 1), nn.LeakyReLU(PATCH_SLOPE),
        nn.Conv2d(4 * width, 1, kernel, 1, kernel // 2),
    )  # fmt: skip
    return started_he(net, PATCH_SLOPE)


def strong_discriminator(
    shape: tuple[int, int, int], *, widths: tuple[int, int] = (64, 128), hidden: int = 784, spectral: bool = False
) -> Logit:
    """A network of two convolutions without stride and a dense layer, images (N, C, H, W) -> (N,).

    It is too strong for a dense generator.

    Raises:
        ValueError: a width or size below 1.
    """
    check_layers(shape, widths, dimensions=3)
    check_integer("hidden", hidden, 1)
    check_flag("spectral", spectral)
    channels, height, breadth = shape
    layers: list[nn.Module] = []
    for outputs in widths:
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.LeakyReLU(0.2)]
        channels = outputs
    layers += [nn.Flatten(), nn.Linear(channels * height * breadth, hidden), nn.LeakyReLU(0.2)]
    return _finished([*layers, nn.Linear(hidden, 1)], shape, spectral)


class ConditionalDiscriminator(nn.Module):
    """See `conditional`."""

    def __init__(self, net: nn.Module, condition: int) -> None:
        super().__init__()
        self.net, self.condition = net, condition

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        check_floating("samples", x)
        check_floating("condition", condition)
        if tuple(condition.shape) != (len(x), self.condition):
            raise ValueError(f"expected condition of shape ({len(x)}, {self.condition}), got {tuple(condition.shape)}")
        # Further coordinates of a point, or further constant channels of an image.
        planes = condition.to(x).reshape(*condition.shape, *(1,) * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])
        logits: Tensor = self.net(torch.cat([x, planes], 1))
        return logits


def conditional_discriminator(
    make: Callable[..., nn.Module], shape: tuple[int, ...], condition: int, **settings: object
) -> ConditionalDiscriminator:
    """A conditional discriminator, (samples (N, *shape), condition (N, condition)) -> (N,) (Mirza & Osindero 2014).

    ``make`` is one of the functions above, called with ``settings``. Its network gets the condition as further
    coordinates of a point or channels of an image. A class is passed one-hot. The counterpart is
    `posterity.models.generators.conditional_generator`.

    Raises:
        ValueError: a condition dimension below 1; when called, a condition of another shape.

    >>> judge = conditional_discriminator(dense_discriminator, (1, 8, 8), 10)
    >>> judge(torch.zeros(3, 1, 8, 8), torch.eye(10)[:3]).shape
    torch.Size([3])
    """
    check_integer("condition", condition, 1)
    check_layers(shape, ())
    return ConditionalDiscriminator(make((shape[0] + condition, *shape[1:]), **settings), condition)


class Packed(nn.Module):
    """See `packed`."""

    def __init__(self, net: nn.Module, together: int) -> None:
        super().__init__()
        self.net, self.together = net, together

    def forward(self, x: Tensor) -> Tensor:
        check_floating("samples", x)
        if x.ndim < 2 or len(x) % self.together:
            raise ValueError(f"expected a multiple of {self.together} samples, got {len(x)}")
        # The samples of a pack are concatenated along the channels or coordinates.
        logits: Tensor = self.net(x.reshape(len(x) // self.together, self.together * x.shape[1], *x.shape[2:]))
        return logits


def packed(make: Callable[..., nn.Module], together: int, shape: tuple[int, ...], **settings: object) -> Packed:
    """A discriminator with one logit for each pack of ``together`` samples, (N, *shape) -> (N / together,).

    ``make`` is one of the functions above, called with ``settings``.

    Raises:
        ValueError: ``together`` below 1; when called, a number of samples that is not a multiple of it.

    >>> packed(dense_discriminator, 4, (2,))(torch.zeros(12, 2)).shape
    torch.Size([3])
    """
    check_integer("together", together, 1)
    check_layers(shape, ())
    return Packed(make((together * shape[0], *shape[1:]), **settings), together)


def _finished(layers: list[nn.Module], shape: tuple[int, ...], spectral: bool) -> Logit:
    if spectral:
        layers = [spectral_norm(layer) if isinstance(layer, nn.Conv2d | nn.Linear) else layer for layer in layers]
    return Logit(nn.Sequential(*layers), shape)
