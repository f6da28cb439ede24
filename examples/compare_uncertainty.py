"""Which model's uncertainty to believe? Five models, judged on data they have not seen.

    python examples/compare_uncertainty.py --data mcycle geyser --quick
    python examples/compare_uncertainty.py --data my.csv --x dose weight --y response
    python examples/compare_uncertainty.py                     # everything, cross-validated: the numbers kept

On each data set it fits

- ``map``           a Gaussian network with noise as an output, at its mode (one set of weights);
- ``bnn_homo``      a Bayesian network by NUTS, one noise for all x;
- ``bnn_hetero``    a Bayesian network by NUTS, noise as an output;
- ``mdn``           a mixture density network, at its mode;
- ``bayesian_mdn``  a mixture density network with a posterior of the weights, by SVI;

scores each on held-out rows (cross-validation; fresh points for the simulated ``inverse``), and writes figures, one
netCDF file for each fit and ``report.json``. A run that was interrupted goes on where it was when it is repeated.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from _compare_figures import draw_figures
from _conjugate import conjugate_metrics
from _report import parser, write_report
from tqdm.auto import tqdm

from posterity.data import (
    Observations,
    Standardization,
    cross_validation,
    geyser,
    inverse_sine,
    mcycle,
    read_csv,
)
from posterity.inference import NUTS, SVI, Posterior, PredictiveMixture, infer
from posterity.inference import arviz as arviz_io
from posterity.inference.diagnostics import (
    coverage,
    function_convergence,
    paired_difference,
    pit,
    pit_uniformity,
    pull_summary,
    pulls,
    region_level,
    score_summary,
    scores,
    split_shares,
    uncertainty_split,
)
from posterity.models import Pair, bayesian_mixture_density, bayesian_regression, mixture_density

FOLDS = 5
TEST_POINTS = 10_000  # fresh points for a simulated problem
ROWS = 1_000  # test rows at a time
PREDICTIVE_DRAWS = 400  # of the posterior, for the diagnostics: their error is far below the test set's
GAUSSIANS = ("map", "bnn_homo", "bnn_hetero")


@dataclass(frozen=True)
class Problem:
    """A data set with what a person knows about it: how finely y was recorded, and in which units."""

    data: Observations
    resolution: float
    xlabel: str
    ylabel: str
    components: int = 3
    hidden: tuple[int, ...] = (16,)


def load(name: str, args: argparse.Namespace) -> Problem:
    """A problem by name, or a user's table."""
    if name == "mcycle":
        # Readings are multiples of 1.34 g: rounding to a step d has the standard deviation d/sqrt(12).
        return Problem(mcycle(), 1.34 / np.sqrt(12), "time after impact (ms)", "head acceleration (g)")
    if name == "geyser":
        return Problem(geyser(), 1 / 60, "waiting time (min)", "eruption lasts (min)")  # timed to a second
    if name == "inverse":
        data = inverse_sine(1000 if args.quick else 3000, seed=args.seed)
        return Problem(data, 0.01, "x", "y", components=10, hidden=(32, 32))
    if not args.x or not args.y:
        raise SystemExit(f"expected mcycle, geyser, inverse, or a CSV file with --x and --y, got {name!r}")
    data = read_csv(name, x=args.x, y=args.y)
    resolution = float(data.y.std()) / 100 if args.resolution is None else args.resolution
    return Problem(data, resolution, ", ".join(args.x), args.y)


def recipe(model: str, problem: Problem, scale: Standardization, quick: bool) -> tuple[Pair, Any]:
    """The ready pair and the method of inference."""
    common: dict[str, Any] = {"hidden": problem.hidden, "resolution": problem.resolution}
    steps = 1500 if quick else 4000
    nuts = NUTS(
        draws=100 if quick else 400,
        warmup=150 if quick else 400,
        chains=2,
        max_tree_depth=5 if quick else 7,
        progress=False,
    )
    match model:
        case "map":
            return bayesian_regression(scale, **common), SVI(guide="map", steps=steps, progress=False)
        case "bnn_homo":
            return bayesian_regression(scale, noise="constant", **common), nuts
        case "bnn_hetero":
            return bayesian_regression(scale, **common), nuts
        case "mdn":
            pair = mixture_density(scale, components=problem.components, decay=0.3, **common)
            return pair, SVI(steps=steps, progress=False)
        case "bayesian_mdn":
            # The bound prices every weight: fewer units give a higher one, on training data, than sixteen do.
            common["hidden"] = tuple(max(8, width // 2) for width in problem.hidden)
            pair = bayesian_mixture_density(scale, components=problem.components, guide="mean_field", **common)
            return pair, SVI(steps=steps, learning_rate=0.03, init_scale=0.02, progress=False)
    raise ValueError(f"unknown model {model!r}")


MODELS = ("map", "bnn_homo", "bnn_hetero", "mdn", "bayesian_mdn")


@dataclass(frozen=True)
class Job:
    """One fit: which model, on which part of which data."""

    problem_name: str
    problem: Problem
    model: str
    fold: int
    train: Observations
    test: Observations
    test_index: np.ndarray
    out: Path
    seed: int
    quick: bool

    @property
    def path(self) -> Path:
        return self.out / "fits" / f"{self.problem_name}-{self.model}-{self.fold}.nc"

    @property
    def posterior_path(self) -> Path:
        return self.path.with_suffix(".posterior")

    def pair(self) -> tuple[Pair, Any]:
        return recipe(self.model, self.problem, Standardization.fit(self.train), self.quick)


def run_job(job: Job) -> Path:
    """Fit, predict the held-out rows, and write what every figure and number is made of."""
    torch.set_num_threads(1)  # a process of its own: two threads on small tensors only wait for each other
    pair, method = job.pair()
    posterior = infer(pair, job.train.x, job.train.y, method=method, seed=job.seed + job.fold)
    rows = evaluate(posterior, job.test)
    rows = rows.assign_coords(obs=job.test_index)
    rows.attrs = {
        "seconds": posterior.attrs["seconds"],
        "smallest_scale": smallest_scale(posterior, job.test),
        **convergence(posterior, job.test.x[:200]),
    }
    if job.fold == 0:
        posterior.save(job.posterior_path)
        data = posterior.to_arviz(job.train.x, job.train.y, predict=job.test.x[:ROWS], seed=job.seed)
        arviz_io.save(data, job.path.with_suffix(".arviz.nc"))
    temporary = job.path.with_suffix(".part")
    rows.to_netcdf(temporary, engine="h5netcdf")
    temporary.replace(job.path)
    return job.path


def evaluate(posterior: Posterior, test: Observations) -> xr.Dataset:
    """All diagnostics of every held-out row."""
    parts = []
    for start in range(0, len(test), ROWS):
        some = test.subset(slice(start, start + ROWS))
        predictive = predict(posterior, some)
        level = region_level(predictive, some.y, kind="highest_density")["level"]
        parts.append(
            xr.merge(
                [
                    scores(predictive, some.y),
                    pit(predictive, some.y),
                    pulls(predictive, some.y),
                    uncertainty_split(predictive),
                    xr.Dataset({"level": level}),
                ],
                combine_attrs="drop",
            )
        )
    return xr.concat(parts, "obs", data_vars="all")


def predict(posterior: Posterior, test: Observations) -> PredictiveMixture:
    total = posterior.num_chains * posterior.num_draws
    return posterior.predictive(test.x, draws=min(total, PREDICTIVE_DRAWS))


def smallest_scale(posterior: Posterior, test: Observations) -> float:
    predictive = predict(posterior, test.subset(slice(0, ROWS)))
    return float(predictive.component_distribution.stddev.min())


def convergence(posterior: Posterior, x: torch.Tensor) -> dict[str, float]:
    """Do the chains agree on the functions they predict, and did the sampler diverge?"""
    if not posterior.sample_stats:
        return {}
    functions = function_convergence(posterior.function_draws(x))
    return {
        "rhat_max": float(functions["rhat"].max()),
        "ess_min": float(functions["ess_bulk"].min()),
        "divergences": float(posterior.sample_stats["diverging"].sum()),
    }


def make_jobs(name: str, args: argparse.Namespace) -> list[Job]:
    problem = load(name, args)
    label = name if name in ("mcycle", "geyser", "inverse") else Path(name).stem
    label = {"inverse": "inverse_sine"}.get(label, label)
    if problem.data.oracle is not None:
        fresh = inverse_sine(2000 if args.quick else TEST_POINTS, seed=args.seed + 1)
        splits = [(problem.data, fresh, np.arange(len(fresh)))]
    else:
        indexed = Observations(problem.data.x, torch.arange(len(problem.data)).float())
        order = [test.y.long().numpy() for _, test in cross_validation(indexed, FOLDS, args.seed)]
        parts = cross_validation(problem.data, FOLDS, args.seed)
        splits = [(train, test, index) for (train, test), index in zip(parts, order, strict=True)]
        splits = splits[:1] if args.quick else splits
    return [
        Job(label, problem, model, fold, train, test, index, args.out, args.seed, args.quick)
        for fold, (train, test, index) in enumerate(splits)
        for model in MODELS
    ]


def run_jobs(jobs: Sequence[Job], workers: int) -> None:
    """All fits that are not there yet; one interrupted or failed leaves the others' files."""
    (jobs[0].out / "fits").mkdir(parents=True, exist_ok=True)
    todo = [job for job in jobs if not job.path.exists()]
    # Samplers take longest: first in, so that no core waits for one at the end.
    todo.sort(key=lambda job: not job.model.startswith("bnn"))
    bar = tqdm(total=len(todo), desc="fits", disable=not todo)
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = {pool.submit(run_job, job): job for job in todo}
        try:
            for future in as_completed(futures):
                future.result()
                bar.set_postfix_str(futures[future].path.stem)
                bar.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def collect(jobs: Sequence[Job]) -> xr.Dataset:
    """The held-out rows of all folds of one model, in the order of the table."""
    parts = [xr.load_dataset(job.path, engine="h5netcdf") for job in jobs]
    merged = xr.concat([part.drop_attrs() for part in parts], "obs", data_vars="all").sortby("obs")
    attrs = [part.attrs for part in parts]
    merged.attrs = {"seconds": sum(a["seconds"] for a in attrs)}
    merged.attrs["smallest_scale"] = min(a["smallest_scale"] for a in attrs)
    for key, worst in (("rhat_max", max), ("ess_min", min), ("divergences", sum)):
        if key in attrs[0]:
            merged.attrs[key] = worst(a[key] for a in attrs)
    return merged


def model_metrics(rows: xr.Dataset) -> dict[str, float]:
    """The numbers of one model on one data set."""
    skill, pull = score_summary(rows), pull_summary(rows)
    regions = coverage(rows, levels=[0.5, 0.9])
    found = {
        "elpd": skill["log_score"],
        "elpd_se": skill["log_score_se"],
        "crps": skill["crps"],
        "crps_se": skill["crps_se"],
        "pull_mean": pull["mean"],
        "pull_mean_se": pull["mean_se"],
        "pull_width": pull["width"],
        "pull_width_se": pull["width_se"],
        "coverage50": regions["coverage"].sel(level=0.5),
        "coverage90": regions["coverage"].sel(level=0.9),
        "pit_p": pit_uniformity(rows)["p_value"],
        **{name: value for name, value in split_shares(rows).data_vars.items()},
    }
    return {name: float(value) for name, value in found.items()} | {k: float(v) for k, v in rows.attrs.items()}


def difference(a: xr.Dataset, b: xr.Dataset) -> dict[str, float]:
    result = paired_difference(a, b)
    return {"elpd": float(result["log_score"]), "elpd_se": float(result["log_score_se"])}


def compare(name: str, rows: dict[str, xr.Dataset], jobs: Sequence[Job]) -> dict[str, float]:
    """Every metric of one data set, flat."""
    metrics = {f"{model}.{key}": value for model, table in rows.items() for key, value in model_metrics(table).items()}
    elpd = {model: metrics[f"{model}.elpd"] for model in rows}
    best, gaussian = max(elpd, key=lambda m: elpd[m]), max(GAUSSIANS, key=lambda m: elpd[m])
    named = {
        "hetero_minus_homo": difference(rows["bnn_hetero"], rows["bnn_homo"]),
        "mdn_minus_best_gaussian": difference(rows["mdn"], rows[gaussian]),
        "best": {key: metrics[f"{best}.{key}"] for key in ("elpd", "pull_width", "pull_width_se")},
    }
    metrics |= {f"{label}.{key}": value for label, values in named.items() for key, value in values.items()}
    test = jobs[0].test
    if test.oracle is not None:
        oracle = test.oracle_log_prob().double()
        metrics["oracle.nll"] = -float(oracle.mean())
        metrics |= {f"{model}.nll": -elpd[model] for model in rows} | {"bnn.nll": -elpd["bnn_hetero"]}
        above = oracle.numpy() - rows["mdn"]["log_score"].values
        metrics["mdn.nll_above_oracle"] = float(above.mean())
        metrics["mdn.nll_above_oracle_se"] = float(above.std(ddof=1) / np.sqrt(len(above)))
    return {f"{name}.{key}": value for key, value in metrics.items()}


def print_table(name: str, metrics: dict[str, float], resolution: float) -> None:
    def get(model: str, key: str) -> float:
        return metrics[f"{name}.{model}.{key}"]

    print(f"\n{name}: held-out scores (elpd in nats per point, higher is better; CRPS in units of y, lower is better)")
    print(f"{'model':13} {'elpd':>14} {'CRPS':>8} {'pull width':>13} {'in 90%':>7} {'noise':>6} {'ambig.':>6} {'epist.':>6} {'s':>6}")
    order = sorted(MODELS, key=lambda model: -get(model, "elpd"))
    for model in order:
        score = f"{get(model, 'elpd'):.3f} ± {get(model, 'elpd_se'):.3f}"
        pull = f"{get(model, 'pull_width'):.2f} ± {get(model, 'pull_width_se'):.2f}"
        shares = " ".join(f"{get(model, key):6.2f}" for key in ("noise", "ambiguity", "epistemic"))
        print(
            f"{model:13} {score:>14} {get(model, 'crps'):8.3f} {pull:>13} {get(model, 'coverage90'):7.2f} "
            f"{shares} {get(model, 'seconds'):6.0f}"
        )
    print(f"believe {order[0]!r} here; no scale is below {min(get(m, 'smallest_scale') for m in MODELS):.3g}"
          f" (resolution {resolution:.3g})")


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__, "compare_uncertainty")
    options.add_argument("--data", nargs="+", default=["mcycle", "geyser", "inverse", "conjugate"])
    options.add_argument("--x", nargs="+", help="columns of x in a CSV file")
    options.add_argument("--y", help="column of y in a CSV file")
    options.add_argument("--resolution", type=float, help="how finely y was recorded, in its units")
    options.add_argument("--jobs", type=int, default=2, help="fits side by side, each in a process")
    args = options.parse_args(argv)
    start = time.perf_counter()
    by_problem = {}
    try:
        for name in args.data:
            if name != "conjugate":
                jobs = make_jobs(name, args)
                by_problem[jobs[0].problem_name] = jobs
    except (ValueError, OSError) as error:
        options.error(str(error))
    all_jobs = [job for jobs in by_problem.values() for job in jobs]
    if all_jobs:
        run_jobs(all_jobs, args.jobs)
    metrics: dict[str, float] = {}
    for name, jobs in by_problem.items():
        rows = {model: collect([job for job in jobs if job.model == model]) for model in MODELS}
        found = compare(name, rows, jobs)
        metrics |= found
        print_table(name, found, jobs[0].problem.resolution)
        draw_figures(name, [job for job in jobs if job.fold == 0], rows, args.out)
    if "conjugate" in args.data:
        metrics |= conjugate_metrics(args.seed, args.quick)
    args.out.mkdir(parents=True, exist_ok=True)
    report = write_report(
        args.out, "compare_uncertainty", metrics, seed=args.seed, quick=args.quick,
        wall_seconds=time.perf_counter() - start,
    )
    print(f"\nfigures: {', '.join(str(path) for path in sorted(args.out.glob('*.png')))}\nnumbers: {report}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
