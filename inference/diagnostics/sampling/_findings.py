"""What comparing chains can find, each with its numbers and what to do next; see `convergence_report`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr
from scipy.stats import f as f_distribution

from posterity.inference.convergence import advice as advice_of
from posterity.inference.convergence.statistics import convergence
from posterity.inference.convergence.thresholds import CHANCE, ESS, ESS_ENOUGH, RHAT, RHAT_BAD
from posterity.inference.diagnostics.sampling._functions import Functions

Severity = Literal["stop", "caution", "unknown", "note"]

STUCK = 0.5  # the least mean acceptance of a chain that moves
NAMED = 5
MANY = 16  # chains, from which on superchains are worth a thought


class Finding(NamedTuple):
    """One thing to know of a run: ``number`` is what it was found by, ``words`` say what it means and what to do next.

    ``severity`` is "stop" (the draws are not of the posterior), "caution" (they may not be, or are too few), "unknown"
    (it could not be judged), or "note".
    """

    name: str
    severity: Severity
    number: float
    words: str


def broken(functions: Functions, finite: np.ndarray, moves: np.ndarray) -> Iterator[Finding]:
    """Points at which there is nothing to compare."""
    bad = int((~finite).sum())
    if bad:
        where = functions.labels[int(np.argmin(finite))]
        yield Finding(
            "not finite", "stop", bad,
            f"{bad} of {len(finite)} functions have draws that are nan or infinite (the first: {where}). A likelihood "
            "without a mean has to be judged by other functions of it; else look for overflow: standardise x and y, or "
            "take a narrower prior.",
        )  # fmt: skip
    still = int((finite & ~moves).sum())
    if still and moves.any():
        where = functions.labels[int(np.argmax(finite & ~moves))]
        yield Finding(
            "constant", "note", still,
            f"{still} of {len(finite)} functions are the same in every draw (the first: {where}) and are left out. "
            "Nothing is to be done where the model fixes them.",
        )  # fmt: skip


def nothing_moves(functions: Functions) -> Iterator[Finding]:
    """No function differs between draws, of which there is one, or which are constants."""
    yield Finding(
        "nothing to compare", "unknown", math.nan,
        f"None of {len(functions.labels)} functions varies over {functions.chains * functions.draws} draws, so nothing "
        "could be compared. Take more draws, or choose functions that depend on the parameters.",
    )  # fmt: skip


def stuck(functions: Functions, values: np.ndarray) -> Iterator[Finding]:
    """Chains that stand still at every one of the functions ``values`` (chain, draw, points)."""
    still = [chain for chain in range(functions.chains) if not (np.ptp(values[chain], axis=0) > 0).any()]
    if functions.draws > 1 and still:
        yield Finding(
            "stuck", "stop", len(still),
            f"{chains(still)} of {functions.chains} never moved. Take {another_init(functions)} or another seed, and "
            f"{longer_warmup(functions)}. If they still do not move, the log density is not finite or not smooth.",
        )  # fmt: skip
    copies = _copies(values) if functions.chains > 1 else []
    if copies:
        yield Finding(
            "copies", "stop", len(copies),
            f"{chains(copies)} of {functions.chains} have exactly the same draws as another chain, so R-hat compares a "
            "chain with itself. Give each chain a different random seed.",
        )  # fmt: skip
    if "acceptance_rate" not in functions.stats:
        return
    acceptance = np.asarray(functions.stats["acceptance_rate"], float).mean(1)
    missing = np.flatnonzero(~np.isfinite(acceptance)).tolist()
    if missing:
        yield Finding(
            "no acceptance", "unknown", len(missing),
            f"Acceptance rates of {chains(missing)} of {functions.chains} are nan or infinite, so acceptance was not "
            "judged. Use the acceptance rates that the sampler computed (sample_stats), or leave them out.",
        )  # fmt: skip
    slow = [chain for chain in np.flatnonzero(acceptance < STUCK).tolist() if chain not in still]
    if slow:
        yield Finding(
            "slow", "caution", len(slow),
            f"{chains(slow)} of {functions.chains} accept fewer than half of their steps, down to "
            f"{float(np.nanmin(acceptance)):.2f}. Take {longer_warmup(functions)}, or {another_init(functions)}.",
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
            f"R-hat needs 4 draws of each chain, got {functions.draws}. Take more draws, or start groups of chains "
            "from one point each (superchains=...): nested R-hat needs only one draw.",
        )  # fmt: skip
        return
    said, half = "the chain is too short to compare its halves", functions.draws // 2
    if half >= 4:
        found = convergence(np.concatenate([values[:, :half], values[:, -half:]]))["rhat"]
        worst = int(found.argmax())
        agree = "agree" if found[worst] < RHAT_BAD else "do not even agree"
        said = f"the halves of the chain {agree} (R-hat up to {found[worst]:.2f}, at {labels[worst]})"
    yield Finding(
        "rhat", "unknown", math.nan,
        f"R-hat needs several chains, since a single chain may miss other modes; {said}. Run 4 chains or more "
        "(chains=4).",
    )  # fmt: skip


def disagreement(
    functions: Functions, values: np.ndarray, labels: list[str], rhat: np.ndarray, chance: float
) -> Finding | None:
    """R-hat of 1.01 or more; below ``chance`` the small number of draws may be the reason."""
    above = rhat >= RHAT
    if not above.any():
        return None
    worst = int(np.argmax(rhat))
    seen = f"R-hat is {_number(rhat[worst])} at {labels[worst]}, and {RHAT} or more at {_of(above)}"
    if rhat[worst] < chance:
        factor = (chance**2 - 1) / (RHAT**2 - 1)
        other = ", or compare groups of chains from one start (superchains=...)" if functions.chains >= MANY else ""
        return Finding(
            "rhat", "caution", float(rhat[worst]),
            f"{seen}. With so few draws, chains that agree reach up to {chance:.3f} by chance. Take about "
            f"{_times(factor)} as many draws before you judge{other}.",
        )  # fmt: skip
    severity: Severity = "stop" if rhat[worst] >= RHAT_BAD else "caution"
    means = values[..., worst].astype(float).mean(1)
    apart = int(np.abs(means - np.median(means)).argmax())
    advice = (
        f"Take {longer_warmup(functions)} and more draws. If the chains still disagree, take "
        f"{another_init(functions)}, or change the parametrisation of the model"
    )
    if not functions.named:
        advice += "; if these are the weights of a network, which may be permuted, judge predictions (var_names=...)"
    return Finding(
        "rhat", severity, float(rhat[worst]),
        f"The chains do not agree: {seen}. Chain {apart} is furthest from the others there. The chains are in "
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
    seen = f"site {labels[worst]!r} (R-hat {_number(rhat[worst])}, and {RHAT} or more at {_of(above, 'elements')})"
    if rhat[worst] < chance:
        return Finding(
            "site_rhat", "caution", float(rhat[worst]),
            f"The chains differ on {seen}, but with so few draws R-hat reaches {chance:.3f} by chance. Take more draws "
            "before you judge.",
        )  # fmt: skip
    if not agree:
        words = f"The chains do not agree on {seen} either."
        return Finding("site_rhat", "stop" if rhat[worst] >= RHAT_BAD else "caution", float(rhat[worst]), words)
    return Finding(
        "site_rhat", "caution", float(rhat[worst]),
        f"The chains agree on what the model predicts, but not on {seen}: label switching, mirrored modes, or too "
        "few draws of a site that the data hardly constrain. Predictions can be used; means and intervals of these "
        "sites cannot. Add an order or sign constraint to the model (mu[0] < mu[1], m > 0), or use predictions only. "
        f"If there is no such symmetry, take {longer_warmup(functions)} and more draws.",
    )  # fmt: skip


def nested_disagreement(
    values: np.ndarray, labels: list[str], nested: xr.Dataset, functions: Functions | None = None
) -> Finding | None:
    """Nested R-hat at least 0.01 above that of independent draws, and whether chance explains it.

    By chance the means of superchains scatter as the means of their chains do: an analysis of variance with the
    superchains as groups of chains, valid for any autocorrelation within chains.
    """
    found = nested["nested_rhat"].values
    limit = float(nested.attrs["independent"]) + RHAT - 1
    above = found >= limit
    if not above.any():
        return None
    worst, groups = int(np.argmax(found)), int(nested.attrs["superchains"])
    seen = f"nested R-hat is {_number(found[worst])} at {labels[worst]}, and {limit:.3f} or more at {_of(above)}"
    means = values[..., worst].astype(float).mean(1).reshape(groups, -1)
    size = means.shape[1]
    scatter = float(means.var(1, ddof=1).mean()) / size if size > 1 else 0.0
    critical = f_distribution.isf(CHANCE / len(found), groups - 1, groups * (size - 1)) if size > 1 else 0.0
    if means.mean(1).var(ddof=1) < critical * scatter:
        return Finding(
            "nested_rhat", "caution", float(found[worst]),
            f"The {seen}, which superchains of {size} short chains may reach by chance. Take more draws or more "
            "chains before you judge.",
        )  # fmt: skip
    severity: Severity = "stop" if found[worst] >= limit + RHAT_BAD - RHAT else "caution"
    return Finding(
        "nested_rhat", severity, float(found[worst]),
        f"The superchains still depend on their starting points: {seen}. Take "
        f"{'a longer warmup' if functions is None else longer_warmup(functions)}. If this remains, the starts are in "
        "different modes.",
    )  # fmt: skip


def few_draws(
    functions: Functions, labels: list[str], columns: dict[str, np.ndarray], apart: bool, nested: bool
) -> Iterator[Finding]:
    """Effective sample sizes below 100 for each chain or, where superchains are compared, below 400 in all."""
    wanted = ESS_ENOUGH if nested else ESS * functions.chains
    rule = f"{wanted} in all" if nested else f"{ESS} for each of the {functions.chains} chains"
    for name, part in (("ess_bulk", "middle"), ("ess_tail", "5 % and 95 % quantiles")):
        found = columns[name]
        least = int(np.argmin(found))
        if not found[least] < wanted:
            continue
        factor = wanted / max(float(found[least]), 1.0)
        severity: Severity = "caution"
        advice = f"Draw about {_times(factor)} as many (draws={_round_up(factor * functions.draws)})"
        if apart:
            advice = "The reason is that the chains do not agree: solve that first"
        elif found[least] >= ESS_ENOUGH:
            severity = "note"
            advice = "They are enough for means and intervals; R-hat of so short chains is uncertain (superchains=...)"
        yield Finding(
            name, severity, float(found[least]),
            f"For the {part} the effective sample size is {found[least]:.0f} at {labels[least]}, fewer than "
            f"{rule} at {_of(found < wanted)}. {advice}.",
        )  # fmt: skip


def chains(which: list[int]) -> str:
    """The number of chains and the first of their indices, such as "2 (chain 0, 3)"."""
    named = ", ".join(str(chain) for chain in which[:NAMED]) + (", ..." if len(which) > NAMED else "")
    return f"{len(which)} (chain {named})"


def longer_warmup(functions: Functions) -> str:
    return advice_of.longer_warmup(functions.setting("warmup"))


def another_init(functions: Functions) -> str:
    names = advice_of.PYRO_INITS if functions.of_pyro else advice_of.INITS
    return advice_of.another_init(functions.word("init"), names)


def _of(which: np.ndarray, what: str = "functions") -> str:
    return f"{int(which.sum())} of {which.size} {what}"


def _number(value: float) -> str:
    return "infinite" if math.isinf(value) else f"{value:.3f}"


def _times(factor: float) -> str:
    return f"{factor:.1f} times" if factor < 10 else f"{_round_up(factor)} times"


def _round_up(value: float) -> int:
    """To two digits."""
    unit = 10 ** max(0, math.floor(math.log10(max(value, 1.0))) - 1)
    return math.ceil(value / unit) * unit
