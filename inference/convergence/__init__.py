"""Have the chains, or a fit, converged? R-hat, ESS, their thresholds, and the advice that follows. No torch.

- `statistics`: R-hat and effective sample sizes of many functions at once; `elements`: the elements of named sites.
- `thresholds`: the values at which a statistic is judged bad.
- `wording` and `advice`: the text of findings, and what to change next.
- `ConvergenceWarning`: the category of warnings about a fit or a sampler that has not converged.
"""

from posterity.inference.convergence.warning import ConvergenceWarning

__all__ = ["ConvergenceWarning"]
