"""Clipping of gradients relative to their usual norm, which does not depend on units."""

import torch
from torch import Tensor

WINDOW = 100  # steps in the running median
FEWEST = 20  # steps before the first clipping


class RelativeClip:
    """Clips the norm of a gradient at ``limit`` times its running median; each row of a batch has its own."""

    def __init__(self, limit: float) -> None:
        self.limit, self.norms = limit, list[Tensor]()

    def __call__(self, gradient: Tensor) -> Tensor:
        """The clipped gradient, of shape (dim,) or (fit, dim) and finite, as it came."""
        norm = gradient.norm(dim=-1, keepdim=True)
        self.norms.append(norm)
        del self.norms[:-WINDOW]
        if len(self.norms) < FEWEST:
            return gradient
        largest = self.limit * torch.stack(self.norms).median(0).values
        return gradient * (largest / norm.clamp_min(torch.finfo(norm.dtype).tiny)).clamp(max=1)
