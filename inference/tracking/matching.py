"""Matching of found with true tracks: efficiency, fakes and duplicates.

A found track is assigned to the nearest true one by the root mean square of their distance over the layers, if that is
below a limit. Of several found tracks assigned to one true track, the nearest is its match and the others are
duplicates. A found track that is not assigned is a fake. Hence

    efficiency = matched true tracks / all true tracks,
    fake rate = fakes / found tracks,    duplicate rate = duplicates / found tracks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from posterity.data.tracks import track_distances
from posterity.validation import check_number

MAX_DISTANCE = 1.0  # pixels


@dataclass(frozen=True, eq=False)
class Matches:
    """Matches of N events with up to T true and F found tracks each.

    Attributes:
        true_index: Index (N, F) of the true track that each found one matches, or -1.
        found_index: Index (N, T) of the found track that matches each true one, or -1.
        fake: Whether a found track is a fake, (N, F).
        duplicate: Whether a found track is a duplicate, (N, F).
        found: Whether there is a found track, (N, F).
        present: Whether there is a true track, (N, T).
    """

    true_index: Tensor
    found_index: Tensor
    fake: Tensor
    duplicate: Tensor
    found: Tensor
    present: Tensor

    def rates(self) -> dict[str, float]:
        """``efficiency``, ``fake_rate`` and ``duplicate_rate`` over all events; NaN where the denominator is zero."""
        matched, true, found = (int(x.sum()) for x in (self.found_index >= 0, self.present, self.found))
        return {
            "efficiency": matched / true if true else float("nan"),
            "fake_rate": int(self.fake.sum()) / found if found else float("nan"),
            "duplicate_rate": int(self.duplicate.sum()) / found if found else float("nan"),
        }


def match(found: Tensor, true: Tensor, *, max_distance: float = MAX_DISTANCE) -> Matches:
    """Matches of ``found`` tracks (N, F, 2) with ``true`` ones (N, T, 2).

    Tracks are intercepts in pixels, rows of NaN where there is no track; ``max_distance`` is in pixels as well.

    Raises:
        ValueError: Other shapes or types, infinite intercepts, or a ``max_distance`` that is not above 0.

    >>> true = torch.tensor([[[1.0, 5.0], [8.0, 2.0]]])
    >>> match(torch.tensor([[[1.1, 5.0], [1.3, 5.2], [20.0, 3.0]]]), true).rates()
    {'efficiency': 0.5, 'fake_rate': 0.3333333333333333, 'duplicate_rate': 0.3333333333333333}
    """
    _check_tracks(found, true)
    check_number("max_distance", max_distance, "(0, inf)")
    there, present = ~found.isnan().any(-1), ~true.isnan().any(-1)
    distance = track_distances(found, true)
    distance = torch.where(there[:, :, None] & present[:, None, :], distance, torch.inf)
    if not found.shape[1] or not true.shape[1]:
        true_index, found_index = (torch.full(table.shape[:2], -1, device=found.device) for table in (found, true))
        return Matches(true_index, found_index, there, torch.zeros_like(there), there, present)
    nearest_distance, nearest = distance.min(2)
    assigned = nearest_distance < max_distance
    own = assigned[:, :, None] & (nearest[:, :, None] == torch.arange(true.shape[1], device=found.device))
    own_distance = torch.where(own, distance, torch.inf)
    best, first = own_distance.min(1)  # (N, T)
    found_index = torch.where(best < torch.inf, first, -1)
    winner = found_index.gather(1, nearest) == torch.arange(found.shape[1], device=found.device)
    matched = assigned & winner
    return Matches(
        true_index=torch.where(matched, nearest, -1),
        found_index=found_index,
        fake=there & ~assigned,
        duplicate=assigned & ~winner,
        found=there,
        present=present,
    )


def _check_tracks(found: Tensor, true: Tensor) -> None:
    if not isinstance(found, Tensor) or not isinstance(true, Tensor):
        raise ValueError(
            f"expected tensors of found and true tracks, such as found.tracks and events.tracks, got "
            f"{type(found).__name__} and {type(true).__name__}"
        )
    if found.ndim != 3 or true.ndim != 3 or len(found) != len(true) or found.shape[2] != 2 or true.shape[2] != 2:
        raise ValueError(
            f"expected found (N, F, 2) and true (N, T, 2), got {tuple(found.shape)} and {tuple(true.shape)}"
        )
    for name, table in (("found", found), ("true", true)):
        if table.is_complex() or table.dtype == torch.bool:
            raise ValueError(f"expected {name} tracks of real numbers, got {table.dtype}")
        if bool(table.isinf().any()):
            raise ValueError(f"expected {name} tracks that are finite, or NaN where there is none, got infinite ones")
