"""What an image says about tracks: how many hits lie on each.

Sums over lines are the sufficient statistic: given the noise, the log likelihood of one track is linear in the number
of fired pixels on it. Both maps here are fixed, of the detector's geometry alone; what is learnt comes after them.

- `HoughMap` counts on a coarse grid over all tracks (Hough 1962): where to look.
- `RoadMap` counts on a fine grid of tracks near given ones: what exactly is there.
"""

import torch
from torch import Tensor, nn

from posterity.data.tracks import Detector, check_tracks
from posterity.validation import check_integer, check_number


def hough_matrix(size: int, layers: int, per_pixel: int = 1) -> Tensor:
    """(size layers, G²), G = size per_pixel: 1 where a pixel lies on the track of a cell of the (b1, b2) plane.

    A flattened image times this is the number of fired pixels on the track through the centre of each cell.
    """
    check_integer("per_pixel", per_pixel, 1)
    detector = Detector(size=size, layers=layers)
    at = (torch.arange(size * per_pixel) + 0.5) / per_pixel
    rows = detector.crossed(torch.cartesian_prod(at, at))
    lines = torch.zeros(len(rows), size, layers).scatter_(1, rows[:, None], 1.0)
    return lines.flatten(1).T.contiguous()


class HoughMap(nn.Module):
    """Images (N, 1, size, layers) -> (N, 1, G, G): the share of fired pixels on the track of each cell."""

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
    """Images (N, 1, size, layers) and tracks (N, M, 2) -> hits (N, M, P²) on tracks around each of them.

    The P x P tracks have intercepts ``step`` apart, up to P step / 2 off in both. The road is as wide, and every layer
    is looked at in steps of ``step`` / 2: two tracks that differ by less than that may be counted as one.
    """

    u: Tensor
    away: Tensor
    offsets: Tensor
    matrix: Tensor

    def __init__(self, size: int, layers: int, *, points: int = 24, step: float = 1 / 16) -> None:
        super().__init__()
        check_integer("points", points, 1)
        check_number("step", step, "(0, inf)")
        Detector(size=size, layers=layers)  # refuses what is none
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
            got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise ValueError(f"expected images of shape (N, 1, {self.size}, {self.layers}), got {got}")
        images = images.to(self.u.dtype)
        check_tracks(tracks, len(images), rows=False)
        tracks = tracks.to(self.u.dtype).nan_to_num(-1e4)  # what is no track has no hits
        y = torch.lerp(tracks[..., :1], tracks[..., 1:], self.u)
        rows = (y[..., None] + self.away).floor().long().transpose(1, 2)  # (N, layers, M, W)
        inside = (rows >= 0) & (rows < self.size)
        columns = images[:, 0].transpose(1, 2)
        fired = columns.gather(2, rows.clamp(0, self.size - 1).flatten(2)).view(rows.shape) * inside
        return fired.transpose(1, 2).flatten(2) @ self.matrix


def hits_on(images: Tensor, tracks: Tensor) -> Tensor:
    """(N, Q): how many of the pixels that tracks (N, Q, 2) cross have fired in images (N, 1, size, layers)."""
    size, layers = images.shape[2:]
    u = torch.linspace(0, 1, layers, dtype=tracks.dtype, device=tracks.device)
    y = torch.lerp(tracks[..., :1], tracks[..., 1:], u)
    # What is outside meets a border that never fires.
    framed = nn.functional.pad(images[:, 0], (0, 0, 1, 1)).flatten(1)
    place = y.clamp_(-1, size).floor_().add_(1).mul_(layers).add_(torch.arange(layers, device=y.device))
    return framed.gather(1, place.long().flatten(1)).unflatten(1, place.shape[1:]).sum(-1)
