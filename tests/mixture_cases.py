"""Mixtures of all families for the tests of `posterity.models.mixtures`, and integrals over them.

Integrals are by Gauss-Legendre quadrature in double precision between neighbouring quantiles of the components, so that
no narrow or distant component is missed.
"""

import math

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from scipy import signal, stats

from posterity.models import Mixture, tails


def random_mixture(*batch, components=4, seed=0, dtype=torch.double, family="normal"):
    generator = torch.Generator().manual_seed(seed)
    logits, loc, log_scale = torch.randn(3, *batch, components, generator=generator, dtype=dtype)
    families = {
        "normal": lambda: Mixture.normal(logits, 3 * loc, log_scale.exp()),
        "laplace": lambda: Mixture(dist.Categorical(logits=logits), dist.Laplace(3 * loc, log_scale.exp())),
        "student_t": lambda: Mixture(dist.Categorical(logits=logits), dist.StudentT(4.0, 3 * loc, log_scale.exp())),
        "log_normal": lambda: Mixture(dist.Categorical(logits=logits), dist.LogNormal(loc, 0.3 * log_scale.exp())),
    }
    return families[family]()


def component_families(loc, scale):
    return {
        "Normal": (dist.Normal(loc, scale), lambda i: stats.norm(loc[i].item(), scale[i].item())),
        "StudentT": (dist.StudentT(3.5, loc, scale), lambda i: stats.t(3.5, loc[i].item(), scale[i].item())),
        "Laplace": (dist.Laplace(loc, scale), lambda i: stats.laplace(loc[i].item(), scale[i].item())),
    }


def scipy_sum(weights, parts, function, value):
    return sum(w * getattr(part, function)(value) for w, part in zip(weights, parts, strict=True))


mixtures = st.integers(1, 6).flatmap(
    lambda k: st.tuples(
        st.lists(st.floats(-5, 5), min_size=k, max_size=k),
        st.lists(st.floats(-50, 50), min_size=k, max_size=k),
        st.lists(st.floats(-4, 4), min_size=k, max_size=k),
    )
).map(lambda t: Mixture.normal(*(torch.tensor(v, dtype=torch.double).exp() if i == 2 else
                                 torch.tensor(v, dtype=torch.double) for i, v in enumerate(t))))  # fmt: skip


def on_a_grid(mixture, points=400_001):
    """Locations of the local maxima of the density between extreme quantiles; a single mixture."""
    low, high = (float(mixture.icdf(p)) for p in (1e-4, 1 - 1e-4))
    x = torch.linspace(low, high, points, dtype=torch.double)
    height = mixture.log_prob(x)
    return x[signal.argrelmax(height.numpy())[0]], x, height


def poisson_mixture():
    return Mixture(
        dist.Categorical(logits=torch.tensor([[0.0, 1.0], [0.3, -0.2]], dtype=torch.double)),
        dist.Poisson(torch.tensor([[0.4, 12.0], [30.0, 90.5]], dtype=torch.double)),
    )


def masses(row):
    mixture = poisson_mixture()
    weights, rate = mixture.log_weights.exp()[row].numpy(), mixture.component_distribution.rate[row].numpy()
    return (weights * stats.poisson.pmf(np.arange(400)[:, None], rate)).sum(-1)


def von_mises_mixture():
    return Mixture(
        dist.Categorical(logits=torch.tensor([0.0, 0.5, -1.0], dtype=torch.double)),
        dist.VonMises(torch.tensor([3.0, 0.2, -1.5]).double(), torch.tensor([4.0, 20.0, 3.0]).double()),
    )


common = settings(deadline=None, max_examples=15, derandomize=True)


fewer = settings(common, max_examples=10)


fewest = settings(common, max_examples=4)  # where modes and regions are searched for


# Each family from a centre in (-5, 5) and a log-scale in (-3, 3).
FAMILIES = {
    "normal": lambda centre, s: dist.Normal(centre, s.exp()),
    "laplace": lambda centre, s: dist.Laplace(centre, s.exp()),
    "student_t": lambda centre, s: dist.StudentT(5.0, centre, s.exp()),
    "log_normal": lambda centre, s: dist.LogNormal(centre / 2, (s / 3).exp() / 2),
    "poisson": lambda centre, s: dist.Poisson((s + 1).exp()),
    "von_mises": lambda centre, s: dist.VonMises(centre * math.pi / 5, (2 * s).exp()),
}


CONTINUOUS = ("normal", "laplace", "student_t", "log_normal")


MOVABLE = ("normal", "laplace", "student_t")  # what a shift and a factor leave in the family


families = pytest.mark.parametrize("family", FAMILIES)


continuous = pytest.mark.parametrize("family", CONTINUOUS)


movable = pytest.mark.parametrize("family", MOVABLE)


def lists(count, low, high):
    return st.lists(st.floats(low, high), min_size=count, max_size=count)


@st.composite
def numbers(draw, most=5):
    """Logits, centres and log-scales (K,) of up to ``most`` components."""
    count = draw(st.integers(1, most))
    rows = [draw(lists(count, low, high)) for low, high in ((-5, 5), (-5, 5), (-3, 3))]
    return torch.tensor(rows, dtype=torch.double)


def mixture_of(family, values):
    logits, centre, s = values.unbind(-2)
    return Mixture(dist.Categorical(logits=logits), FAMILIES[family](centre, s))


STEPS = [1e-13, 1e-11, 1e-9, 1e-7, 1e-5, 1e-3, 0.01, 0.03, 0.1, 0.2, 0.35]


LEVELS = torch.tensor([*STEPS, 0.5, *(1 - p for p in reversed(STEPS))], dtype=torch.double)


NODES, WEIGHTS = (torch.as_tensor(v) for v in np.polynomial.legendre.leggauss(20))


def integral(mixture, function):
    """E[function(Y)] over all but 1e-13 of either tail of every component."""
    if isinstance(mixture.component_distribution, dist.Poisson):
        y = torch.arange(400, dtype=torch.double)
        return (mixture.log_prob(y).exp() * function(y)).sum()
    if isinstance(mixture.component_distribution, dist.VonMises):
        y = torch.linspace(-math.pi, math.pi, 8001, dtype=torch.double)[1:]  # the trapezoidal rule on a circle
        return (mixture.log_prob(y).exp() * function(y)).sum() * 2 * math.pi / 8000
    edges = tails.icdf(mixture.component_distribution, LEVELS[:, None]).flatten().sort().values
    half, middle = edges.diff() / 2, (edges[1:] + edges[:-1]) / 2
    y = middle[:, None] + half[:, None] * NODES
    return (mixture.log_prob(y).exp() * function(y) * WEIGHTS * half[:, None]).sum()


def three_targets(kind, seed):
    generator = torch.Generator().manual_seed(seed)
    logits, loc = torch.randn(3, generator=generator).double(), torch.randn(3, 3, generator=generator).double()
    scale = (0.5 * torch.randn(3, 3, generator=generator).double()).exp()
    if kind == "diagonal":
        return Mixture.multivariate_normal(logits, loc, scale)
    if kind == "full":
        lower = torch.eye(3).double() + torch.randn(3, 3, 3, generator=generator).double().tril(-1)
        return Mixture.multivariate_normal(logits, loc, scale[..., None] * lower)
    factor = torch.randn(3, 3, 1, generator=generator).double()
    return Mixture(dist.Categorical(logits=logits), dist.LowRankMultivariateNormal(loc, factor, scale**2))


def rewritten(values, index, share, order):
    """One component divided in two equal ones, and all of them in another order."""
    halves = values[:, index : index + 1].repeat(1, 2)
    halves[0] += torch.tensor([share, 1 - share], dtype=torch.double).log()
    together = torch.cat([values[:, :index], values[:, index + 1 :], halves], 1)
    return together[:, torch.tensor(order) if order else torch.arange(together.shape[1])]


def extreme(family, components, dtype, seed):
    """Scales from 1e-6 to 1e6 (less for log-normals, counts and angles), weights down to 1e-30."""
    generator = torch.Generator().manual_seed(seed)
    logits = -69.0 * torch.rand(components, generator=generator, dtype=torch.double)
    logits[0] = 0.0
    power = 6 * (2 * torch.rand(components, generator=generator, dtype=torch.double) - 1)
    power[-1] = 6.0 if seed % 2 else -6.0
    width, centre = 10**power, 10 * torch.randn(components, generator=generator, dtype=torch.double)
    made = {
        "normal": lambda: dist.Normal(centre.to(dtype), width.to(dtype)),
        "laplace": lambda: dist.Laplace(centre.to(dtype), width.to(dtype)),
        "student_t": lambda: dist.StudentT(5.0, centre.to(dtype), width.to(dtype)),
        "log_normal": lambda: dist.LogNormal(centre.to(dtype) / 10, (10 ** (power / 6 - 1)).to(dtype)),
        "poisson": lambda: dist.Poisson((10 ** (power / 2)).to(dtype)),
        "von_mises": lambda: dist.VonMises((centre / 10).clamp(-3, 3).to(dtype), (10 ** (power / 2)).to(dtype)),
    }
    return Mixture(dist.Categorical(logits=logits.to(dtype)), made[family]())


KINDS = ("diagonal", "full", "low_rank")


def several(kind, *batch, components=3, targets=4, seed=0, spread=1.0):
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*batch, *shape, generator=generator, dtype=torch.double)

    logits, loc = random(components), 2 * random(components, targets)
    scale = (0.3 * random(components, targets)).exp()
    scale = scale * spread ** torch.linspace(-1, 1, targets, dtype=torch.double)
    loc = loc * spread ** torch.linspace(-1, 1, targets, dtype=torch.double)
    if kind == "diagonal":
        return Mixture.multivariate_normal(logits, loc, scale)
    if kind == "full":
        lower = torch.eye(targets, dtype=torch.double) + random(components, targets, targets).tril(-1)
        return Mixture.multivariate_normal(logits, loc, scale.unsqueeze(-1) * lower)
    factor = scale.unsqueeze(-1) * random(components, targets, 2)
    return Mixture(dist.Categorical(logits=logits), dist.LowRankMultivariateNormal(loc, factor, scale**2))


kinds = pytest.mark.parametrize("kind", KINDS)


def mixture_and_y(n: int, components: int, seed: int = 0) -> tuple[Mixture, torch.Tensor]:
    """A random mixture of normals of batch shape (n,), and y (n,) that does not depend on it."""
    generator = torch.Generator().manual_seed(seed)
    logits, loc = (torch.randn(n, components, generator=generator).double() for _ in range(2))
    scale = 0.1 + torch.rand(n, components, generator=generator).double()
    return Mixture.normal(logits, 2 * loc, scale), torch.randn(n, generator=generator).double()
