"""Showers in calorimeters: what simulations are compared by.

- `observables`: energies of layers, centres, widths and sparsity of each shower.
- `fit_resolution`: the resolution a / sqrt(E) and its constant term.

For distances of distributions see `posterity.inference.adversarial.metrics`: `separation_power` of each observable,
`classifier_test`, `kernel_test`, `precision_recall`.
"""

from posterity.inference.showers.observables import observables
from posterity.inference.showers.resolution import Resolution, fit_resolution

__all__ = ["Resolution", "fit_resolution", "observables"]
