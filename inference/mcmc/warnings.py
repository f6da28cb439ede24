"""Warnings about the draws of a run, given at its end and stored in ``attrs["warnings"]``.

To silence them, use ``warnings.filterwarnings("ignore", category=ConvergenceWarning)``.
"""

import math
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from posterity.inference.convergence import ConvergenceWarning, advice, wording
from posterity.inference.convergence.thresholds import (
    DIVERGENT_SHARE,
    ESS_TOTAL,
    LOW_ACCEPTANCE,
    LOW_EBFMI,
    RHAT_BAD,
    RHAT_DRAWS,
)
from posterity.inference.mcmc.agreement import Agreement


def find_problems(
    statistics: Mapping[str, Tensor],
    agreement: Agreement,
    settings: Any = None,
    *,
    draws: Mapping[str, Tensor] | None = None,
    cut: str = "",
    interrupted: bool = False,
) -> list[str]:
    """One sentence with a remedy for each problem of the draws; an empty list if there is none.

    Args:
        statistics: sampler statistics of the draws, each (chain, draw).
        agreement: agreement of the chains.
        settings: settings of the run; the advice never names a value that is already in use.
        draws: draws of each site (chain, draw, ...), in which chains that never moved are found.
        cut: the parts that `max_seconds` cut short, as a sentence.
        interrupted: whether the user interrupted the run. A missed ``target_ess`` is then not reported.
    """
    remedies = _Remedies(settings, not cut and not interrupted)
    stuck = never_moved(draws or {})
    sentences = [
        cut,
        _not_finite(draws or {}),
        _divergent(statistics["diverging"], remedies),
        _stuck(stuck, statistics["diverging"], remedies),
        _low_acceptance(statistics.get("acceptance_rate"), stuck, remedies),
        _slow_energy(statistics.get("energy"), stuck, remedies),
        *_disagreement(agreement, statistics["diverging"], remedies),
    ]
    target = remedies.number("target_ess")
    if target is not None and not interrupted and not agreement.ess >= target:
        reached = "is not known" if math.isnan(agreement.ess) else f"is {agreement.ess:.0f}"
        sentences.append(
            f"target_ess={target:g} was not reached, the smallest bulk ESS {reached}: {remedies.more_draws}"
        )
    return [sentence for sentence in sentences if sentence]


def give_warning(name: str, sentences: Iterable[str], *, stacklevel: int = 2) -> str:
    """Give one warning with all sentences; returns their text, as stored with the draws."""
    text = "; ".join(sentences)
    if text:
        warnings.warn(f"{name}: {text}", ConvergenceWarning, stacklevel + 1)
    return text


class _Remedies:
    """Advice given the known settings of the run; ``complete`` unless the run ended early."""

    def __init__(self, settings: Any, complete: bool) -> None:
        self.settings, self.complete = settings, complete

    def number(self, name: str) -> float | None:
        """A setting as a number; None if it is unknown or None."""
        value = getattr(self.settings, name, None)
        return None if value is None else float(value)

    @property
    def _reparam(self) -> bool | None:
        return self.settings.reparam is not None if hasattr(self.settings, "reparam") else None

    @property
    def smaller_steps(self) -> str:
        if getattr(self.settings, "adjusted", True):
            return advice.smaller_steps(self.number("target_accept"), self._reparam)
        return advice.smaller_energy_errors(self.settings.energy_variance, self._reparam)

    @property
    def non_centred(self) -> str:
        return advice.non_centred(self._reparam)

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


def _divergent(diverging: Tensor, remedies: _Remedies) -> str:
    """Too many divergent transitions."""
    if not float(diverging.double().mean()) > DIVERGENT_SHARE:
        return ""
    return f"{wording.divergent_clause(diverging.sum(1).tolist(), diverging.shape[1])}: {remedies.smaller_steps}"


def never_moved(draws: Mapping[str, Tensor]) -> list[int]:
    """Chains with several draws that are all equal, whatever their acceptance rate."""
    moved: Tensor | None = None
    for value in draws.values():
        if value.shape[1] > 1:
            varies = (value != value[:, :1]).flatten(1).any(1)
            moved = varies if moved is None else moved | varies
    return [] if moved is None else (~moved).nonzero().flatten().tolist()


def _not_finite(draws: Mapping[str, Tensor]) -> str:
    """Sites with values that are not finite, which R-hat skips."""
    counts = {
        name: int((~value.isfinite()).reshape(*value.shape[:2], -1).any(2).sum()) for name, value in draws.items()
    }
    named = ", ".join(f"{name!r} ({count} draws)" for name, count in counts.items() if count)
    return f"values of {named} are not finite: change the scale of the model or its priors" if named else ""


def _stuck(stuck: list[int], like: Tensor, remedies: _Remedies) -> str:
    """Chains that never moved."""
    if not stuck:
        return ""
    return f"{wording.never_moved_clause(stuck, len(like))}: {remedies.another_init}, or {remedies.longer_warmup}"


def _low_acceptance(rates: Tensor | None, stuck: list[int], remedies: _Remedies) -> str:
    """Chains with a low acceptance rate that did move; none of a sampler that refuses nothing."""
    if rates is None:
        return ""
    acceptance = rates.double().mean(1)
    low = [chain for chain in (acceptance < LOW_ACCEPTANCE).nonzero().flatten().tolist() if chain not in stuck]
    if not low:
        return ""
    clause = wording.low_acceptance_clause(low, len(acceptance), float(acceptance[low].min()))
    return f"{clause}: {remedies.longer_warmup}, or {remedies.another_init}"


def _slow_energy(energy: Tensor | None, stuck: list[int], remedies: _Remedies) -> str:
    """An energy that changes too little from draw to draw, in all chains together or far too little in one.

    R-hat may not notice what is missing if it is missing in every chain. Few draws are not judged.
    """
    if energy is None or energy.numel() < ESS_TOTAL:
        return ""
    moved = energy.double()[[chain for chain in range(len(energy)) if chain not in stuck]]
    moved = moved[moved.isfinite().all(1)]
    change, spread = moved.diff(dim=1).square().sum(1), (moved - moved.mean(1, keepdim=True)).square().sum(1)
    if not float(spread.sum()) > 0:
        return ""
    of_all, lowest = float(change.sum() / spread.sum()), float((change / spread).nan_to_num(nan=2.0).min())
    if not (of_all < LOW_EBFMI or lowest < LOW_EBFMI / 3):
        return ""
    return f"{wording.slow_energy_clause(of_all, lowest)}: {remedies.non_centred}"


def _disagreement(agreement: Agreement, like: Tensor, remedies: _Remedies) -> list[str]:
    """Chains that disagree, or that could not be compared."""
    chains, draws = like.shape
    if not agreement.judged:
        if draws < (RHAT_DRAWS if chains > 1 else 2 * RHAT_DRAWS):
            return [f"convergence was not judged: {wording.too_few_draws_clause(chains, draws)}"]
        return ["convergence was not judged: no function of the draws is finite and varies between draws"]
    sentences = []
    functions = "predictions" if agreement.predicted else "the log density"
    sites = wording.some_of([f"{label!r} (R-hat {rhat:.2f})" for label, rhat in agreement.sites.items()])
    name = "site" if len(agreement.sites) == 1 else "sites"
    rhat = f"{agreement.rhat:.2f}"
    if agreement.apart:
        nor = f", nor on {name} {sites}" if sites else ""
        sentences.append(
            f"the chains do not agree on {functions} (R-hat {rhat}){nor}: {remedies.longer_warmup}, "
            f"{remedies.more_draws}, or {remedies.another_init}"
        )
    elif sites:
        sentences.append(
            f"the chains agree on {functions} but not on {name} {sites}: {wording.SYMMETRY}. {wording.CONSTRAINT}, "
            f"use {functions} only, or take {remedies.longer_warmup} and {remedies.more_draws}"
        )
    elif agreement.rhat > RHAT_BAD:
        sentences.append(
            f"R-hat of {functions} is {rhat}, but {wording.by_chance_clause(agreement.chance)}: take more draws"
        )
    if chains == 1:
        sentences.append(f"{wording.ONE_CHAIN}: {wording.MORE_CHAINS}")
    return sentences
