"""Data and networks that do not fit are refused before the first step."""

import math

import pytest
import torch
from torch import nn

from posterity.inference.adversarial import train, train_many
from posterity.inference.adversarial.checks import check_logit_shape
from posterity.models.generators import dense_generator
from tests.adversarial_cases import NORMAL, RING, Line, Shift, linear_settings, networks, quick


def test_data_that_are_no_training_samples_are_refused():
    generator, discriminator = networks()

    def start(data, **changes):
        train(generator, discriminator, data, latent=3, settings=quick(), **changes)

    for data in (RING[:10], RING[:, 0]):
        with pytest.raises(ValueError, match=r"expected data of shape \(N, ...\), N at least the batch_size of 20"):
            start(data)
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="expected finite data, got values that are NaN or infinite"):
            start(torch.full((50, 2), value))
    with pytest.raises(ValueError, match="expected data to be a floating tensor, got an array"):
        start(RING.numpy())
    with pytest.raises(ValueError, match=r"expected data to be a floating tensor, got torch\.uint8: scale images"):
        start(torch.zeros(50, 2, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"expected condition of shape \(500, C\), got \(3, 1\)"):
        start(RING, condition=torch.zeros(3, 1))
    squashed = dense_generator(3, (2,), hidden=(8,))
    with pytest.raises(ValueError, match="expected data from -1 to 1, the range of the generator's tanh, got"):
        train(squashed, discriminator, 2 * RING, latent=3, settings=quick())


def test_networks_that_do_not_fit_the_data_are_refused():
    generator, discriminator = networks()
    with pytest.raises(ValueError, match=r"expected a generator of samples of shape \(N, 3\), got \(20, 2\)"):
        train(generator, discriminator, torch.zeros(50, 3), latent=3, settings=quick())
    with pytest.raises(
        ValueError, match=r"expected a discriminator with one logit for each sample, got shape \(20, 4\)"
    ):
        train(generator, nn.Linear(2, 4), RING, latent=3, settings=quick())
    run = train(generator, discriminator, RING, latent=3, settings=quick(steps=1))
    with pytest.raises(ValueError, match="expected n to be a whole number of 1 or more, got 0"):
        run.samples(0, seed=0)


def test_arguments_that_do_not_fit_are_refused_before_a_step():
    def start(generator=None, data=NORMAL, **changes):
        return train(generator or Shift(), Line(), data, **({"latent": 2, "settings": linear_settings()} | changes))

    def dense():
        return dense_generator(2, (2,), hidden=(4,), squash=False)

    with pytest.raises(ValueError, match=r"expected a generator that can be called with .50, 3. of torch.float32"):
        start(dense(), latent=3)
    with pytest.raises(ValueError, match=r"expected a generator that can be called with .* of torch.float64"):
        start(dense(), NORMAL.double())
    with pytest.raises(ValueError, match=r"expected generator to be a torch\.nn\.Module, got 'x'"):
        start("x")
    for seed in ("a", 1.5, True):
        with pytest.raises(ValueError, match="expected seed to be a whole number of 0 or more"):
            start(seed=seed)
    with pytest.raises(ValueError, match="expected a generator that can be called with"):
        start(condition=torch.zeros(400, 1))
    with pytest.raises(ValueError, match="expected finite condition, got values that are NaN or infinite"):
        start(condition=torch.full((400, 1), float("nan")))
    with pytest.raises(ValueError, match=r"expected stop_on with names of alarms .*, got .'colapse'."):
        start(settings=linear_settings(stop_on=("colapse",)))
    with pytest.raises(ValueError, match="expected a generator with weights to train"):
        start(Shift().requires_grad_(False))


def test_networks_that_cannot_be_trained_side_by_side_are_refused():
    kinds = [nn.Sequential(nn.Linear(2, 2), last) for last in (nn.ReLU(), nn.Tanh())]
    with pytest.raises(ValueError, match="expected nets of one architecture"):
        train_many(kinds, [Line(), Line()], NORMAL, latent=2, seeds=[0, 1], settings=linear_settings())
    with pytest.raises(ValueError, match="expected as many generators and discriminators as seeds, got 1, 1 and 2"):
        train_many([Shift()], [Line()], NORMAL, latent=2, seeds=(1, 2))
    with pytest.raises(ValueError, match=r"expected every one of generators to be a torch\.nn\.Module, got 3"):
        train_many([3], [Line()], NORMAL, latent=2, seeds=(1,))


def test_logits_of_packs_are_fewer_than_samples_unless_a_count_is_asked_for():
    for shape in ((), (4,), (4, 1), (4, 1, 7, 7), (4, 2, 49)):
        check_logit_shape(torch.zeros(shape))
    check_logit_shape(torch.zeros(4, 1), 4)
    for shape, count in (((4, 2), None), ((4, 1, 1), 4), ((2,), 4), ((), 4)):
        with pytest.raises(ValueError, match="expected a discriminator with one logit for each sample, got shape"):
            check_logit_shape(torch.zeros(shape), count)
