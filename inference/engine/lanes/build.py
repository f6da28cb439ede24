"""Compiling the C++ code of a model and calling it, with threads over blocks of chains."""

import contextlib
import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from posterity.inference.engine.lanes import cache
from posterity.inference.engine.lanes.emit import Code
from posterity.inference.engine.lanes.machine import cores, machine

# -O3 takes 50 % longer to compile and gains nothing: the code is vectorised already.
FLAGS = (
    "-O2",
    "-fpeel-loops",
    "-march=native",
    "-std=c++17",
    "-shared",
    "-fPIC",
    "-w",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-semantic-interposition",
)
HERE = Path(__file__).parent


class MissingCompiler(Exception):
    """No C++ compiler on this machine."""


def compiler() -> str:
    """The path of a C++ compiler."""
    for name in ("g++", "clang++", "c++"):
        path = shutil.which(name)
        if path:
            return path
    raise MissingCompiler("no C++ compiler (g++ or clang++) was found")


def source(code: Code, dim: int, dtype: torch.dtype, width: int) -> str:
    """The C++ source of a model of ``dim`` dimensions, with ``width`` chains per vector."""
    single = dtype == torch.float32
    head = [
        f"typedef {'float' if single else 'double'} S;",
        f"typedef {'int' if single else 'long long'} I;",
        f"#define W {width}",
        f"#define D {dim}L",
        f"#define SINGLE {int(single)}",
        (HERE / "vector.h").read_text(),
        "static void model(const V* q, V* grad, V* value, V* B, const S* const* K, const int* const* J) {",
        *(f"const S* const K{i} = K[{i}];" for i in range(len(code.floats))),
        *(f"const int* const J{i} = J[{i}];" for i in range(len(code.integers))),
        code.text,
        "}",
        (HERE / "driver.h").read_text(),
    ]
    return "\n".join(head)


@functools.lru_cache(maxsize=64)
def library(text: str) -> ctypes.CDLL:
    """The compiled source, from the cache on disk if it is there.

    Raises `MissingCompiler` without a compiler, or with the first line of the compiler's message if it fails.
    """
    command = (compiler(), *FLAGS)
    path = cache.entry(text, command)
    if path.exists():
        with contextlib.suppress(OSError):  # a damaged file is compiled again
            return ctypes.CDLL(str(path))
    with tempfile.TemporaryDirectory(prefix="posterity-") as folder:
        source_file = Path(folder) / "model.cpp"
        source_file.write_text(text)
        binary = source_file.with_suffix(".so")
        result = subprocess.run([*command, str(source_file), "-o", str(binary)], capture_output=True, text=True)
        if result.returncode:
            raise MissingCompiler(f"the compiler failed: {result.stderr.strip().splitlines()[:1]}")
        cache.keep(binary, path)
        return ctypes.CDLL(str(binary))


class Compiled:
    """A compiled model for at most ``chains`` chains: `gradient` and `integrate` on arrays of shape (chain, dim)."""

    def __init__(self, code: Code, dim: int, dtype: torch.dtype, chains: int) -> None:
        self.width = machine().lanes(chains, dtype, cores())
        self.library = library(source(code, dim, dtype, self.width))
        self.dim, self.dtype, self.chains = dim, dtype, chains
        self.blocks = -(-chains // self.width)
        self.threads = 1
        self.floats = [f.to(dtype).contiguous() for f in code.floats]
        self.integers = [i.to(torch.int32).contiguous() for i in code.integers]
        self._float_pointers = (ctypes.c_void_p * max(1, len(self.floats)))(*(f.data_ptr() for f in self.floats))
        self._integer_pointers = (ctypes.c_void_p * max(1, len(self.integers)))(*(i.data_ptr() for i in self.integers))
        self._memory_size = (code.vectors + 3 * dim + 2) * self.width + 64
        self.use_threads(1)

    def use_threads(self, count: int) -> int:
        """Use at most one thread per block of chains; returns the number of threads in use."""
        self.threads = max(1, min(count, self.blocks))
        self._memory = [torch.empty(self._memory_size, dtype=self.dtype) for _ in range(self.threads)]
        self._pool = ThreadPoolExecutor(self.threads - 1) if self.threads > 1 else None
        return self.threads

    def gradient(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """The log density (chain,) and its gradient (chain, dim), for at most ``chains`` chains."""
        q = q.contiguous()
        value, grad = q.new_empty(len(q)), torch.empty_like(q)

        def part(begin: int, end: int, memory: int) -> None:
            self.library.gradient(
                ctypes.c_long(begin), ctypes.c_long(end), ctypes.c_long(len(q)), _at(q), _at(grad), _at(value),
                ctypes.c_void_p(memory), self._float_pointers, self._integer_pointers,
            )  # fmt: skip

        self._over_threads(part, len(q))
        return value, grad

    def integrate(
        self, q: Tensor, p: Tensor, grad: Tensor, value: Tensor, step: Tensor, steps: Tensor, inverse_mass: Tensor,
        kick: Tensor, drift: Tensor, path: bool = False,
    ) -> None:  # fmt: skip
        """Integrate trajectories of all chains; ``q``, ``p``, ``grad`` and ``value`` are changed in place.

        Args:
            q: positions (chain, dim).
            p: momenta (chain, dim).
            grad: gradients of the log density (chain, dim).
            value: log densities (chain,).
            step: step size of each chain (chain,).
            steps: number of steps of each chain (chain,).
            inverse_mass: diagonal of the inverse mass matrix (dim,).
            kick: fractions of the step size for the momenta (stages + 1,).
            drift: fractions of the step size for the positions (stages,).
            path: store the state after every step. The state tensors then have the shape (1 + steps, chain, ...), and
                their first slice is the start.
        """
        chains = len(step)

        def part(begin: int, end: int, memory: int) -> None:
            self.library.integrate(
                ctypes.c_long(begin), ctypes.c_long(end), ctypes.c_long(chains), ctypes.c_long(path),
                _at(q), _at(p), _at(grad), _at(value), _at(step), _at(steps), _at(inverse_mass), _at(kick), _at(drift),
                ctypes.c_long(len(drift)),
                ctypes.c_void_p(memory), self._float_pointers, self._integer_pointers,
            )  # fmt: skip

        self._over_threads(part, chains)

    def _over_threads(self, part: Callable[[int, int, int], None], chains: int) -> None:
        blocks = -(-chains // self.width)
        bounds = [blocks * t // self.threads for t in range(self.threads + 1)]
        starts = [-(-m.data_ptr() // 64) * 64 for m in self._memory]
        waiting = [
            self._pool.submit(part, bounds[t], bounds[t + 1], starts[t]) for t in range(1, self.threads) if self._pool
        ]
        part(bounds[0], bounds[1], starts[0])
        for future in waiting:
            future.result()


def _at(tensor: Tensor) -> ctypes.c_void_p:
    """The address of the tensor's memory."""
    return ctypes.c_void_p(tensor.data_ptr())
