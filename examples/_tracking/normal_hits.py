"""Normal hits without noise: errors of a network and of a Kalman filter over the Cramér-Rao bound."""

from pathlib import Path

import numpy as np
import torch
import xarray as xr
from _parts import finished, tag
from torch import Tensor, nn

from _tracking.settings import Settings, test_seed
from posterity.data.tracks import intercept_covariance, normal_hits
from posterity.files import read_tensors, write_tensors
from posterity.inference.diagnostics import pull_summary, pulls
from posterity.inference.tracking import kalman_fit
from posterity.inference.training.streaming import fit_stream
from posterity.models import Mixture, multivariate_mixture_head

LAYERS, RESOLUTION, SIZE = 10, 0.3, 28.0
COMPONENTS = 2


class LineNet(nn.Module):
    """Maps hits (N, layers) in pixels to a mixture over both intercepts, scaled so that the detector is (-1, 1)."""

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.head = multivariate_mixture_head(COMPONENTS, 2)
        self.straight = nn.Linear(LAYERS, self.head.features)  # so that the curved part learns the rest
        self.curved = nn.Sequential(nn.Linear(LAYERS, hidden), nn.Tanh(), nn.Linear(hidden, self.head.features))

    def forward(self, hits: Tensor) -> Mixture:
        unit = hits / (SIZE / 2) - 1
        return self.head(self.straight(unit) + self.curved(unit))


def draw(count: int, seed: int | torch.Generator) -> tuple[Tensor, Tensor]:
    """Tracks (count, 2) and their hits (count, layers), in pixels."""
    random = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    tracks = SIZE * torch.rand(count, 2, generator=random)
    return tracks, normal_hits(tracks, LAYERS, RESOLUTION, seed=random)


def trained(settings: Settings, out: Path) -> tuple[LineNet, float] | None:
    """The network and the seconds of its fit; with ``settings.weights``, that of its ``line-0.pt``, or None."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        net = LineNet()
    if settings.weights:
        path = Path(settings.weights) / "line-0.pt"
        if not path.exists():
            return None
        net.load_state_dict(read_tensors(path, "weights of a network of normal hits"))
        return net.eval(), 0.0

    def loss(drawn: tuple[Tensor, Tensor]) -> Tensor:
        tracks, hits = drawn
        return -net(hits).log_prob(tracks / (SIZE / 2) - 1).mean()

    fitted = fit_stream(
        net, lambda random: draw(512, random), loss, steps=settings.hits_steps, learning_rate=5e-3, seed=settings.seed,
        checkpoint=out / f"line-{tag(settings)}.checkpoint",
    )  # fmt: skip
    finished(fitted)
    write_tensors(net.state_dict(), out / "line-0.pt")
    return net.eval(), fitted.seconds


def gaussian_hits(settings: Settings, out: Path) -> dict[str, float]:
    """Errors of the intercepts over the Cramér-Rao bound, with the standard error of such a ratio.

    With ``settings.weights`` nothing is trained. Without a ``line-0.pt`` there, only the errors of the filter are
    given.
    """
    torch.set_num_threads(1)
    tracks, hits = draw(settings.hit_events, test_seed(settings, 95_000))
    covariance = intercept_covariance(LAYERS, RESOLUTION)
    bound = float(covariance[0, 0]) ** 0.5
    fit = kalman_fit(hits, torch.full_like(hits, RESOLUTION**2))
    errors, metrics = {"kalman": fit.tracks - tracks.double()}, {}
    if (fitted := trained(settings, out)) is not None:
        net, seconds = fitted
        with torch.no_grad():
            predictive = net(hits)
            unit = tracks / (SIZE / 2) - 1
            z = [pulls(predictive.marginal(which), unit[:, which]).pull.values for which in (0, 1)]
            nll = -float(predictive.log_prob(unit).double().mean()) + 2 * np.log(SIZE / 2)
        errors["mdn"] = (predictive.mean - unit).double() * SIZE / 2
        width = float(pull_summary(xr.Dataset({"pull": ("obs", np.concatenate(z))}))["width"])
        metrics = {"mdn_nll": nll, "mdn_pull_width": width} | ({"fit_seconds": seconds} if seconds else {})
    metrics |= {f"{name}_over_bound": float(a.square().mean().sqrt()) / bound for name, a in errors.items()}
    metrics |= {
        f"{name}_over_bound.b{which + 1}": float(a[:, which].square().mean().sqrt()) / bound
        for name, a in errors.items()
        for which in (0, 1)
    }
    metrics |= {f"{name}_correlation": float(torch.corrcoef(a.T)[0, 1]) for name, a in errors.items()}
    rho = float(covariance[0, 1] / covariance[0, 0])
    return metrics | {
        "over_bound_se": ((1 + rho**2) / (4 * settings.hit_events)) ** 0.5,
        "bound_px": bound,
        "bound_correlation": rho,
        "bound_entropy": float(0.5 * torch.logdet(covariance)) + float(np.log(2 * np.pi * np.e)),
    }
