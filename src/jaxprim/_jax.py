"""The one door to JAX's internals.

Every name that is not public JAX comes through here, so that a JAX release that moves one breaks one file. Each
branch on a version says why it exists and when it can go.
"""

# Private names are what this file is for.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import Any

import jax
import numpy as np
from jax._src import ad_util, config, core, debugging, dispatch, dtypes
from jax._src import callback as jax_callback
from jax._src import linear_util as lu
from jax._src.interpreters import ad, batching, mlir, pxla
from jax._src.interpreters import partial_eval as pe
from jax.experimental import jet
from jax.interpreters import ad as public_ad  # noqa: F401  # pyright: ignore[reportUnusedImport] read by jaxprim.ad
from jax.interpreters import mlir as public_mlir  # noqa: F401  # pyright: ignore[reportUnusedImport] by jaxprim.mlir

Aval = Any  # jax.core.ShapedArray, or another of JAX's abstract values
Program = Any  # a closed jaxpr: jax.core.ClosedJaxpr, which JAX 0.11 merged into Jaxpr

VERSION: tuple[int, ...] = tuple(int(part) for part in jax.__version__.split(".")[:3])
# JAX 0.11 gave a linearization rule a fifth result (structured residuals) and its linear function one more argument.
# Can go when 0.10 is no longer supported.
STRUCTURED_RESIDUALS = VERSION >= (0, 11)

ShapedArray = core.ShapedArray
JaxZero = ad_util.Zero
Tracer = core.Tracer
ShardingTypeError = core.ShardingTypeError
float0 = dtypes.float0
typeof = core.typeof
trace_context: Callable[[], Hashable] = config.trace_context
trace_state_clean: Callable[[], bool] = core.trace_state_clean
is_undefined = ad.is_undefined_primal


# ---------------------------------------------------------------------------------------------------- trace state
def is_eager() -> bool:
    """Whether an operation applied right here would run at once, on values."""
    return isinstance(core.trace_ctx.trace, core.EvalTrace)


def is_concrete(values: Sequence[Any]) -> bool:
    """Whether no value is a tracer."""
    return not any(isinstance(value, Tracer) for value in values)


def is_key(aval: Aval) -> bool:
    """Whether an aval is of a typed PRNG key."""
    return is_extended(aval.dtype)


def is_extended(dtype: Any) -> bool:
    """Whether a dtype is JAX's own, such as that of PRNG keys."""
    return dtypes.issubdtype(dtype, dtypes.extended)


# A JAX "user context": its value is part of every cache key of JAX, so raising it makes outer jits trace once more.
redefinitions = jax.make_user_context(default_value=0)


def bump_redefinitions() -> None:
    """Make every compiled function of this process trace once more, as a rule that it may use was replaced."""
    redefinitions.set_global(redefinitions.get_global() + 1)


class ForbiddenTrace(core.Trace):
    """The current trace while a host function runs: any use of JAX in its thread calls ``refuse``."""

    def __init__(self, refuse: Callable[[str], Exception]) -> None:
        super().__init__()
        self.requires_low = False
        self.refuse = refuse

    def process_primitive(self, primitive: Any, tracers: Any, params: Any, /) -> Any:
        raise self.refuse(params.get("name", primitive.name))

    def process_custom_jvp_call(self, primitive: Any, *args: Any, **params: Any) -> Any:
        raise self.refuse(primitive.name)

    process_custom_vjp_call = process_call = process_custom_jvp_call

    def stage_value(self, val: Any) -> Any:
        raise self.refuse("asarray")


def without_jax(refuse: Callable[[str], Exception]) -> Any:
    """A context in which JAX cannot be used in this thread."""
    return core.set_current_trace(ForbiddenTrace(refuse))


def at_once() -> Any:
    """A context in which operations run at once. JAX asks for result types in one where none can run."""
    return core.set_current_trace(core.eval_trace)


# ---------------------------------------------------------------------------------------------------------- avals
def tangent_aval(aval: Aval) -> Aval:
    return aval.to_tangent_aval()


def cotangent_aval(aval: Aval) -> Aval:
    return aval.to_ct_aval().strip_weak_type()


def has_tangent(aval: Aval) -> bool:
    """Whether values of this type have tangents (integers, booleans and keys have none)."""
    return aval.to_tangent_aval().dtype != float0


def zeros(aval: Aval) -> Any:
    """The array of zeros of an aval, with its sharding and varying axes."""
    return ad.instantiate_zeros(JaxZero(aval))


def struct_of(aval: Aval) -> jax.ShapeDtypeStruct:
    """The type as ``jax.eval_shape`` takes it."""
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)


def strip(aval: Aval) -> Aval:
    return aval.strip_weak_type()


def varying(aval: Aval) -> frozenset[Any]:
    """The mesh axes over which a value varies inside ``shard_map``. The attribute has been renamed before."""
    return aval.mat.varying


def has_mesh(aval: Aval) -> bool:
    """Whether an aval belongs to a mesh: inside ``shard_map``, or under explicit sharding."""
    return not aval.sharding.mesh.empty


def in_mesh(aval: Aval, axes: frozenset[Any], like: Aval) -> Aval:
    """The aval in the mesh of ``like``, replicated, varying over these axes."""
    return core.ShapedArray(
        aval.shape,
        aval.dtype,
        aval.weak_type,
        sharding=like.sharding.update(spec=jax.sharding.PartitionSpec(*[None] * len(aval.shape))),
        manual_axis_type=aval.mat.update(varying=varying(aval) | axes),
    )


def cast_varying(value: Any, axes: frozenset[Any]) -> Any:
    """A value brought to these varying axes (its transpose sums over them)."""
    missing = tuple(sorted(axes - varying(typeof(value)), key=str))
    return jax.lax.pcast(value, missing, to="varying") if missing else value


def conform(value: Any, aval: Aval) -> Any:
    """A value with the varying axes and the explicit sharding of an aval."""
    value, got = cast_varying(value, varying(aval)), typeof(value)
    if aval.sharding.mesh._any_axis_explicit and got.sharding.spec != aval.sharding.spec:
        value = jax.sharding.reshard(value, aval.sharding)
    return value


def unshard_front(value: Any) -> Any:
    """A value whose first dimension is not sharded explicitly, so that a loop can run over it."""
    sharding = typeof(value).sharding
    if not sharding.mesh._any_axis_explicit or sharding.spec[0] is None:
        return value
    return jax.sharding.reshard(value, sharding.update(spec=jax.sharding.PartitionSpec(None, *sharding.spec[1:])))


# ----------------------------------------------------------------------------------------- programs: traced functions
def _debug_info(name: str) -> Any:
    return core.DebugInfo("jaxprim", name, None, None)


def trace_open(fun: Callable[..., Sequence[Any]], avals: Sequence[Aval], name: str) -> tuple[Any, list[Any]]:
    """Trace a flat function; returns its jaxpr and the values that it closes over (tracers of outer traces too)."""
    wrapped = lu.wrap_init(lambda *args: list(fun(*args)), debug_info=_debug_info(name))
    jaxpr, _, consts = pe.trace_to_jaxpr_dynamic(wrapped, list(avals))
    return jaxpr, list(consts)


def close(jaxpr: Any, consts: Sequence[Any]) -> Program:
    # JAX 0.11 merged ClosedJaxpr into Jaxpr; 0.12 removed the old name. The first branch can go with 0.10.
    if VERSION < (0, 11):
        return core.ClosedJaxpr(jaxpr, list(consts))  # pyright: ignore[reportAttributeAccessIssue] gone since 0.12
    return jaxpr.with_consts(list(consts))


def trace(fun: Callable[..., Sequence[Any]], avals: Sequence[Aval], name: str) -> Program:
    """Trace a flat function of arrays of these types to a program."""
    return close(*trace_open(fun, avals, name))


def closed_over_tracers(program: Program) -> list[Any]:
    return [const for const in program.consts if isinstance(const, Tracer)]


def evaluate_open(jaxpr: Any, consts: Sequence[Any], *args: Any) -> list[Any]:
    return core.eval_jaxpr(jaxpr, consts, *args)


def evaluate(program: Program, *args: Any) -> list[Any]:
    """Run a program on values or tracers, operation by operation."""
    return core.eval_jaxpr(program.jaxpr, program.consts, *args)


def in_avals(program: Program) -> tuple[Aval, ...]:
    return tuple(program.in_avals)


def out_avals(program: Program) -> tuple[Aval, ...]:
    return tuple(program.out_avals)


def named_axes(program: Program) -> frozenset[Any]:
    """The named axes that a program's collectives use."""
    return frozenset(effect.name for effect in program.effects if isinstance(effect, core.NamedAxisEffect))


def refused_effects(program: Program) -> list[str]:
    """The effects of a program that a pure operation can't have."""
    allowed = (core.NamedAxisEffect, debugging.DebugEffect)
    refused = [effect for effect in program.effects if not isinstance(effect, allowed)]
    return sorted({_REF_EFFECTS.get(type(effect).__name__, str(effect)) for effect in refused})


_REF_EFFECTS = {
    "ReadEffect": "a read of a mutable ref",
    "WriteEffect": "a write to a mutable ref",
    "AccumEffect": "an addition to a mutable ref",
}


def asks_for_value(error: Exception) -> bool:
    """Whether an error of JAX says that code needs the value of something that is traced."""
    if isinstance(error, jax.errors.ConcretizationTypeError | jax.errors.TracerArrayConversionError):
        return True
    # A traced value where JAX's own functions take static arguments: "unhashable type: 'DynamicJaxprTracer'".
    return isinstance(error, TypeError | ValueError) and "hash" in str(error) and "Tracer" in str(error)


def is_array_type(aval: Aval) -> bool:
    """Whether an aval is of an array (and not of a mutable ref or of a hijax value)."""
    return isinstance(aval, core.ShapedArray)


def mesh_in_reach() -> bool:
    """Whether some mesh axis is in scope, as inside shard_map."""
    return not jax.sharding.get_abstract_mesh().empty


def bind_axes(sizes: Sequence[tuple[Any, int]]) -> AbstractContextManager[None]:
    """The context of vmapped named axes. Outside of it, a function with a collective over one cannot be traced."""
    named = [(name, size) for name, size in sizes if name is not core.no_axis_name]
    return core.extend_axis_env_nd(named) if named else nullcontext()


def axis_effects(names: frozenset[Any]) -> set[Any]:
    return {core.NamedAxisEffect(name) for name in names}


def uses(program: Program, primitive: str) -> bool:
    """Whether a program applies a primitive of this name, at any depth."""
    jaxpr = program.jaxpr
    return any(eqn.primitive.name == primitive for eqn in jaxpr.eqns) or any(
        uses(inner, primitive) for inner in _inner_jaxprs(jaxpr)
    )


def _inner_jaxprs(jaxpr: Any) -> list[Any]:
    return [inner for eqn in jaxpr.eqns for inner in _inner_jaxprs_of(eqn)]


def _inner_jaxprs_of(eqn: Any) -> list[Any]:
    values = eqn.params.values()
    flat = [v for value in values for v in (value if isinstance(value, tuple | list) else (value,))]
    return [v for v in flat if hasattr(v, "eqns") and hasattr(v, "jaxpr")]


def compilations() -> int:
    """How often JAX has compiled something since this was first asked."""
    return _compilation_count()[0]


@cache
def _compilation_count() -> list[int]:
    """Counted by one listener, as none can be taken back."""
    count = [0]

    def listen(event: str, *_: Any, **__: Any) -> None:
        count[0] += event == dispatch.BACKEND_COMPILE_EVENT

    jax.monitoring.register_event_duration_secs_listener(listen)
    return count


def passed_through(program: Program) -> tuple[bool, ...]:
    """Which outputs are inputs or constants, as they are."""
    made = {outvar for eqn in program.jaxpr.eqns for outvar in eqn.outvars}
    return tuple(not isinstance(out, core.Var) or out not in made for out in program.jaxpr.outvars)


def dce(program: Program, outputs: Sequence[bool]) -> tuple[Program, tuple[bool, ...]]:
    """The program of the wanted outputs alone, and which inputs it still reads (the others are gone)."""
    jaxpr = program.jaxpr
    if VERSION < (0, 11):  # consts are no inputs there
        jaxpr, used = pe.dce_jaxpr(jaxpr, list(outputs))
        return close(jaxpr, program.consts), tuple(used)
    count = len(program.consts)
    flat, used = pe.dce_jaxpr(
        pe.convert_constvars_jaxpr(program), list(outputs), [True] * count + [False] * len(program.invars)
    )
    return flat.with_consts(program.consts), tuple(used[count:])


def evaluate_needed(program: Program, first: Sequence[bool], args: Sequence[Any]) -> list[Any]:
    """Run a program for those of its first outputs that are wanted and all later ones; None for the others."""
    wanted = [*first, *[True] * (len(program.out_avals) - len(first))]
    smaller, used = dce(program, wanted)
    outs = iter(evaluate(smaller, *[arg for arg, u in zip(args, used, strict=True) if u]))
    return [next(outs) if w else None for w in wanted]


def prune(jaxpr: Any, consts: Sequence[Any]) -> tuple[Any, list[Any]]:
    """A traced function without the closed-over values that it does not read."""
    if VERSION < (0, 11):
        jaxpr, used, _ = pe.dce_jaxpr_consts(
            jaxpr, [True] * len(jaxpr.outvars), [False] * len(consts) + [True] * len(jaxpr.invars)
        )
        return jaxpr, [c for c, u in zip(consts, used, strict=True) if u]
    # The closed-over values are the leading inputs there.
    inputs = len(jaxpr.invars) - len(consts)
    jaxpr, used = pe.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars), [False] * len(consts) + [True] * inputs)
    return jaxpr, [c for c, u in zip(consts, used[: len(consts)], strict=True) if u]


def zero_tangent(value: Any) -> Any:
    """JAX's zero tangent of a value."""
    return ad_util.p2tz(value)


def select_outputs(program: Program, keep: Sequence[bool]) -> Program:
    """The program of some of the outputs, with all its inputs and without the equations that they do not need."""
    if VERSION < (0, 11):
        smaller, _ = pe.dce_jaxpr(program.jaxpr, list(keep), [True] * len(program.in_avals))
        return close(smaller, program.consts)
    flat = pe.convert_constvars_jaxpr(program)
    smaller, _ = pe.dce_jaxpr(flat, list(keep), [True] * len(flat.invars))
    return smaller.with_consts(program.consts)


def batch(program: Program, axis: Any, dims: Sequence[int | None]) -> tuple[Program, tuple[int | None, ...]]:
    """vmap of a program, and each output's batch dimension: None where it depends on no batched input."""
    batched, out_dims = batching.batch_jaxpr2(program, axis, tuple(dims))
    return batched, tuple(out_dims)


def elementwise_dims(program: Program, dims: Sequence[int | None]) -> tuple[int | None, ...] | None:
    """The batch dimensions of a program's outputs without vmapping it; None where only that tells.

    Where each batched input has its batch in front, an elementwise operation keeps it there.
    """
    jaxpr = program.jaxpr
    if any(dims) or jaxpr.effects:
        return None
    batched = {var for var, dim in zip(jaxpr.invars, dims, strict=True) if dim == 0}
    for eqn in jaxpr.eqns:
        if not batched.isdisjoint(atom for atom in eqn.invars if isinstance(atom, core.Var)):
            if getattr(batching.fancy_primitive_batchers.get(eqn.primitive), "func", None) not in _ELEMENTWISE:
                return None
            batched.update(eqn.outvars)
    return tuple(0 if isinstance(atom, core.Var) and atom in batched else None for atom in jaxpr.outvars)


_ELEMENTWISE = (batching.broadcast_batcher, batching.vectorized_batcher)


def move_dim(axis: Any, src: int | None, dst: int | None, value: Any, *, add: bool) -> Any:
    """Bring an output's batch dimension where it is wanted; with ``add``, a dimension not wanted is summed."""
    return batching.matchaxis(axis, src, batching.sum_axis if dst is None and add else dst, value)


def batched_aval(axis: Any, dim: int | None, aval: Aval) -> Aval:
    """The aval of a whole batch, from the aval of one element."""
    if dim is None:
        return aval
    batched: Any = core.unmapped_aval(axis.size, dim, aval, axis.explicit_mesh_axis)
    if axis.spmd_name is not None and config._check_vma.value:
        names = varying(batched) | frozenset(axis.spmd_name)
        batched = batched.update(manual_axis_type=batched.mat.update(varying=names))
    return batched


def element_aval(axis: Any, dim: int | None, aval: Aval) -> Aval:
    """The aval of one element, from the aval of a whole batch."""
    if dim is None:
        return aval
    if axis.spmd_name is not None and config._check_vma.value:
        names = varying(aval) - frozenset(axis.spmd_name)
        aval = aval.update(manual_axis_type=aval.mat.update(varying=names))
    return core.mapped_aval(axis.size, dim, aval)


def jvp_program(program: Program, perturbed: Sequence[bool]) -> tuple[Program, tuple[bool, ...]]:
    """Forward-mode derivative of a program: (inputs, nonzero tangents) -> (outputs, nonzero tangents)."""
    derivative, nonzero = ad.jvp_jaxpr(program, tuple(perturbed), False)
    return derivative, tuple(nonzero)


def transpose(program: Program, linear: Sequence[bool], args: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
    """Cotangents of the linear inputs of a program, others given by value; JAX zeros where one does not matter."""
    given = iter(args)
    primals = [
        ad.UndefinedPrimal(strip(aval)) if is_linear else next(given)
        for aval, is_linear in zip(program.in_avals, linear, strict=True)
    ]
    out = ad.backward_pass(program.jaxpr, False, program.consts, primals, list(cotangents))
    return [ct for ct, is_linear in zip(out, linear, strict=True) if is_linear]


def may_lack_transpose(program: Program, count: int) -> bool:
    """Whether an equation that depends on inputs from ``count`` on may have no transpose: a quick look, not an answer."""
    jaxpr = program.jaxpr
    linear = set(jaxpr.invars[count:])
    for eqn in jaxpr.eqns:
        if linear.isdisjoint(atom for atom in eqn.invars if isinstance(atom, core.Var)):
            continue
        linear.update(eqn.outvars)
        if any(_may_lack_transpose(each) for each in _with_inner(eqn)):
            return True
    return False


def _may_lack_transpose(eqn: Any) -> bool:
    is_refusing = eqn.primitive.name in ("pure_callback", "io_callback", "ffi_call")  # they have one, which raises
    is_ours = "call" in eqn.params
    return is_refusing or is_ours or eqn.primitive not in ad.primitive_transposes


def _with_inner(eqn: Any) -> list[Any]:
    """An equation, and all those inside it."""
    inner = [each for jaxpr in _inner_jaxprs_of(eqn) for e in jaxpr.eqns for each in _with_inner(e)]
    return [eqn, *inner]


def without_zero_inputs(
    program: Program, count: int, nonzero: Sequence[bool], *, symbolic: bool
) -> tuple[Callable[..., list[Any]], tuple[Aval, ...]]:
    """A program that is linear in its inputs from ``count`` on, run with some of those inputs symbolically zero.

    A program that is not linear (``symbolic`` is False) is run on arrays of zeros.

    Returns a function of the other inputs, and their avals. An equation whose linear inputs are all zero gives zero
    without running, so that dead work is skipped and no ``inf * 0`` arises; a sum leaves its zero terms out.
    """
    keep = [True] * count + list(nonzero)

    def run(*args: Any) -> list[Any]:
        given = iter(args)
        values = [next(given) if kept else JaxZero(strip(a)) for kept, a in zip(keep, program.in_avals, strict=True)]
        return _propagate_zeros(program, values) if symbolic else evaluate(program, *map(ad.instantiate_zeros, values))

    return run, tuple(aval for aval, kept in zip(program.in_avals, keep, strict=True) if kept)


_SUMS = frozenset({"add", "add_any"})


def _propagate_zeros(program: Program, args: Sequence[Any]) -> list[Any]:
    jaxpr = program.jaxpr
    env: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*program.consts, *args], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else env[atom]

    for eqn in jaxpr.eqns:
        values = [read(atom) for atom in eqn.invars]
        is_zero = [type(value) is JaxZero for value in values]
        if any(is_zero) and _gives_zero(eqn, is_zero):
            env.update({var: JaxZero(strip(var.aval)) for var in eqn.outvars})
            continue
        if any(is_zero) and eqn.primitive.name in _SUMS:
            (kept,) = [value for value, zero in zip(values, is_zero, strict=True) if not zero]
            if typeof(kept).shape == eqn.outvars[0].aval.shape:
                env[eqn.outvars[0]] = kept
                continue
        params = eqn.primitive.get_bind_params(eqn.params)
        with eqn.ctx.manager:
            out = eqn.primitive.bind(*[ad.instantiate_zeros(value) for value in values], **params)
        env.update(zip(eqn.outvars, out if eqn.primitive.multiple_results else [out], strict=True))
    return [read(atom) for atom in jaxpr.outvars]


# One zero operand makes the whole result zero. (Not so for `complex`, or a `psum` of several operands.)
# fmt: off
_ZERO_PRESERVING = frozenset((
    "mul", "neg", "dot_general", "reduce_sum", "broadcast_in_dim", "reshape", "transpose", "squeeze", "slice", "rev",
    "convert_element_type", "conv_general_dilated", "copy", "copy_p", "real", "imag", "conj", "cumsum", "expand_dims",
    "pvary", "pcast", "reduce_precision",
))
# fmt: on
# Linear in the first operand alone: `x / 0` is no zero, and an index or a divisor that is zero says nothing.
_ZERO_IF_FIRST = frozenset({"div", "dynamic_slice", "gather"})


def _gives_zero(eqn: Any, is_zero: Sequence[bool]) -> bool:
    if eqn.primitive.name in _ZERO_IF_FIRST:
        return is_zero[0]
    return eqn.primitive.name in _ZERO_PRESERVING or all(is_zero)


def replace_application(program: Program, primitive: Any, params: dict[str, Any], count: int) -> Program | None:
    """The program with the results of one of its own applications as further inputs.

    Looks for an equation that applies ``primitive`` with ``params`` to exactly the first ``count`` inputs. If there is
    one, returns the program whose inputs are those ``count``, then that equation's results, then the rest; the
    equation does not run. None if there is none.
    """
    program = select_outputs(program, [True] * len(program.out_avals))
    jaxpr = program.jaxpr
    operands = list(jaxpr.invars[:count])
    found = [
        eqn
        for eqn in jaxpr.eqns
        if eqn.primitive is primitive and eqn.params == params and _same_vars(eqn.invars, operands)
    ]
    if not found:
        return None
    avals = [v.aval for v in operands] + [v.aval for v in found[0].outvars] + [v.aval for v in jaxpr.invars[count:]]
    size = len(found[0].outvars)

    def run(*args: Any) -> list[Any]:
        inputs = [*args[:count], *args[count + size :]]
        env: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*program.consts, *inputs], strict=True))
        for eqn in jaxpr.eqns:
            if any(eqn is other for other in found):
                env.update(zip(eqn.outvars, args[count : count + size], strict=True))
                continue
            values = [a.val if isinstance(a, core.Literal) else env[a] for a in eqn.invars]
            with eqn.ctx.manager:
                out = eqn.primitive.bind(*values, **eqn.primitive.get_bind_params(eqn.params))
            env.update(zip(eqn.outvars, out if eqn.primitive.multiple_results else [out], strict=True))
        return [a.val if isinstance(a, core.Literal) else env[a] for a in jaxpr.outvars]

    return trace(run, avals, "replaced")


def _same_vars(atoms: Sequence[Any], operands: Sequence[Any]) -> bool:
    return len(atoms) == len(operands) and all(a is b for a, b in zip(atoms, operands, strict=True))


# ------------------------------------------------------------------------------------------------- JAX's rule tables
def new_primitive(name: str) -> Any:
    """A JAX primitive with several results, which runs compiled when it is applied to values."""
    primitive = core.Primitive(name)
    primitive.multiple_results = True
    primitive.def_impl(partial(dispatch.apply_primitive, primitive))
    return primitive


def _tables() -> dict[str, dict[Any, Any]]:
    return {
        "jvp": ad.primitive_jvps,
        "transpose": ad.primitive_transposes,
        "linearize": ad.primitive_linearizations,
        # This table is also asked when no operand is batched, which a collective in an implementation needs.
        "batching": batching.fancy_primitive_batchers,
        "jet": jet.jet_rules,
    }


def register(primitive: Any, *, abstract_eval: Callable[..., Any], lowering: Any, **rules: Callable[..., Any]) -> None:
    """Write a primitive's rules (``jvp``, ``transpose``, ``linearize``, ``batching``, ``jet``) into JAX's tables."""
    primitive.def_effectful_abstract_eval(abstract_eval)
    register_lowering(primitive, lowering)
    tables = _tables()
    for name, rule in rules.items():
        tables[name][primitive] = rule


def unregister(primitive: Any) -> None:
    """Take a dropped primitive out of JAX's tables, so that making many leaves nothing behind."""
    lowerings = mlir._platform_specific_lowerings.values()
    for table in (*_tables().values(), mlir._lowerings, *lowerings):
        table.pop(primitive, None)


def register_lowering(primitive: Any, rule: Any, platform: str | None = None) -> None:
    mlir.register_lowering(primitive, rule, platform=platform)


def lower_fun(fun: Callable[..., Any]) -> Any:
    return mlir.lower_fun(fun, multiple_results=True)


def lower_program(ctx: Any, program: Program, *args: Any) -> Any:
    """Lower a program in place. `lower_fun` would trace it once more, which most of a lowering's time went into."""
    jaxpr = program.jaxpr
    if jaxpr.is_high or any(isinstance(effect, core.InternalMutableArrayEffect) for effect in jaxpr.effects):
        return lower_fun(partial(evaluate, program))(ctx, *args)
    module = ctx.module_context if ctx.platforms is None else ctx.module_context.replace(platforms=ctx.platforms)
    consts = mlir.ir_consts(program.consts, [var.aval for var in jaxpr.constvars])
    out, tokens = mlir.jaxpr_subcomp(
        module, jaxpr, ctx.name_stack, ctx.tokens_in, consts, *args,
        dim_var_values=ctx.dim_var_values, const_lowering=ctx.const_lowering, outer_traceback=None,
    )  # fmt: skip
    ctx.set_tokens_out(tokens)
    return out


_STATUS = [
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
]


def is_runtime_error(error: ValueError) -> bool:
    """Whether it is an error of a program that ran. A function that JAX jitted raises `JaxRuntimeError` for those the first
    time, and `ValueError`, by another way through its dispatch, once it has run (all JAX versions so far).
    """
    return str(error).partition(":")[0] in _STATUS


def platform_of(ctx: Any) -> str:
    """The platform that a lowering rule lowers for."""
    return (ctx.platforms or ctx.module_context.platforms)[0]


def linearization(
    outs: Sequence[Any], nonzero: Sequence[bool], residuals: Sequence[Any], linear: Callable[..., list[Any]]
) -> tuple[Any, ...]:
    """What a linearization rule returns; ``linear(residuals, *tangents)`` stages the linear part."""
    if STRUCTURED_RESIDUALS:
        return outs, nonzero, residuals, None, lambda res, _, *tangents: linear(res, *tangents)
    return outs, nonzero, residuals, linear


def linearize_by_jvp(primitive: Any, is_vjp: bool, perturbed: Sequence[bool], *primals: Any, **params: Any) -> Any:
    """JAX's own linearization: partial evaluation of the JVP rule."""
    return ad.fallback_linearize_rule(primitive, is_vjp, perturbed, *primals, **params)


def add_tangents(x: Any, y: Any) -> Any:
    return ad.add_tangents(x, y)


def jvp_flat(fun: Callable[..., list[Any]], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Forward-mode derivative of a flat function."""
    return jax.jvp(fun, tuple(primals), tuple(tangents))


def jet_of(fun: Callable[..., Any], primals: Sequence[Any], series: Sequence[Any]) -> Any:
    """Taylor mode, on Taylor coefficients: what the public ``jet`` hands to a rule, which takes derivatives itself."""
    return jet.jet(fun, tuple(primals), tuple(series), factorial_scaled=False)


# --------------------------------------------------------------------------------------------------- host callbacks
host_call_p = new_primitive("host_call")
host_call_p.def_abstract_eval(lambda *avals, callback, results: results)


def _lower_host_call(ctx: Any, *args: Any, callback: Callable[..., Any], results: Any) -> Any:
    sharding = jax_callback._callback_op_sharding(ctx.module_context.axis_context, None, ctx.avals_out)
    out, _, _ = jax_callback.emit_python_callback(
        ctx, callback, None, list(args), ctx.avals_in, ctx.avals_out,
        has_side_effect=False, returns_token=False, sharding=sharding,
    )  # fmt: skip
    return out


# Not cached by JAX as a lowering of its own: the callback is kept alive by the module that it is lowered into.
mlir.register_lowering(host_call_p, _lower_host_call, cacheable=False)


def host_call(callback: Callable[..., Sequence[np.ndarray]], results: Sequence[Aval], *args: Any) -> list[Any]:
    """Call a Python function on NumPy arrays at run time. JAX knows nothing of it but the types of its results."""
    return host_call_p.bind(*args, callback=callback, results=tuple(results))


# ---------------------------------------------------------------------------------------------- values of other types
def register_value_type(cls: type, aval_of: Callable[[Any], Aval], array_of: Callable[[Any], Any]) -> None:
    """Let JAX take instances of a class wherever it takes arrays; ``array_of`` makes the array."""

    def shard(values: Sequence[Any], shardings: Any, layouts: Any, copy_semantics: Any) -> Any:
        return pxla.shard_args(shardings, layouts, copy_semantics, [array_of(value) for value in values])

    core.pytype_aval_mappings[cls] = aval_of
    pxla.shard_arg_handlers[cls] = shard
    dtypes.canonicalize_value_handlers[cls] = array_of


# ------------------------------------------------------------------------------------------------------------ doctor
HOOKS: tuple[tuple[str, Any, str], ...] = (
    ("forward mode", ad, "primitive_jvps"),
    ("linearization (own residuals)", ad, "primitive_linearizations"),
    ("transposition", ad, "primitive_transposes"),
    ("backward pass", ad, "backward_pass"),
    ("batching, also of unbatched operands", batching, "fancy_primitive_batchers"),
    ("batching of a program", batching, "batch_jaxpr2"),
    ("batching of elementwise operations", batching, "broadcast_batcher"),
    ("lowering", mlir, "register_lowering"),
    ("lowering of a program", mlir, "jaxpr_subcomp"),
    ("tracing", pe, "trace_to_jaxpr_dynamic"),
    ("dead code", pe, "dce_jaxpr"),
    ("Taylor mode", jet, "jet_rules"),
    ("host callbacks", jax_callback, "emit_python_callback"),
    ("values of other types", core, "pytype_aval_mappings"),
    ("cache key of a redefinition", jax, "make_user_context"),
)


def missing_hooks() -> list[str]:
    """The hooks of JAX that jaxprim stands on and that this JAX does not have."""
    return [f"{purpose}: {owner.__name__}.{name}" for purpose, owner, name in HOOKS if not hasattr(owner, name)]
