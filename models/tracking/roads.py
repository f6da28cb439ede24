"""Counts of hits on tracks, the sufficient statistic of an image.

Given the noise, the log likelihood of one track is linear in the number of fired pixels on it. Both maps depend on the
geometry of the detector alone, without parameters to learn.

- `HoughMap` counts hits on a coarse grid over all tracks (Hough 1962).
- `RoadMap` counts hits on a fine grid of tracks near given ones.
"""

import torch
from torch import Tensor, nn

from posterity.data.tracks import Detector, check_tracks
from posterity.validation import check_integer, check_number, shown_shape


def hough_matrix(size: int, layers: int, per_pixel: int = 1) -> Tensor:
    """The matrix (size * layers, G²), G = size * per_pixel, with 1 where a pixel lies on the track of a cell.

    A flattened image times this matrix is the number of fired pixels on the track at the centre of each cell of the
    (b1, b2) plane.

    Raises:
        ValueError: fewer than 2 pixels or layers, or ``per_pixel`` below 1.
    """
    check_integer("per_pixel", per_pixel, 1)
    detector = Detector(size=size, layers=layers)
    at = (torch.arange(size * per_pixel) + 0.5) / per_pixel
    rows = detector.crossed(torch.cartesian_prod(at, at))
    lines = torch.zeros(len(rows), size, layers).scatter_(1, rows[:, None], 1.0)
    return lines.flatten(1).T.contiguous()


class HoughMap(nn.Module):
    """Images (N, 1, size, layers) -> (N, 1, G, G), the fraction of fired pixels on the track of each cell.

    Raises:
        ValueError: as `hough_matrix`; when called, images of another shape or with pixels other than 0 and 1.
    """

    matrix: Tensor

    def __init__(self, size: int, layers: int, *, per_pixel: int = 2) -> None:
        super().__init__()
        self.detector = Detector(size=size, layers=layers)
        check_integer("per_pixel", per_pixel, 1)
        self.side = size * per_pixel
        self.register_buffer("matrix", hough_matrix(size, layers, per_pixel) / layers, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        fired = self.detector.check(images).to(self.matrix)
        return (fired.flatten(1) @ self.matrix).unflatten(1, (1, self.side, self.side))


class RoadMap(nn.Module):
    """Images (N, 1, size, layers) and tracks (N, M, 2) -> hits (N, M, P²) on a grid of tracks around each track.

    The P x P tracks of the grid have intercepts ``step`` pixels apart, up to P * step / 2 from those of the track.
    Positions within a layer are rounded to ``step`` / 2, so that closer tracks may have equal counts.

    Raises:
        ValueError: fewer than 2 pixels or layers, points below 1, or a step that is not above 0; when called, images or
            tracks of another shape.
    """

    u: Tensor
    away: Tensor
    offsets: Tensor
    matrix: Tensor

    def __init__(self, size: int, layers: int, *, points: int = 24, step: float = 1 / 16) -> None:
        super().__init__()
        check_integer("points", points, 1)
        check_number("step", step, "(0, inf)")
        Detector(size=size, layers=layers)  # checks both
        self.size, self.layers, self.step = size, layers, step
        reach = points * step / 2
        u = torch.linspace(0, 1, layers)
        at = (torch.arange(points) + 0.5) * step - reach
        offsets = torch.cartesian_prod(at, at)
        away = torch.linspace(-reach, reach, 2 * points + 1)
        which = ((torch.lerp(offsets[:, :1], offsets[:, 1:], u) + reach) * 2 / step).round().long()
        chosen = torch.zeros(len(offsets), layers, len(away)).scatter_(2, which[..., None], 1.0)
        self.register_buffer("u", u, persistent=False)
        self.register_buffer("away", away, persistent=False)
        self.register_buffer("offsets", offsets, persistent=False)
        self.register_buffer("matrix", chosen.flatten(1).T.contiguous(), persistent=False)

    def forward(self, images: Tensor, tracks: Tensor) -> Tensor:
        if not isinstance(images, Tensor) or tuple(images.shape[1:]) != (1, self.size, self.layers):
            wanted = f"(N, 1, {self.size}, {self.layers})"
            raise ValueError(f"expected images of shape {wanted}, got {shown_shape(images)}")
        images = images.to(self.u.dtype)
        check_tracks(tracks, len(images), rows=False)
        tracks = tracks.to(self.u.dtype).nan_to_num(-1e4)  # far outside, without hits
        y = torch.lerp(tracks[..., :1], tracks[..., 1:], self.u)
        rows = (y[..., None] + self.away).floor().long().transpose(1, 2)  # (N, layers, M, W)
        inside = (rows >= 0) & (rows < self.size)
        columns = images[:, 0].transpose(1, 2)
        fired = columns.gather(2, rows.clamp(0, self.size - 1).flatten(2)).view(rows.shape) * inside
        return fired.transpose(1, 2).flatten(2) @ self.matrix


def hits_on(images: Tensor, tracks: Tensor) -> Tensor:
    """The number (N, Q) of fired pixels on tracks (N, Q, 2) in images (N, 1, size, layers)."""
    size, layers = images.shape[2:]
    u = torch.linspace(0, 1, layers, dtype=tracks.dtype, device=tracks.device)
    y = torch.lerp(tracks[..., :1], tracks[..., 1:], u)
    # Positions outside the detector meet a border that never fires.
    framed = nn.functional.pad(images[:, 0], (0, 0, 1, 1)).flatten(1)
    place = y.clamp_(-1, size).floor_().add_(1).mul_(layers).add_(torch.arange(layers, device=y.device))
    return framed.gather(1, place.long().flatten(1)).unflatten(1, place.shape[1:]).sum(-1)
