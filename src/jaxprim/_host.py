"""Host functions: ordinary Python on NumPy arrays, guarded.

A host function sees read-only NumPy arrays and nothing of JAX: JAX used in its thread is refused (in a callback it can
deadlock), and so is a ``jax.Array`` that it returns or closes over. Its results are checked and never cast.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxprim import _jax, _trees
from jaxprim._avals import short
from jaxprim._calls import Call
from jaxprim._errors import HostError, text
from jaxprim._results import Results
from jaxprim._rules import Rule
from jaxprim._trees import TreeMismatch


def callback(call: Call, rule: Rule, results: Results) -> Callable[..., list[np.ndarray]]:
    """The guarded host function on flat NumPy arrays."""
    refuse_closed_over_arrays(call.rules.name, rule.author)

    def run(*leaves: Any) -> list[np.ndarray]:
        call.rules.record("host")
        operands = call.operands([read_only(leaf) for leaf in leaves])
        return read_results(call.rules.name, rule.author, _run(call, rule.author, operands), results)

    return run


def _run(call: Call, fn: Callable[..., Any], operands: Sequence[Any]) -> Any:
    name = call.rules.name
    try:
        with _jax.without_jax(lambda operation: _used_jax(name, fn, operation)):
            return fn(*operands, **call.params)
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        raise HostError(
            text(
                f"{name}: the host function writes its input.",
                got=str(error),
                expected="inputs that are only read (JAX may share their memory)",
                rule=fn,
                write=f"{next(iter(call.rules.signature.operands), 'x')} = "
                f"{next(iter(call.rules.signature.operands), 'x')}.copy()  # before writing to it",
            )
        ) from error


def read_only(leaf: Any) -> np.ndarray:
    array = np.asarray(leaf).view()
    array.flags.writeable = False
    return array


def _used_jax(name: str, fn: Callable[..., Any], operation: str) -> HostError:
    return HostError(
        text(
            f"{name}: the host function uses JAX.",
            got=f"the JAX operation '{operation}'",
            expected="NumPy, SciPy or plain Python",
            why="JAX inside a callback of JAX can deadlock",
            rule=fn,
            write="use numpy (np) where the function uses jax.numpy (jnp), or give it to def_impl instead of def_host",
        )
    )


def refuse_closed_over_arrays(name: str, fn: Callable[..., Any]) -> None:
    """A ``jax.Array`` that a host function closes over, or reads from its module, is refused."""
    for variable, value in _reachable(fn):
        if isinstance(value, jax.Array):
            raise HostError(
                text(
                    f"{name}: the host function closes over the jax.Array '{variable}'.",
                    got=f"{variable}: jax.Array {short(_jax.typeof(value))}",
                    expected="NumPy arrays",
                    why="reading a jax.Array inside a callback of JAX can deadlock",
                    rule=fn,
                    write=f"{variable} = np.asarray({variable})  # outside, once; or pass it as an operand",
                )
            )


def _reachable(fn: Callable[..., Any]) -> list[tuple[str, Any]]:
    target = inspect.unwrap(fn)
    code = getattr(target, "__code__", None)
    if code is None:
        return []
    module = target.__globals__
    found = [(variable, module[variable]) for variable in code.co_names if variable in module]
    for variable, cell in zip(code.co_freevars, target.__closure__ or (), strict=True):
        try:
            found.append((variable, cell.cell_contents))
        except ValueError:  # not assigned yet
            continue
    return found


def read_results(name: str, fn: Callable[..., Any], value: Any, results: Results) -> list[np.ndarray]:
    """A host function's results, of exactly the declared types."""
    try:
        leaves = _trees.flatten_like(results.tree, value)
    except TreeMismatch as mismatch:
        raise HostError(
            text(
                f"{name}: the host function returned another structure than its abstract eval says.",
                got=f"{mismatch.got}{' at ' + mismatch.where if mismatch.where else ''}",
                expected=mismatch.expected,
                rule=fn,
            )
        ) from None
    return [
        _read_leaf(name, fn, leaf, aval, label)
        for leaf, aval, label in zip(leaves, results.avals, results.names(), strict=True)
    ]


def _read_leaf(name: str, fn: Callable[..., Any], leaf: Any, aval: Any, label: str) -> np.ndarray:
    if isinstance(leaf, jax.Array):
        raise HostError(
            text(
                f"{name}: the host function returned a jax.Array ({label}).",
                got=f"jax.Array {short(leaf)}",
                expected=f"numpy {short(aval)}",
                rule=fn,
                write="return a NumPy array: use np instead of jnp",
            )
        )
    # NumPy's float64 is a Python float too, and has a dtype of its own all the same.
    is_weak = isinstance(leaf, bool | int | float | complex) and not isinstance(leaf, np.generic)
    array = np.asarray(leaf, aval.dtype if is_weak else None)
    if array.shape == tuple(aval.shape) and array.dtype == aval.dtype:
        return array
    fix = f".astype(np.{aval.dtype.name})" if array.shape == tuple(aval.shape) else f".reshape({tuple(aval.shape)})"
    raise HostError(
        text(
            f"{name}: the host function returned another type than its abstract eval says ({label}).",
            got=short(array),
            expected=short(aval),
            rule=fn,
            write=f"return result{fix}  # or correct the abstract eval",
        )
    )
