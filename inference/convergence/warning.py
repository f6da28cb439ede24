"""The category of warnings about a fit or a sampler that has not converged."""


class ConvergenceWarning(RuntimeWarning):
    """A fit or a sampler has not converged; the message names the evidence and what to change.

    Silence it as any warning: ``warnings.filterwarnings("ignore", category=ConvergenceWarning)``. The same text is in
    ``Posterior.attrs["warnings"]``, whether the warning was shown or not.
    """
