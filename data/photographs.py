"""Photographs of different sizes: sets from a folder, and random crops with their reduced versions.

- `set5`: the five test pictures of super-resolution. `cbsd68`: 68 photographs of the Berkeley segmentation data.
- `photographs`: all pictures in a folder.
- `PhotographCrops`: batches for `posterity.inference.adversarial.train` and
  `posterity.inference.training.streaming.fit_stream`.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from posterity.data.fetch import as_path
from posterity.data.picture_file import SUFFIXES, Picture
from posterity.validation import check_integer, check_number, shown


@dataclass(frozen=True, eq=False, repr=False)
class Photographs:
    """Pictures with their names.

    Raises:
        ValueError: no pictures, objects of another type, or another number of names.
    """

    pictures: tuple[Picture, ...]
    names: tuple[str, ...]
    source: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.pictures, tuple) or not all(isinstance(one, Picture) for one in self.pictures):
            raise ValueError(f"expected pictures to be a tuple of Picture, got {shown(self.pictures)}")
        if not isinstance(self.names, tuple) or not all(isinstance(name, str) for name in self.names):
            raise ValueError(f"expected names to be a tuple of strings, got {shown(self.names)}")
        if not isinstance(self.source, str):
            raise ValueError(f"expected source to be a string, got {shown(self.source)}")
        if not self.pictures or len(self.names) != len(self.pictures):
            raise ValueError(
                f"expected at least one picture, and one name for each, got {len(self.names)} names of "
                f"{len(self.pictures)} pictures"
            )

    def __len__(self) -> int:
        return len(self.pictures)

    def subset(self, index: slice) -> "Photographs":
        """The pictures in a slice, with their names."""
        return Photographs(self.pictures[index], self.names[index], self.source)

    def magnified(self, factors: tuple[float, ...]) -> "Photographs":
        """One copy of each picture for each factor, enlarged bicubically by that factor.

        Raises:
            ValueError: factors that are not a tuple of numbers from 1 to 8.
        """
        if not isinstance(factors, tuple) or not factors:
            raise ValueError(f"expected factors to be a tuple such as (1.0, 1.5), got {shown(factors)}")
        for one in factors:
            check_number("every one of factors", one, "[1, 8]")
        pictures = (
            picture if factor == 1 else picture.resized(*(round(factor * side) for side in picture.size)).rounded()
            for picture in self.pictures
            for factor in factors
        )
        names = (f"{name} x {factor:g}" for name in self.names for factor in factors)
        return Photographs(tuple(pictures), tuple(names), self.source)

    def __repr__(self) -> str:
        return f"Photographs({len(self)} from {self.source or 'memory'})"


def photographs(folder: str | Path) -> Photographs:
    """All pictures in a folder, in the order of their names; names that begin with a dot are ignored.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: no pictures in the folder, or a file that cannot be read as one.
    """
    folder = as_path("folder", folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"expected folder to be an existing folder, got {folder}")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
    if not paths:
        raise ValueError(f"expected pictures ({', '.join(SUFFIXES)}) in the folder {folder}, got none")
    return Photographs(tuple(Picture.read(path) for path in paths), tuple(path.stem for path in paths), folder.name)


def set5(*, folder: str | Path | None = None) -> Photographs:
    """Five colour pictures, 228 x 344 to 512 x 512 pixels. Bevilacqua, Roumy, Guillemot & Alberi-Morel 2012.

    From ``folder``/images/CSet5, or from POSTERITY_DATA/images/CSet5; the set has no public address that lasts.

    Raises:
        FileNotFoundError: the folder does not exist.
    """
    return _from_folder("CSet5", folder)


def cbsd68(*, folder: str | Path | None = None) -> Photographs:
    """68 colour photographs, 321 x 481 pixels or turned. Martin, Fowlkes, Tal & Malik 2001; Roth & Black 2009.

    From ``folder``/images/CBSD68; otherwise as `set5`.
    """
    return _from_folder("CBSD68", folder)


def _from_folder(name: str, folder: str | Path | None) -> Photographs:
    root = os.environ.get("POSTERITY_DATA") if folder is None else folder
    if root is None:
        raise FileNotFoundError(f"expected folder, or POSTERITY_DATA, to contain images/{name}, got neither")
    return photographs(as_path("folder", root) / "images" / name)


class PhotographCrops:
    """Random crops of photographs, at reduced and at full resolution: a source of batches.

    The luminance of each photograph is reduced once. A crop is at a random place of a random photograph, in one of the
    eight orientations of a square.

    Args:
        data: the photographs.
        size: height and width of a reduced crop.
        scale: factor of the reduction.
        magnifications: before they are reduced, photographs are enlarged bicubically by one of these factors, all
            equally often. A factor above 1 gives pictures that are not sharp to the last pixel, like many photographs.

    Raises:
        ValueError: a photograph that is smaller than a crop.

    >>> noise = torch.randint(256, (64, 80), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    >>> crops = PhotographCrops(Photographs((Picture.from_array(noise.numpy()),), ("noise",)), size=12)
    >>> [tuple(part.shape) for part in crops.draw(5, torch.Generator().manual_seed(0))]
    [(5, 1, 12, 12), (5, 1, 48, 48)]
    """

    def __init__(
        self, data: Photographs, *, size: int = 24, scale: int = 4, magnifications: tuple[float, ...] = (1.0,)
    ) -> None:
        if not isinstance(data, Photographs):
            raise ValueError(f"expected data to be Photographs, got {shown(data)}")
        self.size, self.scale = check_integer("size", size, 1), check_integer("scale", scale, 1)
        self.names = data.names
        for name, picture in zip(data.names, data.pictures, strict=True):
            if min(picture.size) < size * scale:
                raise ValueError(
                    f"expected photographs of at least {size * scale} x {size * scale} pixels, got {picture.size[0]} x "
                    f"{picture.size[1]} in {name}"
                )
        self.magnifications = magnifications
        magnified = data.magnified(magnifications).pictures
        self.low = [picture.reduced(scale).luminance for picture in magnified]
        self.high = [picture.cropped(scale).luminance for picture in magnified]

    def draw(self, n: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """n reduced crops (n, 1, size, size) and the same crops at full resolution (n, 1, scale size, scale size)."""
        low, high, _ = self.draw_labelled(n, random)
        return low, high

    def draw_labelled(self, n: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """As `draw`, with the number (n,) of each crop's photograph."""
        size, scale = self.size, self.scale
        numbers = torch.randint(len(self.low), (n,), generator=random)
        places = torch.rand(n, 2, generator=random)
        orientations = torch.randint(8, (n,), generator=random)
        lows, highs = list[Tensor](), list[Tensor]()
        for number, (top, left), orientation in zip(
            numbers.tolist(), places.tolist(), orientations.tolist(), strict=True
        ):
            low = self.low[number]
            row, column = int(top * (low.shape[0] - size + 1)), int(left * (low.shape[1] - size + 1))
            for images, factor in ((lows, 1), (highs, scale)):
                image = low if factor == 1 else self.high[number]
                rows = slice(row * factor, (row + size) * factor)
                columns = slice(column * factor, (column + size) * factor)
                images.append(oriented(image[rows, columns], orientation))
        return torch.stack(lows)[:, None], torch.stack(highs)[:, None], numbers // len(self.magnifications)

    @property
    def recipe(self) -> str:
        """Text that identifies the crops in a checkpoint."""
        return (
            f"crops of {self.size} x {self.scale} from {len(self.names)} photographs, "
            f"{self.names[0]} to {self.names[-1]}, magnified by {self.magnifications}"
        )


def oriented(images: Tensor, orientation: int) -> Tensor:
    """Images (..., H, W) in one of eight orientations: bit 0 transposes, then bit 1 flips rows and bit 2 columns."""
    images = images.transpose(-1, -2) if orientation & 1 else images
    sides = [side for bit, side in ((2, -2), (4, -1)) if orientation & bit]
    return images.flip(sides) if sides else images


def restored(images: Tensor, orientation: int) -> Tensor:
    """The inverse of `oriented`."""
    sides = [side for bit, side in ((2, -2), (4, -1)) if orientation & bit]
    images = images.flip(sides) if sides else images
    return images.transpose(-1, -2) if orientation & 1 else images
