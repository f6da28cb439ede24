"""Every rule of `lanes` against torch: values and gradients of a table of cases, in both precisions.

All cases of a group become one function and one compilation. Tolerance, relative to the largest number of a case: 2e-6
in float32 for values and 2e-5 for gradients, 1e-12 and 1e-11 in float64.
"""

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import pad

from posterity.inference.engine.lanes import build
from posterity.inference.engine.lanes.build import Compiled
from posterity.inference.engine.lanes.decompose import decompositions
from posterity.inference.engine.lanes.emit import emit
from posterity.inference.engine.lanes.expressions import Constant, Unsupported
from posterity.inference.engine.lanes.lower import lower
from posterity.inference.engine.lanes.rules import RULES
from tests.inference.engine.lanes.rules.cases import GROUPS, OWN_RULES, SIZE

TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12}
CHAINS = 5


class Together:
    """All cases of a group as one function of a vector, each of 12 numbers of its own: values, then all gradients."""

    def __init__(self, cases, dtype):
        self.functions, self.dtype = list(cases), dtype
        x = torch.linspace(0.1, 0.9, SIZE, dtype=dtype)
        self.sizes = [f(x).numel() for f in self.functions]
        self.inputs = SIZE * len(self.functions)
        self.size = sum(self.sizes) + self.inputs

    def __call__(self, q):
        def weighed(x):
            values = torch.cat([f(part).reshape(-1) for f, part in zip(self.functions, x.split(SIZE), strict=True)])
            return (values * torch.linspace(0.5, 1.5, values.numel(), dtype=x.dtype)).sum(), values

        gradient, values = torch.func.grad(weighed, has_aux=True)(q[: self.inputs])
        return torch.cat([values, gradient])

    def lowered(self):
        """What `lanes` makes of it: a density, which is the sum, and all numbers in the place of its gradient."""

        def both(q):
            found = self(q)
            return found.sum(), pad(found, (0, self.size - found.numel()))

        with torch.no_grad():
            example = torch.linspace(0.1, 0.9, self.size, dtype=self.dtype)
            graph = make_fx(torch.func.functionalize(both), decomposition_table=decompositions())(example)
        return lower(graph, (self.size,), self.dtype)

    def parts(self, found):
        """Values and gradient (chain, ...) of each case."""
        values, gradients = found.split([sum(self.sizes), self.inputs], -1)
        return list(zip(values.split(self.sizes, -1), gradients.split(SIZE, -1), strict=True))


@pytest.fixture
def reached(monkeypatch):
    """The names of the rules that are called."""
    names = set()

    def spy(name, rule):
        return lambda *args, **kwargs: (names.add(name), rule(*args, **kwargs))[1]

    for name, rule in list(RULES.items()):
        monkeypatch.setitem(RULES, name, spy(name, rule))
    return names


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("group", GROUPS)
def test_a_rule_computes_what_torch_does(group, dtype, reached, monkeypatch):
    together = Together(GROUPS[group].values(), dtype)
    outputs = together.lowered()
    assert OWN_RULES[group] - reached == set()  # a case of this group calls each of them
    # Rules are tested here, and not what the C++ compiler makes faster, which takes its time.
    monkeypatch.setattr(build, "FLAGS", tuple("-O0" if flag == "-O2" else flag for flag in build.FLAGS))
    call = Compiled(emit(outputs, ["value", "grad"]), together.size, dtype, CHAINS)
    q = torch.randn(CHAINS, together.size, dtype=dtype, generator=torch.Generator().manual_seed(0))
    results = together.parts(call.gradient(q)[1])
    wanted = together.parts(torch.stack([together(row) for row in q]))
    limit = TOLERANCE[dtype]
    for name, found, expected in zip(GROUPS[group], results, wanted, strict=True):
        for what, x, y, bound in zip(("values", "gradient"), found, expected, (limit, 10 * limit), strict=True):
            torch.testing.assert_close(
                x, y, rtol=bound, atol=bound * (1 + float(y.abs().max())),
                msg=lambda text, what=what, name=name: f"{what} of {name}: {text}",
            )  # fmt: skip


def test_every_rule_is_in_the_table():
    """A rule that no case calls is untested, or unreachable because torch takes its operation apart."""
    assert set(RULES) == set().union(*OWN_RULES.values())
    assert OWN_RULES.keys() == GROUPS.keys()


def test_a_rule_of_another_shape_is_not_used(monkeypatch):
    """What a rule returns is compared with the shape that torch recorded."""
    monkeypatch.setitem(RULES, "exp", lambda x: Constant(torch.zeros(())))
    with pytest.raises(Unsupported, match=r"operation exp of shape \(12,\)"):
        Together([torch.exp], torch.float32).lowered()
