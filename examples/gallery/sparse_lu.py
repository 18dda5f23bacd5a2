"""`A x = b` for a sparse matrix, with SciPy's SuperLU: one factorization for the value and all of its derivatives.

    A x_dot = b_dot - A_dot x                           (JVP: one more solve with A)
    A^T lam = x_bar,   b_bar = lam,   A_bar = -lam x^T  (VJP: one solve with A^T; A_bar at the stored entries only)

Every solve is with `A` or `A^T`, and the factors `L U` of `A` serve both. Where do they live between the calls? SuperLU's
object cannot be an array, so it cannot be a residual; and a number that stands for it could be copied, saved by a
checkpoint and loaded in another process, where it means nothing. So here they live in a cache, and the key is what they
are made of: the bytes of the matrix. The operation remains a pure function of its operands, whatever JAX drops, merges or
repeats. A miss costs time; it never gives a wrong number. To compare the key takes a pass over the entries, which is
little beside a solve.

The pattern (`rows`, `columns`) is an operand, not a static param: another matrix does not compile another program. A batch
of right-hand sides is one call.

Run it with `python examples/gallery/sparse_lu.py`, or check it with `jaxprim check examples/gallery/sparse_lu.py`.
"""

import functools
import threading
import timeit

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse.linalg

from jaxprim import Primitive

# The matrix has `values[k]` at `rows[k], columns[k]`, entries at one place are added; `b` is [n].
# A solve needs all of a matrix. On several devices, what splits are the axes of vmap, so there is no sharding rule.
sparse_lu = Primitive("sparse_lu", batching="expand_dims")


# ------------------------------------------------------------------------------------------------------------- values
@functools.lru_cache(maxsize=16)
def factorize(values, rows, columns, dtype, size):
    """SuperLU's factors of a matrix that is given by its bytes."""
    entries = np.frombuffer(values, dtype), (np.frombuffer(rows, "int32"), np.frombuffer(columns, "int32"))
    return scipy.sparse.linalg.splu(scipy.sparse.csc_matrix(entries, (size, size)))


LOCK = threading.Lock()


def factors(values, rows, columns, size):
    with LOCK:  # a program may call from several threads: the second one waits for the first one's factors
        return factorize(values.tobytes(), rows.tobytes(), columns.tobytes(), values.dtype, size)


@sparse_lu.def_host
def _(values, rows, columns, b, *, transposed=False):
    """Under vmap, "expand_dims" puts the batch axes in front of all operands, of size 1 where one is shared."""
    rank = values.ndim - 1
    shape = np.broadcast_shapes(*(x.shape[:rank] for x in (values, rows, columns, b)))
    matrices = np.broadcast_shapes(*(x.shape[:rank] for x in (values, rows, columns)))
    values, rows, columns = (np.broadcast_to(x, (*matrices, x.shape[-1])) for x in (values, rows, columns))
    b = np.broadcast_to(b, (*shape, b.shape[-1]))
    x = np.empty_like(b)
    for index in np.ndindex(matrices):
        lu = factors(values[index], rows[index], columns[index], b.shape[-1])
        of_this = tuple(slice(None) if n == 1 else k for k, n in zip(index, matrices, strict=True))
        right = b[of_this].reshape(-1, b.shape[-1]).T
        x[of_this] = lu.solve(np.asfortranarray(right), "T" if transposed else "N").T.reshape(b[of_this].shape)
    return x


@sparse_lu.def_abstract_eval
def _(values, rows, columns, b, *, transposed=False):
    if not values.shape == rows.shape == columns.shape or rows.dtype != "int32" or columns.dtype != "int32":
        given = ", ".join(f"{x.dtype}{x.shape}" for x in (values, rows, columns))
        raise TypeError(f"values, rows and columns are {given}: they must be as long, and the last two int32")
    if values.dtype != b.dtype or b.ndim != 1:
        raise TypeError(f"values {values.dtype} and b {b.dtype}{b.shape}: b must be a vector of the same dtype")
    return jax.ShapeDtypeStruct(b.shape, b.dtype)


# -------------------------------------------------------------------------------------------------------------- rules
def multiply(values, rows, columns, x, transposed=False):
    """`A x`, or `A^T x`."""
    rows, columns = (columns, rows) if transposed else (rows, columns)
    return jnp.zeros_like(x).at[rows].add(values * x[columns])


@sparse_lu.def_jvp
def _(primals, tangents, *, transposed):
    values, rows, columns, b = primals
    values_dot, _, _, b_dot = tangents
    x = sparse_lu(values, rows, columns, b, transposed=transposed)
    right = b_dot - multiply(values_dot, rows, columns, x, transposed)
    return x, sparse_lu(values, rows, columns, right, transposed=transposed)


@sparse_lu.def_vjp
def _(primals, *, transposed):
    values, rows, columns, b = primals
    x = sparse_lu(values, rows, columns, b, transposed=transposed)
    left, right = (columns, rows) if transposed else (rows, columns)

    def pullback(x_bar):
        lam = sparse_lu(values, rows, columns, x_bar, transposed=not transposed)
        return -lam[left] * x[right], None, None, lam

    return x, pullback


@sparse_lu.def_transpose(linear="b")
def _(x_bar, values, rows, columns, *, transposed):
    return sparse_lu(values, rows, columns, x_bar, transposed=not transposed)


@sparse_lu.def_examples
def _():
    rows, columns = jnp.array([0, 1, 2, 0, 2, 1], "int32"), jnp.array([0, 1, 2, 2, 0, 0], "int32")
    return [(jnp.array([2.0, 3.0, 2.5, -1.0, 0.5, 1.0]), rows, columns, jnp.array([1.0, -2.0, 0.5]))]


# --------------------------------------------------------------------------------------------------------------- show
class Diffusion:
    """`-div(exp(k) grad u) = 1` on an n x n grid, `u = 0` on its border: the steady heat in a plate that conducts exp(k)."""

    def __init__(self, n):
        self.n = n
        cells = np.arange(n * n, dtype="int32").reshape(n, n)
        self.pairs = np.concatenate([np.stack([cells[1:], cells[:-1]], -1).reshape(-1, 2),
                                     np.stack([cells[:, 1:], cells[:, :-1]], -1).reshape(-1, 2)])  # fmt: skip
        one, other = self.pairs.T
        self.rows = jnp.concatenate([one, other, one, other, cells.ravel()])
        self.columns = jnp.concatenate([other, one, one, other, cells.ravel()])
        self.border = jnp.asarray(sum((cells // n == s) * 1.0 + (cells % n == s) for s in (0, n - 1))).ravel()

    def values(self, k):
        flow = jnp.exp((k[self.pairs[:, 0]] + k[self.pairs[:, 1]]) / 2)
        return jnp.concatenate([-flow, -flow, flow, flow, 2 * self.border * jnp.exp(k)]) * self.n**2

    def heat(self, k):
        return sparse_lu(self.values(k), self.rows, self.columns, jnp.ones(self.n**2, k.dtype))

    def misfit(self, k, data):
        """How far the heat is from data, and how rough the conductivity; the sum of squares is to be small."""
        steps = k[self.pairs[:, 0]] - k[self.pairs[:, 1]]
        return (self.heat(k) - data) / jnp.linalg.norm(data), 1e-4 * steps


def invert(plate, data, steps):
    """The Gauss-Newton method for the conductivity; each step solves `J^T J change = J^T r` by conjugate gradients."""

    @jax.jit
    def step(k):
        misfit, push = jax.linearize(lambda k: plate.misfit(k, data), k)  # push is J
        pull = lambda out: jax.linear_transpose(push, k)(out)[0]
        change, _ = jax.scipy.sparse.linalg.cg(lambda v: pull(push(v)), pull(misfit), tol=1e-2, maxiter=30)
        return k - change, jnp.linalg.norm(misfit[0])

    k = jnp.zeros(plate.n**2)
    for number in range(steps):
        k, misfit = step(k)
        made = factorize.cache_info()
        print(
            f"  step {number}: misfit {misfit:.1e}; so far {made.misses} factorizations, {made.hits + made.misses} solves"
        )
    return k


def afresh(fn):
    return lambda *operands: (factorize.cache_clear(), fn(*operands))[1]


def milliseconds(fn, *operands):
    jax.block_until_ready(fn(*operands))
    return 1e3 * min(timeit.repeat(lambda: jax.block_until_ready(fn(*operands)), number=3, repeat=3)) / 3


def main(n=40):
    jax.config.update("jax_enable_x64", True)
    plate = Diffusion(n)
    x, y = jnp.meshgrid(*[jnp.linspace(-1, 1, n)] * 2)
    truth = jnp.exp(-8 * ((x - 0.3) ** 2 + (y + 0.2) ** 2)).ravel()
    data = plate.heat(truth)
    factorize.cache_clear()
    print(f"the conductivity of {n} x {n} cells from the heat in each, by the Gauss-Newton method")
    found = invert(plate, data, 6)
    print(f"  error {jnp.linalg.norm(found - truth) / jnp.linalg.norm(truth):.1e}")
    dense = lambda values, rows, columns, b: jnp.linalg.solve(jnp.zeros((n * n,) * 2).at[rows, columns].add(values), b)
    for name, op in {"SuperLU": sparse_lu, "a dense solver": dense}.items():
        loss = lambda v, op=op: jnp.sum(op(v, plate.rows, plate.columns, data) ** 2)
        time = milliseconds(afresh(jax.jit(jax.grad(loss))), plate.values(truth))
        print(f"  one gradient in {plate.rows.size} entries with {name}: {time:.0f} ms")
    print(sparse_lu.explain())
    print(sparse_lu.check())


if __name__ == "__main__":
    main()
