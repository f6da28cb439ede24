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
    """One step of stochastic-gradient Hamiltonian Monte Carlo (Chen, Fox & Guestrin 2014, eq. 15, with β̂ = 0).

        v <- (1 - α) v + η ∇ log p(θ) + sqrt(2 α η T) ε,    θ <- θ + v

    ``gradient`` is that of the log density, ``noise`` ε standard normal; the new position and velocity come back. η may
    be a tensor: a step of its own for each weight. For a normal target of variance s² the draws have variance
    s² T / (1 - η/s² / (4 - 2 α)): exact but for the step.
    """
    if not position.shape == velocity.shape == gradient.shape == noise.shape:
        shapes = [tuple(value.shape) for value in (position, velocity, gradient, noise)]
        raise ValueError(f"expected position, velocity, gradient and noise of one shape, got {shapes}")
    scale = (2 * friction * temperature * torch.as_tensor(rate)).sqrt().to(position)
    velocity = (1 - friction) * velocity + rate * gradient + scale * noise
    return position + velocity, velocity
