"""Three kinds of uncertainty in one quadrant of the plane, with the exact p(y | x).

After the synthetic examples of Choi, Lee, Lim & Oh 2018, "Uncertainty-aware learning from demonstration using mixture
density networks with sampling-free uncertainty modeling" (arXiv:1709.02249), section IV-A. The three kinds differ
only in the quadrant where both inputs are above zero: "absence" has no data there, "noise" has strong noise, and
"composition" has a mixture of two functions. In the other quadrants all three have the same curve with weak noise.
"""

import math
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, Normal

from posterity.data.observations import Observations
from posterity.random import as_generator, normal, uniform
from posterity.validation import check_choice, check_flag, check_floating, check_integer

Case = Literal["absence", "noise", "composition"]
HALF_WIDTH = 6.0
NOISE, HEAVY_NOISE = 0.2, 1.5  # standard deviations


def quadrants(n: int, case: Case, *, seed: int | torch.Generator, everywhere: bool = False) -> Observations:
    """n rows of x ~ U(-6, 6)² and y = 5 cos(pi |x| / 4) exp(-pi |x| / 20) + N(0, 0.2²), except in the first quadrant.

    The first quadrant, with both inputs above zero, has for each ``case``:

    - "absence": no rows (the other three quadrants have all n); with ``everywhere`` it has rows too, for a test set;
    - "noise": normal noise with a standard deviation of 1.5 (Choi et al. use uniform noise of half-width 2);
    - "composition": plus or minus the curve, with equal probability.

    Returns:
        Observations with x (n, 2), y (n,) and the oracle x (M, 2) -> a mixture of two normals of batch shape (M,).

    Raises:
        ValueError: n below 1, an unknown case, or a seed that is neither an int nor a generator.

    >>> quadrants(100, "composition", seed=0)
    Observations(quadrants_composition: 100 rows, x: x0, x1, y: y, torch.float32, with oracle)
    """
    check_integer("n", n, 1)
    check_flag("everywhere", everywhere)
    check_choice("case", case, get_args(Case))
    generator = as_generator(seed)
    x = torch.stack([uniform(n, -HALF_WIDTH, HALF_WIDTH, generator) for _ in range(2)], -1)
    if case == "absence" and not everywhere:
        # Rows of the empty quadrant move to one of the others.
        to = torch.floor(uniform(n, 0.0, 3.0, generator)).long().clamp_max(2)
        sign = torch.tensor([[-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]], dtype=x.dtype)[to]
        x = torch.where(in_first_quadrant(x).unsqueeze(-1), x * sign, x)
    oracle = _oracle(x, case)
    second = uniform(n, 0.0, 1.0, generator) < 0.5
    components: Any = oracle.component_distribution
    at = second.long().unsqueeze(-1)
    loc, scale = (t.gather(-1, at).squeeze(-1) for t in (components.loc, components.scale))
    y = loc + scale * normal(n, generator)
    dtype = torch.get_default_dtype()
    return Observations(
        x.to(dtype),
        y.to(dtype),
        oracle=partial(_oracle, case=case),
        name=f"quadrants_{case}",
        source="after Choi et al. 2018, section IV-A",
    )


def in_first_quadrant(x: Tensor) -> Tensor:
    """Whether both inputs x (..., 2) are above zero, shape (...)."""
    return (x > 0).all(-1)


def _curve(x: Tensor) -> Tensor:
    radius = x.norm(dim=-1)
    return 5 * torch.cos(math.pi * radius / 4) * torch.exp(-math.pi * radius / 20)


def _oracle(x: Tensor, case: str) -> MixtureSameFamily:
    check_floating("x", x)
    if x.ndim != 2 or x.shape[1] != 2:
        raise ValueError(f"expected x of shape (M, 2), got {tuple(x.shape)}")
    first, value = in_first_quadrant(x), _curve(x)
    other = torch.where(first & (case == "composition"), -value, value)
    scale = torch.where(first & (case == "noise"), HEAVY_NOISE, NOISE).to(x.dtype)
    components = Normal(torch.stack([value, other], -1), torch.stack([scale, scale], -1))
    return MixtureSameFamily(Categorical(logits=torch.zeros_like(components.loc)), components)
