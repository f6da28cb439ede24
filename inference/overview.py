"""What is printed of a posterior: its run, its sites, its warnings, and what to do next."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from posterity.display import COLUMNS, count, listing, panel, paragraph, table
from posterity.inference.program.sites import Program, shown_names
from posterity.models.pair import model_name

NETWORK = 3
"""Weights and parameters in more sites than these are one row."""

NEXT = (
    "posterior.predictive(x)  # the predictive distribution at x",
    "convergence_report(posterior, x)  # have the chains converged?",
    "posterior.to_arviz(x, y)  # for ArviZ: diagnostics and plots",
)


def posterior_text(model: Any, program: Program, draws: Mapping[str, Tensor], attrs: Mapping[str, Any]) -> str:
    """A posterior in one line: model, method, draws and sites."""
    sites = ", ".join(f"{name} {size}" for name, size, *_ in _sites(program, draws))
    warned = ", with warnings" if attrs.get("warnings") else ""
    return f"Posterior({_run(model, attrs)}, {_draws(draws)}: {sites}{warned})"


def posterior_html(model: Any, program: Program, draws: Mapping[str, Tensor], attrs: Mapping[str, Any]) -> str:
    """A posterior in a notebook. The draws of single numbers are summarised, of no other sites."""
    seconds = attrs.get("seconds")
    facts = [_draws(draws), f"{float(seconds):.3g} s" if seconds is not None else "", _observed(program)]
    rows = list(_sites(program, draws))
    more = f"and {count(len(rows) - COLUMNS, 'more site')}" if len(rows) > COLUMNS else ""
    return panel(
        f"Posterior: {_run(model, attrs)}",
        paragraph(", ".join(fact for fact in facts if fact)),
        table(("site", "shape", "mean", "sd"), rows[:COLUMNS], more),
        listing("Warnings", [text for text in str(attrs.get("warnings", "")).split("; ") if text]),
        listing("Next", NEXT, code=True),
    )


def _observed(program: Program) -> str:
    names = list(program.sites)
    return f"observed site {names[0]!r}" if len(names) == 1 else f"observed sites {shown_names(names)}" if names else ""


def _run(model: Any, attrs: Mapping[str, Any]) -> str:
    method = f" by {attrs['method']}" if attrs.get("method") else ""
    guide = f" ({attrs['guide']})" if attrs.get("guide") not in (None, "none") else ""
    return f"{model_name(model)}{method}{guide}"


def _draws(draws: Mapping[str, Tensor]) -> str:
    chains, each = next((value.shape[:2] for value in draws.values()), (1, 1))
    return f"{count(chains, 'chain')} of {count(each, 'draw')}"


def _sites(program: Program, draws: Mapping[str, Tensor]) -> Iterator[tuple[Any, ...]]:
    """Name, shape, and of single numbers mean and standard deviation; many weights are one row."""
    weights = [name for name in draws if name in (*program.weights, *program.parameters)]
    weights = weights if len(weights) > NETWORK else []
    for name, value in draws.items():
        if name in weights:
            continue
        known = value.ndim == 2 and value.is_floating_point()
        moments = (float(value.mean()), float(value.std(correction=0))) if known else ("", "")
        yield (name, tuple(value.shape[2:]), *moments)
    if weights:
        numbers = sum(draws[name][0, 0].numel() for name in weights)
        yield (f"{len(weights)} sites of weights", f"with {count(numbers, 'number')}", "", "")
