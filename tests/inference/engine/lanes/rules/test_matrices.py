"""Factorisations and triangular systems against torch."""

import torch

from tests.inference.engine.lanes.cases import compiled
from tests.inference.engine.lanes.rules.cases import both, check, definite


@both
def test_factorisations_and_systems_are_torchs(dtype, monkeypatch):
    check("matrices", dtype, monkeypatch)


def test_a_matrix_that_is_not_positive_definite_is_nan_in_its_chain_alone():
    def function(q):
        factor = torch.linalg.cholesky_ex(definite(q) - 100 * torch.eye(8) * (q[0] > 1))[0]
        return factor.diagonal().log().sum() * torch.ones(12)

    q = torch.full((3, 12), 0.5)
    q[1, 0] = 2.0
    found = compiled(function, 12, torch.float32, 3).gradient(q)[1]
    assert found.isnan().any(1).tolist() == [False, True, False]
