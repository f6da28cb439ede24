"""Settings that the numbers of ``world_model.py`` depend on."""

import hashlib
from dataclasses import dataclass

from posterity.data import Corridor

CORRIDORS = {
    "fork": Corridor(),
    "sure": Corridor(up=(1.0, 1.0, 1.0)),  # the control: nothing to decide
    "forks": Corridor(second=0.3),
    "blocks": Corridor(obstacle=True),
    "unseen": Corridor(junction=4, spread=6.0),  # of the same cues; nothing is trained on it
}
HORIZONS = (1, 4, 8, 12)
HISTORY = 3  # frames that are seen before the horizon begins
FIRST_TEST_SEED = 2**32  # seeds of training are smaller


@dataclass(frozen=True)
class Settings:
    """Sizes of networks, steps of training, and numbers of test episodes and dreams."""

    hidden: int = 64
    components: int = 5
    batch: int = 256
    position_steps: int = 6000
    latent: int = 4
    player_latent: int = 6
    width: int = 32
    picture_steps: int = 2000
    encoded_episodes: int = 30_000
    latent_hidden: int = 128
    latent_batch: int = 128
    latent_steps: int = 8000
    episodes: int = 20_000
    pit_episodes: int = 2000
    dreams: int = 10_000
    information_dreams: int = 2000
    permutations: int = 9999
    horizon_episodes: int = 1000
    horizon_dreams: int = 100
    table_episodes: int = 500
    members: int = 5
    member_steps: int = 1500
    temperatures: tuple[float, ...] = (0.1, 0.5, 1.0, 1.5, 2.0)
    controllers: int = 5
    generations: int = 60
    population: int = 24
    starts: int = 64
    played_episodes: int = 2000
    seed: int = 0


QUICK = Settings(
    hidden=32, batch=128, position_steps=300, width=12, picture_steps=450, encoded_episodes=1500, latent_hidden=48,
    latent_batch=64, latent_steps=400, episodes=1000, pit_episodes=500, dreams=500, information_dreams=500,
    permutations=999, horizon_episodes=100, horizon_dreams=40, table_episodes=60, members=2, member_steps=60,
    temperatures=(0.5, 1.0), controllers=2, generations=4, population=8, starts=16, played_episodes=200,
)  # fmt: skip


def seed_of(settings: Settings, purpose: str, number: int = 0) -> int:
    """The seed of test episodes, or of dreams, for this purpose; nothing was trained or chosen on them."""
    digest = hashlib.sha256(f"{settings.seed} {purpose} {number}".encode()).digest()
    return FIRST_TEST_SEED + int.from_bytes(digest[:4], "big")
