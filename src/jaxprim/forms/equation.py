"""An equation whose solution an operation computes, and its derivatives at a solution.

A fixed point y = g(y, x) has the residual F = g - y. A minimum of a real f(y, x) has F = f_y, and F_y is its Hessian. For
complex y, that is the gradient in the real and imaginary parts, the conjugate of what `jax.grad` returns, so that the
Hessian is symmetric in real numbers.

Results without tangents, such as a count of iterations, are no unknowns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxprim import _jax, _trees
from jaxprim._avals import short, short_value
from jaxprim._errors import RuleWrong, message
from jaxprim._masks import expand, select
from jaxprim._returned import fits, fix_line
from jaxprim._rule_kinds import FIXED_POINT, MINIMUM, RESIDUAL, SOLVE, Form
from jaxprim._rules import AuthorFn, RuleSet, call_author
from jaxprim._trees import TreeMismatch
from jaxprim.forms.linear_solvers import MOST_DENSE, ByWord, Solver, System

# Each form: the argument of `def_implicit` that takes it, what its value is called in a line to write, and why that has
# the structure of y.
FORMS = {
    RESIDUAL: ("residual", "residual", "one equation for each unknown: residual(y, ...) = 0"),
    FIXED_POINT: ("fixed_point=step", "y", "it returns the next y, which at the solution is y itself"),
    MINIMUM: ("minimum=objective", "value", "y is where a real number is least"),
}


@dataclass(frozen=True)
class Equation:
    """An equation F(y, x) = 0, as its author wrote it.

    Attributes:
        rules: the operation that solves it.
        form: a residual, the function of a fixed point, or the objective of a minimum.
        author: the author's function of y, the operands and the static params.
    """

    rules: RuleSet
    form: Form
    author: AuthorFn

    def line(self, **options: str) -> str:
        """The line that defines it, with these options."""
        given = [FORMS[self.form][0], *(f"{name}={code}" for name, code in options.items())]
        return f"{self.rules.name}.def_implicit({', '.join(given)})"

    def wrong(self, what: str, **facts: Any) -> RuleWrong:
        return RuleWrong(message(f"{self.rules.name}: the {self.form.phrase} {what}", rule=self.author, **facts))

    def at(self, y: Any, kept: Sequence[Any], params: Mapping[str, Any]) -> At:
        """The equation at a solution."""
        leaves, tree = jax.tree.flatten(y)
        mask = list(map(is_unknown, leaves))
        unknowns = [jax.lax.convert_element_type(leaf, leaf.dtype) for leaf in select(leaves, mask)]  # not weak
        return At(self, tree, leaves, mask, unknowns, kept, params)


def is_unknown(leaf: Any) -> bool:
    """Whether a leaf of a solution is an unknown of the equation."""
    return _jax.has_tangent(_jax.typeof(leaf))


@dataclass(frozen=True)
class At:
    """An equation at a solution y. Vectors are lists of arrays, one for each unknown.

    Attributes:
        equation: the equation.
        tree: the tree of y.
        leaves: the leaves of y.
        is_unknown: which leaves have tangents.
        unknowns: these leaves.
        kept: what the implementation kept for the solver.
        params: the static params.
    """

    equation: Equation
    tree: Any
    leaves: Sequence[Any]
    is_unknown: Sequence[bool]
    unknowns: list[Any]
    kept: Sequence[Any]
    params: Mapping[str, Any]

    def residual(self, unknowns: Sequence[Any], primals: Any) -> list[Any]:
        """F(y, x)."""
        if self.equation.form == MINIMUM:
            gradient = jax.grad(lambda values: self._objective(values, primals))(list(unknowns))
            return [jnp.conj(g) for g in gradient]
        value = self._read(self._call(unknowns, primals))
        if self.equation.form == FIXED_POINT:
            return [new - old for new, old in zip(value, unknowns, strict=True)]
        return value

    def _call(self, unknowns: Sequence[Any], primals: Any) -> Any:
        y = self.tree.unflatten(expand(unknowns, self.is_unknown, self.leaves.__getitem__))
        equation = self.equation
        return call_author(equation.rules, equation.form, equation.author, y, *primals, **self.params)

    def _objective(self, unknowns: Sequence[Any], primals: Any) -> Any:
        value = self._call(unknowns, primals)
        try:
            aval = _jax.typeof(value)
        except TypeError:
            aval = None
        if aval is None or aval.shape or not jnp.issubdtype(aval.dtype, jnp.floating):
            is_complex = aval is not None and jnp.issubdtype(aval.dtype, jnp.complexfloating)
            raise self.equation.wrong(
                "must return one real number.",
                got=_trees.describe(value),
                expected="a floating-point number of shape ()",
                why=FORMS[MINIMUM][2],
                write="return value.real" if is_complex else "return jnp.sum(value)",
            )
        return value

    def _read(self, value: Any) -> list[Any]:
        """The author's value for each unknown, in its type."""
        _, variable, why = FORMS[self.equation.form]
        names = _trees.leaf_names(self.tree)
        variables = _trees.identifiers([variable + name for name in names])
        line = _trees.returned(self.tree, variables)
        try:
            leaves = _trees.flatten_like(self.tree, value)
        except TreeMismatch as mismatch:
            what = "returned another structure than that of the solution y."
            raise self.equation.wrong(
                what, got=mismatch.got_where, expected=mismatch.expected, why=why, write=line
            ) from None
        for i in (i for i, counts in enumerate(self.is_unknown) if counts):
            leaf, aval = leaves[i], _jax.typeof(self.leaves[i])
            if leaf is None or not fits(leaf, aval):
                fix = fix_line(variables[i], leaf, aval, [(f"y{names[i]}", aval)])
                raise self.equation.wrong(
                    f"returned another type than that of y{names[i]}.",
                    got=short_value(leaf),
                    expected=short(aval),
                    why=why,
                    write=line if leaf is None else fix,
                )
        return self.as_unknowns(select(leaves, self.is_unknown))

    def as_unknowns(self, values: Sequence[Any]) -> list[Any]:
        """Values in exactly the types of the unknowns."""
        return [jnp.asarray(x, like.dtype) for x, like in zip(values, self.unknowns, strict=True)]

    # ------------------------------------------------------------------------------------------------ its derivatives
    def solve(self, solver: Solver, primals: Any, b: Sequence[Any], *, transpose: bool) -> Sequence[Any]:
        """F_y^-1 b, or F_y^-T b."""
        system = self.system(primals)
        if isinstance(solver, ByWord) and solver.word == "dense" and system.size > MOST_DENSE:
            raise _too_large(self.equation, system)
        return solver.solve(system, b, transpose=transpose)

    def system(self, primals: Any) -> System:
        """The linear system of F_y."""
        _, matvec = jax.linearize(lambda y: self.residual(y, primals), self.unknowns)
        return System(lambda v: matvec(list(v)), self.unknowns, self._build, self._read_vector, self.kept)

    def _build(self, vector: Sequence[Any]) -> Any:
        """A vector in the tree of y; a leaf that is no unknown is None."""
        return self.tree.unflatten(expand(vector, self.is_unknown, lambda _: None))

    def _read_vector(self, value: Any, author: AuthorFn) -> list[Any]:
        """A vector that an author's solver returned, or that it multiplies by the matrix."""
        try:
            leaves = select(_trees.flatten_like(self.tree, value), self.is_unknown)
        except TreeMismatch as mismatch:
            raise self._wrong_vector(author, "structure", mismatch.got_where, mismatch.expected) from None
        for leaf, like in zip(leaves, self.unknowns, strict=True):
            if leaf is None or not fits(leaf, _jax.typeof(like)):
                raise self._wrong_vector(author, "type", short_value(leaf), short(_jax.typeof(like)))
        return self.as_unknowns(leaves)

    def _wrong_vector(self, author: AuthorFn, what: str, got: str, expected: str) -> RuleWrong:
        return RuleWrong(
            message(
                f"{self.equation.rules.name}: the {SOLVE.phrase} uses a vector of another {what} than that of y.",
                got=got,
                expected=expected,
                why=SOLVE.why,
                rule=author,
                write="return x  # matvec(x) = b",
            )
        )


def _too_large(equation: Equation, system: System) -> RuleWrong:
    return RuleWrong(
        message(
            f"{equation.rules.name}: solve='dense' makes a matrix, and this one is too large.",
            got=f"{system.size:,} unknowns",
            expected=f"at most {MOST_DENSE:,}, or a solver without a matrix: 'diagonal' (an elementwise equation), "
            "'cg' (symmetric, positive definite), 'gmres', 'bicgstab', 'normal_cg', a function, or one of lineax",
            why="it takes one product with F_y for each unknown, and the memory of their square",
            rule=equation.author,
            write=equation.line(solve="'gmres'"),
        )
    )
