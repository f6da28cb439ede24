"""`ReplayPool`: earlier generated samples, which the discriminator sees again."""

from typing import Any

import torch
from torch import Tensor


class ReplayPool:
    """Keeps ``size`` generated samples and returns some of them in place of new ones.

    Shrivastava et al. 2017 (arXiv:1612.07828, section 2.3), in the form of Zhu et al. 2017: until the pool is full,
    new samples are stored and returned. After that, a new sample is either returned itself or, with probability one
    half, takes the place of a random stored one, which is returned.

    >>> pool, random = ReplayPool(4), torch.Generator().manual_seed(0)
    >>> first = pool.exchange(torch.zeros(4, 1), random)
    >>> sorted(set(pool.exchange(torch.ones(4, 1), random).flatten().tolist()))
    [0.0, 1.0]
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.samples: Tensor | None = None  # (at most size, ...)

    @torch.no_grad()
    def exchange(self, samples: Tensor, random: torch.Generator) -> Tensor:
        """As many samples (B, ...), new or stored.

        New samples that are not returned are stored; while the pool is not full, all are.
        """
        if not self.size:
            return samples
        stored = samples[:0].clone() if self.samples is None else self.samples
        room = self.size - len(stored)
        stored = torch.cat([stored, samples[:room]])
        returned = samples.clone()
        late = range(max(room, 0), len(samples))
        swaps = torch.rand(len(late), generator=random) < 0.5
        places = torch.randint(self.size, (len(late),), generator=random)
        for row, swap, place in zip(late, swaps.tolist(), places.tolist(), strict=True):
            if swap:
                returned[row] = stored[place]
                stored[place] = samples[row]
        self.samples = stored
        return returned

    def state_dict(self) -> dict[str, Any]:
        """The stored samples."""
        return {"samples": None if self.samples is None else self.samples.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned."""
        self.samples = None if state["samples"] is None else state["samples"].clone()
