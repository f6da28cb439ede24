"""The value of an observed site: which elements are scored, and whether they lie in the support.

A mask removes elements (``poutine.mask``, ``fn.mask``, ``obs_mask``, over plates or inside an event); a scale
multiplies log densities (``poutine.scale``). Scores are the terms of the log joint that a fit maximises or samples,
with masks and scales, as Pyro computes them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from pyro.distributions.util import scale_and_mask
from torch import Tensor
from torch.distributions import Distribution, Independent, MixtureSameFamily

from posterity.models.parameters import split

REFUSALS = (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError)
"""Errors of distributions that cannot evaluate a value."""


def site_log_density(site: Mapping[str, Any], dtype: torch.dtype | None = None) -> Tensor:
    """The log density of a site's value, masked and scaled; the value is first converted to ``dtype``."""
    value = site["value"] if dtype is None else site["value"].to(dtype)
    return scale_and_mask(site["fn"].log_prob(value), site["scale"], site["mask"])


def scored_elements(site: Mapping[str, Any]) -> Tensor:
    """True for the elements of a site's value that no mask removes, in the shape of its distribution."""
    fn = site["fn"]
    scored = _unmasked(fn)
    if site["mask"] is not None:
        mask = _spread(site["mask"], fn)
        scored = mask if scored is None else scored & mask
    return torch.ones(fn.shape(), dtype=torch.bool, device=site["value"].device) if scored is None else scored


def _unmasked(fn: Any) -> Tensor | None:
    """True for the elements that the masks inside a distribution keep, in its shape; None if there are no masks."""
    if isinstance(fn, MixtureSameFamily):
        inner = _unmasked(fn.component_distribution)
        return None if inner is None else inner.any(-1 - len(fn.event_shape)).expand(fn.batch_shape + fn.event_shape)
    base = getattr(fn, "base_dist", None)
    unmasked = None if base is None or base.batch_shape + base.event_shape != fn.shape() else _unmasked(base)
    if getattr(fn, "_mask", None) is not None:
        mask = _spread(fn._mask, fn)
        unmasked = mask if unmasked is None else unmasked & mask
    return unmasked


def _spread(mask: Tensor | bool, fn: Distribution) -> Tensor:
    """A mask over the batch, expanded to the elements of the events."""
    mask = torch.as_tensor(mask).expand(fn.batch_shape)
    return mask[(...,) + (None,) * len(fn.event_shape)].expand(fn.batch_shape + fn.event_shape)


def check_site_value(name: str, site: Mapping[str, Any], others: Callable[[], list[Mapping[str, Any]]]) -> None:
    """Raises ``ValueError`` unless a value has the shape of its site, is finite, and lies in the support.

    Masked elements may have any finite value. ``others`` returns the site at other draws from the prior: a support that
    depends on latent sites is not checked.
    """
    fn, value = site["fn"], site["value"]
    if not isinstance(value, Tensor):
        raise ValueError(f"expected y as a tensor at the observed site {name!r}, got {type(value).__name__}")
    expected, got = tuple(fn.shape()), tuple(value.shape)
    if expected != got:
        raise ValueError(f"expected y of shape {expected} at the observed site {name!r}, got {got}")
    batch = tuple(fn.batch_shape)
    for word in ("mask", "scale"):
        shape = tuple(getattr(site[word], "shape", ()))
        if not _broadcasts(shape, batch):
            raise ValueError(f"expected a {word} of shape {batch} at the observed site {name!r}, got {shape}")
    if value.is_floating_point():
        _refuse(~torch.isfinite(value), name, value, "finite values", "nan or infinite")
    outside = _outside(site)
    if outside is None or not bool(outside.any()):
        return
    support = _elementwise(fn).support
    if all(_equal(support, _elementwise(other["fn"]).support) for other in others()):
        _refuse(outside, name, value, f"values in the support of {type(_elementwise(fn)).__name__}", "outside of it")


def _broadcasts(shape: tuple[int, ...], batch: tuple[int, ...]) -> bool:
    try:
        return tuple(np.broadcast_shapes(shape, batch)) == batch
    except ValueError:
        return False


def _refuse(bad: Tensor, name: str, value: Tensor, wanted: str, got: str) -> None:
    """``ValueError`` with the number of ``bad`` elements and the first of them."""
    if not bool(bad.any()):
        return
    first = tuple(int(i) for i in bad.nonzero()[0])
    place = f", the first in row {first[0] if len(first) == 1 else first}" if first else ""
    shown = value[first].tolist()
    raise ValueError(
        f"expected {wanted} at the observed site {name!r}, got {int(bad.sum())} of {bad.numel()} {got}{place}: {shown}"
    )


def _outside(site: Mapping[str, Any]) -> Tensor | None:
    """True for scored values outside their support; None if the distribution cannot tell."""
    fn = _elementwise(site["fn"])
    try:
        inside = fn.support.check(site["value"])
    except REFUSALS:
        return None
    scored = scored_elements(site)
    return ~inside & (scored.flatten(inside.ndim).any(-1) if inside.ndim < scored.ndim else scored)


def _elementwise(fn: Any) -> Any:
    """The distribution without its masks and without the plate dimensions of its events, for elementwise supports."""
    while isinstance(fn, Independent) or (hasattr(fn, "_mask") and hasattr(fn, "base_dist")):
        fn = fn.base_dist
    return fn


def _equal(one: Any, two: Any) -> bool:
    """Whether two constraints are equal, including their bounds."""
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        return one.shape == two.shape and bool((one == two).all())
    if type(one) is not type(two):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(_equal, one, two))
    if not hasattr(one, "__dict__"):
        return bool(one == two)
    parts, others = vars(one), vars(two)
    return one is two or (parts.keys() == others.keys() and all(_equal(parts[k], others[k]) for k in parts))


def dtype_to_score(site: Mapping[str, Any]) -> torch.dtype | None:
    """The dtype to convert integers or booleans at a site to, from its distribution; None if no conversion is needed.

    Most families need floats (a Bernoulli refuses others), and some use integers as indices into a table.
    """
    value, fn = site["value"], site["fn"]
    if value.is_floating_point() or value.is_complex():
        return None
    try:
        dtype = next((t.dtype for t in split(fn)[0] if t.is_floating_point()), torch.get_default_dtype())
        with torch.no_grad():
            fn.log_prob(value.to(dtype))
    except REFUSALS:
        return None
    return dtype
