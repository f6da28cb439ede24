"""Five data sets on sin(x) / x, without a gap: R² and coverage of the full posterior of a ready model."""

import torch

from _bnn.methods import convergence, of_posterior, sampler
from _bnn.panels import CHUNK
from _bnn.settings import Settings
from posterity.data import Standardization, sinc_curve
from posterity.inference import infer
from posterity.models import bayesian_regression

NOISE = 0.05
HIDDEN = 32


def one_data_set(points: int, repeat: int, settings: Settings) -> dict[str, float]:
    """R² against the true function and coverage of fresh points, drawn as the data are."""
    torch.set_num_threads(1)
    seed = 1000 * settings.seed + repeat
    data = sinc_curve(points, noise=NOISE, seed=seed)
    pair = bayesian_regression(Standardization.fit(data), hidden=(HIDDEN,), noise="constant")
    posterior = infer(pair, data.x, data.y, method=sampler(settings, points), seed=seed)
    found = of_posterior(posterior)
    fresh = sinc_curve(settings.fresh, noise=NOISE, seed=500_000 + seed)
    truth = data.oracle(fresh.x).mean  # type: ignore[misc]
    error, level = [], []
    for start in range(0, len(fresh), CHUNK):
        some = fresh.subset(slice(start, start + CHUNK))
        predictive = found.predict(some.x)
        error.append(predictive.mean - truth[start : start + CHUNK])
        level.append(predictive.cdf(some.y))
    levels = torch.cat(level)
    return {
        "r2": 1 - float(torch.cat(error).double().square().mean() / truth.double().var(correction=0)),
        "coverage90": float(((levels > 0.05) & (levels < 0.95)).double().mean()),
        **convergence(posterior, torch.linspace(-10, 10, 81)[:, None]),
    }
