r"""Calorimeters: a material and layers of rectangular cells, and the energy that a radial profile leaves in each cell.

Lengths along the shower are in radiation lengths, lengths across it in Molière radii. Materials that are named have the
values of the Particle Data Group (2024, section 6, "Atomic and nuclear properties of materials").
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from posterity.validation import check_finite, check_floating, check_integer, check_number, shown, shown_shape


@dataclass(frozen=True)
class Material:
    """The numbers of a homogeneous material that an electromagnetic shower depends on.

    Args:
        z: atomic number; of a compound the mean over the masses of its elements.
        critical_energy: of electrons, in MeV.
        radiation_length: in mm.
        moliere_radius: in mm.

    Raises:
        ValueError: an atomic number below 2 or above 120, or another number that is not above 0.
    """

    z: float
    critical_energy: float
    radiation_length: float
    moliere_radius: float

    def __post_init__(self) -> None:
        check_number("z", self.z, "[2, 120]")
        for name in ("critical_energy", "radiation_length", "moliere_radius"):
            check_number(name, getattr(self, name), "(0, inf)")


MATERIALS = {
    "lead tungstate": Material(68.4, 9.64, 8.903, 19.59),
    "caesium iodide": Material(54.0, 11.17, 18.60, 35.31),
    "lead": Material(82.0, 7.43, 5.612, 16.02),
}


@dataclass(frozen=True)
class Layer:
    """A layer of ``rows`` x ``columns`` equal cells, centred on the axis of the calorimeter.

    Args:
        start: depth of its front face, in radiation lengths.
        end: depth of its back face.
        rows: cells along y.
        columns: cells along x.
        height: of the whole layer, along y, in Molière radii.
        width: of the whole layer, along x.

    Raises:
        ValueError: no cells, a negative start, an end that is not behind the start, or a size that is not above 0.
    """

    start: float
    end: float
    rows: int
    columns: int
    height: float = 5.0
    width: float = 5.0

    def __post_init__(self) -> None:
        check_number("start", self.start, "[0, inf)")
        check_number("end", self.end, "(0, inf)")
        if self.end <= self.start:
            raise ValueError(f"expected end to be behind start {self.start:g}, got {self.end:g}")
        for name in ("rows", "columns"):
            check_integer(name, getattr(self, name), 1)
        for name in ("height", "width"):
            check_number(name, getattr(self, name), "(0, inf)")

    @property
    def cells(self) -> int:
        """Number of cells."""
        return self.rows * self.columns

    @property
    def centres(self) -> tuple[Tensor, Tensor]:
        """y (rows,) and x (columns,) of the centres of the cells, in Molière radii."""
        edges_y, edges_x = self.edges
        return (edges_y[1:] + edges_y[:-1]) / 2, (edges_x[1:] + edges_x[:-1]) / 2

    @property
    def edges(self) -> tuple[Tensor, Tensor]:
        """y (rows + 1,) and x (columns + 1,) of the edges of the cells, in Molière radii."""
        return tuple(
            torch.linspace(-size / 2, size / 2, count + 1, dtype=torch.double)
            for size, count in ((self.height, self.rows), (self.width, self.columns))
        )  # type: ignore[return-value]

    def shares(self, radius: Tensor, position: Tensor) -> Tensor:
        r"""Share of each cell in the energy of a profile around the ``position``: (..., rows, columns).

        The density over the plane is $R^2 / (\pi (r^2 + R^2)^2)$, so the radius has the density $2 r R^2 / (r^2 +
        R^2)^2$ of Grindhammer & Peters. Its integral over a rectangle has a closed form, and what lies outside of the
        layer is missing from the sum.

        Args:
            radius: R in Molière radii, (...).
            position: y and x of the axis of the shower in Molière radii, (..., 2).

        Raises:
            ValueError: radii that are not finite and above 0, or positions of another shape.
        """
        for name, values in (("radius", radius), ("position", position)):
            check_floating(name, values)
            check_finite(name, values)
        if not bool((radius > 0).all()):
            raise ValueError(f"expected radius above 0, got {float(radius.min()):g}")
        if position.shape != (*radius.shape, 2):
            raise ValueError(f"expected position of shape {(*radius.shape, 2)}, got {shown_shape(position)}")
        edges_y, edges_x = (edges.to(radius) for edges in self.edges)
        y, x = edges_y - position[..., :1], edges_x - position[..., 1:]
        corners = corner_integral(y[..., :, None], x[..., None, :], radius[..., None, None])
        return corners.diff(dim=-2).diff(dim=-1)


def corner_integral(y: Tensor, x: Tensor, radius: Tensor) -> Tensor:
    r"""Integral of $R^2 / (\pi (r^2 + R^2)^2)$ over the rectangle from (0, 0) to (x, y), with the sign of x y.

    The density is a bivariate Student t with two degrees of freedom.

    >>> far = torch.tensor(1e9, dtype=torch.double)
    >>> round(float(corner_integral(far, far, torch.ones_like(far))), 9)  # a quarter of the plane
    0.25
    """
    square = radius.square()
    hypot_x, hypot_y = (x.square() + square).sqrt(), (y.square() + square).sqrt()
    return (x / hypot_x * (y / hypot_x).atan() + y / hypot_y * (x / hypot_y).atan()) / (2 * math.pi)


@dataclass(frozen=True)
class Calorimeter:
    """A stack of layers of one material, and what its electronics see.

    Args:
        layers: from front to back.
        material: a `Material`, or a name in `MATERIALS`.
        sampling: a in the resolution a / sqrt(E) of the energy E in GeV; 0 for none.
        noise: standard deviation of the noise of each cell, in GeV.
        threshold: smaller signals of a cell are read as 0, in GeV.

    Raises:
        ValueError: no layers, layers that overlap, an unknown material, or a negative number.

    >>> Calorimeter().shapes
    ((3, 96), (12, 12), (12, 6))
    """

    layers: tuple[Layer, ...] = (Layer(0, 6, 3, 96), Layer(6, 18, 12, 12), Layer(18, 25, 12, 6))
    material: Material | str = "lead tungstate"
    sampling: float = 0.05
    noise: float = 0.0
    threshold: float = 0.0005

    def __post_init__(self) -> None:
        if not isinstance(self.layers, tuple) or not all(isinstance(layer, Layer) for layer in self.layers):
            raise ValueError(f"expected layers to be a tuple of Layer, got {shown(self.layers)}")
        if not self.layers:
            raise ValueError("expected layers to be a tuple of at least one Layer, got ()")
        for front, back in zip(self.layers, self.layers[1:], strict=False):
            if back.start < front.end:
                raise ValueError(
                    f"expected layers from front to back, got one from {back.start:g} behind {front.end:g}"
                )
        if isinstance(self.material, str) and self.material not in MATERIALS:
            raise ValueError(f"expected material to be a Material or one of {list(MATERIALS)}, got {self.material!r}")
        if not isinstance(self.material, str | Material):
            raise ValueError(f"expected material to be a Material or a name, got {shown(self.material)}")
        for name in ("sampling", "noise", "threshold"):
            check_number(name, getattr(self, name), "[0, inf)")

    @property
    def medium(self) -> Material:
        """The material itself."""
        return MATERIALS[self.material] if isinstance(self.material, str) else self.material

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of each layer."""
        return tuple((layer.rows, layer.columns) for layer in self.layers)

    @property
    def cells(self) -> int:
        """Number of cells of all layers."""
        return sum(layer.cells for layer in self.layers)

    def split(self, energies: Tensor) -> tuple[Tensor, ...]:
        """Energies of all cells (..., cells) as one tensor (..., rows, columns) for each layer.

        Raises:
            ValueError: energies of another shape.
        """
        check_floating("energies", energies)
        if energies.shape[-1:] != (self.cells,):
            raise ValueError(f"expected energies of shape (..., {self.cells}), got {shown_shape(energies)}")
        parts = energies.split([layer.cells for layer in self.layers], -1)
        return tuple(part.unflatten(-1, shape) for part, shape in zip(parts, self.shapes, strict=True))
