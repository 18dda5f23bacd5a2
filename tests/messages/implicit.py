"""Equations and linear solvers of `def_implicit` that do not fit."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxprim import BadCall, Primitive, RuleMissing, RuleWrong
from messages.case import case


def root_of(name="root"):
    """y with y * y = a."""
    root = Primitive(name)

    @root.def_impl
    def impl(a):
        return jnp.sqrt(a)

    return root


def residual(y, a):
    return y * y - a


def right(root):
    """The gradient of the sum of sqrt(4 x^2), and its value."""
    return rounded(jax.grad(lambda x: jnp.sum(root(4 * x * x)))), [2, 2, 2]


def rounded(fn):
    """What a linear solver computes, without its last digits."""
    return lambda x: jnp.round(fn(x), 1)


def gradient(op):
    return jax.grad(lambda x: jnp.sum(op(x)))


def solve(matvec, b):
    return b / matvec(jnp.ones_like(b))


# ------------------------------------------------------------------------------------------------------- the equation
@case(
    RuleWrong,
    """
    root: the residual returned another structure than that of the solution y.
      got:      a tuple of 1
      expected: one array
      why:      one equation for each unknown: residual(y, ...) = 0
      rule:     pair at FILE:LINE
      write:    return residual
    """,
)
def residual_of_another_structure():
    root = root_of()

    @root.def_implicit(solve="diagonal")
    def pair(y, a):
        return (y * y - a,)

    yield gradient(root)

    @root.def_implicit(solve="diagonal")
    def corrected(y, a):
        residual = y * y - a
        return residual

    yield right(root)


@case(
    RuleWrong,
    """
    halves: the residual returned another type than that of y['tail'].
      got:      None
      expected: float32[3]
      why:      one equation for each unknown: residual(y, ...) = 0
      rule:     first_alone at FILE:LINE
      write:    return {'head': residual_head, 'tail': residual_tail}
    """,
)
def residual_without_an_equation():
    halves = Primitive("halves")

    @halves.def_impl
    def impl(a):
        return {"head": a / 2, "tail": a / 4}

    @halves.def_implicit
    def first_alone(y, a):
        return {"head": 2 * y["head"] - a, "tail": None}

    yield gradient(lambda a: halves(a)["tail"])

    @halves.def_implicit
    def corrected(y, a):
        residual_head, residual_tail = 2 * y["head"] - a, 4 * y["tail"] - a
        return {"head": residual_head, "tail": residual_tail}

    yield rounded(gradient(lambda a: halves(4 * a)["tail"])), [1, 1, 1]


@case(
    RuleWrong,
    """
    root: the residual returned another type than that of y.
      got:      float32[]
      expected: float32[3]
      why:      one equation for each unknown: residual(y, ...) = 0
      rule:     summed at FILE:LINE
      write:    residual = jnp.broadcast_to(residual, y.shape)
    """,
)
def residual_of_another_shape():
    root = root_of()

    @root.def_implicit(solve="diagonal")
    def summed(y, a):
        return jnp.sum(y * y - a)

    yield gradient(root)

    @root.def_implicit(solve="diagonal")
    def corrected(y, a):
        residual = y * y - a
        residual = jnp.broadcast_to(residual, y.shape)
        return residual

    yield right(root)


@case(
    RuleWrong,
    """
    root: the fixed-point function returned another type than that of y.
      got:      bfloat16[3]
      expected: float32[3]
      why:      it returns the next y, which at the solution is y itself
      rule:     coarse at FILE:LINE
      write:    y = y.astype(y.dtype)
    """,
)
def fixed_point_of_another_dtype():
    root = root_of()

    def coarse(y, a):
        return ((y + a / y) / 2).astype("bfloat16")

    root.def_implicit(fixed_point=coarse, solve="diagonal")
    yield gradient(root)

    def corrected(x, a):
        y = x / 2 + a / x / 2
        y = y.astype(y.dtype)
        return y

    root.def_implicit(fixed_point=corrected, solve="diagonal")
    yield right(root)


@case(
    RuleWrong,
    """
    root: the residual does not accept the arguments it is called with.
      got:      of_y_alone(y)
      expected: (y, a)
      rule:     of_y_alone at FILE:LINE
      write:    def of_y_alone(y, a):
    """,
)
def residual_without_the_operands():
    root = root_of()

    @root.def_implicit(solve="diagonal")
    def of_y_alone(y):
        return y * y

    yield gradient(root)

    def of_y_alone(y, a):
        return y * y - a

    root.def_implicit(of_y_alone, solve="diagonal")
    yield right(root)


@case(
    RuleWrong,
    """
    least: the objective must return one real number.
      got:      one array, float32[3]
      expected: a floating-point number of shape ()
      why:      y is where a real number is least
      rule:     of_each at FILE:LINE
      write:    return jnp.sum(value)
    """,
)
def objective_of_a_shape():
    least = Primitive("least")

    @least.def_impl
    def impl(a):
        return a / 2

    def of_each(y, a):
        return y * y - a * y

    least.def_implicit(minimum=of_each)
    yield gradient(least)

    def corrected(y, a):
        value = y * y - a * y
        return jnp.sum(value)

    least.def_implicit(minimum=corrected)
    yield rounded(gradient(lambda a: least(4 * a))), [2, 2, 2]


@case(
    BadCall,
    """
    root: def_implicit takes one equation.
      got:      a residual and a fixed-point function
      expected: a residual, fixed_point=, or minimum=
      rule:     residual at FILE:LINE
      write:    @root.def_implicit  # def residual(y, *operands): return what is zero at the solution y
    """,
)
def two_equations():
    root = root_of()
    yield lambda x: root.def_implicit(residual, fixed_point=residual)

    @root.def_implicit
    def corrected(y, a):
        return y * y - a

    yield right(root)


@case(
    BadCall,
    """
    root: def_implicit needs a function.
      got:      an int
      expected: a function of the solution y, the operands, and the static params
      defined:  FILE:LINE
      write:    @root.def_implicit  # def residual(y, *operands): return what is zero at the solution y
    """,
)
def equation_that_is_no_function():
    root = root_of()
    yield lambda x: root.def_implicit(0)

    @root.def_implicit
    def corrected(y, a):
        return y * y - a

    yield right(root)


# --------------------------------------------------------------------------------------------------------- the solver
@case(
    BadCall,
    """
    root: unknown solver 'diag'. Did you mean 'diagonal'?
      got:      solve='diag'
      expected: 'dense' | 'diagonal' | 'cg' | 'gmres' | 'bicgstab' | 'normal_cg'
      rule:     residual at FILE:LINE
      write:    root.def_implicit(residual, solve='diagonal')
    """,
)
def unknown_solver():
    root = root_of()
    yield lambda x: root.def_implicit(residual, solve="diag")
    root.def_implicit(residual, solve="diagonal")
    yield right(root)


@case(
    BadCall,
    """
    root: solve= takes a word, a function, or a solver of lineax.
      got:      a float
      expected: 'dense' | 'diagonal' | 'cg' | 'gmres' | 'bicgstab' | 'normal_cg', solve(matvec, b), or lineax.GMRES(1e-8, 1e-8)
      rule:     residual at FILE:LINE
      write:    root.def_implicit(residual, solve='dense')
    """,
)
def solver_that_is_none():
    root = root_of()
    yield lambda x: root.def_implicit(residual, solve=1e-8)
    root.def_implicit(residual, solve="dense")
    yield right(root)


@case(
    BadCall,
    """
    root: transpose_solve= does not go with solve='gmres'.
      got:      transpose_solve= and a word
      expected: transpose_solve= with a function
      rule:     residual at FILE:LINE
      write:    root.def_implicit(residual, solve='gmres')
    """,
)
def transposed_solve_of_a_word():
    root = root_of()
    yield lambda x: root.def_implicit(residual, solve="gmres", transpose_solve=solve)
    root.def_implicit(residual, solve="gmres")
    yield right(root)


@case(
    BadCall,
    """
    root: tol= does not go with solve='dense'.
      got:      tol= and a word
      expected: tol= with 'cg' | 'gmres' | 'bicgstab' | 'normal_cg'
      rule:     residual at FILE:LINE
      write:    root.def_implicit(fixed_point=step, solve='dense')
    """,
)
def tolerance_of_an_exact_solver():
    root = root_of()
    yield lambda x: root.def_implicit(fixed_point=residual, tol=1e-3)

    def step(y, a):
        return y + a - y * y

    root.def_implicit(fixed_point=step, solve="dense")
    yield right(root)


@case(
    BadCall,
    """
    root: a symmetric system has no other transposed system.
      got:      symmetric=True and transpose_solve=
      expected: one of them
      rule:     residual at FILE:LINE
      write:    root.def_implicit(residual, solve=solve, symmetric=True)
    """,
)
def symmetric_and_a_transposed_solve():
    root = root_of()
    yield lambda x: root.def_implicit(residual, solve=solve, symmetric=True, transpose_solve=solve)
    root.def_implicit(residual, solve=solve, symmetric=True)
    yield right(root)


@case(
    BadCall,
    """
    root: transpose_solve= takes a function.
      got:      a bool
      expected: transpose_solve(vecmat, b)
      rule:     residual at FILE:LINE
      write:    root.def_implicit(residual, solve=solve, transpose_solve=transpose_solve)
    """,
)
def transposed_solve_that_is_no_function():
    root, transpose_solve = root_of(), solve
    yield lambda x: root.def_implicit(residual, solve=solve, transpose_solve=True)
    root.def_implicit(residual, solve=solve, transpose_solve=transpose_solve)
    yield right(root)


@case(
    RuleMissing,
    """
    root: reverse-mode differentiation (vjp, grad) needs the transposed linear solve.
      got:      solve=solve at FILE:LINE
      expected: transpose_solve=, a function of vecmat and b that solves vecmat(u) = b; or symmetric=True
      why:      x_bar = -F_x^T u, where F_y^T u = y_bar
      rule:     residual at FILE:LINE
      write:    root.def_implicit(residual, solve=solve, transpose_solve=transpose_solve)
    """,
)
def no_transposed_solve():
    root, transpose_solve = root_of(), solve
    root.def_implicit(residual, solve=solve)
    yield gradient(root)
    root.def_implicit(residual, solve=solve, transpose_solve=transpose_solve)
    yield right(root)


@case(
    RuleWrong,
    """
    root: the solve function uses a vector of another structure than that of y.
      got:      a tuple of 2
      expected: one array
      why:      it solves matvec(x) = b, where b and x have the structure of y
      rule:     with_info at FILE:LINE
      write:    return x  # matvec(x) = b
    """,
)
def solver_that_returns_more():
    root = root_of()

    def with_info(matvec, b):
        return jax.scipy.sparse.linalg.cg(matvec, b)

    root.def_implicit(residual, solve=with_info, symmetric=True)
    yield gradient(root)

    def corrected(matvec, b):
        x, _ = jax.scipy.sparse.linalg.cg(matvec, b)
        return x

    root.def_implicit(residual, solve=corrected, symmetric=True)
    yield right(root)


@case(
    RuleWrong,
    """
    root: the solve function uses a vector of another type than that of y.
      got:      float32[]
      expected: float32[3]
      why:      it solves matvec(x) = b, where b and x have the structure of y
      rule:     norm at FILE:LINE
      write:    return x  # matvec(x) = b
    """,
)
def solver_that_returns_another_shape():
    root = root_of()

    def norm(matvec, b):
        return jnp.sum(b)

    root.def_implicit(residual, solve=norm, symmetric=True)
    yield gradient(root)

    def corrected(matvec, b):
        x = b / matvec(jnp.ones_like(b))
        return x  # matvec(x) = b

    root.def_implicit(residual, solve=corrected, symmetric=True)
    yield right(root)


@case(
    RuleWrong,
    """
    root: the solve function does not accept the arguments it is called with.
      got:      of_b_alone(b)
      expected: (matvec, b)
      why:      it solves matvec(x) = b, where b and x have the structure of y
      rule:     of_b_alone at FILE:LINE
      write:    def of_b_alone(matvec, b):
    """,
)
def solver_without_the_matrix():
    root = root_of()

    def of_b_alone(b):
        return b

    root.def_implicit(residual, solve=of_b_alone, symmetric=True)
    yield gradient(root)

    def of_b_alone(matvec, b):
        return b / matvec(jnp.ones_like(b))

    root.def_implicit(residual, solve=of_b_alone, symmetric=True)
    yield right(root)


@case(
    BadCall,
    """
    root: keep= does not go with solve='dense'.
      got:      keep= and a word
      expected: keep= with a function
      rule:     residual at FILE:LINE
      write:    root.def_implicit(residual, solve='dense')
    """,
)
def kept_for_a_word():
    root = root_of()
    yield lambda x: root.def_implicit(residual, keep="factors")
    root.def_implicit(residual, solve="dense")
    yield right(root)


@case(
    RuleWrong,
    """
    root: keep= names what the implementation returns beside the result, but it does not return it.
      got:      one array, float32[3]
      expected: a tuple (y, slope)
      rule:     impl at FILE:LINE
      write:    return y, slope
    """,
)
def nothing_is_kept():
    root = root_of()
    options = {"solve": lambda matvec, b, slope: b / slope, "symmetric": True}
    root.def_implicit(residual, keep="slope", **options)
    yield root

    @root.def_impl
    def corrected(a):
        y, slope = jnp.sqrt(a), 2 * jnp.sqrt(a)
        return y, slope

    yield right(root)


@case(
    RuleWrong,
    """
    root: the solve function does not accept the arguments it is called with.
      got:      without_kept(matvec, b)
      expected: (matvec, b, slope)
      why:      it solves matvec(x) = b, where b and x have the structure of y
      rule:     without_kept at FILE:LINE
      write:    def without_kept(matvec, b, slope):
    """,
)
def solver_that_does_not_take_what_is_kept():
    root = Primitive("root")
    root.def_impl(lambda a: (jnp.sqrt(a), 2 * jnp.sqrt(a)))

    def without_kept(matvec, b):
        return b

    root.def_implicit(residual, keep="slope", solve=without_kept, symmetric=True)
    yield gradient(root)

    def without_kept(matvec, b, slope):
        return b / slope

    root.def_implicit(residual, keep="slope", solve=without_kept, symmetric=True)
    yield right(root)


@case(
    BadCall,
    """
    root: symmetric=True does not say which system is meant, as the solution is complex.
      got:      symmetric=True, complex64
      expected: transpose_solve=
      why:      the transpose of a symmetric matrix is itself, and that of a Hermitian one is its conjugate
      rule:     residual at FILE:LINE
      write:    root.def_implicit(residual, solve=solve, transpose_solve=transpose_solve)
    """,
)
def symmetric_and_complex():
    root, transpose_solve = root_of(), solve
    root.def_implicit(residual, solve=solve, symmetric=True)
    square = lambda x: jnp.real(jnp.sum(root(jax.lax.complex(x * x, 0 * x))))
    yield jax.grad(square)
    root.def_implicit(residual, solve=solve, transpose_solve=transpose_solve)
    yield rounded(jax.grad(square)), [1, 1, 1]


@case(
    RuleWrong,
    """
    root: solve='dense' makes a matrix, and this one is too large.
      got:      3,000 unknowns
      expected: at most 2,000, or a solver without a matrix: 'diagonal' (an elementwise equation), 'cg' (symmetric, positive definite), 'gmres', 'bicgstab', 'normal_cg', a function, or one of lineax
      why:      it takes one product with F_y for each unknown, and the memory of their square
      rule:     residual at FILE:LINE
      write:    root.def_implicit(residual, solve='gmres')
    """,
)
def too_many_unknowns():
    root = root_of()
    root.def_implicit(residual)
    many = lambda x: jnp.sum(root(jnp.tile(4 * x * x, 1000)))
    yield jax.grad(many)
    root.def_implicit(residual, solve="gmres")
    yield rounded(jax.grad(many)), [2000, 2000, 2000]
