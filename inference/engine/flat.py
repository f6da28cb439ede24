"""Latent entries on which the density of a model does not depend: padding behind a mask, and flat priors.

Pyro gives a masked latent entry no prior. If the model does not read the entry either, such as padding or the observed
rows of ``obs_mask=``, the density is constant along it and therefore improper. Such an entry gets its prior without the
mask. This prior integrates to one, so the posterior of all other entries does not change. A masked entry that the
likelihood reads keeps its flat prior.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Independent, constraints

MOST_ENTRIES = 100  # largest number of entries without a prior for which flat directions are searched
BOUNDED = tuple(type(c) for c in (constraints.unit_interval, constraints.simplex, constraints.corr_cholesky))


def padded_entries(
    draw: Callable[[int], Mapping[str, Any]], gradient: Callable[[dict[str, Tensor]], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """The masked entries of each site that the model does not read, as masks in the shape of the site's value.

    ``draw`` maps a seed to the latent nodes of one run of the model. ``gradient`` maps values of the sites to the
    gradient of the log joint with respect to them (no transform).

    Raises:
        ValueError: the density is constant along an entry without a prior, or along a direction of such entries.
    """
    first = draw(0)
    hidden = {name: masked_out(node) for name, node in first.items()}
    improper = {name: torch.ones_like(h) if _flat(first[name]["fn"]) else h for name, h in hidden.items()}
    improper = {name: where for name, where in improper.items() if bool(where.any())}
    if not improper:
        return {}
    entries = int(sum(where.sum() for where in improper.values()))
    runs = map(draw, range(entries + 5 if entries <= MOST_ENTRIES else 3))
    slopes = [gradient({n: node["value"] for n, node in run.items()}) for run in runs]
    padded, rest = {}, {}
    for name, where in improper.items():
        unread = torch.stack([slope[name] == 0 for slope in slopes]).all(0) & where
        fn = first[name]["fn"]
        padding = torch.zeros_like(unread) if _flat(fn) else _whole(first[name], unread & hidden[name])
        if bool(padding.any()):
            padded[name] = padding
        improper_entries = unread & ~padding
        count = int(improper_entries.sum())
        if count and not isinstance(getattr(fn.support, "base_constraint", fn.support), BOUNDED):
            raise ValueError(
                f"expected a proper density, got one that does not depend on {count} of {unread.numel()} "
                f"entries of site {name!r} without a prior (flat or masked): remove them, or give them a prior"
            )
        rest[name] = where & ~unread
    _check_directions(rest, slopes)
    return padded


def _check_directions(rest: Mapping[str, Tensor], slopes: Sequence[Mapping[str, Tensor]]) -> None:
    """``ValueError`` if a direction of entries without a prior is orthogonal to the gradient at all draws."""
    matrix = torch.stack([torch.cat([slope[n][where] for n, where in rest.items()]) for slope in slopes])
    rounding = max(10 * torch.finfo(matrix.dtype).eps, 1e-12)
    matrix = matrix[torch.isfinite(matrix).all(1)].double()
    matrix = matrix / matrix.norm(dim=1, keepdim=True).clamp_min(1e-300)  # one draw may be much steeper than others
    rows, columns = matrix.shape
    if columns < 2 or rows < columns + 2:
        return
    sizes = torch.linalg.svdvals(matrix / matrix.norm(dim=0).clamp_min(1e-300))
    if float(sizes[-1]) < rounding * float(sizes[0]):
        names = [name for name, where in rest.items() if bool(where.any())]
        raise ValueError(
            f"expected a proper density, got one that is constant along a direction of the sites {names}, which have "
            "no prior (flat or masked): give them a prior"
        )


def masked_out(node: Mapping[str, Any]) -> Tensor:
    """The entries of a site whose prior is masked out, as a mask in the shape of its value."""
    value = node["value"]
    out = torch.zeros(value.shape, dtype=torch.bool, device=value.device)
    for mask, fn in _masks(node):
        out = out | ~_entries(torch.as_tensor(mask, device=value.device), fn, value)
    return out


def _whole(node: Mapping[str, Any], entries: Tensor) -> Tensor:
    """The entries whose whole event lies in ``entries``: a mask covers whole events."""
    for _, fn in _masks(node):
        entries = entries & _entries(_events(entries, fn), fn, entries)
    return entries


def _masks(node: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """The masks of a site, each with the distribution whose batch shape it has."""
    fn = node["fn"]
    masks = [] if node["mask"] is None else [(node["mask"], fn)]
    while fn is not None:
        masks += [] if getattr(fn, "_mask", None) is None else [(fn._mask, fn)]
        fn = getattr(fn, "base_dist", None)
    return masks


def _entries(events: Tensor, fn: Any, like: Tensor) -> Tensor:
    """A mask over events of ``fn`` as a mask over entries, in the shape of ``like``."""
    return events[(...,) + (None,) * fn.event_dim].expand(like.shape)


def _events(entries: Tensor, fn: Any) -> Tensor:
    """The events of ``fn`` all of whose entries are in the mask ``entries``."""
    return entries.flatten(entries.ndim - fn.event_dim).all(-1) if fn.event_dim else entries


def _flat(fn: Any) -> bool:
    """Whether a distribution is `ImproperUniform`, or such a distribution expanded, transformed or masked."""
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return isinstance(fn, dist.ImproperUniform)


class Unmask(Messenger):
    """Restores the prior of padded entries, given as masks in the shape of each site's value."""

    def __init__(self, padded: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.padded = padded

    def _pyro_sample(self, msg: Any) -> None:
        padded = self.padded.get(msg["name"])
        if padded is None:
            return
        fn = msg["fn"]
        if msg["mask"] is not None:
            msg["mask"] = torch.as_tensor(msg["mask"], device=padded.device) | _events(padded, fn)
        msg["fn"] = _unmasked(fn, padded)


def _unmasked(fn: Any, padded: Tensor) -> Any:
    if isinstance(fn, dist.MaskedDistribution):
        mask = torch.as_tensor(fn._mask, device=padded.device) | _events(padded, fn)
        return dist.MaskedDistribution(_unmasked(fn.base_dist, padded), mask)
    if isinstance(fn, Independent):
        base = _unmasked(fn.base_dist, padded)
        return fn if base is fn.base_dist else dist.Independent(base, fn.reinterpreted_batch_ndims)
    return fn
