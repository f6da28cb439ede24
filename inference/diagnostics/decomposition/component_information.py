r"""Do the components of a mixture stand for events? The mutual information of drawn components and events.

A component *fires* if a sample is drawn from it. In a network of sequences, the components that fire at a junction can
stand for its branches (Ellefsen, Martin & Torresen 2019, arXiv:1901.07859). The mutual information of component k and
label l, from N pairs,

$$I = \sum_{kl} \frac{n_{kl}}{N} \log \frac{n_{kl} N}{n_k n_l},$$

is 0 for independent frequencies and the entropy of the label if the component determines it. For independent labels the
estimate is still about (K - 1)(L - 1) / 2N above 0, so it is compared with its distribution when labels are permuted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from scipy.special import xlogy
from scipy.stats import entropy, random_table

from posterity.validation import check_integer, check_seed, shown, to_array

ROUNDING = 1e-9  # nats; tables of the same information differ by less


def component_information(components: Any, labels: Any, *, permutations: int = 9999, seed: int = 0) -> xr.Dataset:
    """Mutual information of the component that fired and a label of what happened, with a permutation test.

    Args:
        components: (N,), whole numbers: the component of each case, as `Dreams.components` at one step, or a draw from
            the responsibilities.
        labels: (N,), whole numbers: the event of each case, such as the branch that was taken.
        permutations: number of permutations of the labels, with all counts of components and labels kept.
        seed: seed of the permutations.

    Returns:
        A Dataset of numbers: ``information`` in nats, ``permuted``, its mean when the labels are permuted;
        ``label_entropy``, the largest information possible; and ``p_value``, the share of permutations with as much
        information or more, the data themselves counted as one.

    Raises:
        ValueError: if components or labels are not whole numbers of shape (N,) with N of 2 or more.

    >>> found = component_information([0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0])
    >>> round(float(found.information), 4), round(float(found.p_value), 1)
    (0.6931, 0.1)
    """
    check_integer("permutations", permutations, 1)
    first, second = (_whole(name, value) for name, value in (("components", components), ("labels", labels)))
    if len(first) != len(second):
        raise ValueError(f"expected labels of shape ({len(first)},), one for each component, got {second.shape}")
    table = np.zeros((first.max() + 1, second.max() + 1))
    np.add.at(table, (first, second), 1)
    rows, columns = table.sum(1).astype(int), table.sum(0).astype(int)
    rng = np.random.default_rng(check_seed(seed))
    found = float(_information(table))
    if min(table.shape) == 1:  # no permutation changes such a table, and SciPy 1.17 returns negative counts of it
        permuted = np.full(permutations, found)
    else:
        permuted = _information(random_table.rvs(rows, columns, size=permutations, random_state=rng))
    more = int((permuted >= found - ROUNDING).sum())
    return xr.Dataset(
        {
            "information": found,
            "permuted": float(permuted.mean()),
            "label_entropy": float(entropy(columns)),
            "p_value": (1 + more) / (1 + permutations),
        },
        attrs={"permutations": permutations, "seed": seed, "num_cases": len(first)},
    )


def _whole(name: str, value: Any) -> np.ndarray:
    """Whole numbers (N,), numbered anew from 0."""
    numbers = to_array(value, name)
    if numbers.dtype.kind not in "iub" or numbers.ndim != 1 or len(numbers) < 2:
        raise ValueError(f"expected {name} to be whole numbers of shape (N,), N of 2 or more, got {shown(numbers)}")
    return np.unique(numbers, return_inverse=True)[1]


def _information(table: np.ndarray) -> np.ndarray:
    """In nats, of counts (..., K, L)."""
    joint = table / table.sum((-2, -1), keepdims=True)
    product = joint.sum(-1, keepdims=True) * joint.sum(-2, keepdims=True)
    return (xlogy(joint, joint) - xlogy(joint, np.where(product > 0, product, 1))).sum((-2, -1))
