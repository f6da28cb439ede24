"""`ShowerSurrogate`: an ensemble of generators in place of a simulation, and how far its members disagree."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from posterity.data import Calorimeter, Layer, Material
from posterity.files import read_tensors, write_tensors
from posterity.inference.adversarial.sampling import generate
from posterity.inference.showers.observables import observables
from posterity.models.showers import ShowerGenerator
from posterity.random import as_generator
from posterity.validation import check_finite, check_floating, check_integer, check_number, shown, shown_shape

FORMAT = "posterity showers 1"
BATCH = 512


class ShowerSurrogate:
    """M generators that were trained with different starts and samples: a fast simulation with an uncertainty.

    Each shower comes from a random member, so that a sample is one from the mixture of the members. The spread between
    the members is the stated uncertainty; `posterity.inference.adversarial.metrics.histogram_pulls` compares it with
    the error of each bin of a histogram. The spread does not include errors that all members share.

    Args:
        generators: the members, for the same calorimeter.
        energies: the lowest and the highest energy of training in GeV; others are refused.

    Raises:
        ValueError: no generators, generators for different calorimeters, or energies that are not in order.
    """

    def __init__(self, generators: Sequence[ShowerGenerator], energies: tuple[float, float]) -> None:
        if not isinstance(generators, Sequence) or not all(isinstance(one, ShowerGenerator) for one in generators):
            raise ValueError(f"expected generators to be a list of ShowerGenerator, got {shown(generators)}")
        if not generators:
            raise ValueError("expected generators to have at least one member, got none")
        if not isinstance(energies, tuple | list) or len(energies) != 2:
            raise ValueError(f"expected energies to be a pair (lowest, highest), got {shown(energies)}")
        self.low = check_number("the lowest of energies", energies[0], "(0, inf)")
        self.high = check_number("the highest of energies", energies[1], f"[{self.low}, inf)")
        if any(one.calorimeter != generators[0].calorimeter for one in generators):
            raise ValueError("expected generators for one calorimeter, got different ones")
        self.generators = [one.eval() for one in generators]

    @property
    def calorimeter(self) -> Calorimeter:
        """Of all members."""
        return self.generators[0].calorimeter

    def accepts(self, energy: Tensor) -> Tensor:
        """Whether each energy (N,) is inside the range of training, (N,) boolean."""
        check_floating("energy", energy)
        low, high = (torch.tensor(end, dtype=energy.dtype) for end in (self.low, self.high))  # 0.7 is not 0.7f
        return (energy >= low) & (energy <= high)

    def simulate(self, energy: Tensor, *, seed: int | torch.Generator = 0, member: int | None = None) -> Tensor:
        """One shower for each energy in GeV (N,), each from a random member: (N, cells) in GeV.

        Args:
            energy: of the particles.
            seed: of all random numbers.
            member: the only member that is used; by default all.

        Raises:
            ValueError: energies of another shape, NaN, or outside the range of training; or a member that does not
                exist.
        """
        energy = self._checked(energy)
        random = as_generator(seed)
        if member is not None:
            check_integer("member", member, 0, len(self.generators) - 1)
            return self._draw(member, energy, random)
        chosen = torch.randint(len(self.generators), (len(energy),), generator=random)
        cells = torch.empty(len(energy), self.calorimeter.cells)
        for index in range(len(self.generators)):
            rows = (chosen == index).nonzero()[:, 0]
            if len(rows):
                cells[rows] = self._draw(index, energy[rows], random)
        return cells

    def disagreement(self, energy: Tensor, *, draws: int = 500, seed: int = 0) -> Tensor:
        """How much the members' mean observables differ at each energy in GeV (K,), root mean square: (K,).

        In units of the standard deviation between the showers of a member; what the finite number of ``draws`` adds is
        subtracted. Energies outside of the range of training are allowed.

        Raises:
            ValueError: energies of another shape or not above 0, or a single member.
        """
        energy = self._checked(energy, anywhere=True)
        check_integer("draws", draws, 2)
        if len(self.generators) < 2:
            raise ValueError("expected at least two members for their disagreement, got one")
        found = []
        for one in energy:
            each = one.expand(draws)
            means, variances = [], []
            for member in range(len(self.generators)):
                cells = self._draw(member, each, as_generator(seed + member))
                values = torch.stack(list(observables(cells, each, self.calorimeter).values()), 1)
                means.append(values.mean(0))
                variances.append(values.var(0))
            within = torch.stack(variances).mean(0)
            between = torch.stack(means).var(0) - within / draws
            # Where no shower of a member differs from another, members differ infinitely or not at all.
            constant = torch.where(between > 0, torch.inf, 0.0).double()
            found.append(torch.where(within > 0, between / within, constant).mean().clamp_min(0).sqrt())
        return torch.stack(found)

    def save(self, path: str | Path) -> Path:
        """Write all members to one file, without pickle; an old file is replaced at the end."""
        calorimeter = asdict(self.calorimeter)
        if isinstance(self.calorimeter.material, Material):
            calorimeter["material"] = asdict(self.calorimeter.material)
        members = [{"settings": one.settings, "weights": one.state_dict()} for one in self.generators]
        energies = [self.low, self.high]
        content = {"format": FORMAT, "calorimeter": calorimeter, "energies": energies, "members": members}
        return write_tensors(content, path)

    @classmethod
    def load(cls, path: str | Path) -> "ShowerSurrogate":
        """The surrogate that `save` stored.

        Raises:
            ValueError: the file is damaged or holds something else.
        """
        content = read_tensors(path, "a surrogate of showers", format=FORMAT)
        calorimeter = _calorimeter(content["calorimeter"])
        generators = []
        for member in content["members"]:
            generator = ShowerGenerator(calorimeter, **member["settings"])
            generator.load_state_dict(member["weights"])
            generators.append(generator)
        return cls(generators, tuple(content["energies"]))

    def __repr__(self) -> str:
        return f"ShowerSurrogate({len(self.generators)} members, {self.low:g} to {self.high:g} GeV)"

    def _draw(self, member: int, energy: Tensor, random: torch.Generator) -> Tensor:
        generator = self.generators[member]
        parts = []
        for rows in energy.float().split(BATCH):
            z = torch.randn(len(rows), generator.latent, generator=random)
            parts.append(generate(generator, z, rows[:, None], batch=BATCH))
        return torch.cat(parts)

    def _checked(self, energy: Tensor, *, anywhere: bool = False) -> Tensor:
        check_floating("energy", energy)
        if energy.ndim != 1 or not len(energy):
            raise ValueError(f"expected energy of shape (N,), at least one, got {shown_shape(energy)}")
        check_finite("energy", energy)
        low, high = (float(value) for value in energy.aminmax())
        if anywhere and low <= 0:
            raise ValueError(f"expected energy above 0, got {low:g}")
        if not anywhere and not bool(self.accepts(energy).all()):
            raise ValueError(
                f"expected energy within the range of training, {self.low:g} to {self.high:g} GeV, "
                f"got {low:g} to {high:g} GeV"
            )
        return energy.detach()


def _calorimeter(stored: dict[str, Any]) -> Calorimeter:
    material = stored["material"]
    return Calorimeter(
        **{
            **stored,
            "layers": tuple(Layer(**layer) for layer in stored["layers"]),
            "material": Material(**material) if isinstance(material, dict) else material,
        }
    )
