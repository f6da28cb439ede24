"""Usage of the components of a mixture, and the order of components in different draws.

The index of a component has no meaning: a posterior has every permutation of them with equal probability. `relabel`
orders the components of each draw so that components with the same index explain the same observations, by their
predictions (Stephens 2000, "Dealing with label switching in mixture models", algorithm 2), not by their index or their
weights in the network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from scipy.optimize import linear_sum_assignment

from posterity.validation import check_number

if TYPE_CHECKING:
    from torch import Tensor

    from posterity.inference.predictive import PredictiveMixture
    from posterity.models.mixtures import Mixture

ROUNDS = 20
"""Largest number of rounds of assignment."""

SMALL = 1e-12
"""Smallest share in a logarithm."""


def component_usage(mixture: Mixture, y: Any = None, *, least: float = 0.01) -> xr.Dataset:
    """Share of each component in the rows of a batch (N,).

    Returns over "component": ``weight``, the mean weight; with ``y`` (N,) or (N, D), ``responsibility``, the mean share
    of the observations that it explains; and ``used``, whether this share (without y the weight) is at least ``least``.
    Attributes: ``effective``, exp of the entropy of these shares, a number of components between 1 and K, and
    ``unused``, the number of components below ``least``. A `PredictiveMixture` is evaluated draw by draw and averaged:
    `relabel` it first.

    Raises:
        ValueError: if the batch shape is not (N,), y has another shape, is not finite or not in the support of the
            components, or ``least`` is not in [0, 1).

    >>> import torch
    >>> from posterity.models.mixtures import Mixture
    >>> two = Mixture.normal(torch.tensor([[0.0, -20.0]]).expand(5, 2), torch.zeros(5, 2), torch.ones(5, 2))
    >>> component_usage(two).used.values
    array([ True, False])
    """
    from posterity.inference.diagnostics.sources.mixture import check_mixture, source_of_mixture

    check_mixture(mixture)
    check_number("least", least, "[0, 1)")
    draws = getattr(mixture, "num_draws", 1)
    shape = (len(mixture.log_weights), draws, mixture.num_components // draws)
    weight = mixture.log_weights.double().exp().reshape(shape).sum(1).mean(0).numpy()
    columns = {"weight": ("component", weight)}
    share = weight
    if y is not None:
        y = source_of_mixture(mixture, y, several=bool(mixture.event_shape)).y
        share = mixture.responsibilities(y).double().reshape(shape).sum(1).mean(0).numpy()
        columns["responsibility"] = ("component", share)
    entropy = -float((share * np.log(np.maximum(share, SMALL))).sum())
    used = share >= least
    return xr.Dataset(
        {**columns, "used": ("component", used)},
        attrs={"effective": float(np.exp(entropy)), "unused": int((~used).sum()), "least": least},
    )


def relabel(predictive: PredictiveMixture, y: Any) -> PredictiveMixture:
    """The same predictive, the components of each draw in an order in which they explain the same observations ``y``.

    ``y`` is (N,), or (N, D) of several targets. The order minimises the sum over draws of the Kullback-Leibler
    divergence from the average responsibilities. The predictive density, and with it every score, is unchanged. Memory
    is that of N x S x K numbers; some hundred observations are enough to distinguish components, so a large data set
    can be thinned: `label_order` returns the order itself.

    Raises:
        ValueError: if ``predictive`` is not a `PredictiveMixture` of batch shape (N,), or y has another shape, is not
            finite or not in the support of the components.
    """
    import torch

    from posterity.models.parameters import map_parameters

    order = label_order(predictive, y)
    draws, count = order.shape
    index = (order + count * torch.arange(draws)[:, None]).reshape(-1)
    components = map_parameters(predictive.component_distribution, lambda t: t[:, index])
    mixing = type(predictive.mixture_distribution)(logits=predictive.log_weights[:, index])
    return predictive.with_parts(mixing, components)


def label_order(predictive: PredictiveMixture, y: Any) -> Tensor:
    """Order (S, K) of the components of each draw, as `relabel` applies it; errors as `relabel`."""
    import torch

    from posterity.inference.diagnostics.sources.mixture import check_mixture, source_of_mixture
    from posterity.inference.predictive import PredictiveMixture

    check_mixture(predictive)
    if not isinstance(predictive, PredictiveMixture):
        raise ValueError(f"expected a PredictiveMixture, got {type(predictive).__name__}")
    y = source_of_mixture(predictive, y, several=bool(predictive.event_shape)).y.unsqueeze(1)
    share = predictive.per_draw.responsibilities(y).double().clamp_min(SMALL)  # (N, S, K)
    rows, draws, count = share.shape
    order = torch.arange(count).expand(draws, count).clone()
    # The first reference is the draw that explains y best.
    average = share[:, int(predictive.per_draw.log_prob(y).sum(0).argmax())]
    for _ in range(ROUNDS):
        cost = -torch.einsum("nsk,nj->sjk", share, average.log())  # of the divergence, what depends on the order
        new = torch.stack([torch.as_tensor(linear_sum_assignment(c.numpy())[1]) for c in cost])
        unchanged = bool((new == order).all())
        order = new
        average = share.gather(2, order.expand(rows, draws, count)).mean(1)
        if unchanged:
            break
    return order
