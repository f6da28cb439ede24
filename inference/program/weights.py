"""Which latent sites are weights of a network, so that chains are compared by the network's output alone.

Hidden units can be permuted, and their signs flipped, without changing the output of a network: chains that agree on
every prediction may disagree on every weight. Each site of an ordinary model has its own meaning. If chains disagree
on such a site (labels that switch, modes that mirror each other), its mean and intervals are of no use.
"""

from collections.abc import Mapping
from typing import Any

from posterity.models.networks import WEIGHTS


def network_weights(latents: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the ``latents`` (nodes of a trace, by name) that are weights of a network:

    - sites made by `posterity.models.bayesian`, which marks them;
    - matrices: sites with two or more dimensions besides their plates whose elements vary freely. A simplex for each
      topic does not vary freely, nor does the factor of a correlation;
    - beside such a matrix, freely varying vectors: biases, and weights of a single input, are permuted with it.

    All other sites, above all scalars, are judged element by element.
    """
    marked = {name for name, node in latents.items() if node["infer"].get(WEIGHTS)}
    free = {name: _site_dims(node) for name, node in latents.items() if name not in marked and _varies_freely(node)}
    if any(dims > 1 for dims in free.values()):
        marked |= {name for name, dims in free.items() if dims > 0}
    return tuple(name for name in latents if name in marked)


def _site_dims(node: Any) -> int:
    """The number of dimensions of a site without those of its plates."""
    plates = sum(1 for frame in node["cond_indep_stack"] if frame.vectorized)
    return len(node["fn"].shape()) - plates


def _varies_freely(node: Any) -> bool:
    """Whether the support of each element does not depend on the others, as for a normal or a half-Cauchy."""
    support = node["fn"].support
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return bool(support.event_dim == 0)
