"""One example in one precision: the operation and its two derivatives as functions of flat lists of numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim._keys import typed
from jaxprim.checking import probes
from jaxprim.checking.answers import Refusal, attempt
from jaxprim.checking.probes import Tangents
from jaxprim.checking.subject import Subject
from jaxprim.checking.values import (
    Array,
    as_array,
    doubled,
    epsilon,
    has_tangents,
    is_key,
    is_scalar,
    largest,
    leaf_names,
    result_names,
    tiny,
    to_jax,
    wide,
)


def of_some(function: Callable[..., Any], leaves: Sequence[Any], wrt: Sequence[int]) -> Callable[..., Any]:
    """``function`` as a function of some operands; the others are fixed to their values in ``leaves``."""

    def call(*some: Any) -> Any:
        every = list(leaves)
        for i, leaf in zip(wrt, some, strict=True):
            every[i] = leaf
        return function(*every)

    return call


@dataclass(frozen=True)
class Point:
    """The operands of one example, flat.

    Attributes:
        leaves: the leaves of all operands.
        tree: the tree structure of the operands.
        names: the name of each leaf.
        params: the static params.
        is_retyped: whether the operands have other types than those of the example.
    """

    leaves: tuple[Any, ...]
    tree: Any
    names: tuple[str, ...]
    params: Mapping[str, Any]
    is_retyped: bool = False

    @staticmethod
    def of(subject: Subject, operands: tuple[Any, ...], params: Mapping[str, Any]) -> Point:
        leaves, tree = jax.tree_util.tree_flatten(operands)
        names = leaf_names(subject.operand_names(operands, params), operands)
        return Point(tuple(as_array(leaf) for leaf in leaves), tree, names, dict(params))

    @property
    def operands(self) -> tuple[Any, ...]:
        """The operands, as the author's functions take them."""
        return self.tree.unflatten(self.leaves)

    @property
    def differentiable(self) -> tuple[int, ...]:
        """The positions of the leaves that have tangents."""
        return tuple(i for i, leaf in enumerate(self.leaves) if has_tangents(leaf))

    @property
    def integers(self) -> tuple[int, ...]:
        """The positions of the leaves that hold integers, such as indices."""
        return tuple(i for i, leaf in enumerate(self.leaves) if jnp.issubdtype(jnp.result_type(leaf), jnp.integer))

    @property
    def arrays(self) -> tuple[Any, ...]:
        """The leaves that are arrays of numbers: neither Python numbers nor keys."""
        return tuple(leaf for leaf in self.leaves if not is_scalar(leaf) and not is_key(leaf))

    @property
    def types(self) -> tuple[Any, ...]:
        """The tree structure of the operands, and the shape and dtype of each leaf."""
        return self.tree, *[(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in self.leaves]


@dataclass(frozen=True)
class JvpResult:
    """The output of ``jax.jvp``: the rule's own primal output, and a tangent for each real or complex result leaf."""

    primal: list[Array]
    tangent: list[Array]


@dataclass(frozen=True)
class VjpResult:
    """The output of ``jax.vjp``: the rule's own primal output, and the cotangent of each requested operand leaf."""

    primal: list[Array]
    cotangent: dict[int, Array]


@dataclass(frozen=True)
class Precision:
    """A point in its own dtypes, or in double precision.

    Attributes:
        subject: the operation.
        point: the operands in this precision.
        double: whether the operands were converted to double precision.
        names: the name of each result leaf.
        results: the result leaves of the implementation.
        result_tree: the tree structure of the result.
    """

    subject: Subject
    point: Point
    double: bool
    names: tuple[str, ...] = ()
    results: tuple[Any, ...] = ()
    result_tree: Any = None

    @staticmethod
    def native(subject: Subject, point: Point) -> Precision:
        """The point in its own dtypes. Raises if the implementation raises."""
        return Precision(subject, point, False)._evaluated()

    @staticmethod
    def in_double(subject: Subject, point: Point) -> Precision:
        """The point in double precision. Raises if the implementation raises there."""
        precision = Precision(subject, point, True)
        with precision.in_effect():
            leaves = tuple(doubled(leaf) for leaf in point.leaves)
            return replace(precision, point=replace(point, leaves=leaves))._evaluated()

    def _evaluated(self) -> Precision:
        with self.in_effect():
            result = self.subject.call(*self.point.tree.unflatten(self.point.leaves), **self.point.params)
            tree = jax.tree_util.tree_structure(result)
            return replace(self, names=result_names(result), results=tuple(result_leaves(result)), result_tree=tree)

    @property
    def label(self) -> str:
        """The name of this precision in a report: ``float64``, or the dtypes of the point."""
        if self.double:
            return "float64"
        dtypes = [str(jnp.result_type(self.point.leaves[i])) for i in self.point.differentiable]
        return "/".join(sorted(set(dtypes))) or "exact"

    @property
    def is_retyped(self) -> bool:
        """Whether the operands have other types than those of the example."""
        return self.double or self.point.is_retyped

    @cached_property
    def eps(self) -> float:
        """The coarsest rounding among operands and results."""
        with self.in_effect():
            return max([epsilon(leaf) for leaf in (*self.point.leaves, *self.results)], default=0.0)

    @cached_property
    def tiny(self) -> float:
        """The largest of the smallest normal numbers among operands and results."""
        with self.in_effect():
            return max([tiny(leaf) for leaf in (*self.point.leaves, *self.results)], default=0.0)

    @cached_property
    def largest(self) -> float:
        """The smallest of the largest numbers among operands and results."""
        with self.in_effect():
            return min([largest(leaf) for leaf in (*self.point.leaves, *self.results)], default=np.inf)

    @cached_property
    def outputs(self) -> tuple[int, ...]:
        """The positions of the result leaves that have tangents."""
        return tuple(i for i, leaf in enumerate(self.results) if has_tangents(leaf))

    @cached_property
    def output_names(self) -> tuple[str, ...]:
        """The names of the result leaves that have tangents."""
        return tuple(self.names[i] for i in self.outputs)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of each result leaf."""
        return [leaf.shape for leaf in self.results]

    def in_effect(self) -> AbstractContextManager[None]:
        """The context in which this precision is evaluated."""
        return jax.enable_x64(True) if self.double else nullcontext()

    def flat(self, *leaves: Any) -> tuple[Any, ...]:
        """The operation on flat leaves, returning flat leaves; JAX transforms this."""
        result = self.subject.call(*self.point.tree.unflatten(leaves), **self.point.params)
        return tuple(result_leaves(result))

    @cached_property
    def compiled(self) -> Any:
        """`flat` under ``jax.jit``."""
        return jax.jit(self.flat)

    @cached_property
    def lowered(self) -> str | None:
        """The lowered text of the implementation; None if it can't be lowered."""
        text = attempt(lambda: self.compiled.lower(*self.point.leaves).as_text())
        return None if isinstance(text, Refusal) else text

    def lowered_has(self, *words: str) -> bool:
        """Whether the implementation has one of these words in its lowered text; also if it can't be lowered."""
        return self.lowered is None or any(word in self.lowered for word in words)

    def called(self, leaves: Sequence[Any]) -> list[Array]:
        """The numbers of each result leaf, from a call of the implementation."""
        with self.in_effect():
            return [wide(leaf) for leaf in self.flat(*leaves)]

    def value(self, leaves: Sequence[Any] | None = None) -> list[Array]:
        """Like `called`, at the example by default. At other points it may use a compiled program."""
        with self.in_effect():
            return [wide(leaf) for leaf in self._flat_at(leaves)]

    def _flat_at(self, leaves: Sequence[Any] | None) -> tuple[Any, ...]:
        return self._run(("impl",), lambda leaves: self.flat(*leaves), leaves)

    def _run(
        self, key: tuple[Any, ...], function: Callable[..., Any], leaves: Sequence[Any] | None, *numbers: Any
    ) -> Any:
        """Call a function of leaves and other numbers, as a compiled program where that saves time.

        At the example in its own types it is called as a user calls it. For other types JAX would compile each operation of
        a rule anew; at other numbers it only does so for some, such as a loop over a closure. An implementation is called
        in all types: it could be another function when compiled, which must not pass for inaccuracy. The key identifies the
        function; its first entry is the name of the rule.
        """
        here = leaves is None
        leaves = tuple(self.point.leaves if leaves is None else leaves)
        if self.is_retyped and key[0] != "impl":
            is_compiled = True
        else:
            is_compiled = not here and self.subject.compiles_anew(key[0], function, (leaves, *numbers))
        if not is_compiled:
            return function(leaves, *numbers)
        return self.subject.run_compiled((key, self._identity), function, leaves, *numbers)

    @cached_property
    def _identity(self) -> Any:
        """What programs depend on beside the types of their arguments."""
        params = tuple((name, typed(value)) for name, value in self.point.params.items())
        found = self.point.tree, params
        try:
            hash(found)
        except TypeError:  # the params of a function may be arrays; its programs keep them, so that the id stays theirs
            return id(self.point.params)
        return found

    def value_along(self, tangents: Tangents, step: float) -> list[Array]:
        """The numbers of the differentiable results at ``x + step t``; NaN where the implementation raises there."""
        with self.in_effect():
            leaves = list(self.point.leaves)
            for i, tangent in tangents.items():
                leaves[i] = probes.move(leaves[i], step * tangent)
            results = attempt(lambda: self._flat_at(leaves))
            if isinstance(results, Refusal):  # a host function may refuse a point outside its domain
                return [np.full(np.shape(self.results[i]), np.nan) for i in self.outputs]
            return [wide(results[i]) for i in self.outputs]

    def jvp(self, tangents: Tangents, leaves: Sequence[Any] | None = None, among: Sequence[int] = ()) -> JvpResult:
        """``jax.jvp`` with respect to the leaves that have a tangent here; the others are closed over.

        Args:
            tangents: by the position of the leaf, each in its shape.
            leaves: all operand leaves; by default, the leaves of the point.
            among: leaves that get zeros where a program is compiled, so that all directions in them share it. If that does
                not give numbers, such as 0 x inf, they get none.
        """
        zeros = {i: np.zeros(np.shape(self.point.leaves[i])) for i in among if i not in tangents}
        if zeros and self.is_retyped:
            every = dict(sorted({**zeros, **tangents}.items()))
            found = attempt(lambda: self._pushed(every, leaves))
            if not isinstance(found, Refusal) and all(np.all(np.isfinite(tangent)) for tangent in found.tangent):
                return found
        return self._pushed(tangents, leaves)

    def _pushed(self, tangents: Tangents, leaves: Sequence[Any] | None) -> JvpResult:
        with self.in_effect():
            primal, tangent = self._run(("jvp", *tangents), self.raw_jvp, leaves, self.cast(tangents))
            return JvpResult([wide(leaf) for leaf in primal], [wide(tangent[i]) for i in self.outputs])

    def raw_jvp(self, leaves: Sequence[Any], tangents: Mapping[int, Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Like `jvp`, on JAX values, for ``jit`` and ``vmap``."""
        wrt = tuple(tangents)
        return jax.jvp(self.of(leaves, wrt), tuple(leaves[i] for i in wrt), tuple(tangents[i] for i in wrt))

    def vjp(
        self,
        cotangents: Sequence[Array],
        wrt: Sequence[int],
        leaves: Sequence[Any] | None = None,
        results: tuple[int, ...] | None = None,
    ) -> VjpResult:
        """``jax.vjp`` with respect to some leaves, pulled back along a cotangent of each differentiable result.

        Args:
            cotangents: one for each differentiable result, in its shape.
            wrt: the positions of the leaves.
            leaves: all operand leaves; by default, the leaves of the point.
            results: positions among the differentiable results. Only these are used; the cotangents of the others are
                symbolic zeros.
        """
        with self.in_effect():
            pull = lambda leaves, seeds: self.raw_vjp(leaves, wrt, seeds, results)
            key = ("vjp", tuple(wrt), self.outputs, results)
            primal, cotangent = self._run(key, pull, leaves, self.cast_out(cotangents))
            return VjpResult(
                [wide(leaf) for leaf in primal], {i: wide(ct) for i, ct in zip(wrt, cotangent, strict=True)}
            )

    def raw_vjp(
        self,
        leaves: Sequence[Any],
        wrt: Sequence[int],
        cotangents: Sequence[Any],
        results: Sequence[int] | None = None,
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Like `vjp`, on JAX values, for ``jit`` and ``vmap``."""
        if results is not None:
            function = self.of(leaves, wrt)
            keep = [self.outputs[k] for k in results]
            primal, pull = jax.vjp(lambda *some: tuple(function(*some)[i] for i in keep), *[leaves[i] for i in wrt])
            return primal, pull(tuple(cotangents[k] for k in results))
        return self.pull(self.flat, leaves, wrt, cotangents)

    def pull(
        self, function: Callable[..., Any], leaves: Sequence[Any], wrt: Sequence[int], cotangents: Sequence[Any]
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Like `raw_vjp`, for a function with the signature of `flat`, such as a checkpoint of it."""
        primal, back = jax.vjp(of_some(function, leaves, wrt), *[leaves[i] for i in wrt])
        return primal, back(self.seeds(primal, cotangents))

    def seeds(self, primal: Sequence[Any], cotangents: Sequence[Any]) -> tuple[Any, ...]:
        """The cotangents of all result leaves: the given ones, and float0 zeros for results without tangents."""
        seeds: list[Any] = [np.zeros(np.shape(leaf), jax.dtypes.float0) for leaf in primal]
        for i, cotangent in zip(self.outputs, cotangents, strict=True):
            seeds[i] = cotangent
        return tuple(seeds)

    def of(self, leaves: Sequence[Any], wrt: Sequence[int]) -> Any:
        """The operation as a function of some of its leaves."""
        return of_some(self.flat, leaves, wrt)

    def cast(self, tangents: Tangents) -> dict[int, Any]:
        """Tangents in the dtypes of their operands; the tangent of a Python number is a Python number."""
        return {i: _cast(tangent, self.point.leaves[i]) for i, tangent in tangents.items()}

    def cast_out(self, cotangents: Sequence[Array]) -> list[Any]:
        """Cotangents in the dtypes of the differentiable results."""
        return [to_jax(ct.astype(self.results[i].dtype)) for i, ct in zip(self.outputs, cotangents, strict=True)]


def result_leaves(result: Any) -> list[Any]:
    """The leaves of a result as JAX arrays: a plain function may also return Python numbers or NumPy arrays."""
    return [leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf) for leaf in jax.tree_util.tree_leaves(result)]


def _cast(tangent: Array, leaf: Any) -> Any:
    if is_scalar(leaf):
        return type(leaf)(tangent)
    return to_jax(np.asarray(tangent).astype(leaf.dtype))
