"""An intensity of tracks with random parameters."""

import torch

from posterity.models.mixtures import Mixture
from posterity.models.tracking import TrackIntensity


def intensity(events=2, candidates=2, components=3, seed=0):
    """Candidates and cells well inside 20 x 20 pixels."""
    random = torch.Generator().manual_seed(seed)
    shape = events, candidates, components
    loc = 6 + 8 * torch.rand(*shape, 2, dtype=torch.double, generator=random)
    tril = torch.diag_embed(0.5 + torch.rand(*shape, 2, dtype=torch.double, generator=random))
    tril[..., 1, 0] = torch.randn(shape, dtype=torch.double, generator=random) * 0.4
    logits = torch.randn(shape, dtype=torch.double, generator=random)
    cells = torch.tensor([[8.0, 8.0], [12.0, 9.0]], dtype=torch.double)
    rest = torch.randn(events, 2, dtype=torch.double, generator=random) - 1
    rest[0, 1] = -torch.inf
    return TrackIntensity(
        log_odds=torch.randn(events, candidates, dtype=torch.double, generator=random),
        candidates=Mixture.multivariate_normal(logits, loc, tril),
        log_cell_rates=rest,
        cells=cells,
        width=0.5,
    )
