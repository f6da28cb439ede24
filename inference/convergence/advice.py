"""Advice on what to change next, given the settings of the run. No advice names a value that is already in use.

A setting that is not known, as of draws from another program, is None.
"""

from __future__ import annotations

TARGETS = (0.95, 0.99)  # target acceptance rates
INITS = ("map", "uniform", "prior")
PYRO_INITS = ("uniform", "median", "prior")  # for Pyro's own samplers
DEEPEST = 20  # the largest max_tree_depth that NUTS allows
WARMUP = 300  # for a run without a warmup
NON_CENTRED = "use a non-centred parametrisation, or lighter tails"
AUTOMATIC = "use the non-centred model (reparam='auto'), or lighter tails"
LIGHTER = "use lighter tails or narrower priors"


def non_centred(reparam: bool | None) -> str:
    """Advice against a funnel; ``reparam`` is whether this setting is in use, None for a sampler without it."""
    return NON_CENTRED if reparam is None else LIGHTER if reparam else AUTOMATIC


def smaller_steps(target_accept: float | None, reparam: bool | None = None) -> str:
    """Advice against divergences; ``reparam`` as in `non_centred`."""
    shape = non_centred(reparam)
    if target_accept is None:
        return f"raise target_accept to 0.95 or 0.99; if divergences remain, {shape}"
    higher = [target for target in TARGETS if target > target_accept + 0.005]
    if not higher:
        return f"target_accept is already {target_accept:g}: {shape}"
    choice = " or ".join(map(str, higher))
    return f"raise target_accept from {target_accept:g} to {choice}; if divergences remain, {shape}"


def smaller_energy_errors(energy_variance: float, reparam: bool | None = None) -> str:
    """Advice against divergences of unadjusted dynamics; ``reparam`` as in `non_centred`."""
    lower = f"lower energy_variance from {energy_variance:g} to {energy_variance / 10:g}, or set adjusted=True"
    return f"{lower}; if divergences remain, {non_centred(reparam)}"


def longer_warmup(warmup: float | None) -> str:
    if warmup is None:
        return "a longer warmup"
    return f"a longer warmup (warmup={2 * int(warmup)})" if warmup else f"a warmup (warmup={WARMUP})"


def another_init(init: str | None, names: tuple[str, ...] = INITS) -> str:
    """Other starting points; ``init`` is the name in use, or None if starts were given as values or are not known."""
    others = [name for name in names if name != init][:2]
    return f"another init ({', '.join(map(repr, others))})"


def more_draws(draws: float | None) -> str:
    return "more draws" if draws is None else f"more draws (draws={2 * int(draws)})"


def deeper_trees(max_tree_depth: float | None) -> str:
    if max_tree_depth is not None and max_tree_depth >= DEEPEST:
        return "Standardise x and y"
    return "Standardise x and y, or raise max_tree_depth"
