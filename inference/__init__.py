"""What we learn, and how we judge it.

- `infer` conditions a model on data by a method: `NUTS`, `HMC` (`mcmc`), `SVI` or `Ensemble`; it returns a `Posterior`.
- `sweep` compares the values of a setting, such as the number of components, on held-out rows.
- `Blocks` runs a sampler's chains in several processes, or on a cluster.
- `resume` goes on with a sampler's run from its checkpoint.
- `engine` is what samplers run on: any Pyro model for all chains at once, traced and compiled.
- `Posterior.predictive` is a `PredictiveMixture`; `Posterior.to_arviz` is what ArviZ reads (`arviz`).
- `diagnostics` say whether to believe it, `plots` show it; both work on stored results where there is no torch.
- `adversarial`: two networks trained against each other, for samples without a density; `classifier` trains one.
- `ConvergenceWarning` is the category of warnings about a fit or a sampler that has not arrived.
- `streaming`: fits to a simulator; `tracking`: tracks without learning, and how many were found.
- `program` reads Pyro models: the likelihood of all draws at once.
"""

from importlib.util import find_spec

from posterity.inference.convergence import ConvergenceWarning

__all__ = ["ConvergenceWarning"]

if find_spec("torch"):  # without it there are `arviz`, `diagnostics` and `plots` alone
    from posterity.inference.ensemble import Ensemble
    from posterity.inference.infer import Method, infer
    from posterity.inference.mcmc import HMC, NUTS, Blocks, resume
    from posterity.inference.posterior import Posterior
    from posterity.inference.predictive import PredictiveMixture
    from posterity.inference.svi import SVI
    from posterity.inference.sweep import sweep

    __all__ += [
        "HMC",
        "NUTS",
        "SVI",
        "Blocks",
        "Ensemble",
        "Method",
        "Posterior",
        "PredictiveMixture",
        "infer",
        "resume",
        "sweep",
    ]
