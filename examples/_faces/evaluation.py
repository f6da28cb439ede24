"""Scores of the completions of people whom no method has seen."""

from pathlib import Path

import numpy as np
import torch
from _report import save_arrays
from scipy.stats import kstest
from skimage.metrics import structural_similarity
from torch import Tensor

from _faces.baselines import complete, rows
from _faces.networks import completions
from _faces.settings import PARTS, Settings, masks, people
from posterity.data import digits
from posterity.inference.completion import Completer
from posterity.models import ProbabilisticPCA

SHOWN = 5  # completions of a face in figures


def load(work: Path) -> Completer:
    return Completer.load(work / "faces.completer")


def psnr(found: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """In the hidden pixels of each picture, in dB for a range of 2, (N,)."""
    square = (found - truth)[..., mask].double().square().flatten(1).mean(1)
    return 10 * (4 / square).log10()


def ssim(found: Tensor, truth: Tensor, mask: Tensor) -> float:
    """Mean over the hidden pixels of all pictures."""
    values = []
    for one, other in zip(found[:, 0].double().numpy(), truth[:, 0].double().numpy(), strict=True):
        whole = structural_similarity(other, one, data_range=2.0, full=True)[1]
        values.append(whole[mask.numpy()].mean())
    return float(np.mean(values))


def score_baseline(name: str, settings: Settings) -> dict[str, float]:
    truth, found = people(settings)["tested"].scaled(), {}
    for part, mask in zip(PARTS, masks(settings), strict=True):
        completed, choice = complete(name, settings, truth, mask)
        found |= {
            f"{part}.psnr": float(psnr(completed, truth, mask).mean()),
            f"{part}.ssim": ssim(completed, truth, mask),
        }
        found[f"{part}.choice"] = choice
    return found


def score_network(settings: Settings, work: Path) -> dict[str, float]:
    completer, truth, found, stored = load(work), people(settings)["tested"].scaled(), {}, {}
    for number, (part, mask) in enumerate(zip(PARTS, masks(settings), strict=True)):
        draws = completions(completer, truth, mask, settings, seed=20 + number)
        expected = draws.mean(0)
        values = psnr(expected, truth, mask)
        found |= {f"{part}.psnr": float(values.mean()), f"{part}.ssim": ssim(expected, truth, mask)}
        found[f"{part}.psnr_one_draw"] = float(psnr(draws[0], truth, mask).mean())
        found |= {f"{part}.{key}": value for key, value in _intervals(draws[..., mask], truth[..., mask]).items()}
        apart, own = torch.pdist(truth[..., mask].flatten(1)).mean(), _pairs(draws, mask, settings.members)
        found[f"{part}.distinct"] = own / float(apart)
        order = values.argsort()
        stored |= {f"{part}_{key}": array for key, array in (
            ("draws", draws[:SHOWN, :, 0]), ("expected", expected[:, 0]), ("sd", draws.std(0)[:, 0]), ("order", order),
            ("psnr", values),
        )}  # fmt: skip
    save_arrays(work / "completions.npz", truth=truth[:, 0], **stored)
    return found


def _intervals(draws: Tensor, truth: Tensor) -> dict[str, float]:
    """Coverage of 90% intervals, and the distance of the PIT from uniform, of hidden pixels (draws, N, 1, P)."""
    low, high = draws.quantile(torch.tensor([0.05, 0.95]), 0)
    rank = (draws < truth).double().mean(0).flatten()
    inside = (truth >= low) & (truth <= high)
    each = inside.double().flatten(1).mean(1)
    return {
        "coverage": float(inside.double().mean()), "coverage_worst_face": float(each.min()),
        "pit_distance": float(kstest(rank.numpy(), "uniform").statistic), "width": float((high - low).mean()),
    }  # fmt: skip


def _pairs(draws: Tensor, mask: Tensor, members: int) -> float:
    """Mean distance between two completions of the same face by the same network."""
    hidden = draws[..., mask].flatten(2)[: len(draws) // members * members]
    apart = members * (len(hidden) // (2 * members))
    return float((hidden[:apart] - hidden[apart : 2 * apart]).square().sum(2).sqrt().mean())


def score_pca(settings: Settings) -> dict[str, float]:
    """The exact posterior of probabilistic PCA: its intervals, and its PIT on draws from the model itself."""
    groups, found = people(settings), {}
    truth = groups["tested"].scaled().flatten(1).double()
    for part, mask in zip(PARTS, masks(settings), strict=True):
        hidden = mask.flatten()
        choice = int(complete("ppca", settings, groups["tested"].scaled()[:1], mask)[1])
        model = ProbabilisticPCA.fit(rows(groups["training"], settings), choice)
        posterior = model.conditional(truth, ~hidden)
        z = (truth[:, hidden] - posterior.mean) / posterior.variance.sqrt()
        pit = torch.special.ndtr(z)
        found[f"{part}.coverage"] = float(((pit > 0.05) & (pit < 0.95)).double().mean())
        found[f"{part}.pit_distance"] = float(kstest(pit.flatten().numpy(), "uniform").statistic)
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            drawn = model.distribution.sample((500,))
        exact = model.conditional(drawn, ~hidden)
        column = int(hidden.sum()) // 2  # one pixel: those of a picture are not independent
        own = torch.special.ndtr((drawn[:, hidden] - exact.mean) / exact.variance.sqrt())[:, column]
        found[f"{part}.pit_p_of_own_draws"] = float(kstest(own.numpy(), "uniform").pvalue)
    return found


def refusals(settings: Settings, work: Path) -> dict[str, float]:
    """Share of pictures that are refused: test faces, faces upside down, digits, and noise."""
    completer, mask = load(work), masks(settings)[0]
    truth = people(settings)["tested"].scaled()
    random = torch.Generator().manual_seed(settings.seed)
    pictures = {
        "faces": truth,
        "upside_down": truth.flip(2),
        "digits": digits().resized(settings.height, settings.breadth).subset(slice(100)).scaled(),
        "noise": 2 * torch.rand(truth.shape, generator=random) - 1,
    }
    return {
        name: float((completer.unlikeness(images, mask) > completer.limit).double().mean())
        for name, images in pictures.items()
    }
