"""The warning of a run that an interrupt (Ctrl-C) ended early, and that returns a partial result."""

import warnings

INTERRUPTED = "was interrupted and returns"


def warn_interrupted(name: str, kept: str, go_on: str, *, stacklevel: int = 2) -> None:
    """Issue one ``RuntimeWarning``, so that a script does not mistake the partial result for the whole.

    Args:
        name: the method that was interrupted.
        kept: the result that is returned.
        go_on: a sentence on how to get the rest.
        stacklevel: as in `warnings.warn`, counted from the caller.
    """
    warnings.warn(f"{name} {INTERRUPTED} {kept}. {go_on}", RuntimeWarning, stacklevel + 1)
