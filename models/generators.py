"""Generators: modules that map a latent z (N, Z) to samples (N, ...), and their Pyro models.

- `dense_generator`: fully connected, for points and small images.
- `dcgan_generator`: fractionally strided convolutions (Radford, Metz & Chintala 2016, arXiv:1511.06434).
- `coded`: either, with some latent numbers replaced by their signs, for separated clusters.
- `conditional`: either, with a condition appended to z.
- `generator_model`: a generator as a Pyro model, for ``Predictive`` and ArviZ.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from posterity.validation import check_choice, check_flag, check_floating, check_integer, check_number, check_sizes

STARTS = ("he", "torch")
Net = TypeVar("Net", bound=nn.Module)


def dense_generator(
    latent: int,
    shape: tuple[int, ...],
    *,
    hidden: tuple[int, ...] = (256, 512, 1024),
    slope: float = 0.2,
    squash: bool = True,
    start: str = "he",
) -> nn.Sequential:
    """A fully connected network with leaky ReLUs, z (N, latent) -> (N, *shape).

    The start "he" (He et al. 2015, arXiv:1502.01852, eq. 15) keeps the variance of z through all layers, so that
    samples differ from the first step on. With the initial weights of torch the first samples are nearly equal, with
    distances a twentieth as large, and the class frequencies of a GAN of digits with R1 stay uneven for longer (a KL
    divergence of 1.1 instead of 0.17 after 2,200 steps, one seed).

    Args:
        latent: dimension of z.
        shape: shape of one sample.
        hidden: widths of the hidden layers.
        slope: slope of the leaky ReLUs for negative inputs.
        squash: whether a tanh bounds the outputs to (-1, 1).
        start: initial weights, "he" or "torch".

    Raises:
        ValueError: a latent dimension, width or size below 1, or another start.

    >>> dense_generator(100, (1, 28, 28))(torch.zeros(5, 100)).shape
    torch.Size([5, 1, 28, 28])
    """
    check_integer("latent", latent, 1)
    check_layers(shape, hidden, slope)
    check_flag("squash", squash)
    check_choice("start", start, STARTS)
    layers: list[nn.Module] = []
    width = latent
    for size in hidden:
        layers += [nn.Linear(width, size), nn.LeakyReLU(slope)]
        width = size
    layers.append(nn.Linear(width, torch.Size(shape).numel()))
    if squash:
        layers.append(nn.Tanh())
    net = nn.Sequential(*layers, nn.Unflatten(1, shape))
    return started_he(net, slope) if start == "he" else net


def dcgan_generator(
    latent: int,
    shape: tuple[int, int, int],
    *,
    width: int = 64,
    hidden: tuple[int, ...] = (),
    batch_norm: bool = True,
    start: str | None = None,
) -> nn.Sequential:
    """A convolutional network, z (N, latent) -> images (N, C, H, W) in (-1, 1), as DCGAN.

    A small image with many channels is doubled in size until it has the required size: 28 x 28 starts as 7 x 7, and
    64 x 64 as 4 x 4.

    Args:
        latent: dimension of z.
        shape: (C, H, W) of one image.
        width: channels before the last layer, doubled at each step towards the first (128 in Radford et al.).
        hidden: widths of dense layers before the convolutions, which take little time on a CPU (1,024 for digits in
            Chen et al. 2016, InfoGAN, appendix C.1).
        batch_norm: whether all layers but the last have batch normalisation.
        start: initial weights, "small" (a standard deviation of 0.02, as Radford et al.) or "he" (see
            `dense_generator`); by default "small" with batch normalisation, and "he" without, to keep the variance.

    Raises:
        ValueError: a latent dimension, width or size below 1, another start, or sides that are not even and above 4.

    >>> dcgan_generator(100, (1, 28, 28), width=8)(torch.zeros(2, 100)).shape
    torch.Size([2, 1, 28, 28])
    """
    check_integer("latent", latent, 1)
    check_integer("width", width, 1)
    check_layers(shape, hidden, dimensions=3)
    check_flag("batch_norm", batch_norm)
    initialise = _initialisation(start, batch_norm)
    channels, height, breadth = shape
    steps = halvings(height, breadth)
    first = (width * 2 ** (steps - 1), height // 2**steps, breadth // 2**steps)
    layers: list[nn.Module] = []
    inputs = latent
    for size in hidden:
        layers += [nn.Linear(inputs, size, bias=not batch_norm), *_normalised(nn.BatchNorm1d, size, batch_norm)]
        inputs = size
    layers += [nn.Linear(inputs, torch.Size(first).numel(), bias=not batch_norm), nn.Unflatten(1, first)]
    layers += _normalised(nn.BatchNorm2d, first[0], batch_norm)
    for step in reversed(range(steps)):
        inputs, outputs = width * 2**step, width * 2 ** (step - 1) if step else channels
        last = step == 0
        layers.append(nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=last or not batch_norm))
        layers += [nn.Tanh()] if last else _normalised(nn.BatchNorm2d, outputs, batch_norm)
    return initialise(nn.Sequential(*layers))


def _initialisation(start: str | None, batch_norm: bool) -> Callable[[nn.Sequential], nn.Sequential]:
    ways: dict[str, Callable[[nn.Sequential], nn.Sequential]] = {"small": started_small, "he": started_he}
    wanted = ("small" if batch_norm else "he") if start is None else start
    check_choice("start", wanted, list(ways))
    return ways[wanted]


def halvings(height: int, breadth: int) -> int:
    """How many times an image of this size is halved, while both sides are even and above 4; ``ValueError`` for 0."""
    steps = 0
    while height % 2 == breadth % 2 == 0 and min(height, breadth) > 4:
        height, breadth, steps = height // 2, breadth // 2, steps + 1
    if not steps:
        raise ValueError(
            f"expected images whose sides are even and above 4, got {height} x {breadth}: see Images.padded"
        )
    return steps


def started_he(net: Net, slope: float = 0.0) -> Net:
    """Draw weights of variance 2 / ((1 + slope²) n) for n inputs of an output; set biases to 0.

    He et al. 2015, eq. 15.
    """
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            inputs = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels * _taps(layer)
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2 / ((1 + slope**2) * inputs)))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return net


def _taps(layer: nn.Conv2d | nn.ConvTranspose2d) -> float:
    """Inputs of one output pixel and channel; in a transposed convolution a part of the kernel."""
    taps = math.prod(layer.kernel_size)
    return taps / math.prod(layer.stride) if isinstance(layer, nn.ConvTranspose2d) else taps


def started_small(net: nn.Sequential) -> nn.Sequential:
    """Draw weights with a standard deviation of 0.02, scales of batch normalisation around 1; set biases to 0.

    Radford et al. 2016, section 4.
    """
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
            nn.init.zeros_(layer.bias)
    return net


class Coded(nn.Module):
    """See `coded`."""

    def __init__(self, net: nn.Module, bits: int) -> None:
        super().__init__()
        self.net, self.bits = net, bits

    def forward(self, z: Tensor) -> Tensor:
        samples: Tensor = self.net(torch.cat([z[..., : self.bits].sign(), z[..., self.bits :]], -1))
        return samples


def coded(net: nn.Module, bits: int) -> Coded:
    """A generator in which the first ``bits`` latent numbers are replaced by their signs, z (N, latent) -> (N, ...).

    The latent distribution is then a mixture of 2^bits equal parts, as in Gurumurthy et al. 2017 (DeLiGAN,
    arXiv:1706.02071). A continuous generator connects clusters by samples between them (Khayatkhoei, Singh & Elgammal
    2018, arXiv:1806.00880); a coded one need not. z needs at least one more number than ``bits``.

    Raises:
        ValueError: fewer than one bit.

    >>> points = coded(dense_generator(3, (2,), squash=False), bits=2)
    >>> z = torch.tensor([[0.1, -3.0, 1.0], [2.0, -0.2, 1.0]])
    >>> bool((points(z)[0] == points(z)[1]).all())
    True
    """
    check_integer("bits", bits, 1)
    return Coded(net, bits)


class ConditionalGenerator(nn.Module):
    """See `conditional`."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        check_floating("z", z)
        check_floating("condition", condition)
        if condition.ndim != 2 or len(condition) != len(z):
            raise ValueError(f"expected condition of shape ({len(z)}, D), got {tuple(condition.shape)}")
        samples: Tensor = self.net(torch.cat([z, condition.to(z)], 1))
        return samples


def conditional_generator(
    make: Callable[..., nn.Module], latent: int, condition: int, *args: Any, **settings: Any
) -> ConditionalGenerator:
    """A conditional generator, (z (N, latent), condition (N, condition)) -> samples (Mirza & Osindero 2014).

    A class is passed one-hot. (arXiv:1411.1784.)

    Args:
        make: a function that builds the generator, such as `dense_generator`.
        latent: dimension of z.
        condition: dimension of the condition.
        args, settings: further arguments of ``make``.

    Raises:
        ValueError: a dimension below 1; when called, a condition of another shape.

    >>> digits = conditional_generator(dense_generator, 16, 10, (1, 8, 8))
    >>> digits(torch.zeros(3, 16), torch.eye(10)[:3]).shape
    torch.Size([3, 1, 8, 8])
    """
    check_integer("latent", latent, 1)
    check_integer("condition", condition, 1)
    return ConditionalGenerator(make(latent + condition, *args, **settings))


def generator_model(generator: Callable[[Tensor], Tensor], latent: int) -> Callable[[int], Tensor]:
    """The generator as a Pyro model ``model(n)``: latent site ``z`` (n, latent) ~ N(0, 1), deterministic site ``x``.

    >>> model = generator_model(dense_generator(2, (3,)), 2)
    >>> pyro.infer.Predictive(model, num_samples=4)(7)["x"].shape
    torch.Size([4, 7, 3])
    """
    check_integer("latent", latent, 1)

    def model(n: int) -> Tensor:
        with pyro.plate("samples", n):
            z = pyro.sample("z", dist.Normal(torch.zeros(latent), 1.0).to_event(1))
        samples = generator(z)
        x: Tensor = pyro.deterministic("x", samples, event_dim=samples.ndim - 1)
        return x

    return model


def _normalised(norm: Callable[[int], nn.Module], channels: int, batch_norm: bool) -> list[nn.Module]:
    return [norm(channels), nn.ReLU()] if batch_norm else [nn.ReLU()]


def check_layers(shape: Any, widths: Any, slope: Any = 0.2, dimensions: int | None = None) -> None:
    """``ValueError`` unless all sizes of a sample and all widths of layers are whole numbers of 1 or more."""
    check_sizes("shape", shape)
    check_sizes("hidden", widths)
    if not shape or dimensions not in (None, len(shape)):
        wanted = "at least one size" if dimensions is None else "three sizes (C, H, W)"
        raise ValueError(f"expected shape to be {wanted}, got {tuple(shape)}")
    check_number("slope", slope)
