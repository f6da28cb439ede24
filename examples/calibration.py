"""Which diagnostic detects which fault: one data set, seven predictive distributions, and all tests of calibration.

    python examples/calibration.py --quick
    python examples/calibration.py            # 1,000 repetitions: the numbers in examples/results

The data have two branches, three standard deviations apart, and noise that grows with x, so no single normal
distribution is right. Samples of 300 observations are compared with the true distribution and with models that have one
fault each:

- ``right``: the true distribution.
- ``sigma08``: component widths 0.8 times the true ones (over-confident); ``sigma125``: 1.25 times (under-confident).
- ``bias``: both branches too high by a quarter of a width.
- ``weights``: 0.5 and 0.5 instead of 0.4 and 0.6.
- ``shift``: the upper branch too high by 0.4 widths.
- ``unimodal``: one normal distribution with the right mean and variance at every x.

Each model gets a page of panels for one data set. ``calibration-seen.png`` has the share of repetitions in which each
test rejects at 5 %; it should be 5 % for the right model and large for the others. No test detects every fault.

The report also compares kinds of pulls. Pulls from the *nearest* component of the right model have a width of 0.9, not
1. Moment pulls have width 1 for any model of the right mean and variance, and a test of normality rejects them although
the model is right. ``width_interval`` is the share of repetitions in which a pull width lies within its standard error
of the truth, for normal, heavy-tailed and bimodal pulls. An interrupted run is resumed when it is repeated.
"""

import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import xarray as xr
from _calibration_figures import draw_page, draw_rejections
from _parts import Metrics, compute_parts, total_seconds
from _report import finish, parser, save_figure
from scipy import stats
from torch import Tensor
from tqdm.auto import tqdm

from posterity.inference.diagnostics import calibration_tests, pull_summary, pulls
from posterity.models import Mixture

WEIGHTS, SEPARATION = (0.4, 0.6), 3.0
MODELS = {
    "right": "right",
    "sigma08": "over-confident:\nwidths × 0.8",
    "sigma125": "under-confident:\nwidths × 1.25",
    "bias": "biased:\nby 0.25 widths",
    "weights": "wrong weights:\n.5/.5 for .4/.6",
    "shift": "shifted branch:\nby 0.4 widths",
    "unimodal": "one normal,\nright moments",
}
WIDTHS = {"normal": 1.0, "t5": float(np.sqrt(5 / 3)), "bimodal": float(np.sqrt(1 + 1.5**2))}


@dataclass(frozen=True)
class Settings:
    """Everything that the numbers depend on."""

    seed: int = 0
    rows: int = 300
    repetitions: int = 1000
    interval_repetitions: int = 10_000
    processes: int = 4  # the repetitions are divided into as many pieces, with different seeds


QUICK = Settings(repetitions=40, interval_repetitions=400, processes=2)


def main(argv: Sequence[str] | None = None) -> int:
    args = parser(__doc__, "calibration").parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    settings = QUICK if args.quick else Settings()
    settings = Settings(**{**vars(settings), "seed": args.seed})
    pieces = {
        f"{name}-{piece}": ((settings, name, piece), partial(_repeated, settings, name, piece))
        for name in MODELS
        for piece in range(settings.processes)
    }
    intervals = {f"width-{name}": ((settings, name), partial(_intervals, settings, name)) for name in WIDTHS}
    results = compute_parts(args.out, {**pieces, **intervals}, jobs=1 if args.quick else 2)
    rates = {
        name: _mean_of_pieces([results[f"{name}-{piece}"] for piece in range(settings.processes)]) for name in MODELS
    }
    metrics = _metrics(settings, rates) | {
        f"width_interval.{name}.{key}": value
        for name in WIDTHS
        for key, value in results[f"width-{name}"].items()
        if key != "seconds"
    }
    figures = [save_figure(draw_rejections(rates, MODELS), args.out / "calibration-seen.png")]
    x, y = _data(np.random.default_rng([settings.seed, 99]), settings.rows)
    for name in tqdm(MODELS, desc="pages", disable=None):
        figure = draw_page(MODELS[name], partial(_model, name), x, y)
        figures.append(save_figure(figure, args.out / f"calibration-{name}.png"))
    _print(rates, metrics)
    return finish(args, metrics, figures, seconds=total_seconds())


def _data(rng: np.random.Generator, rows: int) -> tuple[Tensor, Tensor]:
    """x ~ U(-1, 1), and y from one of the two branches."""
    x = torch.as_tensor(rng.uniform(-1, 1, rows))
    upper = torch.as_tensor(rng.random(rows) < WEIGHTS[1])
    truth = _model("right", x).component_distribution
    chosen = upper.long()[:, None]
    loc, scale = (value.gather(-1, chosen)[:, 0] for value in (truth.loc, truth.scale))
    return x, loc + scale * torch.as_tensor(rng.normal(size=rows))


def _model(name: str, x: Tensor) -> Mixture:
    """The predictive distribution of a model at x (N,)."""
    scale = (0.5 + 0.3 * x)[:, None]
    place = torch.tensor([-0.5, 0.5], dtype=torch.double) * SEPARATION
    weights = torch.tensor(WEIGHTS, dtype=torch.double)
    widths = {"sigma08": 0.8, "sigma125": 1.25}.get(name, 1.0)
    if name == "weights":
        weights = torch.tensor([0.5, 0.5], dtype=torch.double)
    if name == "shift":
        place = place + torch.tensor([0.0, 0.4], dtype=torch.double)
    if name == "bias":
        place = place + 0.25
    if name == "unimodal":
        mean = (weights * place).sum()
        widths = float(torch.sqrt(1 + (weights * (place - mean) ** 2).sum()))
        place, weights = mean[None], torch.ones(1, dtype=torch.double)
    loc = torch.sin(3 * x)[:, None] + scale * place
    return Mixture.normal(weights.log(), loc, widths * scale.expand_as(loc))


def _repeated(settings: Settings, name: str, piece: int) -> Metrics:
    """Shares of rejections of each test and of each named fault, and mean pull widths, in one piece of repetitions."""
    count = settings.repetitions // settings.processes
    counts: dict[str, int] = {}
    widths: dict[str, list[float]] = {"nearest": [], "moment": [], "component": [], "gaussianised": []}
    # All models get the same data sets.
    for seed in tqdm(np.random.SeedSequence([settings.seed, piece]).spawn(count), desc=f"{name} {piece}", disable=None):
        rng = np.random.default_rng(seed)
        x, y = _data(rng, settings.rows)
        model = _model(name, x)
        draw = int(rng.integers(2**31))
        panel = calibration_tests(model, y, seed=draw)
        for test, value in zip(panel.test.values, panel.p_value.values, strict=True):
            counts[f"test.{test}"] = counts.get(f"test.{test}", 0) + int(value < 0.05)
        moment = pulls(model, y, kind="moment").pull.values
        counts["test.moment_ks"] = counts.get("test.moment_ks", 0) + int(stats.kstest(moment, "norm").pvalue < 0.05)
        together = float(panel.attrs["p_value"]) < 0.05
        counts["test.together"] = counts.get("test.together", 0) + int(together)
        fault = f"named.{panel.attrs['fault']}"
        counts[fault] = counts.get(fault, 0) + 1
        widths["moment"].append(moment.std(ddof=1))
        widths["nearest"].append(_nearest(model, y).std(ddof=1))
        for kind in ("component", "gaussianised"):
            widths[kind].append(pulls(model, y, kind=kind, seed=draw).pull.values.std(ddof=1))
    shares = {key: value / count for key, value in counts.items()}
    return shares | {f"width.{kind}": float(np.mean(values)) for kind, values in widths.items()}


def _nearest(model: Mixture, y: Tensor) -> np.ndarray:
    """Pulls from the nearest component, which are too narrow."""
    components = model.component_distribution
    pulls_of = (y[:, None] - components.loc) / components.scale
    return pulls_of.gather(-1, pulls_of.abs().argmin(-1, keepdim=True))[:, 0].numpy()


def _intervals(settings: Settings, name: str) -> Metrics:
    """Share of repetitions in which the true width lies within 1 and 1.96 standard errors of that of ``rows`` pulls."""
    rng = np.random.default_rng([settings.seed, 7, list(WIDTHS).index(name)])
    inside = {"coverage68": 0, "coverage95": 0, "robust68": 0}
    robust = _robust_width(name)
    for _ in tqdm(range(settings.interval_repetitions), desc=f"width {name}", disable=None):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the core of bimodal pulls has no width
            summary = pull_summary(xr.Dataset({"pull": ("obs", _pulls(name, rng, settings.rows))}))
        off = abs(float(summary["width"]) - WIDTHS[name]) / float(summary["width_se"])
        inside["coverage68"] += off <= 1
        inside["coverage95"] += off <= 1.96
        inside["robust68"] += abs(float(summary["robust_width"]) - robust) <= float(summary["robust_width_se"])
    return {key: value / settings.interval_repetitions for key, value in inside.items()}


def _pulls(name: str, rng: np.random.Generator, rows: int) -> np.ndarray:
    if name == "t5":
        return rng.standard_t(5, rows)
    z = rng.normal(size=rows)
    return z + rng.choice([-1.5, 1.5], rows) if name == "bimodal" else z


def _robust_width(name: str) -> float:
    """Half the width of the central 68.27 % of the true distribution."""
    upper = stats.norm.cdf(1.0)
    if name == "bimodal":
        mixture = Mixture.normal(torch.zeros(2).double(), torch.tensor([-1.5, 1.5]).double(), torch.ones(2).double())
        return float(mixture.icdf(torch.tensor(upper).double()))
    return float((stats.t(5) if name == "t5" else stats.norm).ppf(upper))


def _mean_of_pieces(pieces: Sequence[Metrics]) -> dict[str, float]:
    """Means over pieces of equal size; a number that a piece lacks counts as 0."""
    names = sorted({name for piece in pieces for name in piece if name != "seconds"})
    return {name: float(np.mean([piece.get(name, 0.0) for piece in pieces])) for name in names}


def _metrics(settings: Settings, rates: dict[str, dict[str, float]]) -> dict[str, float]:
    metrics: dict[str, float] = {"repetitions": settings.repetitions, "rows": settings.rows}
    for model, shares in rates.items():
        stem = "null" if model == "right" else f"power.{model}"
        for name, value in shares.items():
            kind, _, rest = name.partition(".")
            metrics[f"{stem}.{rest}.rejection" if kind == "test" else f"{kind}.{model}.{rest}"] = value
    metrics.pop("null.moment_ks.rejection")  # a test of the moment pulls, not of the model
    metrics["moment_ks.right.rejection"] = rates["right"]["test.moment_ks"]
    return metrics


def _print(rates: dict[str, dict[str, float]], metrics: dict[str, float]) -> None:
    tests = [name for name in rates["right"] if name.startswith("test.")]
    print(f"\nshare of {metrics['repetitions']:,.0f} repetitions in which a test rejects at 5 %")
    print(" " * 20 + "".join(f"{model:>10}" for model in rates))
    for test in tests:
        print(f"{test[5:]:20}" + "".join(f"{shares.get(test, float('nan')):10.3f}" for shares in rates.values()))
    for name in WIDTHS:
        print(f"true width within one standard error, {name} pulls: {metrics[f'width_interval.{name}.coverage68']:.3f}")


if __name__ == "__main__":
    sys.exit(main())
