"""Files that monitors write: images of the same latent points, and TensorBoard event files."""

import io
import sys

import pytest
import torch
from PIL import Image
from torch import nn

from posterity.data.pictures import animate
from posterity.inference.adversarial import Adversarial, train, train_many
from posterity.inference.adversarial.monitors import ClusterQuality, SampleGrid, TensorBoard
from posterity.models.discriminators import dense_discriminator
from posterity.models.generators import dense_generator
from tests.adversarial_cases import CLUSTERS, linear_settings, perfect, read_monitors


def test_image_grids_of_the_same_latent_points_make_an_animation(tmp_path):
    images = torch.zeros(40, 1, 6, 5)
    settings = Adversarial(steps=3, batch_size=4, progress=False, monitor_every=1)
    generator = nn.Sequential(nn.Linear(2, 30), nn.Tanh(), nn.Unflatten(1, (1, 6, 5)))
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(30, 1))
    train(
        generator, discriminator, images, latent=2, settings=settings, monitors=(SampleGrid(tmp_path, n=6, columns=3),)
    )
    files = sorted(tmp_path.glob("*"))
    assert [file.name for file in files] == ["00000001.png", "00000002.png", "00000003.png"]
    with Image.open(files[0]) as picture:
        assert picture.size == (2 * (3 * 5 + 2), 2 * (2 * 6 + 1))
    animation = animate(tmp_path, tmp_path / "training.gif")
    with Image.open(io.BytesIO(animation.read_bytes())) as picture:
        assert picture.n_frames == 3


def test_event_files_need_their_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # as if it were not installed
    with pytest.raises(ValueError, match="expected the package tensorboard to be installed"):
        TensorBoard(tmp_path)


def test_event_files_hold_the_curves(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = read_monitors(perfect, ClusterQuality(CLUSTERS), TensorBoard(tmp_path))
    events = EventAccumulator(str(tmp_path)).Reload()
    assert "modes" in events.Tags()["scalars"]
    assert events.Scalars("modes")[-1].value == pytest.approx(history["modes"][-1])


def test_image_grids_of_runs_side_by_side_have_a_folder_each(tmp_path):
    generators = [dense_generator(2, (1, 5, 5), hidden=(4,)) for _ in range(3)]
    discriminators = [dense_discriminator((1, 5, 5), hidden=(4,)) for _ in range(3)]
    monitors = (SampleGrid(tmp_path, n=4),)
    images, seeds = torch.zeros(100, 1, 5, 5), [0, 1, 2]
    train_many(generators, discriminators, images, latent=2, seeds=seeds, settings=linear_settings(), monitors=monitors)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png")) == [
        f"run-{index}/{step:08d}.png" for index in range(3) for step in (2, 4)
    ]
