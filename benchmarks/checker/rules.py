"""The faults of rules: makers times operations."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp

from benchmarks.checker import makers as f
from benchmarks.checker import varied
from benchmarks.checker.makers import Fault
from benchmarks.checker.operation import Op

Ops = dict[str, Op]
# Of each sort of operation a few: smooth, reduced, broadcast, solved, looped, complex, with integers, in other forms.
SMOOTH = ("sin", "log", "cube", "steep", "tiny_result", "huge_operand", "tanh_custom_jvp", "host_sin")
ARRAYS = ("scale", "matmul", "quadratic", "softmax", "logsumexp", "solve", "recurrence", "take", "affine_map", "fft")
PULLED = ("exp_custom_vjp", "x_sin_custom_vjp", "matvec_custom_vjp")


def _each(
    ops: Ops,
    kind: str,
    mode: str,
    why: str,
    names: Iterable[str],
    maker: Callable[[Op], Op],
    context: str | None = None,
) -> list[Fault]:
    shown = context or ("vjp" if mode == "vjp" else "jvp")
    return [Fault(kind, mode, ops[name], maker(ops[name]), why, shown) for name in names]


def everywhere(ops: Ops) -> list[Fault]:
    """Every element of what a rule returns is wrong."""
    made: list[Fault] = []
    for mode, names in (("jvp", (*SMOOTH, *ARRAYS)), ("vjp", (*SMOOTH[:-2], *ARRAYS, *PULLED))):
        made += _each(ops, "sign", mode, "the sign is wrong", names, f.after(mode, f.negated))
        made += _each(ops, "factor 2", mode, "twice the derivative", names, f.after(mode, f.scaled(1.0)))
    for mode, names in (
        ("jvp", ("sin", "scale", "solve", "complex_product")),
        ("vjp", ("exp", "matmul", "norm", "fft")),
    ):
        made += _each(ops, "factor 1/2", mode, "half the derivative", names, f.after(mode, f.scaled(-0.5)))
        made += _each(ops, "all zero", mode, "no derivative", names, f.after(mode, f.scaled(-1.0)))
        made += _each(ops, "affine 1e-4", mode, "a constant is added", names, f.after(mode, f.shifted(1e-4)))
        made += _each(ops, "scale 0.1 %", mode, "0.1 % too large", names, f.after(mode, f.scaled(1e-3)))
    for name in ("sin", "gaussian", "matvec", "softmax"):
        made += _each(
            ops, "factor 2", "both", "both rules: they agree", [name], f.both(lambda m: f.after(m, f.scaled(1.0)))
        )
        made += _each(
            ops, "scale 0.1 %", "both", "both: they agree", [name], f.both(lambda m: f.after(m, f.scaled(1e-3)))
        )
    return made


def somewhere(ops: Ops) -> list[Fault]:
    """Some elements are wrong, or they stand in the wrong place."""
    made: list[Fault] = []
    for mode, names in (("jvp", ("sin", "matvec", "sort")), ("vjp", ("exp", "matvec", "solve"))):
        last, positive = f.last_element(0.5), f.where_positive(0.5)
        made += _each(ops, "last element", mode, "the last element alone is wrong", names, f.after(mode, last))
        made += _each(ops, "positive only", mode, "wrong where the result is positive", names, f.after(mode, positive))
        made += _each(ops, "clipped", mode, "clipped, and not declared so", names, f.after(mode, f.clipped))
        made += _each(ops, "absolute value", mode, "right for positive directions", names, f.after(mode, jnp.abs))
        made += _each(ops, "rolled", mode, "each element one place on", names, f.after(mode, f.rolled))
    million = ["sin_million"]
    made += _each(ops, "last element", "jvp", "one of 10^6 is wrong", million, f.after("jvp", f.last_element(0.5)))
    made += _each(ops, "last element", "vjp", "one of 10^6 is wrong", million, f.after("vjp", f.last_element(0.5)))
    square = ("matmul", "scale_columns", "outer", "inverse")
    made += _each(ops, "transposed result", "jvp", "the tangent is transposed", square, f.after("jvp", f.transposed))
    made += _each(
        ops, "transposed result", "vjp", "transposed cotangent", ["inverse", "logdet"], f.after("vjp", f.transposed)
    )
    return made


def dtypes(ops: Ops) -> list[Fault]:
    """A part is computed in a narrower dtype."""
    made: list[Fault] = []
    for mode in ("jvp", "vjp"):
        half, single = f.after(mode, f.narrow("float16")), f.after(mode, f.narrow("float32"))
        brain = f.after(mode, f.narrow("bfloat16"))
        made += _each(ops, "through float16", mode, "three digits", ("sin", "matmul", "softmax"), half)
        made += _each(ops, "through bfloat16", mode, "two digits", ("exp", "quadratic"), brain)
        made += _each(
            ops, "through float32", mode, "seven digits", ("sin_float64", "solve_float64", "x_exp_float64"), single
        )
    return made


def residuals(ops: Ops) -> list[Fault]:
    """A rule reads the wrong values."""
    made: list[Fault] = []
    result = ("sin", "log", "cube", "x_sin", "arctan")
    made += _each(ops, "wrong residual", "vjp", "reads y for x", result, f.before("vjp", f.result_for_operand))
    for mode, names in (("jvp", ("matmul", "dot", "complex_product", "lerp")), ("vjp", ("matmul", "outer", "lerp"))):
        made += _each(ops, "swapped operands", mode, "reads one for the other", names, f.before(mode, f.swapped))
    for mode in ("jvp", "vjp"):
        matrices = ("matmul", "matvec", "solve", "complex_matvec", "quadratic")
        # x A x has the same derivative in x for the transposed A, so that only products and solves are wrong.
        made += _each(ops, "transposed matrix", mode, "A for A^T", matrices[:4], f.before(mode, f.first_transposed))
        stale = ("sin", "cube", "quadratic", "solve", "power")
        made += _each(ops, "stale primal", mode, "reads x as it was", stale, f.before(mode, f.perturbed(0.01)))
    for mode, names in (("jvp", ("sin", "scale", "matmul")), ("vjp", ("exp", "scale", "recurrence"))):
        made += _each(
            ops, "wrong primal output", mode, "returns 1 % more", names, f.wrong_value(mode, 0.01), f"{mode} value"
        )
    return made


def complex_numbers(ops: Ops) -> list[Fault]:
    made: list[Fault] = []
    holomorphic = ("complex_product", "complex_exp", "complex_matvec", "complex_float64")
    for mode in ("jvp", "vjp"):
        conjugated = f.before(mode, f.conjugated)
        made += _each(
            ops, "conjugated residual", mode, "conj(x) for x", (*holomorphic, "real_times_complex"), conjugated
        )
        made += _each(ops, "conjugated result", mode, "conjugated", (*holomorphic[:2], "fft"), f.after(mode, jnp.conj))
        real = f.after(mode, f.without_imaginary_part)
        made += _each(ops, "no imaginary part", mode, "the real part alone", (*holomorphic[:2], "conjugate"), real)
    made += _each(
        ops, "conjugated cotangent", "vjp", "conj(ct)", (*holomorphic[:2], "ifft", "phase"), f.conjugated_cotangent
    )
    absent = f.rule("jvp", lambda p, t: t[0] * 1)
    made += _each(ops, "missing conjugate", "jvp", "conj is missing", ["conjugate"], absent)
    made += _each(
        ops, "missing conjugate", "vjp", "conj is missing", ["conjugate"], f.rule("vjp", lambda p, y, ct: (ct * 1,))
    )
    made += _each(
        ops,
        "missing conjugate",
        "vjp",
        "2 z for 2 conj(z)",
        ["abs_squared"],
        f.rule("vjp", lambda p, y, ct: (2 * p[0] * ct,)),
    )
    inverse = f.rule("vjp", lambda p, y, ct: (jnp.fft.ifft(ct),))
    made += _each(ops, "adjoint for transpose", "vjp", "the inverse transform", ["fft"], inverse)
    return made


def terms(ops: Ops) -> list[Fault]:
    """One operand's part is missing or wrong."""
    made: list[Fault] = []
    for name in (
        "scale",
        "lerp",
        "matmul",
        "solve",
        "recurrence",
        "affine_map",
        "ratio_and_product",
        "complex_product",
    ):
        for k in (0, 1):
            why = f"no term of operand {k}"
            made += _each(ops, f"missing term {k}", "jvp", why, [name], f.missing_term(k))
            made += _each(ops, f"missing term {k}", "vjp", why, [name], f.cotangent(k, f.scaled(-1.0)))
    swaps = ("dot", "outer", "matmul")
    made += _each(ops, "swapped cotangents", "vjp", "each for the other", swaps, f.swapped_cotangents)
    made += _each(
        ops, "missing inner derivative", "jvp", "no factor 50", ["steep"], f.after("jvp", f.scaled(1 / 50 - 1))
    )
    made += _each(
        ops, "missing inner derivative", "vjp", "no factor 50", ["steep"], f.after("vjp", f.scaled(1 / 50 - 1))
    )
    return made


def _unshifted(p: Any, t: Any) -> Any:
    """The tangent of the recurrence with the state of the same step, not of the one before."""
    h = varied.recurrence(*p)
    return varied.recurrence(p[0], t[0] * h + t[1] + jnp.zeros_like(h))


def _wrong_sign(p: Any, y: Any, ct: Any) -> Any:
    b_bar = jnp.linalg.solve(p[0].T, ct)
    return b_bar[:, None] * y[None, :], b_bar


def written(ops: Ops) -> list[Fault]:
    """Mistakes that people make in one operation: (kind, mode, operation, why, the wrong rule)."""
    zero = jnp.zeros_like
    rows = [
        ("missing sum", "vjp", "scale", "factor_bar keeps the shape of x", lambda p, y, ct: (ct * p[1], ct * p[0])),
        ("first instead of sum", "vjp", "scale", "only x[0]", lambda p, y, ct: (ct * p[1], (ct * p[0])[0])),
        ("mean instead of sum", "vjp", "scale", "mean over x", lambda p, y, ct: (ct * p[1], jnp.mean(ct * p[0]))),
        ("sum over wrong axis", "vjp", "scale_columns", "axis 1", lambda p, y, ct: (ct * p[1][None], jnp.sum(ct * p[0], 1))),
        ("sum over wrong axis", "vjp", "outer_sum", "axes swapped", lambda p, y, ct: (jnp.sum(ct, 0), jnp.sum(ct, 1))),
        ("mean instead of sum", "vjp", "outer_sum", "means", lambda p, y, ct: (jnp.mean(ct, 1), jnp.mean(ct, 0))),
        ("missing mean", "vjp", "mean_rows", "not divided by n", lambda p, y, ct: (jnp.broadcast_to(ct, p[0].shape),)),
        ("missing mean", "jvp", "mean_rows", "a sum", lambda p, t: jnp.sum(t[0] + zero(p[0]), 0)),
        ("not symmetrised", "vjp", "quadratic", "2 A x", lambda p, y, ct: (ct * jnp.outer(p[1], p[1]), 2 * ct * (p[0] @ p[1]))),
        ("missing centring", "jvp", "softmax", "s t", lambda p, t: ops["softmax"].fn(p[0]) * t[0]),
        ("missing centring", "vjp", "softmax", "y ct", lambda p, y, ct: (y * ct,)),
        ("missing centring", "vjp", "variance", "x for x - mean", lambda p, y, ct: (2 * ct * p[0] / p[0].size,)),
        ("not reversed", "vjp", "cumsum", "cumsum of the cotangent", lambda p, y, ct: (jnp.cumsum(ct),)),
        ("not flipped", "vjp", "convolve", "kernel not flipped for x", lambda p, y, ct: (jnp.convolve(ct, p[1]), ops["convolve"].vjp(p, y, ct)[1])),
        ("missing normalisation", "jvp", "ifft", "no 1/n", lambda p, t: 8 * jnp.fft.ifft(t[0] + zero(p[0]))),
        ("set instead of add", "vjp", "take", "an index that occurs twice", lambda p, y, ct: (zero(p[0]).at[p[1]].set(ct), None)),
        ("off by one", "vjp", "take", "index + 1", lambda p, y, ct: (zero(p[0]).at[(p[1] + 1) % 5].add(ct), None)),
        ("off by one", "jvp", "segment_sum", "index - 1", lambda p, t: jnp.zeros(3, p[0].dtype).at[p[1] - 1].add(t[0] + zero(p[0]))),
        ("off by one", "vjp", "power", "x^n", lambda p, y, ct: (p[1].astype(ct.dtype) * y * ct, None)),
        ("wrong branch", "jvp", "relu", "x < 0", lambda p, t: jnp.where(p[0] < 0, t[0] + zero(p[0]), 0)),
        ("wrong branch", "vjp", "select", "a and b swapped", lambda p, y, ct: (None, jnp.where(p[0], 0, ct), jnp.where(p[0], ct, 0))),
        ("wrong branch", "vjp", "absolute", "no sign", lambda p, y, ct: (ct * 1,)),
        ("wrong branch", "jvp", "huber", "not clipped", lambda p, t: p[0] * t[0]),
        ("inverse permutation", "jvp", "sort", "argsort twice", lambda p, t: (t[0] + zero(p[0]))[jnp.argsort(jnp.argsort(p[0]))]),
        ("minimum", "vjp", "maximum", "argmin", lambda p, y, ct: (zero(p[0]).at[jnp.argmin(p[0])].set(ct),)),
        ("missing result", "vjp", "sin_cos", "the second cotangent is dropped", lambda p, y, ct: (y[1] * ct[0],)),
        ("swapped results", "jvp", "sin_cos", "the tangents are swapped", lambda p, t: (-jnp.sin(p[0]) * t[0], jnp.cos(p[0]) * t[0])),
        ("swapped results", "vjp", "swap", "the cotangents are swapped", lambda p, y, ct: (ct[0] * 1, 2 * p[1] * ct[1])),
        ("not reversed", "vjp", "recurrence", "forward in time", lambda p, y, ct: (ops["recurrence"].vjp(p, y, ct)[0], ops["recurrence"].fn(p[0], ct))),
        ("not shifted", "jvp", "recurrence", "h_k for h_(k-1)", _unshifted),
        ("missing sign", "vjp", "solve", "+ b_bar y^T", _wrong_sign),
        ("ignored parameter", "jvp", "whole_power", "n = 2 always", lambda p, t, *, n=2: 2 * p[0] * t[0]),
        ("ignored parameter", "vjp", "whole_power", "n = 2 always", lambda p, y, ct, *, n=2: (2 * p[0] * ct,)),
    ]  # fmt: skip
    return [
        Fault(kind, mode, ops[name], f.rule(mode, new)(ops[name]), why, mode) for kind, mode, name, why, new in rows
    ]


def second(ops: Ops) -> list[Fault]:
    """Right at first order; the derivative of the rule is wrong."""
    made: list[Fault] = []
    for mode, names in (
        ("jvp", ("sin", "cube", "quadratic", "softmax", "solve", "complex_product", "tanh_custom_jvp")),
        ("vjp", ("exp", "log", "matmul", "softmax", "recurrence", "complex_exp", "x_sin_custom_vjp")),
    ):
        stopped, doubled = f.before(mode, f.second_order(0.0)), f.before(mode, f.second_order(2.0))
        made += _each(ops, "stop_gradient", mode, "no second derivative", names, stopped, f"second {mode}")
        made += _each(
            ops, "second order factor 2", mode, "second derivative doubled", names[:3], doubled, f"second {mode}"
        )
    return made


def all_of(ops: Ops) -> list[Fault]:
    makers = (everywhere, somewhere, dtypes, residuals, complex_numbers, terms, written, second)
    return [fault for make in makers for fault in make(ops)]
