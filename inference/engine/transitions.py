"""Transitions of the samplers in compiled code: many of them in one call, for all chains (`hmc.h`, `nuts.h`,
`microcanonical.h`)."""

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posterity.inference.engine.chains import LEAPFROG, Integrator, LanesEngine
from posterity.inference.engine.lanes.build import LONG, POINTER, structure

_P, _L, _D = POINTER, LONG, ctypes.c_double
HMC_SLOTS, NUTS_SLOTS, LEVEL_SLOTS = 12, 18, 2  # vectors of length dim in hmc.h, in nuts.h, and for each doubling there
MICROCANONICAL_SLOTS = 8
HMCRun = structure(
    "HMCRun", keys=_P, steps=_P, window=_P, offset=_P, count=_L, first=_L, limit=_D, draws=_P, value=_P, energy=_P,
    acceptance=_P, diverging=_P, lost=_P, end_q=_P, end_p=_P,
)  # fmt: skip
NUTSRun = structure(
    "NUTSRun", keys=_P, count=_L, first=_L, depth=_L, limit=_D, draws=_P, value=_P, energy=_P, acceptance=_P, steps=_P,
    doublings=_P, diverging=_P,
)  # fmt: skip
MicrocanonicalRun = structure(
    "MicrocanonicalRun", keys=_P, steps=_P, adjusted=_L, count=_L, first=_L, limit=_D, half=_P, full=_P, direction=_P,
    draws=_P, value=_P, error=_P, acceptance=_P, diverging=_P,
)  # fmt: skip
Point = tuple[Tensor, Tensor, Tensor]  # positions (chain, dim), their gradients, and log densities (chain,)


@dataclass
class Transitions:
    """Transitions of all chains: the state after the last, and the results of each.

    - ``state``: positions (chain, dim), gradients and log densities.
    - ``draws``: positions after each transition (transition, chain, dim).
    - ``value``, ``energy``, ``acceptance`` (float64), ``diverging``, ``steps``: (transition, chain).
    - ``doublings``: the depth of the trees of NUTS.
    - ``lost``: for HMC, whether no state of the accept window was finite.
    - ``end``: for HMC, position and momentum (chain, dim) at the end of the last trajectory.
    """

    state: Point
    draws: Tensor
    value: Tensor
    energy: Tensor
    acceptance: Tensor
    diverging: Tensor
    steps: Tensor
    doublings: Tensor | None = None
    lost: Tensor | None = None
    end: tuple[Tensor, Tensor] | None = None


@dataclass
class Walk:
    """What all samplers need: step sizes (chain,), inverse mass (dim,), keys (chain, 2), and the transitions to make.

    ``first`` is the number of the first transition, and ``limit`` the energy error above which one diverges.
    """

    step: Tensor
    inverse_mass: Tensor
    keys: np.ndarray
    first: int
    limit: float
    integrator: Integrator = LEAPFROG


def hmc(engine: LanesEngine, state: Point, walk: Walk, steps: Tensor, window: Tensor, offset: Tensor) -> Transitions:
    """Transitions of HMC with ``steps`` (transition, chain), and the size and place of windows (transition,)."""
    count, chains = steps.shape
    result = _results(state, count, steps)
    result.lost = torch.zeros(count, chains, dtype=torch.bool)
    result.end = (torch.empty_like(result.state[0]), torch.empty_like(result.state[0]))
    steps, window, offset = (x.long().contiguous() for x in (steps, window, offset))
    run = HMCRun(
        walk.keys.ctypes.data, steps.data_ptr(), window.data_ptr(), offset.data_ptr(), count, walk.first, walk.limit,
        *(x.data_ptr() for x in (result.draws, result.value, result.energy, result.acceptance, result.diverging)),
        result.lost.data_ptr(), result.end[0].data_ptr(), result.end[1].data_ptr(),
    )  # fmt: skip
    _run(engine, "hmc", run, walk, result.state, HMC_SLOTS)
    engine.gradients += int(steps.sum()) * len(walk.integrator.drifts)
    return result


def nuts(engine: LanesEngine, state: Point, walk: Walk, count: int, depth: int) -> Transitions:
    """``count`` transitions of NUTS with at most ``depth`` doublings."""
    steps = torch.zeros(count, len(state[0]), dtype=torch.long)
    result = _results(state, count, steps)
    result.doublings = torch.zeros_like(steps)
    run = NUTSRun(
        walk.keys.ctypes.data, count, walk.first, depth, walk.limit,
        *(x.data_ptr() for x in (result.draws, result.value, result.energy, result.acceptance)),
        steps.data_ptr(), result.doublings.data_ptr(), result.diverging.data_ptr(),
    )  # fmt: skip
    _run(engine, "nuts", run, walk, result.state, NUTS_SLOTS + LEVEL_SLOTS * depth)
    engine.gradients += int(steps.sum())
    return result


def microcanonical(
    engine: LanesEngine, state: Point, walk: Walk, steps: Tensor, direction: Tensor | None = None,
    amounts: tuple[Tensor, Tensor] | None = None,
) -> Transitions:  # fmt: skip
    """Transitions of isokinetic dynamics, of ``steps`` (transition, chain); ``energy`` is their energy error.

    Without a ``direction`` they begin with fresh directions and end with an acceptance step. With one (chain, dim),
    which is changed in place, they do neither; ``amounts``, each (chain,), are those of the refreshments in half a step
    and in a whole one (see `posterity.inference.engine.isokinetic.refresh_amount`).
    """
    steps = steps.long().contiguous()
    result = _results(state, len(steps), steps)
    half, full = amounts or (torch.zeros(0, dtype=torch.double),) * 2
    half, full = half.contiguous(), full.contiguous()
    run = MicrocanonicalRun(
        walk.keys.ctypes.data, steps.data_ptr(), int(direction is None), len(steps), walk.first, walk.limit,
        half.data_ptr(), full.data_ptr(), None if direction is None else direction.data_ptr(),
        *(x.data_ptr() for x in (result.draws, result.value, result.energy, result.acceptance, result.diverging)),
    )  # fmt: skip
    _run(engine, "microcanonical", run, walk, result.state, MICROCANONICAL_SLOTS)
    engine.gradients += int(steps.sum()) * len(walk.integrator.drifts)
    return result


def _results(state: Point, count: int, steps: Tensor) -> Transitions:
    q = state[0]
    value, energy, acceptance = (torch.zeros(count, len(q), dtype=torch.double) for _ in range(3))
    copied: Any = tuple(part.contiguous().clone() for part in state)
    diverging = torch.zeros(count, len(q), dtype=torch.bool)
    return Transitions(copied, q.new_empty(count, *q.shape), value, energy, acceptance, diverging, steps)


def _run(engine: LanesEngine, name: str, run: ctypes.Structure, walk: Walk, state: Point, slots: int) -> None:
    dtype = engine.density.dtype
    kicks, drifts = (torch.tensor(c, dtype=dtype) for c in (walk.integrator.kicks, walk.integrator.drifts))
    step, mass = walk.step.to(dtype).contiguous(), walk.inverse_mass.to(dtype).contiguous()
    engine.compiled.transitions(name, run, engine.compiled.trajectory(step, mass, kicks, drifts), state, slots)
