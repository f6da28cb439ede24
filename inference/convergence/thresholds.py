"""The values at which the statistics of a sampler are judged bad: each in one place, with its source.

R-hat and ESS: Vehtari, Gelman, Simpson, Carpenter & Bürkner 2021, arXiv:1903.08008. E-BFMI: Betancourt 2016,
arXiv:1604.00695. The warnings at the end of a run and `posterity.inference.diagnostics.convergence_report` both use
these values; a run warns only of draws that should not be used, so its threshold of R-hat is `RHAT_BAD`.
"""

RHAT = 1.01
"""R-hat of chains that agree is below this (Vehtari et al. 2021, section 4.3)."""

RHAT_BAD = 1.05
"""From this R-hat on, the draws of the chains should not be used together."""

RHAT_BY_CHANCE = 1.1
"""The largest R-hat that a small number of draws may explain; with a larger one they are too few for any estimate."""

RHAT_DRAWS = 4
"""Fewest draws of each chain from which R-hat and ESS are computed."""

ESS_PER_CHAIN = 100
"""Bulk and tail ESS for each chain, below which R-hat and ESS are uncertain themselves (the same, section 4.1)."""

ESS_TOTAL = 400
"""Bulk and tail ESS of all chains together that is enough for means and intervals."""

FALSE_ALARM = 0.01
"""Probability at which chance is still accepted as the explanation of a statistic."""

LOW_ACCEPTANCE = 0.5
"""Mean acceptance rate of a chain, below which the chain hardly moves."""

DIVERGENT_SHARE = 0.01
"""Share of divergent transitions, above which the draws should not be used."""

LOW_EBFMI = 0.3
"""E-BFMI of a chain, below which the energy changes too little between draws (Betancourt 2016; Stan's threshold)."""
