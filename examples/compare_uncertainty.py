"""Which model's uncertainty should you believe? Five models, compared on held-out data.

    python examples/compare_uncertainty.py --data mcycle geyser --quick
    python examples/compare_uncertainty.py --data my.csv --x dose weight --y response
    python examples/compare_uncertainty.py      # all data sets, cross-validated: the numbers in examples/results

The models on each data set:

- ``map``           Gaussian network with noise as an output, at the posterior mode (one set of weights).
- ``bnn_homo``      Bayesian network by HMC, with one noise for all x.
- ``bnn_hetero``    Bayesian network by HMC, with noise as an output.
- ``mdn``           mixture density network, at the posterior mode.
- ``bayesian_mdn``  mixture density network with a posterior of the weights, by SVI.

Each model is scored on held-out rows (cross-validation, or fresh points for the simulated ``inverse``). The example
writes figures, one netCDF file for each fit, and ``report.json``. An interrupted run is resumed when it is repeated;
after a change of the code, use another ``--out``.
"""

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from _compare_figures import draw_figures
from _compare_problems import MODELS, Problem, load_problem, recipe
from _conjugate import conjugate_metrics
from _report import earlier_seconds, finish, parser
from _workers import run_in_processes

from posterity.data import Observations, Standardization, cross_validation, inverse_sine
from posterity.inference import Posterior, PredictiveMixture, infer
from posterity.inference import arviz as arviz_io
from posterity.inference.diagnostics import (
    coverage,
    function_convergence,
    paired_difference,
    pit,
    pull_summary,
    pulls,
    region_level,
    score_summary,
    scores,
    split_shares,
    uncertainty_split,
    uniformity_test,
)
from posterity.models import Pair

FOLDS = 5
TEST_POINTS = 10_000  # fresh points for a simulated problem
ROWS = 1_000  # test rows in one prediction
PREDICTIVE_DRAWS = 400  # posterior draws for the diagnostics
GAUSSIANS = ("map", "bnn_homo", "bnn_hetero")
PARTS = {"mean": "for the mean", "scale": "for the scale", "lp": "for the density"}


@dataclass(frozen=True)
class Job:
    """One fit of a model to one fold of a data set."""

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
        """File of the results; its name has a hash of everything the fit depends on but the code."""
        _, method = self.pair()
        settings = (method, *[value for key, value in vars(self.problem).items() if key != "data"])
        digest = hashlib.sha256(repr((settings, self.seed, self.quick)).encode())
        for tensor in (self.train.x, self.train.y, self.test.x, self.test.y):
            digest.update(tensor.numpy().tobytes())
        return self.out / "fits" / f"{self.problem_name}-{self.model}-{self.fold}-{digest.hexdigest()[:8]}.nc"

    @property
    def posterior_path(self) -> Path:
        return self.path.with_suffix(".posterior")

    def pair(self) -> tuple[Pair, Any]:
        return recipe(self.model, self.problem, Standardization.fit(self.train), self.quick)


def run_job(job: Job) -> Path:
    """Fit, predict the held-out rows, and write the diagnostics that figures and metrics use."""
    torch.set_num_threads(1)  # on small tensors a second thread does not help
    pair, method = job.pair()
    if job.posterior_path.exists():
        posterior = Posterior.load(job.posterior_path, pair, job.train.x, job.train.y)
    else:
        posterior = infer(pair, job.train.x, job.train.y, method=method, seed=job.seed + job.fold)
        if posterior.attrs["interrupted"]:
            raise KeyboardInterrupt  # an incomplete fit must not be stored
        posterior.save(job.posterior_path)
    rows = evaluate(posterior, job.test)
    rows = rows.assign_coords(obs=job.test_index)
    rows.attrs = {
        "seconds": posterior.attrs["seconds"],
        "smallest_scale": smallest_scale(posterior, job.test),
        **convergence(posterior, job.test.x[:200]),
    }
    if job.fold == 0:
        data = posterior.to_arviz(job.train.x, job.train.y, predict=job.test.x[:ROWS], seed=job.seed)
        arviz_io.save(data, job.path.with_suffix(".arviz.nc"))
    temporary = job.path.with_suffix(".part")
    rows.to_netcdf(temporary, engine="h5netcdf")
    temporary.replace(job.path)
    return job.path


def evaluate(posterior: Posterior, test: Observations) -> xr.Dataset:
    """All diagnostics of each held-out row."""
    few = len(test) <= ROWS
    parts = []
    for start in range(0, len(test), ROWS):
        some = test.subset(slice(start, start + ROWS))
        # To bound the time, thousands of rows get 100 draws, which shift the mean score by about 0.001.
        predictive = predict(posterior, some, PREDICTIVE_DRAWS if few else PREDICTIVE_DRAWS // 4)
        level = region_level(predictive, some.y, kind="hdi", draws=999 if few else 199, seed=start)["level"]
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


def predict(posterior: Posterior, test: Observations, draws: int) -> PredictiveMixture:
    return posterior.predictive(test.x, draws=min(draws, posterior.num_chains * posterior.num_draws))


def smallest_scale(posterior: Posterior, test: Observations) -> float:
    predictive = predict(posterior, test.subset(slice(0, ROWS)), PREDICTIVE_DRAWS)
    return float(predictive.component_distribution.stddev.min())


def convergence(posterior: Posterior, x: torch.Tensor) -> dict[str, float]:
    """R-hat and ESS of mean and scale over all x and of the density, and counts of the sampler."""
    stats = posterior.sample_stats
    if not stats:
        return {}
    shape = (posterior.num_chains, posterior.num_draws)
    likelihood = posterior.likelihood(x)
    scale = likelihood.stddev.expand(likelihood.batch_shape).log()
    parts = {
        "mean": likelihood.mean.unflatten(0, shape),
        "scale": scale.unflatten(0, shape),
        "lp": stats["lp"][..., None],
    }
    results: dict[str, float] = {}
    for name, values in parts.items():
        # Equal noise for all x counts once.
        summary = function_convergence(
            values[..., :1] if name == "scale" and bool((values == values[..., :1]).all()) else values
        )
        results[f"rhat_{name}"] = float(summary["rhat"].max())
        results[f"ess_{name}"] = float(summary["ess_bulk"].min())
    return results | {
        "rhat_max": max(value for name, value in results.items() if name.startswith("rhat")),
        "ess_min": min(value for name, value in results.items() if name.startswith("ess")),
        "divergences": float(stats["diverging"].sum()),
        "transitions": float(stats["diverging"].numel()),
        "gradients": float(posterior.attrs["gradients"]),
    }


def make_jobs(name: str, args: argparse.Namespace) -> list[Job]:
    problem = load_problem(name, args)
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
    """Run all fits without a file of results; those that finish are stored even if another fails."""
    (jobs[0].out / "fits").mkdir(parents=True, exist_ok=True)
    missing = [job for job in jobs if not job.path.exists()]
    # Samplers take longest and start first, so that no core is idle at the end.
    missing.sort(key=lambda job: not job.model.startswith("bnn"))
    run_in_processes({job.path.stem: partial(run_job, job) for job in missing}, workers, title="fits")


def collect(jobs: Sequence[Job]) -> xr.Dataset:
    """Diagnostics of the held-out rows of all folds of one model, in the order of the data."""
    parts = [xr.load_dataset(job.path, engine="h5netcdf") for job in jobs]
    merged = xr.concat([part.drop_attrs() for part in parts], "obs", data_vars="all").sortby("obs")
    attrs = [part.attrs for part in parts]
    merged.attrs = {"seconds": sum(a["seconds"] for a in attrs)}
    merged.attrs["smallest_scale"] = min(a["smallest_scale"] for a in attrs)
    for key in attrs[0].keys() - {"seconds", "smallest_scale"}:
        worst = sum if key in ("divergences", "transitions", "gradients") else min if key.startswith("ess") else max
        merged.attrs[key] = worst(a[key] for a in attrs)
    return merged


def model_metrics(rows: xr.Dataset) -> dict[str, float]:
    """Metrics of one model on one data set."""
    score, pull = score_summary(rows), pull_summary(rows)
    regions = coverage(rows, levels=[0.5, 0.9])
    metrics = {
        "elpd": score["log_score"],
        "elpd_se": score["log_score_se"],
        "crps": score["crps"],
        "crps_se": score["crps_se"],
        "pull_mean": pull["mean"],
        "pull_mean_se": pull["mean_se"],
        "pull_width": pull["width"],
        "pull_width_se": pull["width_se"],
        "coverage50": regions["coverage"].sel(level=0.5),
        "coverage90": regions["coverage"].sel(level=0.9),
        "pit_p": uniformity_test(rows)["p_value"],
        **dict(split_shares(rows).data_vars.items()),
    }
    return {name: float(value) for name, value in metrics.items()} | {k: float(v) for k, v in rows.attrs.items()}


def difference(a: xr.Dataset, b: xr.Dataset) -> dict[str, float]:
    result = paired_difference(a, b)
    return {"elpd": float(result["log_score"]), "elpd_se": float(result["log_score_se"])}


def compare(name: str, rows: dict[str, xr.Dataset], jobs: Sequence[Job]) -> dict[str, float]:
    """All metrics of one data set, by name."""
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


def print_table(name: str, rows: dict[str, xr.Dataset], metrics: dict[str, float], resolution: float) -> None:
    """Print the models from best to worst, with the difference of each from the best on the same points."""

    def get(model: str, key: str) -> float:
        return metrics[f"{name}.{model}.{key}"]

    print(f"\n{name}: held-out scores (elpd in nats per point, higher is better; CRPS in units of y, lower is better)")
    heads = ("elpd", "behind the best", "CRPS", "pull width", "in 90%", "noise", "ambig.", "epist.", "s")
    widths = (14, 15, 8, 13, 7, 6, 6, 6, 6)
    print(f"{'model':13} " + " ".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True)))
    order = sorted(rows, key=lambda model: -get(model, "elpd"))
    tied = [order[0]]
    for model in order:
        score = f"{get(model, 'elpd'):.3f} ± {get(model, 'elpd_se'):.3f}"
        pull = f"{get(model, 'pull_width'):.2f} ± {get(model, 'pull_width_se'):.2f}"
        shares = " ".join(f"{get(model, key):6.2f}" for key in ("noise", "ambiguity", "epistemic"))
        behind = ""
        if model != order[0]:
            gap = difference(rows[order[0]], rows[model])
            behind = f"{gap['elpd']:.3f} ± {gap['elpd_se']:.3f}"
            if gap["elpd"] < 2 * gap["elpd_se"]:
                tied.append(model)
        print(
            f"{model:13} {score:>14} {behind:>15} {get(model, 'crps'):8.3f} {pull:>13} {get(model, 'coverage90'):7.2f} "
            f"{shares} {get(model, 'seconds'):6.0f}"
        )
    calibrated = [m for m in tied if abs(get(m, "pull_width") - 1) < 2 * get(m, "pull_width_se")]
    for model in order:
        if f"{name}.{model}.rhat_max" in metrics:
            agree = "agree" if get(model, "rhat_max") < 1.01 else "do not agree yet"
            rhats = ", ".join(f"{get(model, f'rhat_{part}'):.3f} {label}" for part, label in PARTS.items())
            print(
                f"{model}: chains {agree}: R-hat at most {rhats}; at least {get(model, 'ess_min'):.0f} effective "
                f"draws; {get(model, 'divergences'):.0f} of {get(model, 'transitions'):.0f} trajectories diverged"
            )
    print(
        f"best: {order[0]}; within 2 paired standard errors of it: {', '.join(tied[1:]) or 'none'}; "
        f"of these with a pull width within 2 standard errors of 1: {', '.join(calibrated) or 'none'}\n"
        f"smallest scale of any component {min(get(m, 'smallest_scale') for m in rows):.3g}, "
        f"resolution {resolution:.3g}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__, "compare_uncertainty")
    options.add_argument("--data", nargs="+", default=["mcycle", "geyser", "inverse", "conjugate"])
    options.add_argument("--x", nargs="+", help="columns of x in a CSV file")
    options.add_argument("--y", help="column of y in a CSV file")
    options.add_argument("--resolution", type=float, help="resolution of y, in its units")
    options.add_argument("--jobs", type=int, default=2, help="number of processes that fit in parallel")
    args = options.parse_args(argv)
    start = time.perf_counter()
    by_problem = {}
    try:
        for name in args.data:
            if name != "conjugate":
                jobs = make_jobs(name, args)
                label = jobs[0].problem_name
                if label in by_problem:
                    raise ValueError(f"expected data sets of different names, got {label!r} twice")
                by_problem[label] = jobs
    except (ValueError, OSError) as error:
        options.error(str(error))
    all_jobs = [job for jobs in by_problem.values() for job in jobs]
    earlier = earlier_seconds(args.out) if any(job.posterior_path.exists() for job in all_jobs) else 0.0
    if all_jobs:
        run_jobs(all_jobs, args.jobs)
    metrics: dict[str, float] = {}
    for name, jobs in by_problem.items():
        rows = {model: collect([job for job in jobs if job.model == model]) for model in MODELS}
        of_problem = compare(name, rows, jobs)
        metrics |= of_problem
        print_table(name, rows, of_problem, jobs[0].problem.resolution)
        draw_figures(name, [job for job in jobs if job.fold == 0], rows, args.out)
    if "conjugate" in args.data:
        metrics |= conjugate_metrics(args.seed, args.quick)
    args.out.mkdir(parents=True, exist_ok=True)
    pictures = sorted(args.out.glob("*.png"))
    return finish(args, metrics, pictures, seconds=earlier + time.perf_counter() - start)


if __name__ == "__main__":
    sys.exit(main())
