"""One rule for each aten operation: pointwise, views, reductions, pieces, positions. Importing them fills the table."""

from posterity.inference.engine.lanes.rules import pieces, pointwise, positions, reductions, views
from posterity.inference.engine.lanes.rules.registry import RULES, as_value

__all__ = ["RULES", "as_value", "pieces", "pointwise", "positions", "reductions", "views"]
