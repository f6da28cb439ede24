"""A Bayesian network on points from a true function: noise that grows, data that grow, and many networks.

    python examples/bnn_regression.py --quick
    python examples/bnn_regression.py --curve sinc --noise 0.05 0.2 --points 20 100 --methods hmc svi
    python examples/bnn_regression.py      # everything: the numbers in examples/results

The curves are a draw of a Gaussian process (``gp``), sin(x)/x (``sinc``) and sin x + 0.1 x² (``wave``), with a gap in
the data. The methods:

- ``hmc``: the full posterior of a network with one hidden layer, whose chains agree on the function.
- ``svi``: variational inference with a low-rank normal.
- ``ensemble``: twenty posterior modes with equal weights; also weighted by their evidence, and the most probable one.
- ``mdn``: a mixture density network, one set of weights.

For ``gp`` the exact posterior stands beside them. Further pages: five data sets on sin(x)/x; networks against closed
forms (Gaussian process, wide limits, linear regression on frozen features); many networks as one batch; an animation of
the band as points arrive. The example writes figures, ``band.gif`` and ``report.json``. An interrupted run is resumed
when it is repeated; after a change of the code, use another ``--out``.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from _bnn.curves import CURVES
from _bnn.figures import draw_figures
from _bnn.film import sample_film
from _bnn.many import batch_against_loop, many_networks
from _bnn.panels import REPEATED, Panel, compute_panel, noise_of, panel_name, row_metrics, wanted_panels
from _bnn.settings import METHODS, NOISES, POINTS, QUICK, Settings
from _bnn.sinc import one_data_set
from _bnn.wide import TITLES as WIDE
from _bnn.wide import compare_with_exact
from _mdn import mean_and_error
from _parts import compute_part, compute_parts, tag, total_seconds
from _report import finish, parser

PAGES = ("rows", "noise", "sinc", "wide", "many", "film")
Task = tuple[Any, Callable[[], dict[str, float]]]


def panel_tasks(panels: Sequence[Panel], methods: Sequence[str], settings: Settings, out: Path) -> dict[str, Task]:
    """One task for each data set and method, the slowest first; the exact posterior for curves of the process."""
    tasks: dict[str, Task] = {}
    for panel in sorted(panels, key=lambda panel: -panel[1]):
        for method in [*methods, *(["exact"] if panel[0] == "gp" else [])]:
            name = f"{panel_name(panel)}-{method}"
            tasks[name] = (panel, method, settings), partial(compute_panel, panel, method, settings, out)
    return tasks


def repeated_tasks(pages: Sequence[str], curves: Sequence[str], settings: Settings) -> dict[str, Task]:
    """Several data sets: for the noise of each curve, and for sin(x) / x."""
    tasks: dict[str, Task] = {}
    if "sinc" in pages:
        for size in sorted(settings.sinc_points, reverse=True):
            for repeat in range(settings.sinc_repeats):
                call = partial(one_data_set, size, repeat, settings)
                tasks[f"sinc-n{size}-{repeat}"] = (size, repeat, settings), call
    if "noise" in pages:
        for curve in curves:
            for repeat in range(settings.noise_repeats):
                tasks[f"noise-{curve}-{repeat}"] = (repeat, settings), partial(noise_of, curve, repeat, settings)
    return tasks


def noise_metrics(results: dict[str, dict[str, float]], curves: Sequence[str], settings: Settings) -> dict[str, float]:
    """The mean noise over the data sets of each curve, with its error."""
    metrics: dict[str, float] = {}
    for curve in curves:
        runs = [results[f"noise-{curve}-{repeat}"] for repeat in range(settings.noise_repeats)]
        metrics |= mean_and_error(f"{curve}_repeated.n{REPEATED}.hmc.band_noise", [run["noise"] for run in runs])
        metrics[f"{curve}_repeated.n{REPEATED}.hmc.rhat"] = max(run["rhat"] for run in runs)
    return metrics


def sinc_metrics(results: dict[str, dict[str, float]], settings: Settings) -> dict[str, float]:
    """Means over the data sets with their errors, and the worst R-hat."""
    metrics: dict[str, float] = {}
    for points in settings.sinc_points:
        runs = [results[f"sinc-n{points}-{repeat}"] for repeat in range(settings.sinc_repeats)]
        for name in ("r2", "coverage90"):
            metrics |= mean_and_error(f"sinc.n{points}.hmc.{name}", [run[name] for run in runs])
        metrics[f"sinc.n{points}.hmc.rhat"] = max(run["rhat"] for run in runs)
        metrics[f"sinc.n{points}.hmc.r2_min"] = min(run["r2"] for run in runs)
    return metrics


def print_table(metrics: dict[str, float]) -> None:
    """R², coverage, log score and bands of each method, row by row."""
    names = sorted({name.rpartition(".")[0] for name in metrics if name.endswith(".elpd") and name.count(".") == 3})
    heads = ("r2", "coverage90", "elpd", "band_epistemic", "band_noise", "sd_gap_ratio", "rhat")
    print(f"\n{'':32s} {'R2':>7} {'in 90%':>7} {'elpd':>8} {'epist.':>7} {'noise':>7} {'gap/data':>8} {'R-hat':>6}")
    for name in names:
        values = [metrics.get(f"{name}.{head}") for head in heads]
        cells = (
            f"{value:{width}.3f}" if value is not None else " " * width
            for value, width in zip(values, (7, 7, 8, 7, 7, 8, 6), strict=True)
        )
        print(f"{name:32s} {' '.join(cells)}")


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__, "bnn_regression")
    options.add_argument("--curve", nargs="+", choices=sorted(CURVES), default=None, help="default: all of them")
    options.add_argument("--noise", nargs="+", type=float, default=None, help="standard deviations of row 1")
    options.add_argument("--points", nargs="+", type=int, default=None, help="numbers of points of row 2")
    options.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    options.add_argument("--pages", nargs="+", choices=PAGES, default=None, help="default: all of them")
    options.add_argument("--jobs", type=int, default=2, help="number of processes that fit in parallel")
    args = options.parse_args(argv)
    settings = replace(QUICK if args.quick else Settings(), seed=args.seed)
    own = args.curve or args.noise or args.points  # the rows of a user, and not the whole example
    curves = args.curve or (["gp"] if args.quick else sorted(CURVES))
    noises = args.noise or NOISES
    points = args.points or ((10, 50, 200) if args.quick else POINTS)
    pages = args.pages or (("rows",) if own else PAGES)
    if not all(0 < noise < float("inf") for noise in noises) or min(points) < 2:
        options.error(f"expected noise above 0 and points from 2, got {noises} and {points}")
    arrays = args.out / f"arrays-{tag(settings)}"
    arrays.mkdir(parents=True, exist_ok=True)

    panels = wanted_panels(curves, points, noises) if "rows" in pages else []
    tasks: dict[str, Task] = {}
    if "film" in pages:
        tasks["film"] = settings, partial(sample_film, settings, arrays)
    if "many" in pages:
        tasks["many"] = settings, partial(many_networks, settings, arrays)
    tasks |= panel_tasks(panels, args.methods, settings, arrays)
    tasks |= repeated_tasks(pages, curves, settings)
    if "wide" in pages:
        for name in WIDE:
            tasks[f"wide-{name}"] = (name, settings), partial(compare_with_exact, name, settings, arrays)
    results = compute_parts(args.out, tasks, jobs=args.jobs)
    if "many" in pages:  # alone, since it is a timing
        results["timing"] = compute_part(args.out, "timing", settings, partial(batch_against_loop, settings))

    metrics = row_metrics(
        {(panel, method): results[f"{panel_name(panel)}-{method}"] for panel in panels
         for method in [*args.methods, *(["exact"] if panel[0] == "gp" else [])]}
    )  # fmt: skip
    if "sinc" in pages:
        metrics |= sinc_metrics(results, settings)
    if "noise" in pages:
        metrics |= noise_metrics(results, curves, settings)
    for part, prefix in (
        ("many", "many"),
        ("timing", "many"),
        ("film", "film.band"),
        *((f"wide-{n}", f"wide.{n}") for n in WIDE),
    ):
        metrics |= {f"{prefix}.{k}": value for k, value in results.get(part, {}).items() if k != "seconds"}
    print_table(metrics)
    pictures = draw_figures(args.out, arrays, panels, args.methods, metrics, settings, pages)
    return finish(args, metrics, pictures, seconds=total_seconds())


if __name__ == "__main__":
    sys.exit(main())
