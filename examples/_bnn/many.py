"""Many networks: one batch against one after another, their weights, and how they approach the posterior.

Two kinds of ensembles of one Bayesian network, whose noise is known:

- ``modes``: each network is fitted to the data, from its own start.
- ``anchored``: each network is also pulled to its own draw of the prior, and its data have noise added to them. For
  a linear model its members are exact draws of the posterior (Pearce et al. 2020, arXiv:1810.05546; Matthews et al.
  2017, "Sample-then-optimize posterior sampling"); for other networks they approach another distribution.
"""

import math
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from _report import save_arrays
from torch import Tensor, nn

from _bnn.curves import CURVES
from _bnn.methods import convergence, of_posterior, one_member, sampler
from _bnn.panels import CHUNK
from _bnn.settings import NOISE_OF_POINTS, POINTS_OF_NOISES, Settings
from posterity.data import Observations, Standardization, holdout
from posterity.inference import Ensemble, Posterior, PredictiveMixture, infer
from posterity.inference.diagnostics import compare, scores
from posterity.inference.laplace import laplace_evidence
from posterity.models import bayesian, mlp, priors

HELD_OUT = 0.2
SUBSETS = 20  # random subsets of the members, for each size
TIMED = 20  # networks
REPEATS = 3  # runs of which the median time counts
PRIOR = {"": priors.Normal(), "hidden1": priors.Normal(scale=4.0), "output": priors.Normal(scale=2.0)}


def data_sets(settings: Settings) -> tuple[Observations, Observations]:
    """Training rows and held-out rows: a fifth of the rows is held out, for stacking."""
    data = CURVES["gp"].data(round(POINTS_OF_NOISES / (1 - HELD_OUT)), NOISE_OF_POINTS, settings.seed)
    train, test = holdout(len(data), HELD_OUT, seed=settings.seed)
    return data.subset(train), data.subset(test)


def network(train: Observations, hidden: tuple[int, ...]) -> tuple[Callable[..., Any], nn.Module]:
    """The Bayesian network with known noise, and its module."""
    scale = Standardization.fit(train)
    net = mlp(1, *hidden, 1, seed=0)

    def model(x: Tensor, y: Tensor | None = None) -> Tensor:
        mean = scale.y_loc + scale.y_scale * bayesian("net", net, PRIOR)(scale.x(x))[:, 0]
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(mean, NOISE_OF_POINTS), obs=y)

    return model, net


def anchored(train: Observations, hidden: tuple[int, ...], members: int, seed: int) -> tuple[Any, dict[str, Tensor]]:
    """The model of an anchored ensemble, and the anchors and noise of its members for `Ensemble.vary`."""
    scale = Standardization.fit(train)
    net = mlp(1, *hidden, 1, seed=0)
    with pyro.poutine.trace() as prior, torch.no_grad():
        bayesian("net", net, PRIOR)
    widths = {name: site["fn"].base_dist.scale for name, site in prior.trace.nodes.items()}
    generator = torch.Generator().manual_seed(seed)
    vary = {
        f"anchor.{name}": width * torch.randn(members, *width.shape, generator=generator)
        for name, width in widths.items()
    }
    vary["jitter"] = NOISE_OF_POINTS * torch.randn(members, len(train), generator=generator)

    def model(x: Tensor, y: Tensor | None = None) -> Tensor:
        around = {
            name.removeprefix("net."): dist.Normal(pyro.param(f"anchor.{name}", torch.zeros_like(width)), width)
            for name, width in widths.items()
        }
        mean = scale.y_loc + scale.y_scale * bayesian("net", net, around)(scale.x(x))[:, 0]
        noisy = None if y is None else y + pyro.param("jitter", torch.zeros_like(y))
        with pyro.plate("obs", len(x)):
            return pyro.sample("y", dist.Normal(mean, NOISE_OF_POINTS), obs=noisy)

    return model, vary


def many_networks(settings: Settings, out: Path) -> dict[str, float]:
    """Weights of the members, and distances of ensembles of several sizes from the posterior by HMC."""
    torch.set_num_threads(1)
    train, held_out = data_sets(settings)
    count = settings.many_members[-1]
    model, _ = network(train, settings.many_hidden)
    reference = infer(model, train.x, train.y, method=sampler(settings, len(train)), seed=settings.seed)
    modes = infer(model, train.x, train.y, method=ensemble(settings, count), seed=settings.seed)
    other, vary = anchored(train, settings.many_hidden, count, settings.seed)
    members = {
        "modes": modes,
        "anchored": infer(other, train.x, train.y, method=ensemble(settings, count, vary=vary), seed=settings.seed),
    }
    curve = CURVES["gp"]
    grid = curve.grid()
    x, y, _ = curve.fresh(train, settings.fresh, settings.seed + 1)
    metrics = {f"hmc.{name}": value for name, value in convergence(reference, grid[::3]).items()}
    parts = [
        of_posterior(reference).predict(part).log_prob(at)
        for part, at in zip(x.split(CHUNK), y.split(CHUNK), strict=True)
    ]
    metrics["hmc.elpd"] = float(torch.cat(parts).mean())
    weights = member_weights(modes, train, held_out)
    for name, values in weights.items():
        predictive = PredictiveMixture.from_draws(modes.likelihood(x), values.log())
        metrics[f"modes.{name}.elpd"] = float(predictive.log_prob(y).mean())
        metrics[f"modes.{name}.effective_members"] = float(1 / values.square().sum())
    exact = reference.function_draws(grid).flatten(0, 1)
    functions = {name: found.likelihood(grid).mean for name, found in members.items()}
    for name, found in members.items():
        log_scores = found.likelihood(x).log_prob(y)
        of_kind = approach(functions[name], log_scores, exact, curve.regions(grid), settings)
        metrics |= {f"{name}.{key}": value for key, value in of_kind.items()}
    _write(out / "many" / "networks.npz", train, grid, functions, exact, weights)
    return metrics


def ensemble(settings: Settings, members: int, **changes: Any) -> Ensemble:
    return Ensemble(members=members, steps=settings.steps, behind="keep", threads=1, progress=False, **changes)


def member_weights(members: Posterior, train: Observations, held_out: Observations) -> dict[str, Tensor]:
    """Weights (member,): equal ones; by stacking of held-out scores; by the evidence of the training rows."""
    count = members.num_chains * members.num_draws
    each = {str(k): scores(one_member(members, k).predict(held_out.x), held_out.y) for k in range(count)}
    stacked = compare(each)["weight"]
    evidence = torch.tensor(laplace_evidence(members, train.x, train.y)["log_evidence"].values)
    found = {
        "equal": torch.full((count,), 1 / count),
        "stacking": torch.tensor([max(0.0, float(stacked[str(k)])) for k in range(count)]),
    }
    if bool(torch.isfinite(evidence).all()):
        found["evidence"] = evidence.softmax(0)
    return {name: (values / values.sum()).float() for name, values in found.items()}


def approach(
    functions: Tensor, log_scores: Tensor, exact: Tensor, regions: dict[str, Tensor], settings: Settings
) -> dict[str, float]:
    """Distances from the posterior for several numbers of members, averaged over random subsets.

    Args:
        functions: the members on the grid (member, point).
        log_scores: log p(y|x) of the members on fresh points (member, N).
        exact: draws of the posterior on the grid (draw, point).
        regions: masks of the grid.
        settings: the numbers of members.
    """
    mean, sd = exact.mean(0), exact.std(0)
    generator = torch.Generator().manual_seed(settings.seed)
    metrics = {}
    for size in settings.many_members:
        subsets = [torch.randperm(len(functions), generator=generator)[:size] for _ in range(SUBSETS)]
        chosen = torch.stack([functions[subset] for subset in subsets])  # (subset, member, point)
        shift = ((chosen.mean(1) - mean) / sd).square()
        spread = chosen.var(1, correction=min(1, size - 1)).mean(0).sqrt()
        mixtures = torch.stack([log_scores[subset].logsumexp(0) - math.log(size) for subset in subsets])
        metrics[f"members{size}.elpd"] = float(mixtures.mean())
        for name, where in regions.items():
            metrics[f"members{size}.mean_shift_{name}"] = float(shift[:, where].mean().sqrt())
            metrics[f"members{size}.sd_ratio_{name}"] = float((spread / sd)[where].square().mean().sqrt())
    return metrics


def batch_against_loop(settings: Settings) -> dict[str, float]:
    """Seconds of `TIMED` networks: in one batch; by `Ensemble` one after another; in a loop of plain torch.

    Medians of `REPEATS` runs, after one that compiles, on the same rows with the same prior. `Ensemble` takes 10 % more
    steps, for its test of convergence, and adapts its steps; the loop takes plain steps of Adam.
    """
    torch.set_num_threads(1)
    train, _ = data_sets(settings)
    model, _ = network(train, settings.many_hidden)

    def batch(members: int, seed: int) -> None:
        infer(model, train.x, train.y, method=ensemble(settings, members), seed=seed)

    def one_by_one() -> None:
        for seed in range(TIMED):
            batch(1, seed)

    timed = {
        "batch": lambda: batch(TIMED, 0),
        "one_by_one": one_by_one,
        "plain_torch": lambda: plain_torch(train, settings, TIMED),
    }
    batch(TIMED, 0)
    batch(1, 0)
    runs: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(REPEATS):
        for name, call in timed.items():
            start = time.perf_counter()
            call()
            runs[name].append(time.perf_counter() - start)
    seconds = {name: float(np.median(values)) for name, values in runs.items()}
    return {f"seconds.{name}": value for name, value in seconds.items()} | {
        "batch_over_sequential": seconds["plain_torch"] / seconds["batch"],
        "batch_over_one_by_one": seconds["one_by_one"] / seconds["batch"],
    }


def plain_torch(train: Observations, settings: Settings, count: int) -> None:
    """The loop that a user would write: the same network and prior, with Adam, one network after another."""
    scale = Standardization.fit(train)
    x, y, noise = scale.x(train.x), scale.y(train.y), NOISE_OF_POINTS / float(scale.y_scale)
    widths = (1, *settings.many_hidden, 1)
    for seed in range(count):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.Tanh()]
        net = nn.Sequential(*layers[:-1])
        decays = [1 / width**2 for width in _prior_widths(widths)]
        optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
        for _ in range(settings.steps):
            optimiser.zero_grad()
            misfit = ((y - net(x)[:, 0]) / noise).square().sum()
            penalty: Any = sum(
                decay * weight.square().sum() for decay, weight in zip(decays, net.parameters(), strict=True)
            )
            (0.5 * (misfit + penalty)).backward()
            optimiser.step()
            schedule.step()


def _prior_widths(widths: tuple[int, ...]) -> list[float]:
    """Prior standard deviations of weights and biases, layer by layer."""
    found = []
    for number, fan_in in enumerate(widths[:-1], start=1):
        prior = PRIOR.get("output" if number == len(widths) - 1 else f"hidden{number}", PRIOR[""])
        found += [prior.scale / math.sqrt(fan_in), prior.scale]
    return found


def _write(path: Path, data: Observations, grid: Tensor, functions: Any, exact: Tensor, weights: Any) -> None:
    save_arrays(
        path,
        x=data.x[:, 0],
        y=data.y,
        grid=grid[:, 0],
        truth=data.oracle(grid).mean,  # type: ignore[misc]
        mean=exact.mean(0),
        sd=exact.std(0),
        **functions,
        **{f"weights_{name}": value for name, value in weights.items()},
    )
