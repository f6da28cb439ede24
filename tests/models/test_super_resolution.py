"""Super-resolution: its start is bicubic, its mixture of a pixel is a density, and a stored network is the same."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from posterity.data import Picture
from posterity.models.super_resolution import (
    ROUNDING,
    SIZES,
    enlarge,
    load_super_resolution,
    save_super_resolution,
    super_resolution,
    texture_classifier,
)
from tests.data.test_picture_file import ramp


def bare(components=0):
    """A network whose last layers are zero."""
    net = super_resolution("small", components=components)
    with torch.no_grad():
        for layer in (net.last, *([net.errors[-1]] if components else [])):
            layer.weight.zero_()
            layer.bias.zero_()
    return net


def test_without_its_last_layer_it_is_bicubic():
    low = torch.rand(2, 1, 7, 9)
    expected = interpolate(low, scale_factor=4, mode="bicubic", align_corners=False)
    assert torch.equal(bare()(low), expected)


def test_nothing_depends_on_pixels_beyond_the_reach():
    """The gradient of the middle pixel with respect to the input: zero beyond the reach, not zero at it."""
    torch.manual_seed(0)
    for size in ("small", "medium"):
        net = super_resolution(size)
        side = 2 * net.reach + 9
        low = torch.rand(1, 1, side, side, requires_grad=True)
        middle = side // 2
        net(low)[0, 0, 4 * middle : 4 * middle + 4, 4 * middle : 4 * middle + 4].sum().backward()
        rows = low.grad[0, 0].abs().sum(1).nonzero()[:, 0]
        assert int(rows.min()) >= middle - net.reach
        assert int(rows.max()) <= middle + net.reach
        assert int(rows.max()) >= middle + 2 * SIZES[size][1]


def test_the_mean_of_the_mixture_is_the_enlarged_picture():
    torch.manual_seed(0)
    net, low = super_resolution("small", components=3), torch.rand(1, 1, 6, 5)
    with torch.no_grad():
        mixture = net.distribution(low)
        assert torch.allclose(mixture.mean, net(low), atol=1e-6)
        assert mixture.batch_shape == (1, 1, 24, 20)
        one = net.distribution(low[..., :1, :1])
        grid = torch.linspace(-2, 2, 40_001)[:, None, None, None, None]
        mass = torch.trapezoid(one.log_prob(one.mean + grid).double().exp(), dx=4 / 40_000, dim=0)
        assert torch.allclose(mass, torch.ones(1, 1, 4, 4).double(), atol=1e-3)


def test_a_temperature_scales_all_standard_deviations():
    net, low = bare(components=3), torch.rand(1, 1, 6, 5)
    one = net.distribution(low).component_distribution.scale.detach()
    net.temperature.fill_(2.0)
    two = net.distribution(low).component_distribution.scale.detach()
    assert torch.allclose(two, 2 * one)
    assert float(one.min()) >= ROUNDING


def test_a_network_without_components_has_no_distribution():
    with pytest.raises(ValueError, match="expected a network with components"):
        super_resolution("small").distribution(torch.zeros(1, 1, 4, 4))


def test_inputs_of_another_shape_are_refused():
    for shape in ((1, 3, 4, 4), (4, 4), (1, 1, 0, 4)):
        with pytest.raises(ValueError, match=r"expected low of shape \(N, 1, h, w\), none of them 0, got"):
            super_resolution("small")(torch.zeros(shape))
    with pytest.raises(ValueError, match="expected size to be one of 'small', 'medium', 'large', got 'huge'"):
        super_resolution("huge")
    with pytest.raises(ValueError, match="scale"):
        super_resolution("small", scale=1)
    with pytest.raises(ValueError, match="expected picture to be a Picture, got"):
        enlarge(super_resolution("small"), torch.zeros(4, 4))


@pytest.mark.parametrize(
    ("channels", "dtype"), [((), np.uint8), ((), np.uint16), ((2,), np.uint8), ((3,), np.uint8), ((4,), np.uint8)]
)
@pytest.mark.parametrize("size", [(1, 1), (6, 9)])
def test_every_kind_of_picture_is_enlarged(channels, dtype, size):
    picture = Picture.from_array(ramp(*size, *channels, dtype=dtype))
    large = enlarge(super_resolution("small"), picture, tile=4)
    assert large.size == (4 * size[0], 4 * size[1])
    assert (large.mode, large.bits) == (picture.mode, picture.bits)
    assert large.to_array().dtype == dtype


def test_enlarging_turns_with_the_picture_if_all_orientations_are_averaged():
    torch.manual_seed(0)
    net, array = super_resolution("small"), ramp(6, 9)
    one = enlarge(net, Picture.from_array(array), orientations=True).luminance
    other = enlarge(net, Picture.from_array(array.T.copy()), orientations=True).luminance
    assert torch.allclose(one, other.T, atol=1e-5)
    plain = enlarge(net, Picture.from_array(array)).luminance
    assert not torch.allclose(plain, enlarge(net, Picture.from_array(array.T.copy())).luminance.T, atol=1e-5)


def test_a_stored_network_gives_the_same_picture(tmp_path):
    """Half precision: within a twentieth of an 8-bit level."""
    torch.manual_seed(0)
    net, low = super_resolution("medium", components=3), torch.rand(1, 1, 8, 8)
    again = load_super_resolution(save_super_resolution(net, tmp_path / "net.pt"))
    assert (tmp_path / "net.pt").stat().st_size < 700_000
    with torch.no_grad():
        assert float((again(low) - net(low)).abs().max()) < 0.05 / 255 * 4
    (tmp_path / "other.pt").write_bytes(b"no network")
    with pytest.raises(ValueError, match="expected a super-resolution network in"):
        load_super_resolution(tmp_path / "other.pt")


def test_features_of_textures_have_a_quarter_of_the_size():
    net = texture_classifier(5, width=4)
    assert net.features(torch.zeros(2, 1, 32, 24)).shape == (2, 8, 8, 6)
    assert net(torch.zeros(2, 1, 32, 24)).shape == (2, 5)
    with pytest.raises(ValueError, match="classes"):
        texture_classifier(1)


def test_hidden_colours_do_not_show_in_an_enlarged_picture():
    """A white disc on transparent black, enlarged, on white paper."""
    y, x = np.mgrid[:24, :24]
    disc = ((x - 11.5) ** 2 + (y - 11.5) ** 2 < 80).astype(np.uint8) * 255
    large = enlarge(bare(), Picture.from_array(np.stack([disc] * 4, -1))).to_array().astype(float)
    opacity = large[..., 3:] / 255
    assert float((large[..., :3] * opacity + 255 * (1 - opacity)).min()) > 252
