"""Random numbers of many chains, each from a stream of its own.

What a chain draws does not depend on how many run beside it, nor on the device: the numbers are made on the CPU,
a block of transitions at a time, and moved.
"""

from typing import Any

import torch
from torch import Tensor

from posterity.random import child_seeds


class Streams:
    """For each transition ``normals`` standard normals and ``uniforms`` uniforms in [0, 1), for every chain."""

    def __init__(self, seed: int, chains: int, normals: int, uniforms: int, dtype: torch.dtype, block: int = 8) -> None:
        self.generators = [torch.Generator().manual_seed(s) for s in child_seeds(seed, chains)]
        self.sizes, self.dtype, self.block = (normals, uniforms), dtype, block
        self.position = block
        self._normals = self._uniforms = torch.empty(0)
        self._states: list[Tensor] = []

    def next(self) -> tuple[Tensor, Tensor]:
        """Normals (chain, normals), and uniforms (chain, uniforms) in double precision."""
        numbers = self.current()
        self.advance()
        return numbers

    def current(self) -> tuple[Tensor, Tensor]:
        """The numbers of `next`, again and again until `advance`: of a transition that may be interrupted."""
        if self.position == self.block:
            self._fill()
            self.position = 0
        return self._normals[:, self.position], self._uniforms[:, self.position]

    def advance(self) -> None:
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
        """Where the streams stand, as tensors and integers."""
        states = self._states if self.position < self.block else [g.get_state() for g in self.generators]
        return {"generators": torch.stack(states), "position": self.position}

    def restore(self, state: dict[str, Any]) -> None:
        for generator, saved in zip(self.generators, state["generators"], strict=True):
            generator.set_state(saved.clone())  # torch reads past the end of a row of a larger tensor, and crashes
        if state["position"] < self.block:
            self._fill()
        self.position = state["position"]
