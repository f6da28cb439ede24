"""Settings that the numbers of ``tracking.py`` depend on."""

from dataclasses import dataclass

NOISES = (0.1, 0.2, 0.3)
TRAINING_NOISE = (0.05, 0.35)  # lowest and highest, uniform between
MEAN_TRACKS = 3.0  # of the Poisson number of tracks in training the set
CORE = 0.6827  # probability of a normal distribution within one standard deviation
FIRST_TEST_SEED = 1_000_000  # seeds of training and tuning are smaller


@dataclass(frozen=True)
class Settings:
    """Sizes of networks, steps of training, and numbers of test events; ``weights`` is a folder of trained networks."""

    members: int = 3
    single_steps: int = 1000
    single_components: int = 800
    set_steps: int = 900
    set_components: int = 300
    independent_steps: int = 8000
    hits_steps: int = 4000
    batch_size: int = 128
    single_events: int = 10_000
    count_events: int = 2000
    existence_events: int = 4000
    shifted_events: int = 2000
    hit_events: int = 100_000
    timing_size: int = 112
    timing_events: int = 6
    seed: int = 0
    weights: str = ""


QUICK = Settings(
    members=2, single_steps=60, single_components=100, set_steps=60, set_components=60, independent_steps=60,
    hits_steps=300, batch_size=32, single_events=200, count_events=60, existence_events=100, shifted_events=60,
    hit_events=2000, timing_size=28, timing_events=1,
)  # fmt: skip


def noise_name(noise: float) -> str:
    """``"noise10"`` for a noise of 0.1."""
    return f"noise{100 * noise:g}"


def test_seed(settings: Settings, purpose: int) -> int:
    """The seed of test events for this purpose; nothing was trained or tuned on them."""
    return FIRST_TEST_SEED + 100_000 * settings.seed + purpose
