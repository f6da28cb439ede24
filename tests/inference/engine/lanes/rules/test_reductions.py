"""Rules of reductions and matrix products against torch: values and gradients."""

import pytest

from tests.inference.engine.lanes.cases import padded
from tests.inference.engine.lanes.rules.cases import both, check, refused


@both
@pytest.mark.parametrize("group", ["reductions", "products"])
def test_reductions_compute_what_torch_does(group, dtype, monkeypatch):
    check(group, dtype, monkeypatch)


def test_the_position_of_a_maximum_depends_on_the_chain_and_is_refused():
    refused(lambda q: padded(q.reshape(3, 4).max(-1).values), "positions of a maximum|operation max|operation gather")
    refused(lambda q: padded(q.reshape(3, 4).min(-1).values), "positions of a minimum|operation min|operation gather")
