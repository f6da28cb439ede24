"""Terms of the generator's loss: their values on known networks, alone and side by side, and bad settings."""

import pytest
import torch
from torch import Tensor, nn

from posterity.inference.adversarial.batches import Batch
from posterity.inference.adversarial.terms import (
    Term,
    check_terms,
    cycle,
    energy_loss,
    feature_distance,
    identity,
    paired,
)


def batch(inputs, real=None):
    return Batch(inputs, inputs if real is None else real)


def value(term, net, inputs, real=None):
    return float(term.function(net, batch(inputs, real), net(inputs)).mean())


class Half(nn.Module):
    def forward(self, x):
        return x / 2


class Exchange(nn.Module):
    """A translator by +1 to the second domain and -1 to the first."""

    def forward(self, pairs):
        return torch.stack([pairs[..., 1, :, :, :] - 1, pairs[..., 0, :, :, :] + 1], -4)


def test_paired_distances():
    inputs, real = torch.full((3, 2), 4.0), torch.full((3, 2), 5.0)
    assert value(paired(), Half(), inputs, real) == 3.0
    assert value(paired(distance="squared"), Half(), inputs, real) == 9.0


def test_features_are_compared_without_gradient_to_the_real_ones():
    real = torch.full((2, 1, 4, 4), 5.0, requires_grad=True)
    term = feature_distance(lambda images: images.mean((2, 3)), 0.1)
    net = nn.Conv2d(1, 1, 1)
    inputs = torch.ones(2, 1, 4, 4)
    differences = term.function(net, batch(inputs, real), net(inputs))
    assert differences.shape == (2, 1, 1) or differences.numel() == 2
    differences.mean().backward()
    assert real.grad is None
    assert net.weight.grad is not None
    two = term.function(
        Half(), batch(inputs.expand(3, 2, 1, 4, 4), real.expand(3, 2, 1, 4, 4)), inputs.expand(3, -1, -1, -1, -1) / 2
    )
    assert two.shape[0] == 3
    assert float(two.mean()) == 4.5**2


def test_a_translation_there_and_back_has_no_cycle_loss():
    pairs = torch.rand(4, 2, 1, 3, 3)
    assert value(cycle(), Exchange(), pairs) == pytest.approx(0, abs=1e-6)
    assert value(identity(), Exchange(), pairs) == pytest.approx(1, abs=1e-6)  # a shift by 1 of what needs none
    stacked = pairs.expand(5, -1, -1, -1, -1, -1)
    assert value(identity(), Exchange(), stacked) == pytest.approx(1, abs=1e-6)


def test_an_identity_has_the_cycle_loss_of_its_domains():
    class Same(nn.Module):
        def forward(self, pairs):
            return pairs.flip(-4)

    pairs = torch.stack([torch.zeros(4, 1, 3, 3), torch.ones(4, 1, 3, 3)], 1)
    assert value(cycle(), Same(), pairs) == 0
    assert value(identity(), Same(), pairs) == 0


def test_bad_terms_are_refused():
    for make, complaint in (
        (lambda: paired(0.0), "weight"),
        (lambda: paired(distance="cosine"), "expected distance to be one of 'absolute', 'squared', got 'cosine'"),
        (lambda: Term("two words", 1.0, len), "expected name to be an identifier"),
        (lambda: Term("one", 1.0, None), "function"),
        (
            lambda: Term("discriminator_loss", 1.0, len),
            "expected name to differ from the names of the curves of every run",
        ),
        (lambda: Term("read_at", 1.0, len), "expected name to differ from the names of the curves of every run"),
        (lambda: feature_distance(3), "features"),
        (lambda: check_terms([paired()]), "expected terms to be a tuple of Term"),
        (lambda: check_terms((paired(), paired(2.0))), "expected terms with different names"),
    ):
        with pytest.raises(ValueError, match=complaint):
            make()


def test_terms_are_named_in_recipes_by_weight():
    assert repr(cycle(3.0)) == repr(cycle(3.0)) != repr(cycle(4.0))
    assert cycle(3.0) == cycle(3.0)


def test_images_that_are_no_pairs_have_no_cycle():
    """The batch dimension of (B, C, H, W) is where pairs have their two places."""
    images = torch.rand(4, 1, 3, 3)
    for term in (cycle(), identity()):
        with pytest.raises(
            ValueError, match=rf"expected pairs .* for the term '{term.name}', got inputs \(4, 1, 3, 3\)"
        ):
            term.function(Half(), batch(images), images)


def test_distances_of_features_have_names_of_their_own():
    names = {feature_distance(len, distance=one).name for one in ("absolute", "squared")}
    assert names == {"features_absolute", "features_squared"}


class Spread(torch.nn.Module):
    """Samples of a normal distribution of width ``scale`` around the first channel of the inputs."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(scale))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs[:, :1] + self.scale * inputs[:, 2:3]


def other_noise(inputs: Tensor) -> Tensor:
    return torch.cat([inputs[:, :2], inputs[:, 2:].roll(1, 0)], 1)


def test_the_energy_loss_is_smallest_for_the_true_width() -> None:
    """Real samples are 0.5 wide around the inputs: the derivative is 0 there, and of the other sign on both sides."""
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(4000, 3, 4, 4, generator=random)
    real = inputs[:, :1] + 0.5 * torch.randn(4000, 1, 4, 4, generator=random)
    term, slopes = energy_loss(other_noise, window=3), {}
    for scale in (0.4, 0.5, 0.6):
        net = Spread(scale)
        batch = Batch(inputs, real)
        term.function(net, batch, net(inputs)).mean().backward()
        assert net.scale.grad is not None
        slopes[scale] = float(net.scale.grad)
    assert slopes[0.4] < -0.02 < slopes[0.5] < 0.02 < slopes[0.6]


def test_the_energy_loss_of_one_pixel_is_the_crps() -> None:
    """|X - y| - |X - X'| / 2 for the pairs of a batch, by hand."""
    inputs = torch.zeros(3, 3, 1, 1)
    inputs[:, 2, 0, 0] = torch.tensor([1.0, 2.0, 4.0])
    net, real = Spread(1.0), torch.full((3, 1, 1, 1), 3.0)
    found = energy_loss(other_noise).function(net, Batch(inputs, real), net(inputs)).detach()
    x, other = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([4.0, 1.0, 2.0])
    wanted = ((x - 3).abs() + (other - 3).abs() - (x - other).abs()) / 2
    torch.testing.assert_close(found.flatten(), wanted, atol=1e-3, rtol=0)


def test_bad_settings_of_the_energy_loss_are_named() -> None:
    with pytest.raises(ValueError, match="redraw"):
        energy_loss(3)  # type: ignore[arg-type]
    one, net = torch.zeros(3, 1, 3, 4, 4), nn.Identity()  # three runs side by side with batches of one
    with pytest.raises(ValueError, match="at least two inputs for the term 'energy_loss'"):
        energy_loss(other_noise).function(net, Batch(one, one), one)
    with pytest.raises(ValueError, match="window to be odd, got 4"):
        energy_loss(other_noise, window=4)
    with pytest.raises(ValueError, match="weight"):
        energy_loss(other_noise, 0.0)
