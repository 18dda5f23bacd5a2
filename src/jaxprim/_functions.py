"""`Function`: a function that is an operand.

A function that a user hands to an operation is a new object at each call, and reads arrays from around it, which may be
traced. So it is traced when the operation is applied: the arrays that it reads become the leaves of a pytree, and what
it computes becomes the static part of the tree.

    lambda y: y * y - theta        Function(values=(theta,), code: (theta, y) -> y * y - theta)

All that JAX does with pytrees follows: derivatives with respect to theta, batches, loops. Equal code is one object, so a
program that was compiled for one function serves the next.
"""

from __future__ import annotations

import inspect
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import numpy as np

from jaxprim import _jax, _trees
from jaxprim._avals import from_author, is_aval, same_type, short, short_value, union_varying
from jaxprim._closures import closed_over
from jaxprim._errors import BadCall, RuleWrong, message
from jaxprim._origin import name_of, public, source_of
from jaxprim._programs import interpret
from jaxprim._structure import key_of
from jaxprim._zeros import is_zero

# After this many programs for one function of an author and one kind of arguments, a warning says how to avoid more.
MANY = 8


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
class _Traced:
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
        self, owner: Owner, fn: Callable[..., Any], traced: tuple[_Traced, ...], types: tuple[Any, ...]
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
    return _is_array(leaf) and same_type(_jax.typeof(leaf), aval)


# The kinds of types that a number of Python may take.
_KINDS: dict[type, tuple[Any, ...]] = {
    bool: (np.bool_,),
    int: (np.number,),
    float: (np.inexact,),
    complex: (np.complexfloating,),
}


# --------------------------------------------------------------------------------------------------------------- hoisting
@public
@_jax.boundary
def function(fn: Callable[..., Any], *example: Any) -> Function:
    """Make an operand of a function once, outside of a loop: where it is an operand, it is not traced again.

    It is for operations whose author declared a function operand with `Primitive.def_function`. What they get in its
    place, a function that is defined anew at each call, is traced at each call.

    Args:
        fn: the function: any callable of JAX code, with anything in its closure.
        *example: the arguments that it will be called with, or their types.

    Raises:
        BadCall: ``fn`` is not a function.
        RuleWrong: it has side effects, or returns something that is not an array.

    Example:
        >>> import jax, jaxprim
        >>> twice = jaxprim.Primitive("twice")
        >>> _ = twice.def_impl(lambda f, x: f(f(x)))
        >>> _ = twice.def_function("f", lambda f, x: (x,))
        >>> square = jaxprim.function(lambda x: x * x, 1.0)
        >>> float(twice(square, 3.0))
        81.0
    """
    return hoisted(fn, [example], Owner(operand=name_of(fn)))


def hoisted_once(fn: Callable[..., Any], args: tuple[Any, ...], owner: Owner) -> Function:
    """A function that nobody makes again, traced at these arguments."""
    values, traced = _trace_all(fn, [_types(args)], owner)
    return Function(tuple(values), Code(owner, fn, traced, tuple(map(_jax.typeof, values))))


def hoisted(fn: Any, calls: Sequence[tuple[Any, ...]], owner: Owner, beside: Sequence[Any] = ()) -> Function:
    """A function as an operand, traced at each of the arguments it will be called with.

    Inside ``shard_map`` the arguments vary over all axes over which anything in reach does: what it closes over, and the
    operands ``beside`` it. So it may be called with its own results.
    """
    if isinstance(fn, Function):
        return fn
    if not callable(fn):
        raise _not_a_function(fn, owner)
    arguments = [_types(args) for args in calls]
    if _jax.mesh_in_reach():
        near = [*jax.tree.leaves(beside), *(closed.tracer for closed in closed_over([fn]))]
        arguments = _varying_with(arguments, filter(_is_array, near))
    values, traced = _trace_all(fn, arguments, owner)
    if _jax.mesh_in_reach():
        varied = _varying_with(arguments, values)
        if varied != arguments:
            values, traced = _trace_all(fn, varied, owner)
    return Function(tuple(values), _interned(owner, fn, traced, values))


_Arguments = tuple[Any, tuple[Any, ...]]  # the tree of arguments, and the types of its leaves


def _types(args: tuple[Any, ...]) -> _Arguments:
    leaves, tree = jax.tree.flatten(args, is_leaf=is_aval)
    return tree, tuple(from_author(leaf) if is_aval(leaf) else _jax.typeof(leaf) for leaf in leaves)


def _varying_with(arguments: Sequence[_Arguments], arrays: Iterable[Any]) -> list[_Arguments]:
    """Arguments that vary over all mesh axes over which some argument or one of these arrays does."""
    types = [*map(_jax.typeof, arrays), *(aval for _, avals in arguments for aval in avals)]
    axes = union_varying(types)
    if not axes:
        return list(arguments)
    like = next(aval for aval in types if _jax.varying(aval))
    return [(tree, tuple(_jax.vary_over(aval, axes, like) for aval in avals)) for tree, avals in arguments]


def _trace_all(
    fn: Callable[..., Any], arguments: Sequence[_Arguments], owner: Owner
) -> tuple[list[Any], tuple[_Traced, ...]]:
    """Trace a function at each of these arguments; returns also the values that it reads, each once."""
    values: list[Any] = []
    places: dict[int, int] = {}
    return values, tuple(_trace(fn, tree, avals, owner, values, places) for tree, avals in arguments)


def _trace(
    fn: Callable[..., Any], tree: Any, avals: tuple[Any, ...], owner: Owner, values: list[Any], places: dict[int, int]
) -> _Traced:
    trees: list[Any] = []

    def run(*leaves: Any) -> list[Any]:
        found, out_tree = jax.tree.flatten(fn(*tree.unflatten(leaves)))
        trees.append(out_tree)
        return [_as_array(leaf, fn, owner) for leaf in found]

    try:
        whole, read = _jax.trace_open(run, avals, name_of(fn))
    except Exception as error:
        if isinstance(error, TypeError) and not _takes(fn, len(tree.children())):
            raise _takes_others(fn, avals, owner) from None
        if not _jax.asks_for_value(error):
            raise
        raise _asks_for_value(fn, owner) from error
    key = (tree, avals, key_of(whole), trees[0])  # `prune` wraps rules inside anew, and nobody knows them again
    jaxpr, read = _jax.prune(whole, read)
    _refuse_effects(jaxpr, fn, owner)
    for value in read:
        if id(value) not in places:
            places[id(value)] = len(values)
            values.append(value)
    reads = tuple(places[id(value)] for value in read)
    return _Traced(tree, avals, jaxpr, reads, trees[0], (key, reads))


# ------------------------------------------------------------------------------------------------- one object for equal code
_interned_codes: weakref.WeakValueDictionary[Any, Code] = weakref.WeakValueDictionary()
_made: weakref.WeakKeyDictionary[Any, dict[Any, int]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def _interned(owner: Owner, fn: Callable[..., Any], traced: tuple[_Traced, ...], values: Sequence[Any]) -> Code:
    types = tuple(map(_jax.typeof, values))
    key = (owner, types, tuple(each.key for each in traced))
    with _lock:
        found = _interned_codes.get(key)
        if found is not None:
            return found
        made = _interned_codes[key] = Code(owner, fn, traced, types)
        is_many = _counted(fn, (owner, tuple((each.tree, each.avals) for each in traced)))
    if is_many:
        warnings.warn(_many(made, fn), UserWarning, stacklevel=2)
    return made


def _counted(fn: Callable[..., Any], key: Any) -> bool:
    """Count the programs of an author's function; whether there are many now."""
    code = getattr(fn, "__code__", None)
    if code is None:
        return False
    counts = _made.setdefault(code, {})
    counts[key] = counts.get(key, 0) + 1
    return counts[key] == MANY


# --------------------------------------------------------------------------------------------------------------- messages
def _many(code: Code, fn: Callable[..., Any]) -> str:
    owner = code.owner
    call = f"{owner.primitive}(f, ...)" if owner.primitive else "f(...)"
    return message(
        f"{owner.phrase} was another program at each of {MANY} calls, and each was compiled.",
        got=repr(code),
        expected="the same code, with other arrays in its closure",
        why="numbers of Python that it reads are a part of its code; arrays are not",
        rule=fn,
        write=f"f = jaxprim.function(f, ...)  # once, outside of the loop; then {call}",
    )


def _not_a_function(value: Any, owner: Owner) -> BadCall:
    return BadCall(
        message(
            f"{owner.phrase} is not a function.",
            got=_trees.describe(value),
            expected="a function of JAX code",
            rule=owner.declared,
            write=f"{owner.primitive or 'function'}(lambda x: ..., ...)",
        )
    )


def _refuse_effects(jaxpr: Any, fn: Callable[..., Any], owner: Owner) -> None:
    effects = _jax.refused_effects(jaxpr)
    if effects:
        raise RuleWrong(
            message(
                f"{owner.phrase} has side effects.",
                got=", ".join(effects),
                expected="a pure function (jax.debug.print is allowed)",
                why="operations are pure: JAX may drop, merge or repeat them",
                rule=fn,
                write="return result  # from arrays that it is given, or closes over",
            )
        )


def _takes(fn: Callable[..., Any], count: int) -> bool:
    """Whether a function takes this many arguments."""
    try:
        inspect.signature(fn).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # a builtin without a signature
        return True
    return True


def _takes_others(fn: Callable[..., Any], avals: Sequence[Any], owner: Owner) -> BadCall:
    return BadCall(
        message(
            f"{owner.phrase} does not accept the arguments it is called with.",
            got=f"{name_of(fn)}{inspect.signature(fn)}",
            expected=f"a function of ({', '.join(map(short, avals))})",
            rule=fn,
            write=f"lambda {', '.join(f'x{i}' for i in range(len(avals)))}: ...",
        )
    )


def _asks_for_value(fn: Callable[..., Any], owner: Owner) -> RuleWrong:
    return RuleWrong(
        message(
            f"{owner.phrase} needs the value of an argument, but the argument is traced.",
            got="a function that branches on a value, or makes a shape of it",
            expected="arguments used only as data",
            why="the operation is compiled once for all values",
            rule=fn,
            write="y = jax.lax.cond(predicate, f, g, x)  # or jnp.where(predicate, y1, y2)",
        )
    )


def _as_array(leaf: Any, fn: Callable[..., Any], owner: Owner) -> Any:
    try:
        _jax.typeof(leaf)
    except TypeError:
        raise RuleWrong(
            message(
                f"{owner.phrase} returned something that is not an array.",
                got=_trees.describe(leaf),
                expected="arrays, in any pytree",
                rule=fn,
                write="return jnp.asarray(result)",
            )
        ) from None
    return leaf


def _other_arguments(code: Code, args: tuple[Any, ...]) -> RuleWrong:
    owner = code.owner
    write = "f = jaxprim.function(f, *arguments)  # of these types"
    if owner.declared is not None:
        types = ", ".join(_written_type(arg) for arg in args) + "," * (len(args) == 1)
        write = f"return ({types})  # or a list of such tuples, if it is called in several ways"
    return RuleWrong(
        message(
            f"{owner.phrase} is called with other arguments than declared.",
            got=f"({', '.join(short_value(arg) if _is_array(arg) else _trees.describe(arg) for arg in args)})",
            expected=" or ".join(each.arguments for each in code.traced),
            why="a function is traced when the operation is applied, at the arguments that were declared",
            rule=owner.declared,
            write=write,
        )
    )


def _written_type(arg: Any) -> str:
    if not _is_array(arg):
        return "..."
    return f"jax.ShapeDtypeStruct({tuple(arg.shape)}, '{arg.dtype}')"


def _refuse_other_values(code: Code, values: Sequence[Any]) -> None:
    for value, aval in zip(values, code.types, strict=True):
        if is_zero(value):
            got = f"a Zero, {short_value(value)}"
        elif not _is_array(value) and not isinstance(value, int | float | complex):
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


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")
