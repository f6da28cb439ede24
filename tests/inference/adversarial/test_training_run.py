"""`TrainingRun`: batch normalisation of the average, the best generator, and checkpoints."""

import copy
import math

import pytest
import torch
from torch import nn

from posterity.inference.adversarial import TrainingRun, train
from posterity.inference.adversarial.regularisers import r1
from posterity.models.discriminators import dense_discriminator
from tests.adversarial_cases import NORMAL, RING, Line, Reads, Shift, linear_settings, networks, quick, train_linear


def test_batch_normalisation_of_an_average_has_the_statistics_of_its_own_samples():
    """Of 20 batches of 50: means within 5 standard errors of those of many samples. The last generator's are far off.

    Training is the same whatever the number of readings.
    """
    generator = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    start = copy.deepcopy(generator)
    run = train_linear(generator, ema=0.9, learning_rate=(0.3, 0.1))
    before = run.ema_generator[0](torch.randn(100_000, 2)).detach()
    error = before.std(0) / math.sqrt(20 * 50)
    assert bool(((run.ema_generator[1].running_mean - before.mean(0)).abs() < 5 * error).all())
    assert bool((run.ema_generator[1].running_var / before.var(0) - 1).abs().max() < 5 * math.sqrt(2 / (20 * 50)))
    assert not bool(((run.generator[1].running_mean - before.mean(0)).abs() < 5 * error).all())
    assert run.ema_generator[1].momentum == 0.1
    assert not torch.allclose(run.generator[0].weight, run.ema_generator[0].weight)
    other = train_linear(start, ema=0.9, learning_rate=(0.3, 0.1), monitor_every=1)
    assert len(other.history["read_at"]) == 4
    for one, two in ((run.generator, other.generator), (run.ema_generator, other.ema_generator)):
        assert all(torch.equal(one.state_dict()[name], value) for name, value in two.state_dict().items())


def test_the_best_generator_can_be_trained_further():
    """It is in evaluation mode, a copy of an average without gradients: `train` trains it, and restores the mode."""
    generator = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    monitors = (Reads(kernel_distance=1.0),)
    run = train(generator, Line(), NORMAL, latent=2, settings=linear_settings(ema=0.9), seed=0, monitors=monitors)
    best = run.best_generator()
    before = int(best[1].num_batches_tracked)
    train(best, Line(), NORMAL, latent=2, settings=linear_settings(), seed=0)
    assert int(best[1].num_batches_tracked) == before + 4
    assert not best.training


def test_the_best_generator_is_that_of_the_smallest_reading(tmp_path):
    """The reading is smallest in step 20 of 30, the last step of a shorter run."""
    path, monitors = tmp_path / "run.pt", (Reads(kernel_distance=lambda step: (step - 20) ** 2),)
    short = train(*networks(), RING, latent=3, settings=quick(steps=20, ema=0.9), seed=0)
    long = train(*networks(), RING, latent=3, settings=quick(ema=0.9, checkpoint=path), seed=0, monitors=monitors)
    assert long.records[0].best_step == 20
    resumed = train(*networks(), RING, latent=3, settings=quick(ema=0.9), seed=0, resume=path)
    for run in (long, resumed):
        for best, expected in zip(run.best_generator().parameters(), short.ema_generator.parameters(), strict=True):
            assert torch.equal(best, expected)
    with pytest.raises(ValueError, match="expected a monitor that reads 'kernel_distance'"):
        short.best_generator()


def test_a_condition_is_refused_by_an_unconditional_run():
    with pytest.raises(ValueError, match=r"expected condition to be None for an unconditional run, got torch\.float32"):
        train_linear(steps=1).samples(5, seed=0, condition=torch.zeros(5, 1))


# Checkpoints


def test_a_checkpoint_of_other_settings_or_seeds_is_refused(tmp_path):
    path = tmp_path / "run.pt"
    first = train(Shift(), Line(), NORMAL, latent=2, settings=linear_settings(checkpoint=path), seed=3)
    longer = train(Shift(), Line(), NORMAL, latent=2, settings=linear_settings(steps=6), seed=3, resume=path)
    assert (first.step, longer.step) == (4, 6)  # more steps are allowed at a constant rate
    for seed, changes in ((4, {}), (3, {"batch_size": 10}), (3, {"regularisers": (r1(),)}), (3, {"noise": 1.0})):
        with pytest.raises(ValueError, match="expected a checkpoint of these settings and seeds"):
            train(Shift(), Line(), NORMAL, latent=2, settings=linear_settings(**changes), seed=seed, resume=path)


def test_the_recipe_of_a_run_names_its_settings_and_seeds():
    run = train_linear()
    assert isinstance(run, TrainingRun)
    assert "'loss': 'wasserstein'" in run.recipe
    assert "seeds [0]" in run.recipe
    assert run.recipe == train_linear().recipe


def test_files_that_are_no_checkpoint_are_refused(tmp_path):
    path = tmp_path / "run.pt"
    run = train(*networks(), RING, latent=3, settings=quick(steps=2, checkpoint=path))
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"no checkpoint"):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"expected a checkpoint in .*, got a file that cannot be read as one"):
            train(*networks(), RING, latent=3, settings=quick(), resume=path)
    torch.save({"step": 1}, path)
    with pytest.raises(ValueError, match="expected a checkpoint of format 3"):
        train(*networks(), RING, latent=3, settings=quick(), resume=path)
    path.write_bytes(whole)
    generator, _ = networks()
    with pytest.raises(ValueError, match="expected a checkpoint of these networks"):
        train(generator, dense_discriminator((2,), hidden=(8,)), RING, latent=3, settings=quick(), resume=path)
    with pytest.raises(ValueError, match="expected path to be in an existing folder, got '/no/such/folder/x'"):
        run.save("/no/such/folder/x")
