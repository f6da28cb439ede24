"""The sentences for each finding, in the words that the warnings of a run and the convergence report share.

Every function returns a clause without a capital letter and without a full stop; `sentence` makes a sentence of one.
The advice that follows a finding is in `advice`.
"""

from collections.abc import Sequence

from posterity.inference.convergence.thresholds import LOW_ACCEPTANCE, LOW_EBFMI, RHAT_DRAWS

NAMED = 5
"""Largest number of chains or sites that a message names."""

SYMMETRY = "label switching, mirrored modes, or too few draws of a site that the data hardly constrain"
"""Why chains may agree on predictions but not on a named site."""

CONSTRAINT = "Add an order or sign constraint to the model (mu[0] < mu[1], m > 0)"
"""The remedy against `SYMMETRY`."""

ONE_CHAIN = "a single chain may miss other modes, and there is no chain to compare it with"
MORE_CHAINS = "run 4 chains or more (chains=4)"


def sentence(clause: str) -> str:
    """The clause with a capital letter and a full stop; a name of a setting at its start stays as it is."""
    first = clause.split(maxsplit=1)[0]
    return f"{clause if '_' in first or '=' in first else clause[0].upper() + clause[1:]}."


def some_of(names: Sequence[object]) -> str:
    """The first five of the names, separated by commas."""
    return ", ".join(map(str, names[:NAMED])) + (", ..." if len(names) > NAMED else "")


def never_moved_clause(chains: Sequence[int], total: int) -> str:
    return f"{len(chains)} of {total} chains never moved (chain {some_of(chains)}: all draws are equal)"


def low_acceptance_clause(chains: Sequence[int], total: int, lowest: float) -> str:
    share = f"{100 * LOW_ACCEPTANCE:.0f} %"
    return (
        f"{len(chains)} of {total} chains accept less than {share} of their steps (chain {some_of(chains)}: acceptance "
        f"rate down to {lowest:.2f})"
    )


def divergent_clause(counts: Sequence[int], draws: int) -> str:
    """Divergent transitions; ``counts`` of each chain, among ``draws`` transitions of each."""
    worst = max(range(len(counts)), key=lambda chain: counts[chain])
    total = draws * len(counts)
    share = f"{100 * sum(counts) / total:.3g} %"
    return f"{sum(counts)} of {total} transitions ({share}) diverged, {counts[worst]} of them in chain {worst}"


def slow_energy_clause(of_all: float, lowest: float) -> str:
    """E-BFMI ``of_all`` chains together, and of the chain in which it is ``lowest``."""
    return (
        f"the energy changes too little from draw to draw (E-BFMI {of_all:.2f}, in single chains down to {lowest:.2f}; "
        f"below {LOW_EBFMI} is too low), as with heavy tails or a funnel, of which draws may be missing"
    )


def too_few_draws_clause(chains: int, draws: int) -> str:
    """R-hat could not be computed; of a single chain, both halves are compared."""
    needed, of = (RHAT_DRAWS, "each chain") if chains > 1 else (2 * RHAT_DRAWS, "a single chain")
    return f"R-hat needs {needed} draws of {of}, got {draws}"


def by_chance_clause(chance: float) -> str:
    return f"with so few draws, R-hat of chains that agree reaches {chance:.3f} by chance"
