"""The one place where a seed becomes a generator, so that no simulator touches torch's global random state."""

from numbers import Integral

import torch


def as_generator(seed: int | torch.Generator) -> torch.Generator:
    """A CPU generator started from an integer, or the generator itself, which then moves on with every draw.

    Raises:
        ValueError: `seed` is neither.
    """
    if isinstance(seed, torch.Generator):
        return seed
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise ValueError(f"expected seed to be an int or a torch.Generator, got {seed!r}")
    if not -(2**63) <= seed < 2**64:
        raise ValueError(f"expected seed to be an int of 64 bits, got {seed}")
    return torch.Generator().manual_seed(int(seed))


def uniform(n: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    """n float64 draws of U(low, high), on the generator's device."""
    unit = torch.rand(n, generator=generator, device=generator.device, dtype=torch.float64)
    return low + (high - low) * unit


def normal(n: int, generator: torch.Generator) -> torch.Tensor:
    """n float64 draws of N(0, 1), on the generator's device."""
    return torch.randn(n, generator=generator, device=generator.device, dtype=torch.float64)


def check_count(name: str, value: int, least: int = 1) -> None:
    """Raise ValueError unless `value` is an integer of at least `least`, and of 64 bits."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"expected {name} to be an integer of at least {least}, got {value!r}")
    if value >= 2**63:
        raise ValueError(f"expected {name} to be an integer of 64 bits, got {value}")
