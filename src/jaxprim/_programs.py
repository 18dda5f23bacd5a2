"""jaxprim's own passes over programs, equation by equation. They use the form of a jaxpr, not JAX's internals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jaxprim import _jax
from jaxprim._jax import words

Visit = Callable[[Any, list[Any]], Sequence[Any]]


def interpret(program: _jax.Program, inputs: Sequence[Any], visit: Visit) -> list[Any]:
    """Run a program; ``visit(equation, operands)`` returns the results of each equation."""
    jaxpr = program.jaxpr
    env: dict[Any, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*program.consts, *inputs], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, _jax.Literal) else env[atom]

    for eqn in jaxpr.eqns:
        env.update(zip(eqn.outvars, visit(eqn, [read(atom) for atom in eqn.invars]), strict=True))
    return [read(atom) for atom in jaxpr.outvars]


# -------------------------------------------------------------------------------------------------------------- zeros
def without_zero_inputs(
    program: _jax.Program, count: int, nonzero: Sequence[bool], *, symbolic: bool
) -> tuple[Callable[..., list[Any]], tuple[_jax.Aval, ...]]:
    """Drop zero inputs of a program that is linear in its inputs from ``count`` on.

    Write the program as y = A(r) t with t = (t_1, t_2). For t_2 = 0 only the block of t_1 is left:

        A(r) t = A_1(r) t_1 + A_2(r) 0 = A_1(r) t_1

    Zeros are passed on symbolically: L(0) = 0 for a linear equation L, and 0 + x = x. So no work is spent on them, and
    no ``inf * 0 = nan`` arises. A program that is not linear (``symbolic`` is False) runs on arrays of zeros instead.

    Returns a function of the other inputs, and their avals.
    """
    keep = [True] * count + list(nonzero)

    def run(*args: Any) -> list[Any]:
        given = iter(args)
        zeros = [_jax.JaxZero(_jax.strip(aval)) for aval in program.in_avals]
        values = [next(given) if kept else zero for kept, zero in zip(keep, zeros, strict=True)]
        return interpret(program, values, _pass_zeros) if symbolic else _jax.evaluate(program, *map(_array, values))

    return run, tuple(aval for aval, kept in zip(program.in_avals, keep, strict=True) if kept)


def _pass_zeros(eqn: Any, values: list[Any]) -> Sequence[Any]:
    """The results of an equation with JAX zeros as operands: L(0) = 0, and 0 + x = x if x has the sum's shape."""
    is_zero = [type(value) is _jax.JaxZero for value in values]
    if any(is_zero):
        if _gives_zero(eqn, is_zero):
            return [_jax.JaxZero(_jax.strip(var.aval)) for var in eqn.outvars]
        if eqn.primitive.name in words.SUMS:
            (kept,) = [value for value, zero in zip(values, is_zero, strict=True) if not zero]
            if _jax.typeof(kept).shape == eqn.outvars[0].aval.shape:
                return [kept]
    return _jax.apply_equation(eqn, [_array(value) for value in values])


def _gives_zero(eqn: Any, is_zero: Sequence[bool]) -> bool:
    """Whether zeros in these operands make all results zero. This is the only place that decides it.

    ``ZERO_PRESERVING`` are linear in each operand on its own (x * 0 = 0 * y = 0). ``ZERO_IF_FIRST`` are linear in the
    first operand only (0 / y = 0). Any other equation gives zero if all its operands are zero: then
    it depends on the linear inputs only, so it is linear in its operands.
    """
    if eqn.primitive.name in words.ZERO_IF_FIRST:
        return is_zero[0]
    return eqn.primitive.name in words.ZERO_PRESERVING or all(is_zero)


def _array(value: Any) -> Any:
    """An array of zeros for a JAX zero; any other value unchanged."""
    return _jax.zeros(value.aval) if type(value) is _jax.JaxZero else value


# ------------------------------------------------------------------------------------------------------- applications
def replace_application(
    program: _jax.Program, primitive: Any, params: dict[str, Any], count: int
) -> _jax.Program | None:
    """Turn the results of one application inside a program into inputs of the program.

    Look for an equation y = primitive(x) with ``params`` and exactly the first ``count`` inputs x. If there is one, the
    program p(x, t) becomes q(x, y, t), which does not run that equation: p(x, t) = q(x, primitive(x), t). A caller that
    knows y already need not compute it again. Returns None if there is no such equation.
    """
    program = _jax.select_outputs(program, [True] * len(program.out_avals))
    jaxpr = program.jaxpr
    operands = list(jaxpr.invars[:count])
    found = [
        eqn
        for eqn in jaxpr.eqns
        if eqn.primitive is primitive and {**eqn.params, **params} == eqn.params and _same_vars(eqn.invars, operands)
    ]
    if not found:
        return None
    avals = [v.aval for v in operands] + [v.aval for v in found[0].outvars] + [v.aval for v in jaxpr.invars[count:]]
    size = len(found[0].outvars)

    def run(*args: Any) -> list[Any]:
        results = args[count : count + size]

        def visit(eqn: Any, values: list[Any]) -> Sequence[Any]:
            return results if any(eqn is other for other in found) else _jax.apply_equation(eqn, values)

        return interpret(program, [*args[:count], *args[count + size :]], visit)

    return _jax.trace(run, avals, "replaced")


def is_application(program: _jax.Program, outputs: int, count: int, is_it: Callable[[Any], bool]) -> bool:
    """Whether the first outputs are those of one equation, for which ``is_it``, on exactly the first ``count`` inputs."""
    jaxpr = program.jaxpr
    wanted, operands = jaxpr.outvars[:outputs], list(jaxpr.invars[:count])
    return any(
        is_it(eqn) and _same_vars(eqn.outvars, wanted) and _same_vars(eqn.invars, operands) for eqn in jaxpr.eqns
    )


def _same_vars(atoms: Sequence[Any], operands: Sequence[Any]) -> bool:
    return len(atoms) == len(operands) and all(a is b for a, b in zip(atoms, operands, strict=True))


# ------------------------------------------------------------------------------------------ looking without running
def may_lack_transpose(program: _jax.Program, count: int) -> bool:
    """Whether an equation that depends on inputs from ``count`` on may lack a transpose.

    This is a quick look: True means "try it", False means that JAX has a rule for each such equation.
    """
    jaxpr = program.jaxpr
    linear = set(jaxpr.invars[count:])
    for eqn in jaxpr.eqns:
        if linear.isdisjoint(_variables(eqn)):
            continue
        linear.update(eqn.outvars)
        if any(_may_lack_transpose(each) for each in _with_inner(eqn)):
            return True
    return False


def _may_lack_transpose(eqn: Any) -> bool:
    is_ours = "call" in eqn.params
    return is_ours or eqn.primitive.name in words.TRANSPOSE_RAISES or not _jax.has_transpose(eqn.primitive)


def _with_inner(eqn: Any) -> list[Any]:
    """An equation, and all equations in its inner programs."""
    inner = [each for program in _jax.inner_programs(eqn) for e in program.eqns for each in _with_inner(e)]
    return [eqn, *inner]


def elementwise_dims(program: _jax.Program, dims: Sequence[int | None]) -> tuple[int | None, ...] | None:
    """The batch dimensions of a program's outputs, without vmapping it; None if only vmap can tell.

    If all batched inputs have the batch in front, an elementwise operation f keeps it there:
    vmap(f)(x)[i] = f(x[i]), so the output has dimension 0 if one of its operands is batched, and None otherwise.
    """
    jaxpr = program.jaxpr
    if any(dims) or jaxpr.effects:
        return None
    batched = {var for var, dim in zip(jaxpr.invars, dims, strict=True) if dim == 0}
    for eqn in jaxpr.eqns:
        if not batched.isdisjoint(_variables(eqn)):
            if not _jax.is_elementwise(eqn.primitive):
                return None
            batched.update(eqn.outvars)
    return tuple(0 if isinstance(atom, _jax.Var) and atom in batched else None for atom in jaxpr.outvars)


def _variables(eqn: Any) -> list[Any]:
    """The operands of an equation that are not literals."""
    return [atom for atom in eqn.invars if isinstance(atom, _jax.Var)]
