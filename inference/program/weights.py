"""Which latent sites are the weights of a network, so that chains are compared by what it computes alone.

Hidden units can be permuted, and their signs turned, without changing what a network computes: chains that agree on
every prediction may disagree on every weight. The sites of an ordinary model have a meaning of their own, and where
chains disagree on them (labels that switch, modes that mirror each other) their means and intervals are of no use.
"""

from collections.abc import Mapping
from typing import Any

from posterity.models.networks import WEIGHTS


def network_weights(latents: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of those ``latents`` (nodes of a trace, by name) that are weights of a network.

    - Sites that `posterity.models.bayesian` made: it marks them.
    - Matrices: sites with two dimensions or more beside their plates whose elements may take any values whatever the
      others are. A simplex for each topic is none, nor is the factor of a correlation.
    - Beside such a matrix, vectors of that kind: biases, and weights of a single input, are permuted with it.

    All other sites, scalars first of all, are judged element by element.
    """
    marked = {name for name, node in latents.items() if node["infer"].get(WEIGHTS)}
    free = {name: _own_dims(node) for name, node in latents.items() if name not in marked and _free(node)}
    if any(dims > 1 for dims in free.values()):
        marked |= {name for name, dims in free.items() if dims > 0}
    return tuple(name for name in latents if name in marked)


def _own_dims(node: Any) -> int:
    """Dimensions of a site that are not those of its plates."""
    plates = sum(1 for frame in node["cond_indep_stack"] if frame.vectorized)
    return len(node["fn"].shape()) - plates


def _free(node: Any) -> bool:
    """Whether each element has a support of its own, as of a normal or a half-Cauchy."""
    support = node["fn"].support
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return bool(support.event_dim == 0)
