"""The scale of energies."""

import math

import pytest
import torch

from posterity.models.showers.scales import scaled_energy


def test_ten_gev_is_zero() -> None:
    values = scaled_energy(torch.tensor([10.0, 10.0 * math.exp(1.3)]))
    assert values.tolist() == pytest.approx([0.0, 1.0], abs=1e-6)
