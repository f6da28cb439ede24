"""`in_tiles`: apply a network to an image that is too large for memory, tile by tile."""

from collections.abc import Callable

import torch
from torch import Tensor

from posterity.validation import check_callable, check_integer, shown_shape


@torch.no_grad()
def in_tiles(
    function: Callable[[Tensor], Tensor], images: Tensor, *, tile: int = 128, margin: int = 32, scale: int = 1
) -> Tensor:
    """``function`` of images (N, C, H, W), computed in tiles: (N, D, scale H, scale W).

    Each tile is computed with a margin of real pixels on all sides, which is then cut off. If no output pixel depends
    on input pixels further away than the margin, the result is that of the whole image, up to rounding.

    Args:
        function: images (N, C, h, w) -> (N, D, scale h, scale w), for any h and w.
        images: (N, C, H, W).
        tile: height and width of a tile without its margin.
        margin: further input pixels on each side.
        scale: factor by which the function enlarges.

    Raises:
        ValueError: images of another shape, a tile or scale below 1, a margin below 0, or outputs of another size.
    """
    check_callable("function", function, "images")
    check_integer("tile", tile, 1)
    check_integer("margin", margin, 0)
    check_integer("scale", scale, 1)
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"expected images of shape (N, C, H, W), none of them 0, got {shown_shape(images)}")
    height, width = images.shape[2:]
    results = list[Tensor]()
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            bottom, right = min(top + tile, height), min(left + tile, width)
            first, last = max(top - margin, 0), max(left - margin, 0)
            part = images[:, :, first : bottom + margin, last : right + margin]
            output = function(part)
            if output.shape[2:] != (part.shape[2] * scale, part.shape[3] * scale):
                raise ValueError(
                    f"expected a function that enlarges {tuple(part.shape[2:])} by {scale}, got {shown_shape(output)}"
                )
            if not results:
                results.append(output.new_empty(len(images), output.shape[1], height * scale, width * scale))
            kept = output[:, :, (top - first) * scale :, (left - last) * scale :]
            rows, columns = (bottom - top) * scale, (right - left) * scale
            place = results[0][:, :, top * scale : bottom * scale, left * scale : right * scale]
            place.copy_(kept[:, :, :rows, :columns])
    return results[0]
