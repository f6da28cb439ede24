"""Faces for completion: pictures of 40 people, and masks that hide a part of each.

- `orl_faces`: ten pictures of each of 40 people, with the person as label.
- `by_person`: training and test pictures of different people.
- `hidden_pixels`: the pixels of the lower half, the eyes or the centre.
"""

import os
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from posterity.data.fetch import as_path
from posterity.data.images import Images
from posterity.validation import check_choice, check_integer, check_seed, shown

PARTS = {  # first and last row, first and last column, as shares of height and width
    "lower": (0.5, 1.0, 0.0, 1.0),
    "eyes": (0.3, 0.52, 0.1, 0.9),
    "centre": (0.25, 0.75, 0.25, 0.75),
}


def orl_faces(*, folder: str | Path | None = None) -> Images:
    """400 grey pictures of 112 x 92 pixels; labels are the 40 people. Samaria & Harter 1994, AT&T Cambridge.

    From ``folder``/orl_faces.npz, or from POSTERITY_DATA/orl_faces.npz: an array ``images`` (40, 10, 112, 92) of bytes.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file holds something else.
    """
    root = os.environ.get("POSTERITY_DATA") if folder is None else folder
    if root is None:
        raise FileNotFoundError("expected folder, or POSTERITY_DATA, to contain orl_faces.npz, got neither")
    path = as_path("folder", root) / "orl_faces.npz"
    if not path.exists():
        raise FileNotFoundError(f"expected folder to contain orl_faces.npz, got {root}")
    try:
        with np.load(path, allow_pickle=False) as stored:
            images = stored["images"]
    except (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"expected an array images in {path}, got a file without ({error})") from None
    if images.ndim != 4 or images.dtype != np.uint8 or 0 in images.shape:
        raise ValueError(
            f"expected bytes of shape (people, pictures, H, W) in {path}, got {images.dtype} of shape {images.shape}"
        )
    people, each = images.shape[:2]
    return Images(
        torch.from_numpy(images.reshape(people * each, 1, *images.shape[2:])),
        torch.arange(people).repeat_interleave(each),
        tuple(f"person {number}" for number in range(1, people + 1)),
        "orl",
        "AT&T Laboratories Cambridge",
    )


def by_person(faces: Images, *, tested: int = 10, seed: int = 0) -> tuple[Images, Images]:
    """Training and test pictures; no person is in both.

    Args:
        faces: pictures with the person as label.
        tested: number of random people whose pictures are for the test.
        seed: of the choice.

    Raises:
        ValueError: pictures without labels, or so many people tested that none is left.
    """
    if not isinstance(faces, Images) or faces.labels is None:
        raise ValueError(f"expected faces to be Images with labels, got {shown(faces)}")
    check_seed(seed)
    people = faces.labels.unique()
    check_integer("tested", tested, 1, len(people) - 1)
    order = torch.randperm(len(people), generator=torch.Generator().manual_seed(seed))
    chosen = torch.isin(faces.labels, people[order[:tested]])
    return faces.subset(~chosen), faces.subset(chosen)


def hidden_pixels(part: str, height: int, width: int) -> Tensor:
    """The pixels (H, W) of an upright face that belong to a part: True are hidden.

    Args:
        part: "lower" (half), "eyes" or "centre".
        height: H.
        width: W.

    Raises:
        ValueError: another part, or sides below 4.

    >>> hidden_pixels("lower", 4, 4).sum(1).tolist()
    [0, 0, 4, 4]
    """
    check_choice("part", part, list(PARTS))
    check_integer("height", height, 4)
    check_integer("width", width, 4)
    top, bottom, left, right = PARTS[part]
    hidden = torch.zeros(height, width, dtype=torch.bool)
    hidden[round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = True
    return hidden
