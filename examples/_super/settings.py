"""Settings that the numbers of ``super_resolution.py`` depend on, and the photographs it uses."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sklearn.datasets import load_sample_images

from posterity.data import PhotographCrops, Photographs, Picture, cbsd68, set5

SCALE = 4
BORDER = 4  # pixels on each side that published scores leave out
TRAINING = slice(0, 60)  # of CBSD68
MAGNIFICATIONS = (1.0, 1.5, 2.0)  # many pictures are not sharp to the last pixel, and errors are smaller there
HELD_OUT = slice(60, 68)  # for the temperature of the error map, and for choices


@dataclass(frozen=True)
class Settings:
    """Sizes of networks and crops, and steps of training.

    They were chosen on the held-out photographs and on pictures of scikit-image.
    """

    size: str = "large"
    components: int = 3
    batch: int = 16
    crop: int = 24
    pixel_steps: int = 5500
    error_steps: int = 800
    texture_crops: int = 8000
    texture_epochs: int = 5
    adversarial_steps: int = 2000
    adversarial_batch: int = 8
    small: bool = False  # the two photographs of scikit-learn in place of the sets, which may be absent
    seed: int = 0


QUICK = Settings(
    size="small", batch=8, crop=16, pixel_steps=300, error_steps=100, texture_crops=256, texture_epochs=1,
    adversarial_steps=80, adversarial_batch=4, small=True,
)  # fmt: skip


@cache
def training_photographs(settings: Settings) -> Photographs:
    return _small(0, 320) if settings.small else cbsd68().subset(TRAINING)


@cache
def held_out_photographs(settings: Settings) -> Photographs:
    return (_small(320, 448) if settings.small else cbsd68().subset(HELD_OUT)).magnified(MAGNIFICATIONS)


@cache
def test_pictures(settings: Settings) -> Photographs:
    return _small(448, 640) if settings.small else set5()


def _small(left: int, right: int) -> Photographs:
    """These columns of the photographs of scikit-learn, a temple and a flower, 427 x 640 pixels."""
    images = load_sample_images()
    pictures = tuple(Picture.from_array(image[:, left:right]) for image in images.images)
    return Photographs(pictures, tuple(Path(name).stem for name in images.filenames), "scikit-learn")


@cache
def crops(settings: Settings) -> PhotographCrops:
    return PhotographCrops(
        training_photographs(settings), size=settings.crop, scale=SCALE, magnifications=MAGNIFICATIONS
    )
