"""Contact sheets hold the pixels of their images, and animations the pictures in order."""

import numpy as np
import pytest
import torch
from PIL import Image

from posterity.data.pictures import animate, save_grid, tiled


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("border", [0, 2])
def test_every_tile_is_its_image_to_half_a_grey_level(channels, border):
    images = torch.rand(5, channels, 3, 4) * 2 - 1
    sheet = tiled(images, columns=2, border=border)
    assert sheet.shape == (3 * 3 + 2 * border, 2 * 4 + border, channels)
    inside = torch.zeros(sheet.shape[:2], dtype=torch.bool)
    for index, image in enumerate(images):
        top, left = index // 2 * (3 + border), index % 2 * (4 + border)
        tile = sheet[top : top + 3, left : left + 4].double()
        inside[top : top + 3, left : left + 4] = True
        torch.testing.assert_close(tile / 127.5 - 1, image.permute(1, 2, 0).double(), rtol=0, atol=0.5 / 127.5 + 1e-6)
    assert (sheet[~inside] == 255).all()  # borders and the free place


def test_values_outside_the_range_are_black_and_white():
    assert tiled(torch.tensor([-7.0, -1.0, 1.0, 7.0]).reshape(1, 1, 2, 2)).flatten().tolist() == [0, 0, 255, 255]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(4, 3, 3), r"expected images of shape \(N, 1 or 3, H, W\)"),
        (torch.zeros(4, 2, 3, 3), r"got \(4, 2, 3, 3\)"),
        (torch.zeros(0, 1, 3, 3), "N of 1 or more"),
        (torch.full((1, 1, 2, 2), torch.nan), "expected finite images"),
    ],
)
def test_tensors_that_are_no_images_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        tiled(images)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_saved_grid_is_the_sheet_with_larger_pixels(tmp_path, channels):
    images = torch.rand(4, channels, 3, 3) * 2 - 1
    path = save_grid(images, tmp_path / "grid.png", columns=2, scale=3)
    with Image.open(path) as picture:
        pixels = np.asarray(picture).reshape(picture.height, picture.width, channels)
    sheet = tiled(images, columns=2).numpy()
    np.testing.assert_array_equal(pixels, sheet.repeat(3, axis=0).repeat(3, axis=1))
    assert [file.name for file in tmp_path.iterdir()] == ["grid.png"]


def test_an_animation_has_the_pictures_of_a_folder_in_the_order_of_their_names(tmp_path):
    for name, grey in (("b", 255), ("a", 0), ("c", 100)):
        Image.new("L", (4, 4), grey).save(tmp_path / f"{name}.png")
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for index, pictures in enumerate((tmp_path, paths)):
        with Image.open(animate(pictures, tmp_path / f"{index}.gif", seconds=0.25)) as film:
            greys, times = [], []
            for frame in range(film.n_frames):
                film.seek(frame)
                greys.append(np.asarray(film.convert("L"))[0, 0])
                times.append(film.info["duration"])
        np.testing.assert_allclose(greys, [0, 255, 100], atol=1)
        assert times == [250, 250, 2000]  # milliseconds


def test_files_that_are_not_pictures_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected at least one picture, got none in"):
        animate(tmp_path, tmp_path / "a.gif")
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(ValueError, match="expected pictures to be images, got"):
        animate(tmp_path, tmp_path / "a.gif")
    assert not (tmp_path / "a.gif").exists()
