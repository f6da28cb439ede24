"""Terms of a model that count once for the whole data set, even inside the plates of the rows.

A plate multiplies all terms inside it: by its size, and by N/n if it takes n rows of N. This is right for the terms of
rows, and wrong for a weight decay or a prior of all rows together.
"""

import pyro
from pyro.poutine.indep_messenger import IndepMessenger
from pyro.poutine.messenger import Messenger, block_messengers
from torch import Tensor

# Pyro's plates around a whole model, for its particles and draws, each of which has all terms.
WHOLE_MODEL = ("num_particles_vectorized", "_num_predictive_samples")


def factor_once(name: str, log_density: Tensor) -> None:
    """Add a scalar log density by ``pyro.factor`` as if outside the vectorised plates around the call."""
    with block_messengers(_is_plate):
        pyro.factor(name, log_density)


def refuse_plates(call: str) -> None:
    """Raise ``ValueError``, with the name of the plate, if the call is inside a vectorised plate."""
    with block_messengers(_is_plate) as plates:
        names = [plate.name for plate in plates if isinstance(plate, IndepMessenger)]
    if names:
        raise ValueError(
            f"expected {call} outside plates, got it inside plate {names[-1]!r}, where each element would have "
            "separate weights: call it before the plate"
        )


def _is_plate(messenger: Messenger) -> bool:
    """Whether this is a vectorised plate of rows; an iterated one (``for i in pyro.plate(...)``) has no dimension."""
    return isinstance(messenger, IndepMessenger) and messenger.dim is not None and messenger.name not in WHOLE_MODEL
