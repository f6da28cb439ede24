"""Showers in calorimeters: what simulations are compared by, and generators that take their place.

- `observables`: energies of layers, centres, widths and sparsity of each shower.
- `fit_resolution`: the resolution a / sqrt(E) and its constant term. `fit_profile`: depth and shape of each shower.
- `train_showers`: the adversarial training of a `posterity.models.showers.ShowerGenerator`, with `shower_settings`.
  Its critic sees `ShowerCoordinates`.
- `ShowerSurrogate`: several generators as a fast simulation with an uncertainty.

For distances of distributions see `posterity.inference.adversarial.metrics`: `separation_power` of each observable,
`histogram_pulls` of an ensemble, `classifier_test`, `kernel_test`, `precision_recall`.
"""

from posterity.inference.showers.coordinates import ShowerCoordinates
from posterity.inference.showers.observables import observables
from posterity.inference.showers.profile import fit_profile
from posterity.inference.showers.resolution import Resolution, fit_resolution
from posterity.inference.showers.surrogate import ShowerSurrogate
from posterity.inference.showers.training import shower_settings, train_showers

__all__ = [
    "Resolution",
    "ShowerCoordinates",
    "ShowerSurrogate",
    "fit_profile",
    "fit_resolution",
    "observables",
    "shower_settings",
    "train_showers",
]
