"""Make a `Function` of a function: trace it, and find the code that was made of it before."""

from __future__ import annotations

import inspect
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

from jaxprim import _jax, _trees
from jaxprim._avals import from_author, is_aval, short, union_varying
from jaxprim._closures import closed_over
from jaxprim._errors import BadCall, RuleWrong, message
from jaxprim._functions import Code, Function, Owner, Traced, is_array
from jaxprim._origin import name_of, public
from jaxprim._returned import require_array, require_pure
from jaxprim._signature import accepts
from jaxprim._structure import key_of

# After this many programs for one function of an author and one kind of arguments, a warning says how to avoid more.
MANY = 8


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
        arguments = _varying_with(arguments, filter(is_array, near))
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
) -> tuple[list[Any], tuple[Traced, ...]]:
    """Trace a function at each of these arguments; returns also the values that it reads, each once."""
    values: list[Any] = []
    places: dict[int, int] = {}
    return values, tuple(_trace(fn, tree, avals, owner, values, places) for tree, avals in arguments)


def _trace(
    fn: Callable[..., Any], tree: Any, avals: tuple[Any, ...], owner: Owner, values: list[Any], places: dict[int, int]
) -> Traced:
    trees: list[Any] = []

    def run(*leaves: Any) -> list[Any]:
        found, out_tree = jax.tree.flatten(fn(*tree.unflatten(leaves)))
        trees.append(out_tree)
        return [require_array(owner.phrase, leaf, fn, lambda: "return jnp.asarray(result)") for leaf in found]

    try:
        whole, read = _jax.trace_open(run, avals, name_of(fn))
    except Exception as error:
        if isinstance(error, TypeError) and not accepts(fn, [None] * len(tree.children())):
            raise _takes_others(fn, avals, owner) from None
        if not _jax.asks_for_value(error):
            raise
        raise _asks_for_value(fn, owner) from error
    key = (tree, avals, key_of(whole), trees[0])  # `prune` wraps rules inside anew, and nobody knows them again
    jaxpr, read = _jax.prune(whole, read)
    require_pure(owner.phrase, jaxpr, fn, "return result  # from arrays that it is given, or closes over")
    for value in read:
        if id(value) not in places:
            places[id(value)] = len(values)
            values.append(value)
    reads = tuple(places[id(value)] for value in read)
    return Traced(tree, avals, jaxpr, reads, trees[0], (key, reads))


# ------------------------------------------------------------------------------------------------- one object for equal code
_interned_codes: weakref.WeakValueDictionary[Any, Code] = weakref.WeakValueDictionary()
_made: weakref.WeakKeyDictionary[Any, dict[Any, int]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def _interned(owner: Owner, fn: Callable[..., Any], traced: tuple[Traced, ...], values: Sequence[Any]) -> Code:
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
