"""Clipping of gradients relative to the median of their norms, which does not depend on units."""

import torch
from torch import Tensor

WINDOW = 100  # steps in the running median
FEWEST = 20  # steps before the first clipping


class RelativeClip:
    """Clips the norm of a gradient at ``limit`` times its running median, separately for each fit."""

    def __init__(self, limit: float) -> None:
        self.limit, self.norms = limit, list[Tensor]()

    def __call__(self, gradient: Tensor) -> Tensor:
        """The clipped ``gradient``, which is finite and of shape (dim,) or (fit, dim)."""
        norm = gradient.norm(dim=-1, keepdim=True)
        self.norms.append(norm)
        del self.norms[:-WINDOW]
        if len(self.norms) < FEWEST:
            return gradient
        largest = self.limit * torch.stack(self.norms).median(0).values
        return gradient * (largest / norm.clamp_min(torch.finfo(norm.dtype).tiny)).clamp(max=1)
