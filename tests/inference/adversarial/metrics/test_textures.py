"""Power spectra and gradients: known images, scaling laws, and a blurred image that both metrics notice."""

import pytest
import torch

from posterity.inference.adversarial.metrics.textures import gradient_distance, power_spectrum, spectrum_distance

NOISE = torch.randn(128, 160, generator=torch.Generator().manual_seed(0))


def test_white_noise_has_equal_power_everywhere():
    """Each band has the variance of the noise, within five standard errors of its number of frequencies."""
    found = power_spectrum(NOISE, bands=16)[1:]
    assert float((found - 1).abs().max()) < 0.35
    assert float(found.mean()) == pytest.approx(1, abs=0.05)


def test_a_wave_has_its_power_at_its_frequency():
    wave = torch.sin(2 * torch.pi * 0.21 * torch.arange(200.0)).expand(200, 200)
    found = power_spectrum(wave, bands=20)
    assert int(found.argmax()) == 8  # 0.21 cycles per pixel, of bands of 0.025


def test_scaling_multiplies_the_power():
    assert spectrum_distance(3 * NOISE, NOISE) == pytest.approx(2 * torch.tensor(3.0).log10().item(), abs=1e-6)
    assert spectrum_distance(NOISE + 5, NOISE) == pytest.approx(0, abs=1e-5)


def test_distances_of_spectra_do_not_depend_on_the_unit():
    small = 1e-14
    expected = spectrum_distance(2 * NOISE, NOISE)
    assert spectrum_distance(2 * small * NOISE.double(), small * NOISE.double()) == pytest.approx(expected)
    flat = torch.zeros(128, 160)
    assert spectrum_distance(flat, flat) == 0
    assert spectrum_distance(flat, NOISE) > 10


def test_frequencies_are_in_their_rings():
    """A delta has equal power everywhere, so each ring has its mean, for sides with rounding errors of frequencies."""
    delta = torch.zeros(100, 100)
    delta[50, 50] = 1.0
    found = power_spectrum(delta, bands=25)
    assert float(found[2:].max() / found[2:].min()) == pytest.approx(1, abs=0.05)


def test_blurring_lowers_high_frequencies_only():
    image = NOISE.clone()
    for _ in range(3):
        image = (image + image.roll(1, 0) + image.roll(1, 1) + image.roll((1, 1), (0, 1))) / 4
    assert spectrum_distance(image, NOISE, lowest=0.25) > 1.5 * spectrum_distance(image, NOISE)
    assert gradient_distance(image, NOISE) > 0.5


def test_gradients_do_not_depend_on_place():
    shuffled = NOISE.flip(0).flip(1)
    assert gradient_distance(NOISE, NOISE) == 0
    assert gradient_distance(shuffled, NOISE) < 0.02
    assert gradient_distance(7 * NOISE, 7 * shuffled) == pytest.approx(7 * gradient_distance(NOISE, shuffled))
    assert gradient_distance(NOISE[:64], NOISE) < 0.1  # other sizes: quantiles are compared


def test_bad_images_are_refused():
    with pytest.raises(ValueError, match=r"expected image of shape \(H, W\)"):
        gradient_distance(torch.zeros(1, 4, 4), torch.zeros(4, 4))
    with pytest.raises(ValueError, match="sides of at least 64 pixels"):
        power_spectrum(torch.zeros(32, 80))
    with pytest.raises(ValueError, match="expected finite reference"):
        gradient_distance(torch.zeros(4, 4), torch.full((4, 4), torch.nan))
    for lowest in (0.5, 0.49, "a"):
        with pytest.raises(ValueError, match="lowest"):
            spectrum_distance(NOISE, NOISE, lowest=lowest)
