"""One-dimensional regression data, y = f(x) + noise, with the exact p(y | x).

- `gp_curve`: a draw of a Gaussian process.
- `sinc_curve`: sin(x) / x, a common demonstration, on which many libraries report R².
- `sine_parabola`: fifteen points on a parabola plus a sine: little data, a wide posterior.
- `wavy`: a sine plus a line with few points in the middle, where the epistemic uncertainty must increase.
- `simulate_curve`: any function with any noise, which the others call.

All draw x uniformly in `interval`, leave out (or thin) the points in `gap`, and add normal noise whose standard
deviation `noise` is a number or a function of x. `oracle(x)` is Normal(f(x), noise(x)), so `oracle(x).mean` is the
curve at any x. The seed, n and gap determine f, x and the noise in units of its standard deviation: a change of `noise`
changes nothing else.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal

from posterity.data._precision import undamaged
from posterity.data.observations import Observations
from posterity.random import as_generator, normal, uniform
from posterity.validation import (
    check_callable,
    check_floating,
    check_integer,
    check_number,
    check_pair,
    check_tensor,
    shown,
)

Function = Callable[[Tensor], Tensor]

_FEATURES = 2048  # frequencies of a Gaussian process draw
_CHUNK = 4096  # points evaluated at a time: 4096 x 2048 float64 is 64 MiB


def simulate_curve(
    f: Function,
    n: int,
    *,
    noise: float | Function,
    interval: tuple[float, float],
    gap: tuple[float, float] | None = None,
    gap_density: float = 0.0,
    seed: int | torch.Generator,
    name: str = "",
    source: str = "",
) -> Observations:
    """n points of y = f(x) + noise(x) e, e ~ N(0, 1), with x random in `interval`.

    Args:
        f: the curve, from x of shape (M,) to shape (M,).
        n: the number of points; a gap does not reduce it.
        noise: standard deviation of y given x, in units of y: a number, or a function from x (M,) to (M,).
            With 0 the points lie on the curve. The result then has no oracle, since p(y | x) has no density.
        interval: (low, high), the range of x.
        gap: (low, high) inside `interval` where the density of points is `gap_density` times that elsewhere.
        gap_density: 0 leaves the gap empty.
        seed: an int, or a generator, whose state advances.
        name, source: stored in the result.

    Returns:
        Observations with x (n, 1), y (n,) and the oracle x (M, 1) -> Normal of batch shape (M,), in the default dtype,
        or in float64 if the default dtype would lose digits of x or of the noise.

    Raises:
        ValueError: n below 1, an interval or gap that is empty or infinite, a gap outside the interval or equal to it,
            a negative `gap_density`, a noise that is negative or not finite (from a function: not positive), or a
            function whose result has another shape.

    >>> line = simulate_curve(lambda x: 2 * x, 50, noise=0.1, interval=(0, 1), seed=0)
    >>> line.oracle(torch.tensor([[0.25], [3.0]])).mean
    tensor([0.5000, 6.0000])
    """
    check_integer("n", n, 1)
    generator = as_generator(seed)
    if not callable(noise):
        check_number("noise", noise, "[0, inf)")
    check_callable("f", f, "x")

    exact = _design(n, interval, gap, gap_density, generator)
    unit = normal(n, generator)

    def oracle(x: Tensor) -> Normal:
        points = column_of(x)
        scale = _values("noise(x)", noise, points) if callable(noise) else torch.full_like(points, noise)
        if not (torch.isfinite(scale) & (scale > 0)).all():
            raise ValueError(f"expected noise(x) to be finite and above 0, got values from {scale.min():g}")
        return Normal(_values("f(x)", f, points), scale)

    dtype = undamaged(exact[:, None], torch.get_default_dtype())
    while True:
        x = exact.to(dtype)
        if not callable(noise) and noise == 0:
            return Observations(x[:, None], _values("f(x)", f, x), ["x"], name=name, source=source)
        truth = oracle(x[:, None])
        scale = truth.scale.double()
        y = (truth.loc.double() + scale * unit)[:, None]
        if dtype == torch.float64 or undamaged(y, dtype, scale[:, None]) == dtype:
            y = truth.loc + truth.scale * unit.to(truth.loc)
            return Observations(x[:, None], y, ["x"], oracle=oracle, name=name, source=source)
        dtype = torch.float64  # the default dtype loses digits of the noise in f(x) + noise


def gp_curve(
    n: int,
    *,
    length_scale: float = 1.5,
    noise: float | Function = 0.3,
    interval: tuple[float, float] = (-10.0, 10.0),
    gap: tuple[float, float] | None = None,
    seed: int | torch.Generator,
) -> Observations:
    """n points on a draw of a Gaussian process of mean 0 and kernel k(d) = exp(-d² / (2 length_scale²)).

    The draw is f(x) = sum_j [a_j cos(w_j x) + b_j sin(w_j x)] / sqrt(F) with a, b ~ N(0, 1) and F = 2048
    frequencies w_j (Rahimi and Recht 2007), one from each of F equally likely strata of N(0, 1/length_scale²).
    Given the frequencies, it is exactly a Gaussian process with variance 1. With stratified frequencies its kernel
    differs from k by less than 0.01 (0.006 over 30 seeds, instead of 0.06 for independent frequencies) for distances up
    to 40 and length scales from 0.5. `oracle(x).mean` evaluates the draw at any x, also outside `interval`.

    The function depends on the seed and the length scale, not on n, noise, interval or gap.

    Args:
        n: the number of points.
        length_scale: positive, in units of x.
        noise, interval, gap, seed: as in `simulate_curve`.

    Raises:
        ValueError: a length scale that is not positive, and as `simulate_curve`.

    >>> data = gp_curve(200, length_scale=0.5, gap=(-2, 2), seed=3)
    >>> data
    Observations(gp_curve: 200 rows, x: x, y: y, torch.float32, with oracle)
    """
    check_number("length_scale", length_scale, "(0, inf)")
    generator = as_generator(seed)
    return simulate_curve(
        _gaussian_process(length_scale, generator),
        n,
        noise=noise,
        interval=interval,
        gap=gap,
        seed=generator,
        name="gp_curve",
        source=f"Gaussian process, squared-exponential kernel, length scale {length_scale:g}",
    )


def sinc_curve(
    n: int = 100,
    *,
    noise: float | Function = 0.05,
    interval: tuple[float, float] = (-10.0, 10.0),
    gap: tuple[float, float] | None = None,
    seed: int | torch.Generator,
) -> Observations:
    """n points on y = sin(x) / x.

    Args:
        n, noise, interval, gap, seed: as in `simulate_curve`.

    Raises:
        ValueError: as `simulate_curve`.
    """
    source = "y = sin(x) / x + noise"
    return simulate_curve(
        _sinc, n, noise=noise, interval=interval, gap=gap, seed=seed, name="sinc_curve", source=source
    )


def sine_parabola(
    n: int = 15,
    *,
    noise: float | Function = 0.1,
    interval: tuple[float, float] = (-4.0, 4.0),
    gap: tuple[float, float] | None = None,
    seed: int | torch.Generator,
) -> Observations:
    """n points on y = sin(x) + 0.1 x².

    Args:
        n, noise, interval, gap, seed: as in `simulate_curve`.

    Raises:
        ValueError: as `simulate_curve`.
    """
    source = "y = sin(x) + 0.1 x**2 + noise"
    return simulate_curve(
        _sine_parabola, n, noise=noise, interval=interval, gap=gap, seed=seed, name="sine_parabola", source=source
    )


def wavy(
    n: int = 86,
    *,
    noise: float | Function = 0.2,
    interval: tuple[float, float] = (-4.0, 4.0),
    gap: tuple[float, float] | None = (-1.0, 1.0),
    seed: int | torch.Generator,
) -> Observations:
    """n points on y = sin(1.5 x) + 0.3 x, a quarter as dense in `gap` as elsewhere: one point in 13 by default.

    Args:
        n, noise, interval, seed: as in `simulate_curve`.
        gap: (low, high), where points are thinned; None for uniform points.

    Raises:
        ValueError: as `simulate_curve`.
    """
    return simulate_curve(
        _wavy,
        n,
        noise=noise,
        interval=interval,
        gap=gap,
        gap_density=0.25,
        seed=seed,
        name="wavy",
        source="y = sin(1.5 x) + 0.3 x + noise, three quarters of the points in the gap left out",
    )


def column_of(x: Tensor) -> Tensor:
    """The column (M,) of x (M, 1); ``ValueError`` for another shape or dtype."""
    check_floating("x", x)
    if x.ndim != 2 or x.shape[1] != 1:
        raise ValueError(f"expected x of shape (M, 1), got {tuple(x.shape)}")
    return x[:, 0]


def _values(label: str, function: Function, points: Tensor) -> Tensor:
    try:
        values = function(points)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"expected {label} of {shown(points)}, got {type(error).__name__}: {error}") from error
    check_tensor(label, values)
    if values.shape != points.shape:
        raise ValueError(f"expected {label} of shape {tuple(points.shape)}, got {tuple(values.shape)}")
    return values


def _sinc(x: Tensor) -> Tensor:
    return torch.sinc(x / math.pi)  # torch's sinc is sin(pi x) / (pi x)


def _sine_parabola(x: Tensor) -> Tensor:
    return torch.sin(x) + 0.1 * x**2


def _wavy(x: Tensor) -> Tensor:
    return torch.sin(1.5 * x) + 0.3 * x


def _gaussian_process(length_scale: float, generator: torch.Generator) -> Function:
    strata = torch.arange(_FEATURES, dtype=torch.float64, device=generator.device)
    quantiles = (strata + uniform(_FEATURES, 0.0, 1.0, generator)) / _FEATURES
    # Clamped away from 0 and 1, where the quantile is infinite, by less than the rounding error of the last stratum.
    frequency = torch.special.ndtri(quantiles.clamp(1e-12, 1 - 1e-12)) / length_scale
    cosine = normal(_FEATURES, generator) / math.sqrt(_FEATURES)
    sine = normal(_FEATURES, generator) / math.sqrt(_FEATURES)

    def f(x: Tensor) -> Tensor:
        values = []
        for points in x.double().split(_CHUNK):
            phase = points[:, None] * frequency.to(x.device)
            values.append(phase.cos() @ cosine.to(x.device) + phase.sin() @ sine.to(x.device))
        return torch.cat(values).to(x.dtype)

    return f


def _design(
    n: int,
    interval: tuple[float, float],
    gap: tuple[float, float] | None,
    gap_density: float,
    generator: torch.Generator,
) -> Tensor:
    """n float64 draws whose density is constant in the interval, and `gap_density` times that in the gap."""
    low, high = check_pair("interval", interval)
    check_number("gap_density", gap_density, "[0, inf)")
    left, right = (high, high) if gap is None else check_pair("gap", gap)
    if not low <= left <= right <= high:
        raise ValueError(f"expected gap inside the interval {interval}, got {gap}")
    before, inside, after = left - low, gap_density * (right - left), high - right
    if before + inside + after <= 0:
        raise ValueError(f"expected gap to leave a part of the interval {interval}, got {gap}")

    u = uniform(n, 0.0, before + inside + after, generator)  # one number for each point, with or without a gap
    x = low + u
    if inside > 0:
        x = torch.where(u >= before, left + (u - before) / gap_density, x)
    return torch.where(u >= before + inside, right + (u - before - inside), x)
