"""What is stored, in which order, and where: buffers that are read at the same time never share memory."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posterity.inference.engine.lanes.expressions import Buffer, FreshNames, Input, Pointwise, Product, Reduction, View
from posterity.inference.engine.lanes.plan import allocate, drop_batch, find_epilogues, find_stored, schedule

Q = Input("q", (12,))


def size(buffer):
    return math.prod(buffer.shape)


def pointwise(form, *args, weight=1):
    return Pointwise(form, *args, weight=weight)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.sets(st.integers(0, 11))), min_size=1, max_size=12), st.sets(st.integers())
)
def test_memory_is_used_again_after_its_last_reader_alone(kinds, outputs):
    """Buffers of random sizes that read random earlier ones: those that live at the same time lie apart."""
    order = [Buffer(Q, (size,)) for size, _ in kinds]
    reads = [{order[i] for i in read if i < number} for number, (_, read) in enumerate(kinds)]
    final = {id(order[i]) for i in outputs if 0 <= i < len(order)}
    offsets, vectors = allocate([[buffer] for buffer in order], reads, final, size)
    last = {
        id(buffer): len(order)
        if id(buffer) in final
        else max([n for n, r in enumerate(reads) if buffer in r] + [number])
        for number, buffer in enumerate(order)
    }
    spans = {id(b): range(offsets[id(b)], offsets[id(b)] + math.prod(b.shape)) for b in order}
    assert all(span.stop <= vectors for span in spans.values())
    for number, buffer in enumerate(order):
        for earlier in order[:number]:
            if last[id(earlier)] >= number:  # still to be read when this one is filled
                one, two = spans[id(earlier)], spans[id(buffer)]
                assert one.stop <= two.start or two.stop <= one.start


def test_memory_of_a_chain_of_buffers_is_that_of_two():
    order = [Buffer(Q, (12,)) for _ in range(6)]
    reads = [{order[i - 1]} if i else set() for i in range(6)]
    assert allocate([[buffer] for buffer in order], reads, {id(order[-1])}, size)[1] == 24


def test_cheap_expressions_are_repeated_and_expensive_ones_stored():
    cheap = pointwise("({0} + {0})", Q)
    expensive = pointwise("v_exp({0})", Q, weight=8)
    root = Buffer(
        pointwise("({0} * {1})", pointwise("({0} * {1})", cheap, expensive), pointwise("-{0}", expensive)), (12,)
    )
    _, stored = find_stored([root])
    assert expensive in stored
    assert cheap not in stored


def test_what_a_larger_value_or_a_product_reads_is_stored():
    one = Input("q", (1,))
    scale = pointwise("v_exp({0})", one, weight=8)
    larger = Buffer(pointwise("({0} * {1})", Q, scale), (12,))
    assert scale in find_stored([larger])[1]
    factor = pointwise("-{0}", Input("q", (1, 3, 4)))
    turned = View(factor, (1, 4, 3), lambda i: (i[0], i[2], i[1]))
    product = Buffer(Product(factor, turned), (1, 3, 3))
    assert factor in find_stored([product])[1]  # through the view as well


def test_a_buffer_is_filled_before_it_is_read():
    total = Buffer(Reduction(Q, [0], "fill(0)", "{0} + {1}"), (1,))
    shared = pointwise("v_exp({0})", total, weight=8)
    names = FreshNames()
    names.stored[id(shared)] = Buffer(shared, (1,))
    first, second = (Buffer(pointwise(form, Q, shared), (12,)) for form in ("({0} * {1})", "({0} + {1})"))
    order = schedule([first, second], names)
    assert order == [total, names.stored[id(shared)], first, second]


@pytest.mark.parametrize(("index", "fused"), [(lambda i: i, True), (lambda i: (i[0], i[2], i[1]), False)])
def test_only_an_expression_of_the_same_elements_is_fused_into_a_product(index, fused):
    """An expression that reads the transpose of a product needs elements of other tiles."""
    factor = Input("q", (1, 3, 3))
    product = Buffer(Product(factor, factor), (1, 3, 3))
    reader = Buffer(pointwise("v_tanh({0})", View(product, (1, 3, 3), index)), (1, 3, 3))
    found = find_epilogues([product, reader], {id(product): 1}, FreshNames())
    assert found == ({id(reader): product} if fused else {})
    assert find_epilogues([product, reader], {id(product): 2}, FreshNames()) == {}


def test_an_expression_without_a_batch_has_the_last_indices():
    assert drop_batch(("0", "m", "n"), (3, 4)) == ("m", "n")
    assert drop_batch(("b", "m", "n"), (2, 3, 4)) == ("b", "m", "n")
