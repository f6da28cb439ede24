"""Sources of predictive variance: noise, several right answers, or too little data.

    python examples/mixture_uncertainty.py --quick
    python examples/mixture_uncertainty.py               # the numbers in examples/results

Choi et al. 2018 (arXiv:1709.02249) interpret the variance between the components of a mixture density network as
epistemic uncertainty. In their three cases the first quadrant of the plane differs from the others. Two splits of the
variance are compared on them: theirs, from one set of weights (within and between components), and the split over the
draws of a posterior (noise, ambiguity, epistemic). The part that should be large in the first quadrant:

- "absence": no data there; the epistemic part.
- "noise": much noise there; the noise.
- "composition": two functions there; the ambiguity, which more data do not reduce.

Three tests of the split follow, on two branches with noise: with N rows the epistemic part is proportional to 1/N and
the others are constant; splitting each component in two changes nothing; outside the support the epistemic part grows.
The example writes figures and ``report.json``. An interrupted run is resumed when it is repeated.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pyro.distributions as dist
import torch
from _mdn import mean_and_error
from _mixture_uncertainty_figures import draw_figures
from _parts import compute_part, total_seconds
from _report import parser, write_report
from tqdm.auto import tqdm

from posterity.data import Observations, Standardization, quadrants
from posterity.data.quadrants import Case, in_first_quadrant
from posterity.inference import HMC, Ensemble, Posterior, PredictiveMixture, infer
from posterity.inference.diagnostics import uncertainty_split
from posterity.models import bayesian_mixture_density, mixture_density, mixture_head, priors
from posterity.models.parameters import map_parameters

TERMS = ("noise", "ambiguity", "epistemic")
SIDE = 61  # points of the maps along each input
AMBIGUITY, NOISE = 1.0, 0.1**2  # exact parts of the variance of the two branches
OFF = 3.0  # an input far outside the support (-1, 1) of the branches


@dataclass(frozen=True)
class Settings:
    """Everything that the numbers depend on."""

    rows: int = 1500
    hidden: tuple[int, ...] = (24, 24)
    components: int = 4
    decay: float = 0.5
    chains: int = 16
    steps: int = 2000
    warmup: int = 80
    draws: int = 40
    max_steps: int = 100
    branch_rows: tuple[int, ...] = (50, 200, 800, 3200)
    branch_hidden: tuple[int, ...] = (8,)
    branch_warmup: int = 150
    repeats: int = 3
    seed: int = 0


QUICK = Settings(
    rows=300,
    hidden=(12,),
    chains=4,
    steps=300,
    warmup=10,
    draws=10,
    max_steps=15,
    branch_rows=(50, 200),
    branch_warmup=20,
    repeats=2,
)


def branches(n: int, seed: int) -> Observations:
    """x ~ U(-1, 1); y is 1 or -1, with equal probability, plus noise of sd 0.1."""
    generator = torch.Generator().manual_seed(seed)
    x = 2 * torch.rand(n, 1, generator=generator) - 1
    sign = torch.where(torch.rand(n, generator=generator) < 0.5, 1.0, -1.0)
    return Observations(x, sign + NOISE**0.5 * torch.randn(n, generator=generator), name="branches")


def fit(
    data: Observations, settings: Settings, hidden: tuple[int, ...], components: int, warmup: int, seed: int
) -> tuple[Posterior, Posterior]:
    """Posterior modes, and draws of HMC with chains started at these modes."""
    scale = Standardization.fit(data)
    head = mixture_head(components, floor=0.01 / float(scale.y_scale), ceiling=1.0)
    common = {"head": head, "hidden": hidden}
    point_model = mixture_density(scale, decay=settings.decay, **common)
    bayesian_model = bayesian_mixture_density(
        scale, prior=priors.Normal(scale=settings.decay**-0.5, fan_in=False), **common
    )
    modes = infer(
        point_model, data.x, data.y, method=Ensemble(members=settings.chains, steps=settings.steps), seed=seed
    )
    sampler = HMC(
        chains=settings.chains, warmup=warmup, draws=settings.draws, max_steps=settings.max_steps, init=modes,
        target_accept=0.9, threads=1,
    )  # fmt: skip
    return modes, infer(bayesian_model, data.x, data.y, method=sampler, seed=seed)


def one_case(case: Case, settings: Settings, out: Path) -> dict[str, float]:
    """Each part averaged over the first quadrant, and over the others; stores the maps for the figure."""
    data = quadrants(settings.rows, case, seed=1000 * settings.seed)
    modes, posterior = fit(data, settings, settings.hidden, settings.components, settings.warmup, settings.seed)
    axis = torch.linspace(-6.0, 6.0, SIDE)
    grid = torch.cartesian_prod(axis, axis)
    split = uncertainty_split(posterior.predictive(grid, draws=min(320, settings.chains * settings.draws)))
    first = in_first_quadrant(grid).numpy()
    single = modes.likelihood(grid)[0]
    maps = {name: split[name].values for name in TERMS} | {
        "between": single.between_component.double().numpy(),
        "within": single.within_component.double().numpy(),
    }
    np.savez(out / f"{case}.npz", x=data.x.numpy(), **maps)
    metrics = {}
    for name, values in maps.items():
        metrics |= {f"{name}.first": values[first].mean(), f"{name}.elsewhere": values[~first].mean()}
    oracle = quadrants(2, case, seed=0).oracle(grid[first])  # type: ignore[misc]
    metrics["true_noise"] = float(oracle.component_distribution.variance[:, 0].mean())
    metrics["true_ambiguity"] = float(oracle.variance.mean()) - metrics["true_noise"]
    return metrics


def branch_split(n: int, repeat: int, settings: Settings) -> dict[str, float]:
    """The split inside and outside the support of the branches, and its change if components are split in two."""
    data = branches(n, 10_000 * settings.seed + repeat)
    _, posterior = fit(data, settings, settings.branch_hidden, 3, settings.branch_warmup, repeat)
    inside = posterior.predictive(torch.linspace(-0.9, 0.9, 41)[:, None])
    split, off = uncertainty_split(inside), uncertainty_split(posterior.predictive(torch.tensor([[-OFF], [OFF]])))
    halves = uncertainty_split(halved(inside))
    changes = [float(abs(halves[name] - split[name]).max() / split.total.max()) for name in (*TERMS, "total")]
    return {
        **{name: float(split[name].mean()) for name in TERMS},
        **{f"off.{name}": float(off[name].mean()) for name in TERMS},
        "halved": max(changes),
    }


def halved(predictive: PredictiveMixture) -> PredictiveMixture:
    """The same predictive distribution, with each component replaced by two equal ones of half its weight."""
    draws, count = predictive.num_draws, predictive.components_per_draw
    index = torch.arange(draws * count).repeat_interleave(2)
    components = map_parameters(predictive.component_distribution, lambda t: t[:, index])
    return PredictiveMixture(dist.Categorical(logits=predictive.log_weights[:, index]), components, draws)


def collect(results: dict[str, list[dict[str, float]]], settings: Settings) -> dict[str, float]:
    """Metrics under the keys of the report."""
    metrics = {f"{case}.{key}": value for case in get_args(Case) for key, value in results[case][0].items()}
    for n in settings.branch_rows:
        for name in (*TERMS, *(f"off.{name}" for name in TERMS)):
            metrics |= mean_and_error(f"branches.{name}.n{n}", [run[name] for run in results[f"branches{n}"]])
    epistemic = [metrics[f"branches.epistemic.n{n}"] for n in settings.branch_rows]
    slope = np.polyfit(np.log(settings.branch_rows), np.log(epistemic), 1)[0]
    largest = settings.branch_rows[-1]
    return metrics | {
        "branches.epistemic_slope": float(slope),
        "branches.halved_change": max(run["halved"] for n in settings.branch_rows for run in results[f"branches{n}"]),
        "branches.true_ambiguity": AMBIGUITY,
        "branches.true_noise": NOISE,
        **{
            f"branches.off_over_inside.{name}": metrics[f"branches.off.{name}.n{largest}"]
            / metrics[f"branches.{name}.n{largest}"]
            for name in TERMS
        },
    }


def main() -> None:
    arguments = parser(__doc__, "mixture_uncertainty").parse_args()
    settings = replace(QUICK if arguments.quick else Settings(), seed=arguments.seed)
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    tasks = {case: (lambda repeat, case=case: one_case(case, settings, out)) for case in get_args(Case)}
    tasks |= {f"branches{n}": (lambda repeat, n=n: branch_split(n, repeat, settings)) for n in settings.branch_rows}
    steps = [(name, repeat) for name in tasks for repeat in range(1 if name in get_args(Case) else settings.repeats)]
    results: dict[str, list[dict[str, float]]] = {name: [] for name in tasks}
    for name, repeat in tqdm(steps, desc="mixture uncertainty"):
        numbers = compute_part(out, f"{name}-{repeat}", (name, repeat, settings), lambda n=name, r=repeat: tasks[n](r))
        results[name].append(numbers)
    metrics = collect(results, settings)
    for name, value in sorted(metrics.items()):
        print(f"{name:42s} {value:10.4f}")
    draw_figures(out, metrics, settings)
    seconds = total_seconds()
    write_report(out, "mixture_uncertainty", metrics, seed=arguments.seed, quick=arguments.quick, wall_seconds=seconds)


if __name__ == "__main__":
    sys.exit(main())
