"""Which diagnostic sees which fault: one data set, seven predictives of it, and every test of calibration.

    python examples/calibration.py --quick
    python examples/calibration.py            # 1,000 repetitions of everything: the numbers kept

The data have two branches three widths apart, and noise that grows with x, so that no single normal is right. Held
against 300 observations at a time are the truth itself and models with one fault each:

- ``right``: the truth.
- ``sigma08``: widths of components 0.8 times the true ones (over-confident); ``sigma125``: 1.25 times
  (under-confident).
- ``bias``: everything too high by a quarter of a width.
- ``weights``: .5 and .5 instead of .4 and .6.
- ``shift``: the upper branch too high by .4 widths.
- ``unimodal``: one normal of the right mean and variance at every x.

Each gets a page of panels for one data set, and ``seen.png`` has the share of repetitions in which each test rejects at
5 %: of the right model it is to be 5 %, of the others as much as can be. No test sees everything. Beside it the facts
that pulls are chosen by: the width of pulls from the *nearest* component of the right model is .9 and not 1, moment
pulls have width 1 for any model of the right mean and variance, and are rejected as normal although the model is right.
``width_interval``: how often a pull width lies within its error of the truth, for normal, heavy-tailed and two-peaked
pulls. A run that was interrupted goes on where it was when it is repeated.
"""

import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import xarray as xr
from _calibration_figures import draw_page, draw_seen
from _parts import Metrics, parts, total_seconds
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
    """What the numbers depend on."""

    seed: int = 0
    rows: int = 300
    repetitions: int = 1000
    interval_repetitions: int = 10_000
    processes: int = 4  # pieces of the repetitions, each with a seed of its own


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
    found = parts(args.out, {**pieces, **intervals}, jobs=1 if args.quick else 2)
    seen = {name: _together([found[f"{name}-{piece}"] for piece in range(settings.processes)]) for name in MODELS}
    metrics = _metrics(settings, seen) | {
        f"width_interval.{name}.{key}": value
        for name in WIDTHS
        for key, value in found[f"width-{name}"].items()
        if key != "seconds"
    }
    figures = [save_figure(draw_seen(seen, MODELS), args.out / "calibration-seen.png")]
    x, y = _data(np.random.default_rng([settings.seed, 99]), settings.rows)
    for name in tqdm(MODELS, desc="pages", disable=None):
        figure = draw_page(MODELS[name], partial(_model, name), x, y)
        figures.append(save_figure(figure, args.out / f"calibration-{name}.png"))
    _print(seen, metrics)
    return finish(args, metrics, figures, seconds=total_seconds())


def _data(rng: np.random.Generator, rows: int) -> tuple[Tensor, Tensor]:
    """x ~ U(-1, 1), and y of one of two branches."""
    x = torch.as_tensor(rng.uniform(-1, 1, rows))
    upper = torch.as_tensor(rng.random(rows) < WEIGHTS[1])
    truth = _model("right", x).component_distribution
    chosen = upper.long()[:, None]
    loc, scale = (value.gather(-1, chosen)[:, 0] for value in (truth.loc, truth.scale))
    return x, loc + scale * torch.as_tensor(rng.normal(size=rows))


def _model(name: str, x: Tensor) -> Mixture:
    """The predictive of a model at x (N,)."""
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
    """How often each test rejects, and what the panel names, in a piece of the repetitions."""
    count = settings.repetitions // settings.processes
    rejected: dict[str, int] = {}
    widths: dict[str, list[float]] = {"nearest": [], "moment": [], "component": [], "gaussianised": []}
    # The same data sets for every model: differences are the models'.
    for seed in tqdm(np.random.SeedSequence([settings.seed, piece]).spawn(count), desc=f"{name} {piece}", disable=None):
        rng = np.random.default_rng(seed)
        x, y = _data(rng, settings.rows)
        model = _model(name, x)
        draw = int(rng.integers(2**31))
        panel = calibration_tests(model, y, seed=draw)
        for test, value in zip(panel.test.values, panel.p_value.values, strict=True):
            rejected[f"test.{test}"] = rejected.get(f"test.{test}", 0) + int(value < 0.05)
        moment = pulls(model, y, kind="moment").pull.values
        rejected["test.moment_ks"] = rejected.get("test.moment_ks", 0) + int(stats.kstest(moment, "norm").pvalue < 0.05)
        together = float(panel.attrs["p_value"]) < 0.05
        rejected["test.together"] = rejected.get("test.together", 0) + int(together)
        fault = f"named.{panel.attrs['fault']}"
        rejected[fault] = rejected.get(fault, 0) + 1
        widths["moment"].append(moment.std(ddof=1))
        widths["nearest"].append(_nearest(model, y).std(ddof=1))
        for kind in ("component", "gaussianised"):
            widths[kind].append(pulls(model, y, kind=kind, seed=draw).pull.values.std(ddof=1))
    shares = {key: value / count for key, value in rejected.items()}
    return shares | {f"width.{kind}": float(np.mean(values)) for kind, values in widths.items()}


def _nearest(model: Mixture, y: Tensor) -> np.ndarray:
    """Pulls from the nearest component: what not to take."""
    components = model.component_distribution
    each = (y[:, None] - components.loc) / components.scale
    return each.gather(-1, each.abs().argmin(-1, keepdim=True))[:, 0].numpy()


def _intervals(settings: Settings, name: str) -> Metrics:
    """How often the true width lies within one error, and within two, of that of ``rows`` pulls."""
    rng = np.random.default_rng([settings.seed, 7, list(WIDTHS).index(name)])
    inside = {"coverage68": 0, "coverage95": 0, "robust68": 0}
    robust = _robust_width(name)
    for _ in tqdm(range(settings.interval_repetitions), desc=f"width {name}", disable=None):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of two peaks the core has no width: said once is enough
            found = pull_summary(xr.Dataset({"pull": ("obs", _pulls(name, rng, settings.rows))}))
        off = abs(float(found["width"]) - WIDTHS[name]) / float(found["width_se"])
        inside["coverage68"] += off <= 1
        inside["coverage95"] += off <= 1.96
        inside["robust68"] += abs(float(found["robust_width"]) - robust) <= float(found["robust_width_se"])
    return {key: value / settings.interval_repetitions for key, value in inside.items()}


def _pulls(name: str, rng: np.random.Generator, rows: int) -> np.ndarray:
    if name == "t5":
        return rng.standard_t(5, rows)
    z = rng.normal(size=rows)
    return z + rng.choice([-1.5, 1.5], rows) if name == "bimodal" else z


def _robust_width(name: str) -> float:
    """Half the distance of the quantiles that hold 68.27 % of the true distribution."""
    upper = stats.norm.cdf(1.0)
    if name == "bimodal":
        mixture = Mixture.normal(torch.zeros(2).double(), torch.tensor([-1.5, 1.5]).double(), torch.ones(2).double())
        return float(mixture.icdf(torch.tensor(upper).double()))
    return float((stats.t(5) if name == "t5" else stats.norm).ppf(upper))


def _together(pieces: Sequence[Metrics]) -> dict[str, float]:
    """The mean over pieces of equal size; what a piece has none of is 0 there."""
    names = sorted({name for piece in pieces for name in piece if name != "seconds"})
    return {name: float(np.mean([piece.get(name, 0.0) for piece in pieces])) for name in names}


def _metrics(settings: Settings, seen: dict[str, dict[str, float]]) -> dict[str, float]:
    metrics: dict[str, float] = {"repetitions": settings.repetitions, "rows": settings.rows}
    for model, shares in seen.items():
        stem = "null" if model == "right" else f"power.{model}"
        for name, value in shares.items():
            kind, _, rest = name.partition(".")
            metrics[f"{stem}.{rest}.rejection" if kind == "test" else f"{kind}.{model}.{rest}"] = value
    metrics.pop("null.moment_ks.rejection")  # no test of the model: what comes of taking moment pulls for normal ones
    metrics["moment_ks.right.rejection"] = seen["right"]["test.moment_ks"]
    return metrics


def _print(seen: dict[str, dict[str, float]], metrics: dict[str, float]) -> None:
    tests = [name for name in seen["right"] if name.startswith("test.")]
    print(f"\nshare of {metrics['repetitions']:,.0f} repetitions in which a test rejects at 5 %")
    print(" " * 20 + "".join(f"{model:>10}" for model in seen))
    for test in tests:
        print(f"{test[5:]:20}" + "".join(f"{shares.get(test, float('nan')):10.3f}" for shares in seen.values()))
    for name in WIDTHS:
        print(f"true width within one error, {name} pulls: {metrics[f'width_interval.{name}.coverage68']:.3f}")


if __name__ == "__main__":
    sys.exit(main())
