"""`Picture`: one picture of a user, with its luminance apart from colour and opacity.

Networks that enlarge pictures work on the luminance Y, to which the eye is most sensitive, and published scores are
computed on Y. It is the luma of ITU-R BT.601 in the limited range of video, Y = (16 + 219 g) / 255 for a grey value g
from 0 to 1.
"""

import contextlib
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posterity.data.fetch import as_path
from posterity.files import replacing
from posterity.validation import check_finite, check_floating, check_integer, is_integer, shown, shown_shape, to_array

# ITU-R BT.601, for red, green, blue from 0 to 1: Y, Cb and Cr of 8 bits, divided by 255.
MATRIX = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255
OFFSET = np.array([16.0, 128.0, 128.0]) / 255
MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
LARGEST = 80_000_000  # pixels: about 1 GB for three planes of floats; Pillow warns from 89 million


@dataclass(frozen=True)
class _Format:
    """A format of files: its name in Pillow, and whether it stores opacity, and grey values of 16 bits."""

    format: str
    opacity: bool
    deep: bool


STORES = {
    ".png": _Format("PNG", True, True),
    ".tif": _Format("TIFF", True, True),
    ".tiff": _Format("TIFF", True, True),
    ".webp": _Format("WEBP", True, False),
    ".jpg": _Format("JPEG", False, False),
    ".jpeg": _Format("JPEG", False, False),
    ".bmp": _Format("BMP", False, False),
}
SUFFIXES = tuple(STORES)


@dataclass(frozen=True, eq=False, repr=False)
class Picture:
    """A grey or coloured picture of H x W pixels, with or without opacity.

    Args:
        planes: floats of shape (P, H, W), stored as float32: the luma Y; for colours Cb and Cr; the opacity from 0 to
            1, if there is one.
        mode: "L", "LA", "RGB" or "RGBA", as in Pillow.
        bits: 8 or 16, the depth of the file.

    Raises:
        ValueError: a mode that is not one of these, planes of another shape or with NaN or infinity, or another number
            of bits.

    >>> grey = Picture.from_array(np.full((4, 6), 255, np.uint8))
    >>> round(float(grey.luminance[0, 0]) * 255)
    235
    """

    planes: Tensor
    mode: str = "L"
    bits: int = 8

    def __post_init__(self) -> None:
        if not isinstance(self.mode, str) or self.mode not in MODES:
            raise ValueError(f"expected mode to be one of {list(MODES)}, got {self.mode!r}")
        if not is_integer(self.bits) or self.bits not in (8, 16):
            raise ValueError(f"expected bits to be 8 or 16, got {self.bits!r}")
        check_floating("planes", self.planes)
        if self.planes.ndim != 3 or len(self.planes) != MODES[self.mode] or 0 in self.planes.shape:
            raise ValueError(f"expected planes of shape ({MODES[self.mode]}, H, W), got {shown_shape(self.planes)}")
        check_finite("planes", self.planes)
        object.__setattr__(self, "planes", self.planes.detach().float())  # what Pillow resizes

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        height, width = self.planes.shape[1:]
        return height, width

    @property
    def luminance(self) -> Tensor:
        """Y (H, W), from 16/255 for black to 235/255 for white."""
        return self.planes[0]

    def with_luminance(self, luminance: Tensor) -> "Picture":
        """The picture with another Y (H, W).

        Raises:
            ValueError: another shape.
        """
        check_floating("luminance", luminance)
        if luminance.shape != self.luminance.shape:
            raise ValueError(f"expected luminance of shape {self.size}, got {shown_shape(luminance)}")
        return replace(self, planes=torch.cat([luminance[None].to(self.planes), self.planes[1:]]))

    @classmethod
    def read(cls, path: str | Path, *, largest: int = LARGEST) -> "Picture":
        """The picture in a file that Pillow reads, such as JPEG or PNG, turned as its EXIF data say.

        Grey pictures keep 16 bits; Pillow reads colours with 8 bits. Of an animation, the first picture is read.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: the file is not a picture, or it is damaged; the picture has more than ``largest`` pixels; or
                its grey values have 32 bits or are floats.
        """
        from PIL import Image, UnidentifiedImageError

        path = as_path("path", path)
        check_integer("largest", largest, 1)
        if not path.exists():
            raise FileNotFoundError(f"expected path to be a picture, got {path}, which does not exist")
        if path.is_dir():
            raise ValueError(f"expected path to be a picture, got the folder {path}")
        try:
            with path.open("rb") as file, _opened(file) as opened:
                width, height = opened.size  # known before the pixels are decoded
                if width * height > largest:
                    raise ValueError(
                        f"expected a picture of at most {largest} pixels in {path}, got {height} x {width}: crop it, "
                        "or pass largest"
                    )
                return cls._from_pillow(_turned(opened))
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise ValueError(f"expected a picture in {path}, got a file that cannot be read ({error})") from None
        except Image.DecompressionBombError as error:  # the limit of Pillow, above which it tells no size
            raise ValueError(f"expected a picture of at most {largest} pixels in {path}, got: {error}") from None

    @classmethod
    def _from_pillow(cls, image: Any) -> "Picture":
        if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):  # by version of Pillow
            values = np.asarray(image).astype(np.uint16)
            clear = image.info.get("transparency")
            if clear is None:
                return cls.from_array(values)
            return cls.from_array(np.stack([values, np.where(values == clear, 0, 65535).astype(np.uint16)], -1))
        if image.mode == "I":
            raise ValueError("expected a picture of 8 or 16 bits, got Pillow's mode I of 32 bits")
        if image.mode == "F":
            raise ValueError("expected a picture with whole numbers, got Pillow's mode F of floats")
        opaque = image.mode not in ("LA", "RGBA", "PA") and "transparency" not in image.info
        grey = image.mode in ("1", "L", "LA")
        return cls.from_array(np.asarray(image.convert(("L" if grey else "RGB") + ("" if opaque else "A"))))

    @classmethod
    def from_array(cls, array: Any) -> "Picture":
        """A picture from an array (H, W) or (H, W, 1 to 4) of dtype uint8 or uint16.

        Raises:
            ValueError: another shape or dtype.
        """
        array = to_array(array, "array")
        if array.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"expected an array of dtype uint8 or uint16, got {array.dtype}")
        array = array[..., None] if array.ndim == 2 else array
        if array.ndim != 3 or not 1 <= array.shape[2] <= 4 or 0 in array.shape:
            raise ValueError(f"expected an array of shape (H, W) or (H, W, 1 to 4), got {array.shape}")
        bits = 8 * array.dtype.itemsize
        values = array.astype(np.float32) / (2**bits - 1)
        mode = list(MODES)[array.shape[2] - 1]
        colours = (
            values[..., :3] @ MATRIX.T.astype(np.float32) if mode.startswith("RGB") else values[..., :1] * 219 / 255
        )
        planes = np.concatenate([colours + OFFSET[: colours.shape[-1]], values[..., colours.shape[-1] :]], -1)
        return cls(torch.from_numpy(np.moveaxis(planes, -1, 0).astype(np.float32)), mode, bits)

    def to_array(self) -> np.ndarray:
        """The pixels, (H, W) or (H, W, 2 to 4), rounded and clipped to the range of ``bits``."""
        planes = np.moveaxis(self.planes.double().numpy(), 0, -1)
        count = 3 if self.mode.startswith("RGB") else 1
        centred = planes[..., :count] - OFFSET[:count]
        colours = centred @ np.linalg.inv(MATRIX).T if count == 3 else centred * 255 / 219
        full = 2**self.bits - 1
        values = np.rint(np.concatenate([colours, planes[..., count:]], -1).clip(0, 1) * full)
        return values.astype(np.uint8 if self.bits == 8 else np.uint16).squeeze(-1 if self.mode == "L" else ())

    def resized(self, height: int, width: int) -> "Picture":
        """The picture at another size, bicubically, without rounding.

        Raises:
            ValueError: a size below 1.
        """
        from PIL import Image

        check_integer("height", height, 1)
        check_integer("width", width, 1)

        def scaled(plane: Tensor) -> Tensor:
            image = Image.fromarray(plane.numpy(), mode="F").resize((width, height), Image.Resampling.BICUBIC)
            return torch.from_numpy(np.array(image))

        if not self.mode.endswith("A"):
            return replace(self, planes=torch.stack([scaled(plane) for plane in self.planes]))
        # Colours count by their opacity: what is hidden under a transparent pixel must not show at an edge.
        opacity, filled = scaled(self.planes[-1]), self.filled().planes[:-1]
        shown = [scaled(plane * self.planes[-1]) / opacity.clamp_min(1 / 512) for plane in filled]
        colours = [
            torch.where(opacity > 1 / 512, each, scaled(plane)) for each, plane in zip(shown, filled, strict=True)
        ]
        return replace(self, planes=torch.stack([*colours, opacity.clamp(0, 1)]))

    def filled(self) -> "Picture":
        """The picture with the colours of transparent pixels replaced by those of the nearest visible pixel.

        Otherwise a network reads the hidden colours, and they show at edges.
        """
        if not self.mode.endswith("A") or not bool((self.planes[-1] > 0).any()):
            return self
        from scipy.ndimage import distance_transform_edt

        nearest = distance_transform_edt((self.planes[-1] <= 0).numpy(), return_distances=False, return_indices=True)
        rows, columns = (torch.from_numpy(index).long() for index in nearest)
        return replace(self, planes=torch.cat([self.planes[:-1, rows, columns], self.planes[-1:]]))

    def cropped(self, factor: int) -> "Picture":
        """The picture cut at the bottom and right, to a height and width that are multiples of ``factor``.

        Raises:
            ValueError: a picture smaller than ``factor``.
        """
        check_integer("factor", factor, 1)
        height, width = (side - side % factor for side in self.size)
        if not height or not width:
            raise ValueError(f"expected a picture of at least {factor} x {factor} pixels, got {shown(self)}")
        return replace(self, planes=self.planes[:, :height, :width])

    def rounded(self, bits: int | None = None) -> "Picture":
        """The picture as a file would store it, rounded to 8 or 16 ``bits`` in each colour, by default its own."""
        return Picture.from_array((self if bits is None else replace(self, bits=bits)).to_array())

    def reduced(self, factor: int) -> "Picture":
        """The picture `cropped` and reduced bicubically by a whole number, rounded: the input of super-resolution."""
        whole = self.cropped(factor)
        return whole.resized(whole.size[0] // factor, whole.size[1] // factor).rounded()

    def save(self, path: str | Path) -> Path:
        """Write a file in the format of the suffix, and return its path; an old file is replaced at the end.

        Only grey pictures without opacity can be written with 16 bits, and only as PNG or TIFF; ``rounded(8)`` has 8
        bits.

        Raises:
            ValueError: another suffix, opacity in a format that cannot store it, such as JPEG, or 16 bits in another
                case than this one.
        """
        from PIL import Image

        path = as_path("path", path)
        if path.suffix.lower() not in STORES:
            raise ValueError(f"expected path to end in one of {', '.join(SUFFIXES)}, got {path}")
        kind = STORES[path.suffix.lower()]
        if self.bits == 16 and not (self.mode == "L" and kind.deep):
            raise ValueError(
                f"expected 8 bits, or a grey picture and a path that ends in .png or .tif, got {self!r} and {path}"
            )
        if self.mode.endswith("A") and not kind.opacity:
            raise ValueError(f"expected path to end in .png, .tif or .webp for a picture with opacity, got {path}")
        with replacing(path) as temporary:
            Image.fromarray(self.to_array()).save(temporary, format=kind.format)
        return path

    def __repr__(self) -> str:
        height, width = self.size
        return f"Picture({height} x {width}, {self.mode}, {self.bits} bits)"


@contextlib.contextmanager
def _opened(file: Any) -> Iterator[Any]:
    """The picture in an open file; without Pillow's warning of large ones, because `Picture.read` has its own limit."""
    from PIL import Image

    with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
        warnings.simplefilter("ignore", UserWarning)  # of damaged metadata, which are not used then
        with Image.open(file) as opened:
            yield opened


def _turned(image: Any) -> Any:
    """The image as its EXIF data say; as it is if they are damaged."""
    from PIL import ImageOps

    image.load()  # so that errors of the picture itself are not taken for errors of the EXIF data
    try:
        format_, info = image.format, image.info
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            turned = ImageOps.exif_transpose(image)
    except (struct.error, OSError, TypeError, ValueError, KeyError, SyntaxError, OverflowError, ZeroDivisionError):
        return image
    turned.format, turned.info = format_, info
    return turned
