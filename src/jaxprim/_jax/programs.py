"""Programs, which are traced functions, and JAX's transformations of them."""

# Private names are what this folder is for.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import jax
from jax._src import checkify, config, core, debugging
from jax._src import linear_util as lu
from jax._src.effects import JaxprInputEffect
from jax._src.interpreters import ad, batching, pxla
from jax._src.interpreters import partial_eval as pe
from jax.experimental import jet

from jaxprim._jax import words
from jaxprim._jax.avals import Aval, ordinary_point, strip, varies_over, varying
from jaxprim._jax.state import Tracer

Program = Any  # a closed jaxpr: jax.core.ClosedJaxpr, which JAX 0.11 merged into Jaxpr

Var = core.Var
Literal = core.Literal

# JAX 0.11 merged ClosedJaxpr into Jaxpr; 0.12 removed the old name. The other branches on this can go with 0.10.
_IS_MERGED = hasattr(core.Jaxpr, "with_consts")
_ClosedJaxpr: Any = getattr(core, "ClosedJaxpr", None)
_dce_with_consts: Any = getattr(pe, "dce_jaxpr_consts", None)


# ------------------------------------------------------------------------------------------------ tracing, evaluating
def _debug_info(name: str) -> Any:
    return core.DebugInfo("jaxprim", name, None, None)


def trace_open(fun: Callable[..., Sequence[Any]], avals: Sequence[Aval], name: str) -> tuple[Any, list[Any]]:
    """Trace a flat function; returns its jaxpr and the values it closes over, including outer tracers."""
    wrapped = lu.wrap_init(lambda *args: list(fun(*args)), debug_info=_debug_info(name))
    jaxpr, _, consts = pe.trace_to_jaxpr_dynamic(wrapped, list(avals))
    return jaxpr, list(consts)


def close(jaxpr: Any, consts: Sequence[Any]) -> Program:
    """A program from a jaxpr and the values of its constants."""
    return jaxpr.with_consts(list(consts)) if _IS_MERGED else _ClosedJaxpr(jaxpr, list(consts))


def trace(fun: Callable[..., Sequence[Any]], avals: Sequence[Aval], name: str) -> Program:
    """Trace a flat function of arrays of these types to a program. Refs that it makes for itself become values."""
    program = close(*trace_open(fun, avals, name))
    makes_refs = any(isinstance(effect, core.InternalMutableArrayEffect) for effect in program.effects)
    if not makes_refs or _without_refs is None or _takes_refs(program):
        return program
    return _without_refs(program)


# JAX does the same to what it compiles. Without refs, a program has a derivative, a transpose and a batch like any other.
# A JAX that lacks it compiles such programs, too, and that is all.
_without_refs: Callable[[Program], Program] | None = getattr(pxla, "_discharge_internal_refs", None)


def _takes_refs(program: Program) -> bool:
    """Whether refs from outside come in. Their writes must stay."""
    return not all(isinstance(var.aval, core.ShapedArray) for var in [*program.jaxpr.constvars, *program.jaxpr.invars])


def closed_over_tracers(program: Program) -> list[Any]:
    return [const for const in program.consts if isinstance(const, Tracer)]


def evaluate_open(jaxpr: Any, consts: Sequence[Any], *args: Any) -> list[Any]:
    return core.eval_jaxpr(jaxpr, consts, *args)


def evaluate(program: Program, *args: Any) -> list[Any]:
    """Run a program on values or tracers, operation by operation."""
    return core.eval_jaxpr(program.jaxpr, program.consts, *args)


# --------------------------------------------------------------------------------------------------- looking at them
def in_avals(program: Program) -> tuple[Aval, ...]:
    return tuple(program.in_avals)


def out_avals(program: Program) -> tuple[Aval, ...]:
    return tuple(program.out_avals)


def named_axes(program: Program) -> frozenset[Any]:
    """The named axes that a program's collectives use."""
    return axes_in(program.effects)


def axes_in(effects: Iterable[Any]) -> frozenset[Any]:
    """The named axes among effects."""
    return frozenset(effect.name for effect in effects if isinstance(effect, core.NamedAxisEffect))


def effects_of(program: Program) -> frozenset[Any]:
    """The effects that an equation with this program has: all but those of refs, which belong to inputs or end inside."""
    own = (JaxprInputEffect, core.InternalMutableArrayEffect)
    return frozenset(effect for effect in program.effects if not isinstance(effect, own))


def without_axes(effects: Iterable[Any], names: Collection[Any]) -> frozenset[Any]:
    """The effects without those of the named axes that a vmap binds."""
    bound = lambda effect: isinstance(effect, core.NamedAxisEffect) and effect.name in names
    return frozenset(effect for effect in effects if not bound(effect))


def only_axes(effects: Iterable[Any]) -> frozenset[Any]:
    """The effects that say which named axes collectives use."""
    return frozenset(effect for effect in effects if isinstance(effect, core.NamedAxisEffect))


def refused_effects(program: Program) -> list[str]:
    """The effects of a program that a pure operation can't have."""
    allowed = (core.NamedAxisEffect, debugging.DebugEffect, checkify.ErrorEffect)
    refused = [effect for effect in effects_of(program) if not isinstance(effect, allowed)]
    refused += [effect for effect in program.effects if isinstance(effect, JaxprInputEffect)]
    return sorted({words.REF_EFFECTS.get(type(effect).__name__, str(effect)) for effect in refused})


def bind_axes(sizes: Sequence[tuple[Any, int]]) -> AbstractContextManager[None]:
    """A context that binds vmapped named axes. A function with a collective over one can only be traced inside it."""
    named = [(name, size) for name, size in sizes if name is not core.no_axis_name]
    return core.extend_axis_env_nd(named) if named else nullcontext()


def uses(program: Program, primitive: str) -> bool:
    """Whether a program applies a primitive of this name, at any depth."""
    return any(
        eqn.primitive.name == primitive or any(uses(inner, primitive) for inner in inner_programs(eqn))
        for eqn in program.eqns
    )


def residual_names(program: Program) -> tuple[str, ...]:
    """The names that a program gives to values for policies of ``jax.checkpoint``, at any depth."""
    own = [eqn.params["name"] for eqn in program.eqns if eqn.primitive.name == words.NAME]
    inner = [name for eqn in program.eqns for part in inner_programs(eqn) for name in residual_names(part)]
    return tuple(dict.fromkeys([*own, *inner]))


def inner_programs(eqn: Any) -> list[Any]:
    """The programs in an equation's params: the body of a loop, the branches of a conditional, a jitted function."""
    values = eqn.params.values()
    flat = [v for value in values for v in (value if isinstance(value, tuple | list) else (value,))]
    return [v for v in flat if hasattr(v, "eqns")]


@dataclass(frozen=True)
class Flow:
    """How an equation runs the programs inside it.

    Attributes:
        programs: the body of a loop, the branches of a conditional, the function that is called.
        operands: the places of the operands that each program takes, in its order.
        carried: the pairs (result, input) of a loop: that result of the program is that input of its next turn.
    """

    programs: tuple[Program, ...]
    operands: range
    carried: tuple[tuple[int, int], ...] = ()


def flow_of(eqn: Any) -> Flow | None:
    """The flow of a call, conditional or loop; None for any other equation."""
    name, params, count = eqn.primitive.name, eqn.params, len(eqn.invars)
    if name in words.CALLS:
        return Flow(tuple(inner_programs(eqn)), range(count))
    if name == words.COND:
        return Flow(tuple(params["branches"]), range(1, count))
    if name == words.WHILE:
        first, results = params["body_nconsts"], len(eqn.outvars)
        carried = tuple((i, first + i) for i in range(results))
        return Flow((params["body_jaxpr"],), range(params["cond_nconsts"], count), carried)
    if name == words.SCAN:
        first, results = _scan_sizes(params)
        return Flow((params["jaxpr"],), range(count), tuple((i, first + i) for i in range(results)))
    return None


def _scan_sizes(params: Any) -> tuple[int, int]:
    """How many constants and carried values a scan has."""
    if "ft_in" in params:  # JAX 0.11 made it a tree. The other branch can go with 0.10.
        consts, carry, _ = params["ft_in"].unpack()
        return len(consts), len(carry)
    return params["num_consts"], params["num_carry"]


def loops_carry_reals(program: Program) -> list[bool]:
    """For each loop in a program, at any depth: whether it carries real or complex numbers from one turn to the next.

    An operation that hides its loop, and returns only integers, is a search.
    """
    found: list[bool] = []
    for eqn in program.eqns:
        flow, name = flow_of(eqn), eqn.primitive.name
        if flow is not None and name in (words.WHILE, words.SCAN):
            avals = out_avals(flow.programs[0])
            found.append(any(_is_real(avals[i]) for i, _ in flow.carried))
        elif name == words.HIJAX and not any(_is_real(var.aval) for var in eqn.outvars):
            found.append(False)
        found += [carries for inner in inner_programs(eqn) for carries in loops_carry_reals(inner)]
    return found


def _is_real(aval: Aval) -> bool:
    """Whether a type is one of real or complex numbers."""
    return jax.numpy.issubdtype(aval.dtype, jax.numpy.inexact)


def has_side_effects(eqn: Any) -> bool:
    """Whether an equation does more than compute its results, as a debug print does."""
    return any(not isinstance(effect, core.NamedAxisEffect) for effect in eqn.effects)


# Since JAX 0.9.2, `get_bind_params` returns functions in an equation's params (as in `custom_jvp`) among the params.
# Before, it returned them as a separate list, which goes to `bind` ahead of the operands. This check can go with 0.9.1.
_FUNCTIONS_ARE_APART = isinstance(core.Primitive("probe").get_bind_params({}), tuple)


def apply_equation(eqn: Any, values: Sequence[Any]) -> list[Any]:
    """Apply an equation's operation to other operands, in the equation's own context; returns a list of its results."""
    params: Any = eqn.primitive.get_bind_params(eqn.params)
    functions, params = params if _FUNCTIONS_ARE_APART else ([], params)
    with eqn.ctx.manager:
        out = eqn.primitive.bind(*functions, *values, **params)
    return list(out) if eqn.primitive.multiple_results else [out]


def evaluate_inside(program: Program, args: Sequence[Any], name: str) -> list[Any]:
    """Run a program on values, each operation by itself, also those in the programs of the calls that use a primitive.

    Programs inside loops, conditionals and `shard_map` run as wholes.
    """
    values: dict[Any, Any] = dict(zip(program.jaxpr.constvars, program.consts, strict=True))
    values.update(zip(program.jaxpr.invars, args, strict=True))
    read = lambda atom: atom.val if isinstance(atom, core.Literal) else values[atom]
    for eqn in program.jaxpr.eqns:
        given, inner = [read(atom) for atom in eqn.invars], _called_program(eqn, name)
        outs = apply_equation(eqn, given) if inner is None else evaluate_inside(inner, given, name)
        values.update(zip(eqn.outvars, outs, strict=True))
    return [read(atom) for atom in program.jaxpr.outvars]


def _called_program(eqn: Any, name: str) -> Program | None:
    """The program that an equation runs once on its own operands, if it uses a primitive of this name."""
    found = inner_programs(eqn)
    if eqn.primitive.name in words.NOT_A_CALL or len(found) != 1 or not uses(found[0], name):
        return None
    inner = close(found[0], ()) if not hasattr(found[0], "consts") else found[0]
    return inner if len(inner.jaxpr.invars) == len(eqn.invars) else None


def passed_through(program: Program) -> tuple[bool, ...]:
    """Which outputs are unchanged inputs or constants."""
    made = {outvar for eqn in program.jaxpr.eqns for outvar in eqn.outvars}
    return tuple(not isinstance(out, core.Var) or out not in made for out in program.jaxpr.outvars)


# ----------------------------------------------------------------------------------------------- dead code
def dce(program: Program, outputs: Sequence[bool]) -> tuple[Program, tuple[bool, ...]]:
    """The program of only the wanted outputs, and which inputs it still has: those it does not read are dropped.

    The other outputs are known, so what a debug print shows was shown when they were computed.
    """
    program = _without_prints(program)
    jaxpr = program.jaxpr
    if not _IS_MERGED:  # here consts are not inputs
        jaxpr, used = pe.dce_jaxpr(jaxpr, list(outputs))
        return close(jaxpr, program.consts), tuple(used)
    count = len(program.consts)
    flat, used = pe.dce_jaxpr(
        pe.convert_constvars_jaxpr(program), list(outputs), [True] * count + [False] * len(program.invars)
    )
    return flat.with_consts(program.consts), tuple(used[count:])


_PRINTS = (debugging.DebugEffect, debugging.OrderedDebugEffect)


def _without_prints(program: Program) -> Program:
    kept = [eqn for eqn in program.eqns if eqn.outvars or not _is_print(eqn)]
    if len(kept) == len(program.eqns):
        return program
    left = {effect for eqn in kept for effect in eqn.effects}
    effects = frozenset(effect for effect in program.effects if effect in left or not isinstance(effect, _PRINTS))
    return close(program.jaxpr.replace(eqns=kept, effects=effects), program.consts)


def _is_print(eqn: Any) -> bool:
    return bool(eqn.effects) and all(isinstance(effect, _PRINTS) for effect in eqn.effects)


def evaluate_needed(program: Program, first: Sequence[bool], args: Sequence[Any]) -> list[Any]:
    """Run a program for the wanted ones among its first outputs, and all later outputs; None for the others."""
    wanted = [*first, *[True] * (len(program.out_avals) - len(first))]
    smaller, used = dce(program, wanted)
    outs = iter(evaluate(smaller, *[arg for arg, u in zip(args, used, strict=True) if u]))
    return [next(outs) if w else None for w in wanted]


def prune(jaxpr: Any, consts: Sequence[Any]) -> tuple[Any, list[Any]]:
    """A traced function without the closed-over values that it never reads."""
    if jaxpr.constvars:  # JAX 0.11.1 makes closed-over values the leading inputs. This branch can go with 0.11.0.
        jaxpr, used, _ = _dce_with_consts(
            jaxpr, [True] * len(jaxpr.outvars), [False] * len(consts) + [True] * len(jaxpr.invars)
        )
        return jaxpr, [c for c, u in zip(consts, used, strict=True) if u]
    inputs = len(jaxpr.invars) - len(consts)
    jaxpr, used = pe.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars), [False] * len(consts) + [True] * inputs)
    return jaxpr, [c for c, u in zip(consts, used[: len(consts)], strict=True) if u]


def select_outputs(program: Program, keep: Sequence[bool]) -> Program:
    """The program of some of the outputs: it keeps all inputs, and drops equations that these outputs do not need."""
    if not _IS_MERGED:
        smaller, _ = pe.dce_jaxpr(program.jaxpr, list(keep), [True] * len(program.in_avals))
        return close(smaller, program.consts)
    flat = pe.convert_constvars_jaxpr(program)
    smaller, _ = pe.dce_jaxpr(flat, list(keep), [True] * len(flat.invars))
    return smaller.with_consts(program.consts)


# --------------------------------------------------------------------------------------------------------- batching
def batch(program: Program, axis: Any, dims: Sequence[int | None]) -> tuple[Program, tuple[int | None, ...]]:
    """vmap of a program, and each output's batch dimension: None where it depends on no batched input."""
    batched, out_dims = batching.batch_jaxpr2(program, axis, tuple(dims))
    return batched, tuple(out_dims)


# JAX 0.10 gave `matchaxis` the arguments of `matchaxis2`. The older name can go with 0.9.
_matchaxis: Callable[..., Any] = getattr(batching, "matchaxis2", batching.matchaxis)


def move_dim(axis: Any, src: int | None, dst: int | None, value: Any, *, add: bool) -> Any:
    """Move an output's batch dimension from ``src`` to ``dst``. With ``add``, it is summed away if ``dst`` is None."""
    return _matchaxis(axis, src, dst, value, sum_match=add)


def vmapped_axis(size: int, name: Any = core.no_axis_name) -> Any:
    """JAX's data of a vmapped axis without a mesh axis."""
    return batching.AxisData(name, size, None, None)


def batched_aval(axis: Any, dim: int | None, aval: Aval) -> Aval:
    """The aval of a whole batch, from the aval of one element."""
    if dim is None:
        return aval
    batched: Any = core.unmapped_aval(axis.size, dim, aval, axis.explicit_mesh_axis)
    if axis.spmd_name is not None and config._check_vma.value:
        names = varying(batched) | frozenset(axis.spmd_name)
        batched = batched.update(**varies_over(batched, names))
    return batched


def element_aval(axis: Any, dim: int | None, aval: Aval) -> Aval:
    """The aval of one element, from the aval of a whole batch."""
    if dim is None:
        return aval
    if axis.spmd_name is not None and config._check_vma.value:
        names = varying(aval) - frozenset(axis.spmd_name)
        aval = aval.update(**varies_over(aval, names))
    return core.mapped_aval(axis.size, dim, aval)


# --------------------------------------------------------------------------------------------------- differentiation
def jvp_program(program: Program, perturbed: Sequence[bool]) -> tuple[Program, tuple[bool, ...]]:
    """Forward-mode derivative of a program: (inputs, nonzero tangents) -> (outputs, nonzero tangents)."""
    derivative, nonzero = ad.jvp_jaxpr(program, tuple(perturbed), False)
    return derivative, tuple(nonzero)


def transpose(program: Program, linear: Sequence[bool], args: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
    """Cotangents of the linear inputs of a program at given values of the others. A zero may be a JAX zero."""
    given = iter(args)
    primals = [
        ad.UndefinedPrimal(strip(aval)) if is_linear else next(given)
        for aval, is_linear in zip(program.in_avals, linear, strict=True)
    ]
    out = ad.backward_pass(program.jaxpr, False, program.consts, primals, list(cotangents))
    return [ct for ct, is_linear in zip(out, linear, strict=True) if is_linear]


def transpose_unknown(
    program: Program, linear: Sequence[bool], args: Sequence[Any], cotangents: Sequence[Any]
) -> list[Any]:
    """`transpose`, after what depends on the given values alone is evaluated, also inside loops, calls and conditionals.

    This is JAX's partial evaluation. It splits a scan that carries (y, A(y) t) into one of y and one that is linear in t.
    """

    def run(*unknown: Any) -> list[Any]:
        given, sought = iter(args), iter(unknown)
        return evaluate(program, *[next(sought) if is_linear else next(given) for is_linear in linear])

    avals = [strip(aval) for aval, is_linear in zip(program.in_avals, linear, strict=True) if is_linear]
    wrapped = lu.wrap_init(run, debug_info=_debug_info("linear"))
    unknown = [pe.PartialVal.unknown(aval) for aval in avals]
    jaxpr, _, consts = pe.trace_to_jaxpr_nounits(wrapped, unknown, instantiate=True)
    jaxpr, _ = pe.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars), True)
    return list(ad.backward_pass(jaxpr, False, consts, [ad.UndefinedPrimal(a) for a in avals], list(cotangents)))


def transpose_by_vjp(program: Program, count: int, args: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
    """Cotangents of the inputs from ``count`` on, by JAX's derivative of the program in these inputs.

    The program is linear in them, so its derivative is the same everywhere. It is taken at an ordinary point, because a
    rule may treat zero alone: ``where(y_bar == 0, 0, x * y_bar)`` has the derivative 0 there.
    """
    point = [ordinary_point(strip(aval)) for aval in program.in_avals[count:]]
    _, pull = jax.vjp(lambda *linear: evaluate(program, *args, *linear), *point)
    return list(pull(list(cotangents)))


def jvp_flat(fun: Callable[..., list[Any]], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """Forward-mode derivative of a flat function."""
    return jax.jvp(fun, tuple(primals), tuple(tangents))


def jet_of(fun: Callable[..., Any], primals: Sequence[Any], series: Sequence[Any]) -> Any:
    """Taylor mode on Taylor coefficients, as rules get them. (The public ``jet`` takes derivatives.)"""
    return jet.jet(fun, tuple(primals), tuple(series), factorial_scaled=False)
