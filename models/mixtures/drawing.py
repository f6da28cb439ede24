"""Drawing of components by their weights, and the distributions of the drawn components."""

import torch
from torch import Tensor
from torch.distributions import Distribution

from posterity.models.parameters import map_parameters


def draw_components(weights: Tensor, uniform: Tensor) -> Tensor:
    """Component indices (..., M) for ``uniform`` numbers (..., M) in [0, 1), by inversion of the cumulative weights.

    ``weights`` (..., K) need not be normalised. The cumulative sum is computed once for all M draws.
    """
    cumulative = weights.cumsum(-1)
    # Rounding can put a number beyond the last sum.
    return torch.searchsorted(cumulative, uniform * cumulative[..., -1:], right=True).clamp_max(weights.shape[-1] - 1)


def gather_components(components: Distribution, index: Tensor) -> Distribution:
    """The components (sample..., ...) at ``index`` (sample..., ...) of components (..., K)."""
    ndim = len(components.batch_shape) - 1

    def gathered(parameter: Tensor) -> Tensor:
        own = parameter.shape[ndim + 1 :]
        places = index.reshape(index.shape + (1,) * (1 + len(own)))
        spread = parameter.expand(index.shape + parameter.shape[ndim:])
        return spread.gather(index.ndim, places.expand(*index.shape, 1, *own)).squeeze(index.ndim)

    result: Distribution = map_parameters(components, gathered)
    return result


def select_components(components: Distribution, index: Tensor) -> Distribution:
    """The components (N, M) at ``index`` (N, M) of components (N, K)."""
    rows = torch.arange(len(index))[:, None]
    selected: Distribution = map_parameters(components, lambda tensor: tensor[rows, index])
    return selected
