"""`draw_samples` and `generate`: samples of a generator in evaluation mode."""

import torch
from torch import Tensor, nn

from posterity.inference.adversarial.checks import check_condition
from posterity.inference.training.modes import evaluation_mode
from posterity.validation import check_integer, check_seed


@torch.no_grad()
def draw_samples(
    generator: nn.Module,
    n: int,
    latent: int,
    *,
    seed: int,
    like: Tensor | None = None,
    condition: Tensor | None = None,
    batch: int = 1000,
) -> Tensor:
    """n samples (n, ...) of a generator in evaluation mode.

    Args:
        generator: Maps latent points (B, latent) to samples (B, ...); with ``condition``, takes its rows (B, C) as a
            second argument.
        n: Number of samples.
        latent: Dimension of a latent point, a draw from the standard normal distribution.
        seed: Seed of the latent points.
        like: A tensor whose dtype and device the latent points get.
        condition: One row for each sample, (n, C).
        batch: Samples in one call of the generator.

    Raises:
        ValueError: n or ``batch`` below 1, or a condition with another number of rows than n.
    """
    check_integer("n", n, 1)
    check_integer("batch", batch, 1)
    check_seed(seed)
    check_condition(condition, n)
    z = torch.randn(n, latent, generator=torch.Generator().manual_seed(seed))
    return generate(generator, z if like is None else z.to(like), condition, batch=batch)


@torch.no_grad()
def generate(generator: nn.Module, inputs: Tensor, condition: Tensor | None = None, *, batch: int = 1000) -> Tensor:
    """Samples (n, ...) of a generator in evaluation mode for given inputs (n, ...), such as pictures to translate.

    Raises:
        ValueError: ``batch`` below 1.
    """
    check_integer("batch", batch, 1)
    arguments = (inputs,) if condition is None else (inputs, condition.to(inputs))
    with evaluation_mode(generator):
        parts = zip(*(value.split(batch) for value in arguments), strict=True)
        return torch.cat([generator(*part) for part in parts])
