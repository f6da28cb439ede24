"""Findings from the statistics of a sampler, or from the losses of a training; see `convergence_report`."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import xarray as xr

from posterity.inference.convergence import wording
from posterity.inference.convergence.advice import deeper_trees, non_centred, smaller_energy_errors, smaller_steps
from posterity.inference.convergence.thresholds import DIVERGENT_SHARE, FALSE_ALARM, LOW_EBFMI
from posterity.inference.diagnostics.sampling._findings import Finding, chains
from posterity.inference.diagnostics.sampling._functions import LOG_DENSITY, Functions

FALLING = 0.5
"""Fall of the loss, in nats between the last two tenths of the steps, from which on the loss is not flat."""

BATCHES = 5
"""Batches of each tenth of the steps, whose means are taken as independent."""


def energies(functions: Functions, ebfmi: np.ndarray) -> Iterator[Finding]:
    """E-BFMI below 0.3, or unknown."""
    energy = np.asarray(functions.stats["energy"], float)
    missing = np.flatnonzero(~np.isfinite(energy).all(1)).tolist()
    if missing:
        yield Finding(
            "no energies", "unknown", len(missing),
            f"Energies of {chains(missing, functions.chains)} are nan or infinite, so E-BFMI was not judged. Use the "
            "energies that the sampler computed (sample_stats), or leave them out.",
        )  # fmt: skip
    low = np.flatnonzero(ebfmi < LOW_EBFMI).tolist()
    if low:
        yield Finding(
            "ebfmi", "caution", float(np.nanmin(ebfmi)),
            f"E-BFMI is down to {np.nanmin(ebfmi):.2f}, and below {LOW_EBFMI} in {chains(low, functions.chains)}: the "
            "energy changes too little from draw to draw, as with heavy tails or a funnel. "
            f"{wording.sentence(f'{non_centred(functions.reparam)}, before you draw more')}",
        )  # fmt: skip


def divergences(
    functions: Functions, diverging: np.ndarray, labels: list[str], located: xr.Dataset | None
) -> Iterator[Finding]:
    """The number of ``diverging`` draws (chain, draw), and their place in function space."""
    if not diverging.any():
        return
    severe = float(diverging.mean()) > DIVERGENT_SHARE
    clause = wording.divergent_clause(diverging.sum(1).tolist(), diverging.shape[1])
    yield Finding(
        "divergences", "stop" if severe else "caution", int(diverging.sum()),
        f"{wording.sentence(clause)} {'' if located is None else _place(labels, located)}"
        "Regions that these trajectories could not enter are missing from the draws. "
        f"{wording.sentence(_smaller_steps(functions))}",
    )  # fmt: skip


def _smaller_steps(functions: Functions) -> str:
    """Advice against divergences; dynamics without acceptance steps have an energy variance instead of a target."""
    variance = functions.setting("energy_variance")
    if variance is not None and "adjusted=False" in str(functions.attrs.get("settings", "")):
        return smaller_energy_errors(variance, functions.reparam)
    return smaller_steps(functions.setting("target_accept"), functions.reparam)


def _place(labels: list[str], located: xr.Dataset) -> str:
    p_value = float(located["p_value"])
    if p_value >= FALSE_ALARM:
        return f"Their place in these functions cannot be told from chance (p = {p_value:.2g}). "
    strongest = int(located["strength"].values.argmax())
    point, label = located.isel(point=strongest), labels[strongest]
    name = f"the {label}" if label == LOG_DENSITY else f"the function at {label}" if label.startswith("x[") else label
    quantile = float(point["quantile"])
    side = "near its middle" if point["scale"] < 0 else "far out on either side"
    if not 0.25 < quantile < 0.75:
        side = "low" if quantile < 0.5 else "high"
    half = f"half of them below its {100 * quantile:.3g} % quantile"
    return f"They concentrate where {name} is {side} ({half}; p = {p_value:.2g}). "


def deep_trees(functions: Functions) -> Iterator[Finding]:
    """NUTS trajectories that reached the maximum tree depth."""
    limit = functions.setting("max_tree_depth")
    if "reached_max_treedepth" in functions.stats:
        reached = np.asarray(functions.stats["reached_max_treedepth"], bool)
    elif "tree_depth" in functions.stats and limit is not None:
        reached = functions.stats["tree_depth"] >= limit
    else:
        return
    if reached.any():
        share, deepest = float(reached.mean()), "" if limit is None else f" of {limit:.0f}"
        yield Finding(
            "tree_depth", "note", share,
            f"{100 * share:.2g} % of the trajectories reached the maximum tree depth{deepest}. The draws are not "
            f"biased, but the chains move more slowly than they could. {deeper_trees(limit)}.",
        )  # fmt: skip


def no_statistics(functions: Functions) -> Iterator[Finding]:
    if "diverging" not in functions.stats and "energy" not in functions.stats:
        words = (
            "There are no sampler statistics, so divergences and E-BFMI were not judged. Add the group sample_stats if "
            "the sampler provides it."
        )
        yield Finding("no statistics", "note", math.nan, words)


def interrupted(functions: Functions) -> Iterator[Finding]:
    if functions.attrs.get("interrupted"):
        path = functions.word("checkpoint") or "checkpoint='" in str(functions.attrs.get("settings", ""))
        how = "continue the run (resume)" if path else "run again, with a checkpoint"
        words = f"The run was interrupted, and the draws end there. If they are too few, {how}."
        yield Finding("interrupted", "note", functions.draws, words)


def no_chains(functions: Functions) -> Iterator[Finding]:
    """The findings for draws that come from SVI or an ensemble."""
    warnings = str(functions.attrs.get("warnings", ""))
    if warnings and not functions.attrs.get("interrupted"):
        yield Finding("fit", "stop", math.nan, f"The fit itself has not converged: {warnings}.")
    if functions.method == "Ensemble":
        words = (
            "These are members trained from different starts, not draws of a chain: R-hat and ESS do not apply. Double "
            "the number of members and check whether the predictions change. Compare the epistemic part of "
            "`uncertainty_split` with that of a short NUTS run that starts from the members (init=posterior)."
        )
    else:
        name = functions.word("guide") or "mean_field"
        guide = "mean-field guide" if name == "mean_field" else f"guide {name!r} that does not fit"
        words = (
            "These are independent draws, to which R-hat and ESS do not apply. The draws are as good as the guide, and "
            f"a {guide} is too narrow. Compare the epistemic part of `uncertainty_split` with that of a short NUTS run "
            "from the draws (init=posterior), or compute importance weights of the draws (Pareto k below 0.7)."
        )
    yield Finding("no chains", "unknown", math.nan, words)
    if functions.losses is not None and functions.losses.size:
        yield _training(functions.losses.reshape(len(functions.losses), -1).mean(1))


def _training(losses: np.ndarray) -> Finding:
    """Whether the loss (steps,) was still falling between the last two tenths of the steps."""
    steps, size = len(losses), len(losses) // (10 * BATCHES)
    last = losses[steps - 2 * BATCHES * size :]
    if size < 1 or not np.isfinite(last).all():
        return Finding(
            "training", "unknown", math.nan,
            f"{steps} steps are too few, or their loss is not finite, so convergence was not judged. Take "
            f"{10 * BATCHES} steps or more.",
        )  # fmt: skip
    means = last.reshape(2, BATCHES, size).mean(2)
    drop = float(means[0].mean() - means[1].mean())
    error = math.sqrt(float(means.var(1, ddof=1).sum()) / BATCHES)
    if drop > FALLING and drop > 3 * error:
        return Finding(
            "training", "caution", drop,
            f"The loss still fell by {drop:.2g} nats between the last two tenths of {steps} steps. Take more steps.",
        )  # fmt: skip
    return Finding(
        "training", "note", drop,
        f"The loss was flat at the end: it fell by {drop:.2g} ± {error:.1g} nats between the last two tenths of the "
        f"{steps} steps. With a falling learning rate any loss is flat at the end: check that twice the steps "
        "give the same predictions.",
    )  # fmt: skip
