"""Of an operation that `def_implicit` differentiates: is its equation solved, and the linear system of its derivative?

With the residual F and its Jacobian F_y at the result y, a rule solves F_y v = b, or F_y^T u = b. The solutions are put
into these equations. What the solver takes F_y to be is asked first, as that is the cause if they fail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim._errors import RuleMissing
from jaxprim._trees import leaf_names
from jaxprim.checking import probes, tolerances
from jaxprim.checking.answers import Answer, NotAsked, Note, Refusal, attempt_rule
from jaxprim.checking.case import Case
from jaxprim.checking.question import question
from jaxprim.checking.reports.findings import Evidence
from jaxprim.checking.values import wide
from jaxprim.forms.equation import At
from jaxprim.forms.linear_solvers import ByFunction, ByLineax, ByWord, Solver, System

Vector = Sequence[Any]
Map = Callable[[Vector], Vector]
# Up to this many unknowns, the Jacobian is made to see whether it is singular.
MOST_UNKNOWNS = 200


@dataclass(frozen=True)
class Solved:
    """An equation at the operation's own result.

    Attributes:
        case: where it is asked.
        at: the equation there.
        solver: who solves the linear systems of its derivative.
        matvec: v -> F_y v, compiled.
        vecmat: u -> F_y^T u, compiled.
    """

    case: Case
    at: At
    solver: Solver
    matvec: Map
    vecmat: Map

    @staticmethod
    def of(case: Case) -> Solved:
        """The equation of a case; NotAsked if there is none."""
        implicit = case.subject.implicit
        if implicit is None:
            raise NotAsked("no rule is given by def_implicit")
        at = implicit.at(case.point.operands, case.point.params)
        if not at.unknowns:
            raise NotAsked("the result has no unknowns")
        matvec, vecmat = (
            lambda v: at.system(case.point.operands).matvec(v),
            lambda u: at.system(case.point.operands).vecmat(u),
        )
        return Solved(case, at, implicit.solver, jax.jit(matvec), jax.jit(vecmat))

    @property
    def system(self) -> System:
        """The linear system of the Jacobian."""
        return self.at.system(self.case.point.operands)

    @property
    def names(self) -> list[str]:
        """The name of each unknown."""
        masked = zip(leaf_names(self.at.tree), self.at.is_unknown, strict=True)
        return ["result" + name for name, is_unknown in masked if is_unknown]

    def drawn(self, label: str, like: Vector, *, relative: bool = False) -> list[Any]:
        """Random numbers of the types of some arrays, of size 1 or of the size of their elements."""
        rng = self.case.rng("equations", label)
        return [jnp.asarray(probes.unit(rng, wide(x)) * (wide(x) if relative else 1.0), x.dtype) for x in like]

    def evidence(self, against: str, got: Vector, expected: Vector, sizes: Vector) -> Answer:
        """Compare vectors, whose errors are relative to the largest number of some vectors."""
        largest = max((float(np.max(np.abs(wide(x)), initial=0.0)) for x in sizes), default=0.0)
        for name, one, other in zip(self.names, got, expected, strict=True):
            size = np.full(np.shape(one), largest)
            # An iteration does not reach the last digits, unless a better accuracy matters to somebody.
            tolerance = self.case.strictly(size, np.zeros(())) + tolerances.relative(size, self.case.native.eps)
            yield self.case.evidence("implicit", against, name, wide(one), wide(other), tolerance)


@question("Is the equation solved to the operation's accuracy?", group="equations")
def equation(case: Case) -> Answer:
    """Put the result into the equation. The residual is compared with what small changes of y and x make of it."""
    it = Solved.of(case)
    leaves, positions = case.point.leaves, case.point.differentiable

    def residual(y: Vector, moving: Vector) -> Vector:
        given = dict(zip(positions, moving, strict=True))
        return it.at.residual(y, case.point.tree.unflatten([given.get(i, x) for i, x in enumerate(leaves)]))

    y, moving = list(it.at.unknowns), [jnp.asarray(leaves[i]) for i in positions]
    drawn = lambda k: (it.drawn(f"y{k}", y, relative=True), it.drawn(f"x{k}", moving, relative=True))
    changes = jax.jit(jax.vmap(lambda *directions: jax.jvp(residual, (y, moving), directions)))
    found, sizes = changes(*jax.tree.map(lambda *each: jnp.stack(each), *map(drawn, range(3))))
    found = [x[0] for x in found]
    yield from it.evidence("zero: the residual at the result", found, [jnp.zeros_like(x) for x in found], sizes)


@question("Are the linear systems of the derivative solved, and what the solver takes them to be?", group="equations")
def linear_solve(case: Case) -> Answer:
    """Put solutions of F_y v = b and F_y^T u = b into these equations."""
    it = Solved.of(case)
    yield from _singular(it)
    yield from _assumed(it)
    b = it.drawn("b", it.at.unknowns)
    for against, product, transpose in (("F_y v = b", it.matvec, False), ("F_y^T u = b", it.vecmat, True)):
        yield from _solution(it, against, product, b, transpose)


def _solution(it: Solved, against: str, product: Map, b: Vector, transpose: bool) -> Answer:
    def run(b: Vector) -> Any:
        found = it.solver.solve(it.system, b, transpose=transpose)
        return product(found), product([jnp.abs(x).astype(x.dtype) for x in found])

    found = attempt_rule(lambda: jax.jit(run)(b))
    if isinstance(found, Refusal):
        if isinstance(found.error, RuleMissing):
            yield Note("there is no transposed solve, so reverse mode is refused")
        else:
            yield Evidence("implicit", against, message=f"raised {found.why}", seed=it.case.seed, ok=False)
        return
    again, terms = found
    yield from it.evidence(against, again, b, [*b, *again, *terms])


def _assumed(it: Solved) -> Answer:
    """What the solver takes the Jacobian to be."""
    v, solver = it.drawn("v", it.at.unknowns), it.solver
    found = it.matvec(v)
    if isinstance(solver, ByWord) and solver.word == "diagonal":
        back = jax.jit(lambda b: solver.solve(it.system, b, transpose=False))(found)
        against = "v, from F_y v by the diagonal: solve='diagonal' takes each equation to have one unknown"
        yield from it.evidence(against, back, v, [*v, *back])
    if isinstance(solver, ByFunction | ByLineax) and it.system.is_complex:
        turned = it.matvec([1j * x if jnp.iscomplexobj(x) else x for x in v])
        expected = [1j * x if jnp.iscomplexobj(x) else y for x, y in zip(found, turned, strict=True)]
        yield from it.evidence("i F_y v: this solver takes the residual to be holomorphic", turned, expected, found)
    if solver.symmetric:
        conj = lambda values: [jnp.conj(x) for x in values]
        back = conj(it.vecmat(conj(v)))
        yield from it.evidence("F_y v: this solver takes F_y to be symmetric", back, found, [*found, *back])


def _singular(it: Solved) -> Answer:
    """Whether the Jacobian has an inverse, by the condition number when its rows and columns have one size."""
    if it.system.size > MOST_UNKNOWNS:
        return
    matrix = wide(jax.jit(lambda: it.system.matrix())())
    for axis in (1, 0):
        largest = np.max(np.abs(matrix), axis=axis, keepdims=True)
        matrix = matrix / np.where(largest > 0, largest, 1.0)
    finite = bool(np.all(np.isfinite(matrix)))
    values = np.linalg.svd(matrix, compute_uv=False) if finite else np.array([1.0, 0.0])
    if values[-1] > it.case.native.eps * values[0]:
        return
    message = "F_y is singular here, so the derivative is infinite or not a number"
    yield Evidence("implicit", "an inverse of F_y", message=message, seed=it.case.seed, ok=False)
