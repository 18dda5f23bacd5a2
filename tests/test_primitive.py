"""What users do with a `Primitive`: apply it, look at it, change it, copy it, drop it, share it between threads."""

from __future__ import annotations

import gc
import threading
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprim
from jaxprim import BadCall, Example, Primitive, RuleWrong, Zero, primitive

X = jnp.array([1.0, 2.0, 3.0])
CALLS = {"eager": lambda f: f, "jit": jax.jit}


@pytest.fixture(params=CALLS, name="call")
def _call(request):
    return CALLS[request.param]


def double_of(name="double", **kwargs):
    op = Primitive(name, **kwargs)
    op.def_impl(lambda x: 2 * x)
    return op


# --------------------------------------------------------------------------------------------------------------- applying
def test_calling_and_bind_are_the_same(call):
    scale = Primitive("scale")
    scale.def_impl(lambda x, factor, *, power=1: x * factor**power)
    for fn in (scale, scale.bind):
        np.testing.assert_allclose(call(lambda x, fn=fn: fn(x, factor=2.0, power=2))(X), 4 * X)


def test_primitive_on_a_function(call):
    @primitive
    def cube(x):
        """Cubes."""
        return x**3

    assert isinstance(cube, Primitive)
    assert (cube.name, cube.__name__, cube.__doc__, repr(cube)) == ("cube", "cube", "Cubes.", "Primitive('cube')")
    assert float(call(cube)(2.0)) == 8.0
    assert float(call(jax.grad(cube))(2.0)) == 12.0


def test_operands_of_every_array_kind(call):
    double = double_of()
    for value in (3, 3.0, np.float32(3), np.array([3.0], np.float32), jnp.asarray(3.0), np.int8(3), 3j, [3.0]):
        out = call(double)(value) if not isinstance(value, list) else None
        if out is not None:
            np.testing.assert_allclose(out, 2 * np.asarray(value))


def test_results_are_arrays_of_the_result_s_tree(call):
    op = Primitive("op")
    op.def_impl(lambda x: {"a": (x, [2 * x]), "b": None, "c": ()})
    out = call(op)(X)
    assert jax.tree.structure(out) == jax.tree.structure({"a": (0, [0]), "b": None, "c": ()})
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(out))


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (1,), (2, 0, 3)])
def test_zero_size_and_0_d(shape, call):
    double = double_of()
    double.def_jvp(lambda primals, tangents: (double(*primals), 2 * tangents[0]))
    double.def_vjp(lambda primals: (double(*primals), lambda y_bar: 2 * y_bar))
    x = jnp.ones(shape)
    assert call(double)(x).shape == shape
    assert call(jax.grad(lambda x: jnp.sum(double(x))))(x).shape == shape
    assert call(lambda x: jax.jvp(double, (x,), (x,)))(x)[1].shape == shape
    assert call(jax.vmap(double))(jnp.ones((4, *shape))).shape == (4, *shape)
    assert call(jax.vmap(double))(jnp.ones((0, *shape))).shape == (0, *shape)


def test_no_operands(call):
    one = Primitive("one")
    one.def_impl(lambda *, shape=(): jnp.ones(shape))
    assert call(lambda: one())().shape == ()
    assert call(lambda: one(shape=(2,)))().shape == (2,)
    np.testing.assert_allclose(jax.vmap(lambda x: x * one())(X), X)
    np.testing.assert_allclose(jax.grad(lambda x: x * one())(2.0), 1.0)


def test_none_is_an_empty_pytree(call):
    op = Primitive("op")
    op.def_impl(lambda x, mask=None: x if mask is None else x * mask)
    op.def_vjp(lambda primals: (op(*primals), lambda y_bar: (y_bar * 1.0, None)))
    np.testing.assert_allclose(call(lambda x: op(x))(X), X)
    np.testing.assert_allclose(call(lambda x: op(x, None))(X), X)
    np.testing.assert_allclose(call(lambda x: op(x, 2 * x))(X), 2 * X * X)
    np.testing.assert_allclose(call(jax.grad(lambda x: jnp.sum(op(x, None))))(X), jnp.ones(3))


def test_integer_bool_and_key_operands(call):
    op = Primitive("noise")

    @op.def_impl
    def impl(x, n, flag, key):
        return jnp.where(flag, x * n.astype(x.dtype), 0.0) + 0 * jax.random.uniform(key)

    met = []

    @op.def_jvp
    def jvp(primals, tangents):
        met.append(tangents[1:])
        x, n, flag, _ = primals
        return op(*primals), jnp.where(flag, tangents[0] * n.astype(x.dtype), 0.0)

    @op.def_vjp
    def vjp(primals):
        x, n, flag, _ = primals
        return op(*primals), lambda y_bar: (jnp.where(flag, y_bar * n.astype(x.dtype), 0.0), None, None, None)

    args = (2.0, jnp.int32(3), True, jax.random.key(0))
    assert float(call(op)(*args)) == 6.0
    assert float(call(lambda *a: jax.jvp(lambda x: op(x, *a[1:]), (a[0],), (1.0,))[1])(*args)) == 3.0
    assert float(call(jax.grad(op))(*args)) == 3.0
    assert [type(t) for t in met[-1]] == [Zero, Zero, Zero]
    keys = jax.random.split(args[-1], 2)
    assert jax.vmap(op, (None, 0, None, 0))(2.0, jnp.array([1, 2]), True, keys).shape == (2,)
    _, dots = jax.jvp(op, args, (1.0, *[np.zeros(np.shape(a), jax.dtypes.float0) for a in args[1:]]))
    assert float(dots) == 3.0


def test_raw_keys_as_a_host_function_s_operand(call):
    op = Primitive("seeded")
    op.def_host(lambda key: np.asarray(key.sum() % 7, np.uint32))
    op.def_abstract_eval(lambda key: jax.ShapeDtypeStruct((), "uint32"))
    key = jax.random.key(3)
    assert int(call(op)(key)) == int(np.asarray(jax.random.key_data(key)).sum() % 7)


def test_integer_results_have_no_tangent(call):
    op = Primitive("op")
    op.def_impl(lambda x: (2 * x, jnp.int32(7)))
    op.def_jvp(lambda primals, tangents: (op(*primals), (2 * tangents[0], None)))
    op.def_vjp(lambda primals: (op(*primals), lambda bars: 2 * bars[0]))
    assert_right(op, call)
    op.def_vjp(lambda primals: (op(*primals), lambda bars: 2 * bars[0] + 5 * bars[1]))  # a zero, whatever its factor
    assert_right(op, call)


def assert_right(op, call):
    y, y_dot = call(lambda x: jax.jvp(lambda x: op(x)[0], (x,), (x,)))(3.0)
    assert (float(y), float(y_dot)) == (6.0, 6.0)
    assert float(call(jax.grad(lambda x: op(x)[0]))(3.0)) == 2.0
    assert float(call(jax.grad(lambda x: op(x)[0] * op(x)[1].astype("float32")))(3.0)) == 14.0


# ------------------------------------------------------------------------------------------------------------------- types
def test_weak_types_stay_weak(call):
    double = double_of()
    assert call(double)(3.0).weak_type
    assert call(double)(3).weak_type
    assert not call(double)(jnp.float32(3.0)).weak_type
    assert (call(lambda x: double(3.0) * x)(jnp.ones(2, "bfloat16"))).dtype == jnp.bfloat16
    assert (call(lambda x: double(3) * x)(jnp.ones(2, "float16"))).dtype == jnp.float16
    assert jax.vmap(double)(jnp.ones(2, "float16")).dtype == jnp.float16


def test_weak_types_through_rules(call):
    double = double_of()
    double.def_jvp(lambda primals, tangents: (double(*primals), 2 * tangents[0]))
    double.def_vjp(lambda primals: (double(*primals), lambda y_bar: 2 * y_bar))
    for dtype in ("bfloat16", "float16", "float32"):
        x = jnp.asarray(3.0, dtype)
        assert call(jax.grad(lambda x: double(x) * double(1.0)))(x).dtype == dtype
        y, y_dot = call(lambda x: jax.jvp(lambda x: double(x) * double(1.0), (x,), (x,)))(x)
        assert (y.dtype, y_dot.dtype) == (dtype, dtype)


def test_nothing_is_promoted_or_broadcast():
    op = Primitive("op")
    seen = []
    op.def_impl(lambda x, y: seen.append((x.shape, x.dtype.name, y.shape, y.dtype.name)) or x)
    op(jnp.ones(3, "float16"), jnp.ones((2, 1), "int8"))
    assert set(seen) == {((3,), "float16", (2, 1), "int8")}


def test_x64_on_off_and_toggled(call):
    double = double_of()
    double.def_vjp(lambda primals: (double(*primals), lambda y_bar: 2 * y_bar))
    double.def_abstract_eval(lambda x: jax.ShapeDtypeStruct(x.shape, np.float64 if x.dtype == np.float64 else x.dtype))
    for enabled in (False, True, False, True):
        with jax.enable_x64(enabled):
            dtype = np.float64 if enabled else np.float32
            assert call(double)(np.ones(2)).dtype == dtype
            assert call(jax.grad(lambda x: jnp.sum(double(x))))(np.ones(2)).dtype == dtype


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "complex64", "int8", "uint32", "bool"])
def test_every_dtype_goes_through(dtype, call):
    same = Primitive("same")
    same.def_impl(lambda x: x)
    host = Primitive("host")
    host.def_host(lambda x: x.copy())
    host.def_abstract_eval(lambda x: x)
    x = jnp.ones(2, dtype)
    for op in (same, host):
        assert call(op)(x).dtype == dtype
        assert call(jax.vmap(op))(x).dtype == dtype


# ------------------------------------------------------------------------------------------------------------- redefinition
def test_a_rule_that_is_replaced_after_use(call):
    """Also inside an outer jit that was compiled with the old one."""
    double = double_of()
    double.def_jvp(lambda primals, tangents: (double(*primals), 2 * tangents[0]))
    double.def_vjp(lambda primals: (double(*primals), lambda y_bar: 2 * y_bar))
    fns = {
        "value": (call(lambda x: double(x)), lambda op: op.def_impl(lambda x: 10 * x), 10.0),
        "jvp": (
            call(lambda x: jax.jvp(double, (x,), (1.0,))[1]),
            lambda op: op.def_jvp(lambda primals, tangents: (double(*primals), 20 * tangents[0])),
            20.0,
        ),
        "vjp": (
            call(jax.grad(lambda x: double(x))),
            lambda op: op.def_vjp(lambda primals: (double(*primals), lambda y_bar: 30 * y_bar)),
            30.0,
        ),
    }
    for fn, redefine, expected in fns.values():
        assert float(fn(1.0)) == 2.0
        redefine(double)
        assert float(fn(1.0)) == expected


def test_a_batch_rule_that_is_replaced_after_use():
    double = double_of()
    fn = jax.jit(jax.vmap(double))
    np.testing.assert_allclose(fn(X), 2 * X)
    double.def_batching(lambda axis, args, dims: (10 * args[0], dims[0]))
    np.testing.assert_allclose(fn(X), 10 * X)
    double.def_batching("sequential")
    np.testing.assert_allclose(fn(X), 2 * X)


def test_redefinition_inside_the_traced_function():
    """The definition that stands when the op is applied is the one that is used."""
    double = double_of()

    @jax.jit
    def fn(x):
        first = double(x)
        double.def_impl(lambda x: 10 * x)
        return first, double(x)

    first, second = fn(1.0)
    assert float(second) == 10.0
    assert float(first) in (2.0, 10.0)
    assert float(double(1.0)) == 10.0


def test_redefinition_between_forward_and_backward():
    """A pullback that was made keeps the rule that it was made with."""
    double = double_of()
    double.def_vjp(lambda primals: (double(*primals), lambda y_bar: 2 * y_bar))
    _, pullback = jax.vjp(double, 1.0)
    double.def_vjp(lambda primals: (double(*primals), lambda y_bar: 30 * y_bar))
    assert float(pullback(1.0)[0]) == 2.0
    assert float(jax.grad(double)(1.0)) == 30.0


def test_redefinition_with_another_signature():
    op = Primitive("op")
    op.def_impl(lambda x: x)
    fn = jax.jit(lambda x: op(x))
    assert float(fn(1.0)) == 1.0
    op.def_impl(lambda x, y=5.0, *, power=1: x * y**power)
    assert float(op(2.0)) == 10.0
    assert float(fn(2.0)) == 10.0
    assert float(op(2.0, y=2.0, power=3)) == 16.0


def test_a_rule_of_another_op_that_is_replaced():
    inner, outer = double_of("inner"), Primitive("outer")
    outer.def_impl(lambda x: inner(x) + 1)
    fn = jax.jit(outer)
    assert float(fn(1.0)) == float(outer(1.0)) == 3.0
    inner.def_impl(lambda x: 10 * x)
    assert float(fn(1.0)) == float(outer(1.0)) == 11.0


def test_defining_without_use_retraces_nothing():
    traced = []
    fn = jax.jit(lambda x: traced.append(1) or x)
    fn(1.0)
    double_of().def_vjp(lambda primals: None)
    fn(1.0)
    assert len(traced) == 1


# ----------------------------------------------------------------------------------------------------------- identity
def test_equality_and_hash_are_identity():
    one, other = double_of(), double_of()
    assert one != other
    assert len({one, other, one}) == 2


# -------------------------------------------------------------------------------------------------------- what jaxprs show
def test_make_jaxpr_shows_the_op_with_its_params():
    power = Primitive("power")
    power.def_impl(lambda x, *, exponent: x**exponent)
    shown = str(jax.make_jaxpr(lambda x: power(x, exponent=3) + 1)(X))
    (eqn, _) = jax.make_jaxpr(lambda x: power(x, exponent=3) + 1)(X).eqns
    assert eqn.primitive.name == "power"
    assert "exponent=3" in shown
    assert "integer_pow" in str(eqn.params["jaxpr"])  # the program that computes it, for JAX's own analyses


def test_concrete_operands_inside_an_outer_jit_stage_the_op():
    double = double_of()
    for trace in (lambda f: jax.make_jaxpr(f)(X), lambda f: jax.make_jaxpr(jax.jit(f))(X)):
        shown = str(trace(lambda y: double(jnp.ones(3)) + y))
        assert "double" in shown
        assert "name=double" not in shown


def test_the_derivative_s_equations_have_names():
    double = double_of()
    double.def_jvp(lambda primals, tangents: (double(*primals), 2 * tangents[0]))
    double.def_vjp(lambda primals: (double(*primals), lambda y_bar: 2 * y_bar))
    assert "double_pushforward" in str(jax.make_jaxpr(lambda x: jax.jvp(double, (x,), (x,)))(X))
    assert "double_pullback" in str(jax.make_jaxpr(jax.grad(lambda x: jnp.sum(double(x))))(X))


def test_the_jax_primitive_is_in_reach():
    double = double_of()
    assert jax.make_jaxpr(double)(X).eqns[0].primitive is double.primitive
    assert str(double.primitive) == "double"


# ----------------------------------------------------------------------------------------------------------- examples
def test_examples():
    op = double_of()
    assert op.examples() == ()

    @op.def_examples
    def _():
        yield (1.0,)
        yield Example((2.0,), {"power": 3})
        yield Example((3.0,), {"power": 4})
        yield 4.0
        yield [5.0]

    assert [(e.operands, dict(e.params)) for e in op.examples()] == [
        ((1.0,), {}),
        ((2.0,), {"power": 3}),
        ((3.0,), {"power": 4}),
        ((4.0,), {}),
        ((5.0,), {}),
    ]
    op.def_examples(lambda: [(1.0,), (2.0,)])
    assert len(op.examples()) == 2


@pytest.mark.parametrize(
    ("returned", "text"),
    [
        ((X, 2.0), "def_examples: the examples are no list.\n  got:      a tuple of 2"),
        (X, "def_examples: the examples are no list.\n  got:      one array"),
        (2.0, "def_examples: the examples are no list"),
        (Example((X, 2.0)), "def_examples: the examples are no list"),
        ([X, X], "def_examples: an example has the wrong number of operands.\n  got:      one array"),
        ([(X,)], "def_examples: an example has the wrong number of operands.\n  got:      a tuple of 1"),
        ([(X, 2.0, 3.0)], "def_examples: an example has the wrong number of operands"),
    ],
)
def test_examples_that_are_none_name_def_examples(returned, text):
    op = Primitive("op")
    op.def_impl(lambda x, factor: x * factor)
    op.def_examples(lambda: returned)
    with pytest.raises(BadCall) as raised:
        op.examples()
    assert text in str(raised.value)
    assert "test_primitive.py" in str(raised.value)
    assert "write:    return [(x, factor)]" in str(raised.value)


def test_an_array_is_no_list_of_examples_of_one_operand():
    op = double_of()
    op.def_examples(lambda: X)
    with pytest.raises(BadCall, match="no list"):
        op.examples()
    op.def_examples(lambda: (X, X))
    assert len(op.examples()) == 2


def test_derive_chooses_another_derivation(call):
    """The VJP is deliberately not the derivative; the JVP comes from it, unless the impl is chosen."""
    op = Primitive("op")
    op.def_impl(lambda x: x * x)
    op.def_vjp(lambda primals: (op(*primals), lambda y_bar: 100.0 * y_bar))
    forward = lambda x: jax.jvp(op, (x,), (1.0,))[1]
    assert float(call(forward)(3.0)) == 100.0
    op.derive(jvp="impl")
    assert float(call(forward)(3.0)) == 6.0
    assert float(call(jax.grad(op))(3.0)) == 100.0
    assert float(jax.vmap(forward)(jnp.array([3.0]))[0]) == 6.0
    op.derive(jvp="vjp")
    assert float(call(forward)(3.0)) == 100.0


def test_check_raises_with_the_finding():
    op = double_of()
    op.def_vjp(lambda primals: (op(*primals), lambda y_bar: 3 * y_bar))
    with pytest.raises(jaxprim.CheckFailed, match="vjp"):
        op.check(X, only="vjp-differences")
    op.def_vjp(lambda primals: (op(*primals), lambda y_bar: 2 * y_bar))
    assert op.check(X, only="vjp-differences").ok


# ------------------------------------------------------------------------------------------------------- memory and threads
def tables():
    from jaxprim._jax.tables import _tables, mlir

    return sum(map(len, [*_tables().values(), mlir._lowerings, *mlir._platform_specific_lowerings.values()]))


def make_and_use():
    op = double_of("dropped")
    op.def_kernel(lambda x: 2 * x, platform="tpu")
    op.def_jvp(lambda primals, tangents: (op(*primals), 2 * tangents[0]))
    op.def_vjp(lambda primals: (op(*primals), lambda y_bar: 2 * y_bar))
    return weakref.ref(op), weakref.ref(op._rules)


def test_a_thousand_primitives_made_and_dropped_leave_no_growing_tables():
    make_and_use()
    gc.collect()
    before = tables()
    for _ in range(1000):
        make_and_use()
    gc.collect()
    assert tables() <= before  # What other tests made may go meanwhile.


@pytest.mark.parametrize(
    "use",
    [
        lambda op: op(X),
        lambda op: op(X[0]),
        lambda op: jax.make_jaxpr(op)(X) and None,
        lambda op: jax.eval_shape(op, X),
        lambda op: jax.grad(lambda x: jnp.sum(op(x)))(X),
        lambda op: jax.jvp(op, (X,), (X,)),
        lambda op: jax.vmap(op)(X),
    ],
    ids=["eager", "0-d", "make_jaxpr", "eval_shape", "grad", "jvp", "vmap"],
)
def test_a_primitive_that_was_used_can_be_dropped(use):
    def make():
        op = double_of("dropped")
        op.def_jvp(lambda primals, tangents: (op(*primals), 2 * tangents[0]))
        op.def_vjp(lambda primals: (op(*primals), lambda y_bar: 2 * y_bar))
        use(op)
        return weakref.ref(op._rules)

    dropped = make()
    jax.clear_caches()
    gc.collect()
    assert dropped() is None


@pytest.mark.parametrize("wrap", [lambda fn: fn, jax.vmap], ids=["plain", "vmap"])
def test_residuals_of_an_eager_gradient_are_freed(wrap):
    op = double_of("residuals")
    op.def_vjp(lambda primals: (op(*primals), lambda y_bar: y_bar * primals[0]))
    kept = []

    def step(i):
        x = jnp.full((2, 3), float(i))
        kept.append(weakref.ref(x))
        return wrap(jax.grad(lambda x: jnp.sum(op(x))))(x)

    for i in range(3):
        step(i)
    gc.collect()
    assert not [ref for ref in kept if ref() is not None]


def test_static_params_that_never_repeat_do_not_grow_for_ever(monkeypatch):
    monkeypatch.setattr("jaxprim._calls.MOST_CALLS", 10)
    monkeypatch.setattr("jaxprim._eager.MOST_COMPILED", 10)
    op = Primitive("op")
    op.def_impl(lambda x, *, step: x + step)
    for step in range(30):
        jax.eval_shape(lambda x, step=step: op(x, step=step), 1.0)
        assert float(op(1.0, step=step)) == 1.0 + step
    assert len(op._rules.calls) <= 10
    assert len(op._rules.compiled) <= 10
    assert float(op(1.0, step=0)) == 1.0


def test_many_threads_at_once():
    """Applying and differentiating, while another thread redefines a rule of another op."""
    op, other = double_of(), double_of("other")
    op.def_jvp(lambda primals, tangents: (op(*primals), 2 * tangents[0]))
    op.def_vjp(lambda primals: (op(*primals), lambda y_bar: 2 * y_bar))
    wrong, start = [], threading.Barrier(9)

    def work(index):
        start.wait()
        x = jnp.ones(index % 3 + 1)
        for fn, expected in [
            (op, 2.0),
            (jax.jit(op), 2.0),
            (lambda x: jax.grad(lambda x: jnp.sum(op(x)))(x), 2.0),
            (jax.jit(jax.grad(lambda x: jnp.sum(op(x)))), 2.0),
            (lambda x: jax.jvp(op, (x,), (x,))[1], 2.0),
            (jax.vmap(op), 2.0),
        ]:
            try:
                np.testing.assert_allclose(fn(x), expected)
            except BaseException as error:  # noqa: BLE001 an error in a thread must fail the test
                wrong.append(error)

    def redefine():
        start.wait()
        for factor in range(20):
            other.def_impl(lambda x, factor=factor: factor * x)
            other(1.0)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)] + [threading.Thread(target=redefine)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_first_call_from_several_threads():
    for _ in range(5):
        op = double_of()
        out, start = [], threading.Barrier(4)
        run = lambda op=op, out=out, start=start: (start.wait(), out.append(float(op(1.0))))
        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert out == [2.0] * 4


# --------------------------------------------------------------------------------------------------- settings of JAX, odd moments
SETTINGS = {
    "disable_jit": lambda: jax.disable_jit(),
    "enable_checks": lambda: jax.enable_checks(True),
    "checking_leaks": lambda: jax.checking_leaks(),
    "debug_nans": lambda: jax.debug_nans(True),
    "standard promotion": lambda: jax.numpy_dtype_promotion("standard"),
    "matmul precision": lambda: jax.default_matmul_precision("float32"),
    "transfer guard": lambda: jax.transfer_guard("allow"),
    "compile-time eval": lambda: jax.ensure_compile_time_eval(),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_under_the_settings_of_jax(setting):
    op = double_of()
    op.def_jvp(lambda primals, tangents: (op(*primals), 2 * tangents[0]))
    op.def_vjp(lambda primals: (op(*primals), lambda y_bar: 2 * y_bar))
    with SETTINGS[setting]():
        np.testing.assert_allclose(op(X), 2 * X)
        np.testing.assert_allclose(jax.jit(op)(X), 2 * X)
        np.testing.assert_allclose(jax.grad(lambda x: jnp.sum(op(x)))(X), jnp.full(3, 2.0))
        np.testing.assert_allclose(jax.jvp(op, (X,), (X,))[1], 2 * X)
        np.testing.assert_allclose(jax.vmap(op)(X), 2 * X)


def test_compile_time_eval_inside_jit():
    op = double_of()

    @jax.jit
    def fn(x):
        with jax.ensure_compile_time_eval():
            constant = op(jnp.float32(3.0))
            assert float(constant) == 6.0
        return x * constant

    assert float(fn(1.0)) == 6.0


def test_an_error_in_the_implementation_leaves_nothing_behind():
    op = Primitive("op")
    fail = [True]

    @op.def_impl
    def _(x):
        if fail[0]:
            raise RuntimeError("not yet")
        return x

    for call in (op, jax.jit(op)):
        fail[0] = True
        with pytest.raises(RuntimeError, match="not yet"):
            call(1.0)
        fail[0] = False
        assert float(call(1.0)) == 1.0


def test_an_impl_that_calls_itself_on_smaller_operands():
    op = Primitive("sum_of_squares")

    @op.def_impl
    def _(x):
        return x[0] ** 2 if x.shape[0] == 1 else x[0] ** 2 + op(x[1:])

    assert float(op(X)) == 14.0
    np.testing.assert_allclose(jax.jit(jax.grad(op))(X), 2 * X)


def test_user_errors_are_of_the_class_that_python_code_expects():
    op = double_of()
    with pytest.raises(TypeError):
        op()
    assert issubclass(BadCall, TypeError)
    assert issubclass(RuleWrong, TypeError)
    assert issubclass(jaxprim.RuleMissing, NotImplementedError)
    assert issubclass(jaxprim.HostError, RuntimeError)
    assert issubclass(jaxprim.CheckFailed, AssertionError)
    assert all(
        issubclass(c, jaxprim.JaxprimError) for c in (BadCall, RuleWrong, jaxprim.RuleMissing, jaxprim.HostError)
    )
