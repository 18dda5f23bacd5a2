"""All measurements of the core: ``python benchmarks/run.py [eager tracing cold memory hlo import leak functions]``.

Each line is a ratio of medians in this run against a named peer, with its target. Absolute times depend on the machine
and mean nothing.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import ops
from timing import Line, Times, interleaved, line, show

from jaxprim import Primitive, function

LENGTH = 500


# ------------------------------------------------------------------------------------------------------------- eager
def eager() -> list[Line]:
    """One call on fresh arrays."""
    xs = [jnp.arange(3.0) + i for i in range(200)]
    factor = jnp.float32(2.0)
    made = {name: make() for name, make in ops.PEERS.items()}
    tree = Primitive("tree_scale")
    tree.def_impl(lambda d: {"y": d["x"] * d["factor"]})
    param = Primitive("param_scale")
    param.def_impl(_by_param)
    calls: dict[str, Callable[[Any], Any]] = {
        "lax.mul": lambda x: jax.lax.mul(x, x),
        "pytree": lambda x: tree({"x": x, "factor": factor}),
        "param": lambda x: param(x, factor=2.0),
        **{name: (lambda x, op=op: op(x, factor)) for name, op in made.items() if op is not None},
    }
    times = interleaved({name: (lambda call=call: [call(x) for x in xs]) for name, call in calls.items()})
    lines = [
        line("eager call, fresh arrays", times, "jaxprim", "lax.mul", 0.7),
        line("eager call, pytree operand", times, "pytree", "lax.mul", 1.5),
        line("eager call, static param", times, "param", "lax.mul", 1.5),
    ]
    lines += [line("eager call, fresh arrays", times, "jaxprim", peer, None) for peer in _others(times)]
    return lines + _eager_gradients(made, xs, factor)


def _eager_gradients(made: dict[str, Any], xs: list[Any], factor: Any) -> list[Line]:
    """A plain ``vjp`` of one operation, forward and back; and its pullback alone."""
    peers = ("jaxprim", "jaxprim, closure", "custom_vjp")
    functions = {"lax.mul": lambda x: jax.lax.mul(x, x)}
    functions |= {name: (lambda x, op=made[name]: op(x, factor)) for name in peers}
    y_bar = jnp.ones(3)
    both = {name: (lambda f=f: [jax.vjp(f, x)[1](y_bar) for x in xs]) for name, f in functions.items()}
    pullbacks = {name: jax.vjp(f, xs[0])[1] for name, f in functions.items()}
    back = {name: (lambda pull=pull: [pull(y_bar) for _ in xs]) for name, pull in pullbacks.items()}
    lines: list[Line] = []
    for what, tasks, targets in (("gradient", both, (0.8, 1.0)), ("pullback", back, (1.0, None))):
        times = interleaved(tasks)
        for mine, said in (("jaxprim", "explicit residuals"), ("jaxprim, closure", "closure")):
            lines.append(line(f"eager {what}, {said}", times, mine, "custom_vjp", targets[0]))
            lines.append(line(f"eager {what}, {said}", times, mine, "lax.mul", targets[1]))
    return lines


def _by_param(x: Any, *, factor: float) -> Any:
    return x * factor


def _others(times: dict[str, Times]) -> list[str]:
    return [name for name in ("bare Primitive", "custom_jvp", "custom_vjp", "HiPrim") if name in times]


# ----------------------------------------------------------------------------------------------------------- tracing
def chain(op: Any) -> Any:
    """500 equal operations."""

    def fn(x: Any, factor: Any) -> Any:
        for _ in range(LENGTH):
            x = op(x, factor)
        return jnp.sum(x)

    return fn


def mixed(make: Any) -> Any:
    """100 operations on each of 5 shapes, from 10 primitives."""
    made = [make(f"scale{i}") for i in range(10)]

    def fn(x: Any, factor: Any) -> Any:
        total = 0.0
        for size in range(2, 7):
            y = jnp.broadcast_to(x[..., :1], (size,))
            for i in range(100):
                y = made[i % 10](y, factor)
            total = total + jnp.sum(y)
        return total

    return fn


X, FACTOR, BATCH = np.ones(3, np.float32), np.float32(1.0), np.ones((4, 3), np.float32)
STAGES: dict[str, tuple[Callable[[Any], Any], float, float | None]] = {
    # stage: (what is traced, target against the bare primitive, target against custom_vjp)
    "jvp": (lambda f: jax.jit(lambda x, a: jax.jvp(f, (x, a), (x, a))).trace(X, FACTOR), 1.2, None),
    "grad": (lambda f: jax.jit(jax.grad(f, (0, 1))).trace(X, FACTOR), 1.2, None),
    "vmap": (lambda f: jax.jit(jax.vmap(f, (0, None))).trace(BATCH, FACTOR), 1.5, None),
    "trace and lower": (lambda f: jax.jit(f).trace(X, FACTOR).lower(), 1.2, None),
    "grad, trace and lower": (lambda f: jax.jit(jax.grad(f, (0, 1))).trace(X, FACTOR).lower(), 1.2, None),
}


def tracing() -> list[Line]:
    """Tracing and lowering of many operations, warm: the primitives were traced before."""
    lines: list[Line] = []
    for shape, program in (("chain of 500", lambda make: chain(make())), ("100 ops x 5 shapes x 10", mixed)):
        made = {name: program(make) for name, make in ops.PEERS.items() if make() is not None}
        for stage, (run, target, _) in STAGES.items():
            tasks = {name: (lambda fn=fn, run=run: run(_fresh(fn))) for name, fn in made.items()}
            tasks = {name: task for name, task in tasks.items() if _works(task)}
            times = interleaved(tasks, rounds=7, warm_up=1)
            lines.append(line(f"{stage}, {shape}", times, "jaxprim", "bare Primitive", target))
            if stage == "grad":
                lines.append(line(f"{stage} by closure, {shape}", times, "jaxprim, closure", "custom_vjp", 1.0))
            lines += [line(f"{stage}, {shape}", times, "jaxprim", p, None) for p in _others(times)[1:]]
    return lines


def _fresh(fn: Any) -> Any:
    return lambda *args: fn(*args)  # a new function, which no cache of JAX knows


def _works(task: Callable[[], object]) -> bool:
    try:
        task()
    except Exception:  # noqa: BLE001 a peer without that transformation
        return False
    return True


COLD = """
import sys, time, json
sys.path.insert(0, "benchmarks")
import jax, run, ops
jax.jit(lambda x: x + 1).trace(run.X).lower()
made = run.chain(ops.PEERS[{name!r}]()) if {chain} else run.mixed(ops.PEERS[{name!r}])
start = time.perf_counter()
run.STAGES[{stage!r}][0](made)
print(json.dumps(time.perf_counter() - start))
"""


def cold() -> list[Line]:
    """The same in a fresh process: the primitives were never traced before."""
    lines: list[Line] = []
    for is_chain, shape in ((True, "chain of 500"), (False, "100 ops x 5 shapes x 10")):
        for stage, (_, target, _) in STAGES.items():
            peers = ["jaxprim", "jaxprim, closure", "bare Primitive", "custom_vjp"]
            found: dict[str, list[float]] = {name: [] for name in peers}
            for _ in range(5):
                for name in peers:
                    code = COLD.format(name=name, chain=is_chain, stage=stage)
                    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
                    found[name].append(json.loads(done.stdout) if done.returncode == 0 else float("nan"))
            times = {name: Times(tuple(seconds)) for name, seconds in found.items()}
            lines.append(line(f"cold process: {stage}, {shape}", times, "jaxprim", "bare Primitive", target))
            if stage == "grad":
                what = f"cold process: {stage} by closure, {shape}"
                lines.append(line(what, times, "jaxprim, closure", "custom_vjp", 1.0))
    return lines


# ------------------------------------------------------------------------------------------------------------ memory
def memory() -> list[Line]:
    """Bytes that ``vjp`` holds, and the peak of a jitted gradient, against the equivalent custom_vjp."""
    lines: list[Line] = []
    x, w = jnp.ones((64, 128)), jnp.ones((128, 32))
    pairs = {"elementwise": (_exp_op(), _exp_custom(), (x,)), "matmul": (_mm_op(), _mm_custom(), (x, w))}
    for name, (mine, theirs, args) in pairs.items():
        axes = (0, *[None] * (len(args) - 1))
        forms = {
            "vjp": lambda f: f,
            "vjp of vmap": lambda f, axes=axes: jax.vmap(f, axes),
            "vjp of scan": lambda f: lambda x, *w: jax.lax.scan(lambda c, r: (c, f(r, *w)), 0.0, x)[1],
        }
        for form, wrap in forms.items():
            got, peer = (_held(wrap(op), args) for op in (mine, theirs))
            lines.append(Line(f"residual bytes, {form}, {name}", "custom_vjp", got / peer, 1.0))
            got, peer = (_peak(wrap(op), args) for op in (mine, theirs))
            lines.append(Line(f"peak of jitted grad, {form}, {name}", "custom_vjp", got / peer, 1.0))
    return lines


def _held(fn: Any, args: Any) -> int:
    """Bytes of the arrays that stay alive with a jitted vjp's function, operands included."""
    _, pull = jax.jit(lambda *a: jax.vjp(fn, *a))(*args)
    return sum({id(leaf): leaf.nbytes for leaf in jax.tree.leaves(pull)}.values())


def _peak(fn: Any, args: Any) -> int:
    grad = jax.jit(jax.grad(lambda *a: jnp.sum(fn(*a) ** 2), tuple(range(len(args)))))
    stats = grad.lower(*args).compile().memory_analysis()
    return stats.temp_size_in_bytes + stats.output_size_in_bytes + stats.argument_size_in_bytes


def _exp_op() -> Any:
    op = Primitive("exp2d")
    op.def_impl(jnp.exp)

    @op.def_vjp
    def _(primals):
        y = op(*primals)
        return y, lambda y_bar: (y_bar * y,)

    return op


def _exp_custom() -> Any:
    op = jax.custom_vjp(jnp.exp)

    def forward(x):
        y = jnp.exp(x)
        return y, y

    op.defvjp(forward, lambda y, y_bar: (y_bar * y,))
    return op


def _mm_op() -> Any:
    op = Primitive("mm")
    op.def_impl(lambda x, w: x @ w)

    @op.def_vjp
    def _(primals):
        x, w = primals
        if x.ndim == 1:
            return op(x, w), lambda y_bar: (w @ y_bar, jnp.outer(x, y_bar))
        return op(x, w), lambda y_bar: (y_bar @ w.T, x.T @ y_bar)

    return op


def _mm_custom() -> Any:
    op = jax.custom_vjp(lambda x, w: x @ w)

    def backward(residuals, y_bar):
        x, w = residuals
        return (w @ y_bar, jnp.outer(x, y_bar)) if x.ndim == 1 else (y_bar @ w.T, x.T @ y_bar)

    op.defvjp(lambda x, w: (x @ w, (x, w)), backward)
    return op


# --------------------------------------------------------------------------------------------------------------- HLO
def hlo() -> list[Line]:
    """Instructions of the compiled program of an op given by an impl alone, against the impl written inline."""

    def impl(x: Any, factor: Any) -> Any:
        return jnp.tanh(x * factor) + jnp.sum(x)

    op = Primitive("inline")
    op.def_impl(impl)
    args = (jnp.ones(8), jnp.float32(2.0))
    lines: list[Line] = []
    for what, wrap in {
        "value": lambda f: f,
        "gradient": lambda f: jax.grad(lambda *a: jnp.sum(f(*a)), (0, 1)),
        "value under vmap": lambda f: lambda x, a: jax.vmap(f, (0, None))(jnp.stack([x, x]), a),
    }.items():
        got, peer = (_instructions(wrap(f), args) for f in (op, impl))
        lines.append(Line(f"HLO instructions, {what}, impl only", "inline", got / peer, 1.0))
    return lines


def _instructions(fn: Any, args: Any) -> int:
    text = jax.jit(fn).lower(*args).compile().as_text()
    return sum(" = " in line for line in text.splitlines())


# ------------------------------------------------------------------------------------------------------ import, leaks
IMPORT = "import time, jax; s = time.perf_counter(); import jaxprim; print(time.perf_counter() - s)"


def imports() -> list[Line]:
    """Milliseconds that ``import jaxprim`` adds to ``import jax``; the one absolute figure, as it is the target."""
    with tempfile.TemporaryDirectory() as folder:  # compiled files, as an installed package has them
        env = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        run = partial(subprocess.check_output, [sys.executable, "-c", IMPORT], env=env)
        run()
        seconds = [float(run()) for _ in range(7)]
    return [Line("import jaxprim after import jax, per 50 ms", "50 ms", sorted(seconds)[3] / 0.050, 1.0)]


def leak() -> list[Line]:
    """How many of a thousand primitives that were made, used and dropped are still alive."""

    def alive(use: Callable[[Any], object]) -> float:
        dropped: list[weakref.ref[Any]] = []
        for i in range(1000):
            op = Primitive(f"dropped{i}")
            op.def_impl(lambda x: x * 2.0)
            use(op)
            dropped.append(weakref.ref(op._rules))
        del op
        gc.collect()
        return sum(ref() is not None for ref in dropped) / 1000

    uses = {"applied": lambda op: op(1.0), "differentiated": lambda op: jax.grad(op)(1.0)}
    return [
        Line(f"primitives alive of 1000, {how} eagerly and dropped", "all", alive(use), 0.01)
        for how, use in uses.items()
    ]


def _newton(f: Any, x0: Any) -> Any:
    step = lambda state: (state[0] - f(state[0]) / jax.grad(f)(state[0]), state[1] + 1)
    return jax.lax.while_loop(lambda state: state[1] < 20, step, (x0, 0))[0]


def _root() -> Primitive:
    root = Primitive("root")
    root.def_function("f", lambda f, x0: (x0,))
    root.def_impl(_newton)
    root.def_implicit(lambda y, f, x0: f(y), solve="diagonal")
    return root


def _by_hand(f: Any, x0: Any) -> Any:
    """The root with its derivative by the implicit function theorem, written inline as JAX code."""
    y = jax.lax.stop_gradient(_newton(jax.tree_util.Partial(f), x0))
    return y - f(y) / jax.lax.stop_gradient(jax.grad(f)(y))


def functions() -> list[Line]:
    """Operations with a function operand: traced with a new ``lambda``, and called with one that was hoisted."""
    root, theta, start = _root(), jnp.float32(3.0), jnp.float32(1.0)
    ours = lambda t: root(lambda y: y * y - t, start)
    inline = lambda t: _newton(lambda y: y * y - t, start)
    by_hand = lambda t: _by_hand(lambda y: y * y - t, start)
    traced = lambda fn: lambda: [jax.jit(_fresh(fn)).trace(theta) for _ in range(10)]
    times = interleaved({"jaxprim": traced(ours), "inline": traced(inline)}, rounds=21)
    lines = [line("trace of a root of a lambda", times, "jaxprim", "inline", 1.1)]
    times = interleaved({"jaxprim": traced(jax.grad(ours)), "inline": traced(jax.grad(by_hand))}, rounds=21)
    lines.append(line("trace of its gradient", times, "jaxprim", "inline", 1.2))
    hoisted, plain = function(lambda y: y * y - theta, start), Primitive("plain")
    plain.def_impl(lambda theta, x0: _newton(lambda y: y * y - theta, x0))
    calls = {
        "jaxprim": lambda: root(hoisted, start),
        "operation": lambda: plain(theta, start),
        "lambda": lambda: root(lambda y: y * y - theta, start),
    }
    times = interleaved({name: (lambda call=call: [call() for _ in range(100)]) for name, call in calls.items()})
    lines.append(line("eager call, a hoisted function", times, "jaxprim", "operation", 1.5))
    return [*lines, line("eager call, a new lambda", times, "lambda", "operation", None)]


ALL = {
    "eager": eager,
    "tracing": tracing,
    "cold": cold,
    "memory": memory,
    "hlo": hlo,
    "import": imports,
    "leak": leak,
    "functions": functions,
}


def main(names: list[str]) -> int:
    print(f"jax {jax.__version__}, python {sys.version.split()[0]}, {jax.default_backend()}")
    lines = [line for name in names or list(ALL) for line in show(ALL[name]())]
    return 0 if all(line.ok for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
