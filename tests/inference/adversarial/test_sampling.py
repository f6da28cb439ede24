"""`draw_samples`: samples of a generator that is a known function of the latent points."""

import pytest
import torch
from torch import nn

from posterity.inference.adversarial import draw_samples


class Affine(nn.Module):
    """2 z + 1, or 2 z + c with a condition c."""

    def forward(self, z, condition=None):
        return 2 * z + (1 if condition is None else condition)


def latent(n, seed):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_samples_are_those_of_the_latent_points_of_the_seed_in_batches_of_any_size(batch):
    torch.testing.assert_close(draw_samples(Affine(), 10, 3, seed=7, batch=batch), 2 * latent(10, 7) + 1)
    condition = torch.arange(10.0)[:, None]
    conditional = draw_samples(Affine(), 10, 3, seed=7, condition=condition, batch=batch)
    torch.testing.assert_close(conditional, 2 * latent(10, 7) + condition)


def test_samples_have_the_dtype_of_the_data_and_no_gradient():
    samples = draw_samples(Affine(), 5, 3, seed=0, like=torch.zeros(1, dtype=torch.double))
    assert samples.dtype == torch.double
    assert not draw_samples(nn.Linear(3, 2), 5, 3, seed=0).requires_grad


def test_the_generator_is_in_evaluation_mode_and_restored():
    generator = nn.Sequential(Affine(), nn.Dropout(0.5))
    torch.testing.assert_close(draw_samples(generator, 10, 3, seed=1), 2 * latent(10, 1) + 1)
    assert all(module.training for module in generator.modules())


def test_bad_arguments_of_sampling_are_refused():
    for n in (0, True, 2.5):
        with pytest.raises(ValueError, match="expected n to be a whole number of 1 or more"):
            draw_samples(Affine(), n, 3, seed=0)
    with pytest.raises(ValueError, match="expected batch to be a whole number of 1 or more, got 0"):
        draw_samples(Affine(), 5, 3, seed=0, batch=0)
    with pytest.raises(ValueError, match="expected seed to be a whole number of 0 or more, got -1"):
        draw_samples(Affine(), 5, 3, seed=-1)
    with pytest.raises(ValueError, match=r"expected condition of shape \(5, C\), got \(4, 1\)"):
        draw_samples(Affine(), 5, 3, seed=0, condition=torch.zeros(4, 1))
