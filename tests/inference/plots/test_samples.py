"""A contact sheet of generated images."""

import pytest
import torch
from matplotlib import pyplot as plt

from posterity.inference.plots import plot_samples


def test_bad_input_of_samples_is_refused_before_a_figure_is_there():
    with pytest.raises(ValueError, match="expected finite images"):
        plot_samples(torch.full((1, 1, 2, 2), torch.nan))
    assert not plt.get_fignums()
