"""The band closes as points arrive: one model, compiled once for all numbers of points."""

from pathlib import Path

import numpy as np
import pyro
import torch
from _report import save_arrays
from torch import Tensor
from tqdm.auto import tqdm

from _bnn.curves import CURVES, likelihood_of
from _bnn.methods import LINES, sampler
from _bnn.settings import NOISE_OF_POINTS, Settings
from posterity.inference import Posterior, infer
from posterity.models import mlp


def sample_film(settings: Settings, out: Path) -> dict[str, float]:
    """The posterior for each number of points; bands and lines go to a file.

    All rows are arguments of the model in every fit, and a mask leaves out those that have not arrived, so the compiled
    model stays the same. The chains of each fit start where those of the fit before ended.
    """
    torch.set_num_threads(1)
    curve, rows = CURVES["gp"], settings.film_points[-1]
    data = curve.data(rows, NOISE_OF_POINTS, settings.seed)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(settings.seed))
    data, scale = data.subset(order), curve.scale(data)
    net, grid = mlp(1, settings.hidden, 1, activation="cos", seed=0), curve.grid()

    def model(x: Tensor, there: Tensor, y: Tensor | None = None) -> Tensor:
        likelihood = likelihood_of(net, scale, x)
        with pyro.plate("obs", len(x)), pyro.poutine.mask(mask=there):
            return pyro.sample("y", likelihood, obs=y)

    posterior: Posterior | str = "prior"
    bands = []
    for count in tqdm(settings.film_points, desc="film", disable=None):
        there = torch.arange(rows) < count
        method = sampler(settings, count, init=posterior, warmup=settings.film_warmup, draws=settings.film_draws)
        posterior = infer(model, data.x, there, data.y, method=method, seed=settings.seed + count)
        values = posterior.function_draws(grid, there[:1].expand(len(grid))).flatten(0, 1)
        every = values[:: max(1, len(values) // LINES)][:LINES]
        noise = posterior.draws["noise"].square().mean().sqrt()
        bands.append((values.mean(0), values.std(0), every, scale.y_scale * noise))
    means, sds, lines, noises = (torch.stack(parts).numpy() for parts in zip(*bands, strict=True))
    save_arrays(
        out / "film.npz", x=data.x[:, 0], y=data.y, grid=grid[:, 0], mean=means, sd=sds, lines=lines, noise=noises,
        truth=data.oracle(grid).mean, points=np.array(settings.film_points),  # type: ignore[misc]
    )  # fmt: skip
    inside = curve.regions(grid)["data"].numpy()
    return {
        f"n{count}": float(np.sqrt((sd[inside] ** 2).mean()))
        for count, sd in zip(settings.film_points, sds, strict=True)
    }
