"""Where the entropy of a prediction comes from: from what is predicted, or from not knowing the weights.

With draws w_s of the posterior, and p(y|x) their average,

    H[p(y|x)]  =  E_s H[p(y|x, w_s)]  +  I(y; w | x)
     total          expected             mutual information

The expected entropy stays whatever is learned of the weights. The mutual information is what an observation at x
would say of them: 0 where all draws predict the same, large where each is sure of something else (Gal 2016, section
3.3; Depeweg et al. 2018, arXiv:1710.07283; Smith & Gal 2018, arXiv:1803.08533). It is the split of `uncertainty_split`
without the unit, holds for classes too, and sees what a variance does not: draws that agree on the mean and not on the
shape.

All in nats. The entropy of a density, unlike that of classes, may be below zero and depends on the unit of y; the
mutual information does neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from scipy.special import xlogy

from posterity.inference.arviz import group, group_names
from posterity.inference.diagnostics.sources.reading import is_mixture
from posterity.validation import check_finite, check_integer, check_seed, to_array

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributions import Distribution

    from posterity.inference.predictive import PredictiveMixture

BLOCK = 2**21
"""How many probabilities are worked on at once: 16 MiB for each intermediate result."""

TOLERANCE = 1e-3
GROUPS = ("posterior", "posterior_predictive", "predictions")


def information_split(
    source: PredictiveMixture | Distribution | Tensor | np.ndarray | Any,
    *,
    samples: int | None = None,
    var_name: str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """The terms of the entropy at each point, in nats: ``total_entropy``, ``expected_entropy``, ``mutual_information``.

    *Of classes*, ``source`` is an array or tensor (S, N, C) of the probabilities of each draw; a ``Categorical``,
    ``OneHotCategorical`` or ``Bernoulli`` of batch shape (S, N), as ``posterior.likelihood(x)``; or ArviZ data with a
    variable ``var_name`` of probabilities over chain, draw, the observations, and classes last; one with chain, draw
    and a single dimension more is the probability of one of two classes. The terms are sums over the classes, exact,
    and the mutual information is in [0, log C]. Beside them: ``max_probability``, of the likeliest class by the mean
    over the draws, and ``variation_ratio``, the share of draws whose likeliest class is not the commonest one.

    *Of numbers*, it is a `PredictiveMixture` of batch shape (N,), of one target or several, or a likelihood of batch
    shape (S, N) to make it of. There is no closed form: ``samples`` of y (even; default from 8 to 512, as many as 3e8
    evaluations of components allow) are taken at each point, stratified over the components, from ``seed``. Each of
    the terms is unbiased and has its Monte Carlo error, such as ``mutual_information_se``. The mutual information is
    in [0, log S], and 0 with error 0 where all draws agree. The expected entropy is split once more, into
    ``noise_entropy`` within the components of a draw (exact for families with a known entropy) and ``ambiguity``, what
    y would say of the component within a draw, 0 for a single one.

    Returns a Dataset over "obs", or over the dimensions of the observations in ArviZ data.
    Raises ``ValueError`` for other shapes, probabilities outside [0, 1] or that do not sum to 1, odd samples, or a
    mixture that does not know its draws.

    >>> sure = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])  # two draws, each sure of another class
    >>> split = information_split(sure)
    >>> split.total_entropy.values.round(4), split.expected_entropy.values, split.mutual_information.values.round(4)
    (array([0.6931]), array([0.]), array([0.6931]))
    """
    source = as_mixture(source)
    arrays = isinstance(source, np.ndarray | xr.DataArray) or hasattr(source, "detach")
    if var_name is not None and (arrays or hasattr(source, "batch_shape")):
        raise ValueError(f"expected var_name only with ArviZ data, got {var_name!r} with {type(source).__name__}")
    if is_mixture(source):
        return _of_mixture(source, samples, seed)
    if samples is not None:
        raise ValueError(f"expected samples only for mixtures, whose entropy has no closed form, got {samples}")
    if arrays:
        return _of_classes(to_array(source, "source"))
    if hasattr(source, "batch_shape"):
        probabilities = to_array(source.probs)
        return _of_classes(probabilities if probabilities.ndim == 3 else _both(probabilities))
    return _of_arviz(source, var_name)


def as_mixture(source: Any) -> Any:
    """A likelihood of batch shape (S, N), unless of classes, as a `PredictiveMixture`; anything else as it is."""
    if not hasattr(source, "batch_shape") or hasattr(source, "num_draws"):
        return source
    from torch.distributions import Bernoulli, Categorical, OneHotCategorical

    from posterity.inference.predictive import PredictiveMixture

    if is_mixture(source) and len(source.batch_shape) == 1:
        return source  # which knows of no draws
    if len(source.batch_shape) != 2:
        raise ValueError(f"expected a likelihood of batch shape (draws, N), got {tuple(source.batch_shape)}")
    if isinstance(source, Bernoulli | Categorical | OneHotCategorical):
        return source
    return PredictiveMixture.from_draws(source)


def _of_mixture(source: Any, samples: int | None, seed: int) -> xr.Dataset:
    from posterity.inference.diagnostics.sources.mixture import check_mixture
    from posterity.inference.diagnostics.sources.mixture_information import default_samples, mixture_information
    from posterity.inference.predictive import PredictiveMixture

    if not isinstance(source, PredictiveMixture):
        raise ValueError(
            "expected a PredictiveMixture, which knows what belongs to which draw (PredictiveMixture.from_draws), got "
            f"{type(source).__name__}"
        )
    check_mixture(source)
    if samples is None:
        samples = default_samples(source)
    if check_integer("samples", samples, 2) % 2:
        raise ValueError(f"expected samples to be an even number, got {samples}")
    found = mixture_information(source, samples, check_seed(seed))
    check_finite("entropies of the components", found["total_entropy"])
    attrs = {"num_draws": source.num_draws, "samples": samples, "seed": seed, "unit": "nat"}
    return xr.Dataset({name: ("obs", values) for name, values in found.items()}, attrs=attrs)


def _of_classes(probabilities: np.ndarray) -> xr.Dataset:
    """Of probabilities (S, N, C)."""
    if probabilities.ndim != 3 or 0 in probabilities.shape:
        raise ValueError(f"expected probabilities of shape (draws, N, classes), got {probabilities.shape}")
    draws, rows, classes = probabilities.shape
    if classes < 2:
        raise ValueError(f"expected 2 classes or more, got {classes}; of two, give the probabilities of both")
    step = max(1, BLOCK // (draws * classes))
    parts = [_block_of_classes(probabilities[:, start : start + step]) for start in range(0, rows, step)]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    attrs = {"num_draws": draws, "classes": classes, "unit": "nat"}
    return xr.Dataset({name: ("obs", values) for name, values in columns.items()}, attrs=attrs)


def _block_of_classes(block: np.ndarray) -> dict[str, np.ndarray]:
    values = block.astype(float)
    check_finite("probabilities", values)
    sums = values.sum(-1)
    if values.min() < 0 or np.abs(sums - 1).max() > TOLERANCE:
        raise ValueError(
            f"expected probabilities in [0, 1] that sum to 1 over the classes, got values from {values.min():.3g} and "
            f"sums from {sums.min():.5g} to {sums.max():.5g}"
        )
    values /= sums[..., None]
    mean = values.mean(0)
    total = 0.0 - xlogy(mean, mean).sum(-1)
    expected = np.minimum(0.0 - xlogy(values, values).sum(-1).mean(0), total)  # it is more only by rounding
    votes = values.argmax(-1)
    most = np.max([(votes == label).sum(0) for label in range(values.shape[-1])], axis=0)
    return {
        "total_entropy": total,
        "expected_entropy": expected,
        "mutual_information": total - expected,
        "max_probability": mean.max(-1),
        "variation_ratio": 1 - most / len(values),
    }


def _of_arviz(data: Any, var_name: str | None) -> xr.Dataset:
    try:
        groups = group_names(data)
    except ValueError:
        raise ValueError(
            "expected a PredictiveMixture, a likelihood, probabilities (draws, N, classes), or ArviZ data with "
            f"var_name, got {type(data).__name__}"
        ) from None
    searched = [name for name in GROUPS if name in groups]
    there = {name: [str(variable) for variable in group(data, name).data_vars] for name in searched}
    found = next((name for name in searched if var_name in there[name]), None)
    if var_name is None or found is None:
        raise ValueError(f"expected var_name, a variable of probabilities among {there}, got {var_name!r}")
    variable = group(data, found)[var_name]
    if not {"chain", "draw"} < set(variable.dims):
        raise ValueError(f"expected {var_name!r} with the dimensions chain, draw and others, got {variable.dims}")
    variable = variable.transpose("chain", "draw", ...)
    template = variable.isel(chain=0, draw=0, drop=True)
    values = variable.values.reshape(-1, *template.shape)
    if template.ndim == 1:
        values = _both(values)
    else:
        template = template.isel({template.dims[-1]: 0}, drop=True)
        values = values.reshape(len(values), -1, values.shape[-1])
    split = _of_classes(values)
    shaped = {name: (template.dims, column.values.reshape(template.shape)) for name, column in split.items()}
    return xr.Dataset(shaped, coords=template.coords, attrs=split.attrs)


def _both(probabilities: np.ndarray) -> np.ndarray:
    """Those of both of two classes, from those of the second."""
    return np.stack([1 - probabilities, probabilities], -1)
