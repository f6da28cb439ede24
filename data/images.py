"""Sets of images with labels: digits, clothes, and folders of files.

- `mnist`, `fashion_mnist` (28 x 28), `usps` (16 x 16): from a local folder, or downloaded.
- `digits` (8 x 8): part of scikit-learn, available without a download.
- `image_folder`: PNG and JPEG files, in one folder or in one folder for each class.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posterity.data.fetch import as_path, read_public
from posterity.data.idx import parse_idx
from posterity.data.observations import rows_in
from posterity.validation import (
    check_choice,
    check_flag,
    check_integer,
    check_pair,
    check_sizes,
    check_tensor,
)

CLOTHES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
PARTS = ("train", "test")
TEN = tuple(str(digit) for digit in range(10))
SUFFIXES = (".png", ".jpg", ".jpeg")

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
USPS_URL = "https://hastie.su.domains/ElemStatLearn/datasets/"
# Hashes of the decompressed contents.
SHA256 = {
    "mnist/train-images-idx3-ubyte.gz": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "mnist/train-labels-idx1-ubyte.gz": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "mnist/t10k-images-idx3-ubyte.gz": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "mnist/t10k-labels-idx1-ubyte.gz": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    "fashion/train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "fashion/train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "fashion/t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "fashion/t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    "usps/zip.train.gz": "abc9f5c75b997cabe66b5d01727d5a681c69298e1641a8d37b55433a52129dc0",
    "usps/zip.test.gz": "6bde17b4f1cd68e0630cd2751d6495b5795d9165ab2dc4a0be8b7002b732f4cc",
}


@dataclass(frozen=True, eq=False, repr=False)
class Images:
    """N images of C channels and H x W pixels as bytes, with their classes.

    Args:
        pixels: uint8, shape (N, C, H, W), C = 1 (grey) or 3 (red, green, blue); 0 is black.
        labels: int64, shape (N,), indices into ``classes``; or None.
        classes: the name of each class.
        name: a short name of the data set.
        source: its origin, such as a paper.

    Raises:
        ValueError: pixels of another shape or dtype, no images, labels of another shape, or labels outside the classes.

    >>> Images(torch.zeros(2, 1, 4, 4, dtype=torch.uint8)).scaled().shape
    torch.Size([2, 1, 4, 4])
    """

    pixels: Tensor
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    name: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        pixels, labels = self.pixels, self.labels
        check_tensor("pixels", pixels)
        if pixels.dtype != torch.uint8:
            raise ValueError(f"expected pixels of dtype torch.uint8, from 0 to 255, got {pixels.dtype}")
        if pixels.ndim != 4 or pixels.shape[1] not in (1, 3) or 0 in pixels.shape:
            raise ValueError(f"expected pixels of shape (N, 1 or 3, H, W), all at least 1, got {tuple(pixels.shape)}")
        for label, text in (("name", self.name), ("source", self.source)):
            if not isinstance(text, str):
                raise ValueError(f"expected {label} to be a string, got {text!r}")
        if not isinstance(self.classes, Sequence) or not all(isinstance(name, str) for name in self.classes):
            raise ValueError(f"expected classes to be a tuple of names, got {self.classes!r}")
        if labels is None:
            return
        check_tensor("labels", labels)
        if labels.shape != pixels.shape[:1] or labels.dtype != torch.int64:
            raise ValueError(
                f"expected int64 labels of shape ({len(pixels)},), got {labels.dtype} of shape {tuple(labels.shape)}"
            )
        if not (int(labels.min()) >= 0 and int(labels.max()) < len(self.classes)):
            raise ValueError(
                f"expected labels from 0 to {len(self.classes) - 1}, indices into classes, got {int(labels.min())} to "
                f"{int(labels.max())}"
            )

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    def scaled(self, low: float = -1.0, high: float = 1.0) -> Tensor:
        """Pixels as float32 from ``low`` (black) to ``high``, shape (N, C, H, W); by default as from a tanh generator.

        Raises:
            ValueError: ``low`` and ``high`` that are not finite, or not ``low`` < ``high``.
        """
        check_pair("range of pixels", (low, high))
        return self.pixels.float().mul_((high - low) / 255).add_(low)

    def subset(self, index: Any) -> "Images":
        """The images at an index: a slice, integers or a boolean mask (N,), as in `Observations.subset`.

        Raises:
            ValueError: as `Observations.subset`.
        """
        index = rows_in(index, len(self))
        return replace(self, pixels=self.pixels[index], labels=None if self.labels is None else self.labels[index])

    def only(self, *classes: int) -> "Images":
        """The images of some classes; the labels are unchanged.

        Raises:
            ValueError: images without labels, no classes, or a class that does not exist.
        """
        if self.labels is None:
            raise ValueError("expected images with labels, got images without")
        known = all(isinstance(c, Integral) and not isinstance(c, bool) and 0 <= c < len(self.classes) for c in classes)
        if not classes or not known:
            raise ValueError(f"expected classes from 0 to {len(self.classes) - 1}, got {classes}")
        return self.subset(torch.isin(self.labels, torch.tensor(classes)))

    def padded(self, height: int, width: int) -> "Images":
        """The images with black borders up to a size, such as 32 x 32 for networks that halve 28 x 28 five times.

        Raises:
            ValueError: a size below that of the images.
        """
        check_integer("height", height, 1)
        check_integer("width", width, 1)
        _, own_height, own_width = self.shape
        if height < own_height or width < own_width:
            raise ValueError(f"expected a size of at least {own_height} x {own_width}, got {height} x {width}")
        top, left = (height - own_height) // 2, (width - own_width) // 2
        border = (left, width - own_width - left, top, height - own_height - top)
        return replace(self, pixels=torch.nn.functional.pad(self.pixels, border))

    def resized(self, height: int, width: int) -> "Images":
        """The images scaled to another size, bicubically.

        Raises:
            ValueError: a size below 1.
        """
        from PIL import Image

        check_integer("height", height, 1)
        check_integer("width", width, 1)
        resized = np.empty((*self.pixels.shape[:2], height, width), np.uint8)
        for out, channels in zip(resized, self.pixels.numpy(), strict=True):
            for channel, values in enumerate(channels):
                out[channel] = Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC)
        return replace(self, pixels=torch.from_numpy(resized))

    def grey(self) -> "Images":
        """The images with one channel, the luma of ITU-R BT.601 (as Pillow's mode L)."""
        if self.pixels.shape[1] == 1:
            return self
        weights = torch.tensor([0.299, 0.587, 0.114])
        grey = (self.pixels.float() * weights[:, None, None]).sum(1, keepdim=True)
        return replace(self, pixels=grey.round().to(torch.uint8))

    def __repr__(self) -> str:
        channels, height, width = self.shape
        kinds = f", {len(self.classes)} classes" if self.labels is not None else ""
        return f"Images({self.name or 'unnamed'}: {len(self)} of {channels} x {height} x {width}{kinds})"


def mnist(part: str = "train", *, folder: str | Path | None = None) -> Images:
    """Handwritten digits, 28 x 28: 60,000 ("train") or 10,000 ("test"). LeCun, Bottou, Bengio & Haffner 1998.

    From ``folder``/mnist, from POSTERITY_DATA/mnist, or downloaded.

    Raises:
        ValueError: another part, or a damaged file.
        FileNotFoundError: ``folder`` lacks the files.
    """
    return _from_idx("mnist", MNIST_URL, part, folder, TEN, "LeCun, Bottou, Bengio & Haffner 1998, Proc. IEEE 86")


def fashion_mnist(part: str = "train", *, folder: str | Path | None = None) -> Images:
    """Clothes, 28 x 28: 60,000 ("train") or 10,000 ("test"). Xiao, Rasul & Vollgraf 2017.

    From ``folder``/fashion; files and errors as in `mnist`.
    """
    return _from_idx("fashion", FASHION_URL, part, folder, CLOTHES, "Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747")


def usps(part: str = "train", *, folder: str | Path | None = None) -> Images:
    """Digits from envelopes, 16 x 16: 7,291 ("train") or 2,007 ("test"). Hastie, Tibshirani & Friedman 2009.

    The published numbers from -1 to 1 are rounded to bytes. From ``folder``/usps; files and errors as in `mnist`.
    """
    check_choice("part", part, PARTS)
    name = f"usps/zip.{part}.gz"
    contents = read_public(name, USPS_URL + Path(name).name, SHA256[name], folder)
    table = np.loadtxt(io.BytesIO(contents), dtype=np.float64)
    pixels = np.rint((table[:, 1:] + 1) * 127.5).astype(np.uint8).reshape(-1, 1, 16, 16)
    source = "LeCun et al. 1990; Hastie, Tibshirani & Friedman 2009, The Elements of Statistical Learning"
    return Images(torch.from_numpy(pixels), torch.from_numpy(table[:, 0].astype(np.int64)), TEN, "usps", source)


def digits() -> Images:
    """1,797 handwritten digits of 8 x 8 pixels, which are part of scikit-learn.

    >>> digits()
    Images(digits: 1797 of 1 x 8 x 8, 10 classes)
    """
    from sklearn.datasets import load_digits  # seconds to import

    table = load_digits()
    pixels = np.rint(table.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = torch.from_numpy(table.target.astype(np.int64))
    return Images(torch.from_numpy(pixels), labels, TEN, "digits", "Alpaydin & Kaynak 1998; scikit-learn")


def image_folder(folder: str | Path, *, size: tuple[int, int] | None = None, grey: bool = False) -> Images:
    """All PNG and JPEG files in a folder, in the order of their names.

    If the folder holds folders instead of files, each one is a class. Names that begin with a dot or two underscores
    are ignored. ``size`` (height, width) scales all images, bicubically; without it they must have equal sizes.
    ``grey`` converts them to one channel.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: no images in the folder or in one of its classes, images beside folders, an image that cannot be
            read or has more than 8 bits for each channel, images of different sizes, or another ``size``.
    """
    folder = as_path("folder", folder)
    check_flag("grey", grey)
    if not folder.is_dir():
        raise FileNotFoundError(f"expected folder to be an existing folder, got {folder}")
    if size is not None and (not isinstance(size, tuple) or len(size) != 2):
        raise ValueError(f"expected size to be a tuple (height, width), got {size!r}")
    check_sizes("size", size or ())
    inner = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))
    if inner and (beside := _image_files(folder)):
        raise ValueError(f"expected either images or folders in {folder}, got both: {beside[0].name} beside folders")
    groups = [(path.name, _image_files(path)) for path in inner] if inner else [("", _image_files(folder))]
    if inner and (empty := [name for name, files in groups if not files]) and len(empty) < len(groups):
        raise ValueError(f"expected images in every folder of {folder}, got none in {empty}")
    paths = [(number, path) for number, (_, files) in enumerate(groups) for path in files]
    if not paths:
        raise ValueError(f"expected images ({', '.join(SUFFIXES)}) in {folder}, got none")
    arrays = [_read_image(path, size, grey) for _, path in paths]
    for (_, path), array in zip(paths, arrays, strict=True):
        if array.shape != arrays[0].shape:
            raise ValueError(
                f"expected images of equal sizes, got {arrays[0].shape[1:]} and {array.shape[1:]} in {path}: pass size"
            )
    labels = torch.tensor([number for number, _ in paths]) if inner else None
    classes = tuple(name for name, _ in groups) if inner else ()
    return Images(torch.from_numpy(np.stack(arrays)), labels, classes, folder.name, str(folder))


def _from_idx(name: str, url: str, part: str, folder: str | Path | None, classes: Sequence[str], source: str) -> Images:
    check_choice("part", part, PARTS)
    prefix = "train" if part == "train" else "t10k"
    arrays = []
    for file in (f"{name}/{prefix}-images-idx3-ubyte.gz", f"{name}/{prefix}-labels-idx1-ubyte.gz"):
        arrays.append(parse_idx(read_public(file, url + Path(file).name, SHA256[file], folder), file))
    pixels, labels = torch.from_numpy(arrays[0])[:, None], torch.from_numpy(arrays[1].astype(np.int64))
    return Images(pixels, labels, tuple(classes), name, source)


def _image_files(folder: Path) -> list[Path]:
    files = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    return sorted(path for path in files if not path.name.startswith((".", "__")))


def _read_image(path: Path, size: tuple[int, int] | None, grey: bool) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            kind = opened.mode
            image = opened.convert("L" if grey else "RGB")
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError) as error:
        raise ValueError(f"expected an image in {path}, got a file that cannot be read ({error})") from None
    if kind.startswith(("I", "F")):  # Pillow would cut values off at 255 instead of scaling them
        raise ValueError(f"expected an image with 8 bits for each channel in {path}, got Pillow's mode {kind}")
    if size is not None:
        image = image.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if grey else np.moveaxis(array, -1, 0)
