"""The likelihood of a Pyro model for all draws of the posterior at once.

Models are written for one draw. Here a model is run once under ``torch.func.vmap`` with the draws in place of its
latent sites and parameters. The parameters of the observed site's distribution are gathered, and the distribution is
rebuilt around them with the draws as its first batch dimension. No wrapper class is needed.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.distributions import Distribution

from posterity.inference.program.arguments import describe_none_arguments
from posterity.inference.program.batching import for_each_draw
from posterity.inference.program.observation import Observation, read_observation
from posterity.inference.program.reader import ReadLikelihood
from posterity.inference.program.trace import MODEL_ERRORS, Model, model_failure
from posterity.models.parameters import family, split

VMAP_CHUNK = 512


@dataclass(frozen=True, eq=False)
class ScoredDraws:
    """Log densities of y at every draw.

    - ``likelihood`` (S, ...) and ``deterministics`` as in `likelihood_over_draws`; ``observation``: the observed value.
    - ``log_prob`` (S, ...): the site's term of the log joint, with its masks and scales.
    - ``scored``: True for the elements of y that no mask removes, in the shape of y.
    - ``terms[name]`` (S, ...): the terms of all other sites, latent and observed; empty unless asked for.
    """

    likelihood: Distribution
    deterministics: dict[str, Tensor]
    log_prob: Tensor
    scored: Tensor
    observation: Observation
    terms: dict[str, Tensor] = field(default_factory=dict)

    @property
    def scored_rows(self) -> Tensor:
        """True for the elements of the batch that are scored; each has one log density."""
        batch = self.log_prob.ndim - 1
        return self.scored.flatten(batch).any(-1) if self.scored.ndim > batch else self.scored

    def select_scored(self, values: Tensor) -> Tensor:
        """The scored elements of ``values`` (..., *batch), as one last dimension.

        Raises ``ValueError`` if no element is scored.
        """
        scored = self.scored_rows
        if not bool(scored.any()):
            raise ValueError(f"expected rows that the model scores, got {scored.numel()} that its mask leaves out")
        return values.flatten(values.ndim - scored.ndim)[..., scored.flatten()] if scored.ndim else values[..., None]


def likelihood_over_draws(
    model: Model,
    args: tuple[Any, ...],
    draws: Mapping[str, Tensor],
    site: str,
    *,
    others: Collection[str] = (),
    chunk_size: int = VMAP_CHUNK,
) -> tuple[Distribution, dict[str, Tensor]]:
    """The likelihood and the deterministic sites of every draw. Memory grows with ``chunk_size``.

    Args:
        model: a Pyro model, written for one draw.
        args: its arguments; y may be left out.
        draws: values of latent sites and parameters, of shape (S, ...).
        site: the observed site.
        others: observed sites whose values the arguments may leave out.
        chunk_size: draws per batch.

    Returns:
        The distribution of ``site`` with batch shape (S, ...), and each deterministic site with shape (S, ...).

    Raises:
        ValueError: if the draws do not fit the model, or the model draws random numbers outside of sample sites.
    """
    return _read(model, args, draws, site, others, chunk_size, None)[:2]


def score_draws(
    model: Model,
    args: tuple[Any, ...],
    draws: Mapping[str, Tensor],
    site: str,
    *,
    others: Collection[str] = (),
    chunk_size: int = VMAP_CHUNK,
    terms: bool = False,
) -> ScoredDraws:
    """`likelihood_over_draws` for arguments with y, and the log density of y at every draw.

    Args:
        model, args, draws, site, others, chunk_size: as in `likelihood_over_draws`; ``args`` contain y.
        terms: whether to compute the terms of all other sites too.

    Raises:
        ValueError: as `likelihood_over_draws` and `check_site_value`; if y is missing, if the log density is nan, or if
            the mask differs between draws.
    """
    observation = read_observation(model, args, site)
    read = _read(model, args, draws, site, others, chunk_size, observation, terms)
    likelihood, deterministics, (log_prob, scored), found = read
    if bool((scored != scored[0]).any()):
        raise ValueError(f"expected a mask at {site!r} that is the same for every draw, got one that depends on them")
    bad = int(torch.isnan(log_prob).sum())
    if bad:
        raise ValueError(f"expected log densities of {site!r}, got {bad} of {log_prob.numel()} that are nan")
    return ScoredDraws(likelihood, deterministics, log_prob, scored[0], observation, found)


def _read(
    model: Model, args: tuple[Any, ...], draws: Mapping[str, Tensor], site: str, others: Collection[str],
    chunk_size: int, observation: Observation | None, terms: bool = False,
) -> tuple[Distribution, dict[str, Tensor], tuple[Tensor, ...], dict[str, Tensor]]:  # fmt: skip
    """Likelihood, deterministic sites, log densities and scored elements of an ``observation``, and other terms."""
    sizes = {len(value) for value in draws.values()}
    if len(sizes) > 1:
        raise ValueError(f"expected draws of one number for all sites, got {sorted(sizes)}")
    read: dict[str, Any] = {}
    scoring, dtype = observation is not None, None if observation is None else observation.dtype

    def at_draw(
        _: Tensor, values: dict[str, Tensor]
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor], tuple[Tensor, ...], dict[str, Tensor]]:
        reader = ReadLikelihood(values, site, others, scoring, dtype, terms)
        with reader:
            model(*args)
        if reader.likelihood is None:
            raise ValueError(f"expected the model to reach site {site!r}, got sites {reader.names}")
        tensors, read["rebuild"] = split(reader.likelihood)
        read["family"], read["filled"] = family(reader.likelihood), reader.filled
        return tuple(tensors), reader.deterministics, reader.scores, reader.terms or {}

    count = sizes.pop() if sizes else 1
    with pyro.validation_enabled(False), torch.no_grad():
        try:
            tensors, deterministics, *rest = for_each_draw(at_draw, count, dict(draws), read, chunk_size)
        except MODEL_ERRORS as error:
            raise model_failure(error, args) from error
    if read["filled"] and any(bool(torch.isnan(tensor).any()) for tensor in tensors):
        raise ValueError(
            f"expected values of the observed sites {read['filled']}, on which {site!r} may depend, got none"
            f"{describe_none_arguments(model, args)}"
        )
    return read["rebuild"](list(tensors)), deterministics, *rest
