"""Two targets with correlated noise: the gain of a full covariance, compared with the exact density.

    python examples/two_dimensional.py --quick
    python examples/two_dimensional.py         # five seeds of 5,000 rows: the numbers in examples/results

The targets are two curves of z ~ U(-10.5, 10.5) with unit noise of correlation 0.9. The lowest expected negative
log-likelihood (NLL) is 2.0075 nats; one component with independent targets cannot go below 2.8379. Several such
components can approximate a correlated one: five could reach 2.097 (by EM on the noise alone). The same network is
trained in the same way with mixture heads of different covariance:

- ``full``, ``diagonal``, ``low_rank``: one component.
- ``diagonal.k5``, ``full.k5``: five components.

All heads are initialised by k-means of the standardised targets, and scored with the exact density on 100,000 fresh
points. A mixture of two targets also has the density of the first alone (``marginal``) and of the second given the
first (``conditional``) in closed form. Both are scored, and their scores sum to that of the pair. The example writes a
figure and ``report.json``. An interrupted run is resumed when it is repeated; after a change of the code, use another
``--out``.
"""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from _mdn import ROWS, standard_error
from _parts import compute_part, total_seconds
from _report import finish, inches, parser, save_figure
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal
from tqdm.auto import tqdm

from posterity.data import Observations, Standardization, two_dimensional
from posterity.inference import Ensemble, Posterior, PredictiveMixture, infer
from posterity.models import Pair, mixture_density
from posterity.models.mixtures import multivariate_mixture_head

CASES = {
    "full": ("full", 1),
    "low_rank": ("low_rank", 1),
    "diagonal": ("diagonal", 1),
    "diagonal.k5": ("diagonal", 5),
    "full.k5": ("full", 5),
}
DIAGONAL_FLOOR = 2.8379  # log(2 pi e): one component, independent targets
RESOLUTION = 0.01  # smallest scale of a component, in standard deviations of the targets
STRETCH = 3.0  # factor on the standardised input
SHOWN = (-6.0, 0.0, 7.0)  # values of z in the figure
COLOURS = {"full": "#0072B2", "diagonal": "#D55E00", "diagonal.k5": "#009E73"}
TITLES = {"full": "full, K = 1", "diagonal": "diagonal, K = 1", "diagonal.k5": "diagonal, K = 5"}
INK = "#222222"


@dataclass(frozen=True)
class Settings:
    """Everything that the numbers depend on; chosen on other draws of the simulator."""

    rows: int = 5000
    test: int = 100_000
    steps: int = 4000
    batch_size: int = 250
    learning_rate: float = 0.01
    hidden: tuple[int, ...] = (64, 64)
    decay: float = 0.5
    repeats: int = 5
    seed: int = 0


QUICK = Settings(rows=2000, test=20_000, steps=1000, repeats=2, learning_rate=0.03)


def problem(settings: Settings, repeat: int) -> tuple[Observations, Observations]:
    """Training rows and test rows, with different seeds."""
    seed = 1000 * settings.seed + repeat
    return two_dimensional(settings.rows, seed=seed), two_dimensional(settings.test, seed=seed + 500)


def make_pair(name: str, data: Observations, settings: Settings, repeat: int) -> Pair:
    """The same network with the head of this name; the input is stretched because the curves turn several times."""
    covariance, components = CASES[name]
    scale = Standardization.fit(data)
    head = multivariate_mixture_head(components, 2, covariance=covariance, floor=RESOLUTION)
    head = head.started_at(scale.y(data.y))
    scale = replace(scale, x_scale=scale.x_scale / STRETCH)
    return mixture_density(scale, head=head, hidden=settings.hidden, decay=settings.decay, seed=repeat)


def fit(name: str, settings: Settings, repeat: int, path: Path) -> dict[str, float]:
    """Scores on fresh rows of one head, fitted to one draw of the simulator and stored in a file."""
    train, test = problem(settings, repeat)
    method = Ensemble(
        members=1,
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        progress=False,
    )
    posterior = infer(make_pair(name, train, settings, repeat), train.x, train.y, method=method, seed=repeat)
    if posterior.attrs["interrupted"]:
        raise KeyboardInterrupt  # an incomplete fit must not be stored
    path.parent.mkdir(parents=True, exist_ok=True)
    posterior.save(path)
    return evaluate(posterior, test)


def fit_path(out: Path, name: str, settings: Settings, repeat: int) -> Path:
    """File of a fit; its name has a hash of the settings."""
    return out / "fits" / f"{name}-{repeat}-{hashlib.sha256(repr(settings).encode()).hexdigest()[:8]}.posterior"


def evaluate(posterior: Posterior, test: Observations) -> dict[str, float]:
    """NLL of both targets, of the first alone, and of the second given the first, for the fit and the exact density."""
    fitted, exact = [], []
    for x, y in zip(test.x.split(ROWS), test.y.double().split(ROWS), strict=True):
        mixture = predict(posterior, x)
        alone, given = mixture.marginal(0), mixture.conditional(0, y[:, 0])
        fitted.append(torch.stack([mixture.log_prob(y), alone.log_prob(y[:, 0]), given.log_prob(y[:, 1])]))
        both = truth(test, x)
        alone, given = exact_parts(both, y[:, 0])
        exact.append(torch.stack([both.log_prob(y), alone.log_prob(y[:, 0]), given.log_prob(y[:, 1])]))
    scores, best = torch.cat(fitted, 1).numpy(), torch.cat(exact, 1).numpy()
    behind = best - scores
    numbers = {"below_z": float(-behind[0].mean() / (behind[0].std(ddof=1) / np.sqrt(len(test))))}
    for row, what in enumerate(("joint", "marginal", "conditional")):
        numbers |= {what: float(-scores[row].mean()), f"{what}_oracle": float(-best[row].mean())}
    return numbers


def predict(posterior: Posterior, x: Tensor) -> PredictiveMixture:
    return posterior.predictive(x).to(torch.double)


def truth(data: Observations, z: Tensor) -> MultivariateNormal:
    assert data.oracle is not None  # simulated data have an oracle
    return data.oracle(z.double())  # type: ignore[return-value]


def exact_parts(both: MultivariateNormal, y0: Tensor) -> tuple[Normal, Normal]:
    """Marginal of the first target and conditional of the second given the first, of a bivariate normal."""
    (first, second), covariance = both.mean.unbind(-1), both.covariance_matrix
    slope = covariance[..., 0, 1] / covariance[..., 0, 0]
    left = covariance[..., 1, 1] - slope * covariance[..., 0, 1]
    return Normal(first, covariance[..., 0, 0].sqrt()), Normal(second + slope * (y0 - first), left.sqrt())


def summarise(rows: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """Means over seeds with their standard errors; differences are taken for each seed."""
    metrics: dict[str, float] = {}

    def put(name: str, values: Sequence[float]) -> None:
        metrics.update({name: float(np.mean(values)), f"{name}_se": standard_error(values)})

    def nats(name: str, key: str = "joint") -> np.ndarray:
        return np.array([fit[key] for fit in rows[name]])

    for name in CASES:
        put(f"{name}.nll", nats(name))
        put(f"{name}.excess", nats(name) - nats(name, "joint_oracle"))
        metrics[f"{name}.below_oracle_z"] = float(nats(name, "below_z").max())
        metrics[f"{name}.seconds"] = float(nats(name, "seconds").mean())
    put("oracle.nll", nats("full", "joint_oracle"))
    put("full_minus_diagonal.nats", nats("diagonal") - nats("full"))  # positive if full is better
    put("full_minus_diagonal_k5.nats", nats("diagonal.k5") - nats("full"))
    for what in ("marginal", "conditional"):
        put(f"{what}.nll", nats("full", what))
        put(f"{what}.oracle_nll", nats("full", f"{what}_oracle"))
        put(f"{what}.kl", nats("full", what) - nats("full", f"{what}_oracle"))
        for name in ("diagonal", "diagonal.k5"):
            put(f"{what}.{name.replace('.', '_')}_nll", nats(name, what))
    return metrics


def draw_figure(settings: Settings, out: Path) -> Path:
    """Density of both targets at a few z (above), and of the second given the first (below)."""
    data, _ = problem(settings, 0)
    posteriors = {
        name: Posterior.load(fit_path(out, name, settings, 0), make_pair(name, data, settings, 0), data.x, data.y)
        for name in COLOURS
    }
    figure = Figure(figsize=inches(11.5, 7.8), layout="constrained")
    figure.suptitle("Two targets with correlated noise: only some models predict y1 from y0", fontsize="x-large")
    above, below = figure.subplots(2, len(SHOWN), height_ratios=[3, 2])
    for z, top, bottom in zip(SHOWN, above, below, strict=True):
        both = truth(data, torch.tensor([[z]]))
        given = both.mean[0, 0] + 1.5  # y0 is 1.5 above its mean
        mixtures = {name: predict(posterior, torch.tensor([[z]])) for name, posterior in posteriors.items()}
        _contours(top, both, mixtures)
        top.axvline(float(given), color=INK, lw=1, ls=":")
        top.set(title=f"p(y0, y1 | z = {z:g})", xlabel="y0", ylabel="y1")
        _conditionals(bottom, both, mixtures, given)
    handles = [Line2D([], [], color="0.75", lw=8, label="exact: 50 % and 90 % inside; lines at the same densities")]
    handles += [Line2D([], [], color=colour, lw=2, label=TITLES[name]) for name, colour in COLOURS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return save_figure(figure, out / "two-dimensional.png")


def _contours(ax: Axes, both: MultivariateNormal, mixtures: dict[str, PredictiveMixture]) -> None:
    """Regions that hold 50 % and 90 % of the exact normal, and contours of the fits at the same densities."""
    side = torch.linspace(-3.4, 3.4, 161, dtype=torch.double)
    grid = torch.cartesian_prod(side, side) + both.mean
    y0, y1 = side + both.mean[0, 0], side + both.mean[0, 1]
    peak = both.log_prob(both.mean).exp().item()
    levels = [peak * 0.1, peak * 0.5]  # of a bivariate normal, 0.1 and 0.5 lie outside
    ax.contourf(y0, y1, both.log_prob(grid).exp().reshape(161, 161).T, [*levels, peak], colors=["0.87", "0.72"])
    for name, mixture in mixtures.items():
        density = mixture.log_prob(grid[:, None])[:, 0].exp().reshape(161, 161).T
        ax.contour(y0, y1, density, levels, colors=COLOURS[name], linewidths=[1.2, 2])


def _conditionals(ax: Axes, both: MultivariateNormal, mixtures: dict[str, PredictiveMixture], y0: Tensor) -> None:
    y1 = torch.linspace(-3.4, 3.4, 400, dtype=torch.double) + both.mean[0, 1]
    _, exact = exact_parts(both, y0)
    ax.fill_between(y1, exact.log_prob(y1).exp(), color="0.78")
    for name, mixture in mixtures.items():
        conditional = mixture.conditional(0, y0.expand(1))
        ax.plot(y1, conditional.log_prob(y1[:, None])[:, 0].exp(), color=COLOURS[name], lw=2)
    ax.set(title=f"p(y1 | y0 = {float(y0):.1f}): along the dotted line", xlabel="y1", ylabel="density", ylim=(0, None))


def print_table(metrics: dict[str, float]) -> None:
    print(f"{'':14}{'NLL of both':>18} {'above the oracle':>18}")
    for name in CASES:
        nll, excess = metrics[f"{name}.nll"], metrics[f"{name}.excess"]
        print(
            f"{name:14}{nll:9.4f} ± {metrics[f'{name}.nll_se']:.4f} {excess:9.4f} ± {metrics[f'{name}.excess_se']:.4f}"
        )
    print(f"{'oracle':14}{metrics['oracle.nll']:9.4f} ± {metrics['oracle.nll_se']:.4f}   (expected 2.0075)")
    print(f"{'diagonal floor':14}{DIAGONAL_FLOOR:9.4f}            (one component)")
    print(f"{'':14}{'p(y0|z)':>9} {'p(y1|z,y0)':>11}")
    for name, key in (("full", "nll"), ("diagonal.k5", "diagonal_k5_nll"), ("diagonal", "diagonal_nll")):
        print(f"{name:14}{metrics[f'marginal.{key}']:9.4f} {metrics[f'conditional.{key}']:11.4f}")
    print(f"{'oracle':14}{metrics['marginal.oracle_nll']:9.4f} {metrics['conditional.oracle_nll']:11.4f}")
    gain, error = metrics["full_minus_diagonal.nats"], metrics["full_minus_diagonal.nats_se"]
    print(f"a full covariance gains {gain:.3f} ± {error:.3f} nats per row (exact: 0.830)")


def main(argv: Sequence[str] | None = None) -> int:
    args = parser(__doc__, "two_dimensional").parse_args(argv)
    torch.set_num_threads(1)
    settings = replace(QUICK if args.quick else Settings(), seed=args.seed)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in CASES}
    for repeat, name in tqdm([(repeat, name) for repeat in range(settings.repeats) for name in CASES], desc="fits"):
        compute = partial(fit, name, settings, repeat, fit_path(args.out, name, settings, repeat))
        rows[name].append(compute_part(args.out, f"{name}-{repeat}", (name, settings, repeat), compute))
    metrics = summarise(rows)
    print_table(metrics)
    picture = draw_figure(settings, args.out)
    return finish(args, metrics, [picture], seconds=total_seconds())


if __name__ == "__main__":
    sys.exit(main())
