"""Reading what an author's rule returned, checked against the operation's types; every mismatch has its message."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from jaxprim import _jax, _trees
from jaxprim._avals import from_author, is_aval, same_type, short, short_value
from jaxprim._errors import RuleWrong, text
from jaxprim._trees import TreeMismatch
from jaxprim._zeros import Zero


@dataclass(frozen=True)
class Results:
    """The types of an operation's results: leaf types, and the tree that they form."""

    avals: tuple[Any, ...]
    tree: Any

    def names(self) -> list[str]:
        names = _trees.leaf_names(self.tree)
        return ["result" + name for name in names]


def wrong(primitive: str, what: str, **facts: Any) -> RuleWrong:
    return RuleWrong(text(f"{primitive}: {what}", **facts))


def read_avals(primitive: str, author: Callable[..., Any], value: Any) -> Results:
    """What an abstract eval returned."""
    leaves, tree = jax.tree.flatten(value, is_leaf=is_aval)
    for leaf in leaves:
        if not is_aval(leaf):
            raise wrong(
                primitive,
                "abstract eval must return the type of each result.",
                got=short_value(leaf) if hasattr(leaf, "dtype") else f"a {type(leaf).__name__}",
                expected="jax.ShapeDtypeStruct(shape, dtype) or jax.core.ShapedArray(shape, dtype)",
                rule=author,
                write="return jax.ShapeDtypeStruct(x.shape, x.dtype)",
            )
    return Results(tuple(from_author(leaf) for leaf in leaves), tree)


def read_outputs(primitive: str, rule: str, author: Callable[..., Any], value: Any, expected: Results) -> list[Any]:
    """The primal outputs that a rule returned."""
    try:
        leaves = _trees.flatten_like(expected.tree, value)
    except TreeMismatch as mismatch:
        raise wrong(
            primitive,
            f"the {rule} returned primal outputs of another structure than the operation's results.",
            got=f"{mismatch.got}{' at ' + mismatch.where if mismatch.where else ''}",
            expected=mismatch.expected,
            rule=author,
            write=_output_line(rule, expected),
        ) from None
    for name, leaf, aval in zip(expected.names(), leaves, expected.avals, strict=True):
        if leaf is None or isinstance(leaf, _jax.JaxZero) or not _fits(leaf, aval):
            raise wrong(
                primitive,
                f"the {rule} returned a primal output of another type than the operation's ({name}).",
                got=short_value(leaf),
                expected=short(aval),
                rule=author,
                write=_cast_line(name, leaf, aval),
            )
    return leaves


def read_linear(
    primitive: str,
    rule: str,
    author: Callable[..., Any],
    value: Any,
    tree: Any,
    names: Sequence[str],
    avals: Sequence[Any],
) -> list[Any]:
    """Tangents or cotangents that a rule returned: arrays, and None for a zero.

    ``avals`` are the expected tangent or cotangent types.
    """
    what = "tangent" if "JVP" in rule else "cotangent"
    try:
        leaves = _trees.flatten_like(tree, value)
    except TreeMismatch as mismatch:
        raise wrong(
            primitive,
            f"the {rule} returned {what}s of another structure than "
            f"{'the results' if what == 'tangent' else 'the operands'}.",
            got=f"{mismatch.got}{' at ' + mismatch.where if mismatch.where else ''}",
            expected=mismatch.expected,
            rule=author,
            write=f"return {_tuple_line(names)}" + ("  # None for a zero" if what == "cotangent" else ""),
        ) from None
    return [
        _read_leaf(primitive, rule, author, what, leaf, name, aval)
        for leaf, name, aval in zip(leaves, names, avals, strict=True)
    ]


def _read_leaf(
    primitive: str, rule: str, author: Callable[..., Any], what: str, leaf: Any, name: str, aval: Any
) -> Any:
    zero: Any = leaf.aval if isinstance(leaf, _jax.JaxZero) else None
    if leaf is None or (zero is not None and tuple(zero.shape) == tuple(aval.shape)):
        return None
    if aval.dtype == _jax.float0:
        raise wrong(
            primitive,
            f"the {rule} returned a {what} for {name}, which has none (integers, booleans and keys have no tangents).",
            got=short_value(leaf),
            expected="None",
            rule=author,
            write="return None at its place",
        )
    got = leaf if zero is None else zero
    if not _fits(got, aval):
        raise wrong(
            primitive,
            f"the {rule} returned a wrong {what} for {name}.",
            got=short_value(leaf) if zero is None else short(zero),
            expected=short(aval),
            rule=author,
            write=_fix_line(f"{name}_{'dot' if what == 'tangent' else 'bar'}", leaf, aval),
        )
    return leaf


def _fits(value: Any, aval: Any) -> bool:
    try:
        got = value if hasattr(value, "weak_type") and not hasattr(value, "devices") else _jax.typeof(value)
    except TypeError:
        return False
    if same_type(got, aval):
        return True
    # A Python or weakly typed scalar takes the expected dtype, as in array code.
    return bool(got.weak_type) and tuple(got.shape) == tuple(aval.shape) and _promotes(got.dtype, aval.dtype)


def _promotes(weak: Any, dtype: Any) -> bool:
    order = "biufc"
    return order.find(weak.kind) <= order.find("f" if dtype.name == "bfloat16" else dtype.kind)


def _cast_line(name: str, leaf: Any, aval: Any) -> str:
    return _fix_line("y" + name.removeprefix("result"), leaf, aval)


def _fix_line(name: str, leaf: Any, aval: Any) -> str:
    shape = getattr(leaf, "shape", None)
    name = name if name.replace("_", "a").isalnum() else "value"
    if shape is None:
        return f"{name} = jnp.zeros({tuple(aval.shape)}, '{aval.dtype.name}')"
    if tuple(shape) == tuple(aval.shape):
        if jax.numpy.issubdtype(leaf.dtype, jax.numpy.complexfloating) and aval.dtype.kind == "f":
            return f"{name} = {name}.real"
        return f"{name} = {name}.astype('{aval.dtype.name}')"
    if tuple(aval.shape) == () or len(shape) > len(aval.shape):
        axes = "" if tuple(aval.shape) == () else f", axis={tuple(range(len(shape) - len(aval.shape)))}"
        return f"{name} = jnp.sum({name}{axes})"
    return f"{name} = jnp.broadcast_to({name}, {tuple(aval.shape)})"


def _tuple_line(names: Sequence[str]) -> str:
    simple = [f"{name}_bar" if name.isidentifier() else "..." for name in names]
    return f"({', '.join(simple)}{',' if len(simple) == 1 else ''})"


def _output_line(rule: str, expected: Results) -> str:
    count = expected.tree.num_leaves
    flat = jax.tree.structure(tuple(range(count)))
    out = f"({', '.join(f'y{i + 1}' for i in range(count))})" if expected.tree == flat and count != 1 else "output"
    return f"return {out}, " + ("tangents_out" if "JVP" in rule else "pullback")


def fit(value: Any, aval: Any) -> Any:
    """A value that a rule returned, as JAX wants it: the dtype of a weak scalar settled, the varying axes completed."""
    if not hasattr(value, "dtype") or value.dtype != aval.dtype:
        value = jax.numpy.asarray(value, aval.dtype)
    return _jax.conform(value, aval)


def tangents_for_rule(leaves: Sequence[Any]) -> list[Any]:
    """Tangents or cotangents as a rule meets them: arrays, `Zero`, or None for a type without tangents."""
    return [_zero_for_rule(t.aval) if isinstance(t, _jax.JaxZero) else t for t in leaves]


def _zero_for_rule(aval: Any) -> Zero | None:
    return None if aval.dtype == _jax.float0 else Zero(aval)
