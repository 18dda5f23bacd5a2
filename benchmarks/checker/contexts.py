"""Faults that only some contexts show: symbolic zeros, zeros of the function, batches, `jit`, other dtypes, kernels, types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.checker import makers as f
from benchmarks.checker.makers import Fault
from benchmarks.checker.operation import Op, normal, with_zero
from jaxprim import Primitive, Zero

Ops = dict[str, Op]


def _when(mode: str, condition: Callable[..., bool], factor: float = 1.5) -> Callable[[Op], Op]:
    """The rule is wrong when ``condition(primals, its tangents or cotangents)`` holds."""

    def make(op: Op) -> Op:
        jvp, vjp = op.jvp, op.vjp

        def wrong(p: Any, directions: Any, tree: Any) -> Any:
            return jax.tree.map(lambda x: x * factor, tree) if condition(p, directions) else tree

        if mode == "jvp":
            return op.but(jvp=lambda p, t: wrong(p, t, jvp(p, t)))
        return op.but(vjp=lambda p, y, ct: wrong(p, ct, vjp(p, y, ct)))

    return make


def _has_zero(p: Any, directions: Any) -> bool:
    return any(isinstance(x, Zero) for x in jax.tree.leaves(directions, is_leaf=lambda x: isinstance(x, Zero)))


def _is_traced(p: Any, directions: Any) -> bool:
    return any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(p))


def _is_concrete(p: Any, directions: Any) -> bool:
    return not _is_traced(p, directions)


def _is(dtype: str) -> Callable[..., bool]:
    return lambda p, directions: any(x.dtype == dtype for x in jax.tree.leaves(p))


def zeros(ops: Ops) -> list[Fault]:
    """Wrong only for a symbolic zero, or for a subset of perturbed operands."""
    forward, backward = _when("jvp", _has_zero), _when("vjp", _has_zero)
    made = [
        Fault("zero tangent", "jvp", ops[n], forward(ops[n]), "wrong if an operand has no tangent", "one tangent")
        for n in ("scale", "matmul", "lerp", "complex_product", "solve")
    ]
    made += [
        Fault("zero cotangent", "vjp", ops[n], backward(ops[n]), "wrong if a result has no cotangent", "one cotangent")
        for n in ("sin_cos", "ratio_and_product", "swap")
    ]
    return made + [
        Fault(
            "one perturbed", "vjp", ops[n], _one_perturbed(ops[n]), "wrong if one operand is constant", "one gradient"
        )
        for n in ("scale", "matmul", "dot")
    ]


def _one_perturbed(op: Op) -> Op:
    def define(made: Primitive) -> None:
        def rule(primals: Any, perturbed: Any) -> Any:
            y = made(*primals)
            factor = 1.0 if all(perturbed) else 1.5
            return y, (primals, y), lambda res, ct: tuple(factor * x for x in op.vjp(*res, ct))

        made.def_vjp(rule)

    return op.but(more=define)


# ----------------------------------------------------------------------------------------------------- zeros of f itself
def _zero_where_zero(mode: str) -> Callable[[Op], Op]:
    """The guard of a division by the result: no derivative where it is 0."""

    def make(op: Op) -> Op:
        def guarded(p: Any, out: Any) -> Any:
            return jnp.where(op.fn(*p) == 0, jnp.zeros_like(out), out)

        if mode == "jvp":
            return op.but(jvp=lambda p, t: guarded(p, op.jvp(p, t)))
        return op.but(vjp=lambda p, y, ct: tuple(guarded(p, x) for x in op.vjp(p, y, ct)))

    return make


def zero_values(ops: Ops) -> list[Fault]:
    """Wrong at f(x) = 0."""
    made: list[Fault] = []
    for name in ("sin", "expm1", "log1p", "sinh", "x_exp"):
        away = ops[name].but(name=f"{name}_away", draw=normal((5,)) if name != "log1p" else ops["log"].draw)
        for mode in ("jvp", "vjp"):
            wrong = _zero_where_zero(mode)
            made.append(Fault("f(x) = 0", mode, ops[name], wrong(ops[name]), "no derivative at f(x) = 0", mode))
        unseen = _zero_where_zero("vjp")(away)
        made.append(
            Fault("f(x) = 0 unseen", "vjp", away, unseen, "as above; the examples have no such point", "at zero")
        )
    prod = ops["prod"].but(name="prod_zero", draw=with_zero(ops["prod"].draw))
    ratio = f.rule("jvp", lambda p, t: jnp.sum(jnp.prod(p[0]) / p[0] * t[0]))
    guarded = f.rule("vjp", lambda p, y, ct: (ct * jnp.where(p[0] == 0, 0, y / jnp.where(p[0] == 0, 1, p[0])),))
    made.append(Fault("f(x) = 0", "jvp", prod, ratio(prod), "y / x is nan", "jvp"))
    made.append(Fault("f(x) = 0", "vjp", prod, guarded(prod), "y / x, with a guard", "vjp"))
    scale = ops["scale"].but(name="scale_zero", draw=with_zero(ops["scale"].draw))
    by_x = f.rule("jvp", lambda p, t: p[0] * p[1] / p[0] * t[0] + p[0] * t[1])
    made.append(Fault("f(x) = 0", "jvp", scale, by_x(scale), "y / x is nan", "jvp"))
    norm = f.rule("vjp", lambda p, y, ct: (jnp.where(jnp.abs(p[0]) < 1e-3, 0, ct * jnp.cos(p[0])),))
    sin = ops["sin"]
    return [*made, Fault("f(x) = 0", "vjp", sin.but(name="sin_near"), norm(sin), "no derivative near 0", "vjp")]


# --------------------------------------------------------------------------------------------------------------- batches
def _wrong_if_batched(p: Any, y: Any) -> Any:
    return jax.tree.map(_identity_unless_batched, p)


@jax.custom_batching.custom_vmap
def _identity_unless_batched(x: Any) -> Any:
    return x


@_identity_unless_batched.def_vmap
def _(axis_size: int, in_batched: list[bool], x: Any) -> tuple[Any, bool]:
    return (x * 1.25 if in_batched[0] else x), in_batched[0]


def batch_rule(op: Op, change: Callable[..., Any]) -> Op:
    """A batch rule that is right but for `change`: ``change(outs, dims, size) -> (outs, dim)``."""

    def rule(axis: Any, args: Any, dims: Any) -> Any:
        return change(jax.vmap(op.fn, dims)(*args), dims, axis.size)

    return op.but(more=lambda made: made.def_batching(rule))


BATCHES: dict[str, tuple[Callable[..., Any], str]] = {
    "reversed batch": (lambda out, dims, size: (out[::-1], 0), "the elements come out in the wrong order"),
    "first for all": (lambda out, dims, size: (jnp.broadcast_to(out[:1], out.shape), 0), "one element for all"),
    "batch 1 %": (lambda out, dims, size: (out * 1.01, 0), "1 % more"),
    "rolled batch": (lambda out, dims, size: (jnp.roll(out, 1, 0), 0), "each element is its neighbour's"),
}
PATTERNS: list[tuple[str, str, Any, Callable[..., bool]]] = [
    ("pattern", "scale", (None, 0), lambda dims, size: dims[0] is None),
    ("pattern", "matvec", (0, None), lambda dims, size: dims[1] is None),
    ("pattern", "outer", (0, 0), lambda dims, size: None not in dims),
    ("pattern 1", "matvec", (1, 0), lambda dims, size: dims[0] == 1),
    ("pattern -1", "scale_columns", (2, None), lambda dims, size: dims[0] == 2),
    ("pattern 1", "sin", (1,), lambda dims, size: dims[0] == 1),
]


def batches(ops: Ops) -> list[Fault]:
    made: list[Fault] = []
    for kind, (change, why) in BATCHES.items():
        made += [
            Fault(kind, "batching", ops[n], batch_rule(ops[n], change), why, "vmap value")
            for n in ("sin", "matvec", "sum_squares")
        ]
    for kind, name, axes, condition in PATTERNS:
        op = batch_rule(ops[name], lambda out, dims, size, c=condition: (out * (1.5 if c(dims, size) else 1), 0))
        made.append(Fault(kind, "batching", ops[name], op, f"wrong for in_axes={axes}", "vmap value", axes=axes))
    for name in ("sin", "softmax"):
        op = batch_rule(ops[name], lambda out, dims, size: (out * (1.5 if size == 1 else 1), 0))
        made.append(Fault("batch of 1", "batching", ops[name], op, "wrong for a batch of one", "vmap one"))
    for word in ("elementwise", "expand_dims", "broadcast_all"):
        op = ops["softmax"].but(more=lambda made, word=word: made.def_batching(word))
        made.append(Fault(f"word {word}", "batching", ops["softmax"], op, "it sums over the batch too", "vmap value"))
    for mode, names in (("jvp", ("sin", "scale", "matmul")), ("vjp", ("log", "scale", "matmul", "x_sin_custom_vjp"))):
        wrong = f.before(mode, _wrong_if_batched)
        made += [
            Fault("batched rule", mode, ops[n], wrong(ops[n]), "the rule is wrong when batched", f"vmap {mode}")
            for n in names
        ]
    return made


# ---------------------------------------------------------------------------------------------------- jit, dtypes, types
def traced(ops: Ops) -> list[Fault]:
    made: list[Fault] = []
    for mode, names in (("jvp", ("sin", "matmul", "tanh_custom_jvp")), ("vjp", ("log", "matmul", "x_sin_custom_vjp"))):
        for n in names:
            staged, eager = _when(mode, _is_traced)(ops[n]), _when(mode, _is_concrete)(ops[n])
            made.append(Fault("jit only", mode, ops[n], staged, "wrong when it is traced", f"jit {mode}"))
            if "custom" not in n:  # the pullback of a custom_vjp and a custom_jvp may always be traced
                made.append(Fault("eager only", mode, ops[n], eager, "wrong when it is not traced", mode))
    op = ops["tanh_custom_jvp"]
    staged = op.but(fn=lambda x: op.fn(x) * (1.5 if _is_traced((x,), None) else 1))
    return [*made, Fault("jit only", "impl", op, staged, "another value when it is traced", "jit value")]


def dtypes(ops: Ops) -> list[Fault]:
    """Wrong in a dtype that is not that of the examples."""
    made: list[Fault] = []
    for dtype in ("float64", "float16", "bfloat16"):
        for mode, name in (("jvp", "sin"), ("vjp", "matmul")):
            op = _when(mode, _is(dtype))(ops[name])
            made.append(Fault(f"{dtype} only", mode, ops[name], op, f"wrong in {dtype}", f"{mode} in {dtype}"))
    for mode, name in (("jvp", "sin_float64"), ("vjp", "x_exp_float64")):
        op = _when(mode, _is("float32"))(ops[name])
        made.append(Fault("float32 only", mode, ops[name], op, "wrong in float32", f"{mode} in float32"))
    return made


def _weak(made: Primitive, op: Op) -> None:
    def abstract_eval(*avals: Any) -> Any:
        out = jax.eval_shape(op.reference, *avals)
        return jax.core.ShapedArray(out.shape, out.dtype, weak_type=True)

    made.def_abstract_eval(abstract_eval)


def types(ops: Ops) -> list[Fault]:
    made = [
        Fault("weak type", "types", ops[n], ops[n].but(more=lambda p, op=ops[n]: _weak(p, op)), "weakly typed", "type")
        for n in ("sin", "scale", "matmul", "sum_squares", "host_sin")
    ]
    kernels: list[tuple[str, str, Callable[[Any], Any]]] = [
        ("kernel 1 %", "1 % more than the impl", f.scaled(0.01)),
        ("kernel last element", "a loop that ends too early", f.last_element(-1.0)),
        ("kernel through float16", "three digits", f.narrow("float16")),
        ("kernel rolled", "each element one place on", f.rolled),
    ]
    for kind, why, change in kernels:
        for n in ("sin", "matvec"):
            op = ops[n].but(
                more=lambda made, op=ops[n], c=change: made.def_kernel(lambda *x: c(op.fn(*x)), platform="cpu")
            )
            made.append(Fault(kind, "impl", ops[n], op, f"the kernel: {why}", "value"))
    return made


def short(ops: Ops) -> list[Fault]:
    """Wrong short definitions, and departures from the derivative that are not declared."""
    hypot, cumsum, matmul = ops["hypot_by_partials"], ops["cumsum_by_transpose"], ops["mean_rows"]
    partials: list[tuple[str, str, Callable[..., Any]]] = [
        ("swapped partials", "each for the other", lambda r, x, y: (y / r, x / r)),
        ("sign of a partial", "the second", lambda r, x, y: (x / r, -y / r)),
        ("missing partial", "the second", lambda r, x, y: (x / r, 0 * y)),
        ("inner derivative", "no factor 1 / r", lambda r, x, y: (x, y)),
    ]
    made = [
        Fault(kind, "both", hypot, hypot.but(more=lambda p, fn=fn: p.def_partials(fn)), why, "jvp")
        for kind, why, fn in partials
    ]
    transposes: list[tuple[str, str, Callable[[Any], Any]]] = [
        ("not reversed", "cumsum of the cotangent", lambda ct: jnp.cumsum(ct)),
        ("transpose factor 2", "twice the transpose", lambda ct: 2 * jnp.cumsum(ct[::-1])[::-1]),
    ]
    for kind, why, fn in transposes:
        op = cumsum.but(more=lambda p, fn=fn: p.def_transpose(fn, linear=("x",)))
        made.append(Fault(kind, "vjp", cumsum, op, why, "vjp"))
    square = ops["cube"].but(name="declared_linear", jvp=None, vjp=None, fn=lambda x: x * x * x)
    linear = square.but(more=lambda p: p.def_transpose(lambda ct: 3 * ct, linear=("x",)))
    made.append(Fault("not linear", "both", square, linear, "declared linear, and is a cube", "jvp"))
    affine = matmul.but(name="declared_linear_affine", jvp=None, vjp=None, fn=lambda x: x + 1, draw=normal((3,)))
    shift = affine.but(more=lambda p: p.def_transpose(lambda ct: 2 * ct, linear=("x",)))
    made.append(Fault("not linear", "vjp", affine, shift, "declared linear, with a wrong transpose", "vjp"))
    surrogates = (ops[n] for n in ("round_straight_through", "sign_straight_through", "clipped_gradient"))
    return [
        *made,
        *(Fault("undeclared surrogate", "vjp", op, op.but(surrogate=None), "not declared", "vjp") for op in surrogates),
    ]


def all_of(ops: Ops) -> list[Fault]:
    makers = (zeros, zero_values, batches, traced, dtypes, types, short)
    return [fault for make in makers for fault in make(ops)]
