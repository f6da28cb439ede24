"""What a model says once for the whole data set, wherever it stands among the plates of the rows.

A plate multiplies every term inside it: by its size, and by N/n where it takes n rows of N. That is right for the terms
of the rows, and wrong for a decay of weights or a prior of all rows together.
"""

import pyro
from pyro.poutine.indep_messenger import IndepMessenger
from pyro.poutine.messenger import Messenger, block_messengers
from torch import Tensor

# Pyro's own plates around a whole model: its particles and its draws, of which each has every term.
WHOLE_MODEL = ("num_particles_vectorized", "_num_predictive_samples")


def factor_once(name: str, log_density: Tensor) -> None:
    """``pyro.factor`` of a scalar that counts once, as if it stood outside of the vectorised plates around it."""
    with block_messengers(_is_plate):
        pyro.factor(name, log_density)


def refuse_plates(what: str) -> None:
    """``ValueError`` that names the vectorised plates around the call, if there are any."""
    with block_messengers(_is_plate) as plates:
        names = [plate.name for plate in plates if isinstance(plate, IndepMessenger)]
    if names:
        raise ValueError(
            f"expected {what} outside of plates, got it inside plate {names[-1]!r}, where each element would have "
            "weights of its own: call it before the plate"
        )


def _is_plate(messenger: Messenger) -> bool:
    """A plate iterated over (``for i in pyro.plate(...)``) has no dimension, and multiplies nothing by its size."""
    return isinstance(messenger, IndepMessenger) and messenger.dim is not None and messenger.name not in WHOLE_MODEL
