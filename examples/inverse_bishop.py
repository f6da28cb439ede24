"""Several right answers: mixture density networks on Bishop's inverse problem, compared with the exact density.

    python examples/inverse_bishop.py --quick
    python examples/inverse_bishop.py          # five seeds of 100,000 rows: the numbers in examples/results

With x = t + 0.3 sin(2 pi t) + noise, t is predicted from x (Bishop 1994, NCRG/94/004). For middle values of x three
values of t are right, and the mean of t, the prediction of least squares, is often none of them. The data are
simulated, so the lowest expected negative log-likelihood (NLL) is known, and so is the lowest of any K Gaussians:

- ``gauss05.k3``, ``gauss05.k5``: noise N(0, 0.05²), K = 3 and 5. The floor is -1.2263 nats, the best three Gaussians
  have -1.215.
- ``uniform.k3``: noise U(-0.1, 0.1), K = 3. The floor is -1.2823 nats. The best three Gaussians have -1.178, because
  p(t|x) is flat with sharp edges. The fits are worse where p(t|x) is a single interval: one component covers it, and
  the others have lost their weight there, and with it their gradient. The mean of the fit has nearly the smallest
  possible squared error, 0.0383, although it is often no right answer.

Each fit and the exact density are scored on fresh rows. Modes are compared at x = 0.5; highest-density regions and the
probability integral transform are those of ``gauss05.k5``. The example writes two figures and ``report.json``. An
interrupted run is resumed when it is repeated; after a change of the code, use another ``--out``.
"""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from _mdn import ROWS, bonferroni, excess, log_scores, standard_error
from _parts import compute_part, total_seconds
from _report import finish, inches, parser, save_figure
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch.distributions import Distribution
from tqdm.auto import tqdm

from posterity.data import Observations, Standardization, bishop
from posterity.inference import Ensemble, Posterior, PredictiveMixture, infer
from posterity.inference.diagnostics import pit, uniformity_test
from posterity.inference.plots import plot_conditional_density
from posterity.models import Pair, mixture_density, mixture_head, mixture_priors, radial

RESOLUTION = 1e-3  # smallest scale of a component: a hundredth of the narrowest feature
MIDDLE = 0.5  # an x with three answers, of which the mean is the middle one; modes are compared here
OFF_CENTRE = 0.42  # an x where the mean is not an answer
MIN_PROBABILITY = 0.05  # of a mode that counts
LEVELS = (50, 90)
SHOWN = 300  # training rows in the figure
INK, BLUE, ORANGE, VERMILION = "#222222", "#0072B2", "#E69F00", "#D55E00"


@dataclass(frozen=True)
class Case:
    """A problem and a network, whose settings were chosen on other draws of the simulator."""

    noise: Literal["uniform", "normal"]
    scale: float
    components: int
    title: str
    best: float | None  # expected excess of the best K Gaussians in nats, if known
    steps: int = 3000
    centres: int = 40
    even: float = 0.0  # prior for even weights in a first fit, in nats per row


CASES = {
    "gauss05.k3": Case("normal", 0.05, 3, "noise N(0, 0.05²), K = 3", 0.011),
    "gauss05.k5": Case("normal", 0.05, 5, "noise N(0, 0.05²), K = 5", None),
    "uniform.k3": Case("uniform", 0.1, 3, "noise U(−0.1, 0.1), K = 3", 0.104, even=0.2),
}


@dataclass(frozen=True)
class Settings:
    """Everything else that the numbers of a case depend on."""

    rows: int = 100_000  # for training, and as many for testing
    regions: int = 5_000  # rows with highest-density regions
    batch_size: int = 2000
    learning_rate: float = 0.05
    steps: int | None = None  # instead of those of the case
    repeats: int = 5
    seed: int = 0


QUICK = Settings(rows=10_000, regions=1_000, steps=800, repeats=2)


def problem(case: Case, settings: Settings, repeat: int) -> tuple[Observations, Observations]:
    """Training rows and test rows, with different seeds."""
    seed = 1000 * settings.seed + repeat
    train, test = (bishop(settings.rows, case.noise, case.scale, seed=s) for s in (seed, seed + 500))
    return train, test


def make_pair(case: Case, data: Observations, repeat: int, first: Posterior | None = None, even: float = 0.0) -> Pair:
    """A linear layer over radial basis functions of x, with the weights of a ``first`` fit if there is one."""
    scale = Standardization.fit(data)
    head = mixture_head(case.components, floor=RESOLUTION / float(scale.y_scale))
    net = radial(scale.x(data.x), case.centres, head.features, seed=repeat)
    if first is not None:
        net.load_state_dict({k.removeprefix("net."): v[0, 0] for k, v in first.draws.items()}, strict=False)
    extra_priors = (mixture_priors.EvenWeights(strength=even * len(data)),) if even else ()
    return mixture_density(scale, head=head, net=net, mixture_priors=extra_priors)


def fit(case: Case, settings: Settings, repeat: int, path: Path) -> dict[str, float]:
    """Metrics on fresh rows of one network, fitted to one draw of the simulator and stored in a file.

    Where one answer is right, all components could share it, but those without weight there have no gradient. A first
    fit with a prior for even weights moves them; the second fit is plain maximum likelihood from there.
    """
    train, test = problem(case, settings, repeat)
    method = Ensemble(
        members=1,
        steps=settings.steps or case.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        progress=False,
    )
    first = None
    if case.even:
        first = infer(make_pair(case, train, repeat, even=case.even), train.x, train.y, method=method, seed=repeat)
        method = replace(method, learning_rate=0.3 * settings.learning_rate)
    posterior = infer(make_pair(case, train, repeat, first), train.x, train.y, method=method, seed=repeat)
    if posterior.attrs["interrupted"]:
        raise KeyboardInterrupt  # an incomplete fit must not be stored
    path.parent.mkdir(parents=True, exist_ok=True)
    posterior.save(path)
    return evaluate(posterior, test, settings.regions)


def fit_path(out: Path, name: str, settings: Settings, repeat: int) -> Path:
    """File of a fit; its name has a hash of the settings."""
    digest = hashlib.sha256(repr((CASES[name], settings)).encode()).hexdigest()[:8]
    return out / "fits" / f"{name}-{repeat}-{digest}.posterior"


def evaluate(posterior: Posterior, test: Observations, few: int) -> dict[str, float]:
    """All metrics of one fit; calibration on the first ``few`` rows, because regions take time."""
    scores = log_scores(posterior, test)
    behind = excess(scores, test)
    y = test.y.double()
    mean = torch.cat([predict(posterior, x).mean for x in test.x.split(ROWS)])
    numbers = {
        "nll": float(-scores.mean()),
        "oracle": float((scores + behind).mean() * -1),
        "below_z": float(-behind.mean() / (behind.std(ddof=1) / np.sqrt(len(behind)))),
        "mean_mse": float(((mean - y) ** 2).mean()),
        "oracle_mse": float(((truth(test, test.x).mean - y) ** 2).mean()),
    }
    middle = torch.tensor([[MIDDLE]])
    modes = predict(posterior, middle).modes(min_probability=MIN_PROBABILITY).location[0]
    modes = modes[modes.isfinite()]
    exact = exact_modes(truth(test, middle))
    numbers["modes"] = float(len(modes))
    numbers["modes_error"] = float((exact[:, None] - modes).abs().amin(1).max())
    some = test.subset(slice(few))
    mixture, y = predict(posterior, some.x), some.y.double()
    uniform = uniformity_test(pit(mixture, y))
    numbers |= {"pit_p": float(uniform["p_value"]), "pit_distance": float(uniform["statistic"])}
    for level in LEVELS:
        numbers[f"coverage{level}"] = float(mixture.hdr(level / 100).contains(y).double().mean())
    return numbers


def predict(posterior: Posterior, x: torch.Tensor) -> PredictiveMixture:
    return posterior.predictive(x).to(torch.double)


def truth(data: Observations, x: torch.Tensor) -> Any:
    assert data.oracle is not None  # simulated data have an oracle
    return data.oracle(x.double())


def exact_modes(one: Distribution) -> torch.Tensor:
    """Local maxima of one exact density, to 1e-5 of its range."""
    t = torch.linspace(0, 1, 100_001, dtype=torch.double)
    height = one.log_prob(t)
    return t[1:-1][(height[1:-1] > height[:-2]) & (height[1:-1] >= height[2:])]


def summarise(rows: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """Means over seeds with their standard errors."""
    metrics: dict[str, float] = {}
    for name, fits in rows.items():

        def over(key: str, fits: Sequence[dict[str, float]] = fits) -> list[float]:
            return [fit[key] for fit in fits]

        gap = [fit["nll"] - fit["oracle"] for fit in fits]
        metrics |= {
            f"{name}.nll": float(np.mean(over("nll"))),
            f"{name}.nll_se": standard_error(over("nll")),
            f"{name}.nll_oracle": float(np.mean(over("oracle"))),
            f"{name}.excess": float(np.mean(gap)),
            f"{name}.excess_se": standard_error(gap),
            f"{name}.nll_below_oracle_z": max(over("below_z")),
            f"{name}.pit_p": bonferroni(over("pit_p")),
            f"{name}.pit_distance": float(np.mean(over("pit_distance"))),
            f"{name}.seconds": float(np.mean(over("seconds"))),
        }
        for level in LEVELS:
            metrics[f"{name}.coverage{level}"] = float(np.mean(over(f"coverage{level}")))
    for key in ("mean_mse", "oracle_mse"):
        values = [fit[key] for fit in rows["uniform.k3"]]
        metrics |= {f"uniform.{key}": float(np.mean(values)), f"uniform.{key}_se": standard_error(values)}
    for name, prefix in (("gauss05.k3", "gauss05"), ("gauss05.k5", "gauss05.k5")):
        metrics[f"{prefix}.modes_max_error"] = max(fit["modes_error"] for fit in rows[name])
        metrics[f"{prefix}.modes_found"] = float(np.mean([fit["modes"] for fit in rows[name]]))
    return metrics


def draw_answers(settings: Settings, out: Path) -> Path:
    """p(t|x) with the data for both noises, and sections at two values of x with the exact density."""
    figure = Figure(figsize=inches(10.4, 7.0), layout="constrained")
    figure.suptitle("One x, several right t: Bishop's inverse problem", fontsize="x-large")
    rows = figure.subplots(2, 3, width_ratios=[2, 1, 1], sharey=True)
    for (image, *slices), name in zip(rows, ("gauss05.k5", "uniform.k3"), strict=True):
        case = CASES[name]
        data, _ = problem(case, settings, 0)
        posterior = Posterior.load(fit_path(out, name, settings, 0), make_pair(case, data, 0), data.x, data.y)
        _image(image, posterior, data.subset(slice(SHOWN)), case)
        for ax, at in zip(slices, (MIDDLE, OFF_CENTRE), strict=True):
            _slice(ax, predict(posterior, torch.tensor([[at]])), truth(data, torch.tensor([[at]])), at)
            if case.noise == "normal":  # with uniform noise the exact density has no modes
                _modes(ax, predict(posterior, torch.tensor([[at]])), truth(data, torch.tensor([[at]])))
    for panels, title in ((rows[:, :1], "left"), (rows[:, 1:], "right")):  # each name once, below the panels
        named = {
            label: handle for ax in panels.flat for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
        }
        figure.legend(named.values(), named.keys(), loc=f"outside lower {title}", ncols=2, fontsize="small")
    return save_figure(figure, out / "bishop-answers.png")


def _image(ax: Axes, posterior: Posterior, data: Observations, case: Case) -> None:
    x = torch.linspace(0.0, 1.0, 181)
    mixture = predict(posterior, x[:, None])
    plot_conditional_density(mixture, x, limits=(-0.05, 1.05), resolution=180, colorbar=False, ax=ax, ylabel="t")
    ax.plot(
        data.x[:, 0], data.y, ".", color=VERMILION, markersize=2.5, alpha=0.6, label=f"{SHOWN} of the training rows"
    )
    if case.noise == "normal":
        modes = mixture.modes(min_probability=MIN_PROBABILITY).location
        dots = ax.plot(x[::2], modes[::2], ".", color=INK, markersize=4)
        dots[0].set_label("modes of the fit")
    else:
        t = torch.linspace(0, 1, 400)
        for sign in (-1, 1):
            edge = t + 0.3 * torch.sin(2 * torch.pi * t) + sign * case.scale
            ax.plot(edge, t, color=INK, lw=1, label="edges of the exact p(t|x), flat between" if sign > 0 else None)
    ax.plot(x, mixture.mean, color=ORANGE, lw=2.5, ls="--", label="mean of the fit: between the answers")
    for at in (MIDDLE, OFF_CENTRE):
        ax.axvline(at, color=INK, lw=0.8, ls=":")
    ax.set(title=f"p(t|x), {case.title}: dark is likely", xlim=(0, 1))


def _slice(ax: Axes, fit: PredictiveMixture, exact: Any, at: float) -> None:
    t = torch.linspace(-0.05, 1.05, 2201, dtype=torch.double)
    ax.fill_betweenx(t, exact.log_prob(t).exp(), color="0.82", label="exact")
    ax.plot(fit.log_prob(t[:, None])[:, 0].exp(), t, color=BLUE, lw=2, label="fit")
    ax.axhline(float(fit.mean), color=ORANGE, lw=2.5, ls="--", label="mean of the fit")
    ax.set(title=f"p(t|x = {at})", xlabel="density", xlim=(0, 1.1 * float(fit.log_prob(t[:, None]).exp().max())))


def _modes(ax: Axes, fit: PredictiveMixture, exact: Any) -> None:
    modes, fitted = exact_modes(exact), fit.modes(min_probability=MIN_PROBABILITY)
    ax.plot(exact.log_prob(modes).exp(), modes, "k_", ms=16, mew=1.5, label="exact modes")
    ax.plot(fitted.log_density[0].exp(), fitted.location[0], "o", color=BLUE, ms=6, label="modes of the fit")


def draw_scores(metrics: dict[str, float], out: Path) -> Path:
    """Excess of each case over its floor, with that of the best K Gaussians."""
    figure = Figure(figsize=inches(8, 3.2), layout="constrained")
    ax = figure.subplots()
    for place, (name, case) in enumerate(CASES.items()):
        value, error = metrics[f"{name}.excess"], metrics[f"{name}.excess_se"]
        ax.errorbar(value, place, xerr=2 * error, fmt="o", color=BLUE, capsize=4, label="fit, ± 2 standard errors")
        if case.best is not None:
            ax.plot([case.best] * 2, [place - 0.2, place + 0.2], color=VERMILION, lw=3, label="best of any K Gaussians")
        ax.text(value + 0.005, place + 0.1, f"{value:.4f} ± {error:.4f}", va="bottom", fontsize="small")
    ax.axvline(0, color=INK, label="floor: entropy of the exact p(t|x)")
    ax.set_yticks(range(len(CASES)), [case.title for case in CASES.values()])
    ax.set(xlabel="NLL of fresh rows above the oracle's (nats)", ylim=(-0.5, len(CASES) - 0.4), xlim=(-0.004, 0.2))
    handles = {label: line for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    ax.legend(handles.values(), handles.keys(), fontsize="small", loc="center right")
    return save_figure(figure, out / "bishop-scores.png")


def print_table(metrics: dict[str, float]) -> None:
    columns = ("excess", "best K", "in 50%", "in 90%", "PIT off")
    print(f"{'':12}{'NLL':>18} {'oracle':>9}", *(f"{column:>8}" for column in columns))
    for name, case in CASES.items():
        nll, error, oracle = (metrics[f"{name}.{key}"] for key in ("nll", "nll_se", "nll_oracle"))
        more = [metrics[f"{name}.{key}"] for key in ("excess", "coverage50", "coverage90", "pit_distance")]
        best = f"{'' if case.best is None else case.best:>8}"
        print(
            f"{name:12}{nll:9.4f} ± {error:.4f} {oracle:9.4f} {more[0]:8.4f} {best}", *(f"{v:8.4f}" for v in more[1:])
        )
    print(
        f"mean squared error of the mean, uniform noise: {metrics['uniform.mean_mse']:.5f}, "
        f"of the exact mean {metrics['uniform.oracle_mse']:.5f}\n"
        f"modes at x = {MIDDLE}, K = 3: {metrics['gauss05.modes_found']:.1f} found of 3, "
        f"off by at most {metrics['gauss05.modes_max_error']:.4f}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    args = parser(__doc__, "inverse_bishop").parse_args(argv)
    torch.set_num_threads(1)
    settings = replace(QUICK if args.quick else Settings(), seed=args.seed)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in CASES}
    for repeat, name in tqdm([(repeat, name) for repeat in range(settings.repeats) for name in CASES], desc="fits"):
        compute = partial(fit, CASES[name], settings, repeat, fit_path(args.out, name, settings, repeat))
        rows[name].append(compute_part(args.out, f"{name}-{repeat}", (CASES[name], settings, repeat), compute))
    metrics = summarise(rows)
    print_table(metrics)
    pictures = [draw_answers(settings, args.out)]
    pictures.append(draw_scores(metrics, args.out))
    return finish(args, metrics, pictures, seconds=total_seconds())


if __name__ == "__main__":
    sys.exit(main())
