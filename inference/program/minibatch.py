"""Batches of rows: their selection, and the scale of their terms in the log joint."""

from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Independent

from posterity.inference.program.nested import tensors_in, with_tensors
from posterity.inference.program.sites import Program
from posterity.inference.program.trace import Model, trace


class ScaleObservations(Messenger):
    """Multiplies the log density of the rows by N / batch: of all sites in ``row_plates``, and of ``sites``.

    ``sites`` are observed outside of plates, with their rows in an event; None: the sites of the program.
    """

    def __init__(
        self,
        program: Program,
        row_plates: tuple[str, ...],
        batch: int,
        rows: int,
        sites: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__()
        self.program, self.row_plates, self.factor = program, row_plates, rows / batch
        self.sites = program.sites if sites is None else sites

    def _pyro_sample(self, msg: Any) -> None:
        frames = {frame.name: frame for frame in msg["cond_indep_stack"]}
        data_plates = [name for name in {*self.program.plates, *self.row_plates} if name in frames]
        if any(frames[name].full_size not in (None, frames[name].size) for name in data_plates):
            raise ValueError("expected batches from the model's plate or from batch_size, got both")
        if any(name in frames for name in self.row_plates) or msg["name"] in self.sites:
            msg["scale"] = msg["scale"] * self.factor


def row_terms(model: Model, args: tuple[Any, ...], program: Program) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The plates over rows around observed sites, and the observed sites outside of them that hold rows.

    Plates and sites over rows shrink if a row is left out. If the model cannot be run without a row (with data in its
    closure, say), the plates over rows are those of the length of the data, and the sites are those of the program.

    Raises ``ValueError`` for a site whose rows are not independent, such as a multivariate normal over all rows: its
    log density is not a sum over rows; and for a model with a site for each row.
    """
    rows = count_rows(args)
    with torch.no_grad():
        nodes = trace(model, args, seed=0)
        fewer = _on_fewer_rows(model, args, rows)
    lost = [name for name in program.observed if fewer and name not in fewer]
    if lost:
        raise ValueError(f"expected no batch_size for a model with a site for each row, such as {lost[0]!r}")
    plates, sites = dict[str, None](), [program.site] if program.site is not None else []
    for name in program.observed:
        frames = [frame for frame in nodes[name]["cond_indep_stack"] if frame.vectorized]
        sizes = {frame.name: frame.size for frame in fewer[name]["cond_indep_stack"]} if name in fewer else {}
        over_rows = [frame.name for frame in frames if sizes.get(frame.name, rows - 1 if frame.size == rows else None)
                     not in (None, frame.size)]  # fmt: skip
        plates |= dict.fromkeys(over_rows)
        if not over_rows and name in fewer and nodes[name]["value"].shape != fewer[name]["value"].shape:
            sites.append(name)
            _check_product(name, nodes[name]["fn"])
    return tuple(plates), tuple(dict.fromkeys(sites))


def _on_fewer_rows(model: Model, args: tuple[Any, ...], rows: int) -> dict[str, Any]:
    """The trace without the last row, empty if the model cannot be run without it."""
    try:
        return trace(model, take_rows(args, torch.arange(rows - 1)), seed=0) if rows > 1 else {}
    except (ValueError, RuntimeError, IndexError):
        return {}


def _check_product(name: str, likelihood: Any) -> None:
    """``ValueError`` unless the density of an event is a product over its elements."""
    while hasattr(likelihood, "base_dist") and not isinstance(likelihood, Independent):
        likelihood = likelihood.base_dist  # under a mask, or a transform of each element
    if not isinstance(likelihood, Independent):
        raise ValueError(
            f"expected no batch_size for rows that are not independent, got {type(likelihood).__name__} at {name!r}: "
            "fit all rows at once"
        )


def count_rows(args: tuple[Any, ...]) -> int:
    """The number of rows: the length of the longest tensor among the arguments, 1 if there is none."""
    return max((len(value) for value in tensors_in(args) if value.ndim), default=1)


def check_rows(args: tuple[Any, ...], observations: int) -> None:
    """Raises ``ValueError`` unless the arguments have one row for each of the ``observations``, to be left out."""
    if count_rows(args) != observations:
        raise ValueError(
            f"expected arguments with a row for each of {observations} observations, got {count_rows(args)} rows: data "
            "in a closure cannot be left out"
        )


def take_rows(args: tuple[Any, ...], rows: Tensor) -> tuple[Any, ...]:
    """The arguments with only the ``rows`` (indices) of each tensor of the longest length; other values unchanged."""
    tensors, count = tensors_in(args), count_rows(args)
    return with_tensors(args, [v[rows.to(v.device)] if v.ndim and len(v) == count else v for v in tensors])
