"""Contact sheets and animations: every pixel where it belongs, and files that hold what was written."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from posterity.data.pictures import animate, save_grid, tiled


def test_every_image_has_its_place_and_borders_are_white():
    images = torch.rand(5, 3, 2, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    sheet = tiled(images, columns=3, border=2)
    assert sheet.shape == (2 * 2 + 2, 3 * 4 + 2 * 2, 3)
    covered = torch.zeros(sheet.shape[:2], dtype=torch.bool)
    for index in range(5):
        top, left = index // 3 * 4, index % 3 * 6
        part = sheet[top : top + 2, left : left + 4]
        expected = (images[index].permute(1, 2, 0) + 1) * 127.5
        assert float((part - expected).abs().max()) <= 0.5 + 1e-5
        covered[top : top + 2, left : left + 4] = True
    assert bool((sheet[~covered] == 255).all())


def test_the_ends_of_the_range_are_black_and_white_and_values_beyond_are_clipped():
    values = torch.tensor([-5.0, -1.0, 0.0, 1.0, 9.0]).reshape(1, 1, 1, 5)
    assert tiled(values).flatten().tolist() == [0, 0, 128, 255, 255]
    assert tiled(torch.zeros(2, 1, 3, 3), columns=50).shape == (3, 7, 1)  # as many columns as images


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_is_read_back_from_its_png(channels, tmp_path):
    images = torch.rand(3, channels, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    path = save_grid(images, tmp_path / "a.png", columns=2, scale=3)
    with Image.open(path) as opened:
        array = np.asarray(opened).reshape(27, 27, channels)
    sheet = tiled(images, columns=2).numpy()
    assert (array == sheet.repeat(3, 0).repeat(3, 1)).all()
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_an_animation_has_the_frames_in_order_and_holds_the_last_one(tmp_path):
    for number, grey in enumerate((0, 100, 200)):
        Image.new("L", (4, 4), grey).save(tmp_path / f"{number}.png")
    path = animate(tmp_path, tmp_path / "b.gif", seconds=0.1)
    with Image.open(path) as opened:
        frames = [(frame.convert("L").getpixel((1, 1)), frame.info["duration"]) for frame in
                  ImageSequence.Iterator(opened)]  # fmt: skip
    assert frames == [(0, 100), (100, 100), (200, 2000)]
    again = animate([tmp_path / "2.png", tmp_path / "0.png"], tmp_path / "c.gif")
    with Image.open(again) as opened:
        assert opened.n_frames == 2


def test_what_cannot_be_shown_is_refused(tmp_path):
    for images, message in (
        (torch.zeros(0, 1, 2, 2), r"expected images of shape \(N, 1 or 3, H, W\), N of 1 or more, got \(0, 1, 2, 2\)"),
        (torch.zeros(2, 2, 2, 2), r"got \(2, 2, 2, 2\)"),
        (torch.full((1, 1, 2, 2), torch.nan), "expected finite images, got 4 of 4"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.cfloat), "expected images to be a floating tensor, got torch.complex64"),
    ):
        with pytest.raises(ValueError, match=message):
            tiled(images)
    with pytest.raises(ValueError, match="expected at least one picture, got none"):
        animate(tmp_path, tmp_path / "a.gif")
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(ValueError, match="expected pictures to be images, got"):
        animate(tmp_path, tmp_path / "a.gif")
