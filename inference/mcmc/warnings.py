"""Reasons not to trust the draws of a run, reported at its end.

They are computed, stored in ``attrs["warnings"]`` and given as a warning, with or without a progress bar. To silence
the warning: ``warnings.filterwarnings("ignore", category=ConvergenceWarning)``.
"""

import math
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from posterity.inference.convergence import ConvergenceWarning, advice, wording
from posterity.inference.convergence.thresholds import DIVERGENT_SHARE, LOW_ACCEPTANCE, RHAT_BAD, RHAT_DRAWS
from posterity.inference.mcmc.agreement import Agreement


def find_problems(
    statistics: Mapping[str, Tensor],
    found: Agreement,
    settings: Any = None,
    *,
    draws: Mapping[str, Tensor] | None = None,
    cut: str = "",
    interrupted: bool = False,
) -> list[str]:
    """One sentence, with a remedy, for each reason to doubt the draws; an empty list if there is none.

    Args:
        statistics: sampler statistics of the draws, each (chain, draw).
        found: how far the chains agree.
        settings: settings of the run; the advice never names a value that is already in use.
        draws: draws of each site, (chain, draw, ...), in which chains that never moved are found.
        cut: what `max_seconds` cut short, as a sentence.
        interrupted: whether the user interrupted the run. A missed ``target_ess`` is then not reported.
    """
    used = _Used(settings, not cut and not interrupted)
    still = never_moved(draws or {})
    said = [
        cut,
        _not_finite(draws or {}),
        _divergent(statistics["diverging"], used),
        _still(still, statistics["diverging"], used),
    ]
    said += [_slow(statistics["acceptance_rate"], still, used), *_apart(found, statistics["diverging"], used)]
    target = used.number("target_ess")
    if target is not None and not interrupted and not found.ess >= target:
        reached = "is not known" if math.isnan(found.ess) else f"is {found.ess:.0f}"
        said.append(f"target_ess={target:g} was not reached, the smallest bulk ESS {reached}: {used.more_draws}")
    return [sentence for sentence in said if sentence]


def warn_of(name: str, said: Iterable[str], *, stacklevel: int = 2) -> str:
    """Give one warning with all sentences; returns them joined, as stored with the draws."""
    text = "; ".join(said)
    if text:
        warnings.warn(f"{name}: {text}", ConvergenceWarning, stacklevel + 1)
    return text


class _Used:
    """The settings of the run that are known, and the advice that remains given these settings."""

    def __init__(self, settings: Any, complete: bool) -> None:
        self.settings, self.complete = settings, complete

    def number(self, name: str) -> float | None:
        value = getattr(self.settings, name, None)
        return None if value is None else float(value)

    @property
    def smaller_steps(self) -> str:
        return advice.smaller_steps(self.number("target_accept"))

    @property
    def longer_warmup(self) -> str:
        return advice.longer_warmup(self.number("warmup"))

    @property
    def more_draws(self) -> str:
        return advice.more_draws(self.number("draws")) if self.complete else "more draws than this run made"

    @property
    def another_init(self) -> str:
        init = getattr(self.settings, "init", None)
        names = advice.INITS if hasattr(self.settings, "superchains") else advice.PYRO_INITS
        return advice.another_init(init if isinstance(init, str) else None, names)


def _divergent(diverging: Tensor, used: _Used) -> str:
    if not float(diverging.double().mean()) > DIVERGENT_SHARE:
        return ""
    return f"{wording.diverged(diverging.sum(1).tolist(), diverging.shape[1])}: {used.smaller_steps}"


def never_moved(draws: Mapping[str, Tensor]) -> list[int]:
    """Chains with several draws that are all equal, whatever their acceptance rate."""
    moved: Tensor | None = None
    for value in draws.values():
        if value.shape[1] > 1:
            other = (value != value[:, :1]).flatten(1).any(1)
            moved = other if moved is None else moved | other
    return [] if moved is None else (~moved).nonzero().flatten().tolist()


def _not_finite(draws: Mapping[str, Tensor]) -> str:
    """Sites that R-hat cannot judge."""
    lost = {name: int((~value.isfinite()).reshape(*value.shape[:2], -1).any(2).sum()) for name, value in draws.items()}
    named = ", ".join(f"{name!r} ({count} draws)" for name, count in lost.items() if count)
    return f"values of {named} are not finite: change the scale of the model or its priors" if named else ""


def _still(still: list[int], like: Tensor, used: _Used) -> str:
    if not still:
        return ""
    return f"{wording.never_moved(still, len(like))}: {used.another_init}, or {used.longer_warmup}"


def _slow(rates: Tensor, still: list[int], used: _Used) -> str:
    acceptance = rates.double().mean(1)
    slow = [chain for chain in (acceptance < LOW_ACCEPTANCE).nonzero().flatten().tolist() if chain not in still]
    if not slow:
        return ""
    lowest = float(acceptance[slow].min())
    return f"{wording.low_acceptance(slow, len(acceptance), lowest)}: {used.longer_warmup}, or {used.another_init}"


def _apart(found: Agreement, like: Tensor, used: _Used) -> list[str]:
    """Chains that disagree, or that could not be compared."""
    chains, draws = like.shape
    if not found.judged:
        if draws < (RHAT_DRAWS if chains > 1 else 2 * RHAT_DRAWS):
            return [f"convergence was not judged: {wording.too_few_draws(chains, draws)}"]
        return ["convergence was not judged: no function of the draws is finite and varies between draws"]
    said = []
    where = "predictions" if found.predicted else "the log density"
    sites = wording.some_of([f"{label!r} (R-hat {rhat:.2f})" for label, rhat in found.sites.items()])
    name = "site" if len(found.sites) == 1 else "sites"
    if found.apart:
        nor = f", nor on {name} {sites}" if sites else ""
        said.append(
            f"the chains do not agree on {where} (R-hat {found.rhat:.2f}){nor}: {used.longer_warmup}, "
            f"{used.more_draws}, or {used.another_init}"
        )
    elif sites:
        said.append(
            f"the chains agree on {where} but not on {name} {sites}: {wording.SYMMETRY}. {wording.CONSTRAINT}, "
            f"use {where} only, or take {used.longer_warmup} and {used.more_draws}"
        )
    elif found.rhat > RHAT_BAD:
        said.append(f"R-hat of {where} is {found.rhat:.2f}, but {wording.by_chance(found.chance)}: take more draws")
    if chains == 1:
        said.append(f"{wording.ONE_CHAIN}: {wording.MORE_CHAINS}")
    return said
