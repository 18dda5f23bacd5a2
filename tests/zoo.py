"""Right primitives: how each is given, and a function that JAX differentiates by itself. Never a derivative.

Every kernel is opaque: a NumPy function behind ``def_host``. A row of tests/test_zoo.py applies one transformation to the
primitive and to its reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import Primitive, Zero

# How an op is given. Each of the first six alone makes every transformation; see tests/excluded.py for what
# mathematics forbids.
BOTH = "jvp+vjp"
VJP = "vjp"
JVP = "jvp"
TRANSPOSE = "transpose"
IMPL = "impl"
OPAQUE_BACKWARD = "jvp+vjp, opaque backward"
TRACEABLE = "impl+jvp+vjp"
OPAQUE_RULES = "jvp+vjp, both opaque"
COLLECTIVE = "impl with a collective"
COMPLEX = "jvp+vjp+transpose, complex"


@dataclass(frozen=True)
class Entry:
    """One op.

    Attributes:
        name: of the entry.
        kind: which rules it is given by, and what is opaque.
        build: makes the op as a function of its operands.
        reference: the same function, as JAX code.
        args: makes example operands (pytrees of arrays).
        diff: the positions of the operands that have tangents.
    """

    name: str
    kind: str
    build: Callable[[], Callable[..., Any]]
    reference: Callable[..., Any]
    args: Callable[[], tuple[Any, ...]]
    diff: tuple[int, ...]

    @property
    def f(self) -> Callable[..., Any]:
        return _built(self.build)

    def __repr__(self) -> str:
        return self.name


@cache
def _built(build: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
    return build()


def like(*avals: Any) -> Any:
    """The result type of a host function whose result is like its first operand."""
    return jax.ShapeDtypeStruct(avals[0].shape, avals[0].dtype)


def host(name: str, fn: Callable[..., Any], abstract_eval: Callable[..., Any] = like, **kwargs: Any) -> Primitive:
    """A primitive with an opaque kernel and no derivative rules yet."""
    made = Primitive(name, **kwargs)
    made.def_host(fn)
    made.def_abstract_eval(abstract_eval)
    return made


def numbers(*shape: int, seed: int = 0, dtype: Any = float) -> np.ndarray:
    """Numbers in [0.4, 1.4), away from where the references are not smooth."""
    values = np.random.default_rng(seed).random(shape) + 0.4
    return jnp.asarray(values, jax.dtypes.canonicalize_dtype(dtype))


# ---------------------------------------------------------------------------- wave: a * sin(x), given in each way
def wave_reference(x: Any, a: Any) -> Any:
    return a * jnp.sin(x)


def wave_args() -> tuple[Any, ...]:
    return numbers(3), numbers(seed=1)


def wave_kernel(x: Any, a: Any) -> Any:
    return a * np.sin(x)


def opaque_waves() -> tuple[Primitive, Primitive]:
    """Opaque sin and cos, each differentiated by means of the other: opaque, and smooth to every order."""
    sin, cos = host("sin", lambda x: np.sin(x)), host("cos", lambda x: np.cos(x))
    sin.def_jvp(lambda primals, tangents: (sin(*primals), cos(*primals) * tangents[0]))
    cos.def_jvp(lambda primals, tangents: (cos(*primals), -sin(*primals) * tangents[0]))
    sin.def_vjp(lambda primals: (sin(*primals), lambda y_bar: cos(*primals) * y_bar))
    cos.def_vjp(lambda primals: (cos(*primals), lambda y_bar: -sin(*primals) * y_bar))
    return sin, cos


def wave_jvp(wave: Primitive, sin: Any, cos: Any) -> Callable[..., Any]:
    def rule(primals: Any, tangents: Any) -> Any:
        (x, a), (x_dot, a_dot) = primals, tangents
        return wave(x, a), a * cos(x) * x_dot + sin(x) * a_dot

    return rule


def wave_vjp(wave: Primitive, sin: Any, cos: Any) -> Callable[..., Any]:
    def rule(primals: Any) -> Any:
        x, a = primals
        return wave(x, a), lambda y_bar: (a * cos(x) * y_bar, (sin(x) * y_bar).sum())

    return rule


def wave_both() -> Primitive:
    wave, (sin, cos) = host("wave", wave_kernel), opaque_waves()
    wave.def_jvp(wave_jvp(wave, sin, cos))
    wave.def_vjp(wave_vjp(wave, sin, cos))
    return wave


def wave_by_vjp() -> Primitive:
    wave = host("wave", wave_kernel)
    wave.def_vjp(wave_vjp(wave, jnp.sin, jnp.cos))
    return wave


def wave_by_jvp() -> Primitive:
    wave = host("wave", wave_kernel)
    wave.def_jvp(wave_jvp(wave, jnp.sin, jnp.cos))
    return wave


def wave_by_impl() -> Primitive:
    wave = Primitive("wave")
    wave.def_impl(wave_reference)
    return wave


def wave_traceable() -> Primitive:
    wave = wave_by_impl()
    wave.def_jvp(wave_jvp(wave, jnp.sin, jnp.cos))
    wave.def_vjp(wave_vjp(wave, jnp.sin, jnp.cos))
    return wave


def wave_backward_kernel(x: Any, a: Any, y_bar: Any) -> Any:
    return a * np.cos(x) * y_bar, (np.sin(x) * y_bar).sum()


def wave_opaque_backward() -> Primitive:
    wave, (sin, cos) = host("wave", wave_kernel), opaque_waves()
    backward = host("wave_backward", wave_backward_kernel, lambda x, a, y_bar: (like(x), like(a)))
    wave.def_jvp(wave_jvp(wave, sin, cos))
    wave.def_vjp(lambda primals: (wave(*primals), lambda y_bar: backward(*primals, y_bar)))
    return wave


def wave_opaque_rules() -> Primitive:
    wave = host("wave", wave_kernel)
    forward = host("wave_forward", lambda x, a, x_dot, a_dot: a * np.cos(x) * x_dot + np.sin(x) * a_dot)
    backward = host("wave_backward", wave_backward_kernel, lambda x, a, y_bar: (like(x), like(a)))
    wave.def_jvp(lambda primals, tangents: (wave(*primals), forward(*primals, *tangents)))
    wave.def_vjp(lambda primals: (wave(*primals), lambda y_bar: backward(*primals, y_bar)))
    return wave


# ------------------------------------------------------------------- shift: linear in x, opaque in both directions
def shift_reference(x: Any, n: Any) -> Any:
    return jnp.cumsum(jnp.roll(x, n))


def shift() -> Primitive:
    """Its transpose is opaque too, and the two are each other's."""
    forth = host("shift", lambda x, n: np.cumsum(np.roll(x, int(n)), dtype=x.dtype))
    back = host("unshift", lambda y, n: np.roll(np.cumsum(y[::-1], dtype=y.dtype)[::-1], -int(n)))
    forth.def_transpose(back, linear=("x",))
    back.def_transpose(forth, linear=("y",))
    return forth


# ------------------------------------------------------------------------------------- several operands and results
def polar_reference(x: Any, y: Any) -> Any:
    return jnp.sqrt(x * x + y * y), jnp.arctan2(y, x)


def polar() -> Primitive:
    op = host("polar", lambda x, y: (np.hypot(x, y), np.arctan2(y, x)), lambda x, y: (like(x), like(y)))

    @op.def_vjp
    def _(primals: Any) -> Any:
        x, y = primals
        r, angle = op(x, y)

        def pullback(cotangents: Any) -> Any:
            r_bar, angle_bar = cotangents
            return r_bar * x / r - angle_bar * y / r**2, r_bar * y / r + angle_bar * x / r**2

        return (r, angle), pullback

    return op


def fma_reference(x: Any, y: Any, z: Any) -> Any:
    return x * y + z


def fma() -> Primitive:
    """One rule per operand, in both modes."""
    op = host("fma", lambda x, y, z: x * y + z)
    op.def_jvp(
        x=lambda x_dot, _, x, y, z: x_dot * y, y=lambda y_dot, _, x, y, z: x * y_dot, z=lambda z_dot, _, x, y, z: z_dot
    )
    op.def_vjp(x=lambda ct, _, x, y, z: ct * y, y=lambda ct, _, x, y, z: x * ct, z=lambda ct, _, x, y, z: ct)
    return op


# ------------------------------------------------------- an integer literal for some operands, however fma is given
def _fma_jvp(primals: Any, tangents: Any, op: Any = fma_reference) -> Any:
    (x, y, z), (x_dot, y_dot, z_dot) = primals, tangents
    return op(x, y, z), x_dot * y + x * y_dot + z_dot


def _fma_cotangents(primals: Any, ct: Any) -> Any:
    x, y, _ = primals
    return ct * y, x * ct, ct


FMA_RULES: dict[str, Callable[[Primitive], Any]] = {
    "impl": lambda op: None,
    "jvp": lambda op: op.def_jvp(partial(_fma_jvp, op=op)),
    "vjp": lambda op: op.def_vjp(lambda primals: (op(*primals), lambda ct: _fma_cotangents(primals, ct))),
    "jvp and vjp": lambda op: (FMA_RULES["jvp"](op), FMA_RULES["vjp"](op)),
    "fwd and bwd": lambda op: op.def_vjp(lambda *primals: (op(*primals), primals), _fma_cotangents),
    "per operand": lambda op: (
        op.def_jvp(x=lambda t, _, x, y, z: t * y, y=lambda t, _, x, y, z: x * t, z=lambda t, *_: t),
        op.def_vjp(x=lambda ct, _, x, y, z: ct * y, y=lambda ct, _, x, y, z: x * ct, z=lambda ct, *_: ct),
    ),
    "partials": lambda op: op.def_partials(lambda _, x, y, z: (y, x, 1)),
    "transpose": lambda op: op.def_transpose(lambda ct, y: (ct * y, ct), linear=("x", "z")),
}
LITERALS = ({0: 2}, {1: 2}, {2: 2})  # which operand is a literal


def _with_literals(f: Callable[..., Any], literals: dict[int, int]) -> Callable[..., Any]:
    def apply(*floats: Any) -> Any:
        given = iter(floats)
        return f(*[literals[i] if i in literals else next(given) for i in range(3)])

    return apply


def fma_with_literals(rules: str, literals: dict[int, int]) -> Callable[..., Any]:
    op = Primitive("fma")
    op.def_impl(fma_reference)
    FMA_RULES[rules](op)
    return _with_literals(op, literals)


def layer_reference(weights: Any, x: Any) -> Any:
    return {"y": weights["w"] * jnp.sin(x) + weights["b"], "squares": (x * x,)}


def layer() -> Primitive:
    """Trees of operands and of results."""
    op = host(
        "layer",
        lambda weights, x: {"y": weights["w"] * np.sin(x) + weights["b"], "squares": (x * x,)},
        lambda weights, x: {"y": like(x), "squares": (like(x),)},
    )

    @op.def_jvp
    def _(primals: Any, tangents: Any) -> Any:
        (p, x), (p_dot, x_dot) = primals, tangents
        y_dot = p_dot["w"] * jnp.sin(x) + p["w"] * jnp.cos(x) * x_dot + p_dot["b"]
        return op(p, x), {"y": y_dot, "squares": (2 * x * x_dot,)}

    return op


# ------------------------------------------------------------------------------------------- integers, complex, params
def peak_reference(x: Any, n: Any) -> Any:
    return jnp.max(x) * n.astype(x.dtype), jnp.argmax(jax.lax.stop_gradient(x)).astype(jnp.int32)


def peak() -> Primitive:
    """An integer operand, and an integer result."""
    op = host(
        "peak",
        lambda x, n: ((np.max(x) * n).astype(x.dtype), np.argmax(x).astype(np.int32)),
        lambda x, n: (jax.ShapeDtypeStruct((), x.dtype), jax.ShapeDtypeStruct((), "int32")),
    )

    @op.def_jvp
    def _(primals: Any, tangents: Any) -> Any:
        (x, n), (x_dot, _) = primals, tangents
        y, i = op(x, n)
        return (y, i), (jnp.take(x_dot, i) * n.astype(x.dtype), None)

    @op.def_vjp
    def _(primals: Any) -> Any:
        x, n = primals
        y, i = op(x, n)
        at_peak = (jnp.arange(x.shape[0], dtype=i.dtype) == i).astype(x.dtype)
        return (y, i), lambda cts: (at_peak * n.astype(x.dtype) * cts[0], None)

    return op


def turn_reference(z: Any, angle: Any) -> Any:
    return z * jnp.exp(jax.lax.complex(jnp.zeros_like(angle), angle))


def turn() -> Primitive:
    """A complex operand and a real one; holomorphic in the first."""
    op = host("turn", lambda z, angle: (z * np.exp(1j * angle)).astype(z.dtype))

    def i_times(y: Any) -> Any:
        return jax.lax.complex(-y.imag, y.real)

    @op.def_jvp
    def _(primals: Any, tangents: Any) -> Any:
        (z, angle), (z_dot, angle_dot) = primals, tangents
        y = op(z, angle)
        y_dot = Zero.zero_if_zero(y)
        if not isinstance(z_dot, Zero):
            y_dot = y_dot + op(z_dot, angle)
        if not isinstance(angle_dot, Zero):
            y_dot = y_dot + i_times(y) * angle_dot.astype(y.dtype)
        return y, y_dot

    @op.def_vjp
    def _(primals: Any) -> Any:
        z, angle = primals
        y = op(z, angle)
        return y, lambda y_bar: (op(y_bar, angle), (i_times(y) * y_bar).real)

    op.def_transpose(lambda y_bar, angle: op(y_bar, angle), linear=("z",))
    return op


def power_reference(x: Any) -> Any:
    return x**3


def power() -> Callable[..., Any]:
    """A static param, changed from one rule to the next."""
    op = host("power", lambda x, *, n: x**n, lambda x, *, n: like(x))
    op.def_jvp(lambda primals, tangents, *, n: (op(*primals, n=n), n * op(*primals, n=n - 1) * tangents[0]))
    op.def_vjp(lambda primals, *, n: (op(*primals, n=n), lambda y_bar: n * op(*primals, n=n - 1) * y_bar))
    return partial(op, n=3)


# --------------------------------------------------------------------------------------------------- ways to batch
def rows_reference(x: Any, a: Any) -> Any:
    return a * jnp.sin(x)


def rows(batching: str) -> Primitive:
    """A kernel that takes leading axes itself."""
    wave, (sin, cos) = host("rows", wave_kernel, lambda x, a: _broadcast(x, a), batching=batching), opaque_waves()
    wave.def_partials(lambda y, x, a: (a * cos(x), sin(x)))
    return wave


def _broadcast(x: Any, a: Any) -> Any:
    return jax.ShapeDtypeStruct(np.broadcast_shapes(x.shape, a.shape), x.dtype)


def rows_by_rule() -> Primitive:
    wave, (sin, cos) = host("rows", wave_kernel, lambda x, a: _broadcast(x, a)), opaque_waves()
    wave.def_partials(lambda y, x, a: (a * cos(x), sin(x)))
    over_rows = host("over_rows", wave_kernel, lambda x, a: _broadcast(x, a))

    @wave.def_batching
    def _(axis: Any, args: Any, dims: Any) -> Any:
        fronts = [x[None] if d is None else jnp.moveaxis(x, d, 0) for x, d in zip(args, dims, strict=True)]
        return over_rows(*fronts), 0

    return wave


# ------------------------------------------------------------------------------- JAX's custom functions inside an op
@jax.custom_jvp
def custom_sin(x: Any) -> Any:
    return jnp.sin(x)


@custom_sin.defjvp
def _(primals: Any, tangents: Any) -> Any:
    return custom_sin(*primals), jnp.cos(*primals) * tangents[0]


@jax.custom_vjp
def custom_cos(x: Any) -> Any:
    return jnp.cos(x)


custom_cos.defvjp(lambda x: (jnp.cos(x), x), lambda x, ct: (-jnp.sin(x) * ct,))


@jax.custom_batching.custom_vmap
def custom_double(x: Any) -> Any:
    return x + x


@custom_double.def_vmap
def _(size: int, batched: Any, x: Any) -> Any:
    return x + x, batched[0]


def around_custom_functions() -> Primitive:
    """In the impl: custom_jvp."""
    op = Primitive("around_custom_functions")
    op.def_impl(lambda x, a: a * custom_sin(x))
    return op


def rules_with_custom_functions() -> Primitive:
    """In the impl custom_vjp and custom_vmap; in the VJP rule custom_jvp."""
    op = Primitive("rules_with_custom_functions")
    op.def_impl(lambda x, a: custom_double(a) * 0.5 * custom_cos(x - np.float32(np.pi / 2)))
    op.def_vjp(wave_vjp(op, custom_sin, jnp.cos))
    return op


# ------------------------------------------------------------------------------------------- a collective in the impl
def centred_impl(x: Any, a: Any) -> Any:
    return a * jnp.sin(x - jax.lax.pmean(x, "i"))


def centred_reference(xs: Any, a: Any) -> Any:
    return jax.vmap(centred_impl, in_axes=(0, None), axis_name="i")(xs, a)


def centred() -> Callable[..., Any]:
    """A collective over an axis that the op is batched along."""
    op = Primitive("centred")
    op.def_impl(centred_impl)
    return lambda xs, a: jax.vmap(op, in_axes=(0, None), axis_name="i")(xs, a)


# --------------------------------------------------------------------------------------------------------- the table
ZOO: tuple[Entry, ...] = (
    Entry("wave_both", BOTH, wave_both, wave_reference, wave_args, (0, 1)),
    Entry("wave_by_vjp", VJP, wave_by_vjp, wave_reference, wave_args, (0, 1)),
    Entry("wave_by_jvp", JVP, wave_by_jvp, wave_reference, wave_args, (0, 1)),
    Entry("wave_by_impl", IMPL, wave_by_impl, wave_reference, wave_args, (0, 1)),
    Entry("wave_traceable", TRACEABLE, wave_traceable, wave_reference, wave_args, (0, 1)),
    Entry("wave_opaque_backward", OPAQUE_BACKWARD, wave_opaque_backward, wave_reference, wave_args, (0, 1)),
    Entry("wave_opaque_rules", OPAQUE_RULES, wave_opaque_rules, wave_reference, wave_args, (0, 1)),
    Entry("shift", TRANSPOSE, shift, shift_reference, lambda: (numbers(3), jnp.asarray(1, "int32")), (0,)),
    Entry("polar", VJP, polar, polar_reference, lambda: (numbers(3), numbers(3, seed=1)), (0, 1)),
    Entry("fma", BOTH, fma, fma_reference, lambda: (numbers(2), numbers(2, seed=1), numbers(2, seed=2)), (0, 1, 2)),
    Entry(
        "layer", JVP, layer, layer_reference, lambda: ({"w": numbers(3), "b": numbers()}, numbers(3, seed=1)), (0, 1)
    ),
    Entry("peak", BOTH, peak, peak_reference, lambda: (numbers(3), jnp.asarray(2, "int32")), (0,)),
    Entry("turn", COMPLEX, turn, turn_reference, lambda: (complex_numbers(3), numbers(3, seed=2)), (0, 1)),
    Entry("power", BOTH, power, power_reference, lambda: (numbers(3),), (0,)),
    Entry("centred", COLLECTIVE, centred, centred_reference, lambda: (numbers(2, 3), numbers(seed=1)), (0, 1)),
)

# With a batching word or rule, or JAX's custom functions inside: under the rows where that makes a difference.
INSIDE: tuple[Entry, ...] = (
    Entry("around_custom_functions", IMPL, around_custom_functions, wave_reference, wave_args, (0, 1)),
    Entry("rules_with_custom_functions", VJP, rules_with_custom_functions, wave_reference, wave_args, (0, 1)),
    Entry(
        "rows_expand",
        BOTH,
        partial(rows, "expand_dims"),
        rows_reference,
        lambda: (numbers(3), numbers(3, seed=1)),
        (0, 1),
    ),
    Entry(
        "rows_elementwise",
        BOTH,
        partial(rows, "elementwise"),
        rows_reference,
        lambda: (numbers(3), numbers(seed=1)),
        (0, 1),
    ),
    Entry("rows_by_rule", BOTH, rows_by_rule, rows_reference, lambda: (numbers(3), numbers(3, seed=1)), (0, 1)),
)


WITH_LITERALS: tuple[Entry, ...] = tuple(
    Entry(
        f"fma by {rules} at {literals}",
        rules,
        partial(fma_with_literals, rules, literals),
        reference,
        lambda: (numbers(3), numbers(3, seed=1)),
        (0, 1),
    )
    for literals in LITERALS
    for reference in [_with_literals(fma_reference, literals)]
    for rules in FMA_RULES
)


def complex_numbers(*shape: int) -> Any:
    return jax.lax.complex(numbers(*shape), numbers(*shape, seed=1))
