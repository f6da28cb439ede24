"""Agreement of chains on predictions, on the log density, and on named sites of a model."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution

from posterity.inference.convergence.elements import site_columns
from posterity.inference.convergence.statistics import convergence, rhat_explained_by_chance
from posterity.inference.convergence.thresholds import RHAT_BAD, RHAT_DRAWS
from posterity.inference.program.likelihood import likelihoods_over_draws
from posterity.inference.program.minibatch import count_rows, take_rows
from posterity.inference.program.sites import Program
from posterity.inference.program.trace import Model

ROWS = 16  # observations at which predictions are compared
LARGEST = 2**22  # rows times draws in one batch, if the model cannot be run on a subset of its rows


@dataclass(frozen=True)
class Agreement:
    """R-hat and ESS of the draws of a run; nan if unknown.

    - ``rhat``, ``ess``: the largest R-hat and the smallest bulk ESS over function values and the log density.
    - ``chance``: the R-hat that agreeing chains may reach by chance with this number of draws; 1 if chance explains
      nothing.
    - ``predicted``: whether function values were compared; otherwise only the log density.
    - ``sites``: R-hat of each element of a site on which the chains disagree, largest first.
    - ``judged``: whether any quantity could be compared.
    """

    rhat: float = np.nan
    ess: float = np.nan
    chance: float = 1.0
    predicted: bool = False
    sites: Mapping[str, float] = field(default_factory=dict)
    judged: bool = False

    @property
    def apart(self) -> bool:
        """Whether the chains disagree on function values or the log density."""
        return self.rhat > max(RHAT_BAD, self.chance)


def agreement(functions: np.ndarray, sites: np.ndarray, labels: list[str]) -> Agreement:
    """Agreement of the chains on function values and on elements of sites.

    ``functions`` (chain, draw, points) ends with the log density. ``sites`` are elements (chain, draw, element) with
    the names ``labels``. For a single chain its two halves are compared.
    """
    values, elements = _halves(functions), _halves(sites)
    moves, site_moves = _moving(functions), _moving(sites)
    if values.shape[1] < RHAT_DRAWS or not (moves.any() or site_moves.any()):
        return Agreement()
    rhat = ess = np.nan
    chance, apart = 1.0, {}
    if moves.any():
        diagnostics = convergence(values[..., moves])
        rhat, ess = float(np.nanmax(diagnostics["rhat"])), float(np.nanmin(diagnostics["ess_bulk"]))
        chance = rhat_explained_by_chance(values[..., moves], diagnostics["rhat"])
    if site_moves.any():
        names = [label for label, there in zip(labels, site_moves, strict=True) if there]
        of_sites = convergence(elements[..., site_moves])["rhat"]
        limit = max(RHAT_BAD, rhat_explained_by_chance(elements[..., site_moves], of_sites))
        worst = np.argsort(-of_sites, kind="stable")
        apart = {names[i]: float(of_sites[i]) for i in worst if of_sites[i] > limit}
    return Agreement(rhat, ess, chance, bool(moves[:-1].any()), apart, judged=True)


def _halves(values: np.ndarray) -> np.ndarray:
    """Several chains unchanged; the two halves of a single chain as two chains."""
    if values.shape[0] > 1:
        return values
    half = values.shape[1] // 2
    return values[0, -2 * half :].reshape(2, half, -1) if half else values


def _moving(values: np.ndarray) -> np.ndarray:
    """The columns of (chain, draw, columns) that are finite and vary between draws, as a mask."""
    return np.isfinite(values).all((0, 1)) & (values != values[:1, :1]).any((0, 1))


class ComparedFunctions:
    r"""Function values of draws: predictions at 16 rows, and the elements of named sites.

    A prediction is $\mathrm{E}[y|x, w]$, the median if the mean is not finite, or the class probabilities. The model
    runs on the 16 rows only, if it can be run on a subset of its rows. Of many observed sites 16 are compared.
    Predictions are nan if they cannot be computed, because monitoring must never end a run.
    """

    def __init__(self, model: Model, args: tuple[Any, ...], program: Program) -> None:
        self.model, self.args, self.program = model, args, program
        judged = (*program.latents, *program.reparametrised)
        self.named = [name for name in judged if name not in program.weights]
        self.rows = count_rows(args)
        self.some: tuple[Any, ...] | None = take_rows(args, _sixteen(self.rows)) if self.rows > ROWS else None
        self.predicting = [program.sites[n] for n in _sixteen(len(program.sites))] if program.sites else []

    def predicted(self, draws: Mapping[str, Tensor]) -> np.ndarray:
        """Predictions (chain, draw, 16) for ``draws`` of all sites (chain, draw, ...); fewer rows are repeated."""
        shape = next(iter(draws.values())).shape[:2]
        if not self.predicting:  # a model with factors alone
            return np.full((*shape, ROWS), np.nan)
        values = self._values(draws) if self.some is not None else None
        if values is None:
            self.some = None
            values = self._in_pieces(draws)
        if values is None or not values.shape[-1]:
            return np.full((*shape, ROWS), np.nan)
        rows = _sixteen(values.shape[-1], repeat=True)
        return values[..., rows.to(values.device)].cpu().numpy()

    def sites(self, draws: Mapping[str, Tensor]) -> tuple[np.ndarray, list[str]]:
        """Elements of the named sites (chain, draw, element), and their names."""
        return site_columns(draws, [name for name in self.named if name in draws])

    def judge(self, draws: Mapping[str, Tensor], log_density: Tensor) -> Agreement:
        """Agreement of the chains, given ``draws`` of all sites and the ``log_density`` (chain, draw)."""
        density = log_density.double().cpu().numpy()[..., None]
        return agreement(np.concatenate([self.predicted(draws), density], -1), *self.sites(draws))

    def _in_pieces(self, draws: Mapping[str, Tensor]) -> Tensor | None:
        """Predictions on all rows, for a few draws at a time; None if they cannot be computed."""
        chains, count = next(iter(draws.values())).shape[:2]
        step = max(1, LARGEST // (chains * self.rows))
        pieces = []
        for begin in range(0, count, step):
            piece = self._values({name: value[:, begin : begin + step] for name, value in draws.items()})
            if piece is None:
                return None
            pieces.append(piece)
        return torch.cat(pieces, 1)

    def _values(self, draws: Mapping[str, Tensor]) -> Tensor | None:
        """Predictions for every draw (chain, draw, N * events); None if they cannot be computed."""
        shape = next(iter(draws.values())).shape[:2]
        args = self.args if self.some is None else self.some
        flat = {name: value.flatten(0, 1) for name, value in draws.items()}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                likelihoods = likelihoods_over_draws(
                    self.model, args, flat, self.predicting, others=self.program.observed
                )[0]  # fmt: skip
                parts = [_mean(likelihoods[site]).reshape(*shape, -1).double() for site in self.predicting]
                return torch.cat(parts, -1)
        except Exception:  # noqa: BLE001 - a likelihood may fail in any way; the log density is still compared
            return None


def _mean(likelihood: Distribution) -> Tensor:
    """The mean of a likelihood, its median if the mean is not finite, or class probabilities."""
    base = likelihood
    while hasattr(base, "base_dist"):
        base = base.base_dist
    if isinstance(base, Categorical):
        return base.probs
    mean = likelihood.mean
    if bool(torch.isfinite(mean).all()):
        return mean
    return base.icdf(torch.full_like(mean, 0.5))  # the median, for example of a Cauchy likelihood


def _sixteen(count: int, repeat: bool = False) -> Tensor:
    """Indices of 16 of ``count`` elements, evenly spaced; of fewer all, or with ``repeat`` some several times."""
    return torch.linspace(0, count - 1, ROWS if repeat else min(ROWS, count)).round().long()
