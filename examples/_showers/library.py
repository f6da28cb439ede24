"""Real showers that are nearest to wanted numbers."""

import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

NEAR = 0.02  # a difference in ln E that counts as one standard deviation


class Library:
    """Showers with cells (N, cells), some numbers of each in ``columns`` (N, D), and energies (N,)."""

    def __init__(self, cells: Tensor, columns: Tensor, energy: Tensor) -> None:
        self.cells = cells
        self.scale = torch.cat([columns.std(0).clamp_min(1e-9), torch.tensor([NEAR]).double()])
        self.index = NearestNeighbors(n_neighbors=1).fit(self._rows(columns, energy))

    def nearest(self, columns: Tensor, energy: Tensor) -> Tensor:
        """Cells (M, cells) of the showers that are nearest in standardised columns (M, D) and ln E, from (M,)."""
        found = self.index.kneighbors(self._rows(columns, energy), return_distance=False)[:, 0]
        return self.cells[torch.from_numpy(found)]

    def _rows(self, columns: Tensor, energy: Tensor):
        return (torch.cat([columns, energy.log()[:, None]], 1) / self.scale).numpy()
