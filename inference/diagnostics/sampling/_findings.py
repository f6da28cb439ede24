"""Findings from comparing chains, each with its number and advice; see `convergence_report`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr
from scipy.stats import f as f_distribution

from posterity.display import panel, table
from posterity.inference.convergence import wording
from posterity.inference.convergence.statistics import convergence
from posterity.inference.convergence.thresholds import (
    ESS_PER_CHAIN,
    ESS_TOTAL,
    FALSE_ALARM,
    LOW_ACCEPTANCE,
    RHAT,
    RHAT_BAD,
    RHAT_DRAWS,
)
from posterity.inference.diagnostics.sampling._functions import Functions

Severity = Literal["stop", "caution", "unknown", "note"]

MANY = 16
"""Number of chains from which on the advice names superchains."""


class Finding(NamedTuple):
    """One finding of a report: ``number`` is the statistic behind it, ``words`` its meaning and the advice.

    ``severity`` is "stop" (the draws are not from the posterior), "caution" (the draws may not be from the posterior,
    or are too few), "unknown" (not judged), or "note".
    """

    name: str
    severity: Severity
    number: float
    words: str

    def _repr_html_(self) -> str:
        facts = ((self.severity, self.number, self.words),)
        return panel(f"Finding: {self.name}", table(("severity", "number", "what it means, what to do"), facts))


def broken(functions: Functions, finite: np.ndarray, moves: np.ndarray) -> Iterator[Finding]:
    """Functions that are not ``finite``, or do not change between draws (``moves`` is false)."""
    count = int((~finite).sum())
    if count:
        first = functions.labels[int(np.argmin(finite))]
        yield Finding(
            "not finite", "stop", count,
            f"{count} of {len(finite)} functions have draws that are nan or infinite (the first: {first}). If the "
            "likelihood has no mean, judge other functions of it; otherwise look for overflow: standardise x and y, or "
            "use a narrower prior.",
        )  # fmt: skip
    constant = int((finite & ~moves).sum())
    if constant and moves.any():
        first = functions.labels[int(np.argmax(finite & ~moves))]
        yield Finding(
            "constant", "note", constant,
            f"{constant} of {len(finite)} functions are the same in every draw (the first: {first}) and are left out. "
            "If the model fixes these functions, nothing has to be done.",
        )  # fmt: skip


def nothing_moves(functions: Functions) -> Iterator[Finding]:
    """There is only one draw, or every function is constant."""
    yield Finding(
        "nothing to compare", "unknown", math.nan,
        f"None of {len(functions.labels)} functions varies over {functions.chains * functions.draws} draws, so nothing "
        "could be compared. Take more draws, or choose functions that depend on the parameters.",
    )  # fmt: skip


def stuck(functions: Functions, values: np.ndarray) -> Iterator[Finding]:
    """Chains that never move at any of the functions ``values`` (chain, draw, points), copies, and slow chains."""
    still = [chain for chain in range(functions.chains) if not (np.ptp(values[chain], axis=0) > 0).any()]
    if functions.draws > 1 and still:
        yield Finding(
            "stuck", "stop", len(still),
            f"{wording.sentence(wording.never_moved_clause(still, functions.chains))} Take {functions.another_init} or "
            f"another seed, and {functions.longer_warmup}. If the chains still do not move, the log density is not "
            "finite or not smooth.",
        )  # fmt: skip
    copies = _copies(values) if functions.chains > 1 else []
    if copies:
        yield Finding(
            "copies", "stop", len(copies),
            f"The draws of {chains(copies, functions.chains)} are exactly those of another chain, so R-hat compares a "
            "chain with itself. Give each chain a different random seed.",
        )  # fmt: skip
    if "acceptance_rate" not in functions.stats:
        return
    acceptance = np.asarray(functions.stats["acceptance_rate"], float).mean(1)
    missing = np.flatnonzero(~np.isfinite(acceptance)).tolist()
    if missing:
        yield Finding(
            "no acceptance", "unknown", len(missing),
            f"Acceptance rates of {chains(missing, functions.chains)} are nan or infinite, so acceptance was not "
            "judged. Use the acceptance rates that the sampler computed (sample_stats), or leave them out.",
        )  # fmt: skip
    slow = [chain for chain in np.flatnonzero(acceptance < LOW_ACCEPTANCE).tolist() if chain not in still]
    if slow:
        clause = wording.low_acceptance_clause(slow, functions.chains, float(np.nanmin(acceptance)))
        yield Finding(
            "slow", "caution", len(slow),
            f"{wording.sentence(clause)} Take {functions.longer_warmup}, or {functions.another_init}.",
        )  # fmt: skip


def _copies(values: np.ndarray) -> list[int]:
    """Chains that vary and whose values (chain, draw, points) equal those of an earlier chain."""
    first: dict[bytes, int] = {}
    moving = [chain for chain in range(len(values)) if (values[chain] != values[chain, :1]).any()]
    return [chain for chain in moving if first.setdefault(values[chain].tobytes(), chain) != chain]


def not_compared(functions: Functions, values: np.ndarray, labels: list[str]) -> Iterator[Finding]:
    """A single chain, or fewer draws than R-hat needs."""
    if functions.chains > 1:
        yield Finding(
            "rhat", "unknown", math.nan,
            f"{wording.too_few_draws_clause(functions.chains, functions.draws)}. Take more draws, or start groups of "
            "chains from one point each (superchains=...): nested R-hat needs only one draw.",
        )  # fmt: skip
        return
    comparison, half = "the chain is too short to compare its halves", functions.draws // 2
    if half >= RHAT_DRAWS:
        rhat = convergence(np.concatenate([values[:, :half], values[:, -half:]]))["rhat"]
        worst = int(rhat.argmax())
        agree = "agree" if rhat[worst] < RHAT_BAD else "do not even agree"
        comparison = f"the halves of the chain {agree} (R-hat up to {rhat[worst]:.2f}, at {labels[worst]})"
    yield Finding(
        "rhat", "unknown", math.nan,
        f"{wording.sentence(wording.ONE_CHAIN + '; ' + comparison)} {wording.sentence(wording.MORE_CHAINS)}",
    )  # fmt: skip


def disagreement(
    functions: Functions, values: np.ndarray, labels: list[str], rhat: np.ndarray, chance: float
) -> Finding | None:
    """R-hat of 1.01 or more; below ``chance`` the small number of draws may be the reason."""
    above = rhat >= RHAT
    if not above.any():
        return None
    worst = int(np.argmax(rhat))
    evidence = f"R-hat is {_number(rhat[worst])} at {labels[worst]}, and {RHAT} or more at {_of(above)}"
    if rhat[worst] < chance:
        factor = (chance**2 - 1) / (RHAT**2 - 1)
        other = ", or compare groups of chains from one start (superchains=...)" if functions.chains >= MANY else ""
        return Finding(
            "rhat", "caution", float(rhat[worst]),
            f"{evidence}. {wording.sentence(wording.by_chance_clause(chance))} Take about {_times(factor)} as many "
            f"draws before you judge{other}.",
        )  # fmt: skip
    severity: Severity = "stop" if rhat[worst] >= RHAT_BAD else "caution"
    means = values[..., worst].astype(float).mean(1)
    furthest = int(np.abs(means - np.median(means)).argmax())
    advice = (
        f"Take {functions.longer_warmup} and more draws. If the chains still disagree, take "
        f"{functions.another_init}, or change the parametrisation of the model"
    )
    if not functions.named:
        advice += "; if these are the weights of a network, which may be permuted, judge predictions (var_names=...)"
    return Finding(
        "rhat", severity, float(rhat[worst]),
        f"The chains do not agree: {evidence}. Chain {furthest} is furthest from the others there. The chains are in "
        f"different modes, or have not converged. {advice}.",
    )  # fmt: skip


def disagreement_on_sites(
    functions: Functions, labels: list[str], rhat: np.ndarray, chance: float, agree: bool
) -> Finding | None:
    """R-hat of 1.01 or more at elements of named sites; ``agree`` says whether chains agree on functions."""
    above = rhat >= RHAT
    if not above.any():
        return None
    worst = int(np.argmax(rhat))
    evidence = f"site {labels[worst]!r} (R-hat {_number(rhat[worst])}, and {RHAT} or more at {_of(above, 'elements')})"
    if rhat[worst] < chance:
        return Finding(
            "site_rhat", "caution", float(rhat[worst]),
            f"The chains differ on {evidence}, but {wording.by_chance_clause(chance)}. Take more draws before you "
            "judge.",
        )  # fmt: skip
    if not agree:
        words = f"The chains do not agree on {evidence} either."
        return Finding("site_rhat", "stop" if rhat[worst] >= RHAT_BAD else "caution", float(rhat[worst]), words)
    return Finding(
        "site_rhat", "caution", float(rhat[worst]),
        f"The chains agree on predictions, but not on {evidence}: {wording.SYMMETRY}. Predictions can be used; means "
        f"and intervals of these sites cannot. {wording.CONSTRAINT}, or use predictions only. "
        f"If there is no such symmetry, take {functions.longer_warmup} and more draws.",
    )  # fmt: skip


def nested_disagreement(
    values: np.ndarray, labels: list[str], nested: xr.Dataset, functions: Functions | None = None
) -> Finding | None:
    """Nested R-hat at least 0.01 above that of independent draws, and whether chance explains it.

    By chance the means of superchains scatter as the means of their chains do: an analysis of variance with the
    superchains as groups of chains, valid for any autocorrelation within chains.
    """
    rhat = nested["nested_rhat"].values
    limit = float(nested.attrs["independent"]) + RHAT - 1
    above = rhat >= limit
    if not above.any():
        return None
    worst, groups = int(np.argmax(rhat)), int(nested.attrs["superchains"])
    evidence = f"nested R-hat is {_number(rhat[worst])} at {labels[worst]}, and {limit:.3f} or more at {_of(above)}"
    means = values[..., worst].astype(float).mean(1).reshape(groups, -1)
    size = means.shape[1]
    scatter = float(means.var(1, ddof=1).mean()) / size if size > 1 else 0.0
    critical = f_distribution.isf(FALSE_ALARM / len(rhat), groups - 1, groups * (size - 1)) if size > 1 else 0.0
    if means.mean(1).var(ddof=1) < critical * scatter:
        return Finding(
            "nested_rhat", "caution", float(rhat[worst]),
            f"The {evidence}, which superchains of {size} short chains may reach by chance. Take more draws or more "
            "chains before you judge.",
        )  # fmt: skip
    severity: Severity = "stop" if rhat[worst] >= limit + RHAT_BAD - RHAT else "caution"
    return Finding(
        "nested_rhat", severity, float(rhat[worst]),
        f"The superchains still depend on their starting points: {evidence}. Take "
        f"{'a longer warmup' if functions is None else functions.longer_warmup}. If this remains, the starts are in "
        "different modes.",
    )  # fmt: skip


def few_draws(
    functions: Functions, labels: list[str], columns: dict[str, np.ndarray], apart: bool, nested: bool
) -> Iterator[Finding]:
    """Effective sample sizes below 100 for each chain or, where superchains are compared, below 400 in all."""
    wanted = ESS_TOTAL if nested else ESS_PER_CHAIN * functions.chains
    rule = f"{wanted} in all" if nested else f"{ESS_PER_CHAIN} for each of the {functions.chains} chains"
    for name, part in (("ess_bulk", "middle"), ("ess_tail", "5 % and 95 % quantiles")):
        ess = columns[name]
        worst = int(np.argmin(ess))
        if not ess[worst] < wanted:
            continue
        factor = wanted / max(float(ess[worst]), 1.0)
        severity: Severity = "caution"
        advice = f"Draw about {_times(factor)} as many (draws={_round_up(factor * functions.draws)})"
        if apart:
            advice = "The reason is that the chains do not agree: solve that first"
        elif ess[worst] >= ESS_TOTAL:
            severity = "note"
            advice = (
                "These draws are enough for means and intervals, but R-hat of such short chains is uncertain "
                "(superchains=...)"
            )
        yield Finding(
            name, severity, float(ess[worst]),
            f"The effective sample size of the {part} is {ess[worst]:.0f} at {labels[worst]}, fewer than "
            f"{rule} at {_of(ess < wanted)}. {advice}.",
        )  # fmt: skip


def chains(which: list[int], total: int) -> str:
    """The number of chains and their indices, such as "2 of 4 chains (chain 0, 3)"."""
    return f"{len(which)} of {total} chains (chain {wording.some_of(which)})"


def _of(which: np.ndarray, what: str = "functions") -> str:
    return f"{int(which.sum())} of {which.size} {what}"


def _number(value: float) -> str:
    return "infinite" if math.isinf(value) else f"{value:.3f}"


def _times(factor: float) -> str:
    return f"{factor:.1f} times" if factor < 10 else f"{_round_up(factor)} times"


def _round_up(value: float) -> int:
    """The next number of two significant digits."""
    unit = 10 ** max(0, math.floor(math.log10(max(value, 1.0))) - 1)
    return math.ceil(value / unit) * unit
