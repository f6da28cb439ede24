"""Images of two domains: drawn without a pairing, and refused where two networks could not work on both."""

import pytest
import torch

from posterity.data import Images, UnpairedImages, digits, edges


def images(*shape):
    pixels = torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Images(pixels, name=f"{shape}")


def test_pairs_are_independent():
    """Image i of 100 shows the number i: the correlation of 4,000 pairs is 0 within five standard errors."""
    counted = Images((torch.arange(100, dtype=torch.uint8))[:, None, None, None].expand(100, 1, 2, 2).clone())
    pairs, same = UnpairedImages(counted, counted).draw(4000, torch.Generator().manual_seed(0))
    assert torch.equal(pairs, same)
    first, second = pairs[:, 0, 0, 0, 0], pairs[:, 1, 0, 0, 0]
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 5 / 4000**0.5
    assert float(pairs.min()) == -1.0


def test_domains_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="expected second to have at least two images, got 1"):
        UnpairedImages(images(5, 1, 8, 8), images(1, 1, 8, 8))
    with pytest.raises(ValueError, match=r"expected two domains of equal channels, got 3 and 1: see Images\.grey"):
        UnpairedImages(images(5, 3, 8, 8), images(5, 1, 8, 8))
    with pytest.raises(ValueError, match="expected two domains of equal sizes, got 8 x 8 and 8 x 6"):
        UnpairedImages(images(5, 1, 8, 8), images(5, 1, 8, 6))
    with pytest.raises(ValueError, match="expected first to be Images, got"):
        UnpairedImages(torch.zeros(5, 1, 8, 8), images(5, 1, 8, 8))
    assert UnpairedImages(images(5, 3, 8, 8).grey(), images(5, 1, 8, 8)).draw(2, torch.Generator())[0].shape[1] == 2


def test_edges_are_where_brightness_changes():
    """A white square on black: a white outline of two pixels, black inside and outside."""
    pixels = torch.zeros(1, 1, 12, 12, dtype=torch.uint8)
    pixels[..., 3:9, 3:9] = 255
    found = edges(Images(pixels)).pixels[0, 0]
    assert found[3:9, 3].tolist() == [255] * 6
    assert found[5:7, 5:7].tolist() == [[0, 0], [0, 0]]
    assert int(found[:2].sum()) == 0
    assert torch.equal(found, found.T)
    assert edges(digits()).labels is not None


def test_edges_do_not_depend_on_inversion():
    one = images(3, 1, 9, 7)
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))  # the border counts as black
    assert torch.equal(edges(one).pixels[inner], edges(Images(255 - one.pixels)).pixels[inner])


def test_edges_of_an_image_do_not_depend_on_the_others():
    several = images(4, 1, 9, 7)
    alone = torch.cat([edges(several.subset([index])).pixels for index in range(4)])
    assert torch.equal(edges(several).pixels, alone)
