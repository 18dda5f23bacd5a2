"""Every operation of the gallery beside what a user would pick instead: ``python benchmarks/gallery.py [rms_norm ...]``.

Each line is a ratio of medians in this run; below 1, the operation of the gallery is faster. Both have the same threads:
``taskset -c 0 python benchmarks/gallery.py`` gives them one. On a busy machine, add ``--cpu-time``, which does not count the
time in which others run. See README.md.
"""

from __future__ import annotations

import ctypes
import importlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from timing import Line, interleaved, line, show

from jaxprim import KernelError

FOLDER = Path(__file__).parents[1] / "examples" / "gallery"
Row = tuple[str, str, Mapping[str, Callable[..., Any]], tuple[Any, ...]]  # what, against, the two functions, operands


def load(name: str) -> ModuleType:
    """A file of the gallery, imported under its own name."""
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))
    return importlib.import_module(name)


def normal(seed: int, *shape: int) -> Any:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def gradient(of: Callable[..., Any], count: int = 1) -> Callable[..., Any]:
    return lambda op: jax.grad(lambda *operands: of(op, *operands), tuple(range(count)))


def value_and_vjp(op: Callable[..., Any]) -> Callable[..., Any]:
    """The value, and the cotangents of all operands for a cotangent that is given, as between two layers."""

    def both(out_bar: Any, *operands: Any) -> Any:
        out, pullback = jax.vjp(op, *operands)
        return out, pullback(out_bar)

    return both


# ------------------------------------------------------------------------------------------------------ the operations
def rms_norm(module: ModuleType) -> Iterator[Row]:
    ops = {"ours": module.rms_norm, "theirs": module.rms_norm.use("impl")}
    square = gradient(lambda op, x, w: jnp.sum(op(x, w) ** 2), 2)
    for n, d in ((512, 1024), (64, 4096)):
        x, w = normal(0, n, d).astype("float32"), jnp.linspace(0.5, 1.5, d, dtype="float32")
        yield f"value, {n} x {d}", "jax.numpy", ops, (x, w)
        yield f"value and gradient, {n} x {d}", "jax.numpy", {k: value_and_vjp(op) for k, op in ops.items()}, (x, x, w)
        yield (
            f"gradient of its sum of squares, {n} x {d}",
            "jax.numpy",
            {k: square(op) for k, op in ops.items()},
            (x, w),
        )


def softmax_cross_entropy(module: ModuleType) -> Iterator[Row]:
    ops = {"ours": module.cross_entropy, "theirs": module.cross_entropy.use("impl")}
    for n, k in ((256, 8192), (1024, 1000)):
        z, label = 4 * normal(0, n, k).astype("float32"), jnp.arange(n, dtype="int32") % k
        mean = {name: lambda z, op=op, label=label: jnp.mean(op(z, label)[0]) for name, op in ops.items()}
        yield f"value, {n} x {k}", "jax.numpy", mean, (z,)
        yield f"value and gradient, {n} x {k}", "jax.numpy", {k: jax.value_and_grad(op) for k, op in mean.items()}, (z,)


def attention(module: ModuleType) -> Iterator[Row]:
    causal = lambda op: lambda q: jnp.sum(op(q) ** 2)
    q = normal(0, 512, 64).astype("float32")
    if jax.default_backend() == "cpu":  # there Pallas interprets its kernels, which is for tests
        ours = lambda q: module.flash.use("impl")(q, q, q, causal=True)[0]
    else:
        ours = lambda q: module.attention(q, q, q, causal=True)
    ops = {"ours": ours, "theirs": lambda q: module.dense(q, q, q)}
    yield "gradient, 512 x 64", "dot_product_attention", {k: jax.grad(causal(op)) for k, op in ops.items()}, (q,)


def bessel(module: ModuleType) -> Iterator[Row]:
    x = jnp.linspace(0.1, 20.0, 1000)
    ops = {"ours": lambda x: module.jv(0.5 + 0 * x, x), "theirs": lambda x: module.jv.use("host")(0.5 + 0 * x, x)}
    yield "jv of 4", "SciPy through Python", ops, (x[:4],)
    yield "jv of 1,000", "SciPy through Python", ops, (x,)


def heat(module: ModuleType) -> Iterator[Row]:
    u, k = module.plate(96)
    ops = {"ours": module.diffuse, "theirs": module.diffuse.use("impl")}
    yield "value, 96 x 96", "jax.numpy", ops, (u, k)
    yield "value and gradient, 96 x 96", "jax.numpy", {name: value_and_vjp(op) for name, op in ops.items()}, (u, u, k)


def nufft(module: ModuleType) -> Iterator[Row]:
    points = jnp.asarray(np.random.default_rng(0).uniform(-3, 3, (1000, 2)))
    energy = gradient(lambda op, x, c: jnp.sum(jnp.abs(op(x, c, modes=(32, 32))) ** 2), 2)
    ops = {"ours": module.nufft1, "theirs": module.direct}
    yield (
        "gradient, 1,000 points",
        "a matrix",
        {k: energy(op) for k, op in ops.items()},
        (points, jnp.ones(1000, complex)),
    )


def sparse_lu(module: ModuleType) -> Iterator[Row]:
    n = 24
    plate = module.Diffusion(n)
    dense = lambda values, rows, columns, b: jnp.linalg.solve(jnp.zeros((n * n,) * 2).at[rows, columns].add(values), b)
    loss = gradient(lambda op, v, b: jnp.sum(op(v, plate.rows, plate.columns, b) ** 2), 2)
    compiled = {k: jax.jit(loss(op)) for k, op in {"ours": module.sparse_lu, "theirs": dense}.items()}
    fresh = {"ours": module.afresh(compiled["ours"]), "theirs": compiled["theirs"]}
    yield "gradient, 576 equations", "a dense solver", fresh, (plate.values(normal(0, n * n)), normal(1, n * n))


def klu(module: ModuleType) -> Iterator[Row]:
    import klujax

    rows, columns, values_of = module.grid(24)
    values, v = values_of(jnp.linspace(0.5, 1.5, 2 * 24 * 23)), normal(1, 24 * 24)
    theirs = lambda values, rows, columns, b: klujax.solve(rows, columns, values, b)
    one = lambda op: lambda values, b: jnp.sum(op(values, rows, columns, b) ** 2)
    for what, loss in (
        ("gradient, 576 equations", one),
        ("gradient of 100 steps", lambda op: module.steps(op, rows, columns)),
    ):
        compiled = {k: jax.jit(jax.grad(loss(op), (0, 1))) for k, op in {"ours": module.klu, "theirs": theirs}.items()}
        yield (
            what,
            "klujax",
            {"ours": forgetting(module.kernel, compiled["ours"]), "theirs": compiled["theirs"]},
            (values, v),
        )


def forgetting(kernel: Any, op: Callable[..., Any]) -> Callable[..., Any]:
    """A function that makes in each call what it keeps."""

    def call(*operands: Any) -> Any:
        kernel.forget()
        return op(*operands)

    return call


def sylvester(module: ModuleType) -> Iterator[Row]:
    operands = tuple(normal(k, 24, 24) + shift * jnp.eye(24) for k, shift in enumerate((8, 8, 0)))
    both = gradient(lambda op, *operands: jnp.sum(op(*operands) ** 2), 3)
    ops = {"ours": module.sylvester, "theirs": module.sylvester.use("impl")}
    yield "gradient, 24 x 24", "n^2 equations, dense", {k: both(op) for k, op in ops.items()}, operands


def ode(module: ModuleType) -> Iterator[Row]:
    solver = module.Solver((0.0, 1.0), "Radau", rtol=1e-8, atol=1e-10)
    y0, p = jnp.array([1.0, 0.0, 0.0]), jnp.array([0.04, 1e4, 3e7])
    ours = jax.jit(jax.grad(lambda p: module.ode(y0, p, equation=module.REACTIONS, solver=solver)[-1, 2]))
    afresh = lambda p: (module.solved.cache_clear(), module.linearized.cache_clear(), ours(p))[2]
    theirs = jax.jit(jax.grad(lambda p: module.in_jax(y0, p, solver.times)[-1, 2]))
    yield "gradient, a stiff equation", "odeint of JAX", {"ours": afresh, "theirs": theirs}, (p,)


def minimize(module: ModuleType) -> Iterator[Row]:
    fitted, unseen = module.made_up(300, 30)
    ops = {"ours": jax.jit(module.ours), "theirs": module.by_jaxopt}  # which jax.jit refuses
    losses = {side: module.validation(solve, fitted, unseen) for side, solve in ops.items()}
    gradients = {side: jax.grad(loss) for side, loss in losses.items()}
    yield "value, 30 weights", "ScipyMinimize", losses, (fitted.penalty,)
    yield "gradient, 30 weights", "ScipyMinimize", gradients | {"ours": jax.jit(gradients["ours"])}, (fitted.penalty,)


def sinkhorn(module: ModuleType) -> Iterator[Row]:
    x, y, a, b = module.clouds(120, 100)
    ways = {"ours": module.transport_cost, "theirs": module.by_ott}
    losses = {side: lambda x, of=of: of(module.distances(x, y), a, b, 0.05) for side, of in ways.items()}
    yield "value, 120 x 100", "ott-jax", losses, (x,)
    yield "gradient, 120 x 100", "ott-jax", {side: jax.grad(loss) for side, loss in losses.items()}, (x,)


def qp(module: ModuleType) -> Iterator[Row]:
    n, m, p = 40, 10, 40
    problem = module.made_up(n, m, p)
    gradient = lambda solve: jax.grad(lambda *problem: jnp.sum(solve(*problem) ** 2), tuple(range(6)))
    ways = {"ours": module.solution, "theirs": module.by_qpax}
    size = f"{n} unknowns"
    yield f"value, {size}", "qpax", {side: jax.jit(solve) for side, solve in ways.items()}, problem
    yield f"gradient, {size}", "qpax", {side: jax.jit(gradient(solve)) for side, solve in ways.items()}, problem
    layer = {"ours": jax.jit(gradient(module.solution)), "theirs": gradient(module.by_cvxpylayers(n, m, p))}
    yield f"gradient, {size}", "cvxpylayers", layer, problem  # which jax.jit refuses


def root(module: ModuleType) -> Iterator[Row]:
    weights, x = module.made_up(50, 20)
    ways = {"ours": module.root, "theirs": module.by_optimistix}
    losses = {side: lambda w, of=of: jnp.sum(module.layer(of, w, x) ** 2) for side, of in ways.items()}
    yield "value, 50 unknowns", "optimistix", losses, (weights,)
    yield "gradient, 50 unknowns", "optimistix", {side: jax.grad(loss) for side, loss in losses.items()}, (weights,)


def neural_ode(module: ModuleType) -> Iterator[Row]:
    weights, y0 = module.made_up(10, 40)
    ways = {"ours": module.evolve, "theirs": module.by_diffrax}
    losses = {
        side: lambda w, of=of: jnp.sum(of(module.network(w), y0, 0.0, 2.0, steps=400) ** 2) for side, of in ways.items()
    }
    yield "value, 400 steps", "diffrax", losses, (weights,)
    yield "gradient, 400 steps", "diffrax", {side: jax.grad(loss) for side, loss in losses.items()}, (weights,)


def orbits(module: ModuleType) -> Iterator[Row]:
    start, mass = module.two_bodies()
    ops = {"ours": module.orbits, "theirs": module.in_jax}
    flows = {side: lambda x, op=op: op(x, mass, end=5.0) for side, op in ops.items()}
    pushed = {side: lambda x, fn=fn: jax.jvp(fn, (x,), (x,))[1] for side, fn in flows.items()}
    columns = {side: lambda x, fn=fn: jax.jacfwd(fn)(x) for side, fn in flows.items()}
    yield "value", "jax.numpy", flows, (start,)
    yield "a JVP", "jax.numpy", pushed, (start,)
    yield "the Jacobian, 12 columns", "jax.numpy", columns, (start,)
    # JAX has no reverse mode through its loop, so the peer is its Jacobian.
    gradients = {"ours": jax.grad(lambda x: flows["ours"](x)[1, 0]), "theirs": lambda x: columns["theirs"](x)[1, 0]}
    yield "a gradient", "jacfwd of jax.numpy", gradients, (start,)


ALL = {
    f.__name__: f
    for f in (
        *(rms_norm, softmax_cross_entropy, attention, bessel, heat, nufft, sparse_lu, klu, sylvester, ode, orbits),
        *(minimize, sinkhorn, qp, root, neural_ode),
    )
}
SOLVERS = {"minimize", "sinkhorn", "qp", "root", "neural_ode"}
IN_DOUBLE = {"bessel", "nufft", "sparse_lu", "klu", "sylvester", "ode", "orbits"} | SOLVERS
FAST = {"rms_norm", "softmax_cross_entropy"}  # kernels that are meant to be as fast as XLA's
# Their rows are compiled as far as they can be: they forget in each call what they kept, or a peer refuses `jax.jit`.
AS_THEY_ARE = {"sparse_lu", "klu", "ode", "minimize", "qp"}


# ------------------------------------------------------------------------------------------------------------ the table
def measure(name: str, clock: Callable[[], float], rounds: int = 41) -> Iterator[Line]:
    """The lines of one file."""
    with jax.enable_x64(name in IN_DOUBLE):
        for what, peer, pair, operands in ALL[name](load(name)):
            compiled = pair if name in AS_THEY_ARE else {side: jax.jit(op) for side, op in pair.items()}
            times = interleaved(_tasks(compiled, operands), rounds, clock=clock)
            target = 1.0 if name in FAST and "sum of squares" not in what else None
            yield line(f"{name}: {what}", times, "ours", peer_of(times, peer), target)
            if name in SOLVERS and all(hasattr(op, "lower") for op in compiled.values()):
                ours, theirs = (_peak(compiled[side], operands) for side in ("ours", "theirs"))
                yield Line(f"{name}: memory in XLA, {what}", peer, ours / theirs, None)


def _peak(compiled: Any, operands: tuple[Any, ...]) -> int:
    """The bytes that a program needs at once. What a host function needs is not among them."""
    stats = compiled.lower(*operands).compile().memory_analysis()
    return stats.temp_size_in_bytes + stats.output_size_in_bytes + stats.argument_size_in_bytes


def peer_of(times: dict[str, Any], peer: str) -> str:
    """The peer's times, under its name."""
    times[peer] = times.pop("theirs")
    return peer


def _tasks(pair: Mapping[str, Callable[..., Any]], operands: tuple[Any, ...], least_s: float = 0.004) -> dict[str, Any]:
    """For each side the same number of calls, which takes long enough to be timed."""
    seconds: list[float] = []
    for op in pair.values():
        jax.block_until_ready(op(*operands))
        for _ in range(3):
            start = time.perf_counter()
            jax.block_until_ready(op(*operands))
            seconds.append(time.perf_counter() - start)
    count = max(1, int(least_s / min(seconds)))

    def calls(op: Callable[..., Any]) -> None:
        for _ in range(count):
            jax.block_until_ready(op(*operands))

    return {side: partial(calls, op) for side, op in pair.items()}


def keep_memory() -> None:
    """Let glibc keep what is freed. Otherwise now one side and now the other pays for new pages in each call."""
    if sys.platform == "linux":
        trim_threshold, mmap_threshold = -1, -3
        for option in (trim_threshold, mmap_threshold):
            ctypes.CDLL(None).mallopt(option, 2**30)


def main(arguments: list[str]) -> int:
    keep_memory()
    names = [word for word in arguments if word != "--cpu-time"]
    clock = time.process_time if len(names) < len(arguments) else time.perf_counter
    print(f"jax {jax.__version__}, {jax.default_backend()}, {clock.__name__}")
    missed = 0
    for name in names or list(ALL):
        try:
            missed += sum(not each.ok for made in measure(name, clock) for each in show([made]))
        except (ImportError, KernelError) as error:  # a package, or the headers of a library, is not there
            print(f"{name}: NOT MEASURED: {error}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
