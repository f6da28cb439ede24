"""Modes to start chains from: gradient ascent of every chain; chains far behind the best are restarted."""

from collections.abc import Callable

import torch
from torch import Tensor

from posterity.inference.engine.chains import Engine
from posterity.inference.training.optimiser import AdaptiveAdam
from posterity.inference.training.probe import behind

RATE, MOST, WINDOW = 0.05, 2000, 100  # learning rate, largest number of steps, steps between tests of convergence
LEVEL = 0.1  # nats: the ascent has converged if no chain gains more in a window at the full rate
AGAIN = 2  # restarts of chains far behind


def climb(engine: Engine, positions: Tensor, units: Tensor) -> tuple[Tensor, Tensor, bool]:
    """The highest point of every chain (chain, dim), its log density (chain,), and whether all chains converged.

    ``units`` (dim,) are the units of the first steps. The ascents are MAP estimates in unconstrained space, computed in
    one batch and independent of each other.
    """
    q, best = positions, positions
    optimiser = AdaptiveAdam(units.expand_as(q).clone(), noisy=False)
    highest = torch.full((len(q),), -torch.inf, dtype=q.dtype, device=q.device)
    before = highest
    for step in range(1, MOST + 1):
        value, grad = engine.gradient(q)
        finite = torch.isfinite(value)
        if not bool(finite.all()):
            q = torch.where(finite[:, None], q, best)
            optimiser.back_off(~finite)
        better = finite & (value > highest)
        best, highest = torch.where(better[:, None], q, best), torch.where(better, value, highest)
        if step % WINDOW == 0:
            if bool((highest - before < LEVEL).all()):
                return best, highest, True
            before = highest
        q = q + optimiser.step(-torch.where(finite[:, None], grad, 0.0), RATE)
    return best, highest, False


def starts_at_modes(
    engine: Engine, positions: Tensor, units: Tensor, rows: int, fresh: Callable[[int], Tensor]
) -> tuple[Tensor, list[str]]:
    """Modes of all chains, and warnings for the user as sentences.

    Chains that end far behind the best (`posterity.inference.training.probe.behind`) climb again from other positions
    ``fresh(round)`` (chain, dim). Chains still behind start from the modes of other chains, with a warning.
    """
    best, highest, level = climb(engine, positions, units)
    for again in range(AGAIN):
        far = behind(highest, rows)
        if not level or not bool(far.any()):
            break
        other, reached, _ = climb(engine, fresh(again), units)
        higher = far & (reached > highest)
        best, highest = torch.where(higher[:, None], other, best), torch.where(higher, reached, highest)
    said = []
    far = behind(highest, rows)
    if not level:
        said.append(
            f"init='map': the log density was still rising after {MOST} steps and may have no maximum (such as a scale "
            "that goes to zero): use init='prior'"
        )
    elif bool(far.any()):
        gap = float((highest.max() - highest[far]).max())
        good = (~far).nonzero().flatten()
        places = far.nonzero().flatten()
        best = best.clone()
        best[places] = best[good[torch.arange(len(places), device=good.device) % len(good)]]
        said.append(
            f"init='map': {len(places)} of {len(far)} chains (numbers {places.tolist()}) only found modes up to "
            f"{gap:.3g} nats below the best in {1 + AGAIN} attempts: they start from the modes of other chains"
        )
    return best, said
