"""A layer wraps a function of arrays and returns a function of the same arrays, so layers compose in any order: a nest.

A function takes arrays of real or complex numbers and returns a list of such arrays. No layer knows the function inside. Loops,
branches and checkpoints come from `checking.contexts`; layers make the results depend on all operands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from jaxprim.checking import contexts
from jaxprim.checking.precision import of_some

Function = Callable[..., list[Any]]
# A layer takes a function and a number, from which it may choose operands, an axis or a policy.
Layer = Callable[[Function, int], Function]

# Seeds of different numbers for different purposes, so that nothing cancels by chance.
TANGENT, COTANGENT = 0.0, 1.0


# ------------------------------------------------------------------------------------------------- fixed numbers
def numbers(like: Any, seed: float) -> Any:
    """A fixed array with the type of another one; all its elements differ."""
    values = np.cos(np.arange(like.size, dtype=float).reshape(like.shape) + seed)
    return jnp.asarray(values + 0.5j * values**2 if jnp.iscomplexobj(like) else values, like.dtype)


def loss(outs: Sequence[Any]) -> Any:
    """A real number that depends nonlinearly on all outputs."""
    total = jnp.zeros((), "float32")
    for out in outs:
        part = jnp.sum((numbers(out, COTANGENT) * out + 0.5 * out * jnp.conj(out)).real)
        total = total.astype(part.dtype) + part
    return total


def choose(count: int, choice: int) -> tuple[int, ...]:
    """Positions of at least one of ``count`` operands, from the binary digits of ``choice``."""
    some = tuple(i for i in range(count) if choice >> i & 1)
    return some or tuple(range(count))


def _next(function: Function, xs: Sequence[Any]) -> tuple[Any, ...]:
    """New operands of the same types that depend on the results of the function."""
    value = jnp.tanh(loss(function(*xs)))
    return tuple(x * 0.5 + 0.05 * value.astype(x.dtype) for x in xs)


# ------------------------------------------------------------------------------------------------------ derivatives
def jvp(function: Function, choice: int) -> Function:
    """Value and tangent, with some operands perturbed."""

    def run(*xs: Any) -> list[Any]:
        some = choose(len(xs), choice)
        primals = tuple(xs[i] for i in some)
        out, dots = jax.jvp(of_some(function, xs, some), primals, tuple(numbers(x, TANGENT) for x in primals))
        return [*out, *dots]

    return run


def vjp(function: Function, choice: int) -> Function:
    """The cotangents of some operands."""

    def run(*xs: Any) -> list[Any]:
        some = choose(len(xs), choice)
        out, pull = jax.vjp(of_some(function, xs, some), *[xs[i] for i in some])
        return list(pull([numbers(leaf, COTANGENT) for leaf in out]))

    return run


def grad(function: Function, choice: int) -> Function:
    """The gradient of a loss."""

    def run(*xs: Any) -> list[Any]:
        some = choose(len(xs), choice)
        partial = of_some(function, xs, some)
        gradient = jax.grad(lambda *given: loss(partial(*given)), argnums=tuple(range(len(some))))
        return list(gradient(*[xs[i] for i in some]))

    return run


def linearize(function: Function, choice: int) -> Function:
    """Linearize and push, twice with the same residuals."""

    def run(*xs: Any) -> list[Any]:
        _, push = jax.linearize(function, *xs)
        return [*push(*[numbers(x, TANGENT) for x in xs]), *push(*[numbers(x, 2.0 + choice) for x in xs])]

    return run


def linear_transpose(function: Function, _: int) -> Function:
    """The transpose of the linearized function."""

    def run(*xs: Any) -> list[Any]:
        out, push = jax.linearize(function, *xs)
        return list(jax.linear_transpose(push, *xs)([numbers(leaf, COTANGENT) for leaf in out]))

    return run


def jacobian(function: Function, choice: int) -> Function:
    """The Jacobian with respect to one operand, in forward or reverse mode."""

    def run(*xs: Any) -> list[Any]:
        one = (choice // 2) % len(xs)
        if jnp.iscomplexobj(xs[one]):
            return vjp(function, 1 << one)(*xs)
        real = lambda x: [part for out in of_some(function, xs, (one,))(x) for part in _parts(out)]
        return (jax.jacrev if choice % 2 else jax.jacfwd)(real)(xs[one])

    return run


def _parts(out: Any) -> list[Any]:
    return [out.real, out.imag] if jnp.iscomplexobj(out) else [out]


def stop_gradient(function: Function, choice: int) -> Function:
    """One operand is a constant to derivatives."""

    def run(*xs: Any) -> list[Any]:
        fixed = choice % len(xs)
        return function(*[jax.lax.stop_gradient(x) if i == fixed else x for i, x in enumerate(xs)])

    return run


def custom_vjp(function: Function, _: int) -> Function:
    """Inside a ``jax.custom_vjp`` function."""

    @jax.custom_vjp
    def around(*xs: Any) -> list[Any]:
        return function(*xs)

    around.defvjp(lambda *xs: jax.vjp(function, *xs), lambda pull, cts: pull(cts))
    return around


def custom_jvp(function: Function, _: int) -> Function:
    """Inside a ``jax.custom_jvp`` function."""

    @jax.custom_jvp
    def around(*xs: Any) -> list[Any]:
        return function(*xs)

    @around.defjvp
    def _rule(primals: Any, tangents: Any) -> Any:
        return jax.jvp(function, primals, tangents)

    return around


# ---------------------------------------------------------------------------------------------- compiling and memory
def jit(function: Function, _: int) -> Function:
    """Compiled."""
    return jax.jit(function)


def checkpoint(function: Function, choice: int) -> Function:
    """Recomputed, under a policy."""
    return contexts.checkpoint(function, (None, "dots_saveable", "everything_saveable", "nothing_saveable")[choice % 4])


def shard_map(function: Function, _: int) -> Function:
    """On a mesh of one device."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("devices",))
    spec = PartitionSpec()
    return lambda *xs: jax.shard_map(function, mesh=mesh, in_specs=tuple(spec for _ in xs), out_specs=spec)(*xs)


# ----------------------------------------------------------------------------------------------------------- batches
def _rows(x: Any, axis: int) -> Any:
    return jnp.stack([x, x * 1.1], axis)


def vmap(function: Function, choice: int) -> Function:
    """Over some operands, along their first or last axis."""

    def run(*xs: Any) -> list[Any]:
        some, axis = choose(len(xs), choice // 2), -(choice % 2)
        axes = tuple(axis if i in some else None for i in range(len(xs)))
        rows = [_rows(x, axis) if i in some else x for i, x in enumerate(xs)]
        return jax.vmap(function, in_axes=axes, out_axes=-1 if choice % 3 == 1 else 0)(*rows)

    return run


def lax_map(function: Function, _: int) -> Function:
    """Over all operands, by ``jax.lax.map``."""
    return lambda *xs: jax.lax.map(lambda row: function(*row), tuple(_rows(x, 0) for x in xs))


# ------------------------------------------------------------------------------------------------------ control flow
def scan(function: Function, choice: int) -> Function:
    """In the carry of a scan, in its stacked outputs, or closed over."""

    def run(*xs: Any) -> list[Any]:
        if choice % 3 == 2:
            body = lambda total, step: (total * 0.5 + step.astype(total.dtype) * loss(function(*xs)), None)
            start = jax.eval_shape(lambda: loss(function(*xs)))
            return [jax.lax.scan(body, jnp.zeros((), start.dtype), jnp.arange(3.0))[0]]
        if choice % 3 == 0:
            return list(contexts.repeat_scan(lambda carry: _next(function, carry), tuple(xs), 2))
        carry, stacked = jax.lax.scan(lambda xs, _: (_next(function, xs), function(*xs)), tuple(xs), None, length=2)
        return [*carry, *stacked]

    return run


def while_loop(function: Function, choice: int) -> Function:
    """In the body of a loop with a number of steps that JAX does not know."""
    return lambda *xs: list(contexts.repeat_while(lambda xs: _next(function, xs), tuple(xs), 1 + choice % 2))


def fori_loop(function: Function, choice: int) -> Function:
    """In the body of a loop of a known number of steps."""
    return lambda *xs: list(contexts.repeat_fori(lambda xs: _next(function, xs), tuple(xs), 1 + choice % 2))


def cond(function: Function, choice: int) -> Function:
    """In one or both branches; the predicate is traced."""
    other = lambda *xs: [2 * out for out in function(*xs)]
    predicate = lambda *xs: (jnp.sum(xs[0].real) > -1e9) == bool(choice % 2)
    return contexts.cond(function, other, predicate)


def switch(function: Function, choice: int) -> Function:
    """In one of three branches."""

    def run(*xs: Any) -> list[Any]:
        nothing = contexts.zeros(jax.eval_shape(function, *xs))
        branches = [function, nothing, lambda *xs: function(*[0.9 * x for x in xs])]
        return jax.lax.switch(jnp.asarray(choice % 3), branches, *xs)

    return run


# ------------------------------------------------------------------------------------------------------- composition
def twice(function: Function, _: int) -> Function:
    """Called with two different sets of operands, one of them twice."""

    def run(*xs: Any) -> list[Any]:
        again = function(*[0.9 * x for x in xs])
        return [a + b + c for a, b, c in zip(function(*xs), again, function(*xs), strict=True)]

    return run


def chain(function: Function, _: int) -> Function:
    """Applied to operands that depend on its own results."""
    return lambda *xs: function(*_next(function, xs))


# The simplest first: a failure is reduced towards the front.
LAYERS: Mapping[str, Layer] = {
    "jit": jit,
    "jvp": jvp,
    "vjp": vjp,
    "vmap": vmap,
    "grad": grad,
    "twice": twice,
    "chain": chain,
    "stop_gradient": stop_gradient,
    "linearize": linearize,
    "linear_transpose": linear_transpose,
    "checkpoint": checkpoint,
    "cond": cond,
    "switch": switch,
    "scan": scan,
    "fori_loop": fori_loop,
    "while_loop": while_loop,
    "lax_map": lax_map,
    "jacobian": jacobian,
    "custom_jvp": custom_jvp,
    "custom_vjp": custom_vjp,
    "shard_map": shard_map,
}
# Choices are below this number.
CHOICES = 12

Nest = tuple[tuple[str, int], ...]


def nest_around(nest: Nest, function: Function) -> Function:
    """A nest around a function; the first layer is the outermost."""
    for name, choice in reversed(nest):
        function = LAYERS[name](function, choice)
    return function


def spell(nest: Nest) -> str:
    """A nest as text: ``grad:1 vmap:3 jit``."""
    return " ".join(f"{name}:{choice}" if choice else name for name, choice in nest)


def parse(text: str) -> Nest:
    """Parse a nest from text. Raises ValueError if a word is not a layer."""
    return tuple(_words(text))


def _words(text: str) -> Iterator[tuple[str, int]]:
    for word in text.split():
        name, _, choice = word.partition(":")
        if name not in LAYERS or not (choice or "0").isdigit():
            raise ValueError(
                f"{word!r} is not a layer; the layers are {', '.join(LAYERS)}, each with an optional number, as in vmap:3"
            )
        yield name, int(choice or 0)
