"""Read what an author's rule returned, and check it against the operation's types. Each mismatch has a message."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxprim import _jax, _trees
from jaxprim._avals import from_author, instantiate, is_aval, same_type, short, short_value
from jaxprim._errors import JaxprimError, RuleWrong, message
from jaxprim._rule_kinds import Form
from jaxprim._trees import TreeMismatch
from jaxprim._zeros import Zero, is_symbolic, is_zero

Author = Callable[..., Any]
# Arrays in the author's reach, as their code and their type. Made only for a message.
InReach = Callable[[], Iterable[tuple[str, Any]]]


@dataclass(frozen=True)
class Results:
    """The types of an operation's results: the leaf types and their tree."""

    avals: tuple[Any, ...]
    tree: Any

    def names(self) -> list[str]:
        """The name of each result in a message: ``the result``, ``result[1]``, ``result['w']``."""
        if self.tree == _trees.LEAF:
            return ["the result"]
        return ["result" + name for name in _trees.leaf_names(self.tree)]

    @property
    def value(self) -> Any:
        """The result types in their tree."""
        return _trees.stand_in(self.tree, self.avals)

    def variables(self) -> list[str]:
        """A variable name for each result: ``y``, ``y_1``, ``y_w``."""
        return _trees.identifiers(["y" + name for name in _trees.leaf_names(self.tree)])


def wrong(primitive: str, what: str, **facts: Any) -> RuleWrong:
    return RuleWrong(message(f"{primitive}: {what}", **facts))


# ------------------------------------------------------------------------------------------------------ traced functions
def require_pure(who: str, program: Any, author: Author, write: str) -> None:
    """Refuse a traced function with side effects. ``who`` names it: ``"scale: the implementation"``."""
    effects = _jax.refused_effects(program)
    if effects:
        raise RuleWrong(
            message(
                f"{who} has side effects.",
                got=", ".join(effects),
                expected="a pure function (jax.debug.print is allowed)",
                why="operations are pure: JAX may drop, merge or repeat them",
                rule=author,
                write=write,
            )
        )


def require_array(who: str, leaf: Any, author: Author, write: Callable[[], str]) -> Any:
    """A leaf of what a traced function returned; refused if it is no array."""
    try:
        _jax.typeof(leaf)
    except TypeError:
        raise RuleWrong(
            message(
                f"{who} returned something that is not an array.",
                got=_trees.describe(leaf),
                expected="arrays, in any pytree",
                rule=author,
                write=write(),
            )
        ) from None
    return leaf


# ------------------------------------------------------------------------------------------------------ result types
def read_avals(primitive: str, author: Author, value: Any) -> Results:
    """Read the result types that an abstract eval returned."""
    leaves, tree = jax.tree.flatten(value, is_leaf=lambda x: x is None or is_aval(x))
    # An abstract eval gets tracers if the operands' classes cannot be built of types.
    bad = [leaf for leaf in leaves if leaf is not None and not is_aval(leaf) and not isinstance(leaf, _jax.Tracer)]
    if bad or value is None:
        raise wrong(
            primitive,
            "its abstract eval must return the type of each result.",
            got=_trees.describe(bad[0] if bad else None),
            expected="jax.ShapeDtypeStruct(shape, dtype) or jax.core.ShapedArray(shape, dtype)",
            rule=author,
            write="return jax.ShapeDtypeStruct(x.shape, x.dtype)",
        )
    leaves, tree = jax.tree.flatten(value, is_leaf=is_aval)
    return Results(tuple(from_author(leaf) for leaf in leaves), tree)


def returned_avals(results: Results, operands: Sequence[tuple[str, Any]]) -> str:
    """The line that returns result types, written with ``x.shape`` and ``x.dtype`` where an operand has the same."""
    return _trees.returned(results.tree, [_written_aval(aval, operands) for aval in results.avals])


def _written_aval(aval: Any, operands: Sequence[tuple[str, Any]]) -> str:
    shape, dtype = in_words_of(aval, operands)
    return f"jax.ShapeDtypeStruct({shape}, {dtype})"


def in_words_of(aval: Any, arrays: Iterable[tuple[str, Any]]) -> tuple[str, str]:
    """The code of a shape and of a dtype: ``x.shape`` and ``x.dtype`` where an array has the same, else this call's own.

    A line that is written with the numbers of one call is wrong for the next shape and the next dtype.
    """
    known = [(code, tuple(array.shape), array.dtype) for code, array in arrays]
    shape = next((f"{code}.shape" for code, shape, _ in known if shape == tuple(aval.shape) and shape), None)
    dtype = next((f"{code}.dtype" for code, _, dtype in known if dtype == aval.dtype), None)
    return shape or str(tuple(aval.shape)), dtype or repr(aval.dtype.name)


# ---------------------------------------------------------------------------------------------------- primal outputs
def read_outputs(
    primitive: str, form: Form, author: Author, value: Any, expected: Results, operands: InReach = tuple
) -> list[Any]:
    """Read the primal outputs that a rule of this form returned. It has these operands in reach."""
    try:
        leaves = _trees.flatten_like(expected.tree, value)
    except TreeMismatch as mismatch:
        raise wrong(
            primitive,
            f"the {form.phrase} returned primal outputs with a different structure than the operation's results.",
            got=mismatch.got_where,
            expected=mismatch.expected,
            rule=author,
            write=_output_line(form, expected),
        ) from None
    for index, (leaf, aval) in enumerate(zip(leaves, expected.avals, strict=True)):
        if is_zero(leaf) or not fits(leaf, aval):
            raise wrong(
                primitive,
                f"the {form.phrase} returned {expected.names()[index]} with a different type than the operation's.",
                got=short_value(leaf),
                expected=short(aval),
                rule=author,
                write=fix_line(expected.variables()[index], leaf, aval, operands()),
            )
    return leaves


def _output_line(form: Form, expected: Results) -> str:
    out = _trees.written(expected.tree, expected.variables())
    return f"return {out}, {form.beside}" if form.beside else _trees.returned(expected.tree, expected.variables())


# --------------------------------------------------------------------------------------------- tangents and cotangents
@dataclass(frozen=True)
class Wanted:
    """The tangents of the results, or cotangents of some operands, that a rule must return.

    Attributes:
        what: ``"tangent"`` or ``"cotangent"``.
        whose: ``"results"``, ``"operands"``, ...
        tree: the tree that they form.
        avals: the wanted types; float0 for a leaf without a tangent.
        labels: makes the name of each leaf for messages, and a variable name for each.
        like: makes the code of an array with the type of each leaf.
    """

    what: str
    whose: str
    tree: Any
    avals: Sequence[Any]
    labels: Callable[[], tuple[Sequence[str], Sequence[str]]]
    like: Callable[[], Sequence[str]]

    @property
    def line(self) -> str:
        """The line that returns them."""
        _, variables = self.labels()
        if self.what == "tangent":
            codes = ["None" if a.dtype == _jax.float0 else v for v, a in zip(variables, self.avals, strict=True)]
            return f"return primals_out, {_trees.written(self.tree, codes)}"
        # The same rule may meet a float where an integer is now, so the line has a cotangent for every operand.
        return _trees.returned(self.tree, variables)


def wanted_tangents(results: Results) -> Wanted:
    """The tangents that a JVP rule must return."""
    avals = [_jax.tangent_aval(aval) for aval in results.avals]
    labels = lambda: (results.names(), [f"{name}_dot" for name in results.variables()])
    return Wanted("tangent", "results", results.tree, avals, labels, results.variables)


def wanted_cotangents(
    tree: Any,
    names: Callable[[], Sequence[str]],
    avals: Sequence[Any],
    whose: str = "operands",
    like: Callable[[], Sequence[str]] | None = None,
) -> Wanted:
    """The cotangents that a pullback must return for operands of these types.

    ``tree`` is the tree of a tuple of operands, or of a single operand. ``like`` is for a rule that does not get them.
    """
    cts = [_jax.cotangent_aval(aval).update(weak_type=aval.weak_type) for aval in avals]
    return Wanted("cotangent", whose, tree, cts, lambda: (names(), _trees.identifiers(names(), "_bar")), like or names)


def read_linear(primitive: str, rule: str, author: Author, value: Any, wanted: Wanted) -> list[Any]:
    """Read the tangents or cotangents that a rule returned: arrays, and None for a zero.

    A cotangent for an operand without tangents, such as an integer, is dropped: a rule is written for ``scale(x, 2.0)``
    and meets ``scale(x, 2)``.
    """
    try:
        leaves = _trees.flatten_like(wanted.tree, value)
    except TreeMismatch as mismatch:
        raise wrong(
            primitive,
            f"the {rule} returned {wanted.what}s with a different structure than the {wanted.whose}.",
            got=mismatch.got_where,
            expected=mismatch.expected,
            why="None stands for a zero",
            rule=author,
            write=wanted.line,
        ) from None
    return [_read_leaf(primitive, rule, author, wanted, i, leaf) for i, leaf in enumerate(leaves)]


def read_cotangents(primitive: str, rule: str, author: Author, value: Any, operands: Any, wanted: Wanted) -> list[Any]:
    """Read the cotangents of operands, whose tree is the tuple ``operands``: arrays, and None for a zero.

    That of a single operand may be bare. As for ``jax.custom_vjp``, one array may stand for each leaf of an operand.
    """
    _, bare = _trees.bare(operands, value)
    try:
        leaves = _trees.flatten_like(wanted.tree, bare)
    except TreeMismatch:
        leaves = _spread(operands, value)
        if leaves is None or not all(map(_fits_cotangent, leaves, wanted.avals)):
            leaves = None
    return read_linear(
        primitive, rule, author, bare if leaves is None else _trees.stand_in(wanted.tree, leaves), wanted
    )


def _spread(operands: Any, value: Any) -> list[Any] | None:
    """The leaves of a tuple of cotangents, some of which stand for all leaves of their operand."""
    trees = operands.children()
    if not isinstance(value, tuple | list) or len(value) != len(trees):
        return None
    try:
        return [
            x for tree, part in zip(trees, value, strict=True) for x in _trees.flatten_like(tree, part, spread=True)
        ]
    except TreeMismatch:
        return None


def _fits_cotangent(leaf: Any, aval: Any) -> bool:
    return is_zero(leaf) or aval.dtype == _jax.float0 or fits(leaf, aval)


def _read_leaf(primitive: str, rule: str, author: Author, wanted: Wanted, index: int, leaf: Any) -> Any:
    aval = wanted.avals[index]
    zero: Any = leaf.aval if is_symbolic(leaf) else None
    is_dropped = aval.dtype == _jax.float0 and wanted.what == "cotangent"
    if is_dropped or leaf is None or (zero is not None and tuple(zero.shape) == tuple(aval.shape)) or _is_float0(leaf):
        return None
    if aval.dtype == _jax.float0:
        raise wrong(
            primitive,
            f"the {rule} returned a {wanted.what} for {wanted.labels()[0][index]}, which has none.",
            got=short_value(leaf),
            expected="None",
            why="integers, booleans and PRNG keys have no tangents",
            rule=author,
            write=wanted.line,
        )
    got = leaf if zero is None else zero
    if not fits(got, aval):
        raise wrong(
            primitive,
            f"the {rule} returned a wrong {wanted.what} for {wanted.labels()[0][index]}.",
            got=short_value(got),
            expected=short(aval),
            rule=author,
            write=fix_line(wanted.labels()[1][index], got, aval, [(wanted.like()[index], aval)]),
        )
    return leaf


def _is_float0(leaf: Any) -> bool:
    """Whether a leaf is a float0 array, which JAX's own jvp and vjp return for types without tangents."""
    return getattr(leaf, "dtype", None) == _jax.float0


# ------------------------------------------------------------------------------------------------------------- types
def fits(value: Any, aval: Any) -> bool:
    """Whether a value that a rule returned has this type, or takes it."""
    try:
        got = value if is_aval(value) else _jax.typeof(value)
    except TypeError:
        return False
    if same_type(got, aval):
        return True
    # A Python or weakly typed scalar takes the expected dtype, as in array code. The cotangent of such a scalar may
    # have another dtype, because array code computes it in the dtype of the arrays that the scalar met.
    return (
        bool(got.weak_type or aval.weak_type)
        and tuple(got.shape) == tuple(aval.shape)
        and _promotes(got.dtype, aval.dtype)
    )


def _promotes(weak: Any, dtype: Any) -> bool:
    order = "biufc"  # bool, int, unsigned, float, complex: a weak value fits a dtype of its own kind or a later one
    # NumPy's kind of bfloat16 and other extended floats is "V", so ask JAX.
    kind = "f" if jax.numpy.issubdtype(dtype, jax.numpy.floating) else dtype.kind
    return order.find(weak.kind) <= order.find(kind)


def fix_line(variable: str, value: Any, aval: Any, arrays: Iterable[tuple[str, Any]]) -> str:
    """The line that converts a value to the wanted type, written with the arrays in reach."""
    its_shape, its_dtype = in_words_of(aval, arrays)
    if not is_aval(value):
        try:
            value = _jax.typeof(value)
        except TypeError:
            return f"{variable} = jnp.zeros({its_shape}, {its_dtype})"
    got, shape = tuple(value.shape), tuple(aval.shape)
    if got == shape:
        is_real_part = jax.numpy.issubdtype(value.dtype, jax.numpy.complexfloating) and aval.dtype.kind == "f"
        return f"{variable} = {variable}" + (".real" if is_real_part else f".astype({its_dtype})")
    # Extra leading axes: usually a cotangent that was not summed over the axes along which its operand was broadcast.
    if len(got) > len(shape) and got[len(got) - len(shape) :] == shape:
        axes = f", axis={tuple(range(len(got) - len(shape)))}" if shape else ""
        return f"{variable} = jnp.sum({variable}{axes})"
    if value.size == aval.size:
        return f"{variable} = {variable}.reshape({its_shape})"
    try:
        can_spread = jax.numpy.broadcast_shapes(got, shape) == shape
    except ValueError:
        can_spread = False
    filled = f"broadcast_to({variable}, {its_shape})" if can_spread else f"zeros({its_shape}, {its_dtype})  # its value"
    return f"{variable} = jnp.{filled}"


def fit(value: Any, aval: Any) -> Any:
    """Convert a value that a rule returned to exactly this aval: the dtype of a weak scalar, the varying axes."""
    if not hasattr(value, "dtype") or value.dtype != aval.dtype:
        value = jax.numpy.asarray(value, aval.dtype)
    return _jax.conform(value, aval)


_NOT_YET_ARRAYS = (bool, int, float, complex, np.ndarray, np.generic, Zero)


def as_arrays(leaves: Sequence[Any]) -> list[Any]:
    """Operands as a rule receives them, both eagerly and under jit: arrays, which keep their weak types."""
    return [jax.numpy.asarray(leaf) if isinstance(leaf, _NOT_YET_ARRAYS) else leaf for leaf in leaves]


def run_with_zeros(run: Callable[[list[Any]], Any], leaves: Sequence[Any]) -> Any:
    """Run a rule on tangents or cotangents with symbolic zeros; if that raises, run it on arrays of zeros.

    Some functions that a rule may call do not accept a symbolic zero: the function that ``jax.vjp`` returns,
    ``jax.jvp``, and code written for ``jax.custom_vjp``. The zero of an integer becomes an array of float0 for them. If
    both runs fail, the zeros were not the cause, and the first error is raised.
    """
    leaves = [t if isinstance(t, _jax.JaxZero) else as_arrays([t])[0] for t in leaves]
    if not any(isinstance(t, _jax.JaxZero) for t in leaves):
        return run(leaves)
    try:
        return run([Zero(t.aval) if isinstance(t, _jax.JaxZero) else t for t in leaves])
    except JaxprimError:
        raise
    except Exception as error:  # noqa: BLE001 any error may come from a symbolic zero
        first = error
    try:
        return run(instantiate(leaves))
    except Exception:  # noqa: BLE001 the zeros were not the cause
        pass
    raise first
