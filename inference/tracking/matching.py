"""Found tracks against true ones: which of them are the same, which are fakes, which are found twice.

A found track is assigned to the nearest true one, by the root mean square of their distance in the layers, if that is
below a limit; of several assigned to one true track, the nearest is its match and the others are duplicates. What is
assigned to none is a fake. So

    efficiency = matched true tracks / all true tracks,
    fake rate = fakes / found tracks,    duplicate rate = duplicates / found tracks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from posterity.data.tracks import track_distances
from posterity.validation import check_number

LIMIT = 1.0


@dataclass(frozen=True, eq=False)
class Matches:
    """Of N events with T true tracks and F found ones.

    Attributes:
        true_of: (N, F), the true track of each found one that is a match, or -1.
        found_of: (N, T), the found track that is the match of each true one, or -1.
        fake, duplicate: (N, F), True for those found tracks.
        found, present: (N, F) and (N, T), where there is a track at all.
    """

    true_of: Tensor
    found_of: Tensor
    fake: Tensor
    duplicate: Tensor
    found: Tensor
    present: Tensor

    def rates(self) -> dict[str, float]:
        """``efficiency``, ``fake_rate`` and ``duplicate_rate`` over all events; NaN where nothing is to be counted."""
        matched, true, found = (int(x.sum()) for x in (self.found_of >= 0, self.present, self.found))
        return {
            "efficiency": matched / true if true else float("nan"),
            "fake_rate": int(self.fake.sum()) / found if found else float("nan"),
            "duplicate_rate": int(self.duplicate.sum()) / found if found else float("nan"),
        }


def match(found: Tensor, true: Tensor, *, limit: float = LIMIT) -> Matches:
    """Assign ``found`` (N, F, 2) to ``true`` (N, T, 2), intercepts in pixels, rows of NaN for no track.

    Raises ``ValueError`` for other shapes, or a limit that is not positive.

    >>> true = torch.tensor([[[1.0, 5.0], [8.0, 2.0]]])
    >>> match(torch.tensor([[[1.1, 5.0], [1.3, 5.2], [20.0, 3.0]]]), true).rates()
    {'efficiency': 0.5, 'fake_rate': 0.3333333333333333, 'duplicate_rate': 0.3333333333333333}
    """
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
            raise ValueError(f"expected {name} tracks that are finite, or NaN for none, got infinite ones")
    check_number("limit", limit, "(0, inf)")
    there, present = ~found.isnan().any(-1), ~true.isnan().any(-1)
    distance = track_distances(found, true)
    distance = torch.where(there[:, :, None] & present[:, None, :], distance, torch.inf)
    if not found.shape[1] or not true.shape[1]:
        true_of, found_of = (torch.full(table.shape[:2], -1, device=found.device) for table in (found, true))
        return Matches(true_of, found_of, there, torch.zeros_like(there), there, present)
    near, which = distance.min(2)
    assigned = near < limit
    own = assigned[:, :, None] & (which[:, :, None] == torch.arange(true.shape[1], device=found.device))
    own = torch.where(own, distance, torch.inf)
    best, first = own.min(1)  # (N, T)
    found_of = torch.where(best < torch.inf, first, -1)
    winner = found_of.gather(1, which) == torch.arange(found.shape[1], device=found.device)
    matched = assigned & winner
    return Matches(
        true_of=torch.where(matched, which, -1),
        found_of=found_of,
        fake=there & ~assigned,
        duplicate=assigned & ~winner,
        found=there,
        present=present,
    )
