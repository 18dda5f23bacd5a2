"""Host functions that do what a host function must not do."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import HostError, Primitive
from messages.case import case

OFFSET = jnp.ones(3)


def op(name="double"):
    double = Primitive(name)

    @double.def_abstract_eval
    def types(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype)

    return double


@case(
    HostError,
    """
    double: the host function uses JAX.
      got:      the JAX operation 'multiply'
      expected: NumPy, SciPy or plain Python
      why:      calling JAX inside a JAX callback can deadlock
      rule:     host at FILE:LINE
      write:    @double.def_impl  # or use np instead of jnp
    """,
    on_host=True,
)
def host_uses_jax():
    double = op()

    @double.def_host
    def host(x):
        return np.asarray(jnp.multiply(x, 2))

    yield lambda x: double(x)

    @double.def_impl
    def corrected(x):
        return jnp.multiply(x, 2)

    yield lambda x: double(x), [2, 4, 6]


@case(
    HostError,
    """
    double: the host function uses JAX.
      got:      the JAX operation '<lambda>'
      expected: NumPy, SciPy or plain Python
      why:      calling JAX inside a JAX callback can deadlock
      rule:     host at FILE:LINE
      write:    @double.def_impl  # or use np instead of jnp
    """,
    on_host=True,
)
def host_calls_a_jitted_function():
    double = op()
    twice = jax.jit(lambda x: 2 * x)
    twice(np.ones(3, np.float32))

    @double.def_host
    def host(x):
        return np.asarray(twice(x))

    yield lambda x: double(x)

    @double.def_impl
    def corrected(x):
        return twice(x)

    yield lambda x: double(x), [2, 4, 6]


@case(
    HostError,
    """
    double: the host function closes over the jax.Array 'offset'.
      got:      offset: one array, float32[3]
      expected: NumPy arrays
      why:      reading a jax.Array inside a JAX callback can deadlock
      rule:     host at FILE:LINE
      write:    offset = np.asarray(offset)  # outside, once; or make it an operand
    """,
)
def host_closes_over_a_jax_array():
    double = op()
    offset = jnp.ones(3)

    @double.def_host
    def host(x):
        return x + offset

    yield lambda x: double(x)
    offset = np.asarray(offset)

    @double.def_host
    def corrected(x):
        return x + offset

    yield lambda x: double(x), [2, 3, 4]


@case(
    HostError,
    """
    double: the host function closes over the jax.Array 'OFFSET'.
      got:      OFFSET: one array, float32[3]
      expected: NumPy arrays
      why:      reading a jax.Array inside a JAX callback can deadlock
      rule:     host at FILE:LINE
      write:    OFFSET = np.asarray(OFFSET)  # outside, once; or make it an operand
    """,
)
def host_reads_a_global_jax_array():
    double = op()

    @double.def_host
    def host(x):
        return x + OFFSET

    yield lambda x: double(x)
    numpy_globals = {"np": np, "OFFSET": OFFSET}
    exec("OFFSET = np.asarray(OFFSET)", numpy_globals)
    double.def_host(eval("lambda x: x + OFFSET", numpy_globals))

    yield lambda x: double(x), [2, 3, 4]


@case(
    HostError,
    """
    double: the host function returned a jax.Array as the result.
      got:      jax.Array float32[3]
      expected: NumPy array float32[3]
      why:      reading a jax.Array inside a JAX callback can deadlock
      rule:     host at FILE:LINE
      write:    result = np.asarray(result)  # outside the host function, once
    """,
    on_host=True,
)
def host_returns_a_jax_array():
    double = op()
    result = jnp.array([2.0, 4.0, 6.0])
    kept = SimpleNamespace(result=result)

    @double.def_host
    def host(x):
        return kept.result

    yield lambda x: double(x)
    result = np.asarray(result)
    kept = SimpleNamespace(result=result)
    yield lambda x: double(x), [2, 4, 6]


@case(
    HostError,
    """
    double: the host function closes over the jax.Array 'offsets'.
      got:      offsets: a dict with keys ['low']
      expected: NumPy arrays
      why:      reading a jax.Array inside a JAX callback can deadlock
      rule:     host at FILE:LINE
      write:    offsets = jax.tree.map(np.asarray, offsets)  # outside, once; or make it an operand
    """,
)
def host_closes_over_a_tree_of_jax_arrays():
    double = op()
    offsets = {"low": jnp.ones(3)}

    @double.def_host
    def host(x):
        return x + offsets["low"]

    yield lambda x: double(x)
    offsets = jax.tree.map(np.asarray, offsets)
    yield lambda x: double(x), [2, 3, 4]


@case(
    HostError,
    """
    double: the host function writes to its input.
      got:      output array is read-only
      expected: inputs used read-only (JAX may share their memory)
      rule:     host at FILE:LINE
      write:    x = x.copy()  # before writing to it
    """,
    on_host=True,
)
def host_writes_its_input():
    double = op()

    @double.def_host
    def host(x):
        x *= 2
        return x

    yield lambda x: double(x)

    @double.def_host
    def corrected(x):
        x = x.copy()
        x *= 2
        return x

    yield lambda x: double(x), [2, 4, 6]


@case(
    HostError,
    """
    double: the host function returned the result with a different type than its abstract eval declares.
      got:      float64[3]
      expected: float32[3]
      why:      JAX disables 64-bit types by default
      rule:     host at FILE:LINE
      write:    return result.astype(x.dtype)  # or jax.config.update("jax_enable_x64", True)
    """,
    on_host=True,
)
def host_result_dtype():
    double = op()

    @double.def_host
    def host(x):
        return 2 * x.astype(np.float64)

    yield lambda x: double(x)

    @double.def_host
    def corrected(x):
        result = 2 * x.astype(np.float64)
        return result.astype(x.dtype)

    yield lambda x: double(x), [2, 4, 6]


@case(
    HostError,
    """
    double: the host function returned the result with a different type than its abstract eval declares.
      got:      float32[1,3]
      expected: float32[3]
      rule:     host at FILE:LINE
      write:    return result.reshape(x.shape)  # or correct the abstract eval
    """,
    on_host=True,
)
def host_result_shape():
    double = op()

    @double.def_host
    def host(x):
        return (2 * x)[None]

    yield lambda x: double(x)

    @double.def_host
    def corrected(x):
        result = (2 * x)[None]
        return result.reshape(x.shape)

    yield lambda x: double(x), [2, 4, 6]


@case(
    HostError,
    """
    total: the host function returned the result with a different type than its abstract eval declares.
      got:      float32[]
      expected: float32[3]
      rule:     host at FILE:LINE
      write:    return jax.ShapeDtypeStruct((), x.dtype)  # in the abstract eval
    """,
    on_host=True,
)
def host_result_of_another_size():
    total = Primitive("total")

    @total.def_host
    def host(x):
        return np.sum(x)

    @total.def_abstract_eval
    def types(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype)

    yield lambda x: total(x)

    @total.def_abstract_eval
    def corrected(x):
        return jax.ShapeDtypeStruct((), x.dtype)

    yield lambda x: total(x), 6


@case(
    HostError,
    """
    double: the host function returned a different structure than its abstract eval declares.
      got:      a tuple of 2
      expected: one array
      rule:     host at FILE:LINE
      write:    return y  # or correct the abstract eval
    """,
    on_host=True,
)
def host_result_structure():
    double = op()

    @double.def_host
    def host(x):
        return 2 * x, x

    yield lambda x: double(x)

    @double.def_host
    def corrected(x):
        y, _ = 2 * x, x
        return y

    yield lambda x: double(x), [2, 4, 6]


@case(
    HostError,
    """
    double: the host function returned the result with a different type than its abstract eval declares.
      got:      None
      expected: float32[3]
      rule:     host at FILE:LINE
      write:    return result
    """,
    on_host=True,
)
def host_returns_nothing():
    double = op()

    @double.def_host
    def host(x):
        np.multiply(x, 2)

    yield lambda x: double(x)

    @double.def_host
    def corrected(x):
        result = np.multiply(x, 2)
        return result

    yield lambda x: double(x), [2, 4, 6]


@case(
    HostError,
    """
    double: the host function returned a different structure than its abstract eval declares.
      got:      a list of 3
      expected: one array
      rule:     host at FILE:LINE
      write:    return y  # or correct the abstract eval
    """,
    on_host=True,
)
def host_returns_objects():
    double = op()

    @double.def_host
    def host(x):
        return [str(v) for v in x]

    yield lambda x: double(x)

    @double.def_host
    def corrected(x):
        y = np.array([2 * v for v in x], np.float32)
        return y

    yield lambda x: double(x), [2, 4, 6]
