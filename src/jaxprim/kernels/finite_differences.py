"""The JVP and VJP rules that `from_numpy` gives on request: finite differences of the author's NumPy function.

Each rule runs a primitive of its own, whose host function evaluates the author's function near the point. The numbers
come from `stencil`, with a bound of their error; a bound that is too large raises `HostError`.

    JVP     y_dot = J x_dot, one finite difference along x_dot
    VJP     x_bar = y_bar J, one finite difference for each number of each perturbed operand
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import _jax
from jaxprim._errors import HostError, message
from jaxprim._masks import expand, select
from jaxprim._origin import credit
from jaxprim._primitive import Primitive
from jaxprim._rules import Rule, rules_of
from jaxprim._trees import Flags, stand_in
from jaxprim._zeros import is_zero
from jaxprim.kernels import stencil

Static = tuple[tuple[str, Any], ...]
NOTES = (
    "finite differences of 4th order, written by from_numpy",
    "relative error about 1e-12 in float64 and 1e-5 in float32; a larger error raises HostError",
)


def define_rules(primitive: Primitive, fn: Callable[..., Any]) -> None:
    """Give a primitive, whose host function is ``fn``, a JVP and a VJP rule of finite differences."""
    differences = _Differences(primitive, fn)

    # The names of these two functions stand in messages about the rules.
    def finite_differences(primals: Any, tangents: Any, perturbed: Flags, params: dict[str, Any]) -> Any:
        places = _places(perturbed)
        dots = [jnp.asarray(jax.tree.leaves(tangents, is_leaf=is_zero)[i]) for i in places]
        out = primitive(*primals, **params)
        return out, _fill(out, differences.push(primals, dots, static=_static(params), perturbed=places))

    def finite_differences_back(primals: Any, perturbed: Flags, params: dict[str, Any]) -> Any:
        places = _places(perturbed)

        def pullback(cotangents: Any) -> Any:
            cts = [jnp.asarray(ct) for ct in select(jax.tree.leaves(cotangents, is_leaf=is_zero), has_cotangent)]
            found = differences.pull(primals, cts, static=_static(params), perturbed=places)
            leaves, tree = jax.tree.flatten(primals)
            by_place = dict(zip(places, found, strict=True))
            return stand_in(tree, [by_place.get(i) for i in range(len(leaves))])

        out = primitive(*primals, **params)
        has_cotangent = [_jax.has_tangent(_jax.typeof(leaf)) for leaf in jax.tree.leaves(out)]
        return out, pullback

    for kind, rule in (("jvp", finite_differences), ("vjp", finite_differences_back)):
        rule.notes = NOTES  # pyright: ignore[reportFunctionMemberAccess]
        rules_of(primitive).give(Rule(kind, credit(rule, primitive), rule))


class _Differences:
    """The two primitives behind the rules. Their static param ``perturbed`` says which operand leaves have tangents.

    Attributes:
        push: ``push(primals, tangents of the perturbed leaves)``, the tangents of the inexact result leaves.
        pull: ``pull(primals, cotangents of the inexact result leaves)``, the cotangents of the perturbed leaves.
    """

    def __init__(self, primitive: Primitive, fn: Callable[..., Any]) -> None:
        self.primitive, self.fn = primitive, fn
        self.push = Primitive(f"{primitive.name}_differences")
        # The author's function may give float64 where the result is cast to float32; the tangents are float32 too.
        rules_of(self.push).give(Rule("host", self._push, self._push, casts=True))
        self.push.def_abstract_eval(lambda primals, tangents, *, static, perturbed: self._inexact(primals, static))
        self.pull = Primitive(f"{primitive.name}_differences_back")
        self.pull.def_host(self._pull)
        self.pull.def_abstract_eval(
            lambda primals, cts, *, static, perturbed: [type_of(jax.tree.leaves(primals)[i]) for i in perturbed]
        )

    # The two host functions, on NumPy arrays.
    def _push(self, primals: Any, tangents: Any, *, static: Static, perturbed: Sequence[int]) -> list[np.ndarray]:
        leaves = jax.tree.leaves(primals)
        by_place = dict(zip(perturbed, tangents, strict=True))
        direction = [by_place.get(i) for i in range(len(leaves))]
        return self._accurate(stencil.pushforward, self._on_leaves(primals, static), leaves, direction)

    def _pull(self, primals: Any, cts: Any, *, static: Static, perturbed: Sequence[int]) -> list[np.ndarray]:
        leaves = jax.tree.leaves(primals)
        return self._accurate(stencil.pullback, self._on_leaves(primals, static), leaves, perturbed, cts)

    def _accurate(self, differentiate: Callable[..., Any], *args: Any) -> list[np.ndarray]:
        """The derivative, or an error that says how inaccurate it would be."""
        name = self.primitive.name
        try:
            return differentiate(*args)
        except stencil.InaccurateError as inaccurate:
            raise HostError(
                message(
                    f"{name}: its finite differences are not accurate here.",
                    got=f"an error of about {inaccurate.error:.1e}, for a derivative of about {inaccurate.scale:.1e}",
                    expected=f"an error of at most {inaccurate.allowed:.1e}",
                    why="the function is not smooth nearby, or its values are noisy",
                    rule=self.fn,
                    write=f"@{name}.def_jvp  # or def_vjp: the derivative itself",
                )
            ) from None

    def _on_leaves(self, primals: Any, static: Static) -> stencil.Function:
        """The author's function, from operand leaves to the result leaves that have tangents."""
        tree = jax.tree.structure(primals)
        types = self._types(primals, static)

        def fn(leaves: stencil.Arrays) -> stencil.Arrays:
            found = jax.tree.leaves(self.fn(*tree.unflatten(leaves), **dict(static)))
            return [
                _floating(leaf, each.dtype) for leaf, each in zip(found, types, strict=True) if _is_inexact(each.dtype)
            ]

        return fn

    def _types(self, primals: Any, static: Static) -> list[Any]:
        """The types of the result leaves."""
        return jax.tree.leaves(rules_of(self.primitive).given["abstract_eval"].author(*primals, **dict(static)))

    def _inexact(self, primals: Any, static: Static) -> list[Any]:
        """The types of the result leaves that have tangents."""
        return [each for each in self._types(primals, static) if _is_inexact(each.dtype)]


def _is_inexact(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.inexact)


def _floating(leaf: Any, dtype: Any) -> np.ndarray:
    """A value as it is; whole numbers in the dtype of the result."""
    array = np.asarray(leaf)
    return array if _is_inexact(array.dtype) else array.astype(dtype)


def type_of(value: Any) -> jax.ShapeDtypeStruct:
    """The shape and dtype of an array, a number, or something that has both."""
    return jax.ShapeDtypeStruct(jnp.shape(value), jnp.result_type(value))


def _places(perturbed: Flags) -> tuple[int, ...]:
    """Which operand leaves have tangents, by their position."""
    return tuple(i for i, flag in enumerate(perturbed.leaves) if flag)


def _static(params: dict[str, Any]) -> Static:
    return tuple(sorted(params.items()))


def _fill(out: Any, dots: Sequence[Any]) -> Any:
    """Tangents in the tree of the results; None for results that have none, such as integers."""
    leaves, tree = jax.tree.flatten(out)
    return stand_in(tree, expand(dots, [_jax.has_tangent(_jax.typeof(leaf)) for leaf in leaves], lambda _: None))
