"""Sets of images: published counts, operations on pixels, and errors."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from posterity.data import Images, digits, fashion_mnist, image_folder, mnist, usps

FOLDER = os.environ.get("POSTERITY_DATA")


def needs(name):
    there = FOLDER is not None and (Path(FOLDER) / name).is_dir()
    return pytest.mark.skipif(not there, reason=f"POSTERITY_DATA names no folder with {name}")


@pytest.mark.parametrize("load", [mnist, fashion_mnist, usps])
def test_another_part_is_refused(load):
    with pytest.raises(ValueError, match="expected part to be one of 'train', 'test', got 'valid'"):
        load("valid")


@needs("mnist")
@pytest.mark.parametrize(("part", "count", "of_one"), [("train", 60_000, 6742), ("test", 10_000, 1135)])
def test_mnist_is_what_is_published(part, count, of_one):
    """Of ones there are 6,742 and 1,135; the training pixels have a mean of 0.1307 and an sd of 0.3081 of 255."""
    found = mnist(part)
    assert len(found) == count
    assert found.shape == (1, 28, 28)
    assert int((found.labels == 1).sum()) == of_one
    if part == "train":
        pixels = found.scaled(0, 1)
        assert float(pixels.mean()) == pytest.approx(0.1307, abs=1e-4)
        assert float(pixels.std()) == pytest.approx(0.3081, abs=1e-4)


@needs("fashion")
def test_fashion_has_as_many_of_each_class():
    assert torch.bincount(fashion_mnist("test").labels).tolist() == [1000] * 10


@needs("usps")
def test_usps_is_what_is_published():
    found = usps("test")
    assert (len(found), found.shape) == (2007, (1, 16, 16))
    assert torch.bincount(found.labels).tolist() == [359, 264, 198, 166, 200, 160, 170, 147, 166, 177]
    assert int(found.pixels.min()) == 0
    assert int(found.pixels.max()) == 255


def test_digits_are_at_hand():
    found = digits()
    assert (len(found), found.shape) == (1797, (1, 8, 8))
    assert int(found.pixels.max()) == 255
    assert torch.bincount(found.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def picture(path, size=(6, 4), colour=(255, 0, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def test_a_folder_of_classes(tmp_path):
    picture(tmp_path / "dog" / "b.png")
    picture(tmp_path / "cat" / "a.PNG", colour=(1, 2, 3))
    picture(tmp_path / "cat" / "c.jpg")
    (tmp_path / "cat" / "notes.txt").write_text("not a picture")
    found = image_folder(tmp_path)
    assert found.classes == ("cat", "dog")
    assert found.labels.tolist() == [0, 0, 1]
    assert found.shape == (3, 4, 6)
    assert found.pixels[0, :, 0, 0].tolist() == [1, 2, 3]
    assert found.pixels[2, :, 3, 5].tolist() == [255, 0, 10]


def test_a_folder_without_classes_in_grey_and_in_a_size(tmp_path):
    picture(tmp_path / "a.png", (6, 4), (100, 100, 100))
    picture(tmp_path / "b.png", (3, 9), (50, 50, 50))
    found = image_folder(tmp_path, size=(8, 5), grey=True)
    assert found.labels is None
    assert found.shape == (1, 8, 5)
    assert found.pixels.flatten(1).double().mean(1).tolist() == [100, 50]
    with pytest.raises(
        ValueError, match=r"expected images of equal sizes, got \(4, 6\) and \(9, 3\) in .*b.png: pass size"
    ):
        image_folder(tmp_path)


def test_folders_without_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected images \(.png, .jpg, .jpeg\) in .*, got none"):
        image_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="expected folder to be an existing folder"):
        image_folder(tmp_path / "none")
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"expected an image in .*a.png, got a file that cannot be read"):
        image_folder(tmp_path)


def few():
    pixels = torch.arange(2 * 3 * 2 * 2, dtype=torch.uint8).reshape(2, 3, 2, 2)
    return Images(pixels, torch.tensor([1, 0]), ("a", "b"), "few")


def test_scaled_pixels_run_from_one_end_to_the_other():
    found = Images(torch.tensor([0, 255, 51], dtype=torch.uint8).reshape(1, 1, 1, 3))
    torch.testing.assert_close(found.scaled().flatten(), torch.tensor([-1.0, 1.0, -0.6]))
    torch.testing.assert_close(found.scaled(0, 2).flatten(), torch.tensor([0.0, 2.0, 0.4]))
    with pytest.raises(ValueError, match=r"with low < high, got \(1, 1\)"):
        found.scaled(1, 1)


def test_some_of_them():
    assert repr(few()) == "Images(few: 2 of 3 x 2 x 2, 2 classes)"
    assert few().subset([1]).labels.tolist() == [0]
    assert len(few().subset(slice(0, 1))) == 1
    assert torch.equal(few().only(1).pixels, few().pixels[:1])
    with pytest.raises(ValueError, match=r"expected classes from 0 to 1, got \(2,\)"):
        few().only(2)
    with pytest.raises(ValueError, match="expected images with labels"):
        Images(few().pixels).only(0)


def test_borders_are_black_and_even():
    found = few().padded(5, 4).pixels
    assert found.shape == (2, 3, 5, 4)
    assert torch.equal(found[:, :, 1:3, 1:3], few().pixels)
    assert int(found.sum()) == int(few().pixels.sum())
    with pytest.raises(ValueError, match="expected a size of at least 2 x 2, got 1 x 4"):
        few().padded(1, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixels": torch.zeros(2, 1, 4, 4)}, "expected pixels of dtype torch.uint8, from 0 to 255, got torch.float32"),
        ({"pixels": torch.zeros(2, 4, 4, dtype=torch.uint8)}, r"expected pixels of shape .*, got \(2, 4, 4\)"),
        ({"pixels": torch.zeros(2, 2, 4, 4, dtype=torch.uint8)}, r"got \(2, 2, 4, 4\)"),
        ({"pixels": torch.zeros(0, 1, 4, 4, dtype=torch.uint8)}, r"got \(0, 1, 4, 4\)"),
        ({"labels": torch.tensor([0])}, r"expected int64 labels of shape \(2,\), got torch.int64 of shape \(1,\)"),
        ({"labels": torch.tensor([0.0, 1.0])}, "got torch.float32"),
        ({"labels": torch.tensor([0, 2])}, "expected labels from 0 to 1, indices into classes, got 0 to 2"),
    ],
)
def test_what_is_no_set_of_images_is_refused(change, message):
    good = {"pixels": torch.zeros(2, 1, 4, 4, dtype=torch.uint8), "labels": torch.tensor([0, 1]), "classes": ("a", "b")}
    with pytest.raises(ValueError, match=message):
        Images(**(good | change))


def test_folders_that_would_be_read_wrongly_are_refused(tmp_path):
    """Sixteen bits would be cut off at 255; a hidden folder is not a class; images beside classes would be ignored."""
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"expected an image with 8 bits for each channel in .*deep.png"):
        image_folder(tmp_path)
    (tmp_path / "deep.png").unlink()
    grey = Image.fromarray(np.full((4, 4), 7, dtype=np.uint8))
    for name in ("cats", "dogs", ".thumbs", "__MACOSX"):
        (tmp_path / name).mkdir()
        grey.save(tmp_path / name / "a.png")
    grey.save(tmp_path / "cats" / ".hidden.png")
    found = image_folder(tmp_path, grey=True)
    assert (found.classes, found.labels.tolist()) == (("cats", "dogs"), [0, 1])
    grey.save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=r"got both: b.png beside folders"):
        image_folder(tmp_path)
    (tmp_path / "b.png").unlink()
    (tmp_path / "dogs" / "a.png").unlink()
    with pytest.raises(ValueError, match=r"expected images in every folder of .*, got none in \['dogs'\]"):
        image_folder(tmp_path)
    for size in (8, (8,), (0, 3)):
        with pytest.raises(ValueError, match="size"):
            image_folder(tmp_path / "cats", size=size)


def test_what_are_no_pixels_is_refused():
    with pytest.raises(ValueError, match="expected pixels to be a tensor, got an array of uint8"):
        Images(np.zeros((2, 1, 4, 4), dtype=np.uint8))
    some = Images(torch.zeros(2, 1, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match="expected range of pixels to be two finite numbers"):
        some.scaled(0.0, float("inf"))
    with pytest.raises(ValueError, match="all at least 1"):
        some.subset([])
