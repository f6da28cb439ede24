"""The likelihood of a Pyro model for all draws of the posterior at once.

Models are written for one draw. Here a model is run once under ``torch.func.vmap`` with the draws in place of its
latent sites and parameters. The parameters of the observed site's distribution are gathered, and the distribution is
rebuilt around them with the draws as its first batch dimension. No wrapper class is needed.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.distributions import Distribution

from posterity.inference.program.batching import for_each
from posterity.inference.program.observation import Observation, observe
from posterity.inference.program.reader import Reader
from posterity.inference.program.sites import without
from posterity.inference.program.trace import FAILURES, Model, failed
from posterity.models.parameters import family, split

VMAP_CHUNK = 512


@dataclass(frozen=True, eq=False)
class Score:
    """A model with its y at every draw.

    - ``likelihood`` (S, ...) and ``deterministics`` as of `over_draws`; ``observation``: what was observed.
    - ``log_prob`` (S, ...): the site's term of the log joint, with its masks and scales.
    - ``kept``, of the shape of y: which of its elements are scored.
    """

    likelihood: Distribution
    deterministics: dict[str, Tensor]
    log_prob: Tensor
    kept: Tensor
    observation: Observation

    @property
    def kept_rows(self) -> Tensor:
        """Which elements of the batch, of one log density each, are scored."""
        batch = self.log_prob.ndim - 1
        return self.kept.flatten(batch).any(-1) if self.kept.ndim > batch else self.kept

    def left(self, values: Tensor) -> Tensor:
        """Those of values (..., *batch) that are scored, (..., left); ``ValueError`` where none is."""
        kept = self.kept_rows
        if not bool(kept.any()):
            raise ValueError(f"expected rows that the model scores, got {kept.numel()} that its mask leaves out")
        return values.flatten(values.ndim - kept.ndim)[..., kept.flatten()] if kept.ndim else values[..., None]


def over_draws(
    model: Model,
    args: tuple[Any, ...],
    draws: Mapping[str, Tensor],
    site: str,
    *,
    others: Collection[str] = (),
    chunk_size: int = VMAP_CHUNK,
) -> tuple[Distribution, dict[str, Tensor]]:
    """The likelihood and the deterministic sites of every draw.

    ``draws[name]`` has shape (S, ...); ``others`` are observed sites whose values the arguments may leave out.
    Returns the distribution of ``site`` with batch shape (S, ...), and each deterministic site with shape (S, ...).
    Memory is that of ``chunk_size`` draws plus the result. Raises ``ValueError`` for draws that do not fit the
    model, or a model that draws random numbers of its own.
    """
    return _read(model, args, draws, site, others, chunk_size, None)[:2]


def score(
    model: Model,
    args: tuple[Any, ...],
    draws: Mapping[str, Tensor],
    site: str,
    *,
    others: Collection[str] = (),
    chunk_size: int = VMAP_CHUNK,
) -> Score:
    """`over_draws` of a model that was given y, with the log density of y at every draw.

    Raises ``ValueError`` too where y is missing or is refused by `check_observed`, where the log density is nan, or
    where different draws leave out different elements.
    """
    observation = observe(model, args, site)
    likelihood, deterministics, (log_prob, kept) = _read(model, args, draws, site, others, chunk_size, observation)
    if bool((kept != kept[0]).any()):
        raise ValueError(f"expected a mask at {site!r} that is the same for every draw, got one that depends on them")
    bad = int(torch.isnan(log_prob).sum())
    if bad:
        raise ValueError(f"expected log densities of {site!r}, got {bad} of {log_prob.numel()} that are nan")
    return Score(likelihood, deterministics, log_prob, kept[0], observation)


def _read(
    model: Model, args: tuple[Any, ...], draws: Mapping[str, Tensor], site: str, others: Collection[str],
    chunk_size: int, observation: Observation | None,
) -> tuple[Distribution, dict[str, Tensor], tuple[Tensor, ...]]:  # fmt: skip
    sizes = {len(value) for value in draws.values()}
    if len(sizes) > 1:
        raise ValueError(f"expected draws of one number for all sites, got {sorted(sizes)}")
    read: dict[str, Any] = {}
    scoring, dtype = observation is not None, None if observation is None else observation.dtype

    def one(_: Tensor, values: dict[str, Tensor]) -> tuple[tuple[Tensor, ...], dict[str, Tensor], tuple[Tensor, ...]]:
        reader = Reader(values, site, others, scoring, dtype)
        with reader:
            model(*args)
        if reader.likelihood is None:
            raise ValueError(f"expected the model to reach site {site!r}, got sites {reader.names}")
        tensors, read["rebuild"] = split(reader.likelihood)
        read["family"], read["filled"] = family(reader.likelihood), reader.filled
        return tuple(tensors), reader.deterministics, reader.scores

    count = sizes.pop() if sizes else 1
    with pyro.validation_enabled(False), torch.no_grad():
        try:
            tensors, deterministics, scores = for_each(one, count, dict(draws), read, chunk_size)
        except FAILURES as error:
            raise failed(error, args) from error
    if read["filled"] and any(bool(torch.isnan(tensor).any()) for tensor in tensors):
        raise ValueError(
            f"expected values of the observed sites {read['filled']}, on which {site!r} may depend, got none"
            f"{without(model, args)}"
        )
    return read["rebuild"](list(tensors)), deterministics, scores
