r"""Parts of the predictive variance: noise, ambiguity, and lack of data.

By the law of total variance, with draws s of the posterior and components k of one draw,

$$\mathrm{Var}[y|x] = \underbrace{E_s E_k[\sigma^2]}_{\text{noise}} + \underbrace{E_s
\mathrm{Var}_k[\mu]}_{\text{ambiguity}} + \underbrace{\mathrm{Var}_s[E_k \mu]}_{\text{epistemic}}$$

*Noise* stays whatever is measured at this x. *Ambiguity* means that several answers are right, and stays too; Choi et
al. (2018, arXiv:1709.02249) call it epistemic for a single mixture density network, where no posterior separates the
two. *Epistemic* variance is what more data would remove (Depeweg et al. 2018, arXiv:1710.07283). A bare mixture has
only components, so its variance is split into the part within components and the part between them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import xarray as xr

from posterity.inference.diagnostics.sources.results import check_result
from posterity.validation import check_finite

if TYPE_CHECKING:
    from torch import Tensor

    from posterity.models.mixtures import Mixture

BY_DRAW = ("noise", "ambiguity", "epistemic")
BY_COMPONENT = ("within_component", "between_component")


def uncertainty_split(predictive: Mixture) -> xr.Dataset:
    """The terms of the variance at each point, in squared units of y, and their ``total``.

    A `PredictiveMixture` of batch shape (N,) gives ``noise``, ``ambiguity`` and ``epistemic`` over "obs"; a bare
    `Mixture` gives ``within_component`` and ``between_component``. For D targets the dimensions are ("obs", "target"),
    and each target has its own split. ``total`` is the variance, computed by itself; the terms sum to it up to
    rounding. For angles it is the circular variance 1 - |E exp(iy)|, in [0, 1] and without unit.

    Raises:
        ValueError: if ``predictive`` is not a mixture of batch shape (N,), or components have an infinite variance.

    >>> import pyro.distributions as dist, torch
    >>> from posterity.inference import PredictiveMixture
    >>> draws = dist.Normal(torch.tensor([[0.0, 5.0], [2.0, 5.0]]), 1.0)  # two draws, two points
    >>> split = uncertainty_split(PredictiveMixture.from_draws(draws))
    >>> split.noise.values, split.epistemic.values, split.total.values
    (array([1., 1.]), array([1., 0.]), array([2., 1.]))
    """
    import torch

    from posterity.inference.diagnostics.sources.mixture import check_mixture
    from posterity.inference.predictive import PredictiveMixture
    from posterity.models.mixtures.row_chunks import by_rows

    check_mixture(predictive)
    names = BY_DRAW if isinstance(predictive, PredictiveMixture) else BY_COMPONENT
    columns = (*names, "total")

    def evaluate(part: Mixture, rows: slice) -> Tensor:
        terms = [*(getattr(part, name) for name in names), part.variance]
        return torch.stack(terms).movedim(1, -1)  # (term, target..., row)

    values = by_rows(predictive, evaluate, per_row=3)
    check_finite("variances of the components", values)
    dims = ("obs", "target")[: values.ndim - 1]
    attrs = {"num_draws": getattr(predictive, "num_draws", 1)}
    return xr.Dataset({name: (dims, column.T) for name, column in zip(columns, values, strict=True)}, attrs=attrs)


def split_shares(split: xr.Dataset) -> xr.Dataset:
    """Mean over the observations of each term divided by the total, in [0, 1]; the shares sum to one.

    ``split`` is a result of `uncertainty_split`. Every observation has the same weight, however large its variance.

    Raises:
        ValueError: if ``split`` is not a result of `uncertainty_split`, or a total is not above zero.

    >>> split = xr.Dataset({"noise": ("obs", [1.0, 1.0]), "ambiguity": ("obs", [0.0, 2.0]),
    ...                     "epistemic": ("obs", [1.0, 1.0]), "total": ("obs", [2.0, 4.0])})
    >>> shares = split_shares(split)
    >>> float(shares.noise), float(shares.ambiguity), float(shares.epistemic)
    (0.375, 0.25, 0.375)
    """
    names = split_terms(split)
    if "obs" not in split["total"].dims:
        raise ValueError(f"expected a split over 'obs', got dimensions {split['total'].dims}")
    if not bool((split["total"] > 0).all()):
        raise ValueError(f"expected totals above 0, got {float(split['total'].min())}")
    return (split[list(names)] / split["total"]).mean("obs").assign_attrs(split.attrs)


def split_terms(split: xr.Dataset) -> tuple[str, ...]:
    """Names of the terms of a result of `uncertainty_split`: first what stays, last what more data remove."""
    by_component = isinstance(split, xr.Dataset) and all(name in split for name in BY_COMPONENT)
    names = BY_COMPONENT if by_component else BY_DRAW
    check_result("uncertainty_split", split, *names, "total")
    return names
