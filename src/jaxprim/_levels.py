"""Batch levels: how often, and along which dimensions, an application of a primitive is vmapped.

Batching a primitive must not lose its rules, but a vmapped implementation has none. So the batch rule binds the *same*
primitive with one more level. The implementation, the JVP rule and both halves of the VJP rule are then evaluated under
that many vmaps, innermost first.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxprim import _jax
from jaxprim._programs import elementwise_dims, without_zero_inputs

Dim = int | None


@dataclass(frozen=True)
class Level:
    """One vmap.

    Attributes:
        axis: JAX's axis data (size, name, spmd name, explicit mesh axis).
        in_dims: the batch dimension of each input; None for an input that all elements share.
        out_dims: the batch dimension of each output; None for an output that all elements share.
        add: sum over the axis where an output comes out batched but `out_dims` says None. Transposition needs this:
            None then marks an input shared by all elements, whose cotangents add up.
    """

    axis: Any
    in_dims: tuple[Dim, ...]
    out_dims: tuple[Dim, ...]
    add: bool = False

    def element(self, avals: Sequence[Any]) -> tuple[Any, ...]:
        """The types of one element of the inputs."""
        return tuple(_jax.element_aval(self.axis, dim, a) for dim, a in zip(self.in_dims, avals, strict=True))

    def batch(self, avals: Sequence[Any]) -> tuple[Any, ...]:
        """The types of the whole batch of outputs."""
        return tuple(_jax.batched_aval(self.axis, dim, a) for dim, a in zip(self.out_dims, avals, strict=True))

    def batch_inputs(self, avals: Sequence[Any]) -> tuple[Any, ...]:
        """The types of the whole batch of inputs."""
        return tuple(_jax.batched_aval(self.axis, dim, a) for dim, a in zip(self.in_dims, avals, strict=True))

    def resized(self, size: int) -> Level:
        """The same vmap over an axis of another size, of no mesh."""
        return replace(self, axis=_jax.vmapped_axis(size, self.axis.name))

    def __repr__(self) -> str:
        return f"vmap[{self.axis.size}]{list(self.in_dims)}->{list(self.out_dims)}"


Levels = tuple[Level, ...]


def axes_of(levels: Levels) -> AbstractContextManager[None]:
    """A context that binds the named axes of an application, in which its rules are traced.

    JAX lowers, checks and differentiates an equation outside the vmap that it came from, where the axes are unbound.
    """
    return _jax.bind_axes([(level.axis.name, level.axis.size) for level in reversed(levels)])


def element_avals(levels: Levels, avals: Sequence[Any]) -> tuple[Any, ...]:
    """The input types of one innermost element."""
    for level in reversed(levels):
        avals = level.element(avals)
    return tuple(avals)


def batched_avals(levels: Levels, avals: Sequence[Any]) -> tuple[Any, ...]:
    """The output types of the whole batch, from the output types of one innermost element."""
    for level in levels:
        avals = level.batch(avals)
    return tuple(avals)


def stack(program: Any, levels: Levels, linear_from: int | None = None) -> Any:
    """A program under all levels. It is linear in its inputs from ``linear_from`` on (needed if a level adds)."""
    for level in levels:
        program = batch_program(program, level, linear_from)
    return program


def batch_program(program: Any, level: Level, linear_from: int | None = None) -> Any:
    """vmap of a program, with the outputs' batch dimensions moved to the level's ``out_dims``."""
    dims = level.in_dims
    shared = _shared_linear_inputs(program, level, linear_from) if level.add and linear_from is not None else ()
    if shared:
        dims = tuple(0 if i in shared else dim for i, dim in enumerate(dims))
    batched, out_dims = _jax.batch(program, level.axis, dims)
    if not shared and out_dims == level.out_dims:
        return batched
    if level.axis.size == 0:
        return _empty(program, level, linear_from)

    def fit(*args: Any) -> list[Any]:
        inputs = [first_only(level.axis, x) if i in shared else x for i, x in enumerate(args)]
        outs = _jax.evaluate(batched, *inputs)
        return [_fit(level, src, dst, out) for src, dst, out in zip(out_dims, level.out_dims, outs, strict=True)]

    return _jax.trace(fit, level.batch_inputs(_jax.in_avals(program)), "batched")


def _fit(level: Level, src: Dim, dst: Dim, out: Any) -> Any:
    """Move an output's batch dimension from ``src`` to ``dst``, the level's choice."""
    if src is not None and dst is None and not level.add:
        # The level was inferred from the impl, which shows that all elements are equal. A kernel may still batch them,
        # so the first element is the result.
        return jax.lax.index_in_dim(out, 0, src, keepdims=False)
    return _jax.move_dim(level.axis, src, dst, out, add=level.add)


def _shared_linear_inputs(program: Any, level: Level, linear_from: int) -> frozenset[int]:
    """The unbatched linear inputs that a sum over the axis would count once per element.

    Say y = A x and z_i = B(r_i) x for all n elements i of a batch, where x and y are shared. The transposed program of
    one element computes A^T y_bar + B(r_i)^T z_bar_i, and x_bar is their sum over i:

        x_bar = A^T y_bar + sum_i B(r_i)^T z_bar_i        but        sum_i A^T y_bar = n A^T y_bar

    So y_bar goes to the first element only, and the others get zero.
    This is needed only where an output is to be summed at all.
    """
    _, out_dims = _jax.batch(program, level.axis, level.in_dims)
    if not any(src is not None and dst is None for src, dst in zip(out_dims, level.out_dims, strict=True)):
        return frozenset()
    return frozenset(i for i, dim in enumerate(level.in_dims) if i >= linear_from and dim is None)


def first_only(axis: Any, x: Any) -> Any:
    """The batch (x, 0, ..., 0), whose sum over the axis is x. A broadcast of x would sum to n x."""
    whole = _jax.move_dim(axis, None, 0, x, add=False)  # with the sharding of the axis and of x
    return jnp.where(_jax.places(whole) == 0, whole, _jax.zeros(_jax.typeof(whole)))


def _empty(program: Any, level: Level, linear_from: int | None) -> Any:
    """A program under a vmap of size 0, some of whose outputs all elements share.

    There is no element to take these from. They depend on the shared inputs alone, so one element that is zero gives
    them. Its linear inputs are left out: of x_bar = A^T y_bar + sum_i B(r_i)^T z_bar_i only the first term is left.
    """
    avals, dims = _jax.in_avals(program), level.in_dims
    count = len(dims) if linear_from is None else linear_from
    run, _ = without_zero_inputs(program, count, [dim is None for dim in dims[count:]])

    def fit(*args: Any) -> list[Any]:
        known = [x if dim is None else _jax.zeros(aval) for x, dim, aval in zip(args, dims, avals, strict=True)]
        outs = run(*known[:count], *[x for x, dim in zip(args[count:], dims[count:], strict=True) if dim is None])
        empty = level.batch(_jax.out_avals(program))
        return [
            _jax.zeros(aval) if dim is not None or isinstance(out, _jax.JaxZero) else out
            for out, dim, aval in zip(outs, level.out_dims, empty, strict=True)
        ]

    return _jax.trace(fit, level.batch_inputs(avals), "empty")


def infer(program: Any, axis: Any, dims: Sequence[Dim]) -> Level:
    """The level of a program under vmap: an output is batched only if it depends on a batched input."""
    out_dims = elementwise_dims(program, dims)
    if out_dims is None:
        _, out_dims = _jax.batch(program, axis, dims)
    return Level(axis, tuple(dims), out_dims)
