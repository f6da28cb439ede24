r"""Covariance functions of Gaussian processes, among them the wide limits of Bayesian networks.

A kernel is a function k(x, z) of inputs (N, D) and (M, D) with values (N, M).

- `squared_exponential`: smooth curves of one length scale.
- `feature_kernel`: a linear model with normal weights on fixed features.
- `network_kernel`: the process that a Bayesian network approaches as its hidden layers widen. With independent normal
  weights of standard deviation s/sqrt(fan-in), the outputs of an infinitely wide network are jointly normal (Neal 1996,
  "Bayesian Learning for Neural Networks", section 2.1; Lee et al. 2018, arXiv:1711.00165; Matthews et al. 2018,
  arXiv:1804.11271), with the covariance

$$K^{(l+1)}(x, z) = b^2 + s^2\, E[\varphi(u) \varphi(v)], \quad (u, v) \sim N(0, K^{(l)}), \quad
K^{(1)}(x, z) = b^2 + s^2\, x \cdot z / D.$$

`posterity.models.GaussianProcess` conditions a kernel on data exactly.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from posterity.models.priors import Normal, choose
from posterity.validation import check_callable, check_choice, check_floating, check_integer, check_number, shown_shape

Kernel = Callable[[Tensor, Tensor], Tensor]


def squared_exponential(length_scale: float, *, scale: float = 1.0) -> Kernel:
    """k(x, z) = scale² exp(-|x - z|² / (2 length_scale²)).

    ``length_scale`` is in units of x, ``scale`` is the standard deviation of the function.

    Raises:
        ValueError: a number that is not above 0; when called, inputs that are not (N, D) and (M, D).

    >>> squared_exponential(2.0)(torch.zeros(1, 1), torch.tensor([[0.0], [2.0]]))
    tensor([[1.0000, 0.6065]])
    """
    check_number("length_scale", length_scale, "(0, inf)")
    check_number("scale", scale, "(0, inf)")

    def kernel(x: Tensor, z: Tensor) -> Tensor:
        check_inputs(x, z)
        squared = ((x[:, None] - z[None]) / length_scale).square().sum(-1)
        return scale**2 * torch.exp(-0.5 * squared)

    return kernel


def feature_kernel(features: Callable[[Tensor], Tensor], *, scale: float = 1.0, bias_scale: float = 0.0) -> Kernel:
    """k(x, z) = bias_scale² + scale² φ(x) · φ(z): linear regression on features, such as those of a network.

    A module gets x in the dtype of its weights.

    Args:
        features: from inputs (N, D) to features (N, F).
        scale: standard deviation of each weight; bias_scale: that of the intercept.

    Raises:
        ValueError: ``features`` is not callable or returns another shape, or a scale is out of range.

    >>> feature_kernel(lambda x: x, scale=2.0, bias_scale=1.0)(torch.tensor([[3.0]]), torch.tensor([[0.0], [1.0]]))
    tensor([[ 1., 13.]])
    """
    check_callable("features", features, "x")
    check_number("scale", scale, "(0, inf)")
    check_number("bias_scale", bias_scale, "[0, inf)")

    def kernel(x: Tensor, z: Tensor) -> Tensor:
        check_inputs(x, z)
        left, right = (_features(features, inputs) for inputs in (x, z))
        return bias_scale**2 + scale**2 * left @ right.T

    return kernel


def network_kernel(activation: str, *, hidden: int = 1, prior: Normal | Mapping[str, Normal] | None = None) -> Kernel:
    """The wide limit of ``bayesian("net", mlp(D, H, ..., H, 1, activation=activation), prior)``, ``hidden`` times H.

    The closed forms of E[φ(u) φ(v)] are those of Williams 1997 ("Computing with infinite networks", eq. 11) for "erf",
    of Cho & Saul 2009 ("Kernel methods for deep learning", eq. 3 with n = 1) for "relu", and the mean of the cosines of
    u - v and u + v for "cos", whose stationary part is a squared exponential.

    Args:
        activation: "relu", "erf" or "cos".
        hidden: the number of hidden layers.
        prior: one `priors.Normal` for all layers, or one for each prefix of their names ("hidden1", ..., "output"), as
            in `bayesian`.

    Raises:
        ValueError: another activation or kind of prior, or weights after the first layer without ``fan_in``, which
            have no wide limit; when called, inputs that are not floating (N, D) and (M, D).

    >>> k = network_kernel("relu", prior=Normal(scale=2**0.5, bias_scale=1e-6))
    >>> x = torch.tensor([[1.0], [-1.0]])
    >>> k(x, x).round(decimals=3)  # twice the mean of relu(u) relu(v) for u, v of variance 2
    tensor([[2., 0.],
            [0., 2.]])
    """
    check_choice("activation", activation, sorted(EXPECTATIONS))
    check_integer("hidden", hidden, 1)
    expectation = EXPECTATIONS[activation]
    layers, whole = _variances([*(f"hidden{index}" for index in range(1, hidden + 1)), "output"], prior)

    def kernel(x: Tensor, z: Tensor) -> Tensor:
        check_inputs(x, z)
        first, *others = layers
        left, right = x.double(), z.double()  # squares of float32 overflow, and differences of them lose digits
        xx, zz, xz = left.square().mean(-1), right.square().mean(-1), left @ right.T / x.shape[1]
        weight = first[1] * (1 if whole else x.shape[1])
        xx, zz, xz = (first[0] + weight * value for value in (xx, zz, xz))
        for bias, weight in others:
            mixed = expectation(xx[:, None], zz[None], xz)
            xx, zz = expectation(xx, xx, xx), expectation(zz, zz, zz)
            xx, zz, xz = (bias + weight * value for value in (xx, zz, mixed))
        return xz.to(x)

    return kernel


def check_inputs(x: Any, z: Any) -> None:
    """``ValueError`` unless the inputs of a kernel are (N, D) and (M, D)."""
    for name, value in (("x", x), ("z", z)):
        check_floating(name, value)
    if x.ndim != 2 or z.ndim != 2 or x.shape[1] != z.shape[1] or not x.shape[1]:
        raise ValueError(f"expected inputs of shapes (N, D) and (M, D), got {shown_shape(x)} and {shown_shape(z)}")


def _variances(layers: list[str], prior: Any) -> tuple[list[tuple[float, float]], bool]:
    """Prior variances of the bias and of the sum over the weights, by layer, and whether the first has ``fan_in``."""
    chosen = choose(prior, [f"{layer}.{part}" for layer in layers for part in ("weight", "bias")])
    for name, found in chosen.items():
        if not isinstance(found, Normal):
            raise ValueError(f"expected priors.Normal for {name!r}, whose wide limit is known, got {found!r}")
        if not found.fan_in and name.endswith("weight") and not name.startswith("hidden1."):
            raise ValueError(f"expected fan_in=True for {name!r}, whose sum would grow with the width, got {found!r}")
    variances = []
    for layer in layers:
        weight, bias = chosen[f"{layer}.weight"], chosen[f"{layer}.bias"]
        width = bias.scale if bias.bias_scale is None else bias.bias_scale  # type: ignore[attr-defined]
        variances.append((width**2, weight.scale**2))  # type: ignore[attr-defined]
    return variances, chosen["hidden1.weight"].fan_in  # type: ignore[attr-defined]


def _features(features: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    first = next(features.parameters(), x) if isinstance(features, torch.nn.Module) else x
    with torch.no_grad():
        values = features(x.to(first.dtype))
    if not isinstance(values, Tensor) or values.ndim != 2 or len(values) != len(x):
        raise ValueError(f"expected features(x) of shape ({len(x)}, F), got {shown_shape(values)}")
    return values.to(torch.promote_types(values.dtype, x.dtype))


def _relu(uu: Tensor, vv: Tensor, uv: Tensor) -> Tensor:
    product = uu.sqrt() * vv.sqrt()
    cosine = (uv / product).nan_to_num().clamp(-1, 1)
    angle = cosine.acos()
    return product * ((1 - cosine**2).sqrt() + (math.pi - angle) * cosine) / (2 * math.pi)


def _erf(uu: Tensor, vv: Tensor, uv: Tensor) -> Tensor:
    return 2 / math.pi * torch.asin((2 * uv / ((1 + 2 * uu) * (1 + 2 * vv)).sqrt()).clamp(-1, 1))


def _cos(uu: Tensor, vv: Tensor, uv: Tensor) -> Tensor:
    return 0.5 * (torch.exp(-0.5 * (uu + vv - 2 * uv)) + torch.exp(-0.5 * (uu + vv + 2 * uv)))


EXPECTATIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"cos": _cos, "erf": _erf, "relu": _relu}
"""E[φ(u) φ(v)] from the variances of u and v and their covariance, by name of the activation."""
