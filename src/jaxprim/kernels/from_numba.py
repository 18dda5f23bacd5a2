"""`numba`: a Numba function as a kernel.

Numba compiles a C function around the author's function, once for each set of types. It turns the pointers that XLA
passes into arrays. The kernel calls it by its address, like any other C function.
"""

from __future__ import annotations

import ctypes
import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from jaxprim import _jax, _origin
from jaxprim._errors import KernelError, message
from jaxprim._origin import shorten
from jaxprim.kernels import ahead, parameters
from jaxprim.kernels.aliases import refuse_returned, shared
from jaxprim.kernels.arguments import default_order
from jaxprim.kernels.binding import bind
from jaxprim.kernels.from_pointer import pointer_target, trampoline
from jaxprim.kernels.handler import Function
from jaxprim.kernels.kernel import Kernel, Target
from jaxprim.kernels.numba_contract import Misfit, may_write, returned, stored
from jaxprim.kernels.operands import settle
from jaxprim.kernels.options import refuse_keep, threads_of
from jaxprim.kernels.signature import Array, Attribute, KernelSignature, parse
from jaxprim.kernels.sizes import local, to_python
from jaxprim.kernels.source import Source

# Numba's simplest threading layer aborts the process if two parallel functions run at once, so they take turns.
_LOCK = ctypes.c_int32(0)
_RAISED, _OTHER_SHAPE = 1, 2


@_jax.boundary
def numba(
    fn: Callable[..., Any],
    signature: str | None = None,
    *,
    threads: int | None = 1,
    name: str | None = None,
    aliases: Mapping[str, str] | None = None,
    keep: None = None,
) -> Kernel:
    """A Numba function as a kernel for CPUs. It is compiled once for each set of types, and runs without Python.

    Args:
        fn: a function that Numba compiled, or a Python function that it can compile. It takes its operands as arrays,
            its attributes as numbers, and then its results as arrays to write into; or it takes no results and returns
            them. ``parallel=True`` works.
        signature: ``"(x: T[n, d], w: T[d]; eps: T) -> T[n, d]"``, where T stands for any dtype. Without a
            signature, the function takes numbers and returns a number, and is applied to each element.
        threads: the number of threads that share the batch axes; None for all of XLA's.
        name: its name in messages.
        aliases: for the name of a result, that of the operand in whose memory it is: ``{"y": "x"}`` for a function that
            works in place. It gets y alone, which holds the values of x when it starts.
        keep: refused, because Numba makes arrays and no objects that outlive a call. Arrays can be the results of one
            operation and operands of the next.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxprim import kernels
        >>> def running_max(x, out):
        ...     best = x[0]
        ...     for i in range(len(x)):
        ...         best = max(best, x[i])
        ...         out[i] = best
        >>> kernel = kernels.numba(running_max, "(x: T[..., n]) -> T[..., n]")
        >>> kernel(jnp.array([1, 3, 2])).tolist()
        [1, 3, 3]
    """
    refuse_keep(
        "numba",
        keep,
        "what a Numba function makes are arrays, and those can be results",
        "x = solve(factorize(a), b)  # two operations; the rules of the second use the factors again",
    )
    module = _numba()
    plain = getattr(fn, "py_func", fn)
    if not inspect.isfunction(plain):
        raise _no_function(plain)
    name = name or str(getattr(plain, "__name__", "kernel"))
    count = len(inspect.signature(plain).parameters)
    found = shared(parse(signature or f"({', '.join(['T'] * count)}) -> T"), aliases)
    refuse_returned(name, found, list(inspect.signature(plain).parameters))
    style = "loop" if found.elementwise and found.operands else _style(name, found, count)
    if signature is not None:
        parameters.refuse_another_order(
            name, _given(found)[:count], [list(inspect.signature(plain).parameters)], signature, found.in_place
        )
    compiled = fn if hasattr(fn, "py_func") else module.njit(fn)
    is_parallel = bool(getattr(compiled, "targetoptions", {}).get("parallel"))
    if is_parallel and threads != 1:
        raise _two_kinds_of_threads(name, threads)
    call = Function(
        name,
        by_address=True,
        status=True,
        meanings=_meanings(name, found),
        threads=threads_of(threads),
        exclusive=is_parallel,
    )
    loader = _Loader(module, compiled, call, style, ahead.folders())
    if style == "loop":
        return _Elementwise(name, found, loader)
    return Kernel(name, found, loader, source=loader.source)


def _numba() -> Any:
    try:
        import numba as module
    except ImportError:
        raise KernelError(
            message(
                "kernels.numba needs Numba, which is not installed.",
                why="Numba is an extra of jaxprim",
                write="pip install 'jaxprim[numba]'",
            )
        ) from None
    return module


def _no_function(got: Any) -> KernelError:
    return KernelError(
        message(
            "kernels.numba got something that is not a Python function.",
            got=f"a {type(got).__module__}.{type(got).__qualname__}",
            expected="a Python function, or one that numba.njit compiled",
            why="ufuncs of NumPy and numba.vectorize take arrays as Python objects; "
            "kernels.numba itself applies a function of numbers to each element",
            defined=_origin.place(),
            write="kernels.numba(lambda x: np.sin(x))",
        )
    )


def _two_kinds_of_threads(name: str, threads: int | None) -> KernelError:
    return KernelError(
        message(
            f"{name}: a function with parallel=True runs on Numba's threads.",
            got=f"threads={threads!r}",
            expected="no threads=, or a function without parallel=True",
            why="such functions take turns, so XLA's threads would wait for each other",
            defined=_origin.place(),
            write="numba.set_num_threads(...)  # the number of Numba's threads",
        )
    )


def _given(signature: KernelSignature) -> list[str]:
    """The names of what a function that writes its results is given, in order."""
    return [row.name for row in (*signature.inputs, *signature.attributes, *signature.results)]


def _style(name: str, signature: KernelSignature, count: int) -> str:
    """Whether the function writes its results or returns them. The number of its arguments tells."""
    inputs = len(signature.inputs) + len(signature.attributes)
    if signature.aliases:
        return "writes"
    styles = {inputs: "returns", inputs + len(signature.results): "writes"}
    if count in styles:
        return styles[count]
    raise KernelError(
        message(
            f"{name}: the function's arguments do not fit the signature.",
            got=f"{count} arguments",
            expected=f"{inputs}, if it returns its results, or {inputs + len(signature.results)}, if it writes them: "
            f"{signature}",
            defined=_origin.place(),
        )
    )


class _Elementwise(Kernel):
    """A function of numbers. Numba compiles the loop over the last axis too; the other axes are batch axes."""

    def __init__(self, name: str, signature: KernelSignature, loader: _Loader) -> None:
        row = lambda array: replace(array, dims=("n",), batched=False, by_value=False)
        flat = replace(
            signature, operands=tuple(map(row, signature.operands)), results=tuple(map(row, signature.results))
        )
        resolve = lambda resolved: flat.resolve(_types(signature, resolved))
        super().__init__(
            name,
            signature,
            lambda resolved: loader(resolve(resolved)),
            source=lambda resolved: loader.source(resolve(resolved)),
        )

    def _apply(self, operands: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
        avals = self._avals(operands)
        found = bind(self.name, self.signature, avals, attributes, self.origin)
        shape = _rows(found.batch, _last_split_axis(avals, len(found.batch)))
        rows = [
            jnp.broadcast_to(settle(operand, array.type.numpy, own), found.batch).reshape(shape)
            for operand, array, own in zip(operands, found.signature.operands, found.shapes, strict=True)
        ]
        return super()._apply(rows, attributes).reshape(found.batch)


# The C function is called once for each row, which takes some 10 ns: little beside a loop over so many numbers.
_LONG_ROW = 128


def _rows(shape: Sequence[Any], split: int) -> tuple[Any, ...]:
    """The shape with its last axes merged into rows that are long enough.

    A merged axis cannot be split over devices. So no more than needed are, and none up to the axis `split`.
    """
    kept = max(len(shape) - 1, 0)
    while kept > split + 1 and _is_short(shape[kept:]):
        kept -= 1
    return (*shape[:kept], math.prod(shape[kept:]))


def _is_short(sizes: Sequence[Any]) -> bool:
    return not all(isinstance(size, int) for size in sizes) or math.prod(sizes) < _LONG_ROW


def _last_split_axis(avals: Sequence[Any], rank: int) -> int:
    """The last axis of the batch that an operand's type says is split over devices; -1 if none is."""
    return max(
        (rank - aval.ndim + i for aval in avals for i, over in enumerate(_jax.explicit_axes(aval)) if over), default=-1
    )


def _numbers(flat: KernelSignature) -> KernelSignature:
    """The signature of an elementwise function, from that of its loop."""
    row = lambda array: replace(array, dims=(), by_value=True)
    return replace(flat, operands=tuple(map(row, flat.operands)), results=tuple(map(row, flat.results)))


def _types(signature: KernelSignature, resolved: KernelSignature) -> dict[str, str]:
    """What each type variable of a signature stands for."""
    pairs = zip(signature.operands, resolved.operands, strict=True)
    return {a.dtype: b.dtype for a, b in pairs if a.dtype in signature.variables}


def _meanings(name: str, found: KernelSignature) -> tuple[tuple[int, str], ...]:
    """What the numbers mean that a compiled function returns where it fails."""
    return (
        (_RAISED, f"the Numba function raised an exception; {name}.py_func(...) shows which"),
        (_OTHER_SHAPE, f"the Numba function returned an array whose shape does not match its signature: {found}"),
    )


# ------------------------------------------------------------------------------------------------------ the C function
class _Loader:
    """Makes the C function around a Numba function for a set of types."""

    def __init__(self, module: Any, fn: Any, call: Function, style: str, beside: tuple[Path, ...]) -> None:
        self.module, self.fn, self.call, self.style, self.beside = module, fn, call, style, beside

    def source(self, signature: KernelSignature) -> Source:
        """The handler, which calls the C function by its address."""
        return trampoline(_by_pointer(signature), self.call, self.beside)

    def __call__(self, signature: KernelSignature) -> Target:
        by_pointer = _by_pointer(signature)
        wrong: list[Misfit] = []
        scope: dict[str, Any] = {
            "fn": self._loop(signature, wrong),
            "carray": self.module.carray,
            "read_only": self._read_only(),
            "fits": returned(self.module, signature, wrong),
        }
        exec(_source(signature, self.style), scope)
        try:
            made = self.module.cfunc(_type(self.module, by_pointer))(scope["call"])
        except KernelError:
            raise
        except Exception as error:  # noqa: BLE001 - Numba's own rules fail in many ways for functions it cannot type
            if wrong:
                shown = _numbers(signature) if self.style == "loop" else signature
                raise wrong[0].error(self.call.name, shown, self.plain) from None
            raise _not_compiled(self.call.name, signature, error) from None
        if self.style == "writes" and (lossy := stored(self.module, self.fn, signature)) is not None:
            raise lossy.error(self.call.name, signature, self.plain)
        lock = ctypes.addressof(_LOCK) if self.call.exclusive else 0
        return pointer_target(by_pointer, self.call, made, self.beside, lock)

    @property
    def plain(self) -> Callable[..., Any]:
        """The author's function in Python."""
        return getattr(self.fn, "py_func", self.fn)

    def _loop(self, signature: KernelSignature, wrong: list[Misfit]) -> Any:
        """The function of whole arrays: the author's, or a loop over the author's elementwise function."""
        if self.style != "loop":
            return self.fn
        names = [local(row.name) for row in (*signature.operands, *signature.attributes)]
        arrays = {local(array.name) for array in signature.operands}
        items = ", ".join(f"{name}[i]" if name in arrays else name for name in names)
        lines = [f"found = fn({items})", "fits(found)", "out[i] = found"]
        body = "".join(f"        {line}\n" for line in lines)
        source = f"def loop({', '.join(names)}, out):\n    for i in range(len(out)):\n{body}"
        fits = returned(self.module, _numbers(signature), wrong)
        scope: dict[str, Any] = {"fn": self.fn, "fits": fits}
        exec(source, scope)
        return self.module.njit(scope["loop"])

    def _read_only(self) -> Any:
        """A Numba function that makes an array read-only, because JAX may share its memory.

        Numba then refuses writes when it compiles the author's function. Where it may not, the function gets a copy.
        """
        if may_write(self.fn):
            return self.module.njit(lambda array: array.copy())
        from numba.core import types
        from numba.extending import intrinsic

        @intrinsic
        def read_only(typing: Any, array: Any) -> Any:
            is_same = lambda context, builder, signature, args: args[0]
            return types.Array(array.dtype, array.ndim, array.layout, readonly=True)(array), is_same

        return read_only


def _not_compiled(name: str, signature: KernelSignature, error: Exception) -> KernelError:
    said = str(error)
    if "Cannot modify readonly array" in said:
        return KernelError(
            message(
                f"{name}: the Numba function writes its input.",
                got=f"a write at {_place(said)}",
                expected="inputs that are only read (JAX may share their memory)",
                write="x = x.copy()  # before writing to it",
            )
        )
    lines = [line for line in said.splitlines() if line.strip() and not _OURS.search(line)]
    shown = "\n".join(f"    {line}" for line in lines[:20])
    return KernelError(
        message(
            f"{name}: Numba can't compile it.",
            got=f"Numba says:\n{shown}",
            expected=f"a function that Numba compiles for {signature}",
        )
    )


# Lines of Numba's messages that are about the C function around the author's function.
_OURS = re.compile(r"nopython mode pipeline|^During: |<string>|<source missing")


def _place(said: str) -> str:
    """The author's line that a message of Numba names."""
    found = re.search(r'File "(?!<|numba/)(.+)", line (\d+)', said)
    return f"{shorten(str(Path(found[1]).resolve()))}:{found[2]}" if found else "an unknown line"


def _by_pointer(signature: KernelSignature) -> KernelSignature:
    """The signature of the C function, which takes even single numbers by pointer."""
    point = lambda rows: tuple(replace(row, by_value=False) for row in rows)
    return replace(signature, operands=point(signature.operands), results=point(signature.results))


def _source(signature: KernelSignature, style: str) -> str:
    """The Python source of the C function, for Numba to compile."""
    order = ", ".join(map(local, default_order(_by_pointer(signature))))
    operands = [_array(array, "read_only") for array in signature.inputs]
    attributes = [local(attribute.name) for attribute in signature.attributes]
    inputs = ", ".join([*operands, *attributes])
    results = [_array(array, "") for array in signature.results]
    body = (
        [f"found = fn({inputs})", "fits(found)", *_stores(signature)]
        if style == "returns"
        else [f"fn({', '.join([inputs, *results])})"]
    )
    lines = [f"def call({order}):", "    try:", *(f"        {line}" for line in body)]
    return "\n".join([*lines, "    except Exception:", f"        return {_RAISED}", "    return 0", ""])


def _array(array: Array, wrap: str) -> str:
    """The expression of an operand or result, as the author's function takes it."""
    name = local(array.name)
    if array.by_value:
        return f"{name}[0]"
    return f"{wrap}(carray({name}, {_shape(array)}))"


def _shape(array: Array) -> str:
    return f"({''.join(f'{to_python(node)}, ' for node in array.expressions)})"


def _stores(signature: KernelSignature) -> list[str]:
    """Statements that copy the returned values to where XLA wants them."""
    several = len(signature.results) > 1
    lines: list[str] = []
    for index, array in enumerate(signature.results):
        value = f"found[{index}]" if several else "found"
        if array.dims:
            lines.append(f"if {value}.shape != {_shape(array)}: return {_OTHER_SHAPE}")
        target = f"{_array(array, '')}[...]" if array.dims else f"{local(array.name)}[0]"
        lines.append(f"{target} = {value}")
    return lines


def _type(module: Any, signature: KernelSignature) -> Any:
    """The C function's type."""
    types = module.types
    rows: dict[str, Array | Attribute] = {
        row.name: row for row in (*signature.operands, *signature.attributes, *signature.results)
    }

    def of(name: str) -> Any:
        if name not in rows:
            return types.int64
        row = rows[name]
        scalar = _scalar(module, row)
        return types.CPointer(scalar) if isinstance(row, Array) else scalar

    return types.int32(*map(of, default_order(signature)))


def _scalar(module: Any, row: Array | Attribute) -> Any:
    if row.dtype in ("f16", "bf16"):
        raise KernelError(
            message(
                f"Numba has no {row.dtype} on CPUs.",
                got=f"{row.name}: {row}",
                expected="f32, f64, c64, c128, an integer or bool",
                write=f"{row.name}.astype('float32')",
            )
        )
    return module.from_dtype(row.type.numpy)
