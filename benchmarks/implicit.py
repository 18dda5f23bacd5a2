"""Implicit differentiation beside its peers: ``uv run --group peers python benchmarks/implicit.py [refused] [gallery] [time]``.

`refused` applies every transformation to the same problem, solved through each library, and compares the numbers with those
of an unrolled Newton iteration. `gallery` does so for the operations of the gallery and their peers. `time` gives ratios of
medians: one run, peers in turn. A peer that is not installed is left out, and said. See README.md.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gallery
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from timing import Line, interleaved, line, show

from jaxprim import Primitive

N, STEPS, CLOSE = 8, 12, 1e-7
RNG = np.random.default_rng(1)
A = RNG.normal(size=(N, N)) / N**0.5 + 3 * np.eye(N)
T, V = RNG.normal(size=N), RNG.normal(size=N)

Solve = Callable[..., Any]


# --------------------------------------------------------------------------------------------------------- the problem
def residual(y: Any, t: Any, a: Any = A) -> Any:
    """A y + y^3 = t."""
    return a @ y + y**3 - t


def newton(f: Solve, start: Any, steps: int = STEPS) -> Any:
    """A fixed number of steps, which JAX can differentiate too."""
    holomorphic = jnp.iscomplexobj(start)
    step = lambda y: y - jnp.linalg.solve(jax.jacfwd(f, holomorphic=holomorphic)(y), f(y))
    return jax.lax.fori_loop(0, steps, lambda _, y: step(y), start)


def in_numpy(t: Any) -> Any:
    y = np.zeros_like(t)
    for _ in range(STEPS):
        y = y - np.linalg.solve(A + np.diag(3 * y**2), A @ y + y**3 - t)
    return y


def called_back(t: Any) -> Any:
    return jax.pure_callback(lambda t: in_numpy(np.asarray(t)), jax.typeof(t), t, vmap_method="sequential")


def in_dict(y: Any, x: Any) -> Any:
    """The same equation in two dicts: y = {u, v} and x = {t, s}."""
    whole = residual(jnp.concatenate([y["u"], y["v"]]), x["t"] * x["s"])
    return {"u": whole[:3], "v": whole[3:]}


def newton_in_dict(x: Any) -> Any:
    y = newton(lambda y: residual(y, x["t"] * x["s"]), jnp.zeros(N))
    return {"u": y[:3], "v": y[3:]}


# --------------------------------------------------------------------------------------------------------- the libraries
# Each makes, from residual(y, x) and solver(x), a function of x. `like` gives the type of y.
def by_jaxprim(residual: Solve, solver: Solve, like: Solve, host: bool, **options: Any) -> Solve:
    made = Primitive("solved")
    if host:
        made.def_host(in_numpy)
        made.def_abstract_eval(like)
    else:
        made.def_impl(lambda x: solver(x))
    made.def_implicit(lambda y, x: residual(y, x), **options)
    return made


def by_lax(residual: Solve, solver: Solve, like: Solve, host: bool) -> Solve:
    def tangent_solve(g: Solve, b: Any) -> Any:
        flat, back = jax.flatten_util.ravel_pytree(b)
        matrix = jax.jacfwd(lambda v: jax.flatten_util.ravel_pytree(g(back(v)))[0], holomorphic=jnp.iscomplexobj(flat))
        return back(jnp.linalg.solve(matrix(flat), flat))

    zeros = lambda x: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(like, x))
    return lambda x: jax.lax.custom_root(lambda y: residual(y, x), zeros(x), lambda *_: solver(x), tangent_solve)


def by_jaxopt(residual: Solve, solver: Solve, like: Solve, host: bool, dense: bool = True) -> Solve:
    from jaxopt.implicit_diff import custom_root

    def solve(matvec: Solve, b: Any) -> Any:
        flat, back = jax.flatten_util.ravel_pytree(b)
        matrix = jax.jacfwd(
            lambda v: jax.flatten_util.ravel_pytree(matvec(back(v)))[0], holomorphic=jnp.iscomplexobj(flat)
        )
        return back(jnp.linalg.solve(matrix(flat), flat))

    wrapped = custom_root(residual, solve=solve if dense else None)(lambda _, x: solver(x))
    return lambda x: wrapped(None, x)


def by_optimistix(residual: Solve, solver: Solve, like: Solve, host: bool) -> Solve:
    """optimistix finds the root itself: it takes no other solver than its own."""
    import optimistix

    if host:
        raise NotImplementedError("no solver but one of optimistix, in JAX")
    newton = optimistix.Newton(1e-12, 1e-12)
    zeros = lambda x: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(like, x))
    return lambda x: optimistix.root_find(residual, newton, zeros(x), x, max_steps=50).value


def by_hand(residual: Solve, solver: Solve, like: Solve, host: bool) -> Solve:
    """The VJP that one writes: the matrix of the residual, and one solve with its transpose."""
    solved = jax.custom_vjp(lambda x: solver(x))

    def bwd(kept: Any, y_bar: Any) -> Any:
        y, x = kept
        flat, back = jax.flatten_util.ravel_pytree(y)
        of_y = lambda v: jax.flatten_util.ravel_pytree(residual(back(v), x))[0]
        matrix = jax.jacfwd(of_y, holomorphic=jnp.iscomplexobj(flat))(flat)
        u = back(jnp.linalg.solve(matrix.T, jax.flatten_util.ravel_pytree(y_bar)[0]))
        return jax.vjp(lambda x: residual(y, x), x)[1](jax.tree.map(jnp.negative, u))

    def fwd(x: Any) -> Any:
        y = solved(x)
        return y, (y, x)

    solved.defvjp(fwd, bwd)
    return solved


LIBRARIES: dict[str, Callable[..., Solve]] = {
    "jaxprim": by_jaxprim,
    "jaxprim, gmres": partial(by_jaxprim, solve="gmres"),
    "lax.custom_root": by_lax,
    "jaxopt": by_jaxopt,
    "jaxopt, its default": partial(by_jaxopt, dense=False),
    "optimistix": by_optimistix,
    "custom_vjp by hand": by_hand,
}


# --------------------------------------------------------------------------------------------------- the transformations
def of(solve: Solve) -> Solve:
    """A loss, whose derivatives of all orders are not zero."""
    return lambda x: sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(solve(x)))


def hvp(loss: Solve, x: Any, v: Any) -> Any:
    return jax.jvp(jax.grad(loss), (x,), (v,))[1]


def of_a_scan(loss: Solve) -> Solve:
    """Three values in a loop, each of which depends on the one before."""
    step = lambda carry, _: (carry + 0.1 * loss(carry), None)
    return lambda x: jnp.sum(jax.lax.scan(step, x, None, length=3)[0])


TRANSFORMATIONS: dict[str, Callable[[Solve, Any, Any], Any]] = {
    "value": lambda loss, x, v: loss(x),
    "jit": lambda loss, x, v: jax.jit(loss)(x),
    "jvp": lambda loss, x, v: jax.jvp(loss, (x,), (v,))[1],
    "grad": lambda loss, x, v: jax.grad(loss)(x),
    "jit grad": lambda loss, x, v: jax.jit(jax.grad(loss))(x),
    "linearize": lambda loss, x, v: jax.linearize(loss, x)[1](v),
    "hvp": hvp,
    "grad grad": lambda loss, x, v: jax.grad(lambda x: jnp.vdot(jax.grad(loss)(x), v))(x),
    "jvp jvp": lambda loss, x, v: jax.jvp(lambda x: jax.jvp(loss, (x,), (v,))[1], (x,), (v,))[1],
    "vmap": lambda loss, x, v: jax.vmap(loss)(jnp.stack([x, x + v])),
    "vmap grad": lambda loss, x, v: jax.vmap(jax.grad(loss))(jnp.stack([x, x + v])),
    "grad scan": lambda loss, x, v: jax.grad(of_a_scan(loss))(x),
    "checkpoint": lambda loss, x, v: jax.grad(jax.checkpoint(loss))(x),
}


def word(run: Callable[[], Any], want: Any) -> tuple[str, str]:
    """`ok`, how far off, or `refuses` and why."""
    try:
        got = jax.block_until_ready(run())
    except Exception as error:  # noqa: BLE001 what a peer raises is the answer
        return "refuses", f"{type(error).__name__}: {next(filter(None, str(error).splitlines()), '')[:140]}"
    size = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(want)) or 1.0
    off = max(float(jnp.max(jnp.abs(a - b))) / size for a, b in zip(*map(jax.tree.leaves, (got, want)), strict=True))
    return ("ok" if off < CLOSE else f"off {off:.0e}"), ""


Words = dict[str, tuple[str, str]]


def told(name: str, words: Words) -> None:
    """What is right; and what is not, by its reason."""
    right = [what for what, (found, _) in words.items() if found == "ok"]
    print(f"{name}: {len(right)} of {len(words)} ok", flush=True)
    for found, why in dict.fromkeys(words.values()):
        if found != "ok":
            print(
                f"  {', '.join(what for what, each in words.items() if each == (found, why))}: {found} {why}",
                flush=True,
            )


# --------------------------------------------------------------------------------------------------------------- refused
def unrolled(residual: Solve, solver: Solve, like: Solve, host: bool) -> Solve:
    """The truth: JAX differentiates the steps."""
    return (lambda t: newton(lambda y: residual(y, t), jnp.zeros(N))) if host else solver


def problems(make: Callable[..., Solve]) -> dict[str, Callable[[], Any]]:
    """What is asked of a library, by name."""
    solver = lambda t: newton(lambda y: residual(y, t), jnp.zeros(N))
    one = lambda: make(residual, solver, lambda t: t, host=False)
    asked = {
        name: lambda run=run: run(of(one()), jnp.asarray(T), jnp.asarray(V)) for name, run in TRANSFORMATIONS.items()
    }

    def pytrees() -> Any:
        like = lambda x: {"u": x["t"][:3], "v": x["t"][3:]}
        return jax.grad(of(make(in_dict, newton_in_dict, like, host=False)))(
            {"t": jnp.asarray(T), "s": jnp.asarray(0.5)}
        )

    def closure() -> Any:
        """The equation and the solver read theta, which is differentiated."""

        def loss(theta: Any) -> Any:
            f = lambda y, t: theta * residual(y, t) + (theta - 1) * y
            solve = make(f, lambda t: newton(lambda y: f(y, t), jnp.zeros(N)), lambda t: t, host=False)
            return of(solve)(jnp.asarray(T))

        return jax.grad(loss)(jnp.asarray(1.5))

    def complex_() -> Any:
        f = lambda y, t: residual(y, t, A + 0.5j * np.roll(A, 1, 0))
        solve = make(f, lambda t: newton(lambda y: f(y, t), jnp.zeros(N, complex)), lambda t: t, host=False)
        return jax.grad(lambda t: jnp.sum(jnp.abs(solve(t)) ** 2))(jnp.asarray(T + 1j * V))

    host = lambda: jax.grad(of(make(residual, called_back, lambda t: t, host=True)))(jnp.asarray(T))
    return asked | {"host solver": host, "pytrees": pytrees, "closure": closure, "complex": complex_}


def with_function_operand() -> Callable[..., Solve]:
    """An equation that closes over traced values is a function operand."""
    root = gallery.load("root").root
    return lambda residual, solver, like, host: lambda x: root(lambda y: residual(y, x), jnp.zeros(N))


def refused() -> list[Line]:
    truth = {name: run() for name, run in problems(unrolled).items()}
    columns: dict[str, Words] = {}
    for name, make in LIBRARIES.items():
        asked = problems(make)
        if name.startswith("jaxprim"):
            asked["closure"] = problems(with_function_operand())["closure"]
        columns[name] = {what: word(run, truth[what]) for what, run in asked.items()}
        told(name, columns[name])
    anyone = {what for column in columns.values() for what, (found, _) in column.items() if found == "ok"}
    ours = {what for what, (found, _) in columns["jaxprim"].items() if found == "ok"}
    return [Line("what a peer does and jaxprim does not", "all", float(len(anyone - ours)), 0.0)]


# --------------------------------------------------------------------------------------------------------------- gallery
def pairs() -> Iterator[tuple[str, Callable[[Any], tuple[Solve, Solve, str, Any]]]]:
    """Operation, and what makes its loss, the peer's, the peer's name, and an operand."""

    def minimize(module: Any) -> Any:
        fitted, unseen = module.made_up(60, 6)
        ways = (module.validation(solve, fitted, unseen) for solve in (module.ours, module.by_jaxopt))
        return *ways, "ScipyMinimize", fitted.penalty

    def sinkhorn(module: Any) -> Any:
        x, y, a, b = module.clouds(12, 10)
        loss = lambda of: lambda flat: of(module.distances(flat.reshape(x.shape), y), a, b, 0.05)
        return loss(module.transport_cost), loss(module.by_ott), "ott-jax", x.ravel()

    def qp(module: Any, peer: str = "by_qpax") -> Any:
        sizes = 8, 2, 6
        matrix, q, *others = module.made_up(*sizes)
        theirs = module.by_qpax if peer == "by_qpax" else module.by_cvxpylayers(*sizes)
        loss = lambda solve: lambda q: jnp.sum(jnp.sin(solve(matrix, q, *others)))
        return loss(module.solution), loss(theirs), peer.removeprefix("by_"), q

    def root(module: Any) -> Any:
        weights, x = module.made_up(6, 4)
        flat, back = jax.flatten_util.ravel_pytree(weights)
        loss = lambda solve: lambda flat: jnp.sum(module.layer(solve, back(flat), x) ** 2)
        return loss(module.root), loss(module.by_optimistix), "optimistix", flat

    def neural_ode(module: Any) -> Any:
        weights, y0 = module.made_up(4, 6)
        flat, back = jax.flatten_util.ravel_pytree(weights)
        loss = lambda solve: lambda flat: jnp.sum(solve(module.network(back(flat)), y0, 0.0, 1.0, steps=36) ** 2)
        return loss(module.evolve), loss(module.by_diffrax), "diffrax", flat

    yield from (("minimize", minimize), ("sinkhorn", sinkhorn), ("qp", qp))
    yield "qp", partial(qp, peer="by_cvxpylayers")
    yield from (("root", root), ("neural_ode", neural_ode))


def in_gallery() -> list[Line]:
    """Ours is the truth for its peer, and must refuse nothing; the tests of the gallery compare it with differences."""
    for name, make in pairs():
        try:
            ours, theirs, peer, x = make(gallery.load(name))
            v = jnp.asarray(np.random.default_rng(3).normal(size=x.shape)) * 0.1
            asked = {what: partial(run, x=x, v=v) for what, run in TRANSFORMATIONS.items()}
            told(f"{name}, {peer}", {what: word(partial(run, theirs), run(ours)) for what, run in asked.items()})
        except ImportError as error:
            print(f"{name}: NOT MEASURED: {error}")
    return []


# ------------------------------------------------------------------------------------------------------------------ time
def times(n: int = 200, rounds: int = 15) -> Iterator[Line]:
    """Gradients, where the solver takes 12 steps, and where it takes none: then all is the derivative."""
    rng = np.random.default_rng(0)
    a, t = jnp.asarray(rng.normal(size=(n, n)) / n**0.5 + 3 * np.eye(n)), jnp.asarray(rng.normal(size=n))
    f = lambda y, x: x["a"] @ y + y**3 - x["t"]
    solver = lambda x: newton(lambda y: f(y, x), jnp.zeros(n))
    x = {"a": a, "t": t}
    known = jax.block_until_ready(solver(x))
    found = {"solved": solver, "known": lambda x: known + 0 * x["t"]}
    for what, inner in found.items():
        tasks: dict[str, Callable[[], object]] = {}
        for name, make in LIBRARIES.items():
            if what == "known" and name == "optimistix":
                continue  # it must solve
            try:
                op = jax.jit(jax.grad(of(make(f, inner, lambda x: x["t"], host=False))))
                jax.block_until_ready(op(x))
            except ImportError:
                continue
            tasks[name] = partial(lambda op: jax.block_until_ready(op(x)), op)
        measured = interleaved(tasks, rounds, clock=CLOCK)
        for name in tasks:
            if name != "jaxprim":
                target = 1.1 if name == "custom_vjp by hand" else None
                yield line(f"gradient, n = {n}, y {what}", measured, "jaxprim", name, target)


PARTS = {"refused": refused, "gallery": in_gallery, "time": times}
CLOCK = time.process_time if "--cpu-time" in sys.argv else time.perf_counter


def main(arguments: list[str]) -> int:
    jax.config.update("jax_enable_x64", True)
    print(f"jax {jax.__version__}, {jax.default_backend()}")
    chosen = [word for word in arguments if word in PARTS] or list(PARTS)
    missed = sum(not each.ok for name in chosen for made in PARTS[name]() for each in show([made]))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
