"""The posteriors of `mcmc.py`: data, and the functions of the draws that must converge.

Only NumPy is imported, so that a peer's process loads nothing of posterity. Every sampler gets the same
arrays and the same sites: ``w1``, ``b1``, ``w2``, ... standard normal, a layer being x @ (w / sqrt(fan-in)) + b, and
``noise`` half-normal; for the eight schools ``mu``, ``tau`` and ``theta_trans``; for the Gaussian process ``tau``,
``rho``, ``scale`` and ``noise``. The models are written in Pyro (`_mcmc_ours.py`), NumPyro (`_mcmc_peers.py`) and PyMC
(`_mcmc_nutpie.py`).
"""

import json
import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

Draws = dict[str, np.ndarray]

ROWS = 1000  # draws in one evaluation of the network, to limit memory


@dataclass(frozen=True, eq=False)
class Network:
    """A Bayesian network; its functions are f(x) at ``at``, or of a classifier the difference of its two logits."""

    widths: tuple[int, ...]
    activation: str  # "tanh" or "relu"
    x: np.ndarray  # (N, widths[0]) float32
    y: np.ndarray  # (N,) float32, or int64 classes
    at: np.ndarray  # (41, widths[0]) float32

    @property
    def classifies(self) -> bool:
        return self.y.dtype.kind == "i"

    @property
    def positive(self) -> tuple[str, ...]:
        """Sites whose logarithm the samplers move in."""
        return () if self.classifies else ("noise",)

    @property
    def layers(self) -> list[tuple[int, int, int]]:
        """Number, fan-in and fan-out of every layer."""
        return [(i, *pair) for i, pair in enumerate(pairwise(self.widths), start=1)]

    def functions(self, draws: Draws) -> np.ndarray:
        """(chain, draw, 41) from draws of shape (chain, draw, ...)."""
        chains, length = draws["b1"].shape[:2]
        flat = {name: np.asarray(value).reshape(-1, *value.shape[2:]) for name, value in draws.items()}
        parts = [
            self._outputs({name: value[first : first + ROWS] for name, value in flat.items()})
            for first in range(0, chains * length, ROWS)
        ]
        return np.concatenate(parts).reshape(chains, length, -1)

    def _outputs(self, draws: Draws) -> np.ndarray:
        hidden = self.at
        for layer, fan_in, _ in self.layers:
            if layer > 1:
                hidden = np.tanh(hidden) if self.activation == "tanh" else np.maximum(hidden, 0)
            hidden = hidden @ (draws[f"w{layer}"] / np.float32(np.sqrt(fan_in))) + draws[f"b{layer}"][:, None]
        return hidden[..., 1] - hidden[..., 0] if self.classifies else hidden[..., 0]


@dataclass(frozen=True, eq=False)
class Schools:
    """Eight schools, not centred (Rubin 1981); its functions are the eight effects, mu and log tau."""

    x: np.ndarray  # (8,) standard errors, float32
    y: np.ndarray  # (8,) effects, float32
    positive: tuple[str, ...] = ("tau",)

    def functions(self, draws: Draws) -> np.ndarray:
        """(chain, draw, 10) from draws of shape (chain, draw, ...)."""
        mu, tau = draws["mu"][..., None], draws["tau"][..., None]
        return np.concatenate([mu + tau * draws["theta_trans"], mu, np.log(tau)], axis=-1)


@dataclass(frozen=True, eq=False)
class GaussianProcess:
    """A Gaussian process whose columns may be irrelevant (Eriksson & Jankowiak 2021, arXiv:2103.00349), float64.

    Squared distances are weighted by ``tau``, half-Cauchy(0.1), times ``rho`` of each column, half-Cauchy(1). The
    kernel is Matern 5/2 of variance ``scale``, log-normal(0, 1), and the variance of the noise is log-normal(-2, 1).
    The functions are the logarithms of all four.
    """

    x: np.ndarray  # (50, 10)
    y: np.ndarray  # (50,)
    positive: tuple[str, ...] = ("tau", "rho", "scale", "noise")

    def functions(self, draws: Draws) -> np.ndarray:
        """(chain, draw, 13) from draws of shape (chain, draw, ...)."""
        parts = [np.asarray(draws[name]) for name in self.positive]
        return np.log(np.concatenate([part.reshape(*part.shape[:2], -1) for part in parts], axis=-1))


Problem = Network | Schools | GaussianProcess


def wavy() -> Network:
    """y = sin(1.5 x) + 0.3 x + 0.1 e with few points around zero."""
    random = np.random.default_rng(0)
    x = random.uniform(-4, 4, size=100)
    gap = np.flatnonzero(np.abs(x) < 1)
    x = np.delete(x, np.setdiff1d(gap, gap[::4]))
    y = np.sin(1.5 * x) + 0.3 * x + 0.1 * random.normal(size=len(x))
    return Network((1, 16, 16, 1), "tanh", _column(x), _single(y), _column(np.linspace(-5, 5, 41)))


def energy() -> Network:
    """Heating load of buildings, the first of the 20 standard splits, standardised on its training rows."""
    folder = _data() / "uci" / "energy"
    table = np.loadtxt(folder / "data.txt")
    columns, target, train, test = (
        np.loadtxt(folder / f"index_{name}.txt", dtype=int) for name in ("features", "target", "train_0", "test_0")
    )
    x, y = table[:, columns], table[:, int(target)]
    x = (x - x[train].mean(0)) / np.where(x[train].std(0) > 0, x[train].std(0), 1)
    y = (y - y[train].mean()) / y[train].std()
    return Network((len(columns), 50, 1), "relu", _single(x[train]), _single(y[train]), _single(x[test[:41]]))


def moons() -> Network:
    """Two interleaved half circles of 100 points each, with normal noise of 0.2."""
    random = np.random.default_rng(0)
    angle = np.linspace(0, np.pi, 100)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    lower = np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], axis=1)
    x = np.concatenate([upper, lower]) + 0.2 * random.normal(size=(200, 2))
    y = np.repeat(np.arange(2), 100)
    diagonal = np.linspace((-1.5, -1.0), (2.5, 1.5), 41)  # a line through both half circles and into the empty corners
    return Network((2, 100, 100, 2), "tanh", _single(x), y, _single(diagonal))


def schools() -> Schools:
    content = json.loads((_data() / "posterior_references.json").read_text())
    data = content["eight_schools-eight_schools_noncentered"]["data"]
    return Schools(_single(data["sigma"]), _single(data["y"]))


def saas() -> GaussianProcess:
    """Fifty points in ten dimensions, of which two matter."""
    random = np.random.default_rng(0)
    x = random.uniform(size=(50, 10))
    return GaussianProcess(x, np.sin(6 * x[:, 0]) + x[:, 1] ** 2 + 0.1 * random.normal(size=50))


PROBLEMS = {"wavy": wavy, "energy": energy, "schools": schools, "moons": moons, "saas": saas}


def _data() -> Path:
    folder = os.environ.get("POSTERITY_DATA")
    if folder is None:
        raise ValueError("expected POSTERITY_DATA to name the folder with uci/energy and posterior_references.json")
    return Path(folder)


def _single(values: object) -> np.ndarray:
    return np.asarray(values, dtype=np.float32)


def _column(values: np.ndarray) -> np.ndarray:
    return _single(values)[:, None]
