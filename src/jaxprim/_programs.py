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
    program: _jax.Program, count: int, nonzero: Sequence[bool]
) -> tuple[Callable[..., list[Any]], tuple[_jax.Aval, ...]]:
    """Drop zero inputs of a program, among those from ``count`` on.

    Write the program as y = A(r) t with t = (t_1, t_2). For t_2 = 0 only the block of t_1 is left:

        A(r) t = A_1(r) t_1 + A_2(r) 0 = A_1(r) t_1

    Zeros are passed on symbolically: L(0) = 0 for a linear equation L, and 0 + x = x. So no work is spent on them, and
    no ``inf * 0 = nan`` arises. An equation that is not known to be linear gets arrays of zeros: a rule may look at its
    tangents, as ``isfinite`` does, and the numbers are those that arrays give.

    Returns a function of the other inputs, and their avals.
    """
    keep = [True] * count + list(nonzero)

    def run(*args: Any) -> list[Any]:
        given = iter(args)
        zeros = [_jax.JaxZero(_jax.strip(aval)) for aval in program.in_avals]
        values = [next(given) if kept else zero for kept, zero in zip(keep, zeros, strict=True)]
        return interpret(program, values, _pass_zeros)

    return run, tuple(aval for aval, kept in zip(program.in_avals, keep, strict=True) if kept)


def _pass_zeros(eqn: Any, values: list[Any]) -> Sequence[Any]:
    """The results of an equation with JAX zeros as operands: L(0) = 0, and 0 + x = x if x has the sum's shape."""
    is_zero = [type(value) is _jax.JaxZero for value in values]
    if not any(is_zero):
        return _jax.apply_equation(eqn, values)
    zero_results = gives_zero(eqn, is_zero)
    if eqn.primitive.name in words.SUMS and not all(is_zero):
        (kept,) = [value for value, zero in zip(values, is_zero, strict=True) if not zero]
        if _jax.typeof(kept).shape == eqn.outvars[0].aval.shape:
            return [kept]
    zeros = [_jax.JaxZero(_jax.strip(var.aval)) for var in eqn.outvars]
    if all(zero_results):
        return zeros
    outs = _jax.apply_equation(eqn, [_array(value) for value in values])
    return [zero if is_it else out for zero, is_it, out in zip(zeros, zero_results, outs, strict=True)]


def gives_zero(eqn: Any, is_zero: Sequence[bool]) -> list[bool]:
    """Which results of an equation are zero if these operands are. This is the only place that decides it.

    They are if the equation is linear in operands that are zero, whatever the others are. That is known of the lists in
    `words`, of what JAX differentiates as linear, and of jaxprim's own equations. A call, conditional or loop is as its
    inner equations. Of any other equation it is not known, even if all its operands are zero: exp(0) = 1.
    """
    name, params = eqn.primitive.name, eqn.params
    flow = _jax.flow_of(eqn)
    if flow is not None:
        return [False] * len(eqn.outvars) if _jax.has_side_effects(eqn) else _through(flow, is_zero)
    if name in words.MULTILINEAR:
        zero = any(is_zero)
    elif name in words.LINEAR_IN:
        linear = list(is_zero[words.LINEAR_IN[name]])
        zero = all(linear) and sum(is_zero) == len(linear)
    elif "linear_map" in params:
        zero = all(is_zero[params["linear_map"].residuals :])
    elif "call" in params:
        declared = params["call"].linear_mask()
        zero = any(declared) and all(z for z, is_linear in zip(is_zero, declared, strict=True) if is_linear)
    else:
        zero = all(is_zero) and _jax.is_linear(eqn.primitive)
    return [zero] * len(eqn.outvars)


def _through(flow: Any, is_zero: Sequence[bool]) -> list[bool]:
    """Which results of a flow are zero. What a loop carries is zero if it starts as zero, and each turn keeps it."""
    inputs = [is_zero[i] for i in flow.operands]
    while True:
        outs = [all(each) for each in zip(*(_zero_outputs(program, inputs) for program in flow.programs), strict=True)]
        lost = [place for result, place in flow.carried if inputs[place] and not outs[result]]
        if not lost:
            break
        inputs = [zero and i not in lost for i, zero in enumerate(inputs)]
    starts = dict(flow.carried)
    return [out and (i not in starts or inputs[starts[i]]) for i, out in enumerate(outs)]


def _zero_outputs(program: Any, is_zero: Sequence[bool]) -> list[bool]:
    """Which outputs of a program are zero if these inputs are."""
    jaxpr = getattr(program, "jaxpr", program)
    zeros = {var for var, zero in zip(jaxpr.invars, is_zero, strict=True) if zero}
    for eqn in jaxpr.eqns:
        mask = [isinstance(atom, _jax.Var) and atom in zeros for atom in eqn.invars]
        if any(mask):
            zeros.update(var for var, zero in zip(eqn.outvars, gives_zero(eqn, mask), strict=True) if zero)
    return [isinstance(atom, _jax.Var) and atom in zeros for atom in jaxpr.outvars]


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


# -------------------------------------------------------------------------------------------------------- transposing
def transpose(
    program: _jax.Program, linear: Sequence[bool], args: Sequence[Any], cotangents: Sequence[Any]
) -> list[Any]:
    """Cotangents of the linear inputs of a program at given values of the others. A zero may be a JAX zero."""
    run = _jax.transpose_unknown if may_lack_transpose(program, linear) else _jax.transpose
    return run(program, linear, args, cotangents)


def may_lack_transpose(program: _jax.Program, linear: Sequence[bool]) -> bool:
    """Whether an equation that depends on the linear inputs may lack a transpose.

    This is a quick look: True means "try it", False means that JAX has a rule for each such equation as it stands. A
    loop or conditional must be tried, because what is known in it may have to be evaluated first.
    """
    jaxpr = getattr(program, "jaxpr", program)
    found = {var for var, is_linear in zip(jaxpr.invars, linear, strict=True) if is_linear}
    for eqn in jaxpr.eqns:
        if found.isdisjoint(_variables(eqn)):
            continue
        if _may_lack_transpose(eqn, [isinstance(atom, _jax.Var) and atom in found for atom in eqn.invars]):
            return True
        found.update(eqn.outvars)
    return False


def _may_lack_transpose(eqn: Any, linear: Sequence[bool]) -> bool:
    if eqn.primitive.name in words.CALLS:
        return any(may_lack_transpose(program, linear) for program in _jax.inner_programs(eqn))
    is_ours = "call" in eqn.params or "linear_map" in eqn.params
    is_known = _jax.has_transpose(eqn.primitive) and eqn.primitive.name not in words.TRANSPOSE_RAISES
    return is_ours or not is_known or bool(_jax.inner_programs(eqn))


# ------------------------------------------------------------------------------------------ looking without running
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
