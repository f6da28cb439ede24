r"""Parts of the predictive entropy: noise that stays, and information that more data would add.

With draws $w_s$ of the posterior, and p(y|x) the average over the draws,

$$H[p(y|x)] = E_s H[p(y|x, w_s)] + I(y; w | x)$$

The total entropy is the sum of the expected entropy, which stays whatever is learned about the weights, and the mutual
information, which is the expected information about the weights in an observation at x: 0 if all draws predict the
same, large if each is certain of something else (Gal 2016, section 3.3; Depeweg et al. 2018, arXiv:1710.07283; Smith &
Gal 2018, arXiv:1803.08533). It is the split of `uncertainty_split` without a unit, also holds for classes, and sees
draws that agree on the mean and not on the shape, which a variance does not.

All terms are in nats. The entropy of a density, unlike that of classes, may be negative and depends on the unit of y;
the mutual information is never negative and does not depend on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from scipy.special import xlogy

from posterity.inference.arviz import group, group_names
from posterity.inference.diagnostics.sources.reading import is_array, is_mixture
from posterity.validation import check_finite, check_integer, check_seed, to_array

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributions import Distribution

    from posterity.inference.predictive import PredictiveMixture

CHUNK = 2**21
"""Probabilities in a chunk: 16 MiB for each intermediate result."""

TOLERANCE = 1e-3
"""Largest difference of a sum of probabilities from 1."""

GROUPS = ("posterior", "posterior_predictive", "predictions")
"""Groups of ArviZ data that may hold probabilities."""


def information_split(
    source: PredictiveMixture | Distribution | Tensor | np.ndarray | Any,
    *,
    samples: int | None = None,
    var_name: str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """The terms of the entropy at each point, in nats: ``total_entropy``, ``expected_entropy``, ``mutual_information``.

    *Classes.* The terms are sums over the classes and exact, and the mutual information is in [0, log C]. Also
    returned: ``max_probability``, of the most probable class by the mean over the draws, and ``variation_ratio``, the
    share of draws whose most probable class is not the most frequent one.

    *Numbers.* There is no closed form: ``samples`` of y are drawn at each point, stratified over the components. Every
    term is unbiased and has its Monte Carlo error, such as ``mutual_information_se``. The mutual information is in [0,
    log S], and 0 with error 0 if all draws agree. The expected entropy is split further into ``noise_entropy`` within
    the components of a draw (exact for families with a known entropy) and ``ambiguity``, the information in y about the
    component within a draw, 0 for a single component.

    Args:
        source: for classes, an array or tensor (S, N, C) of the probabilities of each draw; a ``Categorical``,
            ``OneHotCategorical`` or ``Bernoulli`` of batch shape (S, N), such as ``posterior.likelihood(x)``; or ArviZ
            data with a variable of probabilities over chain, draw, the observations, and classes last (with chain, draw
            and a single further dimension, the probability of one of two classes). For numbers, a `PredictiveMixture`
            of batch shape (N,), of one target or several, or a likelihood of batch shape (S, N).
        samples: even number of samples of y at each point; by default 8 to 512, as many as 3e8 evaluations of
            components allow. Only for numbers.
        var_name: the variable of ArviZ data.
        seed: seed of the samples.

    Returns:
        A Dataset over "obs", or over the dimensions of the observations in ArviZ data.

    Raises:
        ValueError: if shapes do not match, probabilities are not in [0, 1] or do not sum to 1, ``samples`` is odd, or a
            mixture is not a `PredictiveMixture`.

    >>> certain = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])  # two draws, each certain of another class
    >>> split = information_split(certain)
    >>> split.total_entropy.values.round(4), split.expected_entropy.values, split.mutual_information.values.round(4)
    (array([0.6931]), array([0.]), array([0.6931]))
    """
    source = as_mixture(source)
    arrays = is_array(source)
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
    """A likelihood of batch shape (S, N) of numbers as a `PredictiveMixture`; any other source unchanged."""
    if not hasattr(source, "batch_shape") or hasattr(source, "num_draws"):
        return source
    from torch.distributions import Bernoulli, Categorical, OneHotCategorical

    from posterity.inference.predictive import PredictiveMixture

    if is_mixture(source) and len(source.batch_shape) == 1:
        return source  # a bare mixture, without draws
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
            "expected a PredictiveMixture, which assigns components to draws (PredictiveMixture.from_draws), got "
            f"{type(source).__name__}"
        )
    check_mixture(source)
    if samples is None:
        samples = default_samples(source)
    if check_integer("samples", samples, 2) % 2:
        raise ValueError(f"expected samples to be an even number, got {samples}")
    terms = mixture_information(source, samples, check_seed(seed))
    check_finite("entropies of the components", terms["total_entropy"])
    attrs = {"num_draws": source.num_draws, "samples": samples, "seed": seed, "unit": "nat"}
    return xr.Dataset({name: ("obs", values) for name, values in terms.items()}, attrs=attrs)


def _of_classes(probabilities: np.ndarray) -> xr.Dataset:
    """The split of probabilities (S, N, C)."""
    if probabilities.ndim != 3 or 0 in probabilities.shape:
        raise ValueError(f"expected probabilities of shape (draws, N, classes), got {probabilities.shape}")
    draws, rows, classes = probabilities.shape
    if classes < 2:
        raise ValueError(f"expected at least 2 classes, got {classes}; for two classes, give both probabilities")
    step = max(1, CHUNK // (draws * classes))
    parts = [_chunk_of_classes(probabilities[:, start : start + step]) for start in range(0, rows, step)]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    attrs = {"num_draws": draws, "classes": classes, "unit": "nat"}
    return xr.Dataset({name: ("obs", values) for name, values in columns.items()}, attrs=attrs)


def _chunk_of_classes(probabilities: np.ndarray) -> dict[str, np.ndarray]:
    values = probabilities.astype(float)
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
    expected = np.minimum(0.0 - xlogy(values, values).sum(-1).mean(0), total)  # larger only by rounding
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
    variables = {name: [str(variable) for variable in group(data, name).data_vars] for name in searched}
    holder = next((name for name in searched if var_name in variables[name]), None)
    if var_name is None or holder is None:
        raise ValueError(f"expected var_name to be a variable of probabilities among {variables}, got {var_name!r}")
    variable = group(data, holder)[var_name]
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
    """Probabilities of both of two classes, from those of the second."""
    return np.stack([1 - probabilities, probabilities], -1)
