"""Which classes a generator makes, by a classifier's word."""

from dataclasses import dataclass

import torch
from scipy.special import rel_entr
from torch import Tensor

from posterity.validation import check_integer


@dataclass(frozen=True, eq=False)
class ClassHistogram:
    """``shares`` (K,) of the classes, float64 on the CPU, and what they sum up to.

    - ``kl_uniform``: KL(shares || even), sum p log(p K), in nats: 0 where all are equal, log K for a single class;
    - ``kl_reference``: KL(shares || reference), infinite where a class has samples and no reference; None without one;
    - ``floor``: what either is on average even for a perfect generator, (K - 1) / (2 N), because N is finite;
    - ``missing``: how many classes have no sample; ``largest``: the largest share.
    """

    shares: Tensor
    kl_uniform: float
    kl_reference: float | None
    floor: float
    missing: int
    largest: float


def class_histogram(
    probabilities_or_labels: Tensor, classes: int, *, reference: Tensor | None = None
) -> ClassHistogram:
    """Of ``classes`` K, from labels (N,), whole numbers from 0 to K - 1, or probabilities (N, K).

    A sample with probabilities counts as its most probable class, in full. ``reference`` (K,) are the shares that
    should be, such as those of the real samples. The divergence is from what is generated, as the reverse KL of
    Srivastava et al. 2017 (VEEGAN, arXiv:1705.07761), and finite when classes are missing. The floor is the first term
    for large N (Miller 1955), if no class is expected to have next to no samples.
    Raises ``ValueError`` for labels outside, probabilities or a reference that do not sum to 1 or are negative, other
    shapes, no samples, or fewer than 2 classes.

    >>> found = class_histogram(torch.tensor([0, 0, 1, 1]), 4)
    >>> found.shares.tolist(), found.missing, round(found.kl_uniform, 4), found.floor
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
        floor=(classes - 1) / (2 * len(labels)),
        missing=int((shares == 0).sum()),
        largest=float(shares.max()),
    )


def _labels(given: Tensor, classes: int) -> Tensor:
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
    """Float64, on the CPU."""
    if not isinstance(given, Tensor) or given.is_complex():
        got = given.dtype if isinstance(given, Tensor) else type(given).__name__
        raise ValueError(f"expected {name} as a real tensor, got {got}")
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
