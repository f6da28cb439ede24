"""Which components of a mixture are used, and which of one draw are those of another.

The index of a component means nothing: a posterior has each arrangement of them as often as every other. `relabel`
arranges the components of each draw so that they do the same work, by what they predict (Stephens 2000, "Dealing with
label switching in mixture models", algorithm 2), never by their index or their weights in the network.
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
SMALL = 1e-12


def component_usage(mixture: Mixture, y: Any = None, *, least: float = 0.01) -> xr.Dataset:
    """How much each component is used, over the rows of a batch (N,).

    Returns over "component": ``weight``, the mean weight; with ``y`` (N,) or (N, D), ``responsibility``, the mean
    share of the observations that it explains; and ``used``, whether that (else the weight) is at least ``least``.
    In ``attrs``: ``effective``, exp of the entropy of these shares, a number of components between 1 and K, and
    ``unused``, how many are not.
    A `PredictiveMixture` is taken draw by draw and averaged: `relabel` it first.
    Raises ``ValueError`` for another batch shape, y of another shape, not finite or outside the components' support, or
    ``least`` outside [0, 1).

    >>> import torch
    >>> from posterity.models.mixtures import Mixture
    >>> two = Mixture.normal(torch.tensor([[0.0, -20.0]]).expand(5, 2), torch.zeros(5, 2), torch.ones(5, 2))
    >>> component_usage(two).used.values
    array([ True, False])
    """
    from posterity.inference.diagnostics.sources.mixture import check_mixture, from_mixture

    check_mixture(mixture)
    check_number("least", least, "[0, 1)")
    draws = getattr(mixture, "num_draws", 1)
    shape = (len(mixture.log_weights), draws, mixture.num_components // draws)
    weight = mixture.log_weights.double().exp().reshape(shape).sum(1).mean(0).numpy()
    found = {"weight": ("component", weight)}
    share = weight
    if y is not None:
        y = from_mixture(mixture, y, several=bool(mixture.event_shape)).y
        share = mixture.responsibilities(y).double().reshape(shape).sum(1).mean(0).numpy()
        found["responsibility"] = ("component", share)
    entropy = -float((share * np.log(np.maximum(share, SMALL))).sum())
    used = share >= least
    return xr.Dataset(
        {**found, "used": ("component", used)},
        attrs={"effective": float(np.exp(entropy)), "unused": int((~used).sum()), "least": least},
    )


def relabel(predictive: PredictiveMixture, y: Any) -> PredictiveMixture:
    """The same predictive, the components of each draw in an order in which they explain the same of ``y``.

    ``y`` is (N,), or (N, D) of several targets. Minimises the sum over draws of the Kullback-Leibler divergence from
    the average responsibilities. The predictive density, and with it every score, is unchanged. Memory is that of
    N x S x K numbers; some hundred rows are enough to tell components apart, so that a large data set can be thinned:
    `label_order` gives the order itself.
    Raises ``ValueError`` for anything but a `PredictiveMixture` of batch shape (N,), or y of another shape, not finite
    or outside the components' support.
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
    """(S, K): which component of each draw comes first, second, ...; see `relabel`, also for what is refused."""
    import torch

    from posterity.inference.diagnostics.sources.mixture import check_mixture, from_mixture
    from posterity.inference.predictive import PredictiveMixture

    check_mixture(predictive)
    if not isinstance(predictive, PredictiveMixture):
        raise ValueError(f"expected a PredictiveMixture, got {type(predictive).__name__}")
    y = from_mixture(predictive, y, several=bool(predictive.event_shape)).y.unsqueeze(1)
    share = predictive.per_draw.responsibilities(y).double().clamp_min(SMALL)  # (N, S, K)
    rows, draws, count = share.shape
    order = torch.arange(count).expand(draws, count).clone()
    # The draw that explains y best is what the others are compared with at first.
    average = share[:, int(predictive.per_draw.log_prob(y).sum(0).argmax())]
    for _ in range(ROUNDS):
        cost = -torch.einsum("nsk,nj->sjk", share, average.log())  # the part that depends on the order
        new = torch.stack([torch.as_tensor(linear_sum_assignment(c.numpy())[1]) for c in cost])
        unchanged = bool((new == order).all())
        order = new
        average = share.gather(2, order.expand(rows, draws, count)).mean(1)
        if unchanged:
            break
    return order
