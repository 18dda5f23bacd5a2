"""`Kernel`: compiled code as a JAX-traceable function.

All kernels share one JAX primitive, ``kernel_call``, whose lowering is `jax.ffi.ffi_call`. The primitive adds four things.
Each operand is checked against the signature before the call. The kernel handles the batch axes of vmap. Results keep
the axes over which the operands vary inside ``shard_map``. Lowering for a platform that the kernel does not support
raises an error that names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import _jax, _origin
from jaxprim._avals import equalize_varying
from jaxprim._eager import EagerCalls, jit_as
from jaxprim._errors import BadCall, RuleMissing, message
from jaxprim._pickling import ByName
from jaxprim._signature import Bound
from jaxprim._types import Kept
from jaxprim.kernels import aliases, splitting
from jaxprim.kernels.binding import bind
from jaxprim.kernels.filled import NAME, can_be_filled
from jaxprim.kernels.keeping import Caches
from jaxprim.kernels.operands import as_declared, python_signature, settle, type_of, with_batch
from jaxprim.kernels.signature import KernelSignature
from jaxprim.kernels.source import Source

Attributes = tuple[tuple[str, str, bytes], ...]  # name, dtype, bytes: as bytes, 0.0 and -0.0 differ


@dataclass(frozen=True)
class Target:
    """How XLA finds a kernel: its registered name, and the attributes that it needs beside the signature's."""

    name: str
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])


_recorders: list[list[Kernel]] = []


@contextmanager
def recording() -> Generator[list[Kernel]]:
    """The kernels that are made meanwhile, in that order."""
    made: list[Kernel] = []
    _recorders.append(made)
    try:
        yield made
    finally:
        _recorders[:] = [other for other in _recorders if other is not made]


@_jax.boundaries
class Kernel(ByName):
    """Compiled code as a JAX-traceable function: ``kernel(*operands, **attributes)``.

    Without ``differentiable=`` it has no derivative. Give it to `Primitive.def_impl`, and write the rules there.

    Attributes:
        name: its name in messages and jaxprs.
        signature: what it takes and returns.
        platform: where it runs, ``"cpu"`` or ``"cuda"``.
        origin: where it was made, ``file.py:12``.
        is_opaque: always true: JAX can't look into it, so only the rules that it `derives` itself come from its code.
        derivatives: how its derivatives are computed from its source; None if they are not.
        source: the source of its library for a signature without type variables; None if it needs no library.
        used: whether it was traced into some program.
    """

    is_opaque = True

    def __init__(
        self,
        name: str,
        signature: KernelSignature,
        load: Callable[[KernelSignature], Target],
        *,
        source: Callable[[KernelSignature], Source] | None = None,
        platform: str = "cpu",
        order: str = "C",
        own_handler: bool = False,
        caches: Caches | None = None,
        derivatives: Differentiates | None = None,
        of: Kernel | None = None,
    ) -> None:
        self._origin = _origin.here() if of is None else of._origin
        self.name, self.signature, self.platform, self.origin = name, signature, platform, self._origin.place
        self.order, self.own_handler, self._caches = order, own_handler, caches
        self._load, self.source, self.derivatives = load, source, derivatives
        self._targets: dict[KernelSignature, Target] = {}
        self._calls = EagerCalls(
            {}, bind=self._hashable, apply=self._stage, compiled=self._compiled, explain=self._explain_call
        )
        self.__name__ = self.__qualname__ = name
        self.__module__ = self._origin.module
        self.__signature__ = python_signature(signature)
        self.__doc__ = f"{signature}, a kernel for {platform}"
        self.used = False
        if of is not None:  # a derivative of another, which nobody defines or redefines
            return
        if any(earlier.used for earlier in _origin.replaced(self, name, self._origin)):
            _jax.bump_redefinitions()
        for made in _recorders:
            made.append(self)

    def __call__(self, /, *operands: Any, **attributes: Any) -> Any:
        """Run it: eagerly, or as part of a trace.

        Raises:
            BadCall: an operand or attribute does not fit the signature. Nothing was run.
            KernelError: it can't be compiled or loaded.
            RuleMissing: the program is for a platform that the kernel does not support.
            jax.errors.JaxRuntimeError: the kernel threw, or returned a status. Inside a function of your own that is
                jitted, JAX raises it as `ValueError` if that function ran well before.
        """
        try:
            return self._calls.call(operands, attributes)
        except Exception as error:
            _jax.hide_frames(error)
            raise

    @property
    def notes(self) -> tuple[str, ...]:
        """What `Primitive.explain` says of it, beside where it was made."""
        said = (aliases.note(self.signature), None if self._caches is None else self._caches.note)
        return tuple(note for note in said if note is not None)

    @property
    def derives(self) -> Mapping[str, str]:
        """The kinds of rules that need nothing but this kernel, and how each is computed."""
        return {} if self.derivatives is None else self.derivatives.means

    @property
    def file(self) -> str:
        """The file in which it was made."""
        return self._origin.file

    def build(self, *, orders: int = 0, **types: str) -> Kernel:
        """Compile and load it now instead of at its first use. Type variables go by name: ``kernel.build(T="f32")``.

        Args:
            orders: the highest derivative that is compiled too, of a kernel with ``differentiable=``.
            **types: the dtypes of its type variables.
        """
        rows = self.with_orders(self._resolved(types), orders)
        with ThreadPoolExecutor() as pool:  # a compiler is a process of its own
            list(pool.map(lambda row: row[0].target(row[1]), rows))
        return self

    def with_orders(self, signature: KernelSignature, orders: int) -> list[tuple[Kernel, KernelSignature]]:
        """Itself and the kernels of its derivatives up to an order, for a signature without type variables."""
        if type(orders) is not int or orders < 0 or (orders and self.derivatives is None):
            raise BadCall(
                message(
                    f"{self.name}: it has no derivatives to build.",
                    got=f"orders={orders!r}",
                    expected="an integer of 0 or more" if self.derivatives is not None else "a differentiable kernel",
                    defined=self.origin,
                    write=None
                    if self.derivatives is not None
                    else "kernels.cpp(source, signature, differentiable=True)",
                )
            )
        more = self.derivatives.up_to(self, signature, orders) if self.derivatives is not None else []
        return [(self, signature), *((kernel, kernel.signature) for kernel in more)]

    def kept(self, name: str | None = None) -> Kept:
        """How often set-ups were made and found, and how many there are, of a kernel with ``keep=``.

        Args:
            name: the class of the set-ups; None for the one that the function gets.

        Raises:
            BadCall: it keeps none.
        """
        types = [] if self._caches is None else self._caches.types
        if self._caches is None or (name is not None and name not in types):
            raise BadCall(
                message(
                    f"{self.name}: it keeps no {name or 'set-ups'}.",
                    expected=" or ".join(map(repr, types)) if types else "a kernel that was made with keep=",
                    defined=self.origin,
                    write=None if types else 'kernels.cpp(source, signature, keep="Factors(a)")',
                )
            )
        return self._caches.counts(len(types) - 1 if name is None else types.index(name))

    def forget(self) -> None:
        """Free all set-ups that are kept. Those that a call uses now are freed when it ends."""
        self.kept()  # refuses a kernel that keeps none
        if self._caches is not None:
            self._caches.forget()

    def export_checks(self, *, orders: int = 0, **types: str) -> tuple[Any, ...]:
        """The ``disabled_checks`` that ``jax.export.export`` needs for a program with this kernel.

        The exported program holds the kernel's name, not its code. The process that runs it must have made the same
        kernel, and built it with `build`. For `c_function` and `numba` it must also be of the same function: of the
        same library, or of the same code. Otherwise the program refuses to run.

        Args:
            orders: the highest derivative in the program, for `build` too.
            **types: the dtypes of its type variables.
        """
        self.build(orders=orders, **types)
        found = [kernel.target(own).name for kernel, own in self.with_orders(self._resolved(types), orders)]
        # A program for several devices may call it by way of the last.
        names = *found, _jax.SPLIT_TARGET
        return tuple(map(jax.export.DisabledSafetyCheck.custom_call, names))

    def _resolved(self, types: Mapping[str, str]) -> KernelSignature:
        variables = self.signature.variables
        if set(types) == set(variables) and all(types[name] in self.signature.covers(name) for name in types):
            return self.signature.resolve(dict(types))
        raise BadCall(
            message(
                f"{self.name}: its type variables must be given.",
                got=", ".join(f"{name}={dtype!r}" for name, dtype in types.items()) or "none",
                expected=", ".join(f"{name}: one of {' '.join(self.signature.covers(name))}" for name in variables)
                or f"none: {self.signature}",
                defined=self.origin,
                write=f"{self.name}.build({', '.join(name + '=' + repr('f32') for name in variables)})",
            )
        )

    def target(self, signature: KernelSignature) -> Target:
        """Its registration for a signature without type variables. Compiles it if necessary."""
        if signature not in self._targets:
            self._targets[signature] = self._load(signature)
            _jax.may_be_batch_split(self._targets[signature].name)
        return self._targets[signature]

    def _hashable(self, operands: tuple[Any, ...], attributes: Mapping[str, Any]) -> Bound:
        """The call, with attributes that are arrays of one number as NumPy scalars, which can be hashed."""
        self._explain_call(operands, attributes)
        return operands, {
            name: np.asarray(value)[()] if isinstance(value, np.ndarray | jax.Array) else value
            for name, value in attributes.items()
        }

    def _explain_call(self, operands: tuple[Any, ...], attributes: Mapping[str, Any]) -> None:
        """Refuse a call with an operand or attribute that does not fit, by its name."""
        bind(self.name, self.signature, self._avals(operands), attributes, self.origin)

    def _compiled(self, attributes: Mapping[str, Any]) -> Callable[..., Any]:
        return jit_as(self.name, lambda *operands: self._apply(operands, attributes))

    def _stage(self, operands: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
        self.used = True
        return self._apply(operands, attributes)

    def _avals(self, operands: Sequence[Any]) -> list[Any]:
        names = [array.name for array in self.signature.operands]
        return [
            type_of(self.name, names[i] if i < len(names) else str(i), operand, self.origin)
            for i, operand in enumerate(operands)
        ]

    def _apply(self, operands: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
        found = bind(self.name, self.signature, self._avals(operands), attributes, self.origin)
        leaves = [
            settle(operand, array.type.numpy, shape)
            for operand, array, shape in zip(operands, found.signature.operands, found.shapes, strict=True)
        ]
        for place in found.signature.alias_places:  # its memory is that of a result, which has all batch axes in full
            leaves[place] = with_batch(leaves[place], found.batch)
        if self.own_handler:
            leaves = [as_declared(x, a, found.batch) for x, a in zip(leaves, found.signature.operands, strict=True)]
        rows = tuple((name, value.dtype.name, value.tobytes()) for name, value in found.attributes)
        outs = call(self, found.signature, rows, leaves, found.results)
        return tuple(outs) if self.signature.several else outs[0]

    def __repr__(self) -> str:
        return f"<kernel {self.name} for {self.platform}: {self.signature}>"


class Differentiates(Protocol):
    """How the derivatives of a kernel are computed: see `derivatives.Derivatives`."""

    @property
    def means(self) -> Mapping[str, str]: ...
    def jvp(self, primals: Sequence[Any], tangents: Sequence[Any], outs: Sequence[Any], params: Any) -> list[Any]: ...
    def transpose(self, cotangents: Sequence[Any], args: Sequence[Any], params: Any) -> list[Any]: ...
    def in_lanes(self, kernel: Kernel, operands: Sequence[Any], results: Sequence[Any]) -> Kernel: ...
    def up_to(self, base: Kernel, signature: KernelSignature, degree: int) -> list[Kernel]: ...


def call(
    kernel: Kernel, signature: KernelSignature, attributes: Attributes, leaves: Sequence[Any], results: Sequence[Any]
) -> list[Any]:
    """Bind the JAX primitive, with operands that have all batch axes."""
    if _jax.mesh_in_reach():
        leaves = equalize_varying(leaves)
    types = splitting.result_types(
        kernel.name, signature, results, [_jax.typeof(leaf) for leaf in leaves], kernel.origin
    )
    return kernel_call_p.bind(*leaves, kernel=kernel, signature=signature, attributes=attributes, results=types)


# ------------------------------------------------------------------------------------------------- the JAX primitive
kernel_call_p = can_be_filled(_jax.new_primitive(NAME))


def _abstract_eval(*avals: Any, results: Sequence[Any], **_: Any) -> tuple[list[Any], set[Any]]:
    return list(results), set()


def _batch(axis: Any, args: Sequence[Any], dims: Sequence[int | None], **params: Any) -> tuple[Any, Any]:
    kernel: Kernel = params["kernel"]
    if all(dim is None for dim in dims):
        outs = kernel_call_p.bind(*args, **params)
        return outs, [None] * len(outs)
    arrays = params["signature"].operands
    if kernel.own_handler and not all(a.batched for a, dim in zip(arrays, dims, strict=True) if dim is not None):
        return _one_by_one(args, dims, params)
    size = next(jnp.shape(x)[dim] for x, dim in zip(args, dims, strict=True) if dim is not None)
    in_full = [kernel.own_handler or a.name in params["signature"].in_place for a in arrays]
    fronts = [
        jnp.moveaxis(x, dim, 0)
        if dim is not None
        else jnp.broadcast_to(x, (size if full else 1, *jnp.shape(x)))
        if array.batched or not kernel.own_handler
        else x
        for x, dim, array, full in zip(args, dims, arrays, in_full, strict=True)
    ]
    results = tuple(_jax.batched_aval(axis, 0, aval) for aval in params["results"])
    outs = kernel_call_p.bind(*fronts, **{**params, "results": results})
    return outs, [0] * len(outs)


def _one_by_one(args: Sequence[Any], dims: Sequence[int | None], params: dict[str, Any]) -> tuple[Any, Any]:
    """A loop over a batch, for a handler that its author wrote for one element."""
    fronts = [jnp.moveaxis(x, dim, 0) for x, dim in zip(args, dims, strict=True) if dim is not None]

    def one(elements: Sequence[Any]) -> list[Any]:
        given = iter(elements)
        return kernel_call_p.bind(*[x if d is None else next(given) for x, d in zip(args, dims, strict=True)], **params)

    outs = jax.lax.map(one, fronts)
    return outs, [0] * len(outs)


def _lower(ctx: Any, *args: Any, **params: Any) -> Any:
    kernel, results = params["kernel"], params["results"]
    platform = _jax.platform_of(ctx)
    if platform != kernel.platform:
        raise _wrong_platform(kernel, platform)
    split = splitting.split_of(params["signature"], ctx.avals_in, results)

    def on_device(*xs: Any) -> Any:
        return kernel_call_p.bind(*xs, **{**params, "results": splitting.on_one_device(split, results, xs)})

    return _jax.lower_split(ctx, split, on_device, partial(_call, **params), args)


def _call(
    *operands: Any, kernel: Kernel, signature: KernelSignature, attributes: Attributes, results: Sequence[Any]
) -> Any:
    """The call of the kernel's handler, for one device that has all of the operands."""
    if kernel.derivatives is not None:
        kernel = kernel.derivatives.in_lanes(kernel, operands, results)
    target = kernel.target(signature)
    given = {name: _jax.ffi_attribute(np.frombuffer(raw, dtype)[0]) for name, dtype, raw in attributes}
    return jax.ffi.ffi_call(
        target.name,
        [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in results],
        input_layouts=[_layout(kernel, a, x.ndim) for a, x in zip(signature.operands, operands, strict=True)],
        output_layouts=[_layout(kernel, a, x.ndim) for a, x in zip(signature.results, results, strict=True)],
        input_output_aliases=signature.alias_places or None,
    )(*operands, **given, **target.attributes)


def _layout(kernel: Kernel, array: Any, rank: int) -> tuple[int, ...]:
    """The order of axes in memory, outermost first: batch axes, then the element's own, reversed for Fortran."""
    batch = rank - len(array.dims)
    own = range(batch, rank)
    return (*range(batch), *(reversed(own) if kernel.order == "F" else own))


def _wrong_platform(kernel: Kernel, platform: str) -> RuleMissing:
    return RuleMissing(
        message(
            f"{kernel.name}: not registered for {platform}; registered: {kernel.platform}.",
            got=f"a program for {platform}",
            expected=f"a program for {kernel.platform}, the platform of this kernel",
            defined=kernel.origin,
            write=f"p.def_kernel({kernel.name}, platform='{kernel.platform}')  # beside an impl for other platforms",
        )
    )


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> Any:
    kernel: Kernel = params["kernel"]
    if kernel.derivatives is None:
        raise _no_derivative(kernel)
    outs = kernel_call_p.bind(*primals, **params)
    return outs, kernel.derivatives.jvp(primals, tangents, outs, params)


def _transpose(cotangents: Sequence[Any], *args: Any, **params: Any) -> Any:
    kernel: Kernel = params["kernel"]
    if kernel.derivatives is None:
        raise no_transpose(kernel)
    return kernel.derivatives.transpose(cotangents, args, params)


def _no_derivative(kernel: Kernel) -> RuleMissing:
    name = re.sub(r"\W", "_", kernel.name)
    return RuleMissing(
        message(
            f"{kernel.name}: a kernel has no derivative of its own.",
            got="a kernel under differentiation",
            expected="kernels.cpp(..., differentiable=True), or a Primitive with a rule, implemented by the kernel",
            defined=kernel.origin,
            write=f"p = Primitive('{name}'); p.def_impl({name}); @p.def_vjp",
        )
    )


def no_transpose(kernel: Kernel) -> RuleMissing:
    """The error for a kernel of which JAX needs the transpose."""
    return RuleMissing(
        message(
            f"{kernel.name}: a kernel has no transpose of its own.",
            got="a kernel under transposition",
            expected="a Primitive with a transpose rule or a VJP rule, implemented by the kernel",
            defined=kernel.origin,
            write=f"@p.def_transpose  # or @p.def_vjp, for the Primitive p that the kernel '{kernel.name}' implements",
        )
    )


_jax.register(
    kernel_call_p,
    abstract_eval=_abstract_eval,
    lowering=_lower,
    batching=_batch,
    jvp=_jvp,
    transpose=_transpose,
)
