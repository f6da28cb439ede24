"""Data sets and models of ``compare_uncertainty.py``: settings of each problem, and how each model is fitted to it."""

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np

from posterity.data import Observations, Standardization, geyser, inverse_sine, mcycle, read_csv
from posterity.inference import HMC, SVI
from posterity.models import (
    Pair,
    bayesian_mixture_density,
    bayesian_regression,
    mixture_density,
    priors,
    table_prior,
)

MODELS = ("map", "bnn_homo", "bnn_hetero", "mdn", "bayesian_mdn")
MANY_ROWS = 1_000  # with more training rows, gradients are expensive


@dataclass(frozen=True)
class Problem:
    """A data set, the resolution at which y was recorded, labels with units, and settings of its models."""

    data: Observations
    resolution: float
    xlabel: str
    ylabel: str
    components: int = 3
    hidden: tuple[int, ...] = (10,)
    decay: float = 1.0  # precision of the normal prior of the MDN's weights
    output_scale: float = 1.0  # of the prior of the Bayesian mixture, in standardised units
    warmup: int = 500  # for each chain of the Bayesian networks
    draws: int = 1000  # one draw is stored of every `thin`
    thin: int = 4
    svi_rate: float = 0.02
    svi_scale: float = 0.02  # initial width of the guide: small enough to stay at the mode


def load_problem(name: str, args: argparse.Namespace) -> Problem:
    """The problem of this name, or that of a user's table."""
    if name == "mcycle":
        # Readings are multiples of 1.34 g; rounding to a step d has a standard deviation of d/sqrt(12).
        return Problem(mcycle(), 1.34 / np.sqrt(12), "time after impact (ms)", "head acceleration (g)")
    if name == "geyser":
        return Problem(geyser(), 1 / 60, "waiting time (min)", "eruption lasts (min)")  # recorded to a second
    if name == "inverse":
        data = inverse_sine(1000 if args.quick else 3000, seed=args.seed)
        # Chosen on other draws of the simulator: seven branches need more and steeper units than a table.
        more: dict[str, Any] = {"components": 10, "hidden": (64,), "decay": 0.1, "output_scale": 3.0}
        chains = {"warmup": 300, "draws": 300, "thin": 3}
        return Problem(data, 0.01, "x", "y", svi_rate=0.01, svi_scale=0.001, **more, **chains)
    if not args.x or not args.y:
        raise SystemExit(f"expected mcycle, geyser, inverse, or a CSV file with --x and --y, got {name!r}")
    data = read_csv(name, x=args.x, y=args.y)
    resolution = float(data.y.std()) / 100 if args.resolution is None else args.resolution
    return Problem(data, resolution, ", ".join(args.x), args.y)


def sampler(problem: Problem, quick: bool) -> HMC:
    """Settings of HMC for the Bayesian networks, chosen for convergence on training rows.

    Chains start from the prior, so agreement between them means that they have found the same posterior independently.
    Each fit has one thread, because fits run in parallel.
    """
    settings: dict[str, Any] = {"threads": 1, "progress": False}
    if len(problem.data) >= MANY_ROWS:
        # A gradient takes as long as fifty of a small table, hence few chains (as many as fill the vector unit) and a
        # fixed trajectory length.
        settings |= {"chains": 8, "target_accept": 0.95, "trajectory_length": 12.0}
        quick_length = {"warmup": 60, "draws": 30, "trajectory_length": 2.0}
    else:
        settings |= {"chains": 16, "target_accept": 0.95}
        quick_length = {"warmup": 200, "draws": 200}
    length = quick_length if quick else {"warmup": problem.warmup, "draws": problem.draws, "thin": problem.thin}
    return HMC(**(settings | length))


def recipe(model: str, problem: Problem, scale: Standardization, quick: bool) -> tuple[Pair, Any]:
    """The model with its guide, and the method of inference."""
    common: dict[str, Any] = {"hidden": problem.hidden, "resolution": problem.resolution}
    # One mean and one scale need fewer units than several branches.
    gaussian: dict[str, Any] = common | {"hidden": tuple(min(16, width) for width in problem.hidden)}
    bayesian: dict[str, Any] = {"prior": table_prior() | {"": priors.Normal(scale=problem.output_scale)}}
    steps = 1500 if quick else 4000
    match model:
        case "map":
            return bayesian_regression(scale, **gaussian), SVI(guide="map", steps=steps, progress=False)
        case "bnn_homo":
            return bayesian_regression(scale, noise="constant", **gaussian), sampler(problem, quick)
        case "bnn_hetero":
            return bayesian_regression(scale, **gaussian), sampler(problem, quick)
        case "mdn":
            pair = mixture_density(scale, components=problem.components, decay=problem.decay, **common)
            return pair, SVI(steps=steps, learning_rate=0.005, progress=False)
        case "bayesian_mdn":
            # Each weight costs in the ELBO, which is higher with fewer units than with sixteen.
            common["hidden"] = tuple(max(8, width // 2) for width in problem.hidden)
            pair = bayesian_mixture_density(
                scale, components=problem.components, guide="mean_field", **common, **bayesian
            )
            return pair, SVI(
                steps=steps,
                learning_rate=problem.svi_rate,
                init_scale=problem.svi_scale,
                init="map",
                progress=False,
            )
    raise ValueError(f"unknown model {model!r}")
