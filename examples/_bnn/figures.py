"""Figures of ``bnn_regression.py``, large enough for a lecture hall."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from _report import save_figure
from matplotlib.animation import PillowWriter
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from _bnn.curves import CURVES
from _bnn.methods import POINTS as WITHOUT_BAND
from _bnn.methods import TITLES
from _bnn.panels import BAND, Panel, file_of
from _bnn.settings import NOISE_OF_POINTS, POINTS_OF_NOISES, Settings
from _bnn.wide import TITLES as WIDE
from posterity.files import replacing

NOISE, MEAN, LINE, TRUTH, EXACT, SURE = "#cfe0ee", "#f2b36b", "#a04000", "#111111", "#00614f", "#c00000"
COLOURS = {
    "exact": EXACT,
    "hmc": "#d55e00",
    "svi": "#0072b2",
    "ensemble": "#7a3e9d",
    "mdn": "#444444",
}
KINDS = {
    "modes": ("modes: {} networks fitted to the data", "#7a3e9d"),
    "anchored": ("anchored: {}, each with a draw of prior and noise", "#0072b2"),
}
REGIONS = {
    "data": ("among the data", "#009e73"),
    "gap": ("in the gap", "#d55e00"),
    "outside": ("outside", "#56b4e9"),
}
FONT = {"font.size": 15, "axes.titlesize": 15, "legend.fontsize": 14}


def draw_figures(
    out: Path, arrays: Path, panels: Sequence[Panel], methods: Sequence[str], metrics: Mapping[str, float],
    settings: Settings, pages: Iterable[str],
) -> list[Path]:  # fmt: skip
    """All figures of these pages, from the folder ``arrays``; returns their paths."""
    written = []
    with mpl.rc_context(FONT):
        for curve in dict.fromkeys(panel[0] for panel in panels):
            mine = [panel for panel in panels if panel[0] == curve]
            shown = next(name for name in ("hmc", *methods) if name in methods)
            written.append(save_figure(rows(arrays, mine, shown, metrics), out / f"rows-{curve}.png"))
            middle = (curve, POINTS_OF_NOISES, NOISE_OF_POINTS)
            if middle in mine and len(methods) > 1:
                written.append(save_figure(side_by_side(arrays, middle, methods), out / f"methods-{curve}.png"))
            sizes = sorted({panel[1] for panel in mine if panel[2] == NOISE_OF_POINTS})
            if len(sizes) > 1:
                written.append(save_figure(widths(metrics, curve, sizes), out / f"widths-{curve}.png"))
        if "wide" in pages:
            written.append(save_figure(closed_forms(arrays, metrics), out / "wide.png"))
        if "many" in pages:
            written.append(save_figure(many(arrays, metrics, settings), out / "many.png"))
        if "film" in pages:
            written.append(film(out, arrays))
    return written


def read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def panel_on(ax: Axes, content: Mapping[str, np.ndarray], exact: Mapping[str, np.ndarray] | None = None) -> None:
    """Bands of the data and of the mean, single networks, the true function and the points."""
    grid, mean = content["grid"], content["mean"]
    for name, colour, label in (
        ("total", NOISE, "90 % of new data"),
        ("epistemic", MEAN, "90 % of the function (epistemic)"),
    ):
        if content[name].max() > 0:
            half = BAND * content[name]
            ax.fill_between(grid, mean - half, mean + half, color=colour, lw=0, label=label)
    if len(content["lines"]) > 1:
        ax.plot(grid, content["lines"].T, color=LINE, lw=0.6, alpha=0.45)
        ax.plot([], [], color=LINE, lw=0.8, label=f"{len(content['lines'])} single networks")
    ax.plot(grid, mean, color=LINE, lw=2, label="mean")
    if exact is not None:
        for sign, label in ((-1, "exact posterior: 90 % of the function"), (1, None)):
            ax.plot(grid, exact["mean"] + sign * BAND * exact["epistemic"], color=EXACT, lw=1.6, ls="-.", label=label)
    ax.plot(grid, content["truth"], color=TRUTH, lw=1.8, ls="--", label="true function")
    size = 26 if len(content["x"]) < 100 else 8 if len(content["x"]) < 500 else 2
    ax.scatter(content["x"], content["y"], s=size, color="#222222", zorder=3, lw=0, label="data")
    ax.set_xlim(grid[0], grid[-1])
    ax.set_xlabel("x")


def rows(out: Path, panels: Sequence[Panel], name: str, metrics: Mapping[str, float]) -> Figure:
    """Row 1: growing noise; row 2: a growing number of points. The legend has the place that is left in row 1."""
    noisy = sorted((p for p in panels if p[1] == POINTS_OF_NOISES), key=lambda p: p[2])
    growing = sorted((p for p in panels if p[2] == NOISE_OF_POINTS), key=lambda p: p[1])
    lines = [line for line in (noisy, growing) if line]
    columns = max(len(noisy) + 1, len(growing))
    figure = Figure(figsize=(4.6 * columns, 4.4 * len(lines)), layout="constrained")
    axes = figure.subplots(len(lines), columns, squeeze=False, sharey="row", sharex=True)
    for row, line in zip(axes, lines, strict=True):
        limits = []
        for ax, panel in zip(row, line, strict=False):
            content, path = read(file_of(out, panel, name)), file_of(out, panel, "exact")
            panel_on(ax, content, read(path) if path.exists() and name != "exact" else None)
            limits.append(limits_of(content))
            ax.set_title(f"{panel[1]:,} points, noise {panel[2]:g}")
        row[0].set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        row[0].set_ylabel("y")
        for ax in row[len(line) :]:
            ax.axis("off")
    axes[0, len(lines[0]) - 1].xaxis.set_tick_params(labelbottom=True)
    axes[0, -1].legend(*axes[0, 0].get_legend_handles_labels(), loc="center", frameon=False)
    curve = CURVES[panels[0][0]]
    title = f"{TITLES[name]} of {curve.title}; no data between {curve.gap[0]:g} and {curve.gap[1]:g}"
    rhats = [value for key, value in metrics.items() if key.startswith(f"{curve.name}_") and key.endswith(".hmc.rhat")]
    if name == "hmc" and rhats:
        title += f"; R-hat of the function at most {max(rhats):.3f}"
    figure.suptitle(title[0].upper() + title[1:])
    return figure


def limits_of(content: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """Limits of y around the data and the true function."""
    both = np.concatenate([content["y"], content["truth"]])
    space = 0.25 * np.ptp(both)
    return float(both.min() - space), float(both.max() + space)


def side_by_side(out: Path, panel: Panel, methods: Sequence[str]) -> Figure:
    """Every method on one data set; a strip below marks where the truth is outside the band of the function."""
    # The weighted ensemble is hardly more than its most probable network.
    wanted = {"exact", *methods, *(["map"] if "ensemble" in methods else [])}
    names = [name for name in TITLES if name in wanted and file_of(out, panel, name).exists()]
    columns = (len(names) + 1) // 2
    figure = Figure(figsize=(5.4 * columns, 9.6), layout="constrained")
    axes = figure.subplots(2, columns, sharex=True, sharey=True).ravel()
    limits = []
    for ax, name in zip(axes, names, strict=False):
        content = read(file_of(out, panel, name))
        panel_on(ax, content)
        limits.append(limits_of(content))
        missed = np.abs(content["mean"] - content["truth"]) > BAND * content["epistemic"]
        band = (
            "has no band of the function"
            if name in WITHOUT_BAND
            else f"truth outside the band: {missed.mean():.0%} of x"
        )
        ax.set_title(f"{TITLES[name]}\n{band}")
        ax.fill_between(
            content["grid"], 0, 0.035, where=missed, transform=ax.get_xaxis_transform(), color=SURE, lw=0, zorder=4,
            label="too sure: truth outside the band",
        )  # fmt: skip
    low, high = min(low for low, _ in limits), max(high for _, high in limits)
    axes[0].set_ylim(low - 0.05 * (high - low), high)
    for ax in axes[len(names) :]:
        ax.axis("off")
    for ax in axes[::columns]:
        ax.set_ylabel("y")
    handles, labels = axes[0].get_legend_handles_labels()
    place = {"loc": "center"} if len(names) < len(axes) else {"loc": "outside lower center", "ncols": 4}
    (axes[-1] if len(names) < len(axes) else figure).legend(handles, labels, frameon=False, **place)
    figure.suptitle(
        f"{panel[1]} points of {CURVES[panel[0]].title}, noise {panel[2]:g} "
        "(a calibrated band leaves the truth outside at 10 % of x)"
    )
    return figure


def widths(metrics: Mapping[str, float], curve: str, sizes: Sequence[int]) -> Figure:
    """Epistemic band and noise band among the data, and the epistemic band in the gap, against the number of points."""
    figure = Figure(figsize=(15, 5.4), layout="constrained")
    axes = figure.subplots(1, 3)
    titles = (
        ("band_epistemic", "epistemic sd among the data"),
        ("sd_gap_ratio", "epistemic sd: gap over data"),
        ("band_noise", "sd of the noise"),
    )
    for ax, (key, title) in zip(axes, titles, strict=True):
        for name, colour in COLOURS.items():  # the weighted ensemble has hardly a band
            points = [(n, metrics[k]) for n in sizes if (k := f"{curve}_points.n{n}.{name}.{key}") in metrics]
            if points:
                ax.plot(*zip(*points, strict=True), marker="o", color=colour, lw=2, label=TITLES[name])
        ax.set(xscale="log", yscale="log", xlabel="number of points", title=title)
        ax.set_xticks(sizes, [f"{n:,}" for n in sizes])
        ax.minorticks_off()
    first = metrics.get(f"{curve}_points.n{sizes[0]}.hmc.band_epistemic")
    if first:
        at = np.array(sizes, float)
        axes[0].plot(at, first * (at / at[0]) ** -0.5, ":", color="k", label="proportional to 1/√N")
    axes[1].axhline(1, color="k", ls=":", label="no wider than among the data")
    axes[2].axhline(NOISE_OF_POINTS, color="k", ls="--", label="truth")
    for ax in axes:
        ticks = [
            t
            for t in (0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5, 10, 20, 30)
            if ax.get_ylim()[0] <= t <= ax.get_ylim()[1]
        ]
        ax.set_yticks(ticks, [f"{t:g}" for t in ticks])
        ax.minorticks_off()
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=4, frameon=False)
    axes[0].set_ylabel("standard deviation / units of y")
    return figure


def closed_forms(out: Path, metrics: Mapping[str, float]) -> Figure:
    """The posterior of a network by HMC on the closed form."""
    names = [name for name in WIDE if (out / "wide" / f"{name}.npz").exists()]
    figure = Figure(figsize=(5 * len(names), 5.6), layout="constrained")
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for ax, name in zip(axes, names, strict=True):
        content = read(out / "wide" / f"{name}.npz")
        grid = content["grid"]
        half = BAND * content["exact_sd"]
        ax.fill_between(
            grid,
            content["exact_mean"] - half,
            content["exact_mean"] + half,
            color="#a9d8cb",
            lw=0,
            label="closed form: 90 %",
        )
        ax.plot(grid, content["exact_mean"], color=EXACT, lw=2.5, label="closed form: mean")
        for sign in (-1, 0, 1):
            label = {-1: "network by HMC: 90 %", 0: "network by HMC: mean"}.get(sign)
            ax.plot(
                grid,
                content["mean"] + sign * BAND * content["sd"],
                color=LINE,
                lw=1.6,
                ls="--" if sign else ":",
                label=label,
            )
        ax.scatter(content["x"], content["y"], s=22, color="#222222", lw=0, zorder=3, label="data")
        largest, ratio = metrics[f"wide.{name}.mean_max"], metrics[f"wide.{name}.sd_ratio"]
        ax.set_title(f"{WIDE[name]}\nmean within {largest:.2f} sd, sd ratio {ratio:.2f}", fontsize=14)
        ax.set(xlabel="x", xlim=(grid[0], grid[-1]))
    axes[0].set(ylabel="y", ylim=limits_of(content | {"y": content["y"] * 1.3}))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    return figure


def many(out: Path, metrics: Mapping[str, float], settings: Settings) -> Figure:
    """The networks of two kinds of ensembles; their spread and their log score against the number of networks."""
    content, sizes = read(out / "many" / "networks.npz"), settings.many_members
    figure = Figure(figsize=(20, 12.5), layout="constrained")
    upper, lower = figure.subfigures(2, 1)
    for ax, kind in zip(upper.subplots(1, 2, sharey=True), KINDS, strict=True):
        members_on(ax, content, kind)
        handles, labels = ax.get_legend_handles_labels()
    upper.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    spread, shift, score = lower.subplots(1, 3)
    for kind, style in (("modes", ":"), ("anchored", "-")):
        for name, (label, colour) in REGIONS.items():
            values = [metrics[f"many.{kind}.members{n}.sd_ratio_{name}"] for n in sizes]
            spread.plot(sizes, values, "o", ls=style, color=colour, lw=2, label=f"{kind}, {label}")
            values = [metrics[f"many.{kind}.members{n}.mean_shift_{name}"] for n in sizes]
            shift.plot(sizes, values, "o", ls=style, color=colour, lw=2, label=f"{kind}, {label}")
        values = [metrics[f"many.{kind}.members{n}.elpd"] for n in sizes]
        score.plot(sizes, values, "o", ls=style, color=KINDS[kind][1], lw=2, label=f"{kind}, equal weights")
    for name, symbol in (("stacking", "s"), ("evidence", "D")):
        if f"many.modes.{name}.elpd" in metrics:
            value = metrics[f"many.modes.{name}.elpd"]
            score.plot(
                sizes[-1:], [value], symbol, ms=11, mec="k", color=KINDS["modes"][1], label=f"modes, weighted by {name}"
            )
    spread.axhline(1, color="k", ls="--", label="full posterior (HMC)")
    spread.set(title="Their error band", ylabel="spread of the networks / posterior sd", ylim=(0, None))
    score.axhline(metrics["many.hmc.elpd"], color="k", ls="--", lw=2, label="full posterior (HMC)")
    score.set(title="Their prediction", ylabel="log score of fresh points / nats per point")
    shift.plot(sizes, np.array(sizes) ** -0.5, color="k", ls="--", label="exact draws: 1/√n")
    shift.set(title="Their mean", ylabel="distance from its mean / posterior sd", ylim=(0, None))
    for ax in (spread, shift, score):
        ax.set(xscale="log", xlabel="number of networks")
        ax.set_xticks(sizes, [str(n) for n in sizes])
        ax.minorticks_off()
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), frameon=False, ncols=2)
    return figure


def members_on(ax: Axes, content: Mapping[str, np.ndarray], kind: str) -> None:
    """The networks of one ensemble on the band of the posterior."""
    title, colour = KINDS[kind]
    grid, half, functions = content["grid"], BAND * content["sd"], content[kind]
    low, high = content["mean"] - half, content["mean"] + half
    ax.fill_between(grid, low, high, color=MEAN, lw=0, label="posterior by HMC: 90 %")
    ax.plot(grid, functions.T, color=colour, lw=0.7, alpha=0.5)
    ax.plot([], [], color=colour, lw=0.8, label="single networks")
    ax.plot(grid, functions.mean(0), color=colour, lw=2.5, label="their mean")
    ax.plot(grid, content["truth"], color=TRUTH, ls="--", lw=1.8, label="true function")
    ax.scatter(content["x"], content["y"], s=26, color="#222222", lw=0, zorder=3, label="data")
    ax.set(xlabel="x", ylabel="y", xlim=(grid[0], grid[-1]), ylim=limits_of(content))
    ax.set_title(title.format(len(functions)))


def film(out: Path, arrays: Path) -> Path:
    """``band.gif``: one frame for each number of points."""
    content = read(arrays / "film.npz")
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    ax = figure.subplots()
    writer, path = PillowWriter(fps=3), out / "band.gif"
    low, high = limits_of(content)
    with replacing(path) as temporary:
        named = temporary.with_suffix(".gif")  # the format comes from the name
        with writer.saving(figure, str(named), dpi=80):
            last = len(content["points"]) - 1
            for frame, count in enumerate(content["points"]):
                ax.clear()
                total = np.hypot(content["sd"][frame], content["noise"][frame])
                shown = {name: content[name][:count] for name in ("x", "y")}
                shown |= {"mean": content["mean"][frame], "lines": content["lines"][frame], "total": total}
                panel_on(ax, content | shown | {"epistemic": content["sd"][frame]})
                ax.set(
                    ylim=(low, high + 0.45 * (high - low)), ylabel="y", title=f"{count} point{'s' if count > 1 else ''}"
                )
                ax.legend(loc="upper center", ncols=3, frameon=False, fontsize=11)
                canvas.draw()
                for _ in range(8 if frame == last else 1):
                    writer.grab_frame()
        named.replace(temporary)
    return path
