"""The iterative trees of many chains against trees built by recursion, one chain at a time."""

import math
from types import SimpleNamespace

import pytest
import torch
from scipy import stats

from posterity.inference import NUTS
from posterity.inference.engine import Engine
from posterity.inference.mcmc.kernel import State
from posterity.inference.mcmc.nuts import NUTSKernel
from tests.inference.mcmc.cases import Given

PRECISION = torch.tensor([1.0, 4.0, 0.09, 30.0], dtype=torch.double)
INVERSE_MASS = torch.tensor([1.5, 0.5, 3.0, 0.1], dtype=torch.double)
STEP, CHAINS, DEEPEST = 0.11, 40, 7


def kernel():
    density = SimpleNamespace(dim=len(PRECISION), dtype=torch.double, device=torch.device("cpu"))
    engine = Engine(density, CHAINS, "eager", lambda q: (-0.5 * (PRECISION * q**2).sum(-1), -PRECISION * q))
    settings = NUTS(chains=CHAINS, warmup=0, step_size=STEP, max_tree_depth=DEEPEST, engine="eager")
    made = NUTSKernel(settings, engine)
    made.inverse_mass = INVERSE_MASS
    return made


def leapfrog(q, p, step):
    p = p - 0.5 * step * PRECISION * q
    q = q + step * INVERSE_MASS * p
    return q, p - 0.5 * step * PRECISION * q


def turns(momenta):
    """The U-turn of a complete tree, from the momenta of all its leaves in the order of time."""
    total = INVERSE_MASS * (sum(momenta) - (momenta[0] + momenta[-1]) / 2)
    return bool(momenta[0] @ total <= 0) or bool(momenta[-1] @ total <= 0)


def grown(q, p, step, depth):
    """Leaves of a tree of 2^depth, by recursion: momenta in the order they were made, the end, whether it turned."""
    if depth == 0:
        q, p = leapfrog(q, p, step)
        return [p], (q, p), False
    first, end, turned = grown(q, p, step, depth - 1)
    if turned:
        return first, end, True
    second, end, turned = grown(*end, step, depth - 1)
    leaves = first + second
    if turned:
        return leaves, end, True
    return leaves, end, turns(leaves if step > 0 else leaves[::-1])


def recursive(q, p, forward):
    """Steps and depth of one transition, with the directions given."""
    left = right = (q, p)
    momenta, steps = [p], 0
    for depth in range(DEEPEST):
        start, step = (right, STEP) if forward[depth] else (left, -STEP)
        leaves, end, turned = grown(*start, step, depth)
        steps += len(leaves)
        if turned:
            return steps, depth + 1
        momenta = momenta + leaves if forward[depth] else leaves[::-1] + momenta
        left, right = (left, end) if forward[depth] else (end, right)
        if turns(momenta):
            return steps, depth + 1
    return steps, DEEPEST


def test_trees_end_where_recursive_ones_do():
    """Every chain of five transitions: the same number of leaves and doublings, up to the deepest tree."""
    generator, nuts = torch.Generator().manual_seed(0), kernel()
    seen = set()
    for _ in range(5):
        q = torch.randn(CHAINS, 4, dtype=torch.double, generator=generator) / PRECISION.sqrt()
        normals = torch.randn(CHAINS, 4, dtype=torch.double, generator=generator)
        p = normals / INVERSE_MASS.sqrt()
        directions = torch.rand(DEEPEST, CHAINS, dtype=torch.double, generator=generator)
        value, grad = nuts.engine.gradient(q)
        _, statistics = nuts.transition(State(q, grad, value), Given(normals, dict(enumerate(directions))), 0)
        expected = [recursive(q[c], p[c], (directions[:, c] < 0.5).tolist()) for c in range(CHAINS)]
        assert statistics["n_steps"].tolist() == [steps for steps, _ in expected]
        assert statistics["tree_depth"].tolist() == [depth for _, depth in expected]
        seen |= {depth for _, depth in expected}
    assert len(seen) >= 4  # trees of many sizes were compared


def test_states_are_kept_in_proportion_to_their_weight():
    """One trajectory of a normal with a long step, whose energies differ: chosen states against their law.

    All chains have one start, one momentum and, but for which state is taken, the same uniforms: two doublings, first
    forwards. The newer half of 1, then 2 leaves is taken with min(1, its weight / that of the tree), and a leaf of it
    by weight. A chi squared test of 20,000 chains, which refuses a correct choice once in 10,000 runs.
    """
    chains, step = 20_000, 0.9
    density = SimpleNamespace(dim=1, dtype=torch.double, device=torch.device("cpu"))
    engine = Engine(density, chains, "eager", lambda q: (-0.5 * (q**2).sum(-1), -q))
    nuts = NUTSKernel(NUTS(chains=chains, warmup=0, step_size=step, max_tree_depth=2, engine="eager"), engine)
    q, p = torch.full((chains, 1), -0.3).double(), torch.full((chains, 1), 2.5).double()
    forwards = torch.zeros(chains, dtype=torch.double)
    numbers = Given(p, {0: forwards, 1: forwards})
    state, statistics = nuts.transition(State(q, -q, -0.5 * q[:, 0] ** 2), numbers, 0)
    assert (statistics["n_steps"] == 3).all()
    points, momenta = [q[0]], [p[0]]
    for _ in range(3):
        half = momenta[-1] - 0.5 * step * points[-1]
        points.append(points[-1] + step * half)
        momenta.append(half - 0.5 * step * points[-1])
    weights = [math.exp(-0.5 * float(x**2 + m**2)) for x, m in zip(points, momenta, strict=True)]
    first = min(1.0, weights[1] / weights[0])
    second = min(1.0, (weights[2] + weights[3]) / (weights[0] + weights[1]))
    later = [second * w / (weights[2] + weights[3]) for w in weights[2:]]
    expected = torch.tensor([(1 - first) * (1 - second), first * (1 - second), *later])
    assert expected.min() > 0.03  # every state can be kept
    place = (state.q - torch.cat(points)).abs().argmin(1)
    counts = torch.bincount(place, minlength=4)
    assert stats.chisquare(counts.numpy(), (chains * expected).numpy()).pvalue > 1e-4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_tree_depth": 0}, "expected max_tree_depth to be a whole number from 1 to 20, got 0"),
        ({"max_tree_depth": 2.5}, "expected max_tree_depth to be a whole number from 1 to 20, got 2.5"),
        ({"max_tree_depth": "3"}, "expected max_tree_depth to be a whole number from 1 to 20, got '3'"),
    ],
)
def test_bad_settings_of_nuts_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        NUTS(**settings)
