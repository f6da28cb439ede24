"""One rule for each aten operation; importing the modules of this package fills the table `RULES`."""

from posterity.inference.engine.lanes.rules import matrices, pieces, pointwise, positions, reductions, views
from posterity.inference.engine.lanes.rules.registry import RULES, as_value

__all__ = ["RULES", "as_value", "matrices", "pieces", "pointwise", "positions", "reductions", "views"]
