"""`observables`: a few numbers for each shower, which physicists compare instead of hundreds of cells."""

from collections.abc import Mapping

import torch
from torch import Tensor

from posterity.data import Calorimeter
from posterity.validation import check_finite, check_floating, shown, shown_shape


def observables(cells: Tensor, energy: Tensor, calorimeter: Calorimeter) -> Mapping[str, Tensor]:
    """High-level features of N showers by name, each (N,), as in the CaloChallenge (Krause et al. 2024).

    - ``response``: energy of all cells over that of the particle.
    - For each layer k: ``fraction_k``, its share in the energy of all cells; ``centre_y_k`` and ``centre_x_k``, means
      over its cells weighted by energy, and ``width_y_k`` and ``width_x_k``, their standard deviations, in Molière
      radii; ``active_k``, the share of its cells with energy (1 - sparsity); ``brightest_k``, the share of the
      brightest cell in its energy. Centres, widths and shares of a layer without energy are 0.

    They do not depend on the unit of energy.

    Args:
        cells: energies of all cells (N, cells), at least 0, in the order of `posterity.data.Calorimeter.split`.
        energy: of the particles, (N,).
        calorimeter: the layers.

    Raises:
        ValueError: cells of another shape, negative ones, NaN or infinity, or energies that are not above 0.

    >>> import torch
    >>> from posterity.data import Showers
    >>> showers = Showers()
    >>> sample = showers.simulate(torch.tensor([10.0, 50.0]), seed=0)
    >>> found = observables(sample.cells, sample.energy, showers.calorimeter)
    >>> len(found), found["response"].shape
    (22, torch.Size([2]))
    """
    return unchecked_observables(*_checked(cells, energy, calorimeter), calorimeter)


def unchecked_observables(cells: Tensor, energy: Tensor, calorimeter: Calorimeter) -> dict[str, Tensor]:
    """The same without checks and in the precision of the arguments, for training; shapes (..., cells) and (...)."""
    total = cells.sum(-1)
    found = {"response": total / energy}
    for index, (layer, part) in enumerate(zip(calorimeter.layers, calorimeter.split(cells), strict=True)):
        of_layer = part.sum((-2, -1))
        found[f"fraction_{index}"] = _over(of_layer, total)
        for name, places, dims in zip(("y", "x"), layer.centres, (-1, -2), strict=True):
            weights = _over(part.sum(dims), of_layer[..., None])
            places = places.to(weights)
            centre = weights @ places
            square = (weights * (places - centre[..., None]).square()).sum(-1)
            found[f"centre_{name}_{index}"], found[f"width_{name}_{index}"] = centre, _root(square)
        found[f"active_{index}"] = (part > 0).to(part).mean((-2, -1))
        found[f"brightest_{index}"] = _over(part.amax((-2, -1)), of_layer)
    return found


def _root(square: Tensor) -> Tensor:
    """The square root, with a gradient of 0 at 0."""
    return torch.where(square > 0, square.where(square > 0, torch.ones_like(square)).sqrt(), torch.zeros_like(square))


def _over(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / whole.where(whole > 0, torch.ones_like(whole)), torch.zeros_like(part))


def _checked(cells: Tensor, energy: Tensor, calorimeter: Calorimeter) -> tuple[Tensor, Tensor]:
    """Both in double precision."""
    if not isinstance(calorimeter, Calorimeter):
        raise ValueError(f"expected calorimeter to be a Calorimeter, got {shown(calorimeter)}")
    for name, values in (("cells", cells), ("energy", energy)):
        check_floating(name, values)
        check_finite(name, values)
    if cells.ndim != 2 or cells.shape[1] != calorimeter.cells or not len(cells):
        raise ValueError(f"expected cells of shape (N, {calorimeter.cells}), got {shown_shape(cells)}")
    if energy.shape != cells.shape[:1]:
        raise ValueError(f"expected energy of shape ({len(cells)},), got {shown_shape(energy)}")
    lowest = {name: values.min().item() for name, values in (("energy", energy), ("cells", cells))}
    if lowest["energy"] <= 0:
        raise ValueError(f"expected energy above 0, got {lowest['energy']:g}")
    if lowest["cells"] < 0:
        raise ValueError(f"expected cells of at least 0, got {lowest['cells']:g}")
    return cells.double(), energy.double()
