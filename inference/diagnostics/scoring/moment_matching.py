"""Moment matching: leave-one-out for influential observations without another fit, the ``moment_match`` of `loo`.

An affine map moves the draws until their mean and covariance are those of the posterior without the observation; the
importance weights account for the move (Paananen, Piironen, Bürkner & Vehtari 2021, Statistics and Computing 31,
arXiv:1906.08850). ArviZ 1.x moves the draws, and this module gives ArviZ the densities of a Pyro model. A step needs
the log joint of every draw, where a fit needs hundreds of gradients for each draw.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from posterity.inference.arviz import moment_match
from posterity.validation import check_flag, check_integer

if TYPE_CHECKING:
    from torch import Tensor

Match = Callable[[np.ndarray, np.ndarray, float, float], xr.Dataset]


def moment_matching(posterior: Any, *args: Any, max_iters: int = 30, split: bool = True, **named: Any) -> Match:
    """The ``moment_match`` of `loo` for this posterior, whose data are ``posterior.to_arviz(*args)``.

    Needs ArviZ 1.x. It helps with models of few parameters, up to a tenth of the number of draws: moments of many
    weights are not determined by the draws. If k stays bad, fit again without the observation (`leave_one_out`).

    Args:
        posterior: draws of the posterior itself, by a sampler.
        args: the arguments of its model, y last.
        max_iters: largest number of steps for each observation.
        split: move only half of the draws, and weight all draws by the mixture of both distributions.
        named: arguments of the model by name.

    Raises:
        ValueError: if y is missing, the model has trained parameters or discrete sites; when called, if the data are
            not those of this posterior, or ArviZ is older than 1.0.
    """
    from posterity.inference.engine.density import Density
    from posterity.inference.program.arguments import read_as_fitted
    from posterity.inference.program.likelihood import score_draws

    check_integer("max_iters", max_iters, 1)
    check_flag("split", split)
    if not hasattr(posterior, "function_draws"):
        raise ValueError(f"expected posterior to be a Posterior, got {type(posterior).__name__}")
    program = posterior.program
    if program.parameters:
        raise ValueError(f"expected a posterior without trained parameters, got {list(program.parameters)}")
    args = read_as_fitted(posterior.model, args, named, posterior.attrs)[0]
    flat = {name: value.flatten(0, 1) for name, value in posterior.draws.items()}
    scores = score_draws(posterior.model, args, flat, program.one_site(), others=program.observed)
    density = Density(posterior.model, args)
    positions = density.unconstrain(posterior.draws)
    at_rows = _Rows(posterior, args, density, scores.log_prob, scores.scored_rows.nonzero().tolist())

    def match(rows: np.ndarray, log_likelihood: np.ndarray, reff: float, threshold: float) -> xr.Dataset:
        every = scores.select_scored(scores.log_prob)
        inside = rows.size == 0 or rows.max() < every.shape[-1]
        own = every[:, rows].reshape(*positions.shape[:2], -1).double().cpu().numpy() if inside else np.zeros(0)
        if own.shape != log_likelihood.shape or not np.allclose(own, log_likelihood, rtol=1e-4, atol=1e-4):
            raise ValueError("expected data of the posterior and arguments of moment_match, got another log likelihood")
        return moment_match(
            log_likelihood, positions.double().cpu().numpy(), lambda values: _log_prob(density, values),
            lambda values, place: at_rows(values, int(rows[place])),
            reff=reff, threshold=threshold, max_iters=max_iters, split=split,
        )  # fmt: skip

    return match


class _Rows:
    """The log likelihood of single observations at other positions of the latent sites.

    The model is run with the row alone if that gives the same value at the draws, and with all rows otherwise.
    """

    def __init__(
        self, posterior: Any, args: tuple[Any, ...], density: Any, log_prob: Tensor, places: list[Any]
    ) -> None:
        self.posterior, self.args, self.density = posterior, args, density
        self.log_prob, self.places, self.alone = log_prob, places, dict[int, bool]()

    def __call__(self, values: np.ndarray, row: int) -> np.ndarray:
        draws = self.density.constrain(_tensor(self.density, values))
        if row not in self.alone:
            self.alone[row] = self._agrees(row)
        found = self._single(draws, row) if self.alone[row] else self._score(self.args, draws)[:, *self.places[row]]
        return found.double().cpu().numpy()

    def _agrees(self, row: int) -> bool:
        import torch

        draws = {name: value.flatten(0, 1) for name, value in self.posterior.draws.items()}
        if not self.places[row]:
            return False
        try:
            found = self._single(draws, row)
        except (ValueError, IndexError):
            return False
        expected = self.log_prob[:, *self.places[row]]
        return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-4, atol=1e-4)

    def _single(self, draws: dict[str, Tensor], row: int) -> Tensor:
        import torch

        from posterity.inference.program.minibatch import take_rows

        first, *others = self.places[row]
        return self._score(take_rows(self.args, torch.tensor([first])), draws)[:, 0, *others]

    def _score(self, args: tuple[Any, ...], draws: dict[str, Tensor]) -> Tensor:
        from posterity.inference.program.likelihood import score_draws

        program = self.posterior.program
        return score_draws(self.posterior.model, args, draws, program.one_site(), others=program.observed).log_prob


def _log_prob(density: Any, values: np.ndarray) -> np.ndarray:
    """The log joint (S,) at positions (S, dim); nan where a matrix of the model has no factorisation."""
    import pyro
    import torch

    from posterity.inference.engine.recording import quiet
    from posterity.inference.program.likelihood import VMAP_CHUNK

    positions = _tensor(density, values)

    def alone(position: Tensor) -> Tensor:
        try:
            return density(position)
        except torch.linalg.LinAlgError:
            return position.new_tensor(torch.nan)

    with quiet(), torch.no_grad(), pyro.validation_enabled(False):
        try:
            found = torch.func.vmap(density, chunk_size=VMAP_CHUNK, randomness="error")(positions)
        except torch.linalg.LinAlgError:
            found = torch.stack([alone(position) for position in positions])
    return found.double().cpu().numpy()


def _tensor(density: Any, values: np.ndarray) -> Tensor:
    import torch

    return torch.as_tensor(values, dtype=density.dtype, device=density.device)
