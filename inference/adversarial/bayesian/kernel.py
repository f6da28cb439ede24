"""`sghmc`: one step of stochastic-gradient Hamiltonian Monte Carlo."""

import torch
from torch import Tensor


def sghmc(
    position: Tensor,
    velocity: Tensor,
    gradient: Tensor,
    noise: Tensor,
    *,
    rate: float | Tensor,
    friction: float,
    temperature: float = 1.0,
) -> tuple[Tensor, Tensor]:
    r"""Position and velocity after one step of stochastic-gradient Hamiltonian Monte Carlo.

    Chen, Fox & Guestrin 2014, eq. 15, with $\hat\beta = 0$:

        v <- (1 - α) v + η ∇ log p(θ) + sqrt(2 α η T) ε,    θ <- θ + v

    For a normal target of variance s² the draws have variance s² T / (1 - η/s² / (4 - 2 α)), so the step η is the only
    source of bias.

    Args:
        position: Position θ.
        velocity: Velocity v, of the same shape.
        gradient: Gradient of the log density at the position.
        noise: Standard normal draws ε.
        rate: Step η; a tensor for one step for each weight.
        friction: Friction α in (0, 1].
        temperature: Temperature T.

    Raises:
        ValueError: Position, velocity, gradient and noise of different shapes.
    """
    if not position.shape == velocity.shape == gradient.shape == noise.shape:
        shapes = [tuple(value.shape) for value in (position, velocity, gradient, noise)]
        raise ValueError(f"expected position, velocity, gradient and noise of one shape, got {shapes}")
    scale = (2 * friction * temperature * torch.as_tensor(rate)).sqrt().to(position)
    velocity = (1 - friction) * velocity + rate * gradient + scale * noise
    return position + velocity, velocity
