"""An inverse problem with up to five right answers: mixture density networks compared with the best possible score.

    python examples/inverse_sine.py --quick
    python examples/inverse_sine.py                      # the numbers in examples/results
    python examples/inverse_sine.py --only large         # some parts; another process can compute the others

With y ~ U(-10.5, 10.5) and x = 7 sin(0.75 y) + 0.5 y + N(0, 1), y is predicted from x. The exact p(y|x) is known and is
scored on the same points; the difference of the scores is the Kullback-Leibler divergence, in nats per point. Compared
are

- mixture density networks at the posterior mode: the best one in training, and an ensemble of all;
- an ensemble of networks with two different activations;
- a Bayesian mixture density network by HMC, with each chain started at one of these modes;
- one network and an ensemble of four from 100,000 rows;
- the Bayesian network and maximum likelihood from 100 rows, where one set of weights is not enough;
- the split of the variance for different numbers of rows.

The numbers are means over ``--repeats`` data sets with as many sets of fresh test points, and standard errors over data
sets. The example writes figures and ``report.json``. An interrupted run is resumed when it is repeated; after a change
of the code, use another ``--out``.
"""

import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _inverse_sine_figures import draw_figures
from _mdn import bonferroni, excess, log_scores, mean_and_error
from _parts import compute_part, total_seconds
from _report import parser, write_report
from tqdm.auto import tqdm

from posterity.data import Observations, Standardization, inverse_sine
from posterity.inference import HMC, Ensemble, Posterior, infer
from posterity.inference.diagnostics import function_convergence, pit, uncertainty_split, uniformity_test
from posterity.models import MixtureHead, Pair, bayesian_mixture_density, mixture_density, mixture_head, priors, radial

COMPONENTS = 10
RESOLUTION = 0.01  # smallest scale of a component in units of y, far below the narrowest branch
REGION_ROWS = 20_000  # rows with highest-density regions
SPLIT_ROWS = 5_000
SCORES = {
    "mode_nll_excess": "one",  # the network with the smallest training loss
    "any_nll_excess": "any",  # the mean over all networks
    "ensemble_nll_excess": "ensemble",
    "bayes_nll_excess": "bayes",
}
GRID = torch.linspace(-12.0, 12.0, 241)[:, None]


@dataclass(frozen=True)
class Settings:
    """Everything that the numbers depend on."""

    hidden: tuple[int, ...] = (24, 24)
    decay: float = 0.7
    chains: int = 16  # also networks in an ensemble
    steps: int = 3000
    warmup: int = 100
    draws: int = 120
    max_steps: int = 100
    scored: int = 640  # draws in the predictive distribution
    rows: tuple[int, ...] = (100, 300, 1000, 3000)
    single_hidden: tuple[int, ...] = (64,)
    single_decay: float = 0.3
    single_members: int = 5
    single_steps: int = 4000
    varied: tuple[tuple[str, float], ...] = (("tanh", 0.4), ("silu", 0.7))  # activation, decay
    varied_members: int = 24  # for each activation
    varied_steps: int = 3000
    large: int = 100_000
    centres: int = 26
    large_members: int = 4
    large_decay: float = 0.03
    large_steps: int = 6000
    batch_size: int = 2000
    test: int = 100_000
    repeats: int = 5
    seed: int = 0


QUICK = Settings(
    hidden=(12,),
    chains=4,
    steps=200,
    warmup=10,
    draws=10,
    max_steps=15,
    scored=40,
    rows=(100, 300),
    single_hidden=(12,),
    single_members=2,
    single_steps=200,
    varied_members=2,
    varied_steps=200,
    large=3_000,
    large_members=2,
    large_steps=200,
    test=1_000,
    repeats=2,
)


def head(data: Observations) -> MixtureHead:
    """A head with widths of components between the resolution and the spread of y."""
    scale = float(Standardization.fit(data).y_scale)
    return mixture_head(COMPONENTS, floor=RESOLUTION / scale, ceiling=1.0)


def point_pair(data: Observations, hidden: tuple[int, ...], decay: float, activation: str = "tanh") -> Pair:
    scale = Standardization.fit(data)
    return mixture_density(scale, head=head(data), hidden=hidden, decay=decay, activation=activation)


def bayesian_pair(data: Observations, settings: Settings) -> Pair:
    """A Bayesian model with normal weights of precision ``decay``, whose posterior mode is that of `point_pair`."""
    prior = priors.Normal(scale=settings.decay**-0.5, fan_in=False)
    return bayesian_mixture_density(Standardization.fit(data), head=head(data), hidden=settings.hidden, prior=prior)


def problem(n: int, settings: Settings, repeat: int) -> tuple[Observations, Observations]:
    """Training rows and test rows, with different seeds."""
    seed = 10 * settings.seed + repeat
    return inverse_sine(n, seed=seed), inverse_sine(settings.test, seed=500_000 + seed)


def single(settings: Settings, repeat: int) -> dict[str, float]:
    """One network, wider and less regularised than those of an ensemble: means over several starts."""
    data, test = problem(max(settings.rows), settings, repeat)
    method = Ensemble(members=settings.single_members, steps=settings.single_steps, learning_rate=0.01)
    pair = point_pair(data, settings.single_hidden, settings.single_decay)
    posterior = infer(pair, data.x, data.y, method=method, seed=repeat)
    scores = excess(log_scores(posterior, test, per_draw=True), test)
    return {"one": scores.mean(), **below_oracle(scores.mean(0))}


def varied(settings: Settings, repeat: int) -> dict[str, float]:
    """An ensemble of networks with two activations, whose errors differ."""
    data, test = problem(max(settings.rows), settings, repeat)
    method = Ensemble(members=settings.varied_members, steps=settings.varied_steps, learning_rate=0.007)
    parts = []
    for activation, decay in settings.varied:
        pair = point_pair(data, settings.hidden, decay, activation)
        parts.append(log_scores(infer(pair, data.x, data.y, method=method, seed=repeat), test, per_draw=True))
    scores = np.concatenate(parts)
    behind = excess(np.logaddexp.reduce(scores, 0) - np.log(len(scores)), test)
    return {"ensemble": behind.mean(), **below_oracle(behind)}


def large(settings: Settings, repeat: int) -> dict[str, float]:
    """Linear layers over radial basis functions of x; scores, coverage and PIT."""
    data, test = problem(settings.large, settings, repeat)
    method = Ensemble(
        members=settings.large_members,
        steps=settings.large_steps,
        batch_size=settings.batch_size,
        learning_rate=0.03,
    )
    scale, outputs = Standardization.fit(data), head(data)
    net = radial(scale.x(data.x), settings.centres, outputs.features, width=1.2, seed=repeat)
    pair = mixture_density(scale, head=outputs, net=net, decay=settings.large_decay)
    posterior = infer(pair, data.x, data.y, method=method, seed=repeat)
    behind = excess(log_scores(posterior, test), test)
    some = test.subset(slice(0, REGION_ROWS))
    predictive, one = posterior.predictive(some.x), posterior.likelihood(some.x)[0]
    ensemble_levels, one_levels = predictive.hdr_level(some.y), one.hdr_level(some.y)
    inside = {
        f"{name}coverage{level}": float((levels <= level / 100).double().mean())
        for name, levels in (("", ensemble_levels), ("one_", one_levels))
        for level in (50, 90)
    }
    return {
        "ensemble": behind.mean(),
        "one": excess(log_scores(posterior, test, per_draw=True), test).mean(),
        **below_oracle(behind),
        **inside,
        "pit_p": float(uniformity_test(pit(predictive, some.y)).p_value),
    }


def bayesian(n: int, settings: Settings, repeat: int, path: Path | None = None) -> dict[str, float]:
    """Networks at the posterior mode, and HMC with chains started there, all scored on the same points."""
    data, test = problem(n, settings, repeat)
    modes = starts(data, settings, repeat)
    sampler = HMC(
        chains=settings.chains, warmup=settings.warmup, draws=settings.draws, init=modes, target_accept=0.9,
        max_steps=settings.max_steps, threads=1,
    )  # fmt: skip
    posterior = infer(bayesian_pair(data, settings), data.x, data.y, method=sampler, seed=repeat)
    if path is not None:
        posterior.save(path)
    draws = settings.scored
    bayes, ensemble = log_scores(posterior, test, draws=draws), log_scores(modes, test)
    single = log_scores(modes, test, per_draw=True)
    chosen = int(modes.history["loss"][-1].argmin())  # the network with the smallest training loss
    split = uncertainty_split(posterior.predictive(test.x[:SPLIT_ROWS], draws=draws))
    converged = function_convergence(posterior.function_draws(GRID))
    return {
        "bayes": excess(bayes, test).mean(),
        **below_oracle(excess(bayes, test)),
        "ensemble": excess(ensemble, test).mean(),
        "one": excess(single[chosen], test).mean(),
        "any": excess(single, test).mean(),
        "minus_map": (bayes - single[chosen]).mean(),
        **{name: float(split[name].mean()) for name in ("noise", "ambiguity", "epistemic")},
        "rhat_mean": float(converged.rhat.max()),
        "divergent": float(posterior.sample_stats["diverging"].double().mean()),
        "steps_per_draw": float(posterior.sample_stats["n_steps"].double().mean()),
        **(minus_maximum_likelihood(bayes, data, test, settings, repeat) if n == min(settings.rows) else {}),
    }


def minus_maximum_likelihood(
    scores: np.ndarray, data: Observations, test: Observations, settings: Settings, repeat: int
) -> dict[str, float]:
    """Mean difference of log scores from those of the same network at maximum likelihood.

    That network is stopped early on a held-out fifth of the rows, which also select the best of several starts.
    """
    method = Ensemble(members=settings.chains, steps=settings.steps, holdout=0.2, keep=1, check_every=25)
    plain = infer(point_pair(data, settings.hidden, 0.0), data.x, data.y, method=method, seed=repeat)
    difference = scores - log_scores(plain, test)
    return {"minus_ml": difference.mean(), "points_se": difference.std(ddof=1) / np.sqrt(len(test))}


def starts(data: Observations, settings: Settings, repeat: int) -> Posterior:
    """Posterior modes, one for each chain: an ensemble."""
    method = Ensemble(members=settings.chains, steps=settings.steps, learning_rate=0.007)
    return infer(point_pair(data, settings.hidden, settings.decay), data.x, data.y, method=method, seed=repeat)


def below_oracle(behind: np.ndarray) -> dict[str, float]:
    """Standard errors by which the mean score exceeds the exact one; more than three would show a leak of test data."""
    return {"below_oracle_z": -behind.mean() / (behind.std(ddof=1) / np.sqrt(behind.size))}


def collect(results: dict[str, list[dict[str, float]]], settings: Settings) -> dict[str, float]:
    """Means over data sets and their standard errors, under the keys of the report."""
    few, many = min(settings.rows), max(settings.rows)
    sources = {f"n{n}.{key}": (f"n{n}", short) for n in settings.rows for key, short in SCORES.items()}
    sources |= {f"{term}.n{n}": (f"n{n}", term) for n in settings.rows for term in ("noise", "ambiguity", "epistemic")}
    sources |= {
        f"bayes_minus_ml_n{few}.elpd": (f"n{few}", "minus_ml"),
        f"bayes_minus_map_n{few}.elpd": (f"n{few}", "minus_map"),
        f"bayes_minus_map_n{many}.elpd": (f"n{many}", "minus_map"),
        f"n{many}.nll_excess": ("single", "one"),
        f"n{many}.varied_ensemble_nll_excess": ("varied", "ensemble"),
        "n100000.nll_excess": ("large", "one"),
        "n100000.ensemble_nll_excess": ("large", "ensemble"),
        **{f"n100000.coverage{level}": ("large", f"one_coverage{level}") for level in (50, 90)},
        **{f"n100000.ensemble_coverage{level}": ("large", f"coverage{level}") for level in (50, 90)},
    }
    metrics: dict[str, float] = {}
    for name, (task, key) in sources.items():
        metrics |= mean_and_error(name, [numbers[key] for numbers in results.get(task, [])])
    if "large" in results:
        metrics["n100000.ensemble_pit_p"] = bonferroni([numbers["pit_p"] for numbers in results["large"]])
    for task, runs in results.items():
        for key in ("below_oracle_z", "rhat_mean", "divergent", "points_se"):
            if runs and key in runs[0]:
                metrics[f"{task}.{key}_max"] = max(numbers[key] for numbers in runs)
    return metrics


def relevant_settings(name: str, settings: Settings) -> dict[str, Any]:
    """The settings that the numbers of a task depend on."""
    prefixes = {
        "single": ("single", "rows"),
        "varied": ("varied", "rows", "hidden"),
        "large": ("large", "batch_size", "centres"),
    }
    values = asdict(settings)
    if name in prefixes:
        return {key: value for key, value in values.items() if key.startswith((*prefixes[name], "test", "seed"))}
    others = ("single", "varied", "large", "batch_size", "centres", "repeats")
    return {key: value for key, value in values.items() if not key.startswith(others)}


def main() -> None:
    options = parser(__doc__, "inverse_sine")
    options.add_argument("--only", nargs="+", help="tasks to compute, by the beginning of their names")
    options.add_argument("--repeats", type=int, help="number of data sets")
    arguments = options.parse_args()
    settings = replace(QUICK if arguments.quick else Settings(), seed=arguments.seed)
    if arguments.repeats is not None:
        if arguments.repeats < 2:
            options.error(f"expected at least 2 repeats for a standard error, got {arguments.repeats}")
        settings = replace(settings, repeats=arguments.repeats)
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    tasks: dict[str, Any] = {
        **{
            f"n{n}": lambda repeat, n=n: bayesian(n, settings, repeat, out / f"n{n}.post" if not repeat else None)
            for n in settings.rows
        },
        "single": lambda repeat: single(settings, repeat),
        "varied": lambda repeat: varied(settings, repeat),
        "large": lambda repeat: large(settings, repeat),
    }
    if arguments.only:
        if unknown := [start for start in arguments.only if not any(name.startswith(start) for name in tasks)]:
            options.error(f"expected --only from the beginnings of {list(tasks)}, got {unknown}")
        tasks = {name: task for name, task in tasks.items() if name.startswith(tuple(arguments.only))}
    results: dict[str, list[dict[str, float]]] = {name: [] for name in tasks}
    steps = [(name, repeat) for repeat in range(settings.repeats) for name in tasks]
    for name, repeat in tqdm(steps, desc="inverse sine"):
        torch.manual_seed(repeat)
        key = (name, repeat, relevant_settings(name, settings))
        results[name].append(compute_part(out, f"{name}-{repeat}", key, lambda n=name, r=repeat: tasks[n](r)))
    metrics = collect(results, settings)
    for name, value in sorted(metrics.items()):
        print(f"{name:36s} {value:9.4f}")
    if not arguments.only:
        draw_figures(out, metrics, settings, bayesian_pair)
        write_report(
            out, "inverse_sine", metrics, seed=arguments.seed, quick=arguments.quick, wall_seconds=total_seconds()
        )


if __name__ == "__main__":
    sys.exit(main())
