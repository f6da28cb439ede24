"""Elements of named sites, with the labels of their places."""

import numpy as np

from posterity.inference.convergence.elements import ELEMENTS, site_columns


def test_every_column_is_the_element_that_its_label_names():
    rng = np.random.default_rng(0)
    draws = {"mu": rng.normal(size=(2, 5, 3, 2)), "tau": rng.normal(size=(2, 5)), "w": rng.normal(size=(2, 5, 4))}
    columns, labels = site_columns(draws, ["tau", "mu"])
    assert labels == ["tau", "mu[0, 0]", "mu[0, 1]", "mu[1, 0]", "mu[1, 1]", "mu[2, 0]", "mu[2, 1]"]
    np.testing.assert_array_equal(columns[..., 0], draws["tau"])
    np.testing.assert_array_equal(columns[..., labels.index("mu[2, 0]")], draws["mu"][..., 2, 0])


def test_of_a_large_site_evenly_spaced_elements_with_both_ends_are_judged():
    values = np.broadcast_to(np.arange(1000.0), (2, 5, 1000))
    columns, labels = site_columns({"w": values}, ["w"])
    places = columns[0, 0]
    assert len(places) == len(set(places)) == ELEMENTS
    assert (places[0], places[-1]) == (0, 999)
    assert np.ptp(np.diff(places)) <= 1
    assert labels == [f"w[{int(place)}]" for place in places]


def test_no_site_gives_no_column():
    columns, labels = site_columns({"w": np.zeros((2, 5, 3))}, [])
    assert columns.shape == (2, 5, 0)
    assert labels == []
