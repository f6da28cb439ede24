"""Starts at modes: gradient ascent of every chain, with restarts of chains far below the best mode."""

from collections.abc import Callable

import torch
from torch import Tensor

from posterity.inference.engine.chains import Engine
from posterity.inference.training.optimiser import AdaptiveAdam
from posterity.inference.training.probe import behind

RATE, MAX_STEPS, WINDOW = 0.05, 2000, 100  # learning rate, limit of steps, steps between tests of convergence
GAIN = 0.1  # nats: the ascent has converged if no chain gains more in a window at the full rate
RESTARTS = 2  # of chains far below the best


def climb(engine: Engine, positions: Tensor, units: Tensor) -> tuple[Tensor, Tensor, bool]:
    """The highest point of every chain (chain, dim), its log density (chain,), and whether all chains converged.

    ``units`` (dim,) are the units of the first steps. The ascents run in one batch and are independent of each other.
    Their ends are MAP estimates in unconstrained space.
    """
    q, best = positions, positions
    optimiser = AdaptiveAdam(units.expand_as(q).clone(), noisy=False)
    highest = torch.full((len(q),), -torch.inf, dtype=q.dtype, device=q.device)
    before = highest
    for step in range(1, MAX_STEPS + 1):
        value, grad = engine.gradient(q)
        finite = torch.isfinite(value)
        if not bool(finite.all()):
            q = torch.where(finite[:, None], q, best)
            optimiser.back_off(~finite)
        better = finite & (value > highest)
        best, highest = torch.where(better[:, None], q, best), torch.where(better, value, highest)
        if step % WINDOW == 0:
            if bool((highest - before < GAIN).all()):
                return best, highest, True
            before = highest
        q = q + optimiser.step(-torch.where(finite[:, None], grad, 0.0), RATE)
    return best, highest, False


def starts_at_modes(
    engine: Engine, positions: Tensor, units: Tensor, rows: int, fresh: Callable[[int], Tensor]
) -> tuple[Tensor, list[str]]:
    """Modes of all chains (chain, dim), and warnings for the user as sentences.

    Chains that end far below the best (`posterity.inference.training.probe.behind`) climb again from new positions.
    Chains that are still far below start from the modes of other chains, with a warning.

    Args:
        engine: the log density and its gradient.
        positions: first positions (chain, dim).
        units: units of the first steps (dim,).
        rows: number of observations, for the size of a relevant difference.
        fresh: function from the number of a restart to new positions (chain, dim).
    """
    best, highest, converged = climb(engine, positions, units)
    for restart in range(RESTARTS):
        far = behind(highest, rows)
        if not converged or not bool(far.any()):
            break
        other, reached, _ = climb(engine, fresh(restart), units)
        higher = far & (reached > highest)
        best, highest = torch.where(higher[:, None], other, best), torch.where(higher, reached, highest)
    sentences = []
    far = behind(highest, rows)
    if not converged:
        sentences.append(
            f"init='map': the log density was still rising after {MAX_STEPS} steps and may have no maximum (such as a "
            "scale that goes to zero): use init='prior'"
        )
    elif bool(far.any()):
        gap = float((highest.max() - highest[far]).max())
        good = (~far).nonzero().flatten()
        places = far.nonzero().flatten()
        best = best.clone()
        best[places] = best[good[torch.arange(len(places), device=good.device) % len(good)]]
        sentences.append(
            f"init='map': {len(places)} of {len(far)} chains (numbers {places.tolist()}) only found modes up to "
            f"{gap:.3g} nats below the best in {1 + RESTARTS} attempts: they start from the modes of other chains"
        )
    return best, sentences
