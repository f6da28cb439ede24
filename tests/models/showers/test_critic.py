"""A critic of showers: every coordinate and the energy count."""

import pytest
import torch

from posterity.models.showers import ShowerCritic


def test_logits_depend_on_observables_cells_and_energy() -> None:
    torch.manual_seed(0)
    critic = ShowerCritic(3, 5, hidden=(8, 16))
    x, energy = torch.randn(4, 8, requires_grad=True), torch.full((4, 1), 2.0, requires_grad=True)
    logits = critic(x, energy)
    assert logits.shape == (4,)
    slopes = torch.autograd.grad(logits.sum(), (x, energy))
    assert all(bool((slope != 0).all()) for slope in slopes)


def test_bad_arguments_are_named() -> None:
    critic = ShowerCritic(3, 5)
    with pytest.raises(ValueError, match=r"expected coordinates of shape \(N, 8\)"):
        critic(torch.ones(2, 7), torch.ones(2, 1))
    with pytest.raises(ValueError, match=r"expected energy of shape \(N, 1\)"):
        critic(torch.ones(2, 8), torch.ones(2))
    with pytest.raises(ValueError, match="observables"):
        ShowerCritic(0, 5)
    with pytest.raises(ValueError, match="two widths"):
        ShowerCritic(3, 5, hidden=(8,))  # type: ignore[arg-type]
