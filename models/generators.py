"""Generators: from a latent z (N, Z) to samples (N, ...), as modules and as a Pyro program.

- `dense_generator`: fully connected; for points and small images.
- `dcgan_generator`: fractionally strided convolutions (Radford, Metz & Chintala 2016, arXiv:1511.06434).
- `coded`: either, with the signs of some latent numbers for the numbers: made of pieces, for clusters without bridges.
- `conditional`: either, told what to make: the condition is appended to z.
- `generator_model`: any of them as a Pyro model, so that ``Predictive`` and ArviZ see its draws.
"""

import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from posterity.validation import check_choice, check_flag, check_floating, check_integer, check_sizes, is_number

STARTS = ("he", "torch")


def dense_generator(
    latent: int,
    shape: tuple[int, ...],
    *,
    hidden: tuple[int, ...] = (256, 512, 1024),
    slope: float = 0.2,
    squash: bool = True,
    start: str = "he",
) -> nn.Sequential:
    """z (N, latent) -> (N, *shape) through leaky ReLUs; with ``squash`` a tanh at the end, for values from -1 to 1.

    ``start``: weights as He et al. 2015 (arXiv:1502.01852, eq. 15), which keep the variance of z through all layers, so
    that samples differ from the first step on; or those of "torch", with which the first samples are nearly all alike
    (one twentieth as far from each other), and a GAN of digits with R1 has uneven classes for longer (after 2,200 steps
    by a KL of 1.1 instead of 0.17, one seed).
    Raises ``ValueError`` for a latent, a width or a size below 1, or another start.

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
    """z (N, latent) -> images (N, C, H, W) in (-1, 1): a small image of many channels, doubled until it has the size.

    ``width`` is the number of channels before the last layer, doubled at each step back (Radford et al. have 128). The
    size is halved as long as it is even and above 4: 28 x 28 begins as 7 x 7, 64 x 64 as 4 x 4. ``hidden`` are dense
    layers before it (Chen et al. 2016, InfoGAN, appendix C.1, has 1,024 for digits): on a CPU they cost little.
    ``batch_norm`` is that of all layers but the last, as theirs. ``start``: "small", their weights with a sd of 0.02,
    or "he", see `dense_generator`; without one, "small" with normalisation and "he" without it, since nothing else
    would keep the variance of z. Raises ``ValueError`` for sizes below 1, another start, or an image whose sides cannot
    be halved as often as each other.

    >>> dcgan_generator(100, (1, 28, 28), width=8)(torch.zeros(2, 100)).shape
    torch.Size([2, 1, 28, 28])
    """
    check_integer("latent", latent, 1)
    check_integer("width", width, 1)
    check_layers(shape, hidden, dimensions=3)
    check_flag("batch_norm", batch_norm)
    begin = _beginnings(start, batch_norm)
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
    return begin(nn.Sequential(*layers))


def _beginnings(start: str | None, batch_norm: bool) -> Callable[[nn.Sequential], nn.Sequential]:
    ways: dict[str, Callable[[nn.Sequential], nn.Sequential]] = {"small": started_small, "he": started_he}
    wanted = ("small" if batch_norm else "he") if start is None else start
    check_choice("start", wanted, list(ways))
    return ways[wanted]


def halvings(height: int, breadth: int) -> int:
    """How often an image of this size is halved: while both sides are even and above 4."""
    steps = 0
    while height % 2 == breadth % 2 == 0 and min(height, breadth) > 4:
        height, breadth, steps = height // 2, breadth // 2, steps + 1
    if not steps:
        raise ValueError(
            f"expected an image whose sides are even and above 4, got {height} x {breadth}: see Images.padded"
        )
    return steps


def started_he(net: nn.Sequential, slope: float = 0.0) -> nn.Sequential:
    """Weights of variance 2 / ((1 + slope²) n), n the inputs of an output, no biases (He et al. 2015, eq. 15)."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            inputs = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels * _taps(layer)
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2 / ((1 + slope**2) * inputs)))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return net


def _taps(layer: nn.Conv2d | nn.ConvTranspose2d) -> float:
    """Pixels that reach one pixel: of a kernel that is spread out, each pixel of the result meets a part of it."""
    taps = math.prod(layer.kernel_size)
    return taps / math.prod(layer.stride) if isinstance(layer, nn.ConvTranspose2d) else taps


def started_small(net: nn.Sequential) -> nn.Sequential:
    """Weights of sd 0.02, batch normalisation around 1, no biases (Radford et al. 2016, section 4)."""
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
        made: Tensor = self.net(torch.cat([z[..., : self.bits].sign(), z[..., self.bits :]], -1))
        return made


def coded(net: nn.Module, bits: int) -> Coded:
    """A generator whose first ``bits`` latent numbers count by their signs alone: z (N, latent) -> samples (N, ...).

    z is then a code of 2^bits equally likely values beside normal numbers, a mixture as in Gurumurthy et al. 2017
    (DeLiGAN, arXiv:1706.02071). A continuous generator must bridge the gaps between clusters with samples that are of
    none (Khayatkhoei, Singh & Elgammal 2018, arXiv:1806.00880); this one need not, whatever the number of clusters.
    Raises ``ValueError`` for fewer than one bit; at least one more latent number is needed.

    >>> points = coded(dense_generator(3, (2,), squash=False), bits=2)
    >>> z = torch.tensor([[0.1, -3.0, 1.0], [2.0, -0.2, 1.0]])
    >>> bool((points(z)[0] == points(z)[1]).all())
    True
    """
    check_integer("bits", bits, 1)
    return Coded(net, bits)


class Conditional(nn.Module):
    """See `conditional`."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, z: Tensor, condition: Tensor) -> Tensor:
        check_floating("z", z)
        check_floating("condition", condition)
        if condition.ndim != 2 or len(condition) != len(z):
            raise ValueError(f"expected a condition of shape ({len(z)}, D), got {tuple(condition.shape)}")
        made: Tensor = self.net(torch.cat([z, condition.to(z)], 1))
        return made


def conditional(
    make: Callable[..., nn.Module], latent: int, condition: int, *args: Any, **settings: Any
) -> Conditional:
    """A generator called with z (N, latent) and a condition (N, condition): Mirza & Osindero 2014, arXiv:1411.1784.

    ``make`` is one of the generators above, called with ``args`` and ``settings``; a class is given one-hot.

    >>> digits = conditional(dense_generator, 16, 10, (1, 8, 8))
    >>> digits(torch.zeros(3, 16), torch.eye(10)[:3]).shape
    torch.Size([3, 1, 8, 8])
    """
    check_integer("latent", latent, 1)
    check_integer("condition", condition, 1)
    return Conditional(make(latent + condition, *args, **settings))


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
        made = generator(z)
        x: Tensor = pyro.deterministic("x", made, event_dim=made.ndim - 1)
        return x

    return model


def _normalised(norm: Callable[[int], nn.Module], channels: int, batch_norm: bool) -> list[nn.Module]:
    return [norm(channels), nn.ReLU()] if batch_norm else [nn.ReLU()]


def check_layers(shape: Any, widths: Any, slope: Any = 0.2, dimensions: int | None = None) -> None:
    """``ValueError`` unless all sizes of a sample and all widths of layers are whole numbers of 1 or more."""
    check_sizes("shape", shape)
    check_sizes("hidden", widths)
    if not shape or dimensions not in (None, len(shape)):
        wanted = "of one size or more" if dimensions is None else "(C, H, W)"
        raise ValueError(f"expected shape {wanted}, got {tuple(shape)}")
    if not is_number(slope):
        raise ValueError(f"expected slope to be a finite number, got {slope!r}")
