"""The networks of `engine.py`: layer sizes, rows and the multiply-adds of one gradient. Without torch and JAX."""

import itertools

CHAINS = 16
SHAPES = {
    "1-16-16-1/82": ((1, 16, 16, 1), 82),
    "8-50-1/691": ((8, 50, 1), 691),
    "8-50-50-1/691": ((8, 50, 50, 1), 691),
    "2-100-100-2/200": ((2, 100, 100, 2), 200),
    "8-50-1/8000": ((8, 50, 1), 8000),
    "8-50-1/45730": ((8, 50, 1), 45730),
    "8-50-1/1000000": ((8, 50, 1), 1_000_000),
}


def multiply_adds(name: str) -> int:
    """Of one gradient of one chain: forward, back to the weights, and back to the inputs of all but the first layer."""
    sizes, rows = SHAPES[name]
    products = [a * b for a, b in itertools.pairwise(sizes)]
    return rows * (3 * sum(products) - products[0])


def repeats(name: str) -> int:
    """Gradients of all chains in one timing of about a fifth of a second at 20 billion multiply-adds a second."""
    return max(2, int(4e9 / CHAINS / multiply_adds(name)))
