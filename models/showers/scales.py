"""The scale of energies that networks of showers see."""

import math

from torch import Tensor

CENTRE, SCALE = math.log(10.0), 1.3  # of ln(E / GeV)
SLOPE = 0.2  # of leaky ReLUs


def scaled_energy(energy: Tensor) -> Tensor:
    """(ln E - ln 10) / 1.3 for E in GeV: -1.8 at 1 GeV and 1.8 at 100 GeV."""
    return (energy.log() - CENTRE) / SCALE
