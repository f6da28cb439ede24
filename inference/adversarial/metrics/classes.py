"""`class_histogram`: the classes of generated samples, as a classifier sees them."""

from dataclasses import dataclass

import torch
from scipy.special import rel_entr
from torch import Tensor

from posterity.validation import check_integer


@dataclass(frozen=True, eq=False)
class ClassHistogram:
    r"""Shares of the classes, and their divergence from the expected ones.

    Attributes:
        shares: Share of each class (K,), float64 on the CPU.
        kl_uniform: Kullback-Leibler divergence from equal shares, $\sum_k p_k \log(p_k K)$, in nats: 0 for equal
            shares, log K for a single class.
        kl_reference: Divergence from the reference in nats, infinite if a class has samples and no reference; None
            without a reference.
        kl_floor: Expected value of either divergence if the samples have exactly the shares it compares with,
            (K - 1) / (2 N), because N is finite.
        missing: Number of classes without a sample.
        largest: Share of the most frequent class.
    """

    shares: Tensor
    kl_uniform: float
    kl_reference: float | None
    kl_floor: float
    missing: int
    largest: float


def class_histogram(
    probabilities_or_labels: Tensor, classes: int, *, reference: Tensor | None = None
) -> ClassHistogram:
    """Shares of K = ``classes`` classes, from labels (N,) from 0 to K - 1, or from probabilities (N, K).

    A sample with probabilities counts fully for its most probable class. ``reference`` (K,) holds the expected shares,
    for example those of real samples. The divergence is taken from the generated shares to the reference, the reverse
    KL of Srivastava et al. 2017 (VEEGAN, arXiv:1705.07761), so it is finite if classes are missing. ``kl_floor`` is the
    leading term for large N (Miller 1955) and needs more than a few expected samples in each class.

    Raises:
        ValueError: Labels outside the range, probabilities or a reference that are negative or do not sum to 1, other
            shapes, no samples, or fewer than 2 classes.

    >>> histogram = class_histogram(torch.tensor([0, 0, 1, 1]), 4)
    >>> histogram.shares.tolist(), histogram.missing, round(histogram.kl_uniform, 4), histogram.kl_floor
    ([0.5, 0.5, 0.0, 0.0], 2, 0.6931, 0.375)
    """
    check_integer("classes", classes, 2)
    labels = _labels(probabilities_or_labels, classes)
    shares = torch.bincount(labels, minlength=classes).double() / len(labels)
    even = torch.full_like(shares, 1 / classes)
    return ClassHistogram(
        shares=shares,
        kl_uniform=_divergence(shares, even),
        kl_reference=None if reference is None else _divergence(shares, _shares("reference", reference, classes)),
        kl_floor=(classes - 1) / (2 * len(labels)),
        missing=int((shares == 0).sum()),
        largest=float(shares.max()),
    )


def _labels(given: Tensor, classes: int) -> Tensor:
    """Labels (N,), int64 on the CPU."""
    if not isinstance(given, Tensor) or given.ndim not in (1, 2) or not len(given):
        got = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
        raise ValueError(f"expected labels (N,) or probabilities (N, {classes}), N of 1 or more, got {got}")
    if given.is_complex():
        raise ValueError(f"expected real labels or probabilities, got {given.dtype}")
    if given.ndim == 2:
        return _shares("probabilities", given, classes).argmax(1)
    if given.is_floating_point() or given.dtype == torch.bool:
        raise ValueError(f"expected labels of whole numbers, got {given.dtype}")
    if not bool(((given >= 0) & (given < classes)).all()):
        raise ValueError(f"expected labels from 0 to {classes - 1}, got {int(given.min())} to {int(given.max())}")
    return given.long().cpu()


def _shares(name: str, given: Tensor, classes: int) -> Tensor:
    """Shares (..., K) that sum to 1, float64 on the CPU."""
    if not isinstance(given, Tensor) or given.is_complex():
        got = given.dtype if isinstance(given, Tensor) else type(given).__name__
        raise ValueError(f"expected {name} to be a real tensor, got {got}")
    if given.shape[-1:] != (classes,) or (name == "reference" and given.ndim != 1):
        raise ValueError(f"expected {name} of {classes} classes, got shape {tuple(given.shape)}")
    shares = given.detach().double().cpu()
    total = shares.sum(-1)
    if not bool((shares >= 0).all()) or not bool(((total - 1).abs() < 1e-3).all()):
        raise ValueError(
            f"expected {name} of at least 0 that sum to 1, got sums from {total.min():g} to {total.max():g}"
        )
    return shares


def _divergence(shares: Tensor, reference: Tensor) -> float:
    return float(rel_entr(shares.cpu().numpy(), reference.cpu().numpy()).sum())
