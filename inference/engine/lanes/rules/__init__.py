"""One rule for each aten operation; importing the modules of this package fills the table `RULES`."""

from posterity.inference.engine.lanes.rules import pieces, pointwise, positions, reductions, views
from posterity.inference.engine.lanes.rules.registry import RULES, as_value

__all__ = ["RULES", "as_value", "pieces", "pointwise", "positions", "reductions", "views"]
