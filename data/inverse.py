"""Inverse problems with a multimodal p(y | x) that is known exactly.

A cause y is observed through a curve that takes the same value more than once, so the cause given the effect has
several modes, and a least-squares network predicts their average, which is not a possible cause. These are the
classical tests of mixture density networks. `oracle(x)` is the exact conditional distribution; the expected negative
log-likelihood of any model cannot be lower than the entropy of y given x, the floor:

| problem | floor in nats |
|---|---|
| `inverse_sine` | 1.2880 |
| `bishop`, uniform noise ± 0.1 | -1.2823 |
| `bishop`, normal noise 0.05 | -1.2263 |
| `bishop`, normal noise 0.1 | -0.6992 |

A held-out negative log-likelihood clearly below its floor indicates an error or a leak of test data. `two_dimensional`
is a direct problem with two correlated targets, for models with a full covariance.
"""

import math
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from posterity.data._precision import undamaged
from posterity.data.conditional import BoundedConditional
from posterity.data.curves import column_of
from posterity.data.normal_noise import NormalNoiseConditional
from posterity.data.observations import Observations, Oracle
from posterity.data.uniform_noise import UniformNoiseConditional
from posterity.random import as_generator, normal, uniform
from posterity.validation import check_choice, check_integer, check_number

_SINE_RANGE = 10.5  # y is uniform on plus and minus this
# t + 0.3 sin(2 pi t) turns at the zeros of its derivative 1 + 0.6 pi cos(2 pi t): at 0.3386 and 0.6614.
_BISHOP_TURN = math.acos(-1 / (0.6 * math.pi)) / (2 * math.pi)


def inverse_sine(n: int = 3000, *, seed: int | torch.Generator) -> Observations:
    """n pairs of y ~ U(-10.5, 10.5) and x = 7 sin(0.75 y) + 0.5 y + N(0, 1); predict y from x.

    p(y | x) has up to five modes. The floor of the expected negative log-likelihood is 1.2880 nats.

    Returns:
        Observations with x (n, 1), y (n,) and the oracle x (M, 1) -> `NormalNoiseConditional` of batch shape (M,).

    Raises:
        ValueError: n below 1, or a seed that is neither an int nor a generator.

    >>> data = inverse_sine(seed=0)
    >>> data.oracle(torch.tensor([[0.0]])).mean.abs().item() < 1e-6  # odd in y, so 0 by symmetry
    True
    """
    check_integer("n", n, 1)
    generator = as_generator(seed)
    y = uniform(n, -_SINE_RANGE, _SINE_RANGE, generator)
    x = _sine(y) + normal(n, generator)
    source = "y ~ U(-10.5, 10.5), x = 7 sin(0.75 y) + 0.5 y + N(0, 1)"
    return _observations(x, y, _inverse_sine_oracle, "y", "inverse_sine", source, 1.0)


def bishop(
    n: int, noise: Literal["uniform", "normal"] = "uniform", scale: float = 0.1, *, seed: int | torch.Generator
) -> Observations:
    """n pairs of t ~ U(0, 1) and x = t + 0.3 sin(2 pi t) + e; predict t from x.

    The example of Bishop, "Mixture density networks" (Aston University NCRG/94/004, 1994), with his noise as the
    default.

    Args:
        n: the number of pairs.
        noise: "uniform" for e ~ U(-scale, scale), "normal" for e ~ N(0, scale²).
        scale: scale of the noise, in units of x. Common variants are ("uniform", 0.1), ("normal", 0.05) and
            ("normal", 0.1).

    Returns:
        Observations with x (n, 1), targets t as y (n,), and the oracle x (M, 1) -> `BoundedConditional` of batch
        shape (M,). With uniform noise p(t | x) is constant on up to three intervals, and the oracle raises ValueError
        for an x with p(x) = 0.

    Raises:
        ValueError: n below 1, an unknown noise, a scale that is not positive, or a seed that is neither an int nor
            a generator.

    >>> data = bishop(100, seed=0)
    >>> data.oracle(torch.tensor([[0.5], [0.2]])).mean
    tensor([0.5000, 0.0722])
    """
    check_integer("n", n, 1)
    check_choice("noise", noise, ("uniform", "normal"))
    check_number("scale", scale, "(0, inf)")
    generator = as_generator(seed)
    t = uniform(n, 0.0, 1.0, generator)
    error = scale * (uniform(n, -1.0, 1.0, generator) if noise == "uniform" else normal(n, generator))
    oracle = partial(_bishop_oracle, noise=noise, scale=scale)
    source = f"Bishop 1994: t ~ U(0, 1), x = t + 0.3 sin(2 pi t) + {noise} noise of scale {scale:g}"
    return _observations(_bishop(t) + error, t, oracle, "t", f"bishop_{noise}_{scale:g}", source, scale)


def two_dimensional(n: int = 5000, correlation: float = 0.9, *, seed: int | torch.Generator) -> Observations:
    """n rows of z ~ U(-10.5, 10.5) and two targets 7 sin(0.75 z) + 0.5 z + e1, 6.5 cos(0.80 z) + 0.5 z + e2.

    e1 and e2 are standard normal with the given correlation. The floor of the expected negative log-likelihood
    is log(2 pi e) + log(1 - correlation²) / 2, 2.0075 nats at 0.9. A model whose targets are independent given z
    cannot get below log(2 pi e), 2.8379.

    Returns:
        Observations with x (n, 1) holding z, y (n, 2) and the oracle z (M, 1) -> MultivariateNormal of batch shape
        (M,) and event shape (2,).

    Raises:
        ValueError: n below 1, a correlation not strictly between -1 and 1, or a seed that is neither an int nor a
            generator.

    >>> two_dimensional(100, seed=0)
    Observations(two_dimensional: 100 rows, x: z, y: y0, y1, torch.float32, with oracle)
    """
    check_integer("n", n, 1)
    check_number("correlation", correlation, "(-1, 1)")
    generator = as_generator(seed)
    z = uniform(n, -_SINE_RANGE, _SINE_RANGE, generator)
    errors = torch.stack([normal(n, generator), normal(n, generator)], -1)
    y = _two_curves(z) + errors @ _noise_tril(correlation).to(errors).T
    dtype = undamaged(y, torch.get_default_dtype(), math.sqrt((1 - correlation) * (1 + correlation)))
    return Observations(
        z.to(dtype)[:, None],
        y.to(dtype),
        ["z"],
        oracle=partial(_two_dimensional_oracle, correlation=correlation),
        name="two_dimensional",
        source=f"z ~ U(-10.5, 10.5), two noisy curves of z, noise correlation {correlation:g}",
    )


def _sine(y: Tensor) -> Tensor:
    return 7 * torch.sin(0.75 * y) + 0.5 * y


def _bishop(t: Tensor) -> Tensor:
    return t + 0.3 * torch.sin(2 * math.pi * t)


def _two_curves(z: Tensor) -> Tensor:
    return torch.stack([_sine(z), 6.5 * torch.cos(0.80 * z) + 0.5 * z], -1)


def _noise_tril(correlation: float) -> Tensor:
    return torch.tensor(
        [[1.0, 0.0], [correlation, math.sqrt((1 - correlation) * (1 + correlation))]], dtype=torch.float64
    )


def _inverse_sine_oracle(x: Tensor) -> BoundedConditional:
    return NormalNoiseConditional(column_of(x), _sine, -_SINE_RANGE, _SINE_RANGE, 1.0)


def _bishop_oracle(x: Tensor, noise: str, scale: float) -> BoundedConditional:
    if noise == "normal":
        return NormalNoiseConditional(column_of(x), _bishop, 0.0, 1.0, scale)
    return UniformNoiseConditional(column_of(x), _bishop, 0.0, 1.0, scale, (_BISHOP_TURN, 1 - _BISHOP_TURN))


def _two_dimensional_oracle(x: Tensor, correlation: float) -> MultivariateNormal:
    column = column_of(x)
    if not len(column):
        raise ValueError(f"expected x with at least one row, got shape {tuple(x.shape)}")
    return MultivariateNormal(_two_curves(column), scale_tril=_noise_tril(correlation).to(x))


def _observations(
    x: Tensor, y: Tensor, oracle: Oracle, y_name: str, name: str, source: str, noise: float
) -> Observations:
    dtype = undamaged(x[:, None], torch.get_default_dtype(), noise)
    return Observations(x.to(dtype)[:, None], y.to(dtype), ["x"], [y_name], oracle=oracle, name=name, source=source)
