"""A contact sheet of generated images."""

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from posterity.inference.plots import plot_samples


def test_bad_input_of_samples_is_refused_before_a_figure_is_there():
    with pytest.raises(ValueError, match="expected finite images"):
        plot_samples(torch.full((1, 1, 2, 2), torch.nan))
    assert not plt.get_fignums()


def test_images_are_drawn_as_the_contact_sheet_of_their_pixels():
    images = torch.rand(3, 3, 4, 5) * 2 - 1
    for pixels in (images, images[:, :1]):
        ax = plot_samples(pixels)
        sheet = np.asarray(ax.images[0].get_array()).reshape(4, 17, -1)  # three images of 5 pixels, two borders
        np.testing.assert_allclose(sheet[:, 6:11] / 127.5 - 1, pixels[1].permute(1, 2, 0), atol=0.5 / 127.5 + 1e-6)
        assert (sheet[:, 5] == 255).all()
