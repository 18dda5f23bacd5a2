"""What a Numba function does with its operands and results, held against its signature when Numba compiles it.

Numba converts what it stores: a float in an array of integers loses its fraction, and an array in one number becomes
its first element. So we look at the types that Numba found, and refuse what would lose a part of a value. And Numba
does not keep a function from writing its operands, which may be JAX's memory, in each of the ways to write.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any

import numpy as np

from jaxprim._avals import needs_x64
from jaxprim._errors import KernelError, message
from jaxprim.kernels.signature import Array, KernelSignature


@dataclass(frozen=True)
class Misfit:
    """What a function returns or stores, and the result that cannot hold it."""

    did: str
    got: str
    result: Array
    loses: str | None = None

    def error(self, name: str, signature: KernelSignature, fn: Callable[..., Any]) -> KernelError:
        bits = 32 if needs_x64(np.dtype(np.float64)) else 64
        wanted = f"c{2 * bits}" if self.loses == "the imaginary part" else f"f{bits}"
        return KernelError(
            message(
                f"{name}: the Numba function {self.did} something else than its signature says.",
                got=self.got,
                expected=f"{self.result.name}: {self.result}, in {signature}",
                why=f"{self.result.dtype} loses {self.loses}" if self.loses else None,
                rule=fn,
                write=f"-> {wanted} in the signature  # or operands of that type" if self.loses else None,
            )
        )


# ------------------------------------------------------------------------------------------------------ what is returned
def returned(module: Any, signature: KernelSignature, found: list[Misfit]) -> Any:
    """A Numba function that takes what the author's function returned. It does not compile if that does not fit."""
    from numba.extending import intrinsic

    @intrinsic
    def fits(typing: Any, value: Any) -> Any:
        wrong = _wrong(module.types, signature, value)
        if wrong is not None:
            found.append(wrong)
            raise module.core.errors.TypingError(wrong.got)
        zero = lambda context, builder, sig, args: context.get_constant(module.types.int32, 0)
        return module.types.int32(value), zero

    return fits


def _wrong(types: Any, signature: KernelSignature, value: Any) -> Misfit | None:
    if len(signature.results) == 1:
        return _wrong_result(types, signature.results[0], value)
    count = len(signature.results)
    if not isinstance(value, types.BaseTuple) or len(value) != count:
        return Misfit("returns", f"{_name(types, value)}, and not a tuple of {count}", signature.results[0])
    pairs = zip(signature.results, value, strict=True)
    return next((wrong for array, each in pairs if (wrong := _wrong_result(types, array, each))), None)


def _wrong_result(types: Any, array: Array, value: Any) -> Misfit | None:
    value = _plain(types, value)
    ndim = value.ndim if isinstance(value, types.Array) else 0
    if ndim != len(array.dims) or _rank(types, value) is None:
        return Misfit("returns", _name(types, value), array)
    return _lossy(types, "returns", array, value)


def _lossy(types: Any, did: str, array: Array, value: Any) -> Misfit | None:
    """Refuse a real number for an integer, and a complex one for a real number. (Integers wrap, as in NumPy.)"""
    rank = _rank(types, value)
    if rank is None or rank <= max(1, array.type.rank):
        return None
    return Misfit(did, _name(types, value), array, "the imaginary part" if rank == 3 else "the fraction")


def _plain(types: Any, value: Any) -> Any:
    value = types.unliteral(value)
    return value.type if isinstance(value, types.Optional) else value


def _rank(types: Any, value: Any) -> int | None:
    """The rank of the numbers in a value, as `rank_of` has it; None if it has none."""
    kind = value.dtype if isinstance(value, types.Array) else value
    rows = ((types.Boolean, 0), (types.Integer, 1), (types.Float, 2), (types.Complex, 3))
    return next((rank for row, rank in rows if isinstance(kind, row)), None)


def _name(types: Any, value: Any) -> str:
    if isinstance(value, types.NoneType):
        return "nothing"
    return f"{value.dtype}[{','.join(':' * value.ndim)}]" if isinstance(value, types.Array) else str(value)


# -------------------------------------------------------------------------------------------------------- what is stored
def stored(module: Any, fn: Any, signature: KernelSignature) -> Misfit | None:
    """The first store into a result that loses a part of a value, in a function that was compiled for a signature."""
    rows = [*signature.inputs, *signature.attributes, *signature.results]
    wanted = [module.from_dtype(row.type.numpy) for row in rows]
    first = len(rows) - len(signature.results)
    for args, compiled in fn.overloads.items():
        if len(args) == len(rows) and [getattr(arg, "dtype", arg) for arg in args] == wanted:
            return next(_stores(module, compiled, dict(enumerate(signature.results, first)), 0), None)
    return None


# Numba's operations whose result is a part or a view of the array that they are about.
_PARTS = ("getitem", "static_getitem", "getattr", "getiter", "iternext", "pair_first", "exhaust_iter", "cast")


def _stores(module: Any, compiled: Any, results: Mapping[int, Array], depth: int) -> Iterator[Misfit]:
    """The lossy stores of a compiled function whose arguments at some positions are results, or parts of one."""
    ir, types, known = module.core.ir, module.core.types, compiled.type_annotation
    typemap = getattr(known, "typemap", None)
    if typemap is None or depth > 8:  # Numba read it from its cache, without types; or it calls itself
        return
    parts: dict[str, Array] = {}  # the variables that are a result or a part of one
    for statement in _statements(known.blocks.values()):
        if isinstance(statement, ir.SetItem | ir.StaticSetItem) and statement.target.name in parts:
            value = typemap.get(statement.value.name)  # None for a variable that a parallel loop brought in
            wrong = (
                None if value is None else _lossy(types, "stores", parts[statement.target.name], _plain(types, value))
            )
            yield from [] if wrong is None else [wrong]
        if not isinstance(statement, ir.Assign):
            continue
        value = statement.value
        source = value.value if isinstance(value, ir.Expr) and value.op in _PARTS else value
        if isinstance(value, ir.Arg) and value.index in results:
            parts[statement.target.name] = results[value.index]
        elif isinstance(source, ir.Var) and source.name in parts:
            parts[statement.target.name] = parts[source.name]
        elif isinstance(value, ir.Expr) and value.op == "call":
            passed = {i: parts[arg.name] for i, arg in enumerate(value.args) if arg.name in parts}
            yield from _stores_of_call(module, typemap.get(value.func.name), known.calltypes.get(value), passed, depth)


def _statements(blocks: Iterable[Any]) -> Iterator[Any]:
    """The statements of a function, and of its parallel loops."""
    for statement in (each for block in blocks for each in block.body):
        yield statement
        if hasattr(statement, "loop_body"):
            yield from _statements([statement.init_block, *statement.loop_body.values()])


def _stores_of_call(module: Any, called: Any, call: Any, passed: Mapping[int, Array], depth: int) -> Iterator[Misfit]:
    """The lossy stores of a Numba function that gets a result."""
    if passed and call is not None and isinstance(called, module.core.types.Dispatcher):
        compiled = called.dispatcher.overloads.get(tuple(call.args))
        if compiled is not None:
            yield from _stores(module, compiled, passed, depth + 1)


# ------------------------------------------------------------------------------------------------- what may be written to
# Numba lets these write to a read-only array, or make a writable view of it.
_WRITERS = frozenset(("flat", "nditer", "ascontiguousarray", "asfortranarray", "fill_diagonal", "dot"))


def may_write(fn: Any) -> bool:
    """Whether Numba may let a function write to its read-only operands, so that it needs copies.

    So it is if the function was compiled for given types, which are those of writable arrays, or uses one of `_WRITERS`.
    """
    return not getattr(fn, "_can_compile", True) or _uses(fn, _WRITERS, set())


def _uses(fn: Any, names: frozenset[str], seen: set[int]) -> bool:
    """Whether a function, or a Python or Numba function that it calls, mentions one of these names."""
    plain = getattr(fn, "py_func", fn)
    if not inspect.isfunction(plain) or id(plain) in seen:
        return False
    seen.add(id(plain))
    mentioned = set(_mentioned(plain.__code__))
    variables = inspect.getclosurevars(plain)
    reached: Sequence[Any] = [*variables.nonlocals.values(), *variables.globals.values()]
    return bool(mentioned & names) or any(_uses(each, names, seen) for each in reached)


def _mentioned(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _mentioned(const)
