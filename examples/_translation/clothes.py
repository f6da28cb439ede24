"""Clothes and their outlines, judged on hidden pairs."""

from pathlib import Path

import torch
from _report import save_arrays
from torch import Tensor

from _translation.digits import cycle_errors
from _translation.networks import load, translated, translator
from _translation.settings import Settings, domains
from posterity.files import read_tensors
from posterity.models.translation import Translator


def psnr(images: Tensor, truth: Tensor) -> float:
    """Mean PSNR of images (N, 1, H, W) from -1 to 1, in dB."""
    return float(-10 * ((images - truth) / 2).square().mean((1, 2, 3)).log10().mean())


def hidden_pairs(settings: Settings) -> tuple[Tensor, Tensor]:
    """Clothes and their outlines (N, 1, H, W); nothing was trained on either."""
    clothes, outlines = domains("clothes", "test", settings)
    rows = slice(settings.tested)
    return clothes.subset(rows).scaled(), outlines.subset(rows).scaled()


@torch.no_grad()
def evaluate(seed: int, settings: Settings, out: Path) -> dict[str, float]:
    """PSNR on hidden pairs in both directions, and what the cycle loses."""
    torch.set_num_threads(1)
    net, (images, outlines) = load("clothes", seed, settings, out), hidden_pairs(settings)
    drawn, dressed = translated(net.to_second, images), translated(net.to_first, outlines)
    found = {"psnr": psnr(drawn, outlines), "psnr_clothes": psnr(dressed, images)}
    found |= cycle_errors("from_clothes", images, drawn, net.to_first, seed)
    found |= cycle_errors("from_edges", outlines, dressed, net.to_second, seed)
    if seed == settings.seeds[0]:
        names = {"images": images, "outlines": outlines, "drawn": drawn, "dressed": dressed}
        save_arrays(out / "clothes.npz", **{name: values[:200] for name, values in names.items()})
    return found


@torch.no_grad()
def references(settings: Settings, out: Path) -> dict[str, float]:
    """PSNR of the mean training image, of the input itself, and of the same generators trained on pairs."""
    torch.set_num_threads(1)
    images, outlines = hidden_pairs(settings)
    mean_image, mean_outline = (
        domain.scaled().mean(0, keepdim=True) for domain in domains("clothes", "train", settings)
    )
    net: Translator = translator("clothes", settings, settings.seed)
    net.load_state_dict(read_tensors(out / "clothes-paired.pt", "weights of a translator"))
    drawn, dressed = translated(net.to_second, images), translated(net.to_first, outlines)
    save_arrays(out / "clothes-paired.npz", drawn=drawn[:200], dressed=dressed[:200])
    return {
        "mean.psnr": psnr(mean_outline, outlines),
        "mean.psnr_clothes": psnr(mean_image, images),
        "copy.psnr": psnr(images, outlines),
        "copy.psnr_clothes": psnr(outlines, images),
        "paired.psnr": psnr(drawn, outlines),
        "paired.psnr_clothes": psnr(dressed, images),
    }
