"""Scores of enlarged test pictures, and of the predicted error of each pixel."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from _report import save_arrays
from scipy.optimize import brentq
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from _super.networks import load
from _super.settings import BORDER, SCALE, Settings, held_out_photographs, test_pictures
from posterity.data import Photographs, Picture
from posterity.inference.adversarial.metrics import gradient_distance, spectrum_distance
from posterity.inference.diagnostics import pulls
from posterity.models import Mixture
from posterity.models.super_resolution import SuperResolution, enlarge, save_super_resolution
from posterity.models.tiling import in_tiles

WAYS = ("nearest", "bicubic", "pixel", "pixel_oriented", "adversarial")
NEW = 0.5 / SCALE  # cycles per pixel: the frequencies that the reduced picture does not contain
PIXELS = 20_000  # pixels of each picture whose pulls are read
INTERVAL = 1.6448536  # half a 90% interval of N(0, 1)


def enlarged(way: str, low: Picture, out: Path) -> Picture:
    """The picture at four times its size, as a file would store it."""
    height, width = (SCALE * side for side in low.size)
    if way == "nearest":
        planes = low.planes.repeat_interleave(SCALE, 1).repeat_interleave(SCALE, 2)
        return Picture(planes, low.mode, low.bits).rounded()
    if way == "bicubic":
        return low.resized(height, width).rounded()
    return enlarge(load(way.removesuffix("_oriented"), out), low, orientations=way.endswith("oriented")).rounded()


def inner(plane: Tensor) -> Tensor:
    return plane[BORDER:-BORDER, BORDER:-BORDER]


def scores(way: str, settings: Settings, out: Path) -> dict[str, float]:
    """PSNR, SSIM and distances of spectrum and gradients: means over the test pictures, and two of each."""
    torch.set_num_threads(1)
    rows, found = [], {}
    pictures = test_pictures(settings)
    for name, picture in zip(pictures.names, pictures.pictures, strict=True):
        truth = inner(picture.cropped(SCALE).luminance)
        got = inner(enlarged(way, picture.reduced(SCALE), out).luminance)
        rows.append(quality(got, truth))
        found |= {f"{key}_of.{name}": rows[-1][key] for key in ("psnr", "gradient_distance")}
    return found | {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def quality(got: Tensor, truth: Tensor) -> dict[str, float]:
    """Scores of one luminance (H, W); gradients in 8-bit levels per pixel."""
    pair = truth.double().numpy(), got.double().numpy()
    return {
        "psnr": float(peak_signal_noise_ratio(*pair, data_range=1.0)),
        "ssim": float(
            structural_similarity(*pair, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
        ),
        "spectrum_distance": spectrum_distance(got, truth, lowest=NEW),
        "gradient_distance": 255 * gradient_distance(got, truth),
    }


def pixel_distribution(net: SuperResolution, low: Picture) -> Mixture:
    """The mixture of each pixel (H, W), computed in tiles."""

    def parameters(part: Tensor) -> Tensor:
        mixture = net.distribution(part)
        scale = mixture.component_distribution.scale
        return torch.cat([mixture.mean, *(each.squeeze(1).movedim(-1, 1) for each in (mixture.log_weights, scale))], 1)

    found = in_tiles(parameters, low.filled().luminance[None, None], margin=net.reach, scale=net.scale)[0]
    weights, scale = found[1:].chunk(2)
    return Mixture.normal(weights.movedim(0, -1), found[0, ..., None], scale.movedim(0, -1))


@cache
def _pixels(photographs: Photographs, out: Path, seed: int) -> list[tuple[Mixture, Tensor]]:
    """The mixtures and true values of random pixels of each picture, at temperature 1."""
    net, random, found = load("pixel", out), torch.Generator().manual_seed(seed), []
    net.temperature.fill_(1.0)
    for picture in photographs.pictures:
        truth = inner(picture.cropped(SCALE).luminance).flatten()
        rows = torch.randint(len(truth), (PIXELS,), generator=random)
        mixture = pixel_distribution(net, picture.reduced(SCALE))
        parts = (mixture.log_weights, mixture.component_distribution.loc, mixture.component_distribution.scale)
        kept = [part[BORDER:-BORDER, BORDER:-BORDER].reshape(len(truth), -1)[rows].double() for part in parts]
        found.append((Mixture.normal(*kept), truth[rows].double()))
    return found


def _at(mixture: Mixture, temperature: float) -> Mixture:
    normal = mixture.component_distribution
    return Mixture.normal(mixture.log_weights, normal.loc, temperature * normal.scale)


def widths(pixels: Sequence[tuple[Mixture, Tensor]], temperature: float, kind: str = "gaussianised") -> np.ndarray:
    """Standard deviation of the pulls of each picture."""
    return np.array([float(pulls(_at(m, temperature), y, kind=kind).pull.std()) for m, y in pixels])


def errors(settings: Settings, out: Path) -> dict[str, float]:
    """Pulls and coverage of the predicted errors of test pictures.

    One number is fitted to the held-out photographs, and stored with the network: the temperature at which the mean
    width of their pulls is 1.
    """
    torch.set_num_threads(1)
    held_out = _pixels(held_out_photographs(settings), out, settings.seed)
    temperature = brentq(lambda t: float(widths(held_out, t).mean()) - 1, 0.2, 5.0, xtol=1e-3)
    net = load("pixel", out)
    net.temperature.fill_(float(temperature))
    save_super_resolution(net, out / "pixel.pt")
    pixels = _pixels(test_pictures(settings), out, settings.seed + 1)
    found = {"temperature": float(temperature)}
    for name, chosen in (("raw", 1.0), ("", temperature)):
        group = f"{name}." if name else ""
        inside = [(pulls(_at(m, chosen), y).pull.to_numpy(), m, y) for m, y in pixels]
        coverage = np.array([(np.abs(pull) < INTERVAL).mean() for pull, _, _ in inside])
        found |= {
            f"{group}pull_width": float(widths(pixels, chosen).mean()),
            f"{group}pull_width_moment": float(widths(pixels, chosen, "moment").mean()),
            f"{group}pull_mean": float(np.mean([pull.mean() for pull, _, _ in inside])),
            f"{group}coverage_90": float(coverage.mean()),
            f"{group}nll": float(np.mean([-float(_at(m, chosen).log_prob(y).mean()) for _, m, y in inside])),
        }
        for picture, width, covered in zip(
            test_pictures(settings).names, widths(pixels, chosen), coverage, strict=True
        ):
            found |= {
                f"{group}pull_width_of.{picture}": float(width),
                f"{group}coverage_90_of.{picture}": float(covered),
            }
    found["held_out_coverage_90"] = float(
        np.mean([(np.abs(pulls(_at(m, temperature), y).pull) < INTERVAL).mean() for m, y in held_out])
    )
    all_pulls = torch.cat([torch.as_tensor(pulls(_at(m, temperature), y).pull.to_numpy()) for m, y in pixels])
    predicted = torch.cat([_at(m, temperature).stddev for m, _ in pixels])
    actual = torch.cat([y - m.mean for m, y in pixels])
    save_arrays(out / "errors.npz", pulls=all_pulls, predicted=predicted, actual=actual)
    return found
