"""Repeated statements as loops: the same statements in the same order, with every number in its place."""

import re

import pytest
import torch

from posterity.inference.engine.lanes import rolling
from posterity.inference.engine.lanes.emit import emit
from posterity.inference.engine.lanes.rolling import roll
from tests.inference.engine.cases import without_optimisation
from tests.inference.engine.lanes.cases import TOLERANCE, compiled, lowered


def unrolled(lines):
    """The statements that the code runs, with buffers as places in memory, as a text."""
    out, tables, at = [], {}, 0
    while at < len(lines):
        line = lines[at]
        if found := re.match(r"(?:static )?const .* (T\d+)\[\] = \{(.*)\};", line):
            tables[found[1]] = found[2].split(", ")
        elif found := re.match(r"for \(int u = 0; u < (\d+); u\+\+\) \{", line):
            depth, end = 1, at
            while depth:
                end += 1
                depth += lines[end].count("{") - lines[end].count("}")
            body = "\n".join(lines[at + 1 : end])
            for u in range(int(found[1])):
                text = re.sub(r"(T\d+)\[u\]", lambda m, u=u: tables[m[1]][u], body)
                out.append(re.sub(r"\((\d+) \+ (-?\d+) \* u\)", lambda m, u=u: str(int(m[1]) + int(m[2]) * u), text))
            at = end
        else:
            out.append(line)
        at += 1
    return [line for text in out for line in text.split("\n") if line not in "{}"]


def test_the_same_statements_in_the_same_order(monkeypatch):
    """40 steps of two statements between others: numbers that go up evenly, those that do not, and floats."""
    monkeypatch.setattr(rolling, "FEWEST_BLOCKS", 1)
    offsets = {f"b{i}": (7 * i) % 23 for i in range(100)}
    blocks = [["b0[0] = q[3];"]]
    for step in range(40):
        blocks.append(
            [f"V t{3 * step} = v_exp(b{step}[2]);", f"b{step + 1}[0] = t{3 * step} * fill((S){0.5 + step**2});"]
        )
        blocks.append([f"b{step + 2}[{2 * step}] = fill(K{step % 3}[{step * step}]) + grad[1];"])
    blocks.append(["value[0] = b40[1];"])
    lines = roll(blocks, offsets)
    assert sum(line.startswith("for (int u") for line in lines) == 1
    assert len("\n".join(lines)) < len("\n".join(line for block in blocks for line in block))

    def placed(text):
        text = re.sub(r"\b(b\d+)\b", lambda m: f"(B + {offsets[m[1]]})", text).replace("(S)", "")
        return re.sub(r"\b([a-z])_?\d+\b", r"\1", text)  # local names

    expected = [placed(line) for block in blocks for line in block]
    assert [placed(line) for line in unrolled(lines)] == expected


def test_few_statements_stay_as_they_are():
    blocks = [[f"b{i}[0] = q[{i}];"] for i in range(50)]
    assert roll(blocks, {f"b{i}": i for i in range(50)}) == [line for block in blocks for line in ("{", *block, "}")]


def test_outputs_of_the_function_keep_their_names(monkeypatch):
    monkeypatch.setattr(rolling, "FEWEST_BLOCKS", 1)
    lines = roll([[f"b99[{i}] = b{i}[0];"] for i in range(9)], {f"b{i}": i for i in range(9)})
    assert any("b99[(0 + 1 * u)] = (B + (0 + 1 * u))[0];" in line for line in lines)


X = torch.linspace(-1, 1, 150, dtype=torch.double)


def series(q):
    """A state that depends on its past, with data of every step: 150 steps."""
    state, total = q[0], q[1] * 0
    for t in range(150):
        state = torch.tanh(q[1] * state + q[2] * X[t]) + 0.01 * q[3 + t % 5]
        total = total - (state - X[t]) ** 2
    return total


@pytest.mark.parametrize("dtype", [torch.double])
def test_a_loop_over_time_computes_what_torch_does(dtype, monkeypatch):
    """Values and gradients of 150 steps; the code has loops, and a tenth of the text of the single statements."""
    without_optimisation(monkeypatch)

    def both(q):
        gradient, value = torch.func.grad_and_value(series)(q)
        return torch.cat([value[None], gradient[1:]])

    code = emit(lowered(both, 12, dtype), ["value", "grad"])
    assert "for (int u" in code.text
    with monkeypatch.context() as patch:
        patch.setattr(rolling, "FEWEST_BLOCKS", 10**9)
        assert len(code.text) < 0.25 * len(emit(lowered(both, 12, dtype), ["value", "grad"]).text)
    q = torch.randn(3, 12, dtype=dtype, generator=torch.Generator().manual_seed(0))
    found = compiled(both, 12, dtype, 3).gradient(q)[1]
    expected = torch.stack([both(row) for row in q])
    torch.testing.assert_close(found, expected, rtol=TOLERANCE[dtype], atol=10 * TOLERANCE[dtype])
