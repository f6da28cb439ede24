"""One method on one data set: numbers on fresh points, and the bands that the figures show."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _report import save_arrays
from torch import Tensor

from _bnn.curves import CURVES, Curve
from _bnn.methods import POINTS, fit
from _bnn.settings import NOISE_OF_POINTS, NOISES, POINTS_OF_NOISES, Settings
from _bnn.settings import POINTS as SIZES
from posterity.data import Observations
from posterity.random import child_seeds

REPEATED = 200  # points of the data sets on which the noise is measured again
CHUNK = 1000  # test points in one prediction
BAND = 1.645  # half-width of a central 90 % region of a normal, in standard deviations

Panel = tuple[str, int, float]  # curve, points, noise


def wanted_panels(curves: Iterable[str], points: Iterable[int], noises: Iterable[float]) -> list[Panel]:
    """The data sets of both rows, without repetition."""
    pairs = [(POINTS_OF_NOISES, noise) for noise in noises] + [(n, NOISE_OF_POINTS) for n in points]
    return [(curve, *pair) for curve in curves for pair in dict.fromkeys(pairs)]


def panel_name(panel: Panel) -> str:
    curve, points, noise = panel
    return f"{curve}-n{points}-sd{noise:g}".replace(".", "p")


def file_of(out: Path, panel: Panel, name: str) -> Path:
    return out / "bands" / f"{panel_name(panel)}-{name}.npz"


def data_seed(panel: Panel, settings: Settings) -> int:
    """A seed for each curve, so that curves do not share their noise."""
    return len(CURVES) * settings.seed + list(CURVES).index(panel[0])


def compute_panel(panel: Panel, method: str, settings: Settings, out: Path) -> dict[str, float]:
    """Numbers of a method under ``<fit>.<number>``; the bands go to files."""
    torch.set_num_threads(1)
    curve, (_, points, noise) = CURVES[panel[0]], panel
    data = curve.data(points, noise, data_seed(panel, settings))
    grid = curve.grid()
    fits, about = fit(method, curve, data, grid[::3], settings, settings.seed)
    numbers = {f"{method}.{name}": value for name, value in about.items()}
    for name, found in fits.items():
        numbers |= {f"{name}.{key}": value for key, value in score(found, curve, data, settings, name).items()}
        write_bands(file_of(out, panel, name), found, data, grid)
    return numbers


def noise_of(curve_name: str, repeat: int, settings: Settings) -> dict[str, float]:
    """The noise by HMC from one more data set of `REPEATED` points."""
    torch.set_num_threads(1)
    curve = CURVES[curve_name]
    seed = child_seeds(settings.seed, settings.noise_repeats * len(CURVES))[
        list(CURVES).index(curve_name) * settings.noise_repeats + repeat
    ]
    data = curve.data(REPEATED, NOISE_OF_POINTS, seed)
    found, about = fit("hmc", curve, data, curve.grid()[::3], settings, seed)
    predictive = found["hmc"].predict(data.x)
    noise = float((predictive.variance - predictive.epistemic).mean().sqrt())
    return {"noise": noise, "rhat": about["rhat"]}


def score(found: Any, curve: Curve, data: Observations, settings: Settings, name: str) -> dict[str, float]:
    """R², coverage and log score on fresh points; widths of the bands; how often the truth is outside of them."""
    x, y, truth = curve.fresh(data, settings.fresh, settings.seed + 1)
    parts = []
    for start in range(0, len(x), CHUNK):
        rows = slice(start, start + CHUNK)
        predictive = found.predict(x[rows])
        noise = predictive.variance - predictive.epistemic
        level, log_score = predictive.cdf(y[rows]), predictive.log_prob(y[rows])
        parts.append(torch.stack([predictive.mean, predictive.epistemic, noise, level, log_score]))
    mean, epistemic, noise, level, log_score = torch.cat(parts, 1).double()
    numbers = {
        "r2": 1 - float((mean - truth).square().mean() / truth.double().var(correction=0)),
        "coverage90": float(((level > 0.05) & (level < 0.95)).double().mean()),
        "elpd": float(log_score.mean()),
        "band_noise": float(noise.mean().sqrt()),
    }
    realised = (data.y - data.oracle(data.x).mean).double().square().mean().sqrt()  # type: ignore[misc]
    numbers["noise_over_realised"] = numbers["band_noise"] / float(realised)
    if name in POINTS:
        return numbers
    numbers["band_epistemic"] = float(epistemic.mean().sqrt())
    return numbers | regions(found, curve, data)


def regions(found: Any, curve: Curve, data: Observations) -> dict[str, float]:
    """Widths of the epistemic band in the gap and outside, relative to the data; shares of x with the truth outside."""
    grid = curve.grid()
    prediction, truth = found.predict(grid), data.oracle(grid).mean  # type: ignore[misc]
    variance, error = prediction.epistemic, (prediction.mean - truth).abs()
    where = curve.regions(grid)
    inside = variance[where["data"]].mean().sqrt()
    ratios = {}
    if inside > 0:  # not if one member has all the weight
        ratios = {f"sd_{at}_ratio": float(variance[where[at]].mean().sqrt() / inside) for at in ("gap", "outside")}
    missed = {
        f"missed_{name}": float((error > BAND * variance.sqrt())[at].double().mean()) for name, at in where.items()
    }
    return ratios | missed


def write_bands(path: Path, found: Any, data: Observations, grid: Tensor) -> None:
    """Everything that a panel of a figure shows."""
    predictive = found.predict(grid)
    save_arrays(
        path,
        x=data.x[:, 0],
        y=data.y,
        grid=grid[:, 0],
        truth=data.oracle(grid).mean,  # type: ignore[misc]
        mean=predictive.mean,
        epistemic=predictive.epistemic.sqrt(),
        total=predictive.variance.sqrt(),
        lines=found.lines(grid),
    )


def row_metrics(results: dict[tuple[Panel, str], dict[str, float]]) -> dict[str, float]:
    """``<curve>_noise.sd03.<method>.<number>`` and ``<curve>_points.n50.<method>.<number>``, and powers of bands."""
    metrics: dict[str, float] = {}
    bands: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for (panel, _), numbers in results.items():
        curve, points, noise = panel
        keys = [f"{curve}_noise.sd{round(10 * noise):02d}"] if points == POINTS_OF_NOISES and noise in NOISES else []
        keys += [f"{curve}_points.n{points}"] if noise == NOISE_OF_POINTS and points in SIZES else []
        keys = keys or [f"{curve}.{panel_name(panel)}"]
        for key in keys:
            metrics |= {f"{key}.{name}": value for name, value in numbers.items() if name != "seconds"}
        for name, value in numbers.items():
            if name.endswith(".band_epistemic") and noise == NOISE_OF_POINTS:
                bands.setdefault((curve, name.split(".")[0]), []).append((points, value))
    for (curve, name), found in bands.items():
        sizes, widths = np.array(found).T
        if len(set(sizes)) > 1:
            metrics[f"{curve}_points.{name}.band_power"] = -float(np.polyfit(np.log(sizes), np.log(widths), 1)[0])
    return metrics
