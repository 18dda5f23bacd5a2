"""Host functions: NumPy in, NumPy out, anything in Python between, and nothing of JAX."""

from __future__ import annotations

import functools
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxprim import HostError, Primitive

X = jnp.array([1.0, 2.0, 3.0])
CALLS = {"eager": lambda f: f, "jit": jax.jit}
AN_ARRAY = jnp.ones(3)
T = jnp.ones(3)


@pytest.fixture(params=CALLS, name="call")
def _call(request):
    return CALLS[request.param]


def host_op(fn, like=None):
    op = Primitive("op")
    op.def_host(fn)
    op.def_abstract_eval(like or (lambda x, *rest, **params: jax.ShapeDtypeStruct(x.shape, x.dtype)))
    return op


def test_it_sees_numpy_arrays_and_params(call):
    seen = []

    def fn(x, t, *, power=1):
        seen.append((type(x), type(t["n"]), x.dtype, t["n"].shape, power))
        return x**power

    op = host_op(fn)
    np.testing.assert_allclose(call(lambda x: op(x, {"n": 3}, power=2))(X), X**2)
    assert set(seen) == {(np.ndarray, np.ndarray, np.dtype("float32"), (), 2)}


def test_it_may_branch_on_values(call):
    op = host_op(lambda x: x if x.sum() > 0 else -x)
    np.testing.assert_allclose(call(op)(-X), X)


def test_scipy_and_plain_python(call):
    op = host_op(lambda x: scipy.special.gamma(x).astype(x.dtype))
    np.testing.assert_allclose(call(op)(X), [1, 1, 2])
    loop = host_op(lambda x: np.array([sum(range(int(v))) for v in x], x.dtype))
    np.testing.assert_allclose(call(loop)(X), [0, 1, 3])


def test_python_numbers_take_the_declared_dtype(call):
    op = host_op(lambda x: 3, like=lambda x: jax.ShapeDtypeStruct((), "float32"))
    assert call(op)(X).dtype == np.float32
    assert float(call(op)(X)) == 3.0


def test_numpy_scalars_are_checked(call):
    op = host_op(lambda x: np.float64(3), like=lambda x: jax.ShapeDtypeStruct((), "float32"))
    with pytest.raises((HostError, jax.errors.JaxRuntimeError), match="float64"):
        jax.block_until_ready(call(op)(X))


def test_several_results_in_a_tree(call):
    op = host_op(
        lambda x: {"sum": x.sum(), "both": (x, -x)},
        like=lambda x: {"sum": jax.ShapeDtypeStruct((), x.dtype), "both": (x, x)},
    )
    out = call(op)(X)
    assert float(out["sum"]) == 6.0
    np.testing.assert_allclose(out["both"][1], -X)


@pytest.mark.parametrize(
    "dtype", ["float32", "bfloat16", "float16", "complex64", "int32", "bool", "uint8", "float8_e4m3fn"]
)
def test_every_dtype(dtype, call):
    op = host_op(lambda x: x.copy())
    x = jnp.array([0, 1, 1]).astype(dtype)
    got = call(op)(x)
    assert got.dtype == dtype
    np.testing.assert_array_equal(np.asarray(got, complex), np.asarray(x, complex))


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (1,)])
def test_zero_size_and_0_d(shape, call):
    op = host_op(lambda x: x + 1)
    assert call(op)(jnp.ones(shape)).shape == shape


def test_strided_and_fortran_results(call):
    op = host_op(lambda x: np.asfortranarray(x.T[::-1].T))
    x = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(call(op)(x), x[:, ::-1])
    transposed = host_op(lambda x: x.T, like=lambda x: jax.ShapeDtypeStruct(x.shape[::-1], x.dtype))
    np.testing.assert_allclose(call(transposed)(x), x.T)


def test_its_input_may_be_returned(call):
    op = host_op(lambda x: x)
    y = call(op)(X)
    np.testing.assert_allclose(y, X)
    np.testing.assert_allclose(call(lambda x: op(x) + x)(X), 2 * X)


def test_the_result_s_memory_may_be_used_again(call):
    """A buffer that the function keeps and writes the next time does not change a result that was returned."""
    buffer = np.zeros(3, np.float32)

    def fn(x):
        buffer[:] = 2 * x
        return buffer

    op = host_op(fn)
    first = call(op)(X)
    jax.block_until_ready(first)
    second = call(op)(10 * X)
    np.testing.assert_allclose(second, 20 * X)
    np.testing.assert_allclose(first, 2 * X)


# ------------------------------------------------------------------------------------------------------------- the guard
def writes(x):
    x[0] = 1.0
    return x


def writes_with_out(x):
    return np.multiply(x, 2, out=x)


def sorts_in_place(x):
    x.sort()
    return x


def adds_in_place(x):
    x += 1
    return x


@pytest.mark.parametrize("fn", [writes, writes_with_out, sorts_in_place, adds_in_place], ids=lambda fn: fn.__name__)
def test_writing_an_input_is_refused_and_leaves_it_as_it_was(fn, call):
    op, x = host_op(fn), jnp.array([3.0, 1.0, 2.0])
    with pytest.raises((HostError, jax.errors.JaxRuntimeError), match="writes to its input"):
        jax.block_until_ready(call(op)(x))
    np.testing.assert_allclose(x, [3, 1, 2])


def test_writing_a_numpy_operand_in_eager_mode_is_refused():
    x = np.array([3.0, 1.0, 2.0], np.float32)
    with pytest.raises(HostError, match="writes to its input"):
        host_op(writes)(x)
    assert x[0] == 3.0
    assert x.flags.writeable


JAX_USES = {
    "jnp": lambda x: np.asarray(jnp.sin(x)),
    "lax": lambda x: np.asarray(jax.lax.neg(x)),
    "operator": lambda x: np.asarray(AN_ARRAY + x),
    "jnp.asarray": lambda x: np.asarray(jnp.asarray(x)),
    "jnp.zeros": lambda x: np.asarray(jnp.zeros(3)),
    "device_put": lambda x: np.asarray(jax.device_put(x)),
    "random": lambda x: np.asarray(jax.random.key_data(jax.random.key(0))),
    "grad": lambda x: np.asarray(jax.grad(lambda y: y * y)(1.0)),
    "vmap": lambda x: np.asarray(jax.vmap(lambda y: y + 1)(x)),
    "jit": lambda x: np.asarray(jax.jit(lambda y: y + 1)(x)),
    "another op": lambda x: np.asarray(ANOTHER(x)),
    "another host op": lambda x: np.asarray(ANOTHER_HOST(x)),
}
ANOTHER = Primitive("another")
ANOTHER.def_impl(lambda x: x)
ANOTHER_HOST = host_op(lambda x: x)


@pytest.mark.parametrize("use", JAX_USES)
def test_jax_inside_is_refused(use, call):
    op = host_op(JAX_USES[use])
    with pytest.raises((HostError, jax.errors.JaxRuntimeError), match=r"uses JAX|closes over the jax\.Array"):
        jax.block_until_ready(call(op)(X))
    assert float(jnp.sin(0.0)) == 0.0  # JAX works as before


def closure(value):
    return lambda x: x + np.asarray(value["a"] if isinstance(value, dict) else value)


class Holder:
    def __init__(self, value):
        self.value = value

    def method(self, x):
        return x + np.asarray(AN_ARRAY)


def nested(x):
    def inner():
        return np.asarray(AN_ARRAY)

    return x + inner()


@pytest.mark.parametrize(
    "fn",
    [
        closure(AN_ARRAY),
        closure({"a": AN_ARRAY}),
        functools.partial(lambda a, x: x + np.asarray(a), AN_ARRAY),
        lambda x: x + np.asarray(AN_ARRAY),
        Holder(1).method,
        nested,
    ],
    ids=["closure", "tree in a closure", "partial", "global", "method", "nested function"],
)
def test_jax_arrays_in_reach_are_refused(fn, call):
    with pytest.raises(HostError, match=r"closes over the jax\.Array"):
        call(host_op(fn))(X)


def test_an_attribute_that_is_named_as_a_global_is_none():
    """`x.T` reads no global, though this module has one of that name, which is a jax.Array."""
    np.testing.assert_allclose(host_op(lambda x: x.T)(X), X)


def test_its_own_exceptions_come_out(call):
    class Mine(Exception):
        pass

    def fn(x):
        raise Mine("from the host")

    op = host_op(fn)
    with pytest.raises((Mine, jax.errors.JaxRuntimeError), match="from the host") as caught:
        jax.block_until_ready(call(op)(X))
    if call is not jax.jit:
        assert type(caught.value) is Mine
        assert any(entry.name == "fn" for entry in caught.traceback)


def test_a_value_error_of_another_kind_is_left_alone():
    def fn(x):
        raise ValueError("read the manual")

    with pytest.raises(ValueError, match="read the manual"):
        host_op(fn)(X)


# ------------------------------------------------------------------------------------------------------------ how it runs
def test_eager_calls_run_in_this_thread_and_once(call):
    threads = []
    op = host_op(lambda x: threads.append(threading.current_thread()) or x)
    jax.block_until_ready(call(op)(X))
    assert len(threads) == 1
    if call is not jax.jit:
        assert threads == [threading.current_thread()]


def test_unused_and_repeated_operations():
    """Operations are pure: under jit an unused one does not run, and two equal ones run once."""
    count = []
    op = host_op(lambda x: count.append(1) or x)
    jax.block_until_ready(jax.jit(lambda x: (op(x), x)[1])(X))
    assert len(count) == 0
    np.testing.assert_allclose(jax.jit(lambda x: op(x) + op(x))(X), 2 * X)
    assert len(count) == 1


@pytest.mark.parametrize("word", [None, "sequential"])
def test_a_batch_runs_one_element_after_the_other(word, call):
    shapes = []
    op = Primitive("op", batching=word)
    op.def_host(lambda x, y: shapes.append((x.shape, y.shape)) or x * y)
    op.def_abstract_eval(lambda x, y: x)
    x = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(call(jax.vmap(op, (0, None)))(x, X), np.asarray(x) * np.asarray(X))
    assert shapes == [((3,), (3,))] * 2


@pytest.mark.parametrize("word", ["expand_dims", "broadcast_all"])
def test_a_batch_at_once(word, call):
    shapes = []
    op = Primitive("op", batching=word)
    op.def_host(lambda x, y: shapes.append((x.shape, y.shape)) or x * y)
    op.def_abstract_eval(lambda x, y: x)
    x = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(call(jax.vmap(op, (0, None)))(x, X), np.asarray(x) * np.asarray(X))
    assert set(shapes) == {((2, 3), (1, 3) if word == "expand_dims" else (2, 3))}


def test_in_control_flow():
    op = host_op(lambda x: 2 * x)
    np.testing.assert_allclose(
        jax.jit(lambda x: jax.lax.scan(lambda c, _: (op(c), None), x, None, length=3)[0])(X), 8 * X
    )
    np.testing.assert_allclose(jax.lax.fori_loop(0, 3, lambda i, c: op(c), X), 8 * X)
    np.testing.assert_allclose(jax.lax.cond(True, op, lambda x: x, X), 2 * X)
    np.testing.assert_allclose(jax.lax.while_loop(lambda c: c[0] < 4, op, X), 4 * X)


def test_from_several_threads():
    op = host_op(lambda x: (time.sleep(0.001), 2 * x)[1])
    fn, wrong = jax.jit(op), []

    def work():
        right = lambda i: np.allclose(fn(X * i), 2 * X * i) and np.allclose(op(X * i), 2 * X * i)
        wrong.extend(i for i in range(10) if not right(i))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_impl_beside_it_is_what_runs(call):
    op = host_op(lambda x: 10 * x)
    op.def_impl(lambda x: 2 * x)
    np.testing.assert_allclose(call(op)(X), 2 * X)


def test_under_disable_jit_and_debug_nans():
    op = host_op(lambda x: 2 * x)
    with jax.disable_jit():
        np.testing.assert_allclose(op(X), 2 * X)
        np.testing.assert_allclose(jax.jit(op)(X), 2 * X)
    bad = host_op(lambda x: x * np.nan)
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        bad(X)


def test_x64_toggled(call):
    op = host_op(lambda x: 2 * x)
    for enabled in (True, False, True):
        with jax.enable_x64(enabled):
            assert call(op)(np.ones(3)).dtype == (np.float64 if enabled else np.float32)


def test_an_eager_result_lies_where_its_operands_lie() -> None:
    op = Primitive("op")
    op.def_host(lambda x, y: x + y)
    op.def_abstract_eval(lambda x, y: x)
    first, second = jax.devices()[1:3]
    x, y = jax.device_put(np.ones(3, np.float32), first), np.ones(3, np.float32)
    for result in (op(x, y), op(y, x), jax.jit(op)(x, y)):
        assert (result.devices(), result.committed) == ({first}, True)
    assert not op(y, y).committed
    with jax.default_device(second):
        assert op(y, y).devices() == {second}
    with pytest.raises(ValueError, match="incompatible devices"):
        op(x, jax.device_put(y, second))


def wrong_type(x):
    return x.astype(np.int8)


def write_to_it(x):
    x[0] = 1


def raise_it(x):
    raise ZeroDivisionError(x.shape)


@pytest.mark.parametrize("fn", [raise_it, wrong_type, write_to_it])
def test_the_error_of_a_program_does_not_begin_with_jaxs_stack(fn):
    """JAX's text holds the stack of the frame that raised, outermost first."""
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jax.block_until_ready(jax.jit(host_op(fn))(X))
    files = [line.split('"')[1] for line in str(caught.value).splitlines() if line.startswith('  File "')]
    assert [file for file in files if "/jax/_src/" in file or file.endswith("pytest/__init__.py")] == []
    if fn is raise_it:
        assert files[1:] == [__file__]
