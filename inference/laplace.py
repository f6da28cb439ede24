r"""Laplace's approximation of the evidence: how much of the posterior lies at each mode.

Near a mode $q^*$ of the log joint in unconstrained space, the posterior is taken for a normal distribution with the
inverse of the negative Hessian $H$ as covariance, so that the mode holds the probability

$$\log Z \approx \log p(q^*, y) + \tfrac{d}{2} \log 2\pi - \tfrac12 \log\det H$$

(MacKay 1992, "Bayesian interpolation", Neural Computation 4, eq. 2.5). Normalised over the members of an ensemble,
these are the weights of the modes in a mixture of Laplace approximations (Eschenhagen et al. 2021, arXiv:2111.03577).

It is exact for a normal log joint, such as a linear model with known noise. It is not exact for a network: its modes
are not normal, and each has copies with permuted hidden units, which multiply all evidences by the same factor. Members
at the same mode are counted twice when evidences are normalised.
"""

import math
from typing import Any

import numpy as np
import pyro
import torch
import xarray as xr
from torch import Tensor

from posterity.inference.engine.density import Density
from posterity.inference.engine.recording import quiet
from posterity.inference.posterior import Posterior
from posterity.inference.program.arguments import read_as_fitted
from posterity.inference.program.sites import inspect
from posterity.validation import check_integer

CHUNK = 256  # columns of the Hessian at a time
NEWTON_STEPS = 20  # at most, from a draw to its mode
DAMPING, DAMPINGS = 1e-2, 20  # first damping, and number of dampings, each four times the last, before giving up
CLOSE = 1e-3  # height of the mode, in nats, below which a position is the mode


def laplace_evidence(posterior: Posterior, *args: Any, chunk: int = CHUNK, **named: Any) -> xr.Dataset:
    """The log evidence of the mode at each draw of a posterior, such as the members of an `Ensemble`.

    If a site has a constrained support, the mode in unconstrained space differs from the member; and a member may not
    have arrived. A few steps of Newton's method lead to the mode.

    Args:
        posterior: its draws are the modes; the model must not have trained parameters.
        args: the arguments of the model, y last.
        chunk: number of columns of the Hessian in one batch. Memory grows with it; d² numbers are needed in any case.
        named: arguments of the model by name.

    Returns:
        A dataset over ("draw",), in nats: ``log_evidence``, nan where Newton's method does not arrive at
        a mode; ``log_joint`` at the draw; ``to_gain``, the height of the mode above the draw.

    Raises:
        ValueError: y is missing, or the model has parameters or discrete sites.

    >>> import pyro.distributions as dist
    >>> from posterity.inference import Ensemble, infer
    >>> def model(x, y=None):
    ...     slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    ...     with pyro.plate("obs", len(x)):
    ...         return pyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)
    >>> x, y = torch.tensor([1.0, 2.0]), torch.tensor([1.5, 1.0])
    >>> method = Ensemble(members=2, progress=False)
    >>> evidence = laplace_evidence(infer(model, x, y, method=method), x, y)["log_evidence"].values
    >>> exact = dist.MultivariateNormal(torch.zeros(2), torch.eye(2) + torch.outer(x, x)).log_prob(y)
    >>> bool(np.allclose(evidence, exact, atol=1e-4))
    True
    """
    check_integer("chunk", chunk, 1)
    args, left_out = read_as_fitted(posterior.model, args, named, posterior.attrs)
    if left_out:
        inspect(posterior.model, args, posterior.program.site, left_out=left_out)
    density = Density(posterior.model, args)
    missing = sorted({site.name for site in density.sites} - set(posterior.draws))
    known = {site.name for site in density.sites} | set(posterior.program.reparametrised)
    unknown = sorted(set(posterior.draws) - known)
    if missing:
        raise ValueError(f"expected y, and a posterior with draws of all latent sites, got none of {missing}")
    if unknown:
        raise ValueError(f"expected a model without trained parameters, got {unknown}")
    positions = density.unconstrain({name: value.flatten(0, 1) for name, value in posterior.draws.items()})
    found = np.array([_at_mode(density, position, chunk) for position in positions])
    names = ("log_evidence", "log_joint", "to_gain")
    return xr.Dataset({name: ("draw", column) for name, column in zip(names, found.T, strict=True)})


def _at_mode(density: Density, position: Tensor, chunk: int) -> tuple[float, float, float]:
    """Log evidence of the mode near ``position``, log joint there, and height of the mode above it.

    Newton's method, damped where the Hessian has a direction that is not concave or a step does not rise (Levenberg
    and Marquardt).
    """
    value = first = _value(density, position)
    rounding = 64 * torch.finfo(position.dtype).eps * (1 + abs(first))
    damping = 0.0
    for _ in range(NEWTON_STEPS):
        slope, hessian = _expansion(density, position, chunk)
        root, failed = torch.linalg.cholesky_ex(hessian)
        if not failed:
            height = 0.5 * float(torch.linalg.solve_triangular(root, slope[:, None], upper=False).square().sum())
            if height < CLOSE:
                log_volume = 0.5 * len(position) * math.log(2 * math.pi) - float(root.diagonal().log().sum())
                return value + height + log_volume, first, value + height - first
        for _ in range(DAMPINGS):
            root, failed = torch.linalg.cholesky_ex(hessian + damping * torch.eye(len(slope)).to(hessian))
            if not failed:
                step = torch.cholesky_solve(slope[:, None], root)[:, 0].to(position)
                reached = _value(density, position + step)
                if reached >= value - rounding:
                    break
            damping = max(4 * damping, DAMPING)
        else:
            return math.nan, first, math.nan
        position, value, damping = position + step, reached, damping / 4 if damping > DAMPING else 0.0
    return math.nan, first, math.nan


def _value(density: Density, position: Tensor) -> float:
    with quiet(), pyro.validation_enabled(False), torch.no_grad():
        return float(density(position))


def _expansion(density: Density, position: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Gradient and negative Hessian at ``position``, in float64."""
    with quiet(), pyro.validation_enabled(False):
        # Reverse mode twice: forward mode lacks rules of some operations, and promotes scalars to float64.
        slope, pull_back = torch.func.vjp(torch.func.grad(density), position)  # type: ignore[misc]
        directions = torch.eye(len(position), dtype=position.dtype, device=position.device)
        hessian = -torch.func.vmap(lambda direction: pull_back(direction)[0], chunk_size=chunk)(directions).double()
    return slope.double(), 0.5 * (hessian + hessian.T)
