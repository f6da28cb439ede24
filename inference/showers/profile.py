"""`fit_profile`: depth of the maximum and shape of each shower from the energies of the layers."""

import torch
from torch import Tensor

from posterity.data import Calorimeter, Showers
from posterity.validation import check_finite, check_floating, check_integer, shown, shown_shape

STEP = 1e-6  # of ln T and ln alpha, for derivatives
RANGE = ((0.5, 25.0), (1.02, 40.0))  # of T and alpha
SMALLEST = 1e-9  # added to squared derivatives


def fit_profile(cells: Tensor, calorimeter: Calorimeter, *, iterations: int = 100) -> Tensor:
    """T and alpha of the gamma profile with the observed shares of the layers, by least squares: (N, 2).

    The shares are those in the energy of all cells, so leakage and losses beside the cells bias the result a little,
    for generated and simulated showers alike. T is in radiation lengths, from 0.5 to 25; alpha is from 1.02 to 40.

    Args:
        cells: energies of the cells, (N, cells), at least 0; a shower without energy gives NaN.
        calorimeter: at least three layers: their shares have to determine two numbers.
        iterations: of Levenberg and Marquardt.

    Raises:
        ValueError: cells of another shape, negative ones, NaN or infinity, or fewer than three layers.

    >>> import torch
    >>> showers = Showers()
    >>> sample = showers.simulate(torch.full((100,), 50.0), seed=0)
    >>> fitted = fit_profile(sample.cells, showers.calorimeter)
    >>> bool((fitted[:, 0] / sample.profile[:, 0]).log().abs().median() < 0.05)
    True
    """
    if not isinstance(calorimeter, Calorimeter):
        raise ValueError(f"expected calorimeter to be a Calorimeter, got {shown(calorimeter)}")
    if len(calorimeter.layers) < 3:
        raise ValueError(f"expected calorimeter with at least three layers, got {len(calorimeter.layers)}")
    check_integer("iterations", iterations, 1)
    check_floating("cells", cells)
    check_finite("cells", cells)
    if cells.ndim != 2 or cells.shape[1] != calorimeter.cells or not len(cells):
        raise ValueError(f"expected cells of shape (N, {calorimeter.cells}), got {shown_shape(cells)}")
    if bool((cells < 0).any()):
        raise ValueError(f"expected cells of at least 0, got {float(cells.min()):g}")
    layers = torch.stack([part.double().sum((1, 2)) for part in calorimeter.split(cells)], 1)
    target = layers / layers.sum(1, keepdim=True)
    some = torch.isfinite(target).all(1)
    found = torch.full((len(cells), 2), torch.nan, dtype=torch.double)
    if bool(some.any()):
        found[some] = _fit(target[some], Showers(calorimeter, step=1e9), iterations)
    return found


def _fit(target: Tensor, showers: Showers, iterations: int) -> Tensor:
    """Levenberg & Marquardt, with a damping for each row that grows where the error does not fall."""
    lowest, highest = torch.tensor(RANGE, dtype=torch.double).log().unbind(1)
    point = torch.tensor([6.0, 4.0], dtype=torch.double).log().repeat(len(target), 1)
    damping = torch.full((len(target), 1), 1e-2, dtype=torch.double)
    rest, unit = _rest(point, target, showers), torch.eye(2, dtype=torch.double)
    for _ in range(iterations):
        slope = torch.stack([(_rest(point + STEP * one, target, showers) - rest) / STEP for one in unit], 2)
        normal = slope.mT @ slope
        damped = normal + damping[..., None] * (torch.diag_embed(normal.diagonal(dim1=1, dim2=2)) + SMALLEST * unit)
        step = torch.linalg.solve(damped, (slope.mT @ rest[..., None])[..., 0])
        tried = (point - step).clamp(lowest, highest)
        new = _rest(tried, target, showers)
        better = (new.square().sum(1) < rest.square().sum(1))[:, None]
        point, rest = torch.where(better, tried, point), torch.where(better, new, rest)
        damping = torch.where(better, damping / 5, 4 * damping).clamp(1e-9, 1e9)
    return point.exp()


def _rest(point: Tensor, target: Tensor, showers: Showers) -> Tensor:
    shares = showers.layer_shares(point.exp())
    return shares / shares.sum(1, keepdim=True) - target
