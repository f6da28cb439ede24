"""Super-resolution: pictures at four times their size, with and without an adversarial loss, with errors.

Networks are trained on 60 photographs of the Berkeley segmentation data set (CBSD68) and tested on the five pictures of
Set5. The report has

- `bicubic`, `nearest`: the references. `pixel`: a residual network with pixel loss; `pixel_oriented`: the mean of its
  results in eight orientations. `adversarial`: the same network trained further against a discriminator, with a loss of
  the features of a network that recognises the photograph a texture comes from. PSNR (dB) and SSIM of the luminance,
  four pixels of border left out; distances of power spectrum (decades) and gradients (levels per pixel) from the
  original;
- `errors`: width of the pulls and coverage of the 90% intervals that `pixel` predicts, a mixture of three normals for
  each pixel.

    python examples/super_resolution.py
    python examples/super_resolution.py --quick
    python examples/super_resolution.py --image photo.jpg    # with the stored networks
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from _parts import compute_stages, tag, total_seconds
from _report import finish, parser
from _super import evaluation, figures
from _super.networks import train_adversarial, train_errors, train_pixel, train_textures
from _super.own_picture import enlarge_own
from _super.settings import QUICK, Settings

STORED = Path(__file__).parent / "results" / "super_resolution"  # the networks of the last full run


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__doc__, "super_resolution")
    options.add_argument("--jobs", type=int, default=2, help="number of processes that work in parallel")
    options.add_argument("--image", type=Path, help="enlarge this picture with the stored networks, and nothing else")
    options.add_argument("--networks", type=Path, default=STORED, help="folder of the networks for --image")
    args = options.parse_args(argv)
    torch.set_num_threads(1)
    if args.image is not None:
        return own_picture(args.image, args.networks, args.out)
    args.out.mkdir(parents=True, exist_ok=True)
    settings = replace(QUICK if args.quick else Settings(), seed=args.seed)
    work = args.out / f"work-{tag(settings)}"  # networks and arrays of these settings alone
    work.mkdir(exist_ok=True)
    stages = [
        {
            "training.pixel": partial(train_pixel, settings, work),
            "training.textures": partial(train_textures, settings, work),
        },
        {
            "training.adversarial": partial(train_adversarial, settings, work),
            "training.errors": partial(train_errors, settings, work),
        },
        {"errors": partial(evaluation.errors, settings, work)},
        {way: partial(evaluation.scores, way, settings, work) for way in evaluation.WAYS},
    ]
    metrics = compute_stages(args.out, settings, stages, jobs=args.jobs)
    metrics["pixel.gain"] = metrics["pixel.psnr"] - metrics["bicubic.psnr"]
    for name, value in sorted(metrics.items()):
        print(f"{name:44} {value:.4g}")
    drawn = [
        draw(settings, metrics, work, args.out)
        for draw in (figures.draw_details, figures.draw_textures, figures.draw_errors)
    ]
    return finish(args, metrics, drawn, seconds=total_seconds())


def own_picture(path: Path, networks: Path, out: Path) -> int:
    try:
        written = enlarge_own(path, networks, out)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(map(str, written)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
