"""Linear maps: the pushforwards and pullbacks of a primitive, closed under transposition and batching.

A `LinearMap` is a program that is linear in its later inputs, and knows its transpose:

    A(r): t -> A(r) t        A(r)^T: c -> A(r)^T c

The JAX primitives ``NAME_pushforward`` and ``NAME_pullback`` apply one. The pushforward evaluates the JVP rule, and its
transpose is the VJP rule's pullback. The transpose of the pullback is a pushforward again. However forward and reverse
mode are nested, each runs its own rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

import jax.numpy as jnp

from jaxprim import _jax
from jaxprim._avals import instantiate, nonzero
from jaxprim._levels import Level, Levels, axes_of, batched_avals, infer, stack
from jaxprim._masks import Mask, expand, select
from jaxprim._programs import transpose, without_zero_inputs

Role = Literal["pushforward", "pullback"]
# Takes the residuals of a map and their batch levels; returns the residuals of its transpose and their batch levels.
ResidualsForTranspose = Callable[[Sequence[Any], Levels], tuple[list[Any], Levels]]


@_jax.held_weakly
class LinearMap:
    """A function of residuals and linear inputs, linear in the latter: (r, t) -> A(r) t.

    Attributes:
        owner: the owner of the map; it has ``name`` and the JAX primitives ``pushforward`` and ``pullback``.
        role: whether it is a pushforward or a pullback.
        residuals: how many residuals come before the linear inputs.
        in_avals: the types of the linear inputs.
        out_avals: the types of the outputs.
        is_linear: whether its own tangent is the map. False for a pullback that JAX differentiates as written.
        effects: the effects of the rule: the named axes that its collectives use, debug prints.
    """

    def __init__(
        self,
        owner: Any,
        role: Role,
        *,
        residuals: int,
        in_avals: Sequence[Any],
        out_avals: Sequence[Any],
        build: Callable[[], Any],
        transposed: Callable[[], tuple[ResidualsForTranspose, LinearMap]],
        is_linear: Callable[[], bool] = lambda: True,
        effects: frozenset[Any] = frozenset(),
    ) -> None:
        self.owner, self.residuals = owner, residuals
        self.role: Role = role
        self.in_avals, self.out_avals = tuple(in_avals), tuple(out_avals)
        self.effects = effects
        self._build, self._transposed, self._is_linear = build, transposed, is_linear
        self._program: Any = None
        self._transpose: tuple[ResidualsForTranspose, LinearMap] | None = None
        self._restrictions: dict[tuple[Mask, Mask], LinearMap] = {}
        self._stacked: dict[Any, Any] = {}
        self._shown: dict[Any, Any] = {}

    @property
    def runs_once(self) -> bool:
        """Whether it belongs to a single call (`RuleSet.for_one_call`)."""
        return getattr(self.owner, "is_for_one_call", False)

    @property
    def program(self) -> Any:
        """The program (residuals, linear inputs) -> outputs; built when it is first evaluated."""
        if self._program is None:
            self._program = self._build()
        return self._program

    @cached_property
    def is_linear(self) -> bool:
        return self._is_linear()

    def transpose(self) -> tuple[ResidualsForTranspose, LinearMap]:
        """A function that makes the residuals of the transpose, and the transpose itself: (r, c) -> A(r)^T c."""
        if self._transpose is None:
            self._transpose = self._transposed()
        return self._transpose

    def under(self, levels: Levels) -> Any:
        """The program under batch levels, innermost first; ``in_dims`` cover residuals and linear inputs."""
        if not levels:
            return self.program
        with axes_of(levels):
            key = (levels, _jax.trace_context())
            if key not in self._stacked:
                self._stacked[key] = stack(self.program, levels, self.residuals)
            return self._stacked[key]

    def shown(self, avals: Sequence[Any], levels: Levels) -> Any:
        """The program under batch levels, as JAX sees it in an equation on operands of these types."""
        key = (levels, _jax.trace_context())
        if key not in self._shown:
            primitive = getattr(self.owner, self.role)
            params = {"linear_map": self, "levels": levels}
            self._shown[key] = _jax.late_program(lambda: self.under(levels), primitive, avals, **params)
        return self._shown[key]

    def restrict(self, inputs: Mask, outputs: Mask) -> LinearMap:
        """The block of A that maps the nonzero linear inputs to the wanted outputs.

        Args:
            inputs: which of the linear inputs are not zero.
            outputs: which of the outputs are wanted.
        """
        if all(inputs) and all(outputs):
            return self
        if (inputs, outputs) not in self._restrictions:
            self._restrictions[inputs, outputs] = self._restricted(inputs, outputs)
        return self._restrictions[inputs, outputs]

    def _restricted(self, inputs: Mask, outputs: Mask) -> LinearMap:
        def build() -> Any:
            run, avals = without_zero_inputs(self.program, self.residuals, inputs)
            return _jax.trace(lambda *args: instantiate(select(run(*args), outputs)), avals, self.role)

        def transposed() -> tuple[ResidualsForTranspose, LinearMap]:
            residuals_of, other = self.transpose()
            return residuals_of, other.restrict(outputs, inputs)

        return LinearMap(
            self.owner,
            self.role,
            residuals=self.residuals,
            in_avals=select(self.in_avals, inputs),
            out_avals=select(self.out_avals, outputs),
            build=build,
            transposed=transposed,
            is_linear=lambda: self.is_linear,
            effects=self.effects,
        )

    def pull_back(
        self, residuals: Sequence[Any], cts: Sequence[Any], nonzero: Mask, wanted: Mask, levels: Levels
    ) -> list[Any]:
        """Apply the transpose to the nonzero cotangents, for the wanted linear inputs.

        Args:
            residuals: the residuals of the map, whole batches.
            cts: the cotangents of the outputs that are not symbolically zero.
            nonzero: which outputs these are.
            wanted: which linear inputs get a cotangent.
            levels: the batch levels of the map's application.
        """
        with axes_of(levels):
            residuals_of, other = self.transpose()
            own = [True] * self.residuals + [False] * len(self.in_avals)
            new_residuals, residual_levels = residuals_of(residuals, select_dims(levels, own))
        # Under a vmap, y_i = A(r_i) x_i for each element i, and x_bar_i = A(r_i)^T y_bar_i: the batch dimensions of
        # outputs and inputs swap places. If all elements share x, then y_i = A(r_i) x, so that
        # x_bar = sum_i A(r_i)^T y_bar_i: a level that adds.
        flipped = tuple(
            Level(
                level.axis,
                (*inner.in_dims, *select(level.out_dims, nonzero)),
                tuple(select(level.in_dims[self.residuals :], wanted)),
                add=True,
            )
            for level, inner in zip(levels, residual_levels, strict=True)
        )
        return apply(other.restrict(nonzero, wanted), new_residuals, cts, flipped)

    def __repr__(self) -> str:
        return self.owner.name


def same_residuals(residuals: Sequence[Any], levels: Levels) -> tuple[list[Any], Levels]:
    """The residuals of a transpose that needs the same residuals as the map."""
    return list(residuals), levels


def select_dims(levels: Levels, keep: Sequence[bool], outputs: Sequence[bool] | None = None) -> Levels:
    """The levels restricted to some of the inputs, and some of the outputs."""
    return tuple(
        replace(
            level,
            in_dims=tuple(select(level.in_dims, keep)),
            out_dims=level.out_dims if outputs is None else tuple(select(level.out_dims, outputs)),
        )
        for level in levels
    )


# ------------------------------------------------------------------------------------------------ JAX primitive rules
def apply(linear_map: LinearMap, residuals: Sequence[Any], inputs: Sequence[Any], levels: Levels = ()) -> list[Any]:
    """Apply a map, as one equation in the jaxpr."""
    primitive = getattr(linear_map.owner, linear_map.role)
    return primitive.bind(*residuals, *inputs, linear_map=linear_map, levels=levels)


def shown_program(avals: Sequence[Any], *, linear_map: LinearMap, levels: Levels, jaxpr: Any = None) -> dict[str, Any]:
    """The params of an equation on operands of these types, with the program that JAX sees."""
    return {"linear_map": linear_map, "levels": levels, "jaxpr": linear_map.shown(avals, levels)}


def abstract_eval_rule(
    *avals: Any, linear_map: LinearMap, levels: Levels, jaxpr: Any = None
) -> tuple[list[Any], frozenset[Any]]:
    """The output types of the whole batch, and the effects of the rule without the named axes that ``levels`` bind."""
    own = [level.axis.name for level in levels]
    return list(batched_avals(levels, linear_map.out_avals)), _jax.without_axes(linear_map.effects, own)


def jvp_rule(
    primals: Sequence[Any], tangents: Sequence[Any], *, linear_map: LinearMap, levels: Levels, jaxpr: Any = None
) -> Any:
    """The derivative of y = A(r) t.

        y_dot = A(r) t_dot + (dA(r)/dr r_dot) t

    The first term is the map itself, applied to the tangents of its linear inputs. The second is the derivative of the
    rule's program in its residuals. A pullback that is not known to be linear, such as that of a declared surrogate, is
    differentiated in all its inputs instead, as `jax.custom_vjp` does.
    """
    outs = _bind(linear_map, primals, levels)
    count = linear_map.residuals
    perturbed = list(nonzero(tangents))
    out_dots = [_jax.JaxZero(_jax.tangent_aval(_jax.typeof(out))) for out in outs]
    if linear_map.is_linear and any(perturbed[count:]):
        part = _linear_part(linear_map, primals[:count], tangents[count:], tuple(perturbed[count:]), levels)
        out_dots = [_jax.add_tangents(a, b) for a, b in zip(out_dots, part, strict=True)]
    nonlinear = perturbed if not linear_map.is_linear else perturbed[:count] + [False] * (len(primals) - count)
    if any(nonlinear):
        part = _derivative(linear_map.under(levels), nonlinear, primals, tangents)
        out_dots = [_jax.add_tangents(a, b) for a, b in zip(out_dots, part, strict=True)]
    return outs, out_dots


def _linear_part(
    linear_map: LinearMap, residuals: Sequence[Any], tangents: Sequence[Any], nonzero: Mask, levels: Levels
) -> list[Any]:
    """A(r) t_dot, with only the blocks of A whose tangents are nonzero."""
    everything = (True,) * len(linear_map.out_avals)
    keep = [True] * linear_map.residuals + list(nonzero)
    restricted = linear_map.restrict(nonzero, everything)
    return apply(restricted, residuals, select(tangents, nonzero), select_dims(levels, keep))


def _derivative(program: Any, perturbed: Sequence[bool], primals: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
    """The tangents of a program's outputs. The outputs themselves are known, so their equations are removed."""
    derivative, nonzero_out = _jax.jvp_program(program, perturbed)
    count = len(_jax.out_avals(program))
    dots_only, used = _jax.dce(derivative, [False] * count + [True] * sum(nonzero_out))
    args = [*primals, *select(tangents, perturbed)]
    dots = _jax.evaluate(dots_only, *select(args, used))
    zeros = [_jax.JaxZero(_jax.tangent_aval(aval)) for aval in _jax.out_avals(program)]
    return expand(dots, nonzero_out, zeros.__getitem__)


def _bind(linear_map: LinearMap, args: Sequence[Any], levels: Levels) -> list[Any]:
    return apply(linear_map, args[: linear_map.residuals], args[linear_map.residuals :], levels)


def transpose_rule(
    cotangents: Sequence[Any], *args: Any, linear_map: LinearMap, levels: Levels, jaxpr: Any = None
) -> list[Any]:
    """The transpose of t -> A(r) t: t_bar = A(r)^T y_bar, for the unknown t. The residuals r are known.

    JAX may also ask for r_bar at a known t, if A(r) t is linear in r too, as x * f is linear in x and in f. The program
    itself is transposed then.
    """
    undefined = [_jax.is_undefined(arg) for arg in args]
    count = linear_map.residuals
    if any(undefined[:count]):
        return _transpose_program(linear_map.under(levels), undefined, args, cotangents)
    kept = nonzero(cotangents)
    if not any(kept):
        return [
            _jax.JaxZero(_jax.cotangent_aval(arg.aval)) if u else None for arg, u in zip(args, undefined, strict=True)
        ]
    outs = batched_avals(levels, linear_map.out_avals)
    cts = [fit_cotangent(ct, aval) for ct, aval, n in zip(cotangents, outs, kept, strict=True) if n]
    found = linear_map.pull_back(args[:count], cts, kept, tuple(undefined[count:]), levels)
    return expand(found, undefined, lambda _: None)


def fit_cotangent(ct: Any, aval: Any) -> Any:
    """A cotangent, converted to the dtype and varying axes of its output.

    Since JAX 0.11 a cotangent may arrive in another dtype than the output's (float32 for a bfloat16 output).
    """
    if isinstance(ct, _jax.JaxZero):
        return ct
    if getattr(ct, "dtype", None) != aval.dtype:  # a Python number has none
        ct = jnp.asarray(ct, aval.dtype)
    return _jax.conform(ct, aval)


def _transpose_program(program: Any, undefined: Sequence[bool], args: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
    known = [arg for arg, u in zip(args, undefined, strict=True) if not u]
    outs = transpose(program, undefined, known, cts)
    return expand(outs, undefined, lambda _: None)


def batching_rule(
    axis: Any, args: Sequence[Any], dims: Sequence[Any], *, linear_map: LinearMap, levels: Levels, jaxpr: Any = None
) -> Any:
    """vmap adds a level to the same map, so that the batch keeps its transpose."""
    program = linear_map.under(levels)
    if all(dim is None for dim in dims) and axis.name not in _jax.named_axes(program):
        outs = _bind(linear_map, args, levels)
        return outs, [None] * len(outs)
    level = infer(program, axis, dims)
    return _bind(linear_map, args, (*levels, level)), list(level.out_dims)


def jet_rule(
    primals: Sequence[Any], series: Sequence[Any], *, linear_map: LinearMap, levels: Levels, jaxpr: Any = None
) -> Any:
    """Taylor mode of the program (r, t) -> A(r) t. The residuals have series too."""
    program = linear_map.under(levels)
    return _jax.jet_of(lambda *args: _jax.evaluate(program, *args), primals, series)
