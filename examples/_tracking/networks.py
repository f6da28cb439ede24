"""The networks of ``tracking.py``: construction, training and loading."""

from collections.abc import Callable
from pathlib import Path

import torch
from _parts import finished, tag
from torch import Tensor, nn

from _tracking.settings import MEAN_TRACKS, TRAINING_NOISE, Settings
from posterity.data import Detector, Events
from posterity.files import read_tensors, write_tensors
from posterity.inference.training.streaming import fit_stream
from posterity.models.tracking import IndependentFinder, TrackFinder, TrackSet

KINDS = ("single", "set", "independent")


def new_finder(kind: str, settings: Settings, *, size: int = 28) -> nn.Module:
    """A finder of one track ("single"), of a set of tracks ("set"), or of each intercept by itself ("independent")."""
    makers: dict[str, Callable[[], nn.Module]] = {
        "single": lambda: TrackFinder(size, candidates=3, components=settings.single_components, finer=3),
        "set": lambda: TrackFinder(size, candidates=10, components=settings.set_components, finer=2),
        "independent": lambda: IndependentFinder(size, components=10),
    }
    return makers[kind]()


def train(kind: str, settings: Settings, member: int, out: Path) -> dict[str, float]:
    """Train a finder on events that are drawn on the fly, and store its weights."""
    torch.set_num_threads(1)
    steps = {"single": settings.single_steps, "set": settings.set_steps, "independent": settings.independent_steps}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1000 * settings.seed + member)
        net = new_finder(kind, settings)
    low, high = TRAINING_NOISE

    def draw(random: torch.Generator) -> Events:
        detector = Detector(noise=low + (high - low) * float(torch.rand((), generator=random)))
        if kind == "single":
            return detector.simulate(settings.batch_size, tracks=1, seed=random)
        return detector.simulate(settings.batch_size, mean_tracks=MEAN_TRACKS, seed=random)

    def loss(events: Events) -> Tensor:
        if isinstance(net, IndependentFinder):
            return -net.log_prob(events.images, events.tracks).mean()
        intensity = net(events.images)
        if kind == "single":
            return -intensity.single_log_prob(events.tracks).mean()
        return -TrackSet(intensity).log_prob(events.tracks).mean()

    training = fit_stream(
        net, draw, loss, steps=steps[kind], learning_rate=1e-3 if kind == "independent" else 5e-3,
        warmup=min(100, steps[kind] // 5), seed=1000 * settings.seed + member,
        checkpoint=out / f"{kind}-{member}-{tag(settings)}.checkpoint",
    )  # fmt: skip
    finished(training)
    write_tensors(net.state_dict(), out / f"{kind}-{member}.pt")
    return {"loss": training.loss[-1], "fit_seconds": training.seconds}


def load(kind: str, settings: Settings, member: int, out: Path, *, size: int = 28) -> nn.Module:
    """A finder with the weights of this run or of ``settings.weights``; a `TrackFinder` works for any ``size``."""
    net = new_finder(kind, settings, size=size)
    net.load_state_dict(read_tensors(Path(settings.weights or out) / f"{kind}-{member}.pt", "weights of a finder"))
    return net.eval()
