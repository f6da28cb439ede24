"""Going on from a posterior in memory: more draws of the same run, or a new run with other data from where it ended."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from posterity.inference.engine.chains import Engine
from posterity.inference.engine.density import Density
from posterity.inference.posterior import Posterior
from posterity.inference.program.observation import observe_as_numbers
from posterity.inference.program.reparam import Parametrisation
from posterity.inference.program.sites import Program
from posterity.validation import check_integer

ADAPTED = ("inverse_mass", "basis", "own", "log_length")  # parts of a kernel's state that another run begins with


@dataclass(frozen=True, eq=False)
class Prepared:
    """The parts of a run that depend on model and data alone, for further runs."""

    program: Program
    parametrisation: Parametrisation
    density: Density
    engine: Engine


class Continuation:
    """The end of a run: positions, kernel and random streams of its chains, and the prepared engine.

    It shares the stored draws and the compiled code with the run, and is neither saved nor sent to other processes.

    Args:
        run: makes a run from settings, model, arguments, seed and site, and the keywords ``saved`` and ``prepared`` or
            ``begin``.
        settings: the settings of the run.
        call: its model, arguments, seed and site.
        content: its state, as in a checkpoint.
        prepared: its prepared parts.
    """

    def __init__(
        self, run: Callable[..., Any], settings: Any, call: tuple[Any, ...], content: dict[str, Any], prepared: Prepared
    ) -> None:
        self.run, self.settings, self.call, self.content, self.prepared = run, settings, call, content, prepared

    def __reduce__(self) -> tuple[Any, ...]:
        return _nothing, ()  # compiled code cannot be pickled: a posterior from another process cannot be extended

    def __deepcopy__(self, memo: Any) -> "Continuation":
        return self

    def extend(self, draws: int, progress: bool | None) -> Posterior:
        """The run with ``draws`` more draws of each chain."""
        check_integer("draws", draws, 1)
        content = {name: list(part) if isinstance(part, list) else part for name, part in self.content.items()}
        settings = self._settings(draws=len(content["positions"]) + int(draws), progress=progress)
        return self.run(settings, *self.call, saved=content, prepared=self.prepared).sample()  # type: ignore[no-any-return]

    def update(
        self, args: tuple[Any, ...], draws: int | None, warmup: int, seed: int, progress: bool | None
    ) -> Posterior:
        """A run with other arguments, which starts where this one ended."""
        settings = self._settings(
            draws=self.settings.draws if draws is None else draws, warmup=warmup, progress=progress, checkpoint=None
        )
        model, _, _, site = self.call
        call = observe_as_numbers(model, args), args, seed, site
        return self.run(settings, *call, begin=self.content).sample()  # type: ignore[no-any-return]

    def _settings(self, *, progress: bool | None, **changes: Any) -> Any:
        """The settings without the limits of the run, which it may have reached."""
        shown = self.settings.progress if progress is None else progress
        return replace(self.settings, **changes, progress=shown, max_seconds=None, target_ess=None)


def _nothing() -> None:
    """The continuation of a posterior from a file or another process."""
