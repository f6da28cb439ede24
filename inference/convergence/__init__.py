"""Have the chains, or a fit, converged? R-hat, ESS, their thresholds, and the advice that follows. No torch.

- `statistics`: R-hat and effective sample sizes of many functions at once; `thresholds`: the values that are judged bad.
- `elements`: the named elements of sites that are judged; `advice`: what to change next.
- `ConvergenceWarning`: the category of warnings about a fit or a sampler that has not converged.
"""

from posterity.inference.convergence.warning import ConvergenceWarning

__all__ = ["ConvergenceWarning"]
