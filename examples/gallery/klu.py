"""`A x = b` for a sparse matrix of a circuit, with SuiteSparse's KLU in C++: what is factorized once is kept.

    A x_dot = b_dot - A_dot x                           (JVP: one more solve with A)
    A^T lam = x_bar,   b_bar = lam,   A_bar = -lam x^T  (VJP: one solve with A^T; A_bar at the stored entries only)

KLU works in three steps, each far cheaper than the one before: it orders a pattern, factorizes a matrix of that pattern, and
solves with the factors. The operation is the last step, and `keep=` says what it needs of the others. The value, both
derivatives, the steps of a Newton method and other programs share what they can: all that is compared is the bytes of the
pattern and of the matrix. There are no handles to pass around or to free.

The interface is that of klujax, a package with the same library inside: entry `values[k]` is at `rows[k], columns[k]`, and
entries at one place are added. It needs KLU's headers: `apt install libsuitesparse-dev`, or
`conda install -c conda-forge suitesparse`.

Run it with `python examples/gallery/klu.py`, or check it with `jaxprim check examples/gallery/klu.py`.
"""

import importlib.util
import timeit

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import Primitive, kernels

SOURCE = """
#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <type_traits>
#include <vector>

#if __has_include(<suitesparse/klu.h>)
#include <suitesparse/klu.h>
#elif __has_include(<klu.h>)
#include <klu.h>
#else
#error "KLU's headers are missing: apt install libsuitesparse-dev, or conda install -c conda-forge suitesparse"
#endif

struct Pattern {  // in compressed columns, as KLU has it, and its order of elimination
  int n;
  std::vector<int> starts, rows;
  std::vector<size_t> place;  // of each entry among `rows`
  klu_symbolic* symbolic;

  Pattern(const int32_t* row, const int32_t* column, int64_t n, int64_t nz) : n(static_cast<int>(n)), starts(n + 1), place(nz) {
    std::vector<int64_t> order(nz);
    std::iota(order.begin(), order.end(), 0);
    const auto at = [&](int64_t k) { return column[k] * n + row[k]; };
    std::sort(order.begin(), order.end(), [&](int64_t i, int64_t j) { return at(i) < at(j); });
    for (int64_t i = 0; i < nz; ++i) {
      const int64_t k = order[i];
      if (std::min(row[k], column[k]) < 0 || std::max(row[k], column[k]) >= n)
        throw std::out_of_range("an entry is outside of the matrix");
      if (i == 0 || at(k) != at(order[i - 1])) {
        rows.push_back(row[k]);
        ++starts[column[k] + 1];
      }
      place[k] = rows.size() - 1;
    }
    std::partial_sum(starts.begin(), starts.end(), starts.begin());
    klu_common common;
    klu_defaults(&common);
    symbolic = klu_analyze(this->n, starts.data(), rows.data(), &common);
    if (!symbolic) throw std::runtime_error("KLU can't order the pattern");
  }
  Pattern(const Pattern&) = delete;
  ~Pattern() {
    klu_common common;
    klu_defaults(&common);
    klu_free_symbolic(&symbolic, &common);
  }
};

struct Factors {
  const Pattern& pattern;
  klu_common common;
  klu_numeric* numeric;

  template <class T>
  Factors(const Pattern& pattern, const T* values, int64_t nz) : pattern(pattern) {
    static_assert(std::is_floating_point_v<T>, "KLU needs float32 or float64");
    std::vector<double> entries(pattern.rows.size());
    for (int64_t k = 0; k < nz; ++k) entries[pattern.place[k]] += values[k];
    klu_defaults(&common);
    auto* starts = const_cast<int*>(pattern.starts.data());
    auto* rows = const_cast<int*>(pattern.rows.data());
    numeric = klu_factor(starts, rows, entries.data(), pattern.symbolic, &common);
    if (!numeric) throw std::runtime_error("the matrix is singular");
  }
  Factors(const Factors&) = delete;
  ~Factors() { klu_free_numeric(&numeric, &common); }
};

static void solve(Factors& f, bool transposed, double* x, int n) {
  const auto run = transposed ? klu_tsolve : klu_solve;
  if (!run(f.pattern.symbolic, f.numeric, n, 1, x, &f.common)) throw std::runtime_error("KLU can't solve");
}

template <class T>
void klu(Factors& f, bool transposed, int64_t n, T* x) {  // x holds b at first
  if constexpr (std::is_same_v<T, double>) {
    solve(f, transposed, x, static_cast<int>(n));
  } else {  // KLU computes in double
    std::vector<double> wide(x, x + n);
    solve(f, transposed, wide.data(), static_cast<int>(n));
    std::copy(wide.begin(), wide.end(), x);
  }
}
"""


def kernel_of(most):
    """KLU, with so many factorized matrices kept."""
    return kernels.cpp(
        SOURCE,
        "klu(values: T[..., nz], rows: i32[nz], columns: i32[nz], b: T[..., n]; transposed: bool = False) -> x: T[..., n]",
        keep=("Pattern(rows, columns, n, nz)", "Factors(Pattern, values)"),
        most=most,
        aliases={"x": "b"},
        libraries=["klu"],
    )


# -------------------------------------------------------------------------------------------------------------- rules
def multiply(values, rows, columns, x, transposed):
    """`A x`, or `A^T x`."""
    rows, columns = (columns, rows) if transposed else (rows, columns)
    return jnp.zeros_like(x).at[rows].add(values * x[columns])


def operation(kernel):
    # A solve needs all of a matrix. On several devices, what splits are the batch axes, which a kernel splits by itself:
    # so there is no sharding rule.
    klu = Primitive("klu")
    klu.def_impl(kernel)

    @klu.def_jvp
    def _(primals, tangents, *, transposed):
        values, rows, columns, b = primals
        values_dot, _, _, b_dot = tangents
        x = klu(values, rows, columns, b, transposed=transposed)
        right = b_dot - multiply(values_dot, rows, columns, x, transposed)
        return x, klu(values, rows, columns, right, transposed=transposed)

    @klu.def_transpose(linear="b")
    def _(x_bar, values, rows, columns, *, transposed):
        return klu(values, rows, columns, x_bar, transposed=not transposed)

    @klu.def_examples
    def _():
        rows, columns = jnp.array([0, 1, 2, 0, 2, 1], "int32"), jnp.array([0, 1, 2, 2, 0, 0], "int32")
        return [(jnp.array([2.0, 3.0, 2.5, -1.0, 0.5, 1.0]), rows, columns, jnp.array([1.0, -2.0, 0.5]))]

    return klu


kernel = kernel_of(most=16)
klu = operation(kernel)


# --------------------------------------------------------------------------------------------------------------- show
def grid(n):
    """A resistor between each two neighbours of an n x n grid, and one from each node to the ground."""
    nodes = np.arange(n * n, dtype="int32").reshape(n, n)
    one, other = np.concatenate([np.stack([nodes[1:], nodes[:-1]], -1).reshape(-1, 2),
                                 np.stack([nodes[:, 1:], nodes[:, :-1]], -1).reshape(-1, 2)]).T  # fmt: skip
    rows, columns = (np.concatenate([*ends, nodes.ravel()]) for ends in ((one, other), (other, one)))
    order = np.lexsort((rows, columns))  # klujax loses digits in another order
    diagonal = lambda g: jnp.full(n * n, 0.5).at[one].add(g).at[other].add(g)
    return rows[order], columns[order], lambda g: jnp.concatenate([-g, -g, diagonal(g)])[order]


def steps(solve, rows, columns, count=100):
    """Backward Euler steps of a circuit with capacitors: so many solves with one matrix, each for the next."""

    def energy(values, v):
        step = lambda v, _: (0.5 * solve(values, rows, columns, v), None)
        return jnp.sum(jax.lax.scan(step, v, None, length=count)[0] ** 2)

    return energy


def peers():
    """The operation as it is, with nothing kept, and klujax, which factorizes in each call."""
    found = {"kept": klu, "nothing kept": operation(kernel_of(most=0))}
    if importlib.util.find_spec("klujax") is None:
        print("NOT COMPARED with klujax, which is not installed (pip install klujax)")
        return found
    import klujax

    return found | {"klujax": lambda values, rows, columns, b: klujax.solve(rows, columns, values, b)}


def milliseconds(fn, *operands):
    jax.block_until_ready(fn(*operands))
    return 1e3 * min(timeit.repeat(lambda: jax.block_until_ready(fn(*operands)), number=1, repeat=3))


def main(n=30):
    jax.config.update("jax_enable_x64", True)
    rows, columns, values_of = grid(n)
    conductances = jnp.asarray(np.random.default_rng(0).uniform(0.5, 1.5, 2 * n * (n - 1)))
    values, v = values_of(conductances), jnp.ones(n * n)
    print(f"100 solves with a matrix of {n * n} nodes and {len(values)} entries, and their gradient in all of them")
    for name, solve in peers().items():
        gradient = jax.jit(jax.grad(steps(solve, rows, columns), (0, 1)))
        kernel.forget()
        before = kernel.kept().made
        time = milliseconds(gradient, values, v)
        made = f"; {kernel.kept().made - before} factorization" if solve is klu else ""
        print(f"  {name}: {time:.0f} ms{made}")
    print(klu.explain())
    print(klu.check())


if __name__ == "__main__":
    main()
