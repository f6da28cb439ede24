"""What the numbers of `tracking.py` depend on."""

from dataclasses import dataclass

NOISES = (0.1, 0.2, 0.3)
TRAINED = (0.05, 0.35)  # noise in training: uniform
MEAN_TRACKS = 3.0  # in training of the set, Poisson
CORE = 0.6827  # of a normal, within one standard deviation
FRESH = 1_000_000  # seeds of events that are judged; those of training and tuning are below


@dataclass(frozen=True)
class Settings:
    members: int = 3
    single_steps: int = 1000
    single_components: int = 800
    set_steps: int = 900
    set_components: int = 300
    independent_steps: int = 8000
    line_steps: int = 4000
    batch_size: int = 128
    events: int = 10_000
    counted: int = 2000
    said: int = 4000
    unlike: int = 2000
    lines: int = 100_000
    clock_size: int = 112
    clock_events: int = 6
    seed: int = 0
    weights: str = ""


QUICK = Settings(
    members=2, single_steps=60, single_components=100, set_steps=60, set_components=60, independent_steps=60,
    line_steps=300, batch_size=32, events=200, counted=60, said=100, unlike=60, lines=2000, clock_size=28,
    clock_events=1,
)  # fmt: skip


def percent(noise: float) -> str:
    """Of a noise of 0.1, ``"noise10"``."""
    return f"noise{100 * noise:g}"


def fresh(settings: Settings, purpose: int) -> int:
    """A seed of events that nothing was trained or tuned on, another for every purpose."""
    return FRESH + 100_000 * settings.seed + purpose
