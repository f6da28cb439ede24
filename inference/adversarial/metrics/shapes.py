"""Counts of the parts of an object in single-channel images: pieces, holes, and runs along a row.

Generators get textures right before they can count (Goodfellow 2016, arXiv:1701.00160, section 5.4.1). These counts
reveal the mistake where the right number is known: a digit is one connected piece, an eight has two holes, trousers
have two legs. Compare shares with those of real images, which have exceptions, too.
"""

import numpy as np
import torch
from torch import Tensor

from posterity.validation import check_finite, check_floating, check_integer, check_number, shown_shape


def count_pieces(images: Tensor, *, threshold: float = 0.0, smallest: int = 3) -> Tensor:
    """The number (N,) of connected bright pieces of at least ``smallest`` pixels; diagonal neighbours are connected.

    Args:
        images: (N, 1, H, W) or (N, H, W).
        threshold: pixels above it are bright.
        smallest: pixels of a piece; smaller ones are specks.

    Raises:
        ValueError: images of another shape, or values that are not finite.

    >>> images = torch.zeros(1, 5, 5)
    >>> images[0, 0], images[0, 4] = 1, 1
    >>> count_pieces(images, threshold=0.5).tolist()
    [2]
    """
    return _counts(_bright(images, threshold), np.ones((3, 3)), check_integer("smallest", smallest, 1))


def count_holes(images: Tensor, *, threshold: float = 0.0, smallest: int = 1) -> Tensor:
    """The number (N,) of dark areas of at least ``smallest`` pixels that bright ones enclose.

    Arguments and errors as for `count_pieces`. Dark pixels are connected by their sides alone, so that a diagonal
    stroke encloses.

    >>> ring = torch.ones(1, 3, 3)
    >>> ring[0, 1, 1] = 0
    >>> count_holes(ring, threshold=0.5).tolist()
    [1]
    """
    bright = _bright(images, threshold)
    dark = np.pad(~bright, ((0, 0), (1, 1), (1, 1)), constant_values=True)  # one outside, around the image
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])
    return _counts(dark, cross, check_integer("smallest", smallest, 1), without_border=True)


def count_runs(images: Tensor, row: int, *, threshold: float = 0.0, smallest: int = 1) -> Tensor:
    """The number (N,) of bright runs of at least ``smallest`` pixels along a row, for example the legs of trousers.

    Raises:
        ValueError: a row outside the images, or as for `count_pieces`.

    >>> count_runs(torch.tensor([[[0.0, 1.0, 0.0, 1.0]]]), 0, threshold=0.5).tolist()
    [2]
    """
    bright = _bright(images, threshold)
    check_integer("row", row, 0, bright.shape[1] - 1)
    return _counts(bright[:, row : row + 1], np.ones((3, 3)), check_integer("smallest", smallest, 1))


def asymmetry(images: Tensor) -> Tensor:
    """Difference between images (N, 1, H, W) or (N, H, W) and their mirror images, relative to their brightness: (N,).

    The mean absolute difference, divided by the mean brightness above that of the darkest pixel: 0 for an image that
    equals its mirror image. The unit of the images cancels.

    Raises:
        ValueError: images of another shape, or values that are not finite.
    """
    images = _checked(images).double()
    difference = (images - images.flip(-1)).abs().mean((1, 2))
    spread = (images - images.amin((1, 2), keepdim=True)).mean((1, 2))
    return difference / spread.clamp_min(torch.finfo(torch.double).tiny)


def _counts(masks: np.ndarray, neighbours: np.ndarray, smallest: int, *, without_border: bool = False) -> Tensor:
    from scipy.ndimage import label

    counts = np.zeros(len(masks), dtype=np.int64)
    for index, mask in enumerate(masks):
        pieces, _ = label(mask, neighbours)
        sizes = np.bincount(pieces.ravel())[1:]
        if without_border and pieces[0, 0]:
            sizes[pieces[0, 0] - 1] = 0
        counts[index] = (sizes >= smallest).sum()
    return torch.from_numpy(counts)


def _bright(images: Tensor, threshold: float) -> np.ndarray:
    check_number("threshold", threshold)
    return (_checked(images) > threshold).cpu().numpy()


def _checked(images: Tensor) -> Tensor:
    check_floating("images", images)
    if images.ndim == 4 and images.shape[1] == 1:
        images = images[:, 0]
    if images.ndim != 3 or 0 in images.shape:
        raise ValueError(f"expected images of shape (N, 1, H, W) or (N, H, W), got {shown_shape(images)}")
    check_finite("images", images)
    return images
