"""`Function`: a function that is an operand.

A function that a user hands to an operation is a new object at each call, and reads arrays from around it, which may be
traced. So it is traced when the operation is applied: the arrays that it reads become the leaves of a pytree, and what
it computes becomes the static part of the tree.

    lambda y: y * y - theta        Function(values=(theta,), code: (theta, y) -> y * y - theta)

All that JAX does with pytrees follows: derivatives with respect to theta, batches, loops. Equal code is one object, so a
program that was compiled for one function serves the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import numpy as np

from jaxprim import _jax, _trees
from jaxprim._avals import same_type, short, short_value
from jaxprim._errors import RuleWrong, message
from jaxprim._origin import name_of, source_of
from jaxprim._programs import interpret
from jaxprim._zeros import is_zero


@dataclass(frozen=True)
class Owner:
    """Whose operand a function is, for messages.

    Attributes:
        primitive: the name of the operation; empty for `function`.
        operand: the name of the operand.
        declared: the author's function that says what it is called with; None for `function`.
    """

    primitive: str = ""
    operand: str = ""
    declared: Callable[..., Any] | None = field(default=None, compare=False)

    @property
    def phrase(self) -> str:
        return f"{self.primitive}: operand '{self.operand}'" if self.primitive else "function: the function"


@dataclass(frozen=True, eq=False)
class Traced:
    """A function, traced at one kind of arguments.

    Attributes:
        tree: the tree of the arguments, a tuple.
        avals: the types of their leaves.
        jaxpr: the values that it reads, and then the arguments -> the results.
        reads: the places of these values among `Function.values`.
        out_tree: the tree of the results.
        key: what says all of this.
    """

    tree: Any
    avals: tuple[Any, ...]
    jaxpr: Any
    reads: tuple[int, ...]
    out_tree: Any
    key: Any

    @property
    def arguments(self) -> str:
        return f"({', '.join(map(short, self.avals))})"

    def run(self, values: Sequence[Any], leaves: Sequence[Any]) -> list[Any]:
        """The results. An argument that is split over explicit axes in another way gives results that are, too."""
        given = [_as_traced(leaf, aval) for leaf, aval in zip(leaves, self.avals, strict=True)]
        if all(
            _jax.explicit_axes(_jax.typeof(x)) == _jax.explicit_axes(aval)
            for x, aval in zip(given, self.avals, strict=True)
        ):
            return _jax.evaluate_open(self.jaxpr, values, *given)
        return interpret(_jax.close(self.jaxpr, values), given, _jax.apply_equation)


class Code:
    """What a function computes, without the values that it reads. Equal code is one object.

    Attributes:
        owner: whose operand it was when it was traced first.
        traced: the function at each kind of arguments.
        types: the types of the values that it reads.
        name, origin: the function's name, and the author's file and line.
    """

    def __init__(
        self, owner: Owner, fn: Callable[..., Any], traced: tuple[Traced, ...], types: tuple[Any, ...]
    ) -> None:
        self.owner, self.traced, self.types = owner, traced, types
        self.name, self.origin = name_of(fn), source_of(fn)

    def __repr__(self) -> str:
        return f"{self.name} at {self.origin}"


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Function:
    """A function as an operand: a pytree of the arrays that it reads from around it.

    It is called as the function is. Its derivative is ordinary: ``jax.vjp(lambda f, x: f(x), f, x)``. The tangent and the
    cotangent of a function are those of its values, in a `Function`, which nobody calls.

    Attributes:
        values: the arrays.
        code: what it computes.
    """

    values: tuple[Any, ...]
    code: Code = field(metadata={"static": True})
    is_whole: ClassVar[bool] = True  # one array is no cotangent of a function

    def __call__(self, *args: Any) -> Any:
        leaves, tree = jax.tree.flatten(args)
        traced = next((each for each in self.code.traced if each.tree == tree and _fits(each.avals, leaves)), None)
        if traced is None:
            raise _other_arguments(self.code, args)
        _refuse_other_values(self.code, self.values)
        return traced.out_tree.unflatten(traced.run([self.values[i] for i in traced.reads], leaves))

    def __repr__(self) -> str:
        return f"Function({self.code!r}, {len(self.values)} values)"


def _as_traced(leaf: Any, aval: Any) -> Any:
    """An argument with the dtype and the varying axes that a function was traced at."""
    array = jax.numpy.asarray(leaf, aval.dtype) if isinstance(leaf, bool | int | float | complex) else leaf
    return _jax.cast_varying(array, _jax.varying(aval))


def _fits(avals: Sequence[Any], leaves: Sequence[Any]) -> bool:
    """Whether arguments are of these types. A number of Python takes the type that was declared, if it is of its kind."""
    return all(map(_is_of, leaves, avals))


def _is_of(leaf: Any, aval: Any) -> bool:
    if isinstance(leaf, bool | int | float | complex):
        kinds = next(kinds for number, kinds in _KINDS.items() if isinstance(leaf, number))
        return aval.shape == () and any(jax.numpy.issubdtype(aval.dtype, kind) for kind in kinds)
    return is_array(leaf) and same_type(_jax.typeof(leaf), aval)


# The kinds of types that a number of Python may take.
_KINDS: dict[type, tuple[Any, ...]] = {
    bool: (np.bool_,),
    int: (np.number,),
    float: (np.inexact,),
    complex: (np.complexfloating,),
}


# --------------------------------------------------------------------------------------------------------------- messages
def _other_arguments(code: Code, args: tuple[Any, ...]) -> RuleWrong:
    owner = code.owner
    write = "f = jaxprim.function(f, *arguments)  # of these types"
    if owner.declared is not None:
        types = ", ".join(_written_type(arg) for arg in args) + "," * (len(args) == 1)
        write = f"return ({types})  # or a list of such tuples, if it is called in several ways"
    return RuleWrong(
        message(
            f"{owner.phrase} is called with other arguments than declared.",
            got=f"({', '.join(short_value(arg) if is_array(arg) else _trees.describe(arg) for arg in args)})",
            expected=" or ".join(each.arguments for each in code.traced),
            why="a function is traced when the operation is applied, at the arguments that were declared",
            rule=owner.declared,
            write=write,
        )
    )


def _written_type(arg: Any) -> str:
    if not is_array(arg):
        return "..."
    return f"jax.ShapeDtypeStruct({tuple(arg.shape)}, '{arg.dtype}')"


def _refuse_other_values(code: Code, values: Sequence[Any]) -> None:
    for value, aval in zip(values, code.types, strict=True):
        if is_zero(value):
            got = f"a Zero, {short_value(value)}"
        elif not is_array(value) and not isinstance(value, int | float | complex):
            got = _trees.describe(value)
        elif not same_type(_jax.typeof(value), aval):
            got = short_value(value)
        else:
            continue
        raise RuleWrong(
            message(
                f"{code.owner.phrase} closes over another type than it was traced with.",
                got=got,
                expected=short(aval),
                why="tangents and cotangents of a function are no functions",
                rule=code.owner.declared,
                write="jax.jvp(lambda f, x: f(x), (f, x), (f_dot, x_dot))  # f_dot is for JAX, and is not called",
            )
        )


def is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")
