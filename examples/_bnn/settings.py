"""Settings that the numbers of ``bnn_regression.py`` depend on."""

from dataclasses import dataclass

NOISES = (0.1, 0.3, 0.9)  # standard deviations, at `POINTS_OF_NOISES` points
POINTS_OF_NOISES = 50
POINTS = (10, 50, 200, 1000)  # at a noise of `NOISE_OF_POINTS`
NOISE_OF_POINTS = 0.3
METHODS = ("hmc", "svi", "ensemble", "mdn")


@dataclass(frozen=True)
class Settings:
    """Sizes of networks, lengths of fits, and numbers of test points."""

    hidden: int = 50
    chains: int = 16
    warmup: int = 250
    draws: int = 300
    target_ess: float = 2500.0  # of the function, for many points: as many draws as that takes
    svi_steps: int = 4000
    members: int = 20
    steps: int = 2000
    fresh: int = 4000
    sinc_points: tuple[int, ...] = (100, 1000)
    sinc_repeats: int = 5
    noise_repeats: int = 5
    width: int = 512
    wide_draws: int = 400
    many_members: tuple[int, ...] = (1, 2, 5, 10, 20, 50)
    many_hidden: tuple[int, ...] = (50, 50)
    film_points: tuple[int, ...] = (
        1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 22, 27, 33, 40, 50, 60, 75, 90, 110, 135, 165, 200,
    )  # fmt: skip
    film_warmup: int = 150
    film_draws: int = 100
    seed: int = 0


QUICK = Settings(
    hidden=20,
    chains=8,
    warmup=60,
    draws=60,
    target_ess=200.0,
    svi_steps=400,
    members=5,
    steps=300,
    fresh=500,
    sinc_points=(100,),
    sinc_repeats=2,
    noise_repeats=2,
    width=32,
    wide_draws=60,
    many_members=(1, 2, 5),
    many_hidden=(10, 10),
    film_points=(2, 5, 12, 30),
    film_warmup=40,
    film_draws=30,
)
