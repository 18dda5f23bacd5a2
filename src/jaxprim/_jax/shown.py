"""The programs that JAX sees in the params of an equation.

JAX looks for jaxprs among an equation's params. There it finds the devices of a computation, shardings and memory kinds,
primitives that need devices while they are lowered, checks of `checkify`, and what it prints. So an equation of ours
carries its program as a param, as an equation of `jit` does. It gets it when it is staged into a jaxpr: the program
depends on the types of the operands, and JAX binds the same params to other operands, too.
"""

# Private names are what this folder is for.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

import jax
from jax._src import checkify, core, dispatch
from jax._src.interpreters import partial_eval as pe

from jaxprim._jax.avals import Aval
from jaxprim._jax.programs import Program, evaluate, trace
from jaxprim._jax.state import held_weakly

# JAX 0.11 merged ClosedJaxpr into Jaxpr. This can go with 0.10.
_Base: Any = getattr(core, "ClosedJaxpr", core.Jaxpr)
_FIELDS = tuple(name for name in _Base.__slots__ if name != "__weakref__")


@held_weakly
class LateProgram(_Base):
    """A program that is made when JAX first looks into it.

    Many equations are staged and never evaluated: a pushforward that is transposed, the body of a loop before it is
    differentiated. Their programs need not be made.
    """

    __slots__ = ("_make",)

    def __init__(self, make: Callable[[], Program]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> Any:
        """Fill in the fields. Python calls this for one that is not set."""
        if name not in _FIELDS:
            raise AttributeError(name)
        found = self._make()
        for field in _FIELDS:
            setattr(self, field, getattr(found, field))
        return getattr(self, name)


def late_program(make: Callable[[], Program], primitive: Any, avals: Sequence[Aval], **params: Any) -> Program:
    """A program made when JAX looks into it. If it cannot be made, it is one equation that JAX cannot look into.

    JAX also looks where it does not evaluate: it prints the pushforward of an operation without forward mode. An error
    belongs to the lowering, which makes the program again.
    """

    def build() -> Program:
        try:
            return make()
        except Exception:  # noqa: BLE001 an author's rule raises anything
            return trace(lambda *args: primitive.bind(*args, **params, jaxpr=None), avals, primitive.name)

    return LateProgram(build)


def show(primitive: Any, program_of: Callable[..., dict[str, Any]]) -> None:
    """Let the equations of a primitive carry their programs.

    ``program_of(avals, **params)`` returns the params that hold them: ``jaxpr``, and others. An equation that is bound
    with ``jaxpr=None`` stays as it is.
    """

    def with_program(tracers: Sequence[Any], params: dict[str, Any]) -> dict[str, Any]:
        if "jaxpr" in params and params["jaxpr"] is None:
            return params
        return {**program_of([tracer.aval for tracer in tracers], **params)}

    def stage(trace: Any, source_info: Any, *tracers: Any, **params: Any) -> Any:
        return trace.default_process_primitive(primitive, tracers, with_program(tracers, params), source_info)

    def stage_unknown(trace: Any, *tracers: Any, **params: Any) -> Any:
        if not all(tracer.is_known() for tracer in tracers):
            params = with_program(tracers, params)
        return trace.default_process_primitive(primitive, tracers, params)

    def run(*args: Any, jaxpr: Any = None, kernel: Any = None, **params: Any) -> Any:
        if any(getattr(value, "runs_once", False) for value in params.values()):
            # What is compiled would never be used again, and JAX would keep it.
            return evaluate(program_of(list(map(core.typeof, args)), **params)["jaxpr"], *args)
        return dispatch.apply_primitive(primitive, *args, **params)

    def check(_: Any, *atoms: Any, **params: Any) -> Any:
        return primitive.abstract_eval(*(atom.aval for atom in atoms), **params)

    primitive.def_impl(run)  # an equation that is evaluated shares the compiled function of an eager call
    pe.custom_staging_rules[primitive] = stage
    pe.custom_partial_eval_rules[primitive] = stage_unknown
    # What the program holds is lowered with it, so JAX need not look for types that it would lower before.
    primitive.is_high = lambda *_, **__: False
    checkify.error_checks[primitive] = _checked(primitive)
    core.custom_typechecks[primitive] = check  # JAX's own would make every program, to check it once more


def hide(primitive: Any) -> None:
    """Undo `show`."""
    for table in (pe.custom_staging_rules, pe.custom_partial_eval_rules, checkify.error_checks, core.custom_typechecks):
        table.pop(primitive, None)


# Since JAX 0.11, a rule of `checkify` takes a context first. This check can go with 0.10.
_CONTEXTS = list(signature(checkify.checkify_jaxpr).parameters).index("jaxpr")


def _checked(primitive: Any) -> Callable[..., Any]:
    """The rule of `checkify`: the operation's own value, and the errors of its program.

    The value keeps the operation, so that it can still be differentiated by its rules. The errors come from a copy of the
    program, of which XLA keeps only what they need. A program with checks of its own is written out instead: in the
    operation the checks would remain, and JAX compiles none.
    """

    def rule(*given: Any, **params: Any) -> tuple[Any, Any]:
        context, (error, enabled, *args) = given[:_CONTEXTS], given[_CONTEXTS:]
        program = params.get("kernel", params.get("jaxpr"))
        if program is None:
            return error, primitive.bind(*args, **params)
        if any(isinstance(effect, checkify.ErrorEffect) for effect in program.effects):
            return checkify.checkify_jaxpr(*context, program, enabled, error, *args)
        copies = map(jax.lax.stop_gradient, args)
        error, _ = checkify.checkify_jaxpr(*context, program, enabled, error, *copies)
        return error, primitive.bind(*args, **params)

    return rule
