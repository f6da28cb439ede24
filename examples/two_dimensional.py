"""Two targets that err together: what a full covariance is worth, held against the exact density.

    python examples/two_dimensional.py --quick
    python examples/two_dimensional.py         # five seeds of 5,000 rows: the numbers kept

Two curves of z ~ U(-10.5, 10.5) with unit noise of correlation 0.9. The lowest expected negative log-likelihood (NLL)
is 2.0075 nats; one component whose targets are independent cannot get below 2.8379, while several of them, side by
side, can imitate a slanted one. The same network, trained the same way, with a mixture head of covariance

- ``full``, ``diagonal``, ``low_rank``: one component;
- ``diagonal.k5``, ``full.k5``: five components.

All start where k-means finds the standardised targets, and are scored on 100,000 fresh points beside the oracle. A
mixture of two targets also says what one of them is alone (``marginal``) and what it is once the other is known
(``conditional``), in closed form: both are scored too, and their sum is the score of the pair. Writes a figure and
``report.json``; a run that was interrupted goes on where it was when it is repeated. After a change of the code, give
it another ``--out``.
"""

import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyro
import torch
from _mdn import ROWS, standard_error
from _report import parser, save_figure, write_json, write_report
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
RESOLUTION = 0.01  # of both targets, in units of their spread
SHOWN = (-6.0, 0.0, 7.0)  # z of the figure
COLOURS = {"full": "#0072B2", "diagonal": "#D55E00", "diagonal.k5": "#009E73"}
TITLES = {"full": "full, K = 1", "diagonal": "diagonal, K = 1", "diagonal.k5": "diagonal, K = 5"}
INK = "#222222"


@dataclass(frozen=True)
class Job:
    """One fit: which head, on which draw of the simulator."""

    name: str
    repeat: int
    seed: int
    quick: bool
    out: Path

    @property
    def train(self) -> Observations:
        return two_dimensional(2000 if self.quick else 5000, seed=1000 * self.seed + self.repeat)

    @property
    def test(self) -> Observations:
        return two_dimensional(20_000 if self.quick else 100_000, seed=1000 * self.seed + self.repeat + 500)

    def pair(self, train: Observations) -> Pair:
        covariance, components = CASES[self.name]
        scale = Standardization.fit(train)
        head = multivariate_mixture_head(components, 2, covariance=covariance, floor=RESOLUTION)
        head = head.started_at(scale.y(train.y))
        return mixture_density(scale, head=head, hidden=(32, 32), decay=0.1, seed=self.repeat)

    @property
    def method(self) -> Ensemble:
        steps = 1000 if self.quick else 3000
        return Ensemble(members=1, steps=steps, batch_size=500, learning_rate=0.01, progress=False)

    @property
    def path(self) -> Path:
        """Named after the settings, so that a repeated run takes up only its own."""
        digest = hashlib.sha256(repr((self.method, self.seed, self.quick)).encode()).hexdigest()[:8]
        return self.out / "fits" / f"{self.name}-{self.repeat}-{digest}.json"

    @property
    def posterior_path(self) -> Path:
        return self.path.with_suffix(".posterior")

    def posterior(self) -> Posterior:
        train = self.train
        return Posterior.load(self.posterior_path, self.pair(train), train.x, train.y)


def run_job(job: Job) -> dict[str, float]:
    """Fit and score, or take up the numbers of an earlier run."""
    if job.path.exists():
        return json.loads(job.path.read_text())
    start = time.perf_counter()
    train, test = job.train, job.test
    with pyro.get_param_store().scope():
        posterior = infer(job.pair(train), train.x, train.y, method=job.method, seed=job.repeat)
    if posterior.attrs["interrupted"]:
        raise KeyboardInterrupt  # what there is of it is not the fit that was asked for
    job.path.parent.mkdir(parents=True, exist_ok=True)
    posterior.save(job.posterior_path)
    numbers = judge(posterior, test) | {"seconds": time.perf_counter() - start}
    write_json(job.path, numbers)
    return numbers


def judge(posterior: Posterior, test: Observations) -> dict[str, float]:
    """NLL of both targets, of the first alone, and of the second once the first is known; the oracle's beside them."""
    own, exact = [], []
    for x, y in zip(test.x.split(ROWS), test.y.double().split(ROWS), strict=True):
        mixture = predict(posterior, x)
        alone, given = mixture.marginal(0), mixture.conditional(0, y[:, 0])
        own.append(torch.stack([mixture.log_prob(y), alone.log_prob(y[:, 0]), given.log_prob(y[:, 1])]))
        both = truth(test, x)
        alone, given = exact_parts(both, y[:, 0])
        exact.append(torch.stack([both.log_prob(y), alone.log_prob(y[:, 0]), given.log_prob(y[:, 1])]))
    ours, best = torch.cat(own, 1).numpy(), torch.cat(exact, 1).numpy()
    behind = best - ours
    numbers = {"below_z": float(-behind[0].mean() / (behind[0].std(ddof=1) / np.sqrt(len(test))))}
    for row, part in enumerate(("joint", "marginal", "conditional")):
        numbers |= {part: float(-ours[row].mean()), f"{part}_oracle": float(-best[row].mean())}
    return numbers


def predict(posterior: Posterior, x: Tensor) -> PredictiveMixture:
    return posterior.predictive(x).to(torch.double)


def truth(data: Observations, z: Tensor) -> MultivariateNormal:
    assert data.oracle is not None  # a simulator has one
    return data.oracle(z.double())  # type: ignore[return-value]


def exact_parts(both: MultivariateNormal, y0: Tensor) -> tuple[Normal, Normal]:
    """The first target alone, and the second given the first: textbook formulas of one normal."""
    (first, second), covariance = both.mean.unbind(-1), both.covariance_matrix
    slope = covariance[..., 0, 1] / covariance[..., 0, 0]
    left = covariance[..., 1, 1] - slope * covariance[..., 0, 1]
    return Normal(first, covariance[..., 0, 0].sqrt()), Normal(second + slope * (y0 - first), left.sqrt())


def summarise(rows: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """Means over seeds, with their standard errors; differences are of the same seed."""
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
    put("full_minus_diagonal.nats", nats("diagonal") - nats("full"))  # of log score: positive, full is better
    put("full_minus_diagonal_k5.nats", nats("diagonal.k5") - nats("full"))
    for part in ("marginal", "conditional"):
        put(f"{part}.nll", nats("full", part))
        put(f"{part}.oracle_nll", nats("full", f"{part}_oracle"))
        put(f"{part}.kl", nats("full", part) - nats("full", f"{part}_oracle"))
        for name in ("diagonal", "diagonal.k5"):
            put(f"{part}.{name.replace('.', '_')}_nll", nats(name, part))
    return metrics


def draw(jobs: dict[str, Job], out: Path) -> Path:
    """Above the density of both targets at a few z, below that of the second once the first is known."""
    posteriors = {name: jobs[name].posterior() for name in COLOURS}
    data = jobs["full"].train
    figure = Figure(figsize=(13, 8.6), layout="constrained")
    figure.suptitle("Two targets with correlated noise: y0 tells of y1, and only some models know", fontsize="x-large")
    above, below = figure.subplots(2, len(SHOWN), height_ratios=[3, 2])
    for z, top, bottom in zip(SHOWN, above, below, strict=True):
        both = truth(data, torch.tensor([[z]]))
        given = both.mean[0, 0] + 1.5  # y0 a unit and a half above its mean
        mixtures = {name: predict(posterior, torch.tensor([[z]])) for name, posterior in posteriors.items()}
        _contours(top, both, mixtures)
        top.axvline(float(given), color=INK, lw=1, ls=":")
        top.set(title=f"p(y0, y1 | z = {z:g})", xlabel="y0", ylabel="y1")
        _conditionals(bottom, both, mixtures, given)
    handles = [Line2D([], [], color="0.75", lw=8, label="exact")]
    handles += [Line2D([], [], color=colour, lw=2, label=TITLES[name]) for name, colour in COLOURS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return save_figure(figure, out / "two-dimensional.png")


def _contours(ax: Axes, both: MultivariateNormal, mixtures: dict[str, PredictiveMixture]) -> None:
    """Regions that hold half and nine tenths of the exact normal, and contours at the same densities."""
    side = torch.linspace(-3.4, 3.4, 161, dtype=torch.double)
    grid = torch.cartesian_prod(side, side) + both.mean
    y0, y1 = side + both.mean[0, 0], side + both.mean[0, 1]
    peak = both.log_prob(both.mean).exp().item()
    levels = [peak * 0.1, peak * 0.5]  # outside of them lie 0.1 and 0.5 of a normal of two targets
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
    print(
        f"{'diagonal floor':14}{DIAGONAL_FLOOR:9.4f}            (one component)\n{'':14}{'p(y0|z)':>9} {'p(y1|z,y0)':>11}"
    )
    for name, key in (("full", "nll"), ("diagonal.k5", "diagonal_k5_nll"), ("diagonal", "diagonal_nll")):
        print(f"{name:14}{metrics[f'marginal.{key}']:9.4f} {metrics[f'conditional.{key}']:11.4f}")
    print(f"{'oracle':14}{metrics['marginal.oracle_nll']:9.4f} {metrics['conditional.oracle_nll']:11.4f}")
    gain, error = metrics["full_minus_diagonal.nats"], metrics["full_minus_diagonal.nats_se"]
    print(f"a full covariance is worth {gain:.3f} ± {error:.3f} nats a row (exact: 0.830)")


def main(argv: Sequence[str] | None = None) -> int:
    args = parser(__doc__, "two_dimensional").parse_args(argv)
    torch.set_num_threads(1)
    start, earlier = time.perf_counter(), 0.0
    repeats = 2 if args.quick else 5
    jobs = [Job(name, repeat, args.seed, args.quick, args.out) for repeat in range(repeats) for name in CASES]
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in CASES}
    for job in (bar := tqdm(jobs, desc="fits")):
        bar.set_postfix_str(f"{job.name} {job.repeat}")
        known = job.path.exists()
        rows[job.name].append(numbers := run_job(job))
        earlier += numbers["seconds"] if known else 0.0
    metrics = summarise(rows)
    print_table(metrics)
    picture = draw({job.name: job for job in jobs if job.repeat == 0}, args.out)
    seconds = earlier + time.perf_counter() - start
    report = write_report(args.out, "two_dimensional", metrics, seed=args.seed, quick=args.quick, wall_seconds=seconds)
    print(f"\nfigure: {picture}\nnumbers: {report}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
