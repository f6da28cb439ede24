"""Results that plots draw, and reading of legends, lines and bars from the axes."""

import numpy as np
import torch
import xarray as xr
from matplotlib import pyplot as plt

from posterity.inference.predictive import PredictiveMixture
from posterity.models.mixtures import Mixture

N = 25
X = torch.linspace(-2, 2, N)
RNG = np.random.default_rng(0)
LOC = torch.stack([X + 1, -X - 1], -1) + torch.arange(4.0)[:, None, None] * 0.1 * X[:, None] ** 2
PREDICTIVE = PredictiveMixture.from_draws(Mixture.normal(torch.zeros(4, N, 2), LOC, torch.full((4, N, 2), 0.3)))
SPLIT = xr.Dataset({name: ("obs", RNG.random(N)) for name in ("noise", "ambiguity", "epistemic")})
SPLIT["total"] = SPLIT.noise + SPLIT.ambiguity + SPLIT.epistemic
PULLS = xr.Dataset({"pull": ("obs", RNG.normal(size=200)), "x": ("obs", RNG.random(200))})
PIT = xr.Dataset({"pit": ("obs", RNG.random(60))})
LEVELS = np.array([0.5, 0.9])
COVERAGE = xr.Dataset(
    {"coverage": ("level", LEVELS - 0.1), "lower": ("level", LEVELS - 0.2), "upper": ("level", LEVELS)},
    coords={"level": LEVELS},
)
PANEL = xr.Dataset(
    {"p_value": ("test", [0.5, 1e-4])}, coords={"test": ["ks", "ad"], "sees": ("test", ["a shift", "tails"])}
)
LOO = xr.Dataset({"pareto_k": ("obs", [0.1, 0.9])}, attrs={"threshold": 0.7})
PPC = xr.Dataset(
    {"replicated": (("statistic", "sample"), RNG.normal(size=(1, 50))), "observed": ("statistic", [0.3]),
     "p_value": ("statistic", [0.4])},
    coords={"statistic": ["mean"]},
)  # fmt: skip
SBC = xr.Dataset({"pit": (("simulation", "quantity"), RNG.random((40, 1)))}, coords={"quantity": ["mu"]})
UNIFORM = xr.Dataset({"pit": ("obs", (np.arange(200) + 0.5) / 200)})


def legend(ax: plt.Axes) -> str:
    return "\n".join(text.get_text() for text in ax.get_legend().get_texts())


def line(ax: plt.Axes, label: str) -> np.ndarray:
    """Points (N, 2) of the one line whose label begins so."""
    (found,) = [one for one in ax.lines if str(one.get_label()).startswith(label)]
    return np.asarray(found.get_xydata())


def bars(ax: plt.Axes, label: str) -> tuple[np.ndarray, np.ndarray]:
    """Values and errors of the one series with error bars whose label begins so."""
    (found,) = [one for one in ax.containers if one.get_label().startswith(label)]
    ends = np.array(found[2][0].get_segments())[:, :, 1]
    return found[0].get_xydata(), 0.5 * (ends[:, 1] - ends[:, 0])


def tops(ax: plt.Axes) -> list[float]:
    """The highest point of each stacked area."""
    return [area.get_paths()[0].vertices[:, 1].max() for area in ax.collections]


def pulls(n: int, seed: int, **attrs: str) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    return xr.Dataset({"pull": ("obs", rng.normal(size=n)), "x": ("obs", rng.uniform(0, 10, n))}, attrs=attrs)


def levels(n: int, power: float = 1.0) -> xr.Dataset:
    return xr.Dataset({"level": ("obs", ((np.arange(n) + 0.5) / n) ** power)}, attrs={"kind": "central"})
