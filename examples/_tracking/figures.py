"""Figures of ``tracking.py``."""

from pathlib import Path

import numpy as np
import torch
import xarray as xr
from _report import save_figure
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from _tracking.networks import load
from _tracking.settings import Settings, noise_name, test_seed
from _tracking.several_tracks import CLASSICAL, paired_intercepts
from _tracking.single_track import SHIFTED
from posterity.data import Detector
from posterity.files import read_tensors
from posterity.inference.plots import plot_pull

TITLES = {
    "set": "set of tracks",
    "hough_kalman": "Hough + Kalman",
    "combinatorial_daf": "combinatorial + annealing filter",
    "independent": "each intercept by itself",
}
COLOURS = {name: f"C{number}" for number, name in enumerate(TITLES)}
MARKERS = dict(zip(TITLES, "osDv", strict=True))


@torch.no_grad()
def draw_events(
    settings: Settings, noises: tuple[float, ...], heads: tuple[str, ...], out: Path, *, tracks: int = 3
) -> Path:
    """One event at each noise, with true and found tracks: bands of two standard deviations, or lines."""
    figure = Figure(figsize=(max(8.4, 4.2 * len(noises)), 4.3 * len(heads)), layout="constrained")
    axes = figure.subplots(len(heads), len(noises), squeeze=False)
    for row, head in zip(axes, heads, strict=True):
        net = load(head, settings, 0, out)
        for ax, noise in zip(row, noises, strict=True):
            detector = Detector(noise=noise)
            event = detector.simulate(1, tracks=tracks, seed=test_seed(settings, 99_000 + round(100 * noise)))
            image = event.images[0, 0]
            ax.imshow(image, cmap="Greys", vmin=0, vmax=2.5, origin="lower", extent=(-0.5, 27.5, 0, 28), aspect="auto")
            layer, u = np.arange(28), torch.linspace(0, 1, 28)
            for number, line in enumerate(detector.positions(event.tracks[0])):
                ax.plot(layer, line, "--", color="C3", lw=1.5, label="true" if not number else None, zorder=3)
            design = torch.stack([1 - u, u], 1)
            if head == "set":
                found = net(event.images).detect()
                for m in range(found.tracks.shape[1]):
                    if not found.existence[0, m].isnan():
                        _band(ax, design, found.tracks[0, m], found.covariance[0, m], float(found.existence[0, m]))
                ax.fill_between([], [], [], color="C0", alpha=0.5, lw=0, label="found, with 2 sd")
            else:
                for line in (design @ paired_intercepts(net, event.images)[0].mT).T:
                    ax.plot(layer, line, color="C1", lw=2.2, alpha=0.8)
                ax.plot([], [], color="C1", lw=2.2, label="found, paired by probability")
            ax.set(xlabel="layer", ylabel="y / pixels", xlim=(-0.5, 30.5), ylim=(0, 28))
            ax.set_title(f"{TITLES[head]}, noise {noise:g}", fontsize=10)
    entries: dict[str, Artist] = {}
    for ax in axes[:, 0]:
        entries |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=3, fontsize=9)
    figure.suptitle(f"{tracks} tracks among noise; numbers: probability of existence of each found track of a set")
    return save_figure(figure, out / "tracking-events.png")


def _band(ax: Axes, design: Tensor, mean: Tensor, covariance: Tensor, existence: float) -> None:
    line, sd = design @ mean, ((design @ covariance) * design).sum(1).sqrt()
    ax.fill_between(np.arange(28), line - 2 * sd, line + 2 * sd, color="C0", alpha=0.5, lw=0)
    ax.plot(np.arange(28), line, color="C0", lw=0.8)
    ax.text(28, float(line[-1]), f"{existence:.2f}", fontsize=8, va="center")


def draw_pulls(noises: tuple[float, ...], out: Path) -> Path:
    figure = Figure(figsize=(4.2 * len(noises), 7.4), layout="constrained")
    axes = figure.subplots(2, len(noises), squeeze=False)
    for row, kind in zip(axes, ("gaussianised", "component"), strict=True):
        for ax, noise in zip(row, noises, strict=True):
            values = read_tensors(out / f"pulls-{noise_name(noise)}.pt", "pulls")[kind]
            plot_pull(xr.Dataset({"pull": ("obs", values.flatten().numpy())}, attrs={"kind": kind}), ax=ax)
            ax.set_title(f"noise {noise:g}")
    figure.suptitle("Pulls of both intercepts of one track, test events")
    return save_figure(figure, out / "tracking-pulls.png")


def draw_counts(counts: tuple[int, ...], noises: tuple[float, ...], metrics: dict[str, float], out: Path) -> Path:
    """Lost tracks, and fakes and duplicates, against the number of tracks; one column for each noise."""
    figure = Figure(figsize=(max(8.4, 4.2 * len(noises)), 6.8), layout="constrained")
    axes = figure.subplots(2, len(noises), sharey="row", sharex=True, squeeze=False)
    for column, noise in enumerate(noises):
        keys = [f"tracks{count}.{noise_name(noise)}" for count in counts]
        _rates(axes[:, column], list(counts), keys, metrics)
        axes[0, column].set_title(f"noise {noise:g}")
        axes[1, column].set(xlabel="tracks in an event", xticks=counts)
    _labels(axes[:, 0])
    return save_figure(figure, out / "tracking-counts.png")


def draw_noise(tracks: int, noises: tuple[float, ...], metrics: dict[str, float], out: Path) -> Path:
    figure = Figure(figsize=(7.6, 7.4), layout="constrained")
    axes = figure.subplots(2, 1, sharex=True)
    _rates(axes, list(noises), [f"tracks{tracks}.{noise_name(noise)}" for noise in noises], metrics)
    axes[0].set_title(f"{tracks} tracks in an event")
    axes[1].set_xlabel("noise: probability that an empty pixel fires")
    _labels(axes)
    return save_figure(figure, out / "tracking-noise.png")


def _rates(axes: np.ndarray, x: list, keys: list[str], metrics: dict[str, float]) -> None:
    for name, title in TITLES.items():
        if not any(f"{key}.{name}.efficiency" in metrics for key in keys):
            continue
        lost = [1 - metrics.get(f"{key}.{name}.efficiency", np.nan) for key in keys]
        wrong = [
            metrics.get(f"{key}.{name}.fake_rate", np.nan) + metrics.get(f"{key}.{name}.duplicate_rate", np.nan)
            for key in keys
        ]
        style: dict[str, object] = {"color": COLOURS[name], "marker": MARKERS[name], "ms": 5}
        if name == "set":  # visible behind other markers
            style |= {"ms": 9, "mfc": "none", "mew": 1.8, "zorder": 4}
        axes[0].plot(x, np.maximum(lost, 5e-4), label=title, **style)
        axes[1].plot(x, np.maximum(wrong, 5e-4), **style)
    for ax in axes:
        ax.set(yscale="log", ylim=(4e-4, 1))


def _labels(axes: np.ndarray) -> None:
    axes[0].set_ylabel("lost true tracks: 1 - efficiency\n(zero is drawn at 0.0005)")
    axes[1].set_ylabel("fakes and duplicates / found tracks")
    axes[0].figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)


def draw_existence(noises: tuple[float, ...], out: Path) -> Path:
    """Calibration of the probability of existence, and width of pulls by the predicted standard deviation."""
    figure = Figure(figsize=(11.5, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color="0.6", lw=1)
    right.axhspan(0.95, 1.05, color="0.9")
    for number, noise in enumerate(noises):
        data = read_tensors(out / f"said-{noise_name(noise)}.pt", "existence and pulls")
        count = data["number"].clamp_min(1)
        error = (data["right"] * (1 - data["right"]) / count).sqrt()
        style = {"color": f"C{number}", "marker": "o", "ms": 4, "capsize": 2, "lw": 1.2}
        left.errorbar(data["sure"], data["right"], error, label=f"noise {noise:g}", **style)
        sd, pull = data["sd"].flatten().numpy(), data["pull"].flatten().numpy()
        groups = np.array_split(np.argsort(sd), min(8, len(sd)))
        half = [np.ptp(np.quantile(pull[group], [0.1587, 0.8413])) / 2 for group in groups]
        middle = [np.median(sd[group]) for group in groups]
        right.errorbar(
            middle, half, [0.96 * w / np.sqrt(len(group) / 2) for w, group in zip(half, groups, strict=True)],
            label=f"noise {noise:g}", **style,
        )  # fmt: skip
    left.set(xlabel="predicted probability of existence", ylabel="share that matches a true track")
    left.legend(fontsize=8)
    right.set(xlabel="predicted standard deviation / pixels", ylabel="width of the pull (68 %)", xscale="log")
    right.set_ylim(0.6, 1.5)
    right.legend(fontsize=8)
    figure.suptitle("Sets of tracks: existence, and pulls by predicted standard deviation")
    return save_figure(figure, out / "tracking-existence.png")


def draw_cost(size: int, metrics: dict[str, float], loud: tuple[float, ...], more: tuple[int, ...], out: Path) -> Path:
    figure = Figure(figsize=(11.5, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in ("set", *CLASSICAL):
        style = {"color": COLOURS[name], "marker": MARKERS[name], "ms": 5}
        keys = [f"timing.{name}.noise{100 * noise:g}" for noise in loud]
        power = metrics[f"timing.{name}.power"]
        left.loglog(
            [metrics[f"{key}.hits"] for key in keys],
            [metrics[f"{key}.milliseconds"] for key in keys],
            label=f"{TITLES[name]}: power {power:.2f}",
            **style,
        )
        power = metrics[f"timing.{name}.power_of_tracks"]
        right.loglog(
            more,
            [metrics[f"timing.{name}.tracks{tracks}.milliseconds"] for tracks in more],
            label=f"{TITLES[name]}: power {power:.2f}",
            **style,
        )
    left.set(xlabel="fired pixels in an event (power of the largest four)", ylabel="ms / event, one thread")
    left.set_title(f"three tracks, {size} pixels a layer, rising noise", fontsize=10)
    right.set_title("28 pixels a layer", fontsize=10)
    right.set(xlabel="tracks in an event, noise 0.1", ylabel="ms / event, one thread", xticks=more, xticklabels=more)
    for ax in (left, right):
        ax.legend(fontsize=8)
        ax.minorticks_off()
        low, high = ax.get_ylim()
        shown = [tick for tick in (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500) if low < tick < high]
        ax.set_yticks(shown, [f"{tick:g}" for tick in shown])
    low, high = left.get_xlim()
    shown = [tick for tick in (50, 100, 250, 500, 1000, 2000) if low < tick < high]
    left.set_xticks(shown, [f"{tick:g}" for tick in shown])
    return save_figure(figure, out / "tracking-cost.png")


def draw_shifted(metrics: dict[str, float], out: Path) -> Path:
    figure = Figure(figsize=(11.5, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = list(SHIFTED)
    labels = [
        f"{detector.noise:g}" if not sagitta else f"{sagitta:g} px\nbent" for detector, sagitta in SHIFTED.values()
    ]
    colours = ["C0" if name in names[:3] else "C3" for name in names]
    left.bar(labels, [metrics[f"unlike.{name}.epistemic_nats"] for name in names], color=colours)
    left.set(ylabel="information about the member / nats", title="Disagreement between members")
    right.axhline(1, color="0.6", lw=1)
    right.plot(labels, [metrics[f"unlike.{name}.pull_width"] for name in names], "o", color="k", label="width")
    right.plot(labels, [metrics[f"unlike.{name}.pull_robust_width"] for name in names], "s", color="C2", label="68 %")
    right.set(ylabel="width of the pull", title="Width of pulls", yscale="log")
    right.set_yticks([0.8, 1, 1.5, 2, 3, 5], ["0.8", "1", "1.5", "2", "3", "5"])
    right.minorticks_off()
    right.legend(fontsize=8)
    for ax in (left, right):
        ax.set_xlabel("noise (red: unlike training), or noise 0.1 and a bent track")
    return save_figure(figure, out / "tracking-unlike.png")
