"""Metrics of the fine structure of single-channel images: its power at each frequency, and its gradients.

A mean of squared errors rewards images that are too smooth, because a smooth image is the mean of all sharp ones that
are possible. These metrics do not compare pixel with pixel, and show what is missing.
"""

import math

import torch
from torch import Tensor

from posterity.validation import check_finite, check_floating, check_integer, check_number, shown_shape


def power_spectrum(image: Tensor, *, bands: int = 32) -> Tensor:
    """Mean power of an image (H, W) in ``bands`` rings of spatial frequency, from 0 to 0.5 cycles per pixel: (bands,).

    The image has its mean removed and is multiplied by a Hann window, because its opposite sides differ. Without noise,
    the power of photographs falls as the inverse square of the frequency (Field 1987, J. Opt. Soc. Am. A 4, 2379).

    Raises:
        ValueError: another shape, sides below 2 ``bands``, or values that are not finite.
    """
    check_integer("bands", bands, 2)
    _check_image("image", image)
    height, width = image.shape
    if min(height, width) < 2 * bands:
        raise ValueError(f"expected an image with sides of at least {2 * bands} pixels, got {shown_shape(image)}")
    image = image.double()
    window = torch.outer(*(torch.hann_window(side, periodic=False, dtype=torch.double) for side in (height, width)))
    power = torch.fft.fft2((image - image.mean()) * window).abs().square() / window.square().sum()
    sides = (torch.fft.fftfreq(side, dtype=torch.double) for side in (height, width))
    frequency = torch.hypot(*torch.meshgrid(*sides, indexing="ij"))
    ring = (frequency * 2 * bands + 1e-9).long().flatten()  # a frequency on the boundary belongs to the upper ring
    inside = ring < bands
    total = torch.zeros(bands, dtype=torch.double).index_add(0, ring[inside], power.flatten()[inside])
    return total / torch.bincount(ring[inside], minlength=bands)


def spectrum_distance(image: Tensor, reference: Tensor, *, lowest: float = 0.0, bands: int = 32) -> float:
    """Mean absolute difference of the log10 power of two images (H, W), over frequencies from ``lowest`` upwards.

    0.3 means that the power differs by a factor of two. Super-resolution by a factor of s adds frequencies above
    0.5 / s cycles per pixel, which ``lowest`` selects.

    Raises:
        ValueError: ``lowest`` outside [0, 0.5) or above all bands, or as `power_spectrum`.

    >>> image = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))
    >>> round(spectrum_distance(0.1 * image, image), 6)  # a hundredth of the power
    2.0
    """
    check_number("lowest", lowest, "[0, 0.5)")
    check_integer("bands", bands, 2)
    first = math.ceil(lowest * 2 * bands)
    if first >= bands:
        raise ValueError(f"expected lowest to be at most {0.5 - 0.5 / bands:g} for {bands} bands, got {lowest}")
    powers = [power_spectrum(one, bands=bands)[first:] for one in (image, reference)]
    smallest = 1e-30 * max(float(power.max()) for power in powers)  # a flat image has no power at all
    if not smallest:
        return 0.0
    one, other = (power.clamp_min(smallest).log10() for power in powers)
    return float((one - other).abs().mean())


def gradient_distance(image: Tensor, reference: Tensor) -> float:
    """Distance between the distributions of the gradients of two images, in their units per pixel.

    The earth mover's distance (Wasserstein-1) of the lengths of all differences between neighbouring pixels. A smooth
    image has too few long gradients.

    Raises:
        ValueError: images of another shape than (H, W) of 2 x 2 pixels or more, or values that are not finite.

    >>> ramp = torch.arange(16.0).expand(16, 16)
    >>> gradient_distance(2 * ramp, ramp)  # each gradient is longer by 1
    1.0
    """
    lengths = []
    for name, one in (("image", image), ("reference", reference)):
        _check_image(name, one)
        one = one.double()
        down, right = (one[1:, :-1] - one[:-1, :-1]), (one[:-1, 1:] - one[:-1, :-1])
        lengths.append(torch.hypot(down, right).flatten().sort().values)
    if len(lengths[0]) != len(lengths[1]):
        grid = (torch.arange(10_000, dtype=torch.double) + 0.5) / 10_000
        lengths = [torch.quantile(one[:: max(1, len(one) // 1_000_000)], grid) for one in lengths]
    return float((lengths[0] - lengths[1]).abs().mean())


def _check_image(name: str, image: Tensor) -> None:
    check_floating(name, image)
    if image.ndim != 2 or min(image.shape) < 2:
        raise ValueError(f"expected {name} of shape (H, W) with sides of 2 or more, got {shown_shape(image)}")
    check_finite(name, image)
