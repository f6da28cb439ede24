"""Networks that enlarge pictures (Ledig et al. 2017, SRGAN, arXiv:1609.04802), and the uncertainty of each pixel.

- `super_resolution`: luminance (N, 1, h, w) -> (N, 1, 4 h, 4 w), by residual blocks and pixel shuffle (Shi et al. 2016,
  arXiv:1609.05158); sizes by name. `SuperResolution.distribution` is a mixture of normals for each pixel.
- `texture_classifier`: a network whose features a loss compares; trained to recognise the photograph a crop comes from.
- `enlarge`: a `posterity.data.Picture`, in tiles.
- `save_super_resolution`, `load_super_resolution`: a file of half-precision weights.
"""

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_shuffle

from posterity.data.photographs import oriented, restored
from posterity.data.picture_file import MATRIX, Picture
from posterity.files import read_tensors, write_tensors
from posterity.models.generators import started_he
from posterity.models.mixtures import Mixture
from posterity.models.residual import START, ResidualBlock, shrink_last_layers
from posterity.models.tiling import in_tiles
from posterity.validation import check_choice, check_flag, check_floating, check_integer, shown, shown_shape

SIZES = {"small": (16, 4), "medium": (32, 6), "large": (48, 8)}  # channels, residual blocks
MEAN = 0.45  # of the luminance of photographs
# The luminance of colours that were rounded to 8 bits: a uniform error of one level in each.
ROUNDING = math.hypot(*MATRIX[0]) / (255 * math.sqrt(12))
FORMAT = "posterity super-resolution 1"


class SuperResolution(nn.Module):
    """See `super_resolution`.

    No output pixel depends on input pixels more than ``reach`` pixels away.
    """

    def __init__(self, width: int, blocks: int, scale: int, components: int) -> None:
        super().__init__()
        self.width, self.blocks, self.scale, self.components = width, blocks, scale, components
        self.reach = 2 * blocks + 3 + bool(components)
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)), nn.Conv2d(width, width, 3, padding=1))
        self.last = nn.Conv2d(width, scale**2, 3, padding=1)
        self.errors = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, 2 * components * scale**2, 3, padding=1),
        ) if components else None  # fmt: skip
        self.temperature: Tensor
        self.register_buffer("temperature", torch.ones(()))
        started_he(self)
        shrink_last_layers(self)
        with torch.no_grad():
            self.last.weight.mul_(START)
            if self.errors is not None:
                self.errors[-1].weight.mul_(START)  # type: ignore[operator]

    def features(self, low: Tensor) -> Tensor:
        """Features (N, width, h, w) of luminances (N, 1, h, w)."""
        check_floating("low", low)
        if low.ndim != 4 or low.shape[1] != 1 or 0 in low.shape:
            raise ValueError(f"expected low of shape (N, 1, h, w), none of them 0, got {shown_shape(low)}")
        first = self.first(low - MEAN)
        features: Tensor = first + self.body(first)
        return features

    def _enlarged(self, low: Tensor, features: Tensor) -> Tensor:
        smooth = interpolate(low, scale_factor=self.scale, mode="bicubic", align_corners=False)
        return smooth + pixel_shuffle(self.last(features), self.scale)

    def forward(self, low: Tensor) -> Tensor:
        """Enlarged luminances (N, 1, scale h, scale w), a little outside the range of the input at times.

        Raises:
            ValueError: ``low`` of another shape than (N, 1, h, w).
        """
        return self._enlarged(low, self.features(low))

    def parameters_of(self, low: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean (N, 1, H, W), and logits and log scales (N, K, H, W) of each pixel, H = scale h and W = scale w.

        Raises:
            ValueError: a network without ``components``.
        """
        if self.errors is None:
            raise ValueError(
                "expected a network with components, got one without; build it with super_resolution(components=3)"
            )
        features = self.features(low)
        logits, raw = pixel_shuffle(self.errors(features), self.scale).chunk(2, 1)
        start = torch.linspace(-5, -2, self.components).to(raw)[:, None, None]  # from flat areas to edges
        return self._enlarged(low, features), logits, start + raw

    def distribution(self, low: Tensor) -> Mixture:
        """For each pixel a mixture of K normals with one mean, batch shape (N, 1, H, W).

        The tails of errors in photographs are heavy, so that one normal would not fit. All standard deviations are at
        least that of rounding to 8 bits, and are then multiplied by the ``temperature`` of the network, which is 1
        until it is calibrated.
        """
        mean, logits, log_scales = self.parameters_of(low)
        scale = self.temperature * (softplus_exp(log_scales) + ROUNDING)
        return Mixture.normal(
            logits.movedim(1, -1)[:, None], mean[..., None], scale.movedim(1, -1)[:, None]
        )  # fmt: skip


def softplus_exp(values: Tensor) -> Tensor:
    """exp for small values and linear above 0, so that one outlier cannot give an infinite scale."""
    return torch.where(values < 0, values.clamp(max=0).exp(), 1 + values.clamp(min=0))


def super_resolution(size: str = "medium", *, scale: int = 4, components: int = 0) -> SuperResolution:
    """A network of luminances (N, 1, h, w) -> (N, 1, scale h, scale w).

    The residual blocks work at the size of the input. The network predicts the difference from the bicubic enlargement,
    and starts near zero. Names in `SIZES`: "small" has 16 channels and 4 residual blocks, "medium" 32 and 6, "large" 48
    and 8.

    Args:
        size: name of a size.
        scale: factor of enlargement.
        components: normals in the mixture of each pixel; 0 for a network without `SuperResolution.distribution`.

    Raises:
        ValueError: another size, a scale below 2, or components below 0.

    >>> net = super_resolution("small", components=3)
    >>> net(torch.zeros(1, 1, 6, 5)).shape, net.distribution(torch.zeros(1, 1, 6, 5)).batch_shape
    (torch.Size([1, 1, 24, 20]), torch.Size([1, 1, 24, 20]))
    """
    check_choice("size", size, list(SIZES))
    check_integer("scale", scale, 2)
    check_integer("components", components, 0)
    return SuperResolution(*SIZES[size], scale, components)


class TextureClassifier(nn.Module):
    """See `texture_classifier`."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, stride in (
            (1, width, 1),
            (width, width, 2),
            (width, 2 * width, 1),
            (2 * width, 2 * width, 2),
        ):
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1), nn.ReLU()]
        self.layers = started_he(nn.Sequential(*layers))
        self.logits = nn.Linear(4 * width, classes)

    def features(self, images: Tensor) -> Tensor:
        """Features (N, 2 width, H / 4, W / 4)."""
        found: Tensor = self.layers(images - MEAN)
        return found

    def forward(self, images: Tensor) -> Tensor:
        found = self.features(images)
        logits: Tensor = self.logits(torch.cat([found.mean((2, 3)), found.amax((2, 3))], 1))
        return logits


def texture_classifier(classes: int, *, width: int = 24) -> TextureClassifier:
    """A network of luminances (N, 1, H, W) -> logits (N, classes), from mean and maximum of its features.

    Trained to recognise which of several photographs a crop comes from, its features describe textures. Unlike VGG,
    which published feature losses use, it needs no other data than these photographs.

    Raises:
        ValueError: fewer than two classes, or a width below 1.

    >>> texture_classifier(60, width=8)(torch.zeros(2, 1, 32, 32)).shape
    torch.Size([2, 60])
    """
    check_integer("classes", classes, 2)
    check_integer("width", width, 1)
    return TextureClassifier(classes, width)


def enlarge(net: SuperResolution, picture: Picture, *, tile: int = 128, orientations: bool = False) -> Picture:
    """The picture at ``net.scale`` times its size: luminance by the network, colour and opacity bicubically.

    Memory: about ``8 width (tile + 2 reach)²`` bytes for one tile, and the planes of both pictures.

    Args:
        net: from `super_resolution`.
        picture: of any size.
        tile: input pixels on each side of a tile.
        orientations: whether to average the results of all eight orientations of the picture (Lim et al. 2017, EDSR+),
            which takes eight times as long and gains less than 0.1 dB.

    Raises:
        ValueError: an object that is not a picture.
    """
    if not isinstance(picture, Picture):
        raise ValueError(f"expected picture to be a Picture, got {shown(picture)}")
    check_flag("orientations", orientations)
    like, picture = net.first.weight, picture.filled()
    low = picture.luminance[None, None].to(like)
    results = [
        restored(in_tiles(net, oriented(low, one), tile=tile, margin=net.reach, scale=net.scale), one)
        for one in range(8 if orientations else 1)
    ]
    height, width = (net.scale * side for side in picture.size)
    return picture.resized(height, width).with_luminance((sum(results[1:], results[0]) / len(results))[0, 0].cpu())


def save_super_resolution(net: SuperResolution, path: str | Path) -> Path:
    """Write the network in half precision, and return the path; an old file is replaced at the end."""
    weights = {name: value.half() if value.ndim else value for name, value in net.state_dict().items()}
    settings = {"width": net.width, "blocks": net.blocks, "scale": net.scale, "components": net.components}
    return write_tensors({"format": FORMAT, "settings": settings, "weights": weights}, path)


def load_super_resolution(path: str | Path) -> SuperResolution:
    """The network that `save_super_resolution` stored, in evaluation mode.

    Raises:
        ValueError: the file is damaged or holds something else.
    """
    content = read_tensors(path, "a super-resolution network", format=FORMAT)
    net = SuperResolution(**content["settings"])
    net.load_state_dict({name: value.float() for name, value in content["weights"].items()})
    return net.eval()
