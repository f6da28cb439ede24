"""The warning of a run that an interrupt (Ctrl-C) has ended, and that returns what it has."""

import warnings

INTERRUPTED = "was interrupted and returns"


def warn_interrupted(name: str, kept: str, go_on: str, *, stacklevel: int = 2) -> None:
    """One ``RuntimeWarning``: a script that goes on must not take a part for the whole.

    ``kept`` says what is returned, ``go_on`` how to get the rest; ``stacklevel`` as in `warnings.warn`, counted from
    the caller.
    """
    warnings.warn(f"{name} {INTERRUPTED} {kept}. {go_on}", RuntimeWarning, stacklevel + 1)
