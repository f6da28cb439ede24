"""Rules of indexing by data, against torch; positions that depend on the chain are refused."""

import pytest
import torch

from tests.inference.engine.lanes.cases import padded
from tests.inference.engine.lanes.rules.cases import both, check, refused


@both
def test_positions_compute_what_torch_does(dtype, monkeypatch):
    check("positions", dtype, monkeypatch)


INDEX = torch.tensor([0, 2])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda q: q[(q > 0).long()], "conversion to torch.int64|positions that depend on a latent value"),
        (lambda q: padded(q.reshape(3, 2, 2)[INDEX, :, INDEX % 2]), "indices that are not adjacent"),
        (
            lambda q: padded(q.reshape(3, 4)[torch.tensor([True, False, True]), torch.tensor([1, 2])]),
            "a mask among indices",
        ),
    ],
    ids=["latent positions", "not adjacent", "a mask and positions"],
)
def test_indices_that_no_rule_covers_are_refused(function, message):
    refused(function, message)
