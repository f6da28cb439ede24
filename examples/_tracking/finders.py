"""The networks of `tracking.py`: how they are made, trained and read again."""

from collections.abc import Callable
from pathlib import Path

import torch
from _parts import tag
from torch import Tensor, nn

from _tracking.settings import MEAN_TRACKS, TRAINED, Settings
from posterity.data import Detector, Events
from posterity.files import read_tensors, write_tensors
from posterity.inference.training.streaming import fit_stream
from posterity.models.tracking import IndependentFinder, TrackFinder, TrackSet

KINDS = ("single", "set", "independent")


def new_finder(kind: str, settings: Settings, *, size: int = 28) -> nn.Module:
    """``"single"``: of one track; ``"set"``: of any number; ``"independent"``: of each intercept by itself."""
    makers: dict[str, Callable[[], nn.Module]] = {
        "single": lambda: TrackFinder(size, candidates=3, components=settings.single_components, finer=3),
        "set": lambda: TrackFinder(size, candidates=10, components=settings.set_components, finer=2),
        "independent": lambda: IndependentFinder(size, components=10),
    }
    return makers[kind]()


def train(kind: str, settings: Settings, member: int, out: Path) -> dict[str, float]:
    """Train a finder on events that are drawn on the fly, and keep its weights."""
    torch.set_num_threads(1)
    steps = {"single": settings.single_steps, "set": settings.set_steps, "independent": settings.independent_steps}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1000 * settings.seed + member)
        net = new_finder(kind, settings)
    low, high = TRAINED

    def draw(random: torch.Generator) -> Events:
        detector = Detector(noise=low + (high - low) * float(torch.rand((), generator=random)))
        if kind == "single":
            return detector.simulate(settings.batch_size, tracks=1, seed=random)
        return detector.simulate(settings.batch_size, mean_tracks=MEAN_TRACKS, seed=random)

    def loss(events: Events) -> Tensor:
        if isinstance(net, IndependentFinder):
            return -net.log_prob(events.images, events.tracks).mean()
        said = net(events.images)
        if kind == "single":
            return -said.single_log_prob(events.tracks).mean()
        return -TrackSet(said).log_prob(events.tracks).mean()

    found = fit_stream(
        net, draw, loss, steps=steps[kind], learning_rate=1e-3 if kind == "independent" else 5e-3,
        warmup=min(100, steps[kind] // 5), seed=1000 * settings.seed + member,
        checkpoint=out / f"{kind}-{member}-{tag(settings)}.checkpoint",
    )  # fmt: skip
    if found.interrupted:
        raise KeyboardInterrupt
    write_tensors(net.state_dict(), out / f"{kind}-{member}.pt")
    return {"loss": found.loss[-1], "fit_seconds": found.seconds}


def load(kind: str, settings: Settings, member: int, out: Path, *, size: int = 28) -> nn.Module:
    """With the weights of this run, or those of ``settings.weights``; nothing in a `TrackFinder` is of one size."""
    net = new_finder(kind, settings, size=size)
    net.load_state_dict(read_tensors(Path(settings.weights or out) / f"{kind}-{member}.pt", "weights of a finder"))
    return net.eval()
