"""XLA's question about a call that may be split: the program of one device, and the shardings that it takes and returns.

XLA names the call by the text that it was lowered with. A call of foreign code is named by all that is needed to write
its program. An operation is a program that JAX traces, which depends on the shapes. It is named by a digest of its program
for the whole arrays, and one of its code, and found in a table. No name holds an address, so JAX's compilation cache finds the program again in
another process. A process that loads an exported program makes the operation again from its module and name.

JAX's `custom_partitioning` asks in the same way, but names a program by an object's address. So no other process finds it
in the cache, it cannot be exported, and a host function in it is called by a wrong number.
"""

# Private names are what this folder is for.
# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from jax._src import sharding_impls
from jax._src.interpreters import mlir
from jax._src.lib import xla_client
from jax._src.lib.mlir import ir

from jaxprim._jax import words
from jaxprim._jax.avals import Aval, ShapedArray
from jaxprim._jax.host_call import HostCalls
from jaxprim._jax.over import Over, OverTiles, in_slot, join_over
from jaxprim._jax.programs import Program, trace, uses
from jaxprim._jax.state import settings, without_mesh
from jaxprim._split import SUM, Cut, Split, choose, groups, tiling

SPLIT_TARGET = "jaxprim_split"


class Operation(Protocol):
    """An operation on the arrays that one device has: a function for JAX to trace.

    Attributes:
        owner: the name of the primitive.
        words: what another process needs to make it again, for JSON.
        is_on_host: whether it is a call of a host function.
    """

    owner: str
    words: Any
    is_on_host: bool

    @property
    def code(self) -> str:
        """What its code says, which the program for the whole arrays may not show."""
        ...

    @property
    def own_axes(self) -> frozenset[str]:
        """The axes that may be split, without those of vmaps."""
        ...

    @property
    def has_partition_rule(self) -> bool:
        """Whether a part is computed by another program than the whole, which may ask other devices."""
        ...

    def __call__(self, *operands: Any, over: Over | None = None) -> Sequence[Any]: ...

    def cached(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What was made for this operation under a key."""
        ...


@dataclass(frozen=True)
class Apart:
    """What devices do that cannot ask each other: XLA joins their results, which lead with one axis for the parts.

    Attributes:
        axis: the axis over whose parts results are joined; None if there is none.
        count: the size of the leading axis. A device has an equal part of it.
        whole: the axes along which devices would ask each other, so that they stay whole.
    """

    axis: str | None
    count: int
    whole: frozenset[str]

    def of(self, split: Split) -> Split:
        """What is split."""
        return replace(split, free=split.free - self.whole).kept_apart(self.axis)

    @property
    def words(self) -> list[Any]:
        return [self.axis, self.count, sorted(self.whole)]


# ------------------------------------------------------------------------------------------------------------- naming
def name_of_foreign_call(split: Split, attributes: dict[str, str]) -> str:
    """The name of a call of foreign code: its axes, and the call as MLIR writes it."""
    written = ", ".join(f'"{key}" = {value}' for key, value in attributes.items())
    return json.dumps({"axes": _words_of(split), "call": written})


def name(
    module: Any, split: Split, operation: Operation, avals: Sequence[Aval], platform: str, apart: Apart | None
) -> str | None:
    """The name of an operation, under which `_partition` finds it as long as the module or what is compiled of it lives.

    None if it cannot be split: its implementation calls Python by JAX's own callbacks, as `jax.debug.print` does.
    """
    known = _Known(split, operation, platform, tuple(aval.weak_type for aval in avals))
    plain = tuple(ShapedArray(aval.shape, aval.dtype, aval.weak_type) for aval in avals)
    digest, has_hosts = operation.cached((plain, platform), lambda: (known.digest(plain, module), bool(known.hosts)))
    if has_hosts and not known.hosts:  # its host functions have no place in this module yet
        digest = known.digest(plain, module)
    if digest is None:
        return None
    found = json.dumps(
        {"axes": _words_of(split), "operation": operation.words, "platform": platform, "weak": known.weak}
        | {"is": digest, "code": operation.code}
        | ({} if apart is None else {"apart": apart.words})
    )
    other = _known.get(found)
    while other is not None and other.operation != operation:
        found += " "  # another operation that only looks the same at these shapes
        other = _known.get(found)
    known = known if other is None else other
    _known[found] = known
    if module.lowering_parameters.for_export:  # what is exported must not be kept alive by the module
        _exported.append(known)
    else:
        module.add_keepalive(known)
    return found


def _words_of(split: Split) -> list[Any]:
    return [split.operands, split.results, sorted(split.free), sorted(split.otherwise)]


def _split_of(axes: Sequence[Any]) -> Split:
    operands, results, free, otherwise = axes
    return Split(
        tuple(map(tuple, operands)), tuple(map(tuple, results)), frozenset(free), frozenset(map(tuple, otherwise))
    )


def _apart_of(said: Sequence[Any]) -> Apart:
    axis, count, whole = said
    return Apart(axis, count, frozenset(whole))


@dataclass(eq=False)
class _Known:
    """An operation that XLA may ask about.

    Attributes:
        split: what may be split.
        operation: the operation on the arrays of one device.
        platform: the platform that it is lowered for.
        weak: which operands have a weak type, which XLA does not know.
        settings: a context with JAX's settings of the place where it was lowered.
        hosts: the host functions in it.
        made: the programs of one device so far, by what XLA asked.
    """

    split: Split
    operation: Operation
    platform: str
    weak: tuple[bool, ...]
    settings: Callable[[], Any] = field(default_factory=settings)
    hosts: HostCalls = field(default_factory=HostCalls)
    made: dict[Any, Any] = field(default_factory=dict[Any, Any])

    def digest(self, avals: Sequence[Aval], module: Any = None) -> str | None:
        """A digest of the program for arrays of these types; None if it calls Python by JAX's own callbacks."""
        operation, nothing = self.operation, OverTiles({}, 1)

        def run(*operands: Any) -> list[Any]:
            own = operation(*operands, over=nothing) if operation.has_partition_rule else ()  # a program of its own
            return [*operation(*operands), *own]

        with self._inside(module):
            program = trace(run, avals, self.operation.owner)
            if any(uses(program, call) for call in words.PYTHON_CALLS):
                return None
            return hashlib.sha256(str(self._lowered(program)).encode()).hexdigest()

    def lowered(self, run: Callable[..., Any], avals: Sequence[Aval]) -> bytes:
        """The code of a function of arrays of these types, for one device."""
        with self._inside():
            return mlir.module_to_bytecode(self._lowered(trace(run, avals, self.operation.owner)))

    @contextmanager
    def _inside(self, module: Any = None) -> Generator[None]:
        with self.settings(), without_mesh(), self.hosts.inside(module):
            yield

    def _lowered(self, program: Program) -> Any:
        return mlir.build_mlir_module_helper(
            program,
            name="part",
            platforms=[self.platform],
            backend=None,
            axis_context=sharding_impls.ShardingContext(1),
        )


_known: weakref.WeakValueDictionary[str, _Known] = weakref.WeakValueDictionary()
_exported: list[_Known] = []
# What makes an operation and its split from its words and the types of its operands; None if it is not here.
make_again: list[Callable[[Any, Sequence[Aval]], tuple[Split, Operation] | None]] = []


def _find(name: str, avals: Sequence[Aval]) -> _Known:
    known = _known.get(name)
    if known is None:  # exported by another process
        said = json.loads(name)
        typed = [ShapedArray(a.shape, a.dtype, weak) for a, weak in zip(avals, said["weak"], strict=True)]
        found = next((made for make in make_again if (made := make(said["operation"], typed)) is not None), None)
        if found is None:
            raise LookupError(
                f"jaxprim: the program calls the operation {said['operation']}, which this process has not made. "
                "Import the module that makes it first."
            )
        known = _Known(*found, said["platform"], tuple(said["weak"]))
        if known.split != _split_of(said["axes"]) or known.digest(typed) != said["is"]:
            raise LookupError(
                f"jaxprim: the operation {said['operation']} is another one here than in the exported program. "
                "Export it again."
            )
        _known[name] = known
        _exported.append(known)
    return known


# --------------------------------------------------------------------------------------------------- XLA's question
def _partition(
    operand_shapes: Any, operand_shardings: Any, result_shape: Any, result_sharding: Any, name: bytes
) -> Any:
    """The program of one device, and the shardings of its operands and of its result."""
    result_shardings = result_sharding.tuple_elements() if result_shape.is_tuple() else [result_sharding]
    shapes, shardings = [*operand_shapes, *_each(result_shape)], [*operand_shardings, *result_shardings]
    avals = [ShapedArray(tuple(shape.dimensions()), np.dtype(shape.numpy_dtype())) for shape in shapes]
    text, count = name.decode(), len(operand_shapes)
    said = json.loads(text)
    apart = _apart_of(said["apart"]) if "apart" in said else None
    split = _split_of(said["axes"]) if apart is None else apart.of(_split_of(said["axes"]))
    cuts = [_cuts(sharding, aval.ndim) for sharding, aval in zip(shardings, avals, strict=True)]
    bytes_of = [aval.size * aval.dtype.itemsize for aval in avals]
    chosen = choose(split, [(aval.shape, cut) for aval, cut in zip(avals, cuts, strict=True)], bytes_of)
    devices = max((len(sharding.tile_assignment_devices()) for sharding in shardings if sharding.is_tiled()), default=1)
    new = [_sharding(*tiling(axes, chosen, devices)) for axes in split.arrays]
    local = [
        ShapedArray(tuple(sharding.tile(shape).dimensions()), aval.dtype)
        for sharding, shape, aval in zip(new, shapes, avals, strict=True)
    ]
    if "call" in said:
        sums = tuple(groups(split.joined(i).get(SUM, ()), chosen, devices) for i in range(len(split.results)))
        program = _foreign_program(said["call"], tuple(local[:count]), tuple(local[count:]), sums)
    else:
        over = OverTiles(chosen, devices)
        program = _operation_program(_find(text, avals[:count]), tuple(local[:count]), over, apart)
    return program, new[:count], _of_all(result_shape, new[count:])


def _each(result_shape: Any) -> list[Any]:
    """The shapes of the results: XLA has a tuple for several."""
    return result_shape.tuple_shapes() if result_shape.is_tuple() else [result_shape]


def _of_all(result_shape: Any, shardings: list[Any]) -> Any:
    """The shardings of the results as one."""
    return xla_client.HloSharding.tuple_sharding(result_shape, shardings) if result_shape.is_tuple() else shardings[0]


def _cuts(sharding: Any, rank: int) -> list[Cut] | None:
    """How XLA has cut each axis of an array; None if it has not."""
    if not sharding.is_tiled():
        return None
    dims, devices = sharding.tile_assignment_dimensions(), np.asarray(sharding.tile_assignment_devices())
    found: list[Cut] = []
    for parts, index in zip(dims[:rank], np.unravel_index(np.arange(len(devices)), dims), strict=False):
        part = np.empty(len(devices), int)
        part[devices] = index
        found.append((parts, part))
    return found


def _sharding(parts: list[int], devices: list[int]) -> Any:
    copies = len(devices) // int(np.prod(parts, dtype=int))
    if copies == len(devices):
        return xla_client.HloSharding.replicate()
    made: Any = xla_client.OpSharding()
    made.type = xla_client.OpSharding.Type.OTHER
    made.tile_assignment_dimensions = [*parts, copies] if copies > 1 else parts
    made.tile_assignment_devices = devices
    made.replicate_on_last_tile_dim = copies > 1
    return xla_client.HloSharding.from_proto(made)


# ------------------------------------------------------------------------------------------ the program of one device
def _operation_program(known: _Known, operands: tuple[Aval, ...], over: OverTiles, apart: Apart | None) -> bytes:
    """The operation on the arrays of one device."""
    key = (operands, over.key)
    if key not in known.made:
        typed = [ShapedArray(a.shape, a.dtype, weak) for a, weak in zip(operands, known.weak, strict=True)]
        run = lambda *xs: on_one_device(known.split, known.operation, over, xs, apart)
        known.made[key] = known.lowered(run, typed)
    return known.made[key]


def on_one_device(
    split: Split, operation: Callable[..., Any], over: Over, operands: Sequence[Any], apart: Apart | None = None
) -> list[Any]:
    """The results that one device has: of its own part, joined over the parts of the axes that a result lacks."""
    outs = list(operation(*operands, over=over))
    for i in range(len(outs)):
        for word, axes in split.joined(i).items():
            if apart is None:
                outs[i] = over.join(outs[i], axes, word)
            elif apart.axis in axes:
                outs[i] = in_slot(outs[i], apart.count // over.parts(apart.axis), word)
    return outs


@lru_cache(maxsize=1024)
def _foreign_program(
    attributes: str, operands: tuple[Aval, ...], results: tuple[Aval, ...], sums: tuple[Any, ...]
) -> bytes:
    """One call of foreign code. ``sums`` are the groups of devices over which each result is summed."""
    with mlir.make_ir_context(), ir.Location.unknown():
        ins, outs = ([str(mlir_type(aval)) for aval in avals] for avals in (operands, results))
        given = ", ".join(f"%x{i}: {kind}" for i, kind in enumerate(ins))
        passed = ", ".join(f"%x{i}" for i in range(len(ins)))
        got = ", ".join(f"%y#{i}" for i in range(len(outs)))
        returned = f"({', '.join(outs)})"
        text = f"""
          func.func public @main({given}) -> {returned} {{
            %y:{len(outs)} = "stablehlo.custom_call"({passed}) {{{attributes}}} : ({", ".join(ins)}) -> {returned}
            return {got} : {", ".join(outs)}
          }}"""
        module = ir.Module.parse(text)
        *_, end = module.body.operations[0].regions[0].blocks[0].operations
        with ir.InsertionPoint(end):
            for index, over in enumerate(sums):
                if over:
                    end.operands[index] = join_over(end.operands[index], over, SUM)[0]
        return mlir.module_to_bytecode(module)


def mlir_type(aval: Aval) -> Any:
    """An array's type in MLIR."""
    return ir.RankedTensorType.get(aval.shape, mlir.dtype_to_ir_type(aval.dtype))


def _result_without_shardy(_: Any, __: Any, result_shape: Any, name: bytes) -> Any:
    """The sharding of a result for XLA's own propagation, which knows no rule: on each device whole."""
    return _of_all(result_shape, [xla_client.HloSharding.replicate() for _ in _each(result_shape)])


xla_client.register_custom_call_partitioner(
    SPLIT_TARGET,
    lambda sharding, shape, name: sharding,
    _partition,
    _result_without_shardy,
    can_side_effecting_have_replicated_sharding=True,
)
