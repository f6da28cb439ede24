"""The methods that are compared: each fits a data set and returns the predictions that come of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from _bnn.curves import Curve, mixture_network, network
from _bnn.exact import ExactPosterior
from _bnn.settings import Settings
from posterity.data import Observations
from posterity.inference import HMC, SVI, Ensemble, Posterior, PredictiveMixture, infer
from posterity.inference.diagnostics import function_convergence
from posterity.inference.laplace import laplace_evidence

FEW, MANY = 50, 200  # numbers of points
LINES = 20  # single networks in a figure
DRAWS = 500  # posterior draws in a prediction

TITLES = {
    "exact": "exact: Gaussian process",
    "hmc": "full posterior (HMC)",
    "svi": "variational (low rank)",
    "ensemble": "ensemble",
    "weighted": "ensemble, weighted by evidence",
    "map": "the most probable network",
    "mdn": "mixture network",
}
POINTS = ("map", "mdn")  # one network, without an epistemic part


@dataclass(frozen=True)
class Fit:
    """``predict`` maps x (N, 1) to a predictive distribution, ``lines`` to values (L, N) of single networks."""

    predict: Callable[[Tensor], Any]
    lines: Callable[[Tensor], Tensor]


def fit(
    method: str, curve: Curve, data: Observations, x: Tensor, settings: Settings, seed: int
) -> tuple[dict[str, Fit], dict[str, float]]:
    """The fits of a method by name, and numbers about them; convergence is judged at ``x``."""
    if method == "exact":
        exact = ExactPosterior(data)
        return {"exact": Fit(exact.predict, lambda at: exact.curves(at, LINES, seed))}, {}
    if method == "mdn":
        mixture = mixture_network(curve.scale(data), (settings.hidden,))
        best = Ensemble(members=4, keep=1, steps=settings.steps, behind="keep", threads=1, progress=False)
        return {"mdn": of_posterior(infer(mixture, data.x, data.y, method=best, seed=seed))}, {}
    model = network(curve.scale(data), (settings.hidden,))
    if method == "hmc":
        posterior = infer(model, data.x, data.y, method=sampler(settings, len(data)), seed=seed)
        return {"hmc": of_posterior(posterior)}, convergence(posterior, x)
    if method == "svi":
        variational = SVI(guide="low_rank", steps=settings.svi_steps, init="map", progress=False)
        posterior = infer(model, data.x, data.y, method=variational, seed=seed)
        return {"svi": of_posterior(posterior)}, {"arrived": float(not posterior.attrs["warnings"])}
    modes = Ensemble(members=settings.members, steps=settings.steps, behind="keep", threads=1, progress=False)
    posterior = infer(model, data.x, data.y, method=modes, seed=seed)
    evidence = laplace_evidence(posterior, data.x, data.y)
    log_evidence = torch.tensor(evidence["log_evidence"].values).nan_to_num(nan=-torch.inf)
    best_member = int(evidence["log_joint"].values.argmax())
    fits = {"ensemble": of_posterior(posterior), "map": one_member(posterior, best_member)}
    if bool(torch.isfinite(log_evidence).all()):  # otherwise the weights would depend on who was left out
        fits["weighted"] = weighted(posterior, log_evidence.log_softmax(0).float())
    return fits, {"at_mode": float(torch.isfinite(log_evidence).double().mean())}


def sampler(settings: Settings, points: int, **changes: Any) -> HMC:
    """HMC for this number of points: few points leave narrow regions of little noise, many give long trajectories."""
    length: dict[str, Any] = {"chains": settings.chains, "warmup": settings.warmup, "draws": settings.draws}
    if points <= FEW:
        length |= {"draws": 2 * settings.draws, "target_accept": 0.98}
    if points >= MANY:
        length |= {"draws": 8 * settings.draws, "target_ess": settings.target_ess, "max_steps": 250}
    return HMC(**(length | changes), threads=1, progress=False)


def convergence(posterior: Posterior, x: Tensor) -> dict[str, float]:
    """The worst R-hat and ESS of the function at ``x``, of the log density and of the noise; divergent transitions."""
    scalars = [posterior.sample_stats["lp"], *(v for name, v in posterior.draws.items() if name == "noise")]
    values = torch.cat([posterior.function_draws(x), *(value[..., None] for value in scalars)], -1)
    summary = function_convergence(values)
    return {
        "rhat": float(summary["rhat"].max()),
        "ess": float(summary["ess_bulk"].min()),
        "divergences": float(posterior.sample_stats["diverging"].sum()),
    }


def of_posterior(posterior: Posterior) -> Fit:
    def lines(x: Tensor) -> Tensor:
        return posterior.likelihood(x, draws=min(LINES, count)).mean

    count = posterior.num_chains * posterior.num_draws
    return Fit(lambda x: posterior.predictive(x, draws=min(DRAWS, count)), lines)


def one_member(posterior: Posterior, member: int) -> Fit:
    draws = {name: value[:, member : member + 1] for name, value in posterior.draws.items()}
    return of_posterior(Posterior(posterior.model, posterior.program, draws))


def weighted(posterior: Posterior, log_weights: Tensor) -> Fit:
    """The members with their weights; lines of those that have at least a hundredth."""

    def lines(x: Tensor) -> Tensor:
        return posterior.likelihood(x).mean[log_weights.exp() > 0.01][:LINES]

    return Fit(lambda x: PredictiveMixture.from_draws(posterior.likelihood(x), log_weights), lines)
