"""Compiling the C++ code of a model and calling it, with threads over blocks of chains.

Two libraries work together. `model_library` holds the log density of one model. `sampler_library` holds what runs it:
gradients, trajectories and the transitions of the samplers, for one precision and width of vectors. It knows no model,
so it is compiled once per machine.
"""

import contextlib
import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

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
    "-fno-strict-aliasing",
    "-fno-semantic-interposition",
)
HERE = Path(__file__).parent
SAMPLERS = ("random.h", "driver.h", "hmc.h", "nuts.h", "microcanonical.h")
DEEPEST = 20  # largest tree depth of NUTS in compiled code


class MissingCompiler(Exception):
    """No C++ compiler on this machine."""


def compiler() -> str:
    """The path of a C++ compiler."""
    for name in ("g++", "clang++", "c++"):
        path = shutil.which(name)
        if path:
            return path
    raise MissingCompiler("no C++ compiler (g++ or clang++) was found")


def vector_source(dtype: torch.dtype, width: int) -> str:
    """The C++ source of vectors and their functions."""
    single = dtype == torch.float32
    lines = [
        f"typedef {'float' if single else 'double'} S;",
        f"typedef {'int' if single else 'long long'} I;",
        f"#define W {width}",
        f"#define SINGLE {int(single)}",
        (HERE / "vector.h").read_text(),
    ]
    return "\n".join(lines)


def model_source(code: Code, dtype: torch.dtype, width: int) -> str:
    """The C++ source of a model, with ``width`` chains per vector."""
    return "\n".join(
        [
            vector_source(dtype, width),
            f"#define ROWS {code.block(width * dtype.itemsize)}",
            'extern "C" void model(const V* q, V* grad, V* value, V* B, const S* const* K, const int* const* J) {',
            *(f"const S* const K{i} = K[{i}];" for i in range(len(code.floats))),
            *(f"const int* const J{i} = J[{i}];" for i in range(len(code.integers))),
            code.text,
            "}",
        ]
    )


def sampler_source(dtype: torch.dtype, width: int) -> str:
    """The C++ source of the samplers for vectors of ``width`` chains."""
    return "\n".join([vector_source(dtype, width), *((HERE / name).read_text() for name in SAMPLERS)])


def library(text: str) -> ctypes.CDLL:
    """The compiled source, from the cache on disk if it is there.

    Raises `MissingCompiler` without a compiler, or with the first line of the compiler's message if it fails.
    """
    return compile_source(text, (compiler(), *FLAGS))


@functools.lru_cache(maxsize=64)
def compile_source(text: str, command: tuple[str, ...]) -> ctypes.CDLL:
    """The source compiled by ``command``, a compiler with its flags; as `library`."""
    path = cache.entry(text, command)
    if path.exists():
        with contextlib.suppress(OSError):  # a damaged file is compiled again
            found = ctypes.CDLL(str(path))
            cache.mark_as_used(path)
            return found
    with tempfile.TemporaryDirectory(prefix="posterity-") as folder:
        source_file = Path(folder) / "model.cpp"
        source_file.write_text(text)
        binary = source_file.with_suffix(".so")
        result = subprocess.run([*command, str(source_file), "-o", str(binary)], capture_output=True, text=True)
        if result.returncode:
            raise MissingCompiler(f"the compiler failed: {result.stderr.strip().splitlines()[:1]}")
        cache.keep(binary, path)
        return ctypes.CDLL(str(binary))


def structure(name: str, **fields: Any) -> type[ctypes.Structure]:
    """A C structure whose fields have the types of ``fields``, in their order."""
    return type(name, (ctypes.Structure,), {"_fields_": tuple(fields.items())})


POINTER, LONG = ctypes.c_void_p, ctypes.c_long
Program = structure("Program", model=POINTER, dim=LONG, basis=POINTER, floats=POINTER, integers=POINTER)
Trajectory = structure("Trajectory", step=POINTER, inverse_mass=POINTER, kick=POINTER, drift=POINTER, stages=LONG)


class Compiled:
    """A compiled model for at most ``chains`` chains, on arrays of shape (chain, dim).

    ``threads`` is the number of threads that will be used: full vectors may leave some of them without work.
    """

    def __init__(self, code: Code, dim: int, dtype: torch.dtype, chains: int, threads: int = 1) -> None:
        self.width = machine().lanes(chains, dtype, min(threads, cores()))
        self.library = library(model_source(code, dtype, self.width))
        self.samplers = library(sampler_source(dtype, self.width))
        self.dim, self.dtype, self.chains = dim, dtype, chains
        self.blocks = -(-chains // self.width)
        self.threads = 1
        self.floats = [f.to(dtype).contiguous() for f in code.floats]
        self.integers = [i.to(torch.int32).contiguous() for i in code.integers]
        self._float_pointers = (ctypes.c_void_p * max(1, len(self.floats)))(*(f.data_ptr() for f in self.floats))
        self._integer_pointers = (ctypes.c_void_p * max(1, len(self.integers)))(*(i.data_ptr() for i in self.integers))
        self._program = Program(
            ctypes.cast(self.library.model, ctypes.c_void_p).value,
            dim,
            None,
            ctypes.addressof(self._float_pointers),
            ctypes.addressof(self._integer_pointers),
        )
        self._code_vectors, self._slots = code.size(self.width * dtype.itemsize), 0
        self.use_threads(1)

    def use_threads(self, count: int) -> int:
        """Use at most one thread per block of chains; returns the number of threads in use."""
        self.threads = max(1, min(count, self.blocks))
        self._pool = ThreadPoolExecutor(self.threads - 1) if self.threads > 1 else None
        self._reserve(4)
        return self.threads

    def _reserve(self, slots: int) -> None:
        """Memory of every thread for ``slots`` vectors of length dim beside that of the model."""
        self._slots = slots
        size = (self._code_vectors + (slots + 2) * self.dim + 2) * self.width + 64  # two are for a change of basis
        self._memory = [torch.empty(size, dtype=self.dtype) for _ in range(self.threads)]

    def use_basis(self, basis: Tensor | None) -> None:
        """Positions are from now on coordinates in ``basis``, lower triangular (dim, dim); None for the model's own."""
        self._basis = None if basis is None else basis.to(self.dtype).contiguous()
        self._program.basis = None if self._basis is None else self._basis.data_ptr()

    def gradient(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """The log density (chain,) and its gradient (chain, dim), for at most ``chains`` chains."""
        q = q.contiguous()
        value, grad = q.new_empty(len(q)), torch.empty_like(q)
        self._call("gradient", len(q), (), (q, grad, value))
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
        trajectory = self.trajectory(step, inverse_mass, kick, drift)
        self._call("integrate", len(step), (trajectory,), (q, p, grad, value, steps), flags=(int(path),))

    @staticmethod
    def trajectory(step: Tensor, inverse_mass: Tensor, kick: Tensor, drift: Tensor) -> ctypes.Structure:
        """The steps of a trajectory; the tensors must stay alive while it is in use."""
        return Trajectory(*(t.data_ptr() for t in (step, inverse_mass, kick, drift)), len(drift))

    def transitions(
        self, sampler: str, run: ctypes.Structure, trajectory: ctypes.Structure, state: tuple[Tensor, Tensor, Tensor],
        slots: int,
    ) -> None:  # fmt: skip
        """Transitions of all chains by the C function ``sampler``; ``state`` (q, grad, value) is changed in place.

        ``slots`` is the number of vectors of length dim that the function needs.
        """
        if slots > self._slots:
            self._reserve(slots)
        self._call(sampler, len(state[0]), (trajectory, run), state)

    def _call(
        self, name: str, chains: int, structures: tuple[ctypes.Structure, ...], tensors: tuple[Tensor, ...],
        flags: tuple[int, ...] = (),
    ) -> None:  # fmt: skip
        function = getattr(self.samplers, name)
        before = [ctypes.byref(s) for s in (self._program, *structures)]
        after = [*(ctypes.c_long(flag) for flag in flags), *(ctypes.c_void_p(t.data_ptr()) for t in tensors)]

        def part(begin: int, end: int, memory: int) -> None:
            bounds = (ctypes.c_long(begin), ctypes.c_long(end), ctypes.c_long(chains))
            function(*before, *bounds, *after, ctypes.c_void_p(memory))

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
