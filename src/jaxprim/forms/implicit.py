"""The JVP and the VJP rule of an operation that solves an equation, by the implicit function theorem.

The solution y of F(y, x) = 0 moves with the operands x. With the partial derivatives of F at (y, x):

    F_y y_dot + F_x x_dot = 0        so   y_dot = -F_y^-1 F_x x_dot
    F_y^T u = y_bar                  and  x_bar = -F_x^T u

The rules apply the operation for y, and JAX differentiates the rest in y and x, so derivatives of any order are right.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax

from jaxprim import _jax, _trees
from jaxprim._errors import BadCall, RuleMissing, message
from jaxprim._masks import expand, select
from jaxprim._origin import named
from jaxprim._rule_kinds import FIXED_POINT, MINIMUM, RESIDUAL, SOLVE, Form
from jaxprim._rules import Rule, RuleSet, call_author
from jaxprim._trees import Flags
from jaxprim._zeros import is_zero
from jaxprim.forms.equation import At, Equation, is_unknown
from jaxprim.forms.linear_solvers import KRYLOV, WORDS, ByFunction, ByLineax, ByWord, Solver, System, is_lineax


@dataclass(frozen=True)
class SolverOptions:
    """What `Primitive.def_implicit` was told about the solver of the linear systems."""

    solve: Any = "dense"
    transpose_solve: Any = None
    symmetric: bool = False
    tol: float | None = None
    keep: tuple[str, ...] = ()


def implicit_rules(
    rules: RuleSet, residual: Any, fixed_point: Any, minimum: Any, options: SolverOptions
) -> tuple[Rule, Rule]:
    """Both rules of an operation that solves one of the three forms of an equation."""
    form, author = _equation_of(rules, {RESIDUAL: residual, FIXED_POINT: fixed_point, MINIMUM: minimum})
    equation = Equation(rules, form, author)
    _refuse_options(equation, options)
    return _both_rules(equation, _solver_of(equation, options))


@dataclass(frozen=True)
class Implicit:
    """The equation that an operation solves, and who solves the linear systems of its derivative."""

    equation: Equation
    solver: Solver

    def at(self, primals: Any, params: Mapping[str, Any]) -> At:
        """The equation at the operation's own result."""
        rules = self.equation.rules
        y, kept = _parted(rules, rules.apply(primals, params))
        return self.equation.at(y, kept, params)


# ------------------------------------------------------------------------------------------------------------ the rules
@dataclass(frozen=True)
class _Static:
    """What is static in one use of a rule; equal where one compiled program serves.

    Attributes:
        key: the static params, as a key.
        params: the static params.
        tree: the tree of the operands.
        perturbed: which leaves of the operands are perturbed.
    """

    key: Any
    params: Mapping[str, Any] = field(compare=False)
    tree: Any
    perturbed: tuple[bool, ...]


def _both_rules(equation: Equation, solver: Solver) -> tuple[Rule, Rule]:
    rules = equation.rules
    push, pull = _at_once(partial(_push, equation, solver)), _at_once(partial(_pull, equation, solver))

    def static(perturbed: Flags, params: Mapping[str, Any]) -> _Static:
        return _Static(rules.signature.key(rules.name, params), params, perturbed.tree, tuple(perturbed.leaves))

    def jvp(primals: Any, tangents: Any, perturbed: Flags, params: Mapping[str, Any]) -> Any:
        out = rules.apply(primals, params)
        y, kept = _parted(rules, out)
        tree, mask = _unknowns(y)
        dots = select(_trees.flatten_like(perturbed.tree, tangents), perturbed.leaves)
        found = push(static(perturbed, params), y, kept, primals, dots)
        y_dot = _trees.stand_in(tree, expand(found, mask, lambda _: None))
        return out, (y_dot, *(None for _ in kept)) if rules.kept else y_dot

    def vjp(primals: Any, perturbed: Flags, params: Mapping[str, Any]) -> Any:
        out = rules.apply(primals, params)

        def pullback(out_bar: Any) -> Any:
            y, kept = _parted(rules, out)
            tree, mask = _unknowns(y)
            cts = select(_trees.flatten_like(tree, out_bar[0] if rules.kept else out_bar), mask)
            if all(map(is_zero, cts)):
                return None
            found = pull(static(perturbed, params), y, kept, primals, [jax.numpy.asarray(ct) for ct in cts])
            return _trees.stand_in(perturbed.tree, expand(found, perturbed.leaves, lambda _: None))

        return out, pullback

    form = replace(equation.form, said=f"{equation.form.said}; {solver.said}")
    solves = Implicit(equation, solver)
    return (
        Rule("jvp", equation.author, jvp, form=form, solves=solves),
        Rule("vjp", equation.author, vjp, form=form, solves=solves),
    )


def _parted(rules: RuleSet, out: Any) -> tuple[Any, tuple[Any, ...]]:
    """The solution, and what the implementation kept for the solver."""
    return rules.without_kept(out), tuple(out[1:]) if rules.kept else ()


def _unknowns(y: Any) -> tuple[Any, list[bool]]:
    """The tree of a solution, and which of its leaves are unknowns."""
    leaves, tree = jax.tree.flatten(y)
    return tree, [is_unknown(leaf) for leaf in leaves]


def _push(
    equation: Equation, solver: Solver, static: _Static, y: Any, kept: Any, primals: Any, dots: Sequence[Any]
) -> Sequence[Any]:
    """y_dot = -F_y^-1 F_x x_dot."""
    at = equation.at(y, kept, static.params)
    moving, put = _moving(primals, static)
    _, f_dot = jax.jvp(lambda values: at.residual(at.unknowns, put(values)), (moving,), (list(dots),))
    return at.solve(solver, primals, [-x for x in f_dot], transpose=False)


def _pull(
    equation: Equation, solver: Solver, static: _Static, y: Any, kept: Any, primals: Any, cts: Sequence[Any]
) -> Sequence[Any]:
    """x_bar = -F_x^T u, where F_y^T u = y_bar."""
    at = equation.at(y, kept, static.params)
    moving, put = _moving(primals, static)
    u = at.solve(solver, primals, at.as_unknowns(cts), transpose=True)
    _, pull = jax.vjp(lambda values: at.residual(at.unknowns, put(values)), moving)
    return pull([-x for x in u])[0]


def _moving(primals: Any, static: _Static) -> tuple[list[Any], Callable[[Sequence[Any]], Any]]:
    """The perturbed leaves of the operands, and the function that puts other values in their places."""
    leaves = jax.tree.leaves(primals)
    put = lambda values: static.tree.unflatten(expand(values, static.perturbed, leaves.__getitem__))
    return select(leaves, static.perturbed), put


def _at_once(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A function of a `_Static` and values, compiled where it would run eagerly: its equation is traced in any case."""
    compiled = jax.jit(fn, static_argnums=0)

    def run(static: _Static, *values: Any) -> Any:
        is_eager = _jax.is_eager() and _jax.is_concrete(jax.tree.leaves(values))
        return (compiled if is_eager else fn)(static, *values)

    return run


# ------------------------------------------------------------------------------------------------------ what was given
_WRITE = "@{0}.def_implicit  # def residual(y, *operands): return what is zero at the solution y"


def _equation_of(rules: RuleSet, given: Mapping[Form, Any]) -> tuple[Form, Callable[..., Any]]:
    found = [(form, author) for form, author in given.items() if author is not None]
    if len(found) > 1:
        raise BadCall(
            message(
                f"{rules.name}: def_implicit takes one equation.",
                got=" and ".join(f"a {form.phrase}" for form, _ in found),
                expected="a residual, fixed_point=, or minimum=",
                rule=found[0][1],
                write=_WRITE.format(rules.name),
            )
        )
    form, author = found[0]
    if not callable(author):
        raise BadCall(
            message(
                f"{rules.name}: def_implicit needs a function.",
                got=_trees.describe(author),
                expected="a function of the solution y, the operands, and the static params",
                defined=rules.made,
                write=_WRITE.format(rules.name),
            )
        )
    return form, author


def _solver_of(equation: Equation, options: SolverOptions) -> Solver:
    rules, is_hessian = equation.rules, equation.form == MINIMUM
    if isinstance(options.solve, str):
        return ByWord(options.solve, options.tol)
    symmetric = options.symmetric or (is_hessian and options.transpose_solve is None)
    if is_lineax(options.solve):
        return ByLineax(options.solve, symmetric, is_hessian)
    return ByFunction(
        options.solve,
        options.transpose_solve,
        symmetric,
        is_hessian,
        options.keep,
        call=partial(call_author, rules, replace(SOLVE, leading=(*SOLVE.leading, *options.keep))),
        missing=lambda: _no_transpose(equation, options),
        refuse_complex=lambda system: _refuse_complex(equation, system),
    )


_KINDS = ("a word", "a function", "a solver of lineax")


def _kind(solve: Any) -> str:
    """What kind of solver a value is; empty if it is none."""
    if isinstance(solve, str):
        return _KINDS[0]
    if is_lineax(solve):
        return _KINDS[2]
    return _KINDS[1] if callable(solve) and not isinstance(solve, type) else ""


def _refuse_options(equation: Equation, options: SolverOptions) -> None:
    """Refuse a solver that is none, and options that do not go with it."""
    solve, kind = options.solve, _kind(options.solve)
    words = " | ".join(map(repr, WORDS))
    if not kind:
        what = "solve= takes a word, a function, or a solver of lineax."
        raise _bad(equation, what, _trees.describe(solve), f"{words}, solve(matvec, b), or lineax.GMRES(1e-8, 1e-8)")
    if kind == "a word" and solve not in WORDS:
        close = difflib.get_close_matches(solve, WORDS, 1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise _bad(
            equation, f"unknown solver '{solve}'.{hint}", f"solve='{solve}'", words, solve=repr((*close, "dense")[0])
        )
    code = repr(solve) if kind == "a word" else "solve" if kind == "a function" else "solver"
    for name, given, allowed in (
        ("transpose_solve", options.transpose_solve is not None, "a function"),
        ("symmetric", options.symmetric, "a function or a solver of lineax"),
        ("tol", options.tol is not None, " | ".join(map(repr, KRYLOV))),
        ("keep", bool(options.keep), "a function"),
    ):
        if given and kind not in allowed and (kind != "a word" or repr(solve) not in allowed):
            what = f"{name}= does not go with solve={code}."
            raise _bad(equation, what, f"{name}= and {kind}", f"{name}= with {allowed}", solve=code)
    if options.symmetric and options.transpose_solve is not None:
        what = "a symmetric system has no other transposed system."
        raise _bad(equation, what, "symmetric=True and transpose_solve=", "one of them", solve=code, symmetric="True")
    if options.transpose_solve is not None and not callable(options.transpose_solve):
        what = "transpose_solve= takes a function."
        line = {"solve": code, "transpose_solve": "transpose_solve"}
        raise _bad(equation, what, _trees.describe(options.transpose_solve), "transpose_solve(vecmat, b)", **line)


def _bad(equation: Equation, what: str, got: str, expected: str, **line: str) -> BadCall:
    line = line or {"solve": "'dense'"}
    return BadCall(
        message(
            f"{equation.rules.name}: {what}",
            got=got,
            expected=expected,
            rule=equation.author,
            write=equation.line(**line),
        )
    )


def _no_transpose(equation: Equation, options: SolverOptions) -> RuleMissing:
    return RuleMissing(
        message(
            f"{equation.rules.name}: reverse-mode differentiation (vjp, grad) needs the transposed linear solve.",
            got=f"solve={named(options.solve)}",
            expected="transpose_solve=, a function of vecmat and b that solves vecmat(u) = b; or symmetric=True",
            why="x_bar = -F_x^T u, where F_y^T u = y_bar",
            rule=equation.author,
            write=equation.line(solve="solve", transpose_solve="transpose_solve"),
        )
    )


def _refuse_complex(equation: Equation, system: System) -> None:
    dtype = next(x.dtype.name for x in system.like if jax.numpy.issubdtype(x.dtype, jax.numpy.complexfloating))
    raise BadCall(
        message(
            f"{equation.rules.name}: symmetric=True does not say which system is meant, as the solution is complex.",
            got=f"symmetric=True, {dtype}",
            expected="transpose_solve=",
            why="the transpose of a symmetric matrix is itself, and that of a Hermitian one is its conjugate",
            rule=equation.author,
            write=equation.line(solve="solve", transpose_solve="transpose_solve"),
        )
    )
