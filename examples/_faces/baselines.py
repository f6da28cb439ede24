"""Completions without a network: mean face, ridge, nearest neighbours, and the posterior of probabilistic PCA.

The number of neighbours, the penalty and the number of directions are chosen on the held-out people; then all training
people are used. Every picture is also used mirrored; for ``ridge_moved`` it is used in 20 moved copies, as the network
sees it.
"""

from collections.abc import Callable

import torch
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from torch import Tensor

from _faces.settings import Settings, people
from posterity.data import Images, jittered
from posterity.models import ProbabilisticPCA

NEIGHBOURS = (1, 3, 5, 10, 20, 40)
PENALTIES = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0)
DIRECTIONS = (2, 5, 10, 20, 40, 80)
COPIES = 20
Completion = Callable[[Tensor], Tensor]  # visible pixels (N, seen) -> hidden pixels (N, hidden)


def rows(images: Images, settings: Settings, *, moved: bool = False) -> Tensor:
    """Pictures as rows (N, H W), also mirrored or in moved copies."""
    plain = images.scaled()
    if moved:
        plain = torch.cat([jittered(plain, seed=1000 * settings.seed + copy) for copy in range(COPIES)])
    else:
        plain = torch.cat([plain, plain.flip(3)])
    return plain.flatten(1).double()


def fit(name: str, choice: float, data: Tensor, mask: Tensor) -> Completion:
    hidden = mask.flatten()
    seen, wanted = data[:, ~hidden], data[:, hidden]
    if name == "mean":
        return lambda x: wanted.mean(0).expand(len(x), -1)
    if name == "ppca":
        model = ProbabilisticPCA.fit(data, int(choice))
        return lambda x: model.conditional(_whole(x, hidden), ~hidden).mean
    regression = (
        Ridge(alpha=choice) if name.startswith("ridge") else KNeighborsRegressor(int(choice), weights="distance")
    )
    regression.fit(seen.numpy(), wanted.numpy())
    return lambda x: torch.from_numpy(regression.predict(x.numpy()))


def _whole(seen: Tensor, hidden: Tensor) -> Tensor:
    whole = torch.full((len(seen), len(hidden)), torch.nan, dtype=seen.dtype)
    whole[:, ~hidden] = seen
    return whole


CHOICES = {"mean": (0,), "knn": NEIGHBOURS, "ridge": PENALTIES, "ridge_moved": PENALTIES, "ppca": DIRECTIONS}


def complete(name: str, settings: Settings, images: Tensor, mask: Tensor) -> tuple[Tensor, float]:
    """Completed images (N, 1, H, W), and the choice."""
    groups, hidden = people(settings), mask.flatten()
    moved = name == "ridge_moved"
    held_out = groups["held_out"].scaled().flatten(1).double()
    fitted = rows(groups["fitted"], settings, moved=moved)

    def error(choice: float) -> float:
        if choice >= len(fitted) - 2 and name in ("knn", "ppca"):
            return float("inf")
        return float((fit(name, choice, fitted, mask)(held_out[:, ~hidden]) - held_out[:, hidden]).square().mean())

    best = min(CHOICES[name], key=error)
    flat = images.flatten(1).double()
    found = flat.clone()
    found[:, hidden] = fit(name, best, rows(groups["training"], settings, moved=moved), mask)(flat[:, ~hidden])
    return found.reshape(images.shape), float(best)
