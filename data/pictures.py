"""Contact sheets and animations: many images as one PNG, many PNG files as one GIF."""

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from posterity.data.fetch import as_path
from posterity.files import replacing
from posterity.validation import check_finite, check_integer, check_number, check_real


def tiled(images: Tensor, *, columns: int = 8, border: int = 1) -> Tensor:
    """Images (N, C, H, W) with values from -1 to 1 as one image of bytes (H', W', C), on a grid with white borders.

    Values outside the range are clipped.

    Raises:
        ValueError: another shape, no images, values that are not real or not finite, columns below 1, or a negative
            border.
    """
    check_real("images", images)
    check_integer("columns", columns, 1)
    check_integer("border", border, 0)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise ValueError(f"expected images of shape (N, 1 or 3, H, W), N of 1 or more, got {tuple(images.shape)}")
    check_finite("images", images)
    count, channels, height, width = images.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    sheet = torch.full(
        (channels, rows * (height + border) - border, columns * (width + border) - border), 255, dtype=torch.uint8
    )
    pixels = ((images.detach().cpu().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    for index, image in enumerate(pixels):
        top, left = index // columns * (height + border), index % columns * (width + border)
        sheet[:, top : top + height, left : left + width] = image
    return sheet.permute(1, 2, 0)


def save_grid(images: Tensor, path: str | Path, *, columns: int = 8, scale: int = 2) -> Path:
    """Write the `tiled` images as a PNG with pixels of side ``scale``; an old file is replaced when this is complete.

    Raises:
        ValueError: as `tiled`, or a scale below 1.
    """
    path = as_path("path", path)
    check_integer("scale", scale, 1)
    with replacing(path) as temporary:
        temporary.write_bytes(_png(_picture(tiled(images, columns=columns), scale)))
    return path


def animate(pictures: str | Path | Sequence[str | Path], path: str | Path, *, seconds: float = 0.15) -> Path:
    """Write PNG files, or those of a folder in the order of their names, as one GIF; the last stays for two seconds.

    Raises:
        ValueError: no pictures, files that are not images, or ``seconds`` that are not above 0.
    """
    check_number("seconds", seconds, "(0, inf)")
    if not isinstance(pictures, str | Path | Sequence):
        raise ValueError(f"expected pictures to be a folder or paths, got {pictures!r}")
    files = (
        sorted(as_path("pictures", pictures).glob("*.png"))
        if isinstance(pictures, str | Path)
        else [as_path("pictures", p) for p in pictures]
    )
    if not files:
        raise ValueError(f"expected at least one picture, got none in {pictures}")
    frames = []
    for file in files:
        try:
            with Image.open(file) as picture:
                frames.append(picture.convert("P", palette=Image.Palette.ADAPTIVE))
        except UnidentifiedImageError as error:
            raise ValueError(f"expected pictures to be images, got {file}: {error}") from error
    path = as_path("path", path)
    times = [round(1000 * seconds)] * (len(frames) - 1) + [2000]
    with replacing(path) as temporary:
        frames[0].save(temporary, format="GIF", save_all=True, append_images=frames[1:], duration=times, loop=0)
    return path


def _picture(sheet: Tensor, scale: int) -> Image.Image:
    array = sheet.numpy()
    picture = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
