r"""Isokinetic dynamics, whose momentum has a fixed length: the steps of microcanonical samplers for all chains.

The direction $u$ is a unit vector in coordinates in which the mass is the identity, and the speed is 1:

$$\dot q = M^{-1/2} u, \qquad \dot u = \frac{(1 - u u^\top)\, M^{-1/2} \nabla \log \pi(q)}{d - 1}.$$

The dynamics in $d$ dimensions leave $\pi(q)$ times the uniform distribution on the sphere invariant (Robnik, De Luca,
Silverstein & Seljak 2023, JMLR 24). `lanes/microcanonical.h` makes the same steps in compiled code.
"""

import torch
from torch import Tensor

from posterity.inference.engine.chains import Engine, Integrator

TINY = 1e-300  # a gradient of zero has no direction and turns nothing
NEW = 60.0  # exponent from which a direction is new altogether
State = tuple[Tensor, Tensor, Tensor, Tensor]  # positions, directions, gradients (chain, dim), log densities (chain,)


def turn(u: Tensor, grad: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    r"""The directions (chain, dim) after ``step`` (chain,) at a fixed position, and the changes of kinetic energy.

    With $e$ the direction of the gradient and $\delta = \epsilon |g| / (d - 1)$, the exact solution is

    $$u' = \frac{u + e\,[\sinh \delta + (e \cdot u)(\cosh \delta - 1)]}{\cosh \delta + (e \cdot u) \sinh \delta}$$

    (Ver Steeg & Galstyan 2021, "Hamiltonian dynamics with non-Newtonian momentum for rapid sampling"). The kinetic
    energy changes by $d - 1$ times the logarithm of the denominator, in float64. ``grad`` is the gradient in
    coordinates of unit mass.
    """
    g, rest = grad.double(), u.shape[-1] - 1
    size = g.norm(dim=-1)
    e = g / size.clamp_min(TINY)[:, None]
    along = (e * u.double()).sum(-1).clamp(-1, 1)
    delta = step.double() * size / rest
    # Multiplied by exp(-delta), so that nothing overflows.
    shrink = torch.expm1(-delta)
    of_e, of_u = shrink * (along * shrink - shrink - 2), 2 * (1 + shrink)
    of_u = torch.where((of_e == 0) & (of_u == 0), 1.0, of_u)  # against the gradient, an unstable fixed point
    turned = of_e[:, None] * e + of_u[:, None] * u.double()
    logarithm = torch.log1p((1 - along) * shrink * (2 + shrink) / 2)
    change = rest * (delta + torch.maximum(logarithm, -2 * delta))
    return (turned / turned.norm(dim=-1, keepdim=True)).to(u.dtype), change


def isokinetic_step(
    engine: Engine, state: State, step: Tensor, scale: Tensor, integrator: Integrator
) -> tuple[State, Tensor]:
    """The state after one step of every chain, and its energy error (chain,): the change of the total energy.

    The gradients are not added to ``engine.gradients``.

    Args:
        engine: the engine.
        state: positions, directions, gradients and log densities.
        step: step size of each chain (chain,); 0 for a chain that does not move.
        scale: square root of the diagonal of the inverse mass matrix (dim,).
        integrator: the splitting.
    """
    q, u, grad, value = state
    before, change = value.double(), torch.zeros(len(q), dtype=torch.double, device=q.device)
    step = step.to(q.dtype)
    for kick, drift in zip(integrator.kicks, integrator.drifts, strict=False):
        u, kinetic = turn(u, grad * scale, kick * step)
        change = change + kinetic
        q = q + (drift * step)[:, None] * scale * u
        counted = engine.gradients
        value, grad = engine.gradient(q)
        engine.gradients = counted
    u, kinetic = turn(u, grad * scale, integrator.kicks[-1] * step)
    return (q, u, grad, value), change + kinetic + before - value.double()


def refresh(u: Tensor, normals: Tensor, amount: Tensor) -> Tensor:
    r"""Directions (chain, dim) that are partly new: $(u + \nu z) / |u + \nu z|$ for normals $z$, ``amount`` (chain,).

    The uniform distribution on the sphere is invariant. From $u = 0$ the direction is new altogether.
    """
    mixed = u.double() + amount.double()[:, None] * normals.double()
    return (mixed / mixed.norm(dim=-1, keepdim=True)).to(u.dtype)


def refresh_amount(step: Tensor, length: float, dim: int) -> Tensor:
    r"""$\nu = \sqrt{(e^{2 \epsilon / L} - 1) / d}$: a path of length L makes the direction nearly independent.

    From Robnik & Seljak 2024, "Fluctuation without dissipation: microcanonical Langevin Monte Carlo".
    """
    return (torch.expm1((2 * step.double() / length).clamp(max=NEW)) / dim).sqrt()
