"""The linear systems of implicit differentiation, and who solves them: a word, a function, or a solver of lineax.

A system is A v = b, with A the Jacobian F_y of an equation in its unknowns. Vectors are lists of arrays, one for each
unknown. Where unknowns are complex, A may be linear over the real numbers only, as that of F = conj(y) is:

- the words solve it as a real system of twice the size, and ``"diagonal"`` as one of 2 x 2 for each element;
- functions and lineax get complex vectors, and take A to be complex-linear: F to be holomorphic.

The transposed system is JAX's, without conjugation. In the real numbers (a, b) of a + ib, a cotangent a + ib stands for
the functional v -> Re((a + ib) v), whose numbers are (a, -b). So the real system takes conjugates of cotangents.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxprim._avals import equalize_varying
from jaxprim._origin import named

Vector = Sequence[Any]  # one array for each unknown
Map = Callable[[Vector], Vector]

WORDS = ("dense", "diagonal", "cg", "gmres", "bicgstab", "normal_cg")
KRYLOV = WORDS[2:]
MOST_DENSE = 2000  # a matrix of 2,000 x 2,000 is 16 MB in float32, and its LU decomposition takes a fifth of a second


@dataclass(frozen=True)
class System:
    """A linear system: v -> A v at one point.

    Attributes:
        matvec: v -> A v.
        like: an array of the type of each unknown.
        build: makes a vector a pytree, as the author's functions take it.
        read: reads such a pytree, as an author's function returned it.
        kept: what the implementation kept for the solver.
    """

    matvec: Map
    like: Vector
    build: Callable[[Vector], Any]
    read: Callable[[Any, Callable[..., Any]], Vector]
    kept: Sequence[Any] = ()

    @property
    def size(self) -> int:
        """The number of real unknowns."""
        return sum(math.prod(x.shape) * (2 if _is_complex(x) else 1) for x in self.like)

    @property
    def is_complex(self) -> bool:
        return any(map(_is_complex, self.like))

    @property
    def vecmat(self) -> Map:
        """u -> A^T u."""
        return transposed(self.matvec, self.like)

    @property
    def real(self) -> tuple[Map, Vector]:
        """v -> A v in real and imaginary parts, and an array of the type of each of these."""
        like = self.like
        return lambda v: _apart(self.matvec(_together(v, like)), like), _apart(like, like)

    def matrix(self) -> Any:
        """A in real and imaginary parts."""
        matvec, like = self.real
        return _columns(matvec, like, _dtype_of_all(like)).T

    def in_trees(self, fn: Map, author: Callable[..., Any]) -> Callable[[Any], Any]:
        """A linear map as an author's function calls it."""
        return lambda v: self.build(fn(self.read(v, author)))


class Solver(Protocol):
    """Who solves a `System`."""

    @property
    def said(self) -> str:
        """How ``explain`` says it."""
        ...

    @property
    def symmetric(self) -> bool:
        """Whether it takes the matrix to be symmetric in real numbers."""
        ...

    def solve(self, system: System, b: Vector, *, transpose: bool) -> Vector:
        """The solution of A v = b, or of A^T v = b."""
        ...


def transposed(fn: Map, like: Vector) -> Map:
    """The transpose of a linear map of a vector space to itself."""
    return lambda u: jax.linear_transpose(fn, list(like))(list(u))[0]


def _solve_in_jax(
    matvec: Map,
    b: Vector,
    solve: Callable[[Map, Vector], Vector],
    transpose_solve: Callable[[Map, Vector], Vector] | None = None,
    symmetric: bool = False,
) -> Vector:
    """JAX's `custom_linear_solve`, which knows the derivatives of A^-1 b.

    Of several arrays it transposes all or none, and a derivative may move some of them. So they become one.
    """
    if len(b) == 1:
        return jax.lax.custom_linear_solve(matvec, list(b), solve, transpose_solve, symmetric=symmetric)
    dtype = _dtype_of_all(b)
    if any(map(_is_complex, b)):
        dtype = jnp.dtype(f"complex{2 * jnp.finfo(dtype).bits}")
    join: Callable[[Vector], Any] = lambda v: _joined(equalize_varying(list(v)), dtype)
    cut: Callable[[Any], Vector] = lambda flat: _cut(flat, b)

    def in_one(given: Callable[[Map, Vector], Vector]) -> Callable[[Any, Any], Any]:
        return lambda flat_matvec, flat: join(given(lambda v: cut(flat_matvec(join(v))), cut(flat)))

    backward = None if transpose_solve is None else in_one(transpose_solve)
    flat_matvec = lambda flat: join(matvec(cut(flat)))
    return cut(jax.lax.custom_linear_solve(flat_matvec, join(b), in_one(solve), backward, symmetric=symmetric))


def _is_complex(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.complexfloating)


# ------------------------------------------------------------------------------------------------------------- words
@dataclass(frozen=True)
class ByWord:
    """A solver that is built in.

    Attributes:
        word: one of `WORDS`.
        tol: for a Krylov method, the norm of the residual relative to that of the right-hand side; None for four
            units of rounding. JAX's own default is 1e-5, which leaves five digits of a derivative.
    """

    word: str
    tol: float | None = None

    @property
    def said(self) -> str:
        return f"solve='{self.word}'" + (f", tol={self.tol}" if self.tol is not None else "")

    @property
    def symmetric(self) -> bool:
        return self.word == "cg"

    def solve(self, system: System, b: Vector, *, transpose: bool) -> Vector:
        if system.size == 0:
            return b
        if self.word == "diagonal":
            return _diagonal(system, b, transpose)
        if transpose:
            b = [jnp.conj(x) for x in b]
        matvec, like = system.real
        solve = _dense if self.word == "dense" else self._krylov
        found = _together(solve(matvec, _apart(b, system.like), like, transpose), system.like)
        return [jnp.conj(x) for x in found] if transpose else found

    def _krylov(self, matvec: Map, b: Vector, like: Vector, transpose: bool) -> Vector:
        if self.word == "cg":  # A is symmetric
            return _solve_in_jax(matvec, b, self._iterate, symmetric=True)
        wanted = transposed(matvec, like) if transpose else matvec
        return _solve_in_jax(wanted, b, self._iterate, self._iterate)

    def _iterate(self, matvec: Map, b: Vector) -> Vector:
        """One of JAX's own methods, which nothing differentiates or transposes: `custom_linear_solve` is around it."""
        sparse = jax.scipy.sparse.linalg
        tol = 4 * max(float(jnp.finfo(x.dtype).eps) for x in b) if self.tol is None else self.tol
        if self.word == "cg":
            return sparse.cg(matvec, b, tol=tol)[0]
        if self.word == "bicgstab":
            return sparse.bicgstab(matvec, b, tol=tol)[0]
        if self.word == "normal_cg":  # A^T A v = A^T b
            vecmat = transposed(matvec, b)
            return sparse.cg(lambda v: vecmat(matvec(v)), vecmat(b), tol=tol)[0]
        size = sum(x.size for x in b)
        restart = min(size, 50)
        # At most as many products as the other methods; JAX would restart 10 n times, and rounding may forbid to meet
        # the tolerance.
        most = -(-10 * size // restart)
        return sparse.gmres(matvec, b, tol=tol, restart=restart, maxiter=most, solve_method="incremental")[0]


def _apart(values: Vector, like: Vector) -> list[Any]:
    """The real and imaginary parts of a vector."""
    return [part for x, t in zip(values, like, strict=True) for part in ((x.real, x.imag) if _is_complex(t) else (x,))]


def _together(parts: Vector, like: Vector) -> list[Any]:
    """The vector of these real and imaginary parts."""
    given = iter(parts)
    return [jax.lax.complex(next(given), next(given)) if _is_complex(t) else next(given) for t in like]


def _dense(matvec: Map, b: Vector, like: Vector, transpose: bool) -> Vector:
    dtype = _dtype_of_all(b)
    columns, right = equalize_varying([_columns(matvec, b, dtype), _joined(b, dtype)])
    return _cut(jnp.linalg.solve(columns if transpose else columns.T, right), b)


def _columns(matvec: Map, like: Vector, dtype: Any) -> Any:
    """The matrix, column by column: A e_i for each unit vector e_i. The value of F is computed once for all."""
    units, *_ = equalize_varying([jnp.eye(sum(x.size for x in like), dtype=dtype), *like])
    return jax.vmap(lambda unit: _joined(matvec(_cut(unit, like)), dtype))(units)


def _dtype_of_all(values: Vector) -> Any:
    """The dtype of a matrix: the widest of the vector's, and none of half precision, which LAPACK has not."""
    dtype = max((jnp.dtype(x.dtype) for x in values), key=lambda d: jnp.finfo(d).bits)
    return dtype if jnp.finfo(dtype).bits >= 32 else jnp.dtype("float32")


def _joined(values: Vector, dtype: Any) -> Any:
    """One array of all elements."""
    return jnp.concatenate([x.astype(dtype).ravel() for x in values])


def _cut(flat: Any, like: Vector) -> list[Any]:
    """The vector of these elements."""
    ends = itertools.accumulate(x.size for x in like)
    parts = [flat[end - x.size : end].reshape(x.shape) for x, end in zip(like, ends, strict=True)]
    return [(p if _is_complex(x) else p.real).astype(x.dtype) for p, x in zip(parts, like, strict=True)]


def _diagonal(system: System, b: Vector, transpose: bool) -> Vector:
    """By one product with ones, or by two for complex unknowns: A v = p v + q conj(v), element by element.

    From A 1 = p + q and A i = i (p - q):  p = (A 1 - i A i) / 2,  q = (A 1 + i A i) / 2.
    From p v + q conj(v) = b and its conjugate:  v = (conj(p) b - q conj(b)) / (|p|^2 - |q|^2).
    The transpose of v -> q conj(v) is u -> conj(q) conj(u).
    """
    ones = [jnp.ones_like(x) for x in system.like]
    by_one = system.matvec(ones)
    if not system.is_complex:
        return [x / d for x, d in zip(b, by_one, strict=True)]
    by_i = system.matvec([1j * x if _is_complex(x) else x for x in ones])
    return [
        _complex_quotient(x, d, i, transpose) if _is_complex(x) else x / d
        for x, d, i in zip(b, by_one, by_i, strict=True)
    ]


def _complex_quotient(b: Any, by_one: Any, by_i: Any, transpose: bool) -> Any:
    p, q = (by_one - 1j * by_i) / 2, (by_one + 1j * by_i) / 2
    q = jnp.conj(q) if transpose else q
    size = jax.lax.stop_gradient(jnp.abs(p) + jnp.abs(q)).astype(p.dtype)  # so that no square overflows; it cancels
    p, q = p / size, q / size
    return (jnp.conj(p) * b - q * jnp.conj(b)) / (p * jnp.conj(p) - q * jnp.conj(q)) / size


# --------------------------------------------------------------------------------------------------------- functions
@dataclass(frozen=True)
class ByFunction:
    """A solver of the author's: ``solve(matvec, b, *kept) -> x``.

    JAX does not differentiate it: the derivative of x = A^-1 b is A^-1 (b_dot - A_dot x), which needs products with A.

    Attributes:
        forward: solves A v = b.
        backward: solves A^T v = b; None if it was not given.
        symmetric: whether the author says that A is symmetric.
        is_hessian: whether A is a Hessian, as that of a minimum. It is symmetric in real numbers, so that the transposed
            solution is conj(A^-1 conj(b)).
        keep: the names of what the implementation keeps for the two functions.
        call: calls one of them.
        missing: makes the error for reverse mode without ``backward``.
        refuse_complex: raises if the author's word cannot hold for complex unknowns.
    """

    forward: Callable[..., Any]
    backward: Callable[..., Any] | None
    symmetric: bool
    is_hessian: bool
    keep: tuple[str, ...]
    call: Callable[..., Any]
    missing: Callable[[], Exception]
    refuse_complex: Callable[[System], None]

    @property
    def said(self) -> str:
        given = [f"solve={named(self.forward)}"]
        if self.backward is not None:
            given.append(f"transpose_solve={named(self.backward)}")
        given += ["symmetric=True"] if self.symmetric else []
        return ", ".join([*given, *([f"keeps {', '.join(self.keep)}"] if self.keep else [])])

    def solve(self, system: System, b: Vector, *, transpose: bool) -> Vector:
        if self.symmetric and system.is_complex and not self.is_hessian:
            self.refuse_complex(system)
        if self.symmetric and not system.is_complex:
            return _solve_in_jax(system.matvec, b, self._given(system, self.forward), symmetric=True)
        forward, backward = self._given(system, self.forward), self._backward(system)
        if not transpose:
            return _solve_in_jax(system.matvec, b, forward, backward)
        if backward is None:
            raise self.missing()
        return _solve_in_jax(system.vecmat, b, backward, forward)

    def _given(self, system: System, author: Callable[..., Any]) -> Callable[[Map, Vector], Vector]:
        """An author's function, on vectors."""

        def run(matvec: Map, b: Vector) -> Vector:
            return system.read(
                self.call(author, system.in_trees(matvec, author), system.build(b), *system.kept), author
            )

        return run

    def _backward(self, system: System) -> Callable[[Map, Vector], Vector] | None:
        if self.backward is not None:
            return self._given(system, self.backward)
        if not self.is_hessian:
            return None
        forward = self._given(system, self.forward)
        conj: Map = lambda values: [jnp.conj(x) for x in values]
        return lambda vecmat, b: conj(forward(lambda v: conj(vecmat(conj(v))), conj(b)))


# ------------------------------------------------------------------------------------------------------------ lineax
# What a matrix must be for a solver of lineax. Who chooses the solver says that it is.
_TAGS = {
    "CG": "positive_semidefinite_tag",
    "Cholesky": "positive_semidefinite_tag",
    "Diagonal": "diagonal_tag",
    "Tridiagonal": "tridiagonal_tag",
}


def is_lineax(solver: Any) -> bool:
    """Whether a value is a solver of lineax, or of a subclass of one."""
    return hasattr(solver, "init") and hasattr(solver, "compute") and _lineax_of(solver) is not None


def _lineax_of(solver: Any) -> Any:
    """The module lineax, which whoever made the solver has imported."""
    roots = {base.__module__.partition(".")[0] for base in type(solver).__mro__}
    return sys.modules.get("lineax") if "lineax" in roots else None


@dataclass(frozen=True)
class ByLineax:
    """A solver of lineax.

    Attributes:
        solver: the solver.
        symmetric: whether the matrix is symmetric.
        is_hessian: whether it is a Hessian at a minimum, which is positive semidefinite.
    """

    solver: Any
    symmetric: bool
    is_hessian: bool

    @property
    def said(self) -> str:
        return f"solve=lineax.{type(self.solver).__name__}" + (", symmetric=True" if self.symmetric else "")

    def solve(self, system: System, b: Vector, *, transpose: bool) -> Vector:
        lineax = _lineax_of(self.solver)
        matvec = system.vecmat if transpose else system.matvec
        like = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in b]
        operator = lineax.FunctionLinearOperator(lambda v: list(matvec(v)), like, self._tags(lineax, system))
        return lineax.linear_solve(operator, list(b), self.solver).value

    def _tags(self, lineax: Any, system: System) -> frozenset[object]:
        tags = {getattr(lineax, tag) for name, tag in _TAGS.items() if type(self.solver).__name__ == name}
        if not system.is_complex:  # a tag means that the matrix is Hermitian
            tags |= {lineax.symmetric_tag} if self.symmetric else set()
            tags |= {lineax.positive_semidefinite_tag} if self.is_hessian else set()
        return frozenset(tags)
