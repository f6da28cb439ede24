r"""Discrete latent sites with finite support, which are summed out exactly.

Every such site takes all values of its support at once, along a dimension of its own on the left of all plates, as in
Pyro's parallel enumeration. Whether a site is marked ``infer={"enumerate": "parallel"}`` makes no difference.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from pyro.distributions import Categorical, MixtureSameFamily
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.poutine.enum_messenger import EnumMessenger
from torch import Tensor
from torch.distributions import Distribution

from posterity.models.parameters import split


class DiscreteSiteError(Exception):
    """A discrete latent site without a value, which a model that is not enumerated cannot run without."""


def check_discrete(name: str, node: Mapping[str, Any]) -> bool:
    """Whether a latent site is discrete and can be enumerated.

    Raises ``ValueError`` for a discrete site without finite support, and for elements of such a site that are neither
    in a plate nor along the event: one value for all of them would be enumerated.
    """
    fn = node["fn"]
    if not fn.support.is_discrete:
        return False
    if not fn.has_enumerate_support:
        raise ValueError(
            f"expected continuous latent sites, or discrete ones whose finite support can be enumerated, got {name!r}: "
            "marginalise it"
        )
    plates = {frame.dim for frame in node["cond_indep_stack"] if frame.vectorized}
    loose = [dim for dim in range(-len(fn.batch_shape), 0) if fn.batch_shape[dim] > 1 and dim not in plates]
    if loose:
        raise ValueError(
            f"expected the dimensions of the discrete latent site {name!r} in plates, got the batch shape "
            f"{tuple(fn.batch_shape)} with plates at {sorted(plates)}"
        )
    return True


def plate_nesting(nodes: Iterable[Mapping[str, Any]]) -> int:
    """The number of dimensions on the right that plates and batches of the sites take: the others are free."""
    samples = [node for node in nodes if node["type"] == "sample"]
    dims = [-frame.dim for node in samples for frame in node["cond_indep_stack"] if frame.vectorized]
    return max([0, *dims, *(len(getattr(node["fn"], "batch_shape", ())) for node in samples)])


class Enumerate(EnumMessenger):
    """Enumerates every discrete latent site that can be, marked or not; also under ``torch.func.vmap``."""

    def __init__(self, nesting: int) -> None:
        super().__init__(first_available_dim=-1 - nesting)

    def _pyro_sample(self, msg: Any) -> None:
        fn = msg["fn"]
        if not msg["is_observed"] and isinstance(fn, TorchDistributionMixin) and _enumerable(fn):
            infer = {name: value for name, value in msg["infer"].items() if name != "num_samples"}
            msg["infer"] = {**infer, "enumerate": "parallel"}
        super()._pyro_sample(msg)

    def _pyro_post_sample(self, msg: Any) -> None:
        # Pyro's own method reads `value.data`, which vmap does not allow.
        value, fn = msg["value"], msg["fn"]
        if value is None or not isinstance(fn, TorchDistributionMixin):
            return
        batch = value.shape[: value.ndim - fn.event_dim]
        ids = msg["infer"].setdefault("_dim_to_id", {})
        ids.update(self._param_dims.get(msg["name"], {}))
        self._value_dims[msg["name"]] = {
            dim: number for dim, number in ids.items() if len(batch) >= -dim and batch[dim] > 1
        }


def _enumerable(fn: Any) -> bool:
    """Whether a distribution has a finite support; supports of other discrete distributions may depend on values."""
    try:
        return bool(fn.has_enumerate_support and fn.support.is_discrete)
    except NotImplementedError:
        return False


class EnumeratedSites:
    """The enumerated sites of one run, and the likelihood without them.

    Args:
        nesting: the dimensions that plates take (see `plate_nesting`).
        dims: the number of dimensions of the value of each site in a run without enumeration.
    """

    def __init__(self, nesting: int, dims: Mapping[str, int]) -> None:
        self.nesting, self.dims = nesting, dims
        self.sites: list[dict[str, Any]] = []

    def add(self, msg: Any) -> None:
        """Store an enumerated site, whose message is ``msg``."""
        self.sites.append(dict(msg))

    def depends(self, fn: Any) -> bool:
        """Whether a distribution differs between values of enumerated sites."""
        return bool(self._dims(fn.batch_shape))

    def changes(self, name: str, value: Tensor) -> bool:
        """Whether the ``value`` of a deterministic site has the dimensions of enumerated sites."""
        return value.ndim != self.dims.get(name, value.ndim)

    def marginal(self, name: str, fn: Any, frames: Any) -> Distribution:
        r"""The distribution at the observed site ``name`` without its discrete sites, a mixture over their values.

        $p(y_n | w) = \sum_k p(z_n = k | w) \, p(y_n | z_n = k, w)$, where $z_n$ are the discrete sites of row $n$.

        Raises ``ValueError`` if rows share a discrete site or depend on those of other rows, as in a hidden Markov
        model: rows are then not independent given the draw.
        """
        needed = self._dims(fn.batch_shape)
        weights: Tensor = torch.zeros(())
        for site in reversed(self.sites):
            if site["infer"]["_enumerate_dim"] not in needed:
                continue
            own = {frame.name for frame in site["cond_indep_stack"] if frame.vectorized}
            if own != {frame.name for frame in frames if frame.vectorized} or "_markov_scope" in site["infer"]:
                raise ValueError(
                    f"expected discrete latent sites of each row alone, got {site['name']!r}, on which several rows of "
                    f"{name!r} depend: the draws are those of the posterior, but the likelihood of a row is not known "
                    "given one draw (draw the discrete sites by pyro.infer.infer_discrete)"
                )
            log_prob = site["fn"].log_prob(site["value"])
            needed |= self._dims(log_prob.shape)
            weights = weights + log_prob
        shape = np.broadcast_shapes(weights.shape, fn.batch_shape)
        batch = self.dims[name] - fn.event_dim
        rows = shape[len(shape) - batch :]
        logits = weights.expand(shape).reshape(-1, *rows).movedim(0, -1)
        tensors, rebuild = split(fn.expand(shape))
        tensors = [t.reshape(-1, *rows, *t.shape[len(shape) :]).movedim(0, batch) for t in tensors]
        return MixtureSameFamily(Categorical(logits=logits), rebuild(tensors))

    def _dims(self, batch_shape: tuple[int, ...]) -> set[int]:
        """The enumeration dimensions of a batch shape."""
        return {dim for dim in range(-len(batch_shape), -self.nesting) if batch_shape[dim] > 1}
