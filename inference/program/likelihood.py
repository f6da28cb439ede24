"""The likelihood of a Pyro model for all draws of the posterior at once.

Models are written for one draw. Here a model is run once under ``torch.func.vmap`` with the draws in place of its
latent sites and parameters. The parameters of the observed site's distribution are gathered, and the distribution is
rebuilt around them with the draws as its first batch dimension. No wrapper class is needed.
"""

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.distributions import Distribution

from posterity.inference.program.arguments import describe_none_arguments
from posterity.inference.program.batching import for_each_draw
from posterity.inference.program.enumeration import DiscreteSiteError, Enumerate, EnumeratedSites, plate_nesting
from posterity.inference.program.observation import Observation, read_observations
from posterity.inference.program.reader import ReadLikelihood
from posterity.inference.program.sites import shown_names
from posterity.inference.program.trace import MODEL_ERRORS, Model, model_failure, trace
from posterity.models.parameters import family, split

VMAP_CHUNK = 512
Scores = dict[str, tuple[Tensor, Tensor]]
"""Log densities and scored elements of observed sites."""


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
        ValueError: if the draws do not fit the model, the model draws random numbers outside of sample sites, or rows
            share a discrete latent site. The discrete sites of each row are summed out (`EnumeratedSites.marginal`).
    """
    likelihoods, deterministics = likelihoods_over_draws(
        model, args, draws, [site], others=others, chunk_size=chunk_size
    )
    return likelihoods[site], deterministics


def likelihoods_over_draws(
    model: Model,
    args: tuple[Any, ...],
    draws: Mapping[str, Tensor],
    sites: Collection[str],
    *,
    others: Collection[str] = (),
    chunk_size: int = VMAP_CHUNK,
) -> tuple[dict[str, Distribution], dict[str, Tensor]]:
    """`likelihood_over_draws` of several ``sites``, by name, from one run of the model for each batch of draws."""
    return _read(model, args, draws, sites, others, chunk_size, {})[:2]


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
    return score_sites(model, args, draws, [site], others=others, chunk_size=chunk_size, terms=terms)[0][site]


def score_sites(
    model: Model,
    args: tuple[Any, ...],
    draws: Mapping[str, Tensor],
    sites: Collection[str],
    *,
    others: Collection[str] = (),
    chunk_size: int = VMAP_CHUNK,
    terms: bool = False,
) -> tuple[dict[str, ScoredDraws], dict[str, Tensor], dict[str, Tensor]]:
    """`score_draws` of several ``sites``, by name; the deterministic sites and the terms, also without any site."""
    observations = read_observations(model, args, sites)
    read = _read(model, args, draws, sites, others, chunk_size, observations, terms)
    likelihoods, deterministics, scores, found = read
    scored_draws = {}
    for site, (log_prob, scored) in scores.items():
        if bool((scored != scored[0]).any()):
            raise ValueError(
                f"expected a mask at {site!r} that is the same for every draw, got one that depends on them"
            )
        bad = int(torch.isnan(log_prob).sum())
        if bad:
            raise ValueError(f"expected log densities of {site!r}, got {bad} of {log_prob.numel()} that are nan")
        scored_draws[site] = ScoredDraws(
            likelihoods[site], deterministics, log_prob, scored[0], observations[site], found
        )
    return scored_draws, deterministics, found


def _read(
    model: Model, args: tuple[Any, ...], draws: Mapping[str, Tensor], sites: Collection[str], others: Collection[str],
    chunk_size: int, observations: Mapping[str, Observation], terms: bool = False,
) -> tuple[dict[str, Distribution], dict[str, Tensor], Scores, dict[str, Tensor]]:  # fmt: skip
    """Likelihoods, deterministic sites, log densities and scored elements of ``observations``, and other terms."""
    sizes = {len(value) for value in draws.values()}
    if len(sizes) > 1:
        raise ValueError(f"expected draws of one number for all sites, got {sorted(sizes)}")
    read: dict[str, Any] = {"nesting": None}
    scoring = {site: observation.dtype for site, observation in observations.items()}

    def at_draw(_: Tensor, values: dict[str, Tensor]) -> tuple[dict[str, Any], ...]:
        nesting, dims = read["nesting"] or (None, {})
        enumerated = None if nesting is None else EnumeratedSites(nesting, dims)
        reader = ReadLikelihood(values, sites, others, scoring, terms, enumerated)
        with reader, contextlib.nullcontext() if nesting is None else Enumerate(nesting):
            model(*args)
        lost = [site for site in sites if site not in reader.likelihoods]
        if lost:
            raise ValueError(f"expected the model to reach site {lost[0]!r}, got sites {reader.names}")
        parts = {site: split(likelihood) for site, likelihood in reader.likelihoods.items()}
        read["rebuild"] = {site: rebuild for site, (_, rebuild) in parts.items()}
        read["family"] = {site: family(likelihood) for site, likelihood in reader.likelihoods.items()}
        read["filled"] = reader.filled
        tensors = {site: tuple(found) for site, (found, _) in parts.items()}
        return tensors, reader.deterministics, reader.scores, reader.terms or {}

    count = sizes.pop() if sizes else 1
    with pyro.validation_enabled(False), torch.no_grad():
        try:
            try:
                run = for_each_draw(at_draw, count, dict(draws), read, chunk_size)
            except DiscreteSiteError:
                nodes = trace(model, args, seed=0)
                dims = {name: node["value"].ndim for name, node in nodes.items() if node["type"] == "sample"}
                read["nesting"] = plate_nesting(nodes.values()), dims
                run = for_each_draw(at_draw, count, dict(draws), read, chunk_size)
            tensors, deterministics, scores, found = run
        except MODEL_ERRORS as error:
            raise model_failure(error, args) from error
    for site, parts in tensors.items():
        filled = [name for name in read["filled"] if name != site]
        if filled and any(bool(torch.isnan(tensor).any()) for tensor in parts):
            raise ValueError(
                f"expected values of the observed sites {shown_names(filled)}, on which {site!r} may depend, got none"
                f"{describe_none_arguments(model, args)}"
            )
    likelihoods = {site: rebuild(list(tensors[site])) for site, rebuild in read["rebuild"].items()}
    return likelihoods, deterministics, scores, found
