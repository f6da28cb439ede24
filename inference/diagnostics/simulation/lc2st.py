r"""The local classifier two-sample test (L-C2ST): is an amortised posterior right at this observation?

An amortised posterior $q(\theta | x)$ is trained on simulations $(\theta, x)$, such as a network that returns a
`Mixture`. `sbc` and `tarp` test it on average over x. Here a classifier learns to tell the pairs $(\theta, x)$ from
pairs $(\theta^q, x)$ with $\theta^q \sim q(\cdot | x)$. If q is right at $x_o$, no classifier can tell them apart
there, and its probabilities are 1/2 for draws $\theta^q \sim q(\cdot | x_o)$ (Linhart, Gramfort & Rodrigues 2023,
arXiv:2306.03580). The statistic and the default classifier are those of the package sbi.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import joblib  # type: ignore[import-untyped]
import numpy as np
import xarray as xr

from posterity.random import child_seeds, generator
from posterity.validation import check_finite, check_integer, check_seed, to_numbers

TRAINED = 6  # the purpose of the seeds of the classifiers
FEWEST = 10
"""Fewest simulations: the classifier of sbi stops early by a tenth of its rows."""


def lc2st(
    source: Any,
    truths: Any,
    data: Any,
    observations: Any,
    *,
    draws: int = 1000,
    permutations: int = 100,
    classifier: Any = None,
    seed: int = 0,
) -> xr.Dataset:
    r"""Test at each observation whether the posterior $q(\theta | x_o)$ is right.

    The classifiers are trained once for all observations, and q is not trained again. They are trained one after
    another, or several at a time under ``joblib.parallel_config(n_jobs=...)``.

    Args:
        source: the posterior: a function of data (N, ...) that returns a distribution of batch shape (N,), such as a
            network that returns a `Mixture` (arrays become tensors of torch's default dtype); or two arrays of its
            draws, of shapes (N, D) given ``data``, one for each simulation, and (draws, M, D) given ``observations``.
        truths: parameters (N, D), or (N,), that were drawn from the prior.
        data: data (N, ...) that were simulated from the truths, and that q was not trained on.
        observations: the observations x_o (M, ...) at which q is tested.
        draws: number of draws of q at each observation, with a function.
        permutations: number of classifiers H that are trained under the null hypothesis. The smallest p-value is
            1 / (H + 1).
        classifier: any classifier of scikit-learn with ``predict_proba``; by default the network of sbi, an
            ``MLPClassifier`` with two layers of 10 D units that stops early. It needs thousands of simulations, and
            with 5000 of them some seconds for each permutation. Parameters and data are standardised.
        seed: seed of the draws, the permutations and the classifiers.

    Returns:
        Over "observation": ``statistic``, the mean of (p - 1/2)² over the draws of q at x_o, with p the probability of
        a true pair, and ``p_value`` = (1 + n) / (H + 1), where n of the H classifiers under the null hypothesis have a
        statistic at least as large. ``null`` has these over ("permutation", "observation"). If q is right for all x,
        the p-values are uniform. With several observations, multiply the smallest by their number (Bonferroni).

    Under the null hypothesis a truth and the draw of q for the same data can be exchanged. Each null classifier
    is trained with the labels of a random half of the pairs exchanged. sbi permutes all labels, so that its null
    classifiers may also learn that the data of the classes differ by chance; its p-values are larger.

    Raises:
        ValueError: if shapes do not fit, values are not finite real numbers, there are fewer than 10 simulations, or
            the classifier has no ``predict_proba``.

    >>> from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
    >>> rng = np.random.default_rng(0)
    >>> theta = rng.normal(size=1000)
    >>> x = theta + rng.normal(size=1000)  # the posterior is N(x/2, 1/2)
    >>> narrow = x / 2 + 0.4 * rng.normal(size=1000), 0.5 + 0.4 * rng.normal(size=(500, 1, 1))
    >>> found = lc2st(narrow, theta, x, [1.0], classifier=QuadraticDiscriminantAnalysis())
    >>> found.p_value.round(2).values
    array([0.01])
    """
    seed = check_seed(seed)
    check_integer("draws", draws, 1)
    check_integer("permutations", permutations, 1)
    truths = _table("truths", truths)
    table, at = _table("data", data), _table("observations", observations)
    own, others = _draws_of(source, data, observations, draws, seed)
    own = _table("draws of the posterior", own)
    _check_shapes(truths, table, at, own, others)
    model = _classifier(classifier, truths.shape[1])
    pairs = np.stack([np.concatenate([truths, table], 1), np.concatenate([own, table], 1)])
    centre = pairs.mean((0, 1))
    spread = np.where(np.ptp(pairs, (0, 1)) > 0, pairs.std((0, 1)), 1.0)
    pairs = (pairs - centre) / spread
    rows = np.broadcast_to(at, (len(others), *at.shape))
    tested = (np.concatenate([others, rows], -1) - centre) / spread
    swaps = generator(seed, "exchanged pairs").random((permutations, len(truths))) < 0.5
    seeds = child_seeds(seed, permutations + 1, TRAINED)
    jobs = zip([np.zeros(len(truths), bool), *swaps], seeds, strict=True)
    found = np.array(joblib.Parallel()(joblib.delayed(_statistics)(model, pairs, tested, *job) for job in jobs))
    statistic, null = found[0], found[1:]
    return xr.Dataset(
        {
            "statistic": ("observation", statistic),
            "p_value": ("observation", (1 + (null >= statistic).sum(0)) / (permutations + 1)),
            "null": (("permutation", "observation"), null),
        },
        attrs={
            "simulations": len(truths), "draws": len(others), "classifier": type(model).__name__, "seed": seed,
        },
    )  # fmt: skip


def _statistics(model: Any, pairs: np.ndarray, tested: np.ndarray, swapped: np.ndarray, seed: int) -> np.ndarray:
    """Mean (p - 1/2)² at each observation (M,), of a classifier of pairs (2, N, columns), some of them exchanged."""
    from sklearn.base import clone

    one = clone(model)
    names = [name for name in one.get_params() if name.split("__")[-1] == "random_state"]
    one.set_params(**dict.fromkeys(names, seed % 2**32))
    labels = np.stack([swapped, ~swapped]).astype(int)  # 0 for true pairs
    one.fit(pairs.reshape(-1, pairs.shape[-1]), labels.reshape(-1))
    probability = one.predict_proba(tested.reshape(-1, tested.shape[-1]))[:, 0]
    return ((probability - 0.5) ** 2).reshape(tested.shape[:2]).mean(0)


def _draws_of(source: Any, data: Any, observations: Any, draws: int, seed: int) -> tuple[Any, np.ndarray]:
    """One draw of q for each simulation, and draws (draws, M, D) at each observation."""
    if callable(source) and not hasattr(source, "sample"):  # distributions of Pyro can be called
        own, others = _sampled(source, data, observations, draws, seed)
    elif isinstance(source, tuple | list) and len(source) == 2:
        own, others = source
    else:
        raise ValueError(
            "expected source to be a function that returns a distribution, or two arrays of draws given data and "
            f"observations, got {type(source).__name__}"
        )
    others = to_numbers("draws of the posterior at observations", others)
    check_finite("draws of the posterior at observations", others)
    return own, others[..., None] if others.ndim == 2 else others


def _sampled(
    source: Callable[[Any], Any], data: Any, observations: Any, draws: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    import torch

    from posterity.random import seeded

    def tensor(values: Any) -> torch.Tensor:
        dtype = values.dtype if isinstance(values, torch.Tensor) else torch.get_default_dtype()
        return torch.as_tensor(values).to(dtype)

    with seeded(child_seeds(seed, 1, TRAINED, 1)[0]), torch.no_grad():
        given, at = (source(tensor(values)) for values in (data, observations))
        for one in (given, at):
            if not hasattr(one, "sample"):
                raise ValueError(f"expected source to return a distribution, got {type(one).__name__}")
        return given.sample().cpu().numpy(), at.sample((draws,)).cpu().numpy()


def _table(name: str, values: Any) -> np.ndarray:
    """Numbers (N, columns)."""
    array = to_numbers(name, values)
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"expected {name} with a row for each of them, got shape {array.shape}")
    check_finite(name, array)
    return array.reshape(len(array), -1)


def _check_shapes(
    truths: np.ndarray, data: np.ndarray, observations: np.ndarray, own: np.ndarray, others: np.ndarray
) -> None:
    if len(truths) < FEWEST:
        raise ValueError(f"expected at least {FEWEST} simulations, got {len(truths)} truths")
    if len(data) != len(truths) or data.shape[1] != observations.shape[1]:
        raise ValueError(
            f"expected data of {len(truths)} truths and observations of the same size, got {len(data)} data with "
            f"{data.shape[1]} numbers each and observations with {observations.shape[1]}"
        )
    wanted = (len(observations), truths.shape[1])
    if own.shape != truths.shape or others.ndim != 3 or others.shape[1:] != wanted or not len(others):
        raise ValueError(
            f"expected a draw of the posterior of shape {truths.shape} for the data, and (draws, {wanted[0]}, "
            f"{wanted[1]}) at the observations, got {own.shape} and {others.shape}"
        )


def _classifier(classifier: Any, dimensions: int) -> Any:
    if classifier is None:
        from sklearn.neural_network import MLPClassifier

        hidden = (10 * dimensions, 10 * dimensions)
        return MLPClassifier(hidden, max_iter=1000, early_stopping=True, n_iter_no_change=50)
    if (
        isinstance(classifier, type)
        or not hasattr(classifier, "predict_proba")
        or not hasattr(classifier, "get_params")
    ):
        raise ValueError(f"expected classifier to be a scikit-learn classifier with predict_proba, got {classifier!r}")
    return classifier
