"""Where each fault shows, measured without the checker.

A context runs an operation in one way and returns what came out beside the truth. The truth is the plain function, which
JAX differentiates; `differences` holds JAX's derivative of it to float64 differences.

    python -m benchmarks.checker.witness            prove every entry, in minutes; exit code 1 if one is not as it says
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxprim
from benchmarks.checker.corpus import Entry, entries
from benchmarks.checker.makers import Fault
from benchmarks.checker.operation import Op

Pair = tuple[Any, Any]


def direction(rng: np.random.Generator, x: Any) -> Any:
    """A random tangent or cotangent, of the size of `x`; float0 for integers."""
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        return np.zeros(x.shape, jax.dtypes.float0)
    drawn = rng.normal(size=x.shape)
    if jnp.iscomplexobj(x):
        drawn = drawn + 1j * rng.normal(size=x.shape)
    scale = np.max(np.abs(np.asarray(x, np.complex128)), initial=0) or 1.0
    return jnp.asarray(drawn * scale).astype(x.dtype)


def directions(seed: int, tree: Any) -> Any:
    rng = np.random.default_rng(1000 + seed)
    return jax.tree.map(lambda x: direction(rng, jnp.asarray(x)), tree)


def cotangents(seed: int, tree: Any) -> Any:
    """Cotangents of size one."""
    return jax.tree.map(
        lambda d, y: d if d.dtype == jax.dtypes.float0 else d / _largest(y), directions(seed, tree), tree
    )


def _largest(x: Any) -> Any:
    x = jnp.asarray(x)
    size = np.max(np.abs(np.asarray(x, np.complex128)), initial=0) or 1.0
    return jnp.asarray(size, jnp.real(x).dtype)


def relative_error(got: Any, want: Any) -> float:
    """The largest error of any leaf, relative to the largest element of that leaf; inf where it is not a number."""
    errors = [0.0]
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        if getattr(w, "dtype", None) == jax.dtypes.float0:
            continue
        is_, should = (np.asarray(x).astype(np.complex128) for x in (g, w))
        error = np.max(np.abs(is_ - should), initial=0) / (np.max(np.abs(should), initial=0) or 1.0)
        errors.append(float(error) if np.isfinite(error) else float("inf"))
    return max(errors)


# -------------------------------------------------------------------------------------------------------------- contexts
def _pushed(f: Any, x: Any) -> Any:
    return jax.jvp(f, x, directions(0, x))


def _pulled(f: Any, x: Any, like: Any) -> Any:
    return jax.vjp(f, *x)[1](cotangents(0, like))


def _first_tangent(f: Any, x: Any) -> Any:
    return _pushed(lambda first: f(first, *x[1:]), x[:1])[1]


def _first_cotangent(f: Any, x: Any, like: Any) -> Any:
    return _pulled(lambda first: f(first, *x[1:]), x[:1], like)


def _first_result(f: Any, x: Any) -> Any:
    def first(*x: Any) -> Any:
        return jax.tree.leaves(f(*x))[0]

    return _pulled(first, x, first(*x))


def _second_jvp(f: Any, x: Any) -> Any:
    t = directions(0, x)
    return jax.jvp(lambda *x: jax.jvp(f, x, t)[1], x, directions(1, x))[1]


def _second_vjp(f: Any, x: Any, y: Any) -> Any:
    ct = cotangents(0, y)
    return jax.vjp(lambda *x: jax.vjp(f, *x)[1](ct), *x)[1](directions(1, x))


def _twice(f: Any, x: Any) -> Any:
    other = jax.tree.map(lambda a: 0.5 * a, x)
    return jax.jit(jax.grad(lambda a, b: jnp.sum(f(*a) * f(*b)), (0, 1)))(x, other)


def _worst_of(f: Any, x: Any, want: Any, count: int) -> Any:
    return max((f(*x) for _ in range(count)), key=lambda got: relative_error(got, want))


def _after_others(f: Any, x: Any, call: Callable[..., Any]) -> Any:
    call(f, jax.tree.map(lambda a: 2 * a, x))
    return call(f, x)


def _input_kept(f: Any, x: Any) -> Pair:
    before = jax.tree.map(lambda a: np.array(a), x)
    jax.block_until_ready(f(*x))
    return x, before


def _weak(f: Any, x: Any) -> Any:
    return [np.float64(y.weak_type) for y in jax.tree.leaves(jax.eval_shape(f, *x))]


CONTEXTS: dict[str, Callable[[Any, Any, Any], Pair]] = {
    # name: (operation, truth, operands) -> (what came out, what should)
    "value": lambda f, g, x: (f(*x), g(*x)),
    "jvp": lambda f, g, x: (_pushed(f, x)[1], _pushed(g, x)[1]),
    "vjp": lambda f, g, x: (_pulled(f, x, g(*x)), _pulled(g, x, g(*x))),
    "jvp value": lambda f, g, x: (_pushed(f, x)[0], g(*x)),
    "vjp value": lambda f, g, x: (jax.vjp(f, *x)[0], g(*x)),
    "jit value": lambda f, g, x: (jax.jit(f)(*x), g(*x)),
    "jit jvp": lambda f, g, x: (jax.jit(lambda x, t: jax.jvp(f, x, t)[1])(x, directions(0, x)), _pushed(g, x)[1]),
    "jit vjp": lambda f, g, x: (
        jax.jit(lambda x, y: jax.vjp(f, *x)[1](y))(x, cotangents(0, g(*x))),
        _pulled(g, x, g(*x)),
    ),
    "one tangent": lambda f, g, x: (_first_tangent(f, x), _first_tangent(g, x)),
    "one cotangent": lambda f, g, x: (_first_result(f, x), _first_result(g, x)),
    "one gradient": lambda f, g, x: (_first_cotangent(f, x, g(*x)), _first_cotangent(g, x, g(*x))),
    "second jvp": lambda f, g, x: (_second_jvp(f, x), _second_jvp(g, x)),
    "second vjp": lambda f, g, x: (_second_vjp(f, x, g(*x)), _second_vjp(g, x, g(*x))),
    "at zero": lambda f, g, x: CONTEXTS["vjp"](f, g, jax.tree.map(jnp.zeros_like, x)),
    "input": lambda f, g, x: _input_kept(f, x),
    "repeated": lambda f, g, x: (_worst_of(f, x, g(*x), 8), g(*x)),
    "others first": lambda f, g, x: (_after_others(f, x, lambda f, x: f(*x)), g(*x)),
    "others first vjp": lambda f, g, x: (_after_others(f, x, lambda f, x: _pulled(f, x, g(*x))), _pulled(g, x, g(*x))),
    "twice": lambda f, g, x: (_twice(f, x), _twice(g, x)),
    "type": lambda f, g, x: (_weak(f, x), _weak(g, x)),
}


def _stacked(op: Op, axes: Any, count: int) -> tuple[Any, Any, list[Any]]:
    """Operands of `count` elements along `axes`; the ``in_axes``; the operands of each element."""
    drawn = [op.operands("float64", seed) for seed in range(count)]
    per_operand = axes if isinstance(axes, tuple) else (axes,) * len(drawn[0])
    elements = [tuple(drawn[0][k] if axis is None else row[k] for k, axis in enumerate(per_operand)) for row in drawn]
    columns = zip(*elements, strict=True)
    batch = tuple(c[0] if axis is None else jnp.stack(c, axis) for c, axis in zip(columns, per_operand, strict=True))
    return batch, per_operand, elements


def _rule(f: Any, mode: str, y: Any) -> Any:
    """``value``, ``jvp`` or ``vjp`` of `f` as a function of its operands; the direction is the operands or the result."""
    if mode == "value":
        return f
    if mode == "jvp":
        return lambda *x: jax.jvp(f, x, x)[1]
    return lambda *x: jax.vjp(f, *x)[1](jnp.ones_like(y))


def batched(fault_op: Op, right: Op, mode: str, axes: Any = 0, count: int = 3) -> Pair:
    """`vmap` of a wrong operation beside the loop over a right one."""
    batch, in_axes, elements = _stacked(right, axes, count)
    f, g = call(fault_op), truth(right)
    y = g(*elements[0])
    want = [_rule(g, mode, y)(*element) for element in elements]
    got = jax.vmap(_rule(f, mode, y), in_axes)(*batch)
    return got, jax.tree.map(lambda *rows: jnp.stack(rows), *want)


def call(op: Op) -> Any:
    return partial(op.assemble(), **op.params)


def truth(op: Op) -> Any:
    return partial(op.reference, **op.params)


def measure(op: Op, right: Op, context: str, axes: Any = 0, dtype: str = "float64") -> float:
    """The relative error of `op` in a context, in float64 unless the context names a dtype."""
    with jax.enable_x64(True):
        if context.startswith("vmap"):
            mode = context.removeprefix("vmap ")
            return relative_error(
                *(batched(op, right, "value", axes, 1) if mode == "one" else batched(op, right, mode, axes))
            )
        context, _, named = context.partition(" in ")
        operands = right.operands(named or dtype, 0)
        return relative_error(*CONTEXTS[context](call(op), truth(right), operands))


# ---------------------------------------------------------------------------------------------------------------- proofs
def wrong(fault: Fault) -> str | None:
    """None if the fault shows where it says and the right operation is right there; else what was found."""
    error = _error(fault)
    kept = 0.0 if fault.right.surrogate else measure(fault.right, fault.right, fault.context, fault.axes)
    narrow = 0.05 if fault.context.endswith("float16") else 1e-5 if fault.context.endswith("32") else 1e-11
    least = max(fault.size * 1e-2 if fault.size else 1e-9, 5 * narrow if narrow > 1e-10 else 0.0)
    if error > least and kept < narrow * fault.right.slack:
        return None
    return f"wrong by {error:.1e} in the context {fault.context!r}, where the right one is wrong by {kept:.1e}"


def _error(fault: Fault) -> float:
    """inf for a rule that jaxprim refuses wherever it is used: its results have another type than they must have."""
    try:
        return measure(fault.op, fault.right, fault.context, fault.axes)
    except jaxprim.RuleWrong:
        return float("inf")


def differences(op: Op) -> tuple[float, float]:
    """Relative errors of JAX's derivative of the plain function: forward against central differences of fourth order in
    float64, reverse against forward by the identity ``<ct, J t> = <J^T ct, t>``.
    """
    with jax.enable_x64(True):
        x, g = op.operands("float64", 0), truth(op)
        t, h = directions(0, x), 2e-4 / op.slack**0.6
        pushed = jax.jvp(g, x, t)[1]
        forward = relative_error(_difference(g, x, t, h), pushed)
        ct = cotangents(0, g(*x))
        left, right = _pairing(ct, pushed), _pairing(jax.vjp(g, *x)[1](ct), t)
        return forward, abs(left - right) / (abs(left) or 1.0)


def _difference(g: Any, x: Any, t: Any, h: float) -> Any:
    def at(step: float) -> Any:
        return g(*jax.tree.map(lambda a, d: a if d.dtype == jax.dtypes.float0 else a + step * d, x, t))

    near, far = ((at(k * h), at(-k * h)) for k in (1, 2))
    return jax.tree.map(lambda a, b, c, d: (8 * (a - b) - (c - d)) / (12 * h), *near, *far)


def _pairing(a: Any, b: Any) -> float:
    """The real part of the sum of products: JAX's pairing, which does not conjugate."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return sum(float(jnp.real(jnp.sum(u * v))) for u, v in pairs if u.dtype != jax.dtypes.float0)


def right(op: Op) -> str | None:
    """None if the operation is right; else what was found."""
    if not op.differentiable:
        error = measure(op, op, "value")
        return None if error < 1e-12 else f"values are wrong by {error:.1e}"
    contexts = ["value", *(["jvp"] if op.form != "custom_vjp" else []), "vjp"]
    errors = {context: measure(op, op, context) for context in contexts}
    errors["own dtype"] = own_dtype(op) * 1e-11
    limits = dict.fromkeys(errors, 1e-11 * op.slack)
    errors["differences"], errors["pairing"] = differences(op)
    limits["differences"] = limits["pairing"] = 1e-8 * op.slack**0.4
    found = {name: error for name, error in errors.items() if not error <= limits[name]}
    return f"errors {found}" if found else None


def own_dtype(op: Op) -> float:
    """The error of the VJP rule in its own dtype, in hundreds of that dtype's rounding errors."""
    with jax.enable_x64(op.dtype == "float64"):
        x, f = op.operands(op.dtype, 0), call(op)
        ct = cotangents(0, f(*x))
        got = jax.device_get(jax.vjp(f, *x)[1](ct))
    with jax.enable_x64(True):
        want = jax.vjp(truth(op), *_widened(x))[1](_widened(ct))
    return relative_error(got, want) / (100 * float(jnp.finfo(op.dtype).eps))


def _widened(tree: Any) -> Any:
    """The same numbers in float64 or complex128."""

    def widen(a: Any) -> Any:
        if not jnp.issubdtype(a.dtype, jnp.inexact):
            return a
        return jnp.asarray(np.asarray(a).astype(np.complex128 if jnp.iscomplexobj(a) else np.float64))

    return jax.tree.map(widen, tree)


def prove(entry: Entry) -> str | None:
    """None if the entry is what it says; else what was found."""
    return wrong(entry.fault) if entry.fault else right(entry.op)


def main() -> int:
    failed = 0
    for name, entry in entries().items():
        try:
            found = prove(entry)
        except Exception as error:  # noqa: BLE001 a proof that cannot run is a proof that fails
            found = f"{type(error).__name__}: {str(error)[:300]}"
        if found:
            failed += 1
            print(f"{name}: {found}", flush=True)
    print(f"{len(entries()) - failed} of {len(entries())} entries are as they say")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
