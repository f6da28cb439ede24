"""`Pair`: a Pyro model with the name of its guide."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyro
from pyro.poutine.subsample_messenger import _Subsample

from posterity.display import ROWS, count, listing, panel, paragraph, table
from posterity.models.guides import empty_guide, make_guide
from posterity.random import seeded

Model = Callable[..., Any]


@dataclass(frozen=True, repr=False)
class Pair:
    """A model, and the name of its guide; None for the empty guide.

    Inference uses the name, so that its settings (starting point, initial scale) apply to a pair as to a bare model.
    ``example`` are arguments without y with which the model runs, to show its sites; None if they are not known.
    """

    model: Model
    guide_name: str | None
    example: tuple[Any, ...] | None = field(default=None, compare=False)

    @property
    def guide(self) -> Callable[..., Any]:
        """A new guide at each access: trained guides are not shared."""
        return empty_guide if self.guide_name is None else make_guide(self.guide_name, self.model)

    def __repr__(self) -> str:
        return f"Pair({model_name(self.model)}, {self._guide_words()})"

    def _repr_html_(self) -> str:
        found = self._sites()
        sites, targets = found[:-1], found[-1:]
        unknown = sum(math.prod(shape) for _, _, shape in sites)
        shown = [(name, kind, str(shape)) for name, kind, shape in sites[: 2 * ROWS]]
        shown += [(name, kind, f"{shape[1:]} for each row") for name, kind, shape in targets]
        method = "Ensemble()" if self.guide_name is None else "HMC()"
        return panel(
            f"Pair: {model_name(self.model)}",
            paragraph(f"{self._guide_words()}{f', {unknown:,} unknown numbers' if unknown else ''}"),
            table(("site", "kind", "shape"), shown, _more(len(sites) - 2 * ROWS)) if shown else "",
            listing("Next", (f"infer(pair, x, y, method={method}, seed=0)",), code=True),
        )

    def _guide_words(self) -> str:
        return "no guide, since its weights are parameters" if self.guide_name is None else f"guide {self.guide_name!r}"

    def _sites(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """Name, kind and shape of each site at the example, the target last; empty if the model does not run there."""
        if self.example is None:
            return []
        with contextlib.suppress(Exception), seeded(0), pyro.get_param_store().scope():
            nodes = pyro.poutine.trace(self.model).get_trace(*self.example).nodes
            found = [
                (name, "latent" if node["type"] == "sample" else "parameter", tuple(node["value"].shape))
                for name, node in nodes.items()
                if node["type"] == "param"
                or (node["type"] == "sample" and not node["is_observed"] and not isinstance(node["fn"], _Subsample))
            ]
            return [*found[:-1], (found[-1][0], "observed", found[-1][2])]
        return []


def model_name(model: Any) -> str:
    """The name of a model: of the function, of the class of a module, of the function that made a pair.

    >>> model_name(lambda x: x)
    '<lambda>'
    """
    name = getattr(model, "__qualname__", None) or type(model).__qualname__
    outer, _, own = name.rpartition(".<locals>.")
    return (outer if own == "model" and outer else own).rpartition(".")[2]


def _more(number: int) -> str:
    return f"and {count(number, 'more site')}" if number > 0 else ""
