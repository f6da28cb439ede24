"""Random numbers of many chains by counter: each is a function of the chain's key, the transition and its own index.

The generator is Philox4x32-10 (Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"). It has
no state, so a run resumes from the number of its last transition, and compiled code (`lanes/random.h`) makes the same
numbers inside. Those of a chain depend neither on the number of chains nor on the device.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posterity.random import child_seeds

MOMENTA, UNIFORMS, REFRESHMENT = 0, 1, 2  # purposes, as in random.h; from REFRESHMENT on one for each step
BEFORE = 2**63 - 1  # the number of the transition that only chooses the first step size
WORD = 0xFFFFFFFF
PAGE = 64  # uniforms of every chain that are made at once
MULTIPLIERS, WEYL = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)


class Streams:
    """The random numbers of every chain; ``size`` normals of ``dtype`` for each transition.

    ``keys`` (chain, 2) are integers of 32 bits.
    """

    def __init__(self, seed: int, chains: int, size: int, dtype: torch.dtype) -> None:
        seeds = np.array(child_seeds(seed, chains), dtype=np.uint64)
        self.keys = np.stack([seeds & WORD, seeds >> 32], 1).astype(np.uint32)
        self.size, self.dtype = size, dtype

    def numbers(self, transition: int) -> "Numbers":
        """The numbers of one transition."""
        return Numbers(self.keys, transition, self.size, self.dtype)


class Numbers:
    """The random numbers of one transition of every chain."""

    def __init__(self, keys: np.ndarray, transition: int, size: int, dtype: torch.dtype) -> None:
        self.keys, self.transition, self.size, self.dtype = keys, transition, size, dtype
        self._pages: dict[int, Tensor] = {}

    def normals(self, purpose: int = MOMENTA) -> Tensor:
        """Standard normals (chain, size) for one purpose, by Box and Muller."""
        single = self.dtype == torch.float32
        unit: Any
        shift: Any
        each = 4 if single else 2
        a, b, c, d = self._words(np.arange(-(-self.size // each)), purpose)
        if single:
            words = [(word >> 8).astype(np.float32) for word in (a, b, c, d)]
            unit, shift = np.float32(2.0**-24), np.float32(0.5)
        else:
            words = [((x << np.uint64(32) | y) >> np.uint64(11)).astype(np.float64) for x, y in ((a, b), (c, d))]
            unit, shift = np.float64(2.0**-53), np.float64(0.5)
        turn = unit.dtype.type(2 * math.pi)
        pieces = []
        for first, second in zip(words[::2], words[1::2], strict=True):
            radius, angle = np.sqrt(np.log((first + shift) * unit) * -2), second * unit * turn
            pieces += [radius * np.cos(angle), radius * np.sin(angle)]
        normals = np.stack(pieces, -1).reshape(len(self.keys), -1)[:, : self.size]
        return torch.from_numpy(np.ascontiguousarray(normals)).to(self.dtype)

    def uniforms(self, index: int, chains: Tensor | None = None) -> Tensor:
        """Uniform number ``index`` in [0, 1) of every chain, or of some ``chains``, in float64."""
        page, place = divmod(index, PAGE)
        if page not in self._pages:
            a, b, *_ = self._words(np.arange(page * PAGE, (page + 1) * PAGE), UNIFORMS)
            bits = (a << np.uint64(32) | b) >> np.uint64(11)
            self._pages[page] = torch.from_numpy(bits.astype(np.float64) * 2.0**-53)
        numbers = self._pages[page][:, place]
        return numbers if chains is None else numbers[chains.cpu()]

    def _words(self, counter: np.ndarray, purpose: int) -> Any:
        """Four words for each chain and counter (chain, counter), as unsigned integers of 64 bits."""
        low, high = self.transition & WORD, self.transition >> 32
        shape = (len(self.keys), len(counter))
        words = [np.broadcast_to(np.asarray(word, np.uint64), shape) for word in (counter, low, high, purpose)]
        return philox(words, [self.keys[:, :1].astype(np.uint64), self.keys[:, 1:].astype(np.uint64)])


def philox(counter: list[np.ndarray], key: list[np.ndarray]) -> list[np.ndarray]:
    """Philox4x32-10 of four counter words and two key words of 32 bits, held in unsigned integers of 64 bits."""
    a, b, c, d = counter
    k, el = key
    for _ in range(10):
        x, y = a * np.uint64(MULTIPLIERS[0]), c * np.uint64(MULTIPLIERS[1])
        a, b, c, d = (
            (y >> np.uint64(32)) ^ b ^ k,
            y & np.uint64(WORD),
            (x >> np.uint64(32)) ^ d ^ el,
            x & np.uint64(WORD),
        )
        k, el = (k + np.uint64(WEYL[0])) & np.uint64(WORD), (el + np.uint64(WEYL[1])) & np.uint64(WORD)
    return [a, b, c, d]
