"""Random numbers of many chains, from one random stream per chain.

The numbers of a chain depend neither on the number of chains nor on the device: they are generated on the CPU, for a
few transitions at a time.
"""

from typing import Any

import torch
from torch import Tensor

from posterity.random import child_seeds


class Streams:
    """For every transition and chain, ``normals`` standard normals and ``uniforms`` uniforms in [0, 1).

    ``block`` is the number of transitions that are generated at a time.
    """

    def __init__(self, seed: int, chains: int, normals: int, uniforms: int, dtype: torch.dtype, block: int = 8) -> None:
        self.generators = [torch.Generator().manual_seed(s) for s in child_seeds(seed, chains)]
        self.sizes, self.dtype, self.block = (normals, uniforms), dtype, block
        self.position = block
        self._normals = self._uniforms = torch.empty(0)
        self._states: list[Tensor] = []

    def next(self) -> tuple[Tensor, Tensor]:
        """The normals (chain, normals) and uniforms (chain, uniforms) of the next transition; uniforms are float64."""
        numbers = self.current()
        self.advance()
        return numbers

    def current(self) -> tuple[Tensor, Tensor]:
        """The numbers of the current transition, the same until `advance`, because a transition may be interrupted."""
        if self.position == self.block:
            self._fill()
            self.position = 0
        return self._normals[:, self.position], self._uniforms[:, self.position]

    def advance(self) -> None:
        """Go to the next transition."""
        self.position += 1

    def _fill(self) -> None:
        self._states = [g.get_state() for g in self.generators]
        normals, uniforms = self.sizes
        self._normals = torch.stack(
            [torch.randn(self.block, normals, generator=g, dtype=self.dtype) for g in self.generators]
        )
        self._uniforms = torch.stack(
            [torch.rand(self.block, uniforms, generator=g, dtype=torch.double) for g in self.generators]
        )

    def state(self) -> dict[str, Any]:
        """The state of the streams, as tensors and integers."""
        states = self._states if self.position < self.block else [g.get_state() for g in self.generators]
        return {"generators": torch.stack(states), "position": self.position}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state returned by `state`."""
        for generator, saved in zip(self.generators, state["generators"], strict=True):
            generator.set_state(saved.clone())  # torch reads past the end of a row of a larger tensor and crashes
        if state["position"] < self.block:
            self._fill()
        self.position = state["position"]
