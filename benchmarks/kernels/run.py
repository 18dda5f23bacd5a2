"""What a kernel costs: ``python benchmarks/kernels/run.py [calls host gradient load in_place kept klu]``.

Each line is a ratio of medians in this run against a peer written by hand, with its target; see ../README.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sources

sys.path.insert(0, str(Path(__file__).parents[1]))
from timing import Line, interleaved, line, show

from jaxprim import KernelError, Primitive

ROUNDS = 41


# ------------------------------------------------------------------------------------------------------------- calls
def calls() -> list[Line]:
    """One jitted call, and one of a thousand calls inside a compiled loop, on 16 numbers."""
    by_hand = sources.library()
    made = {
        "ffi_call": sources.axpy_by_hand,
        "cpp": sources.axpy_cpp(),
        "c_function": sources.axpy_pointer(by_hand),
        "numba": sources.axpy_numba(),
    }
    x = jnp.arange(16, dtype=jnp.float32)
    for fn in made.values():
        np.testing.assert_allclose(jax.jit(fn)(x), 0.5 * x + 1)
    forms = {"a jitted call": _alone, "a call in a compiled loop": _in_a_loop}
    lines: list[Line] = []
    for what, form in forms.items():
        times = interleaved({name: form(fn, x) for name, fn in made.items()}, ROUNDS)
        targets = {"cpp": 1.1, "c_function": 1.1, "numba": 1.25}
        lines += [line(f"{name}, {what}", times, name, "ffi_call", target) for name, target in targets.items()]
    return lines


def _alone(fn: Any, x: Any, count: int = 300) -> Callable[[], object]:
    jitted = jax.jit(fn)
    return lambda: [jitted(x).block_until_ready() for _ in range(count)]


def _in_a_loop(fn: Any, x: Any, count: int = 3000) -> Callable[[], object]:
    jitted = jax.jit(lambda x: jax.lax.fori_loop(0, count, lambda _, x: fn(x), x))
    return lambda: jitted(x).block_until_ready()


# -------------------------------------------------------------------------------------------------------------- host
def host() -> list[Line]:
    """One jitted call of a NumPy function, on 16 numbers and on a million."""
    op = Primitive("add_one")
    op.def_host(lambda x: x + np.float32(1))
    op.def_abstract_eval(lambda x: x)
    peer = lambda x: jax.pure_callback(
        lambda x: np.asarray(x) + np.float32(1), jax.ShapeDtypeStruct(x.shape, x.dtype), x
    )
    lines: list[Line] = []
    for size, count in ((16, 100), (1_000_000, 3)):
        x = jnp.ones(size, jnp.float32)
        times = interleaved({"def_host": _alone(op, x, count), "pure_callback": _alone(peer, x, count)}, ROUNDS)
        lines.append(line(f"def_host, a jitted call on {size} numbers", times, "def_host", "pure_callback", 1.1))
    return lines


# ---------------------------------------------------------------------------------------------------------- gradient
def gradient() -> list[Line]:
    """The gradient of RMSNorm in C++, forward and backward."""
    sources.library()
    peers = {"jaxprim": sources.rms_norm(), "custom_vjp": sources.rms_norm_by_hand}
    lines: list[Line] = []
    for shape, count in (((8, 64), 200), ((512, 1024), 5)):
        x = jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)
        w = jnp.ones(shape[1], jnp.float32)
        tasks = {name: _gradient(op, x, w, count) for name, op in peers.items()}
        times = interleaved({name: task for name, (task, _) in tasks.items()}, ROUNDS)
        jax.tree.map(np.testing.assert_allclose, tasks["jaxprim"][1], tasks["custom_vjp"][1])
        lines.append(line(f"RMSNorm gradient, {shape[0]} x {shape[1]}", times, "jaxprim", "custom_vjp", 1.05))
    return lines


def _gradient(op: Any, x: Any, w: Any, count: int) -> tuple[Callable[[], object], Any]:
    fn = jax.jit(jax.grad(lambda x, w: jnp.sum(op(x, w) ** 2), (0, 1)))
    return lambda: [jax.block_until_ready(fn(x, w)) for _ in range(count)], fn(x, w)


# -------------------------------------------------------------------------------------------------------------- load
LOAD = """
import sys, time
sys.path.insert(0, sys.argv[1])
import jax, sources, jaxprim.kernels
kernel = jaxprim.kernels.cpp(sources.AXPY, "(x: f32[n]; a: f32) -> f32[n]")
start = time.perf_counter()
kernel.build()
print(time.perf_counter() - start)
"""


def load() -> list[Line]:
    """Milliseconds to load a kernel that is in the cache, in a fresh process, per 50 ms; the target is absolute."""
    command = [sys.executable, "-c", LOAD, str(Path(__file__).parent)]
    measure = lambda: float(subprocess.check_output(command, env=os.environ))
    measure()  # compiles it
    seconds = sorted(measure() for _ in range(7))
    return [Line("load of a compiled kernel, per 50 ms", "50 ms", seconds[3] / 0.050, 1.0)]


# ----------------------------------------------------------------------------------------------------------- in place
def in_place() -> list[Line]:
    """Fifty updates of 32 MiB in a compiled loop: in place, with a copy each time, and by JAX's own scatter."""
    x, at, v = jnp.zeros(1 << 23, jnp.float32), jnp.array([1, 5, 5], jnp.int32), jnp.ones(3, jnp.float32)
    made = {
        "aliased": sources.add_at({"y": "x"}),
        "not aliased": sources.add_at(None),
        ".at[].add": lambda x, at, v: x.at[at].add(v),
    }
    tasks = {name: _updates(fn, x, at, v) for name, fn in made.items()}
    for task in tasks.values():
        np.testing.assert_array_equal(task()[:8], [0, 50, 0, 0, 0, 100, 0, 0])
    times = interleaved(tasks, 7)
    return [
        line("50 updates of 32 MiB in a loop, in place", times, "aliased", "not aliased", 0.1),
        line("50 updates of 32 MiB in a loop, in place", times, "aliased", ".at[].add", 1.5),
    ]


def _updates(fn: Any, x: Any, at: Any, v: Any) -> Callable[[], Any]:
    loop = jax.jit(lambda x, at, v: jax.lax.fori_loop(0, 50, lambda _, x: fn(x, at, v), x)[:8])
    return lambda: jax.block_until_ready(loop(x, at, v))


# -------------------------------------------------------------------------------------------------------------- kept
def kept() -> list[Line]:
    """A hundred solves with one matrix of 200 x 200, and their gradient: its factors kept, and made in each call."""
    rng = np.random.default_rng(0)
    half = rng.standard_normal((200, 200))
    a, b = jnp.asarray(half @ half.T + 200 * np.eye(200), jnp.float32), jnp.ones(200, jnp.float32)
    tasks = {name: _solves(sources.cholesky_solve(most), a, b) for name, most in (("kept", 16), ("not kept", 0))}
    np.testing.assert_allclose(tasks["kept"](), tasks["not kept"](), rtol=1e-5)
    times = interleaved(tasks, 7)
    return [line("100 solves with one matrix, and their gradient", times, "kept", "not kept", 0.2)]


def klu() -> list[Line]:
    """The same with KLU and a sparse matrix of 900 equations, beside klujax, which factorizes in each call."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "gallery"))
    import klu as example

    with jax.enable_x64(True):
        try:
            example.kernel.build(T="f64")
        except KernelError as error:
            print(f"klu: NOT MEASURED: {error}")
            return []
        rows, columns, values_of = example.grid(30)
        values, v = values_of(jnp.linspace(0.5, 1.5, 2 * 30 * 29)), jnp.ones(900)
        gradients = {
            name: jax.jit(jax.grad(example.steps(solve, rows, columns), (0, 1)))
            for name, solve in example.peers().items()
        }
        tasks = {name: lambda run=run: jax.block_until_ready(run(values, v)) for name, run in gradients.items()}
        first, *others = [task() for task in tasks.values()]
        for other in others:
            jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-30), first, other)
        times = interleaved(tasks, 7)
        what = "100 solves by KLU, and their gradient"
        return [line(what, times, "kept", peer, 0.2) for peer in list(times)[1:]]


def _solves(solve: Any, a: Any, b: Any) -> Callable[[], Any]:
    loop = lambda b: jnp.sum(jax.lax.scan(lambda x, _: (10 * solve(a, x) + b, None), b, None, length=100)[0] ** 2)
    gradient = jax.jit(jax.grad(loop))
    return lambda: jax.block_until_ready(gradient(b))


ALL = {f.__name__: f for f in (calls, host, gradient, load, in_place, kept, klu)}


def main(names: list[str]) -> int:
    print(f"jax {jax.__version__}, python {sys.version.split()[0]}, {jax.default_backend()}")
    lines = [each for name in names or list(ALL) for each in show(ALL[name]())]
    return 0 if all(each.ok for each in lines) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
