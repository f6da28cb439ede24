"""Values of data in recordings; models that read them in loops are tested with the tiers ("rows in a loop")."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from posterity.inference.engine.constants import KnownIndices, is_whole_plate, known_indices
from posterity.inference.engine.recording import record
from posterity.inference.program.trace import trace

COUNTS = torch.tensor([2, 0, 1])


def model(x):
    for i in pyro.plate("loop", len(x)):
        pyro.sample(f"a{i}", dist.Normal(x[i], 1.0))
    with pyro.plate("few", 3, subsample_size=2):
        pyro.sample("b", dist.Normal(0.0, 1.0))
    with pyro.plate("all", 2) as index:
        pyro.sample("c", dist.Normal(x[index], 1.0))


def test_a_loop_over_a_plate_is_recorded_with_the_values_of_the_loop():
    nodes = trace(model, (torch.zeros(3),), seed=0)
    plates = known_indices({name: node for name, node in nodes.items() if node["type"] == "sample"})
    assert {name: indices.tolist() for name, indices in plates.items()} == {"loop": [0, 1, 2], "all": [0, 1]}

    def total(x):
        with KnownIndices(plates):
            return sum(x[i] * (i + 1) for i in pyro.plate("loop", 3))

    recorded = record(torch.func.vmap(total), torch.zeros(2, 3))
    assert recorded(torch.tensor([[1.0, 10.0, 100.0], [0.0, 0.0, 1.0]])).tolist() == [321.0, 3.0]


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x[COUNTS[0]] - x[int(COUNTS[2])],
        lambda x: sum(x[n] for n in COUNTS) * (COUNTS[1] == 0).item(),
        lambda x: x[COUNTS.tolist()[0]] if COUNTS[0] > 1 else x,
    ],
    ids=["elements", "loop", "branch"],
)
def test_values_of_data_are_read_while_a_function_is_recorded(read):
    one, other = torch.tensor([1.0, 5.0, 7.0]), torch.tensor([2.0, 0.0, 1.5])
    assert torch.equal(record(torch.func.vmap(read), one[None])(other[None])[0], read(other))


def test_values_that_are_computed_cannot_be_read():
    with pytest.raises(RuntimeError, match="data-dependent control flow"):
        record(lambda x: x if x[0] > 0 else -x, torch.ones(2))


def test_plates_of_other_sizes_and_random_subsamples_keep_their_own_indices():
    with KnownIndices({"loop": torch.arange(3), "few": torch.arange(3)}), pyro.poutine.trace() as traced:
        model(torch.zeros(5))
    nodes = traced.trace.nodes
    assert len(nodes["loop"]["value"]) == 5
    assert len(nodes["few"]["value"]) == 2
    assert [is_whole_plate(nodes[name]) for name in ("loop", "few", "all", "c")] == [True, False, True, False]
