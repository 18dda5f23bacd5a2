"""Host functions: ordinary Python on NumPy arrays, guarded.

A host function gets read-only NumPy arrays and must not use JAX, because JAX in a callback can deadlock. Using JAX in
its thread raises an error, and so does a ``jax.Array`` that it returns or closes over. Results are checked, and cast only
if the author asks for it.
"""

from __future__ import annotations

import dis
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import _jax, _trees
from jaxprim._avals import ENABLE_X64, WITHOUT_X64, from_author, needs_x64, short
from jaxprim._calls import Call
from jaxprim._errors import HostError, message
from jaxprim._returned import InReach, Results, in_words_of, returned_avals
from jaxprim._rule_kinds import form_of
from jaxprim._rules import Rule, RuleSet, explain_call
from jaxprim._trees import TreeMismatch


def callback(call: Call, rule: Rule, results: Results) -> Callable[..., list[np.ndarray]]:
    """The guarded host function on flat NumPy arrays."""
    refuse_closed_over_arrays(call.rules.name, rule.author)

    def run(*leaves: Any) -> list[np.ndarray]:
        call.rules.record("host")
        operands = call.operands([read_only(leaf) for leaf in leaves])
        return _apart(_answer, call, rule, operands, results)

    return run


def _answer(call: Call, rule: Rule, operands: Sequence[Any], results: Results) -> list[np.ndarray]:
    in_reach = lambda: call.in_reach(jax.tree.leaves(operands))
    declared = Declared(results, _by_whom(call.rules), in_reach, rule.casts)
    return read_results(call.rules.name, rule.author, _run(call, rule.author, operands), declared)


@dataclass(frozen=True)
class Declared:
    """The types that a host function must return.

    Attributes:
        results: the types.
        by: what declares them.
        in_reach: the arrays that its code can name.
        casts: whether results of another dtype are cast.
    """

    results: Results
    by: str
    in_reach: InReach
    casts: bool = False

    @property
    def by_from_numpy(self) -> bool:
        """Whether the author gave the function to `from_numpy`."""
        return self.by in (BY_LIKE, BY_DEFAULT)

    @property
    def remedy(self) -> str:
        """What else to do than to return these types, in a line to write."""
        return "give like=" if self.by == BY_DEFAULT else f"correct {self.by.replace('its', 'the')}"


BY_LIKE, BY_DEFAULT = "like=", "the default of like="  # of `from_numpy`


def _by_whom(rules: RuleSet) -> str:
    # An author never wrote the rule that `from_numpy` writes.
    rule = rules.given.get("abstract_eval")
    return getattr(rule.author, "declared_by", "its abstract eval") if rule is not None else "its abstract eval"


def _run(call: Call, fn: Callable[..., Any], operands: Sequence[Any]) -> Any:
    name = call.rules.name
    try:
        with _jax.without_jax(lambda operation: _used_jax(name, fn, operation)):
            return _apart(fn, *operands, **call.params)
    except (TypeError, RecursionError) as error:
        explain_call(error, call.rules, form_of("host"), fn, operands, call.params, frames=3)
        raise
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        raise HostError(
            message(
                f"{name}: the host function writes to its input.",
                got=str(error),
                expected="inputs used read-only (JAX may share their memory)",
                rule=fn,
                write=f"{next(iter(call.rules.signature.operands), 'x')} = "
                f"{next(iter(call.rules.signature.operands), 'x')}.copy()  # before writing to it",
            )
        ) from error


def _apart(fn: Callable[..., Any], /, *args: Any, **params: Any) -> Any:
    """Call a function so that an error of it does not bring JAX's stack along.

    When a compiled program fails, its error holds the stack of the frame that raised, outermost frame first: some fifteen
    frames of JAX before the author's own. The frame of a suspended generator has nothing above it.
    """
    suspended = _result_or_error(fn, args, params)  # the traceback keeps it, as it keeps this frame
    result, error = next(suspended)
    if error is not None:
        raise error
    return result


def _result_or_error(
    fn: Callable[..., Any], args: Sequence[Any], params: Mapping[str, Any]
) -> Iterator[tuple[Any, Exception | None]]:
    try:
        yield fn(*args, **params), None
    except Exception as error:  # noqa: BLE001 - raised again by the caller
        yield None, error


def read_only(leaf: Any) -> np.ndarray:
    array = np.asarray(leaf).view()
    array.flags.writeable = False
    return array


def _used_jax(name: str, fn: Callable[..., Any], operation: str) -> HostError:
    return HostError(
        message(
            f"{name}: the host function uses JAX.",
            got=f"the JAX operation '{operation}'",
            expected="NumPy, SciPy or plain Python",
            why="calling JAX inside a JAX callback can deadlock",
            rule=fn,
            write=f"@{name}.def_impl  # or use np instead of jnp",
        )
    )


def refuse_closed_over_arrays(name: str, fn: Callable[..., Any]) -> None:
    """A ``jax.Array`` that a host function closes over, or reads from its module, is refused."""
    for variable, value in _reachable(fn):
        if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(value)):
            raise HostError(
                message(
                    f"{name}: the host function closes over the jax.Array '{variable}'.",
                    got=f"{variable}: {_trees.describe(value)}",
                    expected="NumPy arrays",
                    why="reading a jax.Array inside a JAX callback can deadlock",
                    rule=fn,
                    write=f"{variable} = {_as_numpy(variable, value)}  # outside, once; or make it an operand",
                )
            )


def _as_numpy(variable: str, value: Any) -> str:
    return f"np.asarray({variable})" if isinstance(value, jax.Array) else f"jax.tree.map(np.asarray, {variable})"


def _reachable(fn: Callable[..., Any]) -> list[tuple[str, Any]]:
    """The closed-over and global variables that a function reads, with their values."""
    target: Any = inspect.unwrap(fn)
    found: list[tuple[str, Any]] = []
    while isinstance(target, functools.partial):
        found += [(f"args[{i}]", value) for i, value in enumerate(target.args)] + list(target.keywords.items())
        target = target.func
    code = getattr(target, "__code__", None)
    if code is None:
        return found
    module = target.__globals__
    found += [(variable, module[variable]) for variable in _globals_of(code) if variable in module]
    for variable, cell in zip(code.co_freevars, target.__closure__ or (), strict=True):
        try:
            found.append((variable, cell.cell_contents))
        except ValueError:  # not assigned yet
            continue
    return found


@functools.lru_cache(1024)  # every eager call runs this, too
def _globals_of(code: CodeType) -> list[str]:
    """The global names that a function and its inner functions read."""
    names = [op.argval for op in dis.get_instructions(code) if op.opname == "LOAD_GLOBAL"]
    inner = [const for const in code.co_consts if isinstance(const, CodeType)]
    return [*names, *(name for each in inner for name in _globals_of(each))]


def read_results(name: str, fn: Callable[..., Any], value: Any, declared: Declared) -> list[np.ndarray]:
    """Read a host function's results, which must have exactly the declared types."""
    results = declared.results
    try:
        leaves = _trees.flatten_like(results.tree, value)
    except TreeMismatch as mismatch:
        raise HostError(
            message(
                f"{name}: the host function returned a different structure than {declared.by} declares.",
                got=mismatch.got_where,
                expected=mismatch.expected,
                rule=fn,
                write=f"{_trees.returned(results.tree, results.variables())}  # or {declared.remedy}",
            )
        ) from None
    return [_read_leaf(name, fn, leaf, declared, index) for index, leaf in enumerate(leaves)]


def _read_leaf(name: str, fn: Callable[..., Any], leaf: Any, declared: Declared, index: int) -> np.ndarray:
    results = declared.results
    aval = results.avals[index]
    if isinstance(leaf, jax.Array):
        raise HostError(
            message(
                f"{name}: the host function returned a jax.Array as {results.names()[index]}.",
                got=f"jax.Array {short(leaf)}",
                expected=f"NumPy array {short(aval)}",
                why="reading a jax.Array inside a JAX callback can deadlock",
                rule=fn,
                write="result = np.asarray(result)  # outside the host function, once",
            )
        )
    # np.float64 is a subclass of Python's float, but has a dtype of its own.
    is_weak = isinstance(leaf, bool | int | float | complex) and not isinstance(leaf, np.generic)
    array = np.asarray(leaf, aval.dtype if is_weak else None)
    if not array.dtype.isnative:  # the same type, with its bytes in another order, as some files have it
        array = array.astype(array.dtype.newbyteorder("="))
    if array.shape == tuple(aval.shape) and array.dtype == aval.dtype:
        return array
    if declared.casts and array.shape == tuple(aval.shape) and is_same_kind(array, aval.dtype):
        return array.astype(aval.dtype)
    raise HostError(
        message(
            f"{name}: the host function returned {results.names()[index]} with a different type than {declared.by} declares.",
            got=_trees.describe(leaf) if array.dtype == object else short(array),
            expected=short(aval),
            why=WITHOUT_X64 if _lacks_x64(array, aval) else None,
            rule=fn,
            write=_fix(array, aval, declared),
        )
    )


def is_same_kind(array: np.ndarray, dtype: Any) -> bool:
    """Whether a cast only loses digits: not the imaginary part, the fraction, or the high bits of an integer."""
    kinds = np.bool_, np.integer, np.floating, np.complexfloating  # NumPy knows no kind of bfloat16
    given, wanted = (
        next((i for i, kind in enumerate(kinds) if jnp.issubdtype(d, kind)), None) for d in (array.dtype, dtype)
    )
    if given is None or wanted is None or given > wanted:
        return False
    return wanted > 1 or bool(np.all(array == array.astype(dtype)))


def _lacks_x64(array: np.ndarray, aval: Any) -> bool:
    """Whether a result would have its type if JAX's 64-bit types were switched on."""
    return array.dtype.kind in "iufc" and needs_x64(array.dtype) and from_author(array).dtype == aval.dtype


def _fix(array: np.ndarray, aval: Any, declared: Declared) -> str:
    operands = list(declared.in_reach())
    shape, (its_shape, its_dtype) = tuple(aval.shape), in_words_of(aval, operands)
    if array.dtype == object:
        return "return result"
    if array.shape == shape and _lacks_x64(array, aval):
        return f"return result.astype({its_dtype})  # or {'cast=True, or ' * declared.by_from_numpy}{ENABLE_X64}"
    if array.shape == shape:
        return f"return result.astype({its_dtype})  # or {declared.remedy}"
    if array.size == aval.size:
        return f"return result.reshape({its_shape})  # or {declared.remedy}"
    wanted = returned_avals(Results((from_author(array),), _trees.LEAF), operands)
    if declared.by_from_numpy:
        return f"like=lambda {', '.join(name for name, _ in operands)}: {wanted.removeprefix('return ')}"
    return f"{wanted}  # in the abstract eval"
