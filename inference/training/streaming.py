"""Maximum likelihood from a simulator: every batch is new, so nothing is seen twice and nothing is overfitted.

`fit_stream` is for networks whose data are drawn on the fly, such as tracks in a detector: what
`posterity.inference.SVI` is for data that are there.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from posterity.files import read_tensors, write_tensors
from posterity.inference.training.evaluation import mode
from posterity.inference.training.interrupt import warn_interrupted
from posterity.inference.training.record import Training
from posterity.inference.training.recovery import Every, LastGood
from posterity.inference.training.schedule import cosine
from posterity.validation import check_integer, check_number, check_seed

FORMAT = "posterity stream 1"
READ = 50  # steps of which the mean loss is kept as one number


def fit_stream(
    net: nn.Module,
    draw: Callable[[torch.Generator], Any],
    loss: Callable[[Any], Tensor],
    *,
    steps: int,
    learning_rate: float = 1e-3,
    warmup: int = 100,
    clip: float = 5.0,
    seed: int,
    about: object = None,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 60.0,
    progress: bool = True,
) -> Training:
    """Train ``net`` in place: ``loss(draw(generator))``, a mean (), is made small.

    Adam (Kingma & Ba 2015), the rate rising over ``warmup`` steps to ``learning_rate`` and falling to zero along a
    cosine; gradients of a larger norm than ``clip`` are scaled down to it. ``draw`` takes all its random numbers from
    the generator it is given, which starts from ``seed``; the network's own start is not of it.

    With a ``checkpoint`` the run is kept there every ``checkpoint_seconds``, at an interrupt and at the end, and goes
    on from it where it is found: to the same weights, bit by bit on the CPU, unless the network draws random numbers.
    A checkpoint of other settings is refused. What the functions do is not among them: ``about`` is anything whose
    ``repr`` says of what this is a fit, such as the detector that ``draw`` simulates.

    Raises:
        ValueError: a setting that cannot be, a network without weights to train, a checkpoint of another run, or a loss
            that is no number with a gradient, or not finite: then the weights are those of the last mean loss that was.
    """
    check_integer("steps", steps, 1)
    check_integer("warmup", warmup, 0)
    check_seed(seed)
    check_number("learning_rate", learning_rate, "(0, inf)")
    check_number("clip", clip, "(0, inf)")
    check_number("checkpoint_seconds", checkpoint_seconds, "[0, inf)")
    weights = [parameter for parameter in net.parameters() if parameter.requires_grad]
    if not weights:
        raise ValueError("expected a network with weights to train, got none that requires a gradient")
    optimiser = torch.optim.Adam(weights, lr=learning_rate, betas=(0.9, 0.99))
    recent: list[float] = []
    random, found = torch.Generator().manual_seed(seed), Training()
    recipe = repr((steps, learning_rate, warmup, clip, seed, *(() if about is None else (about,))))
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None and path.exists():
        recent = _resume(path, recipe, net, optimiser, random, found)
    begun, earlier, write_now = time.perf_counter(), found.seconds, Every(checkpoint_seconds)

    def restore(state: tuple[int, Any]) -> None:
        found.steps = state[0]
        net.load_state_dict(state[1])

    good = LastGood(lambda: (found.steps, net.state_dict()), restore)
    own = {name for name, _ in net.named_parameters()}
    buffers = [value for name, value in net.state_dict(keep_vars=True).items() if name not in own]

    def keep() -> None:
        found.seconds = earlier + time.perf_counter() - begun
        if path is not None:
            state = {"net": net.state_dict(), "optimiser": optimiser.state_dict(), "random": random.get_state()}
            run = {"loss": found.loss, "recent": recent, "steps": found.steps, "seconds": found.seconds}
            write_tensors({"format": FORMAT, "recipe": recipe, **state, **run}, path)

    bar = tqdm(total=steps, initial=found.steps, desc="fit", disable=not progress)
    try:
        with bar, mode(net, training=True), torch.enable_grad():
            while found.steps < steps:
                rise = min(1.0, (found.steps + 1) / warmup) if warmup else 1.0
                for group in optimiser.param_groups:
                    group["lr"] = learning_rate * rise * cosine(found.steps, steps, 0.0)
                before = random.get_state(), [buffer.clone() for buffer in buffers]
                try:
                    value = loss(draw(random))
                    if not isinstance(value, Tensor) or value.shape != () or not value.requires_grad:
                        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                        raise ValueError(f"expected a loss of shape () with a gradient, got {got}")
                    optimiser.zero_grad(set_to_none=True)
                    value.backward()
                    norm = nn.utils.clip_grad_norm_(weights, clip)
                except KeyboardInterrupt:
                    random.set_state(before[0])
                    for buffer, kept in zip(buffers, before[1], strict=True):
                        buffer.copy_(kept)
                    raise
                if not bool(norm.isfinite() and value.isfinite()):
                    net.load_state_dict(good.state[1])
                    raise ValueError(
                        f"expected a finite loss and gradient, got {float(value.detach())} and {float(norm)} in step "
                        f"{found.steps + 1}: earlier weights are kept; try a lower learning_rate"
                    )
                with good.changing():  # an interrupt in here leaves a state that no checkpoint may keep
                    optimiser.step()
                    found.steps += 1
                    recent.append(float(value.detach()))
                if found.steps % READ == 0:
                    found.loss.append(sum(recent) / len(recent))
                    recent = []
                    good.keep()
                    bar.set_postfix(loss=f"{found.loss[-1]:.4g}", refresh=False)
                    if path is not None and write_now.due():
                        keep()
                bar.update()
    except KeyboardInterrupt:
        found.interrupted = True
    finally:
        optimiser.zero_grad(set_to_none=True)
    if good.whole:
        keep()
    else:
        good.restore()
    if found.interrupted:
        go_on = "Call it again with the checkpoint to go on" if path else "With checkpoint= it could go on"
        warn_interrupted("fit_stream", f"the weights after {found.steps} of {steps} steps", f"{go_on}.")
    return found


def _resume(
    path: Path, recipe: str, net: nn.Module, optimiser: torch.optim.Optimizer, random: torch.Generator, found: Training
) -> list[float]:
    content = read_tensors(path, "a checkpoint of a stream")
    if content.get("format") != FORMAT or content.get("recipe") != recipe:
        raise ValueError(
            f"expected a checkpoint of the same run in {path}, got {content.get('format')!r} with settings "
            f"{content.get('recipe')}, not {recipe}"
        )
    try:
        net.load_state_dict(content["net"])
    except RuntimeError as error:
        raise ValueError(f"expected a checkpoint of the same network in {path}: {error}") from error
    optimiser.load_state_dict(content["optimiser"])
    random.set_state(content["random"].cpu())
    found.loss, found.steps, found.seconds = content["loss"], content["steps"], content["seconds"]
    recent: list[float] = content["recent"]
    return recent
