"""Which model's uncertainty to believe? Five models, judged on data they have not seen.

    python examples/compare_uncertainty.py --data mcycle geyser --quick
    python examples/compare_uncertainty.py --data my.csv --x dose weight --y response
    python examples/compare_uncertainty.py                     # everything, cross-validated: the numbers kept

On each data set it fits

- ``map``           a Gaussian network with noise as an output, at its mode (one set of weights);
- ``bnn_homo``      a Bayesian network by HMC, one noise for all x;
- ``bnn_hetero``    a Bayesian network by HMC, noise as an output;
- ``mdn``           a mixture density network, at its mode;
- ``bayesian_mdn``  a mixture density network with a posterior of the weights, by SVI;

scores each on held-out rows (cross-validation; fresh points for the simulated ``inverse``), and writes figures, one
netCDF file for each fit and ``report.json``. A run that was interrupted goes on where it was when it is repeated;
after a change of the code, give it another ``--out``.
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
from _conjugate import conjugate_metrics
from _report import earlier_seconds, finish, parser
from _workers import side_by_side

from posterity.data import (
    Observations,
    Standardization,
    cross_validation,
    geyser,
    inverse_sine,
    mcycle,
    read_csv,
)
from posterity.files import replacing
from posterity.inference import HMC, SVI, Posterior, PredictiveMixture, infer
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
from posterity.models import (
    Pair,
    bayesian_mixture_density,
    bayesian_regression,
    mixture_density,
    priors,
    table_prior,
)

FOLDS = 5
TEST_POINTS = 10_000  # fresh points for a simulated problem
ROWS = 1_000  # test rows at a time
MANY_ROWS = 1_000  # from which a gradient is dear
PREDICTIVE_DRAWS = 400  # of the posterior, for the diagnostics
GAUSSIANS = ("map", "bnn_homo", "bnn_hetero")
PARTS = {"mean": "for the mean", "scale": "for the scale", "lp": "for the density"}


@dataclass(frozen=True)
class Problem:
    """A data set with what a person knows about it: how finely y was recorded, and in which units."""

    data: Observations
    resolution: float
    xlabel: str
    ylabel: str
    components: int = 3
    hidden: tuple[int, ...] = (10,)
    decay: float = 1.0  # precision of the normal prior of the MDN's weights: the unit normal
    output_scale: float = 1.0  # of the Bayesian mixture's prior, in standardised units
    warmup: int = 500  # of each chain of the Bayesian networks
    draws: int = 1000  # kept of it, one of every `thin`
    thin: int = 4
    svi_rate: float = 0.02
    svi_scale: float = 0.02  # of the guide at the start: small enough for the mode to survive it


def load(name: str, args: argparse.Namespace) -> Problem:
    """A problem by name, or a user's table."""
    if name == "mcycle":
        # Readings are multiples of 1.34 g: rounding to a step d has the standard deviation d/sqrt(12).
        return Problem(mcycle(), 1.34 / np.sqrt(12), "time after impact (ms)", "head acceleration (g)")
    if name == "geyser":
        return Problem(geyser(), 1 / 60, "waiting time (min)", "eruption lasts (min)")  # timed to a second
    if name == "inverse":
        data = inverse_sine(1000 if args.quick else 3000, seed=args.seed)
        # Chosen on other draws of the simulator: seven branches want more units and steeper ones than a table does.
        more: dict[str, Any] = {"components": 10, "hidden": (64,), "decay": 0.1, "output_scale": 3.0}
        chains = {"warmup": 300, "draws": 300, "thin": 3}
        return Problem(data, 0.01, "x", "y", svi_rate=0.01, svi_scale=0.001, **more, **chains)
    if not args.x or not args.y:
        raise SystemExit(f"expected mcycle, geyser, inverse, or a CSV file with --x and --y, got {name!r}")
    data = read_csv(name, x=args.x, y=args.y)
    resolution = float(data.y.std()) / 100 if args.resolution is None else args.resolution
    return Problem(data, resolution, ", ".join(args.x), args.y)


def sampler(problem: Problem, quick: bool) -> HMC:
    """How the Bayesian networks are sampled; chosen for convergence on training rows.

    Chains start spread as the prior, so that those that agree have found the same posterior, each on its own way. One
    thread each: fits run side by side.
    """
    settings: dict[str, Any] = {"threads": 1, "progress": False}
    if len(problem.data) >= MANY_ROWS:
        # Stiff and dear: a gradient takes as long as fifty of a small table. Fewer chains, which fill the vector
        # unit, and a length that is not left to adaptation.
        settings |= {"chains": 8, "target_accept": 0.95, "trajectory_length": 12.0}
        quickly = {"warmup": 60, "draws": 30, "trajectory_length": 2.0}
    else:
        settings |= {"chains": 16, "target_accept": 0.95}
        quickly = {"warmup": 200, "draws": 200}
    length = quickly if quick else {"warmup": problem.warmup, "draws": problem.draws, "thin": problem.thin}
    return HMC(**(settings | length))


def recipe(model: str, problem: Problem, scale: Standardization, quick: bool) -> tuple[Pair, Any]:
    """The ready pair and the method of inference."""
    common: dict[str, Any] = {"hidden": problem.hidden, "resolution": problem.resolution}
    # One mean and one scale want fewer units than several branches do, and tables' prior.
    gaussian: dict[str, Any] = common | {"hidden": tuple(min(16, width) for width in problem.hidden)}
    bayesian: dict[str, Any] = {"prior": table_prior() | {"": priors.Normal(scale=problem.output_scale)}}
    steps = 1500 if quick else 4000
    match model:
        case "map":
            return bayesian_regression(scale, **gaussian), SVI(guide="map", steps=steps, progress=False)
        case "bnn_homo":
            return bayesian_regression(scale, noise="constant", **gaussian), sampler(problem, quick)
        case "bnn_hetero":
            return bayesian_regression(scale, **gaussian), sampler(problem, quick)
        case "mdn":
            pair = mixture_density(scale, components=problem.components, decay=problem.decay, **common)
            return pair, SVI(steps=steps, learning_rate=0.005, progress=False)
        case "bayesian_mdn":
            # The bound prices every weight: fewer units give a higher one, on training data, than sixteen do.
            common["hidden"] = tuple(max(8, width // 2) for width in problem.hidden)
            pair = bayesian_mixture_density(
                scale, components=problem.components, guide="mean_field", **common, **bayesian
            )
            return pair, SVI(
                steps=steps,
                learning_rate=problem.svi_rate,
                init_scale=problem.svi_scale,
                init="map",
                progress=False,
            )
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
        """Named after everything the fit depends on but the code, so that a repeated run takes up only its own."""
        _, method = self.pair()
        what = (method, *[value for key, value in vars(self.problem).items() if key != "data"])
        digest = hashlib.sha256(repr((what, self.seed, self.quick)).encode())
        for tensor in (self.train.x, self.train.y, self.test.x, self.test.y):
            digest.update(tensor.numpy().tobytes())
        return self.out / "fits" / f"{self.problem_name}-{self.model}-{self.fold}-{digest.hexdigest()[:8]}.nc"

    @property
    def posterior_path(self) -> Path:
        return self.path.with_suffix(".posterior")

    def pair(self) -> tuple[Pair, Any]:
        return recipe(self.model, self.problem, Standardization.fit(self.train), self.quick)


def run_job(job: Job) -> Path:
    """Fit, predict the held-out rows, and write what every figure and number is made of."""
    torch.set_num_threads(1)  # a process of its own: two threads on small tensors only wait for each other
    pair, method = job.pair()
    if job.posterior_path.exists():
        posterior = Posterior.load(job.posterior_path, pair, job.train.x, job.train.y)
    else:
        posterior = infer(pair, job.train.x, job.train.y, method=method, seed=job.seed + job.fold)
        if posterior.attrs["interrupted"]:
            raise KeyboardInterrupt  # what there is of it is not the fit that was asked for
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
    with replacing(job.path) as temporary:
        rows.to_netcdf(temporary, engine="h5netcdf")
    return job.path


def evaluate(posterior: Posterior, test: Observations) -> xr.Dataset:
    """All diagnostics of every held-out row."""
    few = len(test) <= ROWS
    parts = []
    for start in range(0, len(test), ROWS):
        some = test.subset(slice(start, start + ROWS))
        # For thousands of rows a quarter of the draws, to bound the time: 100 draws shift the mean score by some 0.001.
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
    """Do the chains agree on mean and scale at every x and on the density, and did the sampler have its way?"""
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
    found: dict[str, float] = {}
    for name, values in parts.items():
        # A noise that is the same for all x is one number, not one for each.
        judged = function_convergence(
            values[..., :1] if name == "scale" and bool((values == values[..., :1]).all()) else values
        )
        found[f"rhat_{name}"], found[f"ess_{name}"] = float(judged["rhat"].max()), float(judged["ess_bulk"].min())
    return found | {
        "rhat_max": max(value for name, value in found.items() if name.startswith("rhat")),
        "ess_min": min(value for name, value in found.items() if name.startswith("ess")),
        "divergences": float(stats["diverging"].sum()),
        "transitions": float(stats["diverging"].numel()),
        "gradients": float(posterior.attrs["gradients"]),
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
    side_by_side({job.path.stem: partial(run_job, job) for job in todo}, workers, title="fits")


def collect(jobs: Sequence[Job]) -> xr.Dataset:
    """The held-out rows of all folds of one model, in the order of the table."""
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
        "pit_p": uniformity_test(rows)["p_value"],
        **dict(split_shares(rows).data_vars.items()),
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


def print_table(name: str, rows: dict[str, xr.Dataset], metrics: dict[str, float], resolution: float) -> None:
    """The models from best to worst, and by how much each is behind the best on the same points."""

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
        f"best: {order[0]}; not told apart from it (2 paired standard errors): {', '.join(tied[1:]) or 'none'}; "
        f"of these with a pull width of 1 within 2 errors: {', '.join(calibrated) or 'none'}\n"
        f"smallest scale of any component {min(get(m, 'smallest_scale') for m in rows):.3g}, "
        f"resolution {resolution:.3g}"
    )


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
        found = compare(name, rows, jobs)
        metrics |= found
        print_table(name, rows, found, jobs[0].problem.resolution)
        draw_figures(name, [job for job in jobs if job.fold == 0], rows, args.out)
    if "conjugate" in args.data:
        metrics |= conjugate_metrics(args.seed, args.quick)
    args.out.mkdir(parents=True, exist_ok=True)
    pictures = sorted(args.out.glob("*.png"))
    return finish(args, metrics, pictures, seconds=earlier + time.perf_counter() - start)


if __name__ == "__main__":
    sys.exit(main())
