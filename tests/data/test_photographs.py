"""Photographs and their crops: a reduced crop is the reduction of its whole crop, in every orientation."""

import numpy as np
import pytest
import torch

from posterity.data import PhotographCrops, Photographs, Picture, photographs
from posterity.data.photographs import oriented, restored


def pictures(*sizes):
    random = np.random.default_rng(0)
    arrays = [random.integers(0, 256, size, np.uint8) for size in sizes]
    return Photographs(tuple(map(Picture.from_array, arrays)), tuple(f"picture {i}" for i in range(len(sizes))))


@pytest.mark.parametrize("orientation", range(8))
def test_orientations_are_undone(orientation):
    images = torch.rand(2, 5, 7)
    assert torch.equal(restored(oriented(images, orientation), orientation), images)


def test_the_eight_orientations_differ():
    square = torch.arange(9.0).reshape(3, 3)
    assert len({tuple(oriented(square, one).flatten().tolist()) for one in range(8)}) == 8


def test_crops_belong_together():
    """Photographs of constant blocks of 4 x 4 pixels, by which nearest-neighbour reduction is exact."""
    blocks = np.kron(np.random.default_rng(1).integers(0, 256, (16, 20), np.uint8), np.ones((4, 4), np.uint8))
    data = Photographs((Picture.from_array(blocks),), ("blocks",))
    crops = PhotographCrops(data, size=6)
    crops.low = [crops.high[0][::4, ::4]]
    low, high = crops.draw(50, torch.Generator().manual_seed(0))
    assert low.shape == (50, 1, 6, 6)
    assert high.shape == (50, 1, 24, 24)
    assert torch.equal(high, low.repeat_interleave(4, 2).repeat_interleave(4, 3))


def test_a_seed_draws_the_same_crops_of_all_photographs():
    crops = PhotographCrops(pictures((30, 40), (50, 33, 3), (29, 31)), size=7)
    one, other = (crops.draw_labelled(200, torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert set(one[2].tolist()) == {0, 1, 2}


def test_a_photograph_smaller_than_a_crop_is_refused_by_name():
    with pytest.raises(ValueError, match="at least 32 x 32 pixels, got 30 x 40 in picture 1"):
        PhotographCrops(pictures((32, 40), (30, 40)), size=8)
    with pytest.raises(ValueError, match="at least 4 x 4 pixels, got 1 x 1 in picture 0"):
        PhotographCrops(pictures((1, 1)), size=1)


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected pictures .* got none"):
        photographs(tmp_path)
    pictures((6, 5)).pictures[0].save(tmp_path / "a.png")
    (tmp_path / "._a.png").write_bytes(b"what a file system adds")
    assert photographs(tmp_path).names == ("a",)
    assert len(photographs(tmp_path).subset(slice(0, 1))) == 1


def test_recipes_name_the_crops():
    assert (
        PhotographCrops(pictures((30, 40)), size=7).recipe
        == "crops of 7 x 4 from 1 photographs, picture 0 to picture 0, magnified by (1.0,)"
    )


def test_magnified_photographs_are_smoother_and_keep_their_numbers():
    """Bicubic enlargement by two of white noise: gradients of neighbours are less than half as large."""
    data = pictures((60, 60), (80, 70))
    plain, large = (PhotographCrops(data, size=7, magnifications=ones) for ones in ((1.0,), (2.0,)))
    one, other = (crops.draw_labelled(100, torch.Generator().manual_seed(0)) for crops in (plain, large))
    assert float(other[1].diff(dim=-1).abs().mean()) < 0.6 * float(one[1].diff(dim=-1).abs().mean())
    both = PhotographCrops(data, size=7, magnifications=(1.0, 2.0))
    assert set(both.draw_labelled(200, torch.Generator().manual_seed(3))[2].tolist()) == {0, 1}
    for wrong in ((0.5,), (), [1.0]):
        with pytest.raises(ValueError, match="factors"):
            PhotographCrops(data, size=7, magnifications=wrong)
