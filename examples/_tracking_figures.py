"""Figures of `tracking.py`."""

from pathlib import Path

import numpy as np
import torch
import xarray as xr
from _report import save_figure
from _tracking import CHAINS, FRESH, NOISES, Settings, load
from matplotlib.figure import Figure

from posterity.data import Detector
from posterity.data.kept import read_tensors
from posterity.inference.plots import plot_pulls

TITLES = {
    "set": "set of tracks",
    "independent": "each intercept by itself",
    "hough_kalman": "Hough + Kalman",
    "combinatorial_daf": "combinatorial + annealing filter",
}
COLOURS = {name: f"C{number}" for number, name in enumerate(TITLES)}


@torch.no_grad()
def draw_events(settings: Settings, out: Path, *, tracks: int = 3) -> Path:
    """An event at each noise: the image, the true tracks, and those found with bands of two standard deviations."""
    net = load("set", settings, 0, out)
    figure = Figure(figsize=(12.5, 4.6), layout="constrained")
    for ax, noise in zip(figure.subplots(1, len(NOISES)), NOISES, strict=True):
        detector = Detector(noise=noise)
        event = detector.simulate(1, tracks=tracks, seed=FRESH - 1 - round(100 * noise) - settings.seed)
        found = net(event.images).found()
        ax.imshow(event.images[0, 0], cmap="Greys", vmin=0, vmax=2.2, origin="lower", extent=(-0.5, 27.5, 0, 28))
        layer, u = np.arange(28), torch.linspace(0, 1, 28)
        for number, line in enumerate(detector.positions(event.tracks[0])):
            ax.plot(layer, line, "--", color="C3", lw=1.4, label="true" if not number else None)
        design = torch.stack([1 - u, u], 1)
        for number in range(found.tracks.shape[1]):
            if found.existence[0, number].isnan():
                continue
            line = design @ found.tracks[0, number]
            sd = ((design @ found.covariance[0, number]) * design).sum(1).sqrt()
            label = "found, with 2 sd" if not number else None
            ax.fill_between(layer, line - 2 * sd, line + 2 * sd, color="C0", alpha=0.6, lw=0, label=label)
            ax.text(28, float(line[-1]), f"{float(found.existence[0, number]):.2f}", fontsize=8, va="center")
        ax.set(xlabel="layer", ylabel="y / pixels", title=f"noise {noise:g}", xlim=(-0.5, 30.5), ylim=(0, 28))
        ax.legend(loc="upper left", fontsize=8)
    figure.suptitle("Three tracks among noise; beside each found one, the probability that it is there")
    return save_figure(figure, out / "tracking-events.png")


def draw_pulls(out: Path) -> Path:
    figure = Figure(figsize=(12.5, 7.2), layout="constrained")
    axes = figure.subplots(2, len(NOISES))
    for row, kind in zip(axes, ("gaussianised", "component"), strict=True):
        for ax, noise in zip(row, NOISES, strict=True):
            values = read_tensors(out / f"pulls-{noise}.pt", "pulls")[kind]
            plot_pulls(xr.Dataset({"pull": ("obs", values.flatten().numpy())}, attrs={"kind": kind}), ax=ax)
            ax.set_title(f"noise {noise:g}")
    figure.suptitle("Pulls of both intercepts of one track")
    return save_figure(figure, out / "tracking-pulls.png")


def draw_counts(settings: Settings, metrics: dict[str, float], out: Path) -> Path:
    """Efficiency and fakes against the number of tracks, a column for each noise."""
    figure = Figure(figsize=(12.5, 6.6), layout="constrained")
    axes = figure.subplots(2, len(NOISES), sharey="row", sharex=True)
    for column, noise in enumerate(NOISES):
        for name in ("set", *CHAINS, "independent"):
            keys = [f"tracks{count}.noise{round(100 * noise)}.{name}" for count in settings.counts]
            efficiency = [metrics.get(f"{key}.efficiency", np.nan) for key in keys]
            wrong = [
                metrics.get(f"{key}.fake_rate", np.nan) + metrics.get(f"{key}.duplicate_rate", np.nan) for key in keys
            ]
            axes[0, column].plot(settings.counts, efficiency, "o-", color=COLOURS[name], label=TITLES[name])
            axes[1, column].plot(settings.counts, wrong, "o-", color=COLOURS[name])
        axes[0, column].set_title(f"noise {noise:g}")
        axes[1, column].set(xlabel="tracks in an event", xticks=settings.counts)
    axes[0, 0].set_ylabel("efficiency: true tracks that are found")
    axes[1, 0].set_ylabel("found tracks that are none, or twice")
    axes[0, 0].legend(fontsize=8)
    return save_figure(figure, out / "tracking-counts.png")
