"""Generators, alone and with discriminators of their size: published numbers of weights, variances, conditions."""

import pyro
import pytest
import torch
from torch import nn

from posterity.models.discriminators import (
    dcgan_discriminator,
    dense_discriminator,
    packed,
    strong_discriminator,
)
from posterity.models.generators import (
    coded,
    conditional_generator,
    dcgan_generator,
    dense_generator,
    generator_model,
    halvings,
)
from posterity.models.stacked import Stacked


def weights(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("size", [(1, 28, 28), (3, 32, 32), (1, 16, 12), (1, 64, 64)])
@pytest.mark.parametrize("norm", ["batch", "spectral", "none"])
def test_convolutional_networks_of_a_size_fit_each_other(size, norm):
    generator = dcgan_generator(7, size, width=4, batch_norm=norm == "batch")
    made = generator(torch.randn(5, 7))
    assert made.shape == (5, *size)
    assert bool((made.abs() <= 1).all())
    assert dcgan_discriminator(size, width=4, norm=norm)(made).shape == (5,)
    # All numbers of z and all weights affect the output.
    z = torch.randn(5, 7, requires_grad=True)
    generator(z).square().sum().backward()
    assert bool((z.grad.abs().sum(0) > 0).all())


def test_the_dense_networks_have_the_published_number_of_weights():
    """100-256-512-1024-784 and 784-392-1, weights and biases."""
    pairs = [(100, 256), (256, 512), (512, 1024), (1024, 784)]
    assert weights(dense_generator(100, (1, 28, 28))) == sum(a * b + b for a, b in pairs)
    assert weights(dense_discriminator((1, 28, 28))) == 784 * 392 + 392 + 392 + 1
    strong = weights(strong_discriminator((1, 28, 28)))
    assert strong == (9 * 64 + 64) + (9 * 64 * 128 + 128) + (128 * 784 * 784 + 784) + (784 + 1)


def test_convolutional_weights_start_small_and_the_first_and_last_layers_are_not_normalised():
    generator, discriminator = dcgan_generator(100, (1, 28, 28)), dcgan_discriminator((1, 28, 28))
    kernel = next(m for m in generator if isinstance(m, nn.ConvTranspose2d)).weight
    error = 0.02 / (2 * kernel.numel()) ** 0.5
    assert float(kernel.std().detach()) == pytest.approx(0.02, abs=5 * error)
    assert not isinstance(discriminator.net[1], nn.BatchNorm2d)
    assert isinstance(generator[-1], nn.Tanh)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in generator.modules()) == 2
    assert not any(isinstance(m, nn.BatchNorm2d) for m in dcgan_generator(8, (1, 28, 28), batch_norm=False).modules())


def test_dense_layers_before_and_after_the_convolutions_have_the_published_number_of_weights():
    """InfoGAN's for digits (Chen et al. 2016, appendix C.1), all but its last width: 1,024 to both sides."""
    generator = dcgan_generator(74, (1, 28, 28), hidden=(1024,))
    dense, small, middle, last = 74 * 1024, 1024 * 128 * 49, 128 * 64 * 16, 64 * 16 + 1
    assert weights(generator) == dense + small + middle + last + 2 * (1024 + 128 + 64)
    assert isinstance(generator[1], nn.BatchNorm1d)
    judge = dcgan_discriminator((1, 28, 28), hidden=(1024,), norm="none")
    assert weights(judge) == (16 * 64 + 64) + (64 * 128 * 16 + 128) + (128 * 49 * 1024 + 1024) + 1024 + 1
    assert judge(generator(torch.randn(5, 74))).shape == (5,)


def test_a_normalised_generator_can_start_as_he():
    """The first layer's variance is 2 over its 100 inputs, within five standard errors."""
    torch.manual_seed(0)
    weight = dcgan_generator(100, (1, 28, 28), hidden=(64,), start="he")[0].weight.detach()
    assert float(weight.var()) == pytest.approx(2 / 100, rel=5 * (2 / weight.numel()) ** 0.5)


@torch.no_grad()
def test_a_dense_generator_starts_with_variety():
    """He et al. 2015, eq. 15: the mean square before each leaky ReLU, and at the end, is 2 / (1 + slope²).

    Within 10 %: over seeds 0 to 3 it was 0.97 to 1.00 of it. The start of torch has a thousandth of it.
    """
    torch.manual_seed(0)
    z = torch.randn(2000, 100)
    assert float((dense_generator(100, (256,), squash=False)(z) ** 2).mean()) == pytest.approx(2 / 1.04, rel=0.1)
    assert float((dense_generator(100, (256,), squash=False, start="torch")(z) ** 2).mean()) < 0.01
    with pytest.raises(ValueError, match=r"expected start to be one of 'he', 'torch', got 'hot'"):
        dense_generator(2, (2,), start="hot")


@torch.no_grad()
def test_without_batch_normalisation_convolutions_keep_the_variance():
    """Mean squares before each ReLU are 2 times that of z (slope 0), inside the border, within a factor of 1.5.

    Every pixel of a transposed convolution of stride 2 meets a quarter of the 4 x 4 kernel: by the whole kernel the
    second layer would have a quarter of it, the third a sixteenth.
    """
    torch.manual_seed(0)
    net, x = dcgan_generator(100, (1, 32, 32), width=32, batch_norm=False), torch.randn(500, 100)
    for layer in net:
        x = layer(x)
        if isinstance(layer, nn.Linear | nn.ConvTranspose2d):
            inner = x if x.ndim == 2 else x[..., 1:-1, 1:-1]
            assert 2 / 1.5 < float((inner**2).mean()) < 2 * 1.5
    judge, y = dcgan_discriminator((1, 32, 32), width=32, norm="none").net, torch.randn(500, 1, 32, 32)
    for layer in judge:
        y = layer(y)
        if isinstance(layer, nn.Conv2d):
            inner = y[..., 1:-1, 1:-1]
            assert 2 / 1.04 / 1.5 < float((inner**2).mean()) < 2 / 1.04 * 1.5


def test_a_generator_is_told_what_to_make():
    net = conditional_generator(dense_generator, 4, 3, (5,), hidden=(8,))
    z, classes = torch.randn(1, 4).expand(3, 4), torch.eye(3)
    made = net(z, classes)
    assert made.shape == (3, 5)
    assert not torch.allclose(made[0], made[1])
    with pytest.raises(ValueError, match=r"expected condition of shape \(3, D\), got \(2, 3\)"):
        net(z, classes[:2])


def test_a_generator_is_a_pyro_model():
    """Its draws are those of the module at the z that were drawn; z is standard normal, within 5 standard errors."""
    net = dense_generator(2, (3,), hidden=(8,))
    model = generator_model(net, 2)
    pyro.set_rng_seed(0)
    found = pyro.infer.Predictive(model, num_samples=50, return_sites=["z", "x"])(40)
    assert found["x"].shape == (50, 40, 3)
    torch.testing.assert_close(found["x"][3], net(found["z"][3]))
    z = found["z"].flatten()
    assert abs(float(z.mean())) < 5 / len(z) ** 0.5
    assert float(z.std()) == pytest.approx(1, abs=5 / (2 * len(z)) ** 0.5)
    trace = pyro.poutine.trace(generator_model(dense_generator(2, (1, 4, 4)), 2)).get_trace(6)
    trace.compute_log_prob()
    assert trace.nodes["z"]["log_prob"].shape == (6,)


def test_how_often_a_size_is_halved():
    assert [halvings(s, s) for s in (6, 8, 16, 28, 32, 64)] == [1, 1, 2, 2, 3, 4]
    for size in ((4, 4), (7, 7), (28, 27)):
        with pytest.raises(ValueError, match="expected images whose sides are even and above 4, got"):
            halvings(*size)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dense_generator(0, (2,)), "expected latent to be a whole number of 1 or more, got 0"),
        (lambda: dense_generator(2, (0,)), "expected every number of shape to be a whole number of 1 or more, got 0"),
        (
            lambda: dense_generator(2, (2,), hidden=(8, -1)),
            "expected every number of hidden to be a whole number of 1 or more",
        ),
        (lambda: dcgan_generator(2, (1, 8, 8), start="hot"), r"expected start to be one of 'small', 'he', got 'hot'"),
        (
            lambda: dcgan_generator(2, (1, 8, 8), hidden=(0,)),
            "expected every number of hidden to be a whole number of 1 or more",
        ),
        (lambda: dcgan_discriminator((1, 8, 8), norm="layer"), r"expected norm to be one of 'batch', .*, got 'layer'"),
        (lambda: dense_discriminator((2,))(torch.zeros(5, 3)), r"expected samples of shape \(N, 2\), got \(5, 3\)"),
        (lambda: dcgan_discriminator((1, 8, 8))(torch.zeros(5, 8, 8)), r"\(N, 1, 8, 8\), got \(5, 8, 8\)"),
        (lambda: packed(dense_discriminator, 0, (2,)), "expected together to be a whole number of 1 or more, got 0"),
        (lambda: generator_model(nn.Identity(), 0), "expected latent to be a whole number of 1 or more, got 0"),
    ],
)
def test_what_cannot_be_built_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_coded_generator_jumps_at_zero_and_nowhere_else():
    """Only the signs of the first two numbers count: with the others constant there are four outputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        points = coded(dense_generator(3, (2,), hidden=(8,), squash=False), bits=2)
        z = torch.randn(500, 3)
    z[:, 2] = 0.7
    assert len((1e4 * points(z)).round().unique(dim=0)) == 4
    both = torch.tensor([[-1e-6, 1.0, 0.2], [1e-6, 1.0, 0.2]])
    assert float((points(both)[0] - points(both)[1]).norm().detach()) > 0.05
    side = Stacked([points, points])(torch.stack([z, z]))
    torch.testing.assert_close(side[1], points(z))
    with pytest.raises(ValueError, match="expected bits to be a whole number of 1 or more, got 0"):
        coded(points, 0)
