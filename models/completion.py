"""Networks that complete a picture with a hidden part, in many ways, and judge such completions.

- `CompletionGenerator`: a U-Net (Ronneberger et al. 2015, arXiv:1505.04597) with latent numbers at the bottleneck.
- `CompletionCritic`: a global and a local discriminator (Iizuka, Simo-Serra & Ishikawa 2017, ACM Trans. Graph. 36:107).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from posterity.models.generators import started_he
from posterity.validation import check_floating, check_integer, shown_shape

HALVINGS = 3
GROUPS = 4  # of channels that are normalised together
CODE = 128  # numbers that the whole visible picture is summarised in
SLOPE = 0.2  # of leaky ReLUs


class CompletionGenerator(nn.Module):
    """inputs (N, 2 + latent, H, W) of `posterity.data.MaskedImages` -> completed images and masks (N, 2, H, W).

    Visible pixels are copied; hidden pixels are ``mean`` plus the output of the network.

    Args:
        mean: image (H, W) from -1 to 1 that completions start from, such as the mean of all faces.
        latent: number of latent numbers.
        width: channels at full size, doubled at each of the first two halvings; a multiple of 4.

    Raises:
        ValueError: sides that are not multiples of 8, or sizes below 1; when called, inputs of another shape.

    >>> generator = CompletionGenerator(torch.zeros(16, 24), latent=3, width=4)
    >>> generator(torch.zeros(5, 5, 16, 24)).shape
    torch.Size([5, 2, 16, 24])
    """

    mean: Tensor

    def __init__(self, mean: Tensor, *, latent: int = 16, width: int = 24) -> None:
        super().__init__()
        check_floating("mean", mean)
        if mean.ndim != 2 or any(side % 2**HALVINGS or not side for side in mean.shape):
            raise ValueError(f"expected mean (H, W) with sides that are multiples of 8, got {shown_shape(mean)}")
        check_integer("latent", latent, 1)
        check_integer("width", width, 1)
        if width % GROUPS:
            raise ValueError(f"expected width to be a multiple of {GROUPS}, got {width}")
        self.latent, self.width = latent, width
        self.register_buffer("mean", mean.float())
        small = (4 * width, mean.shape[0] // 2**HALVINGS, mean.shape[1] // 2**HALVINGS)
        size = small[0] * small[1] * small[2]
        self.down = nn.ModuleList(
            [
                _layer(2, width),
                _layer(width, 2 * width, 2),
                _layer(2 * width, 4 * width, 2),
                _layer(4 * width, 4 * width, 2),
            ]
        )
        self.code = nn.Sequential(nn.Flatten(), nn.Linear(size, CODE), nn.SiLU())
        self.decoded = nn.Sequential(nn.Linear(CODE + latent, size), nn.Unflatten(1, small))
        self.up = nn.ModuleList(
            [
                _layer(8 * width, 4 * width),
                _layer(8 * width, 4 * width),
                _layer(6 * width, 2 * width),
                _layer(3 * width, width),
            ]
        )
        self.last = nn.Conv2d(width, 1, 3, padding=1)
        with torch.no_grad():
            self.last.weight.mul_(0.5)

    def forward(self, inputs: Tensor) -> Tensor:
        check_floating("inputs", inputs)
        wanted = (2 + self.latent, *self.mean.shape)
        if inputs.ndim != 4 or tuple(inputs.shape[1:]) != wanted:
            raise ValueError(
                f"expected inputs of shape (N, {wanted[0]}, {wanted[1]}, {wanted[2]}), got {shown_shape(inputs)}"
            )
        seen, hidden, z = inputs[:, :1], inputs[:, 1:2], inputs[:, 2:, 0, 0]
        x = torch.cat([2 * (seen - self.mean * (1 - hidden)), hidden], 1)
        passed = []
        for layer in self.down:
            x = layer(x)
            passed.append(x)
        x = self.decoded(torch.cat([self.code(x), z], 1))
        for layer in self.up:
            other = passed.pop()
            if x.shape[2:] != other.shape[2:]:
                x = interpolate(x, size=other.shape[2:])
            x = layer(torch.cat([x, other], 1))
        completed = seen + hidden * (self.mean + self.last(x) / 2)
        return torch.cat([completed, hidden], 1)


class CompletionCritic(nn.Module):
    """samples (N, 2, H, W), images and masks -> logits (N,): the sum of a global and a local logit.

    The global one is of the whole picture, the local one of the hidden part and two pixels around it.

    Raises:
        ValueError: sides that are not multiples of 8, or a width below 1; when called, samples of another shape.
    """

    def __init__(self, height: int, breadth: int, *, width: int = 16) -> None:
        super().__init__()
        for name, side in (("height", height), ("breadth", breadth)):
            check_integer(name, side, 2**HALVINGS)
            if side % 2**HALVINGS:
                raise ValueError(f"expected {name} to be a multiple of {2**HALVINGS}, got {side}")
        check_integer("width", width, 1)
        self.size = (height, breadth)
        self.whole, self.part = (_judge(height, breadth, width) for _ in range(2))
        started_he(self, SLOPE)

    def forward(self, samples: Tensor) -> Tensor:
        check_floating("samples", samples)
        if samples.ndim != 4 or tuple(samples.shape[1:]) != (2, *self.size):
            raise ValueError(
                f"expected samples of shape (N, 2, {self.size[0]}, {self.size[1]}), got {shown_shape(samples)}"
            )
        image, hidden = samples[:, :1], samples[:, 1:]
        rim = nn.functional.max_pool2d(hidden, 5, 1, 2)
        logits: Tensor = self.whole(samples) + self.part(torch.cat([image * rim, hidden], 1))
        return logits[:, 0]


def other_latents(inputs: Tensor) -> Tensor:
    """The same inputs (..., N, C, H, W), each with the latent numbers of the previous one in the batch."""
    latent = inputs[..., 2:, :, :].roll(1, -4)
    return torch.cat([inputs[..., :2, :, :], latent], -3)


def _layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.GroupNorm(GROUPS, outputs), nn.SiLU())


def _judge(height: int, breadth: int, width: int) -> nn.Sequential:
    layers: list[Any] = []
    inputs = 2
    for step in range(HALVINGS):
        layers += [nn.Conv2d(inputs, width * 2**step, 4, 2, 1), nn.LeakyReLU(SLOPE)]
        inputs = width * 2**step
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs * height * breadth // 64, 1))
