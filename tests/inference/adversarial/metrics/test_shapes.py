"""Counts of pieces, holes and runs: known drawings, and the digits of scikit-learn."""

import pytest
import torch

from posterity.data import digits
from posterity.inference.adversarial.metrics.shapes import asymmetry, count_holes, count_pieces, count_runs


def drawing(text):
    rows = [line.strip() for line in text.strip().splitlines()]
    return torch.tensor([[[float(sign == "#") for sign in row] for row in rows]])


EIGHT = drawing("""
    .......
    ..###..
    ..#.#..
    ..###..
    ..#.#..
    ..###..
    .......
""")


def test_an_eight_is_one_piece_with_two_holes():
    assert count_pieces(EIGHT, threshold=0.5).tolist() == [1]
    assert count_holes(EIGHT, threshold=0.5).tolist() == [2]
    assert count_holes(EIGHT, threshold=0.5, smallest=2).tolist() == [0]
    assert count_runs(EIGHT, 2, threshold=0.5).tolist() == [2]
    assert count_runs(EIGHT, 3, threshold=0.5).tolist() == [1]


def test_a_broken_eight_has_fewer_holes_and_more_pieces():
    broken = EIGHT.clone()
    broken[0, 1, 3] = 0
    assert count_holes(broken, threshold=0.5).tolist() == [1]
    apart = EIGHT.clone()
    apart[0, 3] = 0
    assert count_pieces(apart, threshold=0.5).tolist() == [2]
    assert count_holes(apart, threshold=0.5).tolist() == [0]


def test_a_diagonal_stroke_is_one_piece_and_encloses():
    diamond = drawing("""
        ..#..
        .#.#.
        #...#
        .#.#.
        ..#..
    """)
    assert count_pieces(diamond, threshold=0.5).tolist() == [1]
    assert count_holes(diamond, threshold=0.5).tolist() == [1]


def test_a_hole_at_the_border_is_none():
    bay = drawing("""
        ###
        #.#
        #.#
    """)
    assert count_holes(bay, threshold=0.5).tolist() == [0]


def test_specks_are_not_pieces():
    speck = EIGHT.clone()
    speck[0, 0, 0] = 1
    assert count_pieces(speck, threshold=0.5).tolist() == [1]
    assert count_pieces(speck, threshold=0.5, smallest=1).tolist() == [2]


def test_counts_do_not_depend_on_the_others_or_on_the_unit():
    images = digits().resized(24, 24)
    values, scaled = images.scaled(), 7 * images.scaled() + 3
    assert torch.equal(count_holes(values), count_holes(scaled, threshold=3.0))
    alone = torch.cat([count_pieces(values[i : i + 1]) for i in range(30)])
    assert torch.equal(count_pieces(values[:30]), alone)
    assert torch.allclose(asymmetry(values), asymmetry(scaled))


def test_zeros_have_a_hole_and_ones_have_none():
    images = digits().resized(24, 24)
    holes = count_holes(images.scaled(), threshold=-0.2, smallest=3)
    assert float((holes[images.labels == 0] == 1).double().mean()) > 0.85  # some of 8 x 8 pixels are open
    assert float((holes[images.labels == 1] == 0).double().mean()) > 0.95


def test_symmetric_images_have_no_asymmetry():
    assert asymmetry(EIGHT).tolist() == [0.0]
    half = drawing("""
        ##..
        ##..
    """)
    assert asymmetry(half).tolist() == [2.0]


def test_bad_images_are_refused():
    with pytest.raises(ValueError, match=r"expected images of shape \(N, 1, H, W\) or \(N, H, W\), got \(2, 3, 4, 4\)"):
        count_pieces(torch.zeros(2, 3, 4, 4))
    with pytest.raises(ValueError, match="row"):
        count_runs(torch.zeros(2, 4, 4), 4)
    with pytest.raises(ValueError, match="smallest"):
        count_holes(torch.zeros(2, 4, 4), smallest=0)
    with pytest.raises(ValueError, match="expected finite images"):
        count_pieces(torch.full((2, 4, 4), torch.nan))
