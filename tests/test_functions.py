"""Function operands. The truth is a closed form, or JAX's derivative of the same composition written inline."""

from __future__ import annotations

import functools
import gc
import warnings

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import jaxprim
from jaxprim import Primitive, _hoisting, function

THETA = jnp.float32(3)
THETAS = jnp.array([1.0, 4.0, 9.0])


def newton(f, x0):
    step = lambda state: (state[0] - f(state[0]) / jax.grad(f)(state[0]), state[1] + 1)
    return jax.lax.while_loop(lambda state: state[1] < 30, step, (x0, 0))[0]


def root_of(name="root"):
    """y with f(y) = 0."""
    root = Primitive(name)
    root.def_function("f", lambda f, x0: (x0,))
    root.def_impl(newton)
    root.def_implicit(lambda y, f, x0: f(y), solve="diagonal")
    return root


def twice_of(rules=()):
    """f(f(x)), with JAX's derivatives or with rules."""
    twice = Primitive("twice")
    twice.def_impl(lambda f, x: f(f(x)))
    twice.def_function("f", lambda f, x: (x,))
    ran = []
    if "vjp" in rules:

        @twice.def_vjp
        def _(primals):
            ran.append("vjp")
            return twice(*primals), jax.vjp(lambda f, x: f(f(x)), *primals)[1]

    if "jvp" in rules:

        @twice.def_jvp
        def _(primals, tangents):
            ran.append("jvp")
            zero = lambda x, dot: jnp.zeros_like(x) if isinstance(dot, jaxprim.Zero) else dot
            dots = jax.tree.map(zero, primals, tangents, is_leaf=lambda dot: isinstance(dot, jaxprim.Zero))
            return twice(*primals), jax.jvp(lambda f, x: f(f(x)), primals, dots)[1]

    return twice, ran


ROOT = root_of()
close = functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-5)


def sqrt(theta):
    return ROOT(lambda y: y * y - theta, 1.0)


# y = sqrt(theta), y' = 1 / (2 sqrt(theta)), y'' = -1 / (4 theta^(3/2))
FIRST, SECOND = 0.5 / np.sqrt(3.0), -0.25 / 3.0**1.5
PROGRAMS = {
    "value": (lambda t: sqrt(t), np.sqrt(3.0)),
    "grad": (jax.grad(sqrt), FIRST),
    "jvp": (lambda t: jax.jvp(sqrt, (t,), (jnp.float32(2),))[1], 2 * FIRST),
    "linearize": (lambda t: jax.linearize(sqrt, t)[1](jnp.float32(2)), 2 * FIRST),
    "forward over reverse": (jax.jacfwd(jax.jacrev(sqrt)), SECOND),
    "reverse over forward": (jax.jacrev(jax.jacfwd(sqrt)), SECOND),
    "forward over forward": (jax.jacfwd(jax.jacfwd(sqrt)), SECOND),
    "reverse over reverse": (jax.jacrev(jax.jacrev(sqrt)), SECOND),
    "vmap of grad": (lambda t: jax.vmap(jax.grad(sqrt))(t * THETAS), 0.5 / np.sqrt(3.0 * np.array(THETAS))),
    "grad of vmap": (jax.grad(lambda t: jnp.sum(jax.vmap(sqrt)(t * THETAS))), FIRST * 6),
    "grad of scan of checkpoint": (
        jax.grad(
            lambda t: jnp.sum(
                jax.lax.scan(jax.checkpoint(lambda c, x: (c, ROOT(lambda y: y * y - c * x, 1.0))), t, THETAS)[1]
            )
        ),
        FIRST * 6,
    ),
    "grad of cond": (jax.grad(lambda t: jax.lax.cond(t > 0, lambda: sqrt(t), lambda: t)), FIRST),
    "jvp of while": (
        lambda t: jax.jvp(
            lambda t: jax.lax.while_loop(
                lambda c: c[1] < 2, lambda c: (ROOT(lambda y: y * y - t * c[0], 1.0), c[1] + 1), (t, 0)
            )[0],
            (t,),
            (jnp.float32(1),),
        )[1],
        1.0,  # sqrt(t sqrt(t t)) = t
    ),
    # The inner y solves y^2 = z, and the outer z solves sqrt(z) = t, so z = t^2.
    "a root in a root": (jax.grad(lambda t: ROOT(lambda z: ROOT(lambda y: y * y - z, 1.0) - t, 2.0)), 6.0),
    "its second derivative": (jax.hessian(lambda t: ROOT(lambda z: ROOT(lambda y: y * y - z, 1.0) - t, 2.0)), 2.0),
    "grad in the start": (lambda t: jax.grad(lambda x0: ROOT(lambda y: y * y - t, x0))(t), 0.0),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_root(name: str):
    fn, expected = PROGRAMS[name]
    close(fn(THETA), expected)
    close(jax.jit(fn)(THETA), expected)


def test_key_integer_and_boolean():
    def fn(theta, key, count, negate):
        return ROOT(lambda y: y * y - jnp.where(negate, 1.0, theta) * count * jax.random.uniform(key), jnp.float32(1))

    args = (THETA, jax.random.key(0), 2, False)
    drawn = 2 * float(jax.random.uniform(jax.random.key(0)))
    for call in (fn, jax.jit(fn)):
        close(call(*args), np.sqrt(3 * drawn))
        close(jax.grad(call)(*args), 0.5 * np.sqrt(drawn / 3))


def test_no_leak():
    with jax.checking_leaks():
        loss = lambda t: jax.lax.scan(lambda c, x: (ROOT(lambda y: y * y - c * x, 1.0), None), t, THETAS)[0]
        jax.jit(jax.grad(loss))(THETA)
        jax.grad(loss)(THETA)


# -------------------------------------------------------------------------------------------------------------- modules
@jax.tree_util.register_pytree_node_class
class Layer:
    def __init__(self, w, b):
        self.w, self.b = w, b

    def tree_flatten(self):
        return (self.w, self.b), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)

    def __call__(self, x):
        return jnp.tanh(self.w @ x + self.b)

    def scaled(self, factor, x):
        return factor * self(x)


W, B = jnp.array([[0.3, -0.2], [0.1, 0.4]]), jnp.array([0.5, -0.1])
X = jnp.array([0.2, 0.7])
SCALE = jaxprim.primitive(lambda x, factor: jnp.sin(x * factor))
CALLABLES = {
    "module": lambda layer: layer,
    "bound method": lambda layer: functools.partial(layer.scaled, jnp.float32(2)),
    "lambda": lambda layer: lambda x: layer(x) * layer.b,
    "Partial": lambda layer: jax.tree_util.Partial(lambda layer, x: layer(x), layer),
    "jitted": lambda layer: jax.jit(lambda x: layer(x)),
    "primitive inside": lambda layer: lambda x: SCALE(x, layer.b),
    "hoisted": lambda layer: function(layer, X),
}


@pytest.mark.parametrize("rules", [(), ("vjp",), ("jvp",), ("jvp", "vjp")], ids=lambda rules: "+".join(rules) or "none")
@pytest.mark.parametrize("name", CALLABLES)
def test_callable(name: str, rules: tuple[str, ...]):
    """Gradients arrive in the module that is differentiated, by the rule of that mode."""
    twice, ran = twice_of(rules)
    make = CALLABLES[name]
    ours = lambda layer: jnp.sum(twice(make(layer), X) ** 2)
    plain = lambda layer: jnp.sum(make(layer)(make(layer)(X)) ** 2)
    layer, dot = Layer(W, B), Layer(2 * W, 3 * B)
    jax.tree.map(close, jax.jit(jax.grad(ours))(layer), jax.grad(plain)(layer))
    if rules:
        assert set(ran) == {"vjp" if "vjp" in rules else "jvp"}
    ran.clear()
    close(jax.jvp(ours, (layer,), (dot,))[1], jax.jvp(plain, (layer,), (dot,))[1])
    if rules:
        assert set(ran) <= {"jvp" if "jvp" in rules else "vjp"}


def test_second_order_of_a_rule():
    twice, _ = twice_of(("vjp",))
    # f(f(x)) with f(x) = a x^2 is a^3 x^4.
    close(jax.hessian(lambda a: twice(lambda x: a * x * x, 2.0))(THETA), 6 * 3 * 16)
    close(jax.vmap(jax.grad(lambda a: twice(lambda x: a * x * x, 2.0)))(THETAS), 3 * np.array(THETAS) ** 2 * 16)


def test_rule_per_operand():
    apply = Primitive("apply")
    apply.def_impl(lambda f, x: f(x))
    apply.def_function("f", lambda f, x: (x,))
    apply.def_vjp(
        x=lambda y_bar, y, f, x: 10 * y_bar * jax.grad(f)(x),
        f=lambda y_bar, y, f, x: jax.vjp(lambda f: f(x), f)[1](100 * y_bar)[0],
    )
    got = jax.jit(jax.grad(lambda a, x: apply(lambda y: a * y * y, x), (0, 1)))(THETA, jnp.float32(2))
    close(got, (100 * 4, 10 * 2 * 3 * 2))


def test_two_functions_called_in_several_ways():
    both = Primitive("both")
    both.def_impl(lambda f, g, x, *, n: f(x) + f(x, n * x) * g({"x": x})["y"])
    both.def_function("f", lambda f, g, x, *, n: [(x,), (x, n * x)])
    both.def_function("g", lambda f, g, x, *, n: ({"x": jax.ShapeDtypeStruct((), x.dtype)},))
    f = lambda *xs: THETA * sum(xs)
    ours = lambda a: both(lambda *xs: a * sum(xs), lambda d: {"y": d["x"] * a}, jnp.float32(2), n=3)
    # a x + a (x + 3 x) (a x) with x = 2
    close(jax.grad(ours)(THETA), 2 + 2 * 3 * 16)
    assert both.explain().rows[-2].rule == "function[f]"
    close(both(x=jnp.float32(2), g=lambda d: {"y": d["x"]}, f=f, n=3), 6 + 24 * 2)


def test_numbers_of_python():
    """An argument may be a number of Python, of the kind that was declared."""
    apply = Primitive("apply")
    apply.def_impl(lambda f, x: f(2.5) + x)
    apply.def_function("f", lambda f, x: (x,))
    close(apply(lambda y: 3 * y, 1.0), 8.5)
    with pytest.raises(jaxprim.RuleWrong, match="called with other arguments"):
        function(lambda y: y, 1)(2.5)


# --------------------------------------------------------------------------------------------------------- transformations
def test_function_as_an_argument():
    """A function is a pytree: jit, vmap and grad take it, and give it back."""
    twice, _ = twice_of()
    f = function(lambda x: THETA * x, 1.0)
    close(jax.jit(twice)(f, 2.0), 18)
    close(jax.grad(lambda f: twice(f, 2.0))(f).values[0], 12)
    fs = jax.vmap(lambda a: function(lambda x: a * x, 1.0))(THETAS)
    close(jax.vmap(twice, (0, None))(fs, 2.0), 2 * np.array(THETAS) ** 2)


@pytest.mark.parametrize("word", ["vmap", "sequential"])
def test_batching_word(word: str):
    square = Primitive("square", batching=word)
    square.def_impl(lambda f, x: f(x) ** 2)
    square.def_function("f", lambda f, x: (x,))
    got = jax.vmap(jax.grad(lambda a, x: square(lambda y: a * y, x)), (0, None))(THETAS, jnp.float32(2))
    close(got, 2 * np.array(THETAS) * 4)


def test_named_axis():
    twice, _ = twice_of()
    close(jax.vmap(lambda a: twice(lambda x: jax.lax.psum(a * x, "b"), a), axis_name="b")(jnp.arange(3.0)), 15)


@pytest.mark.parametrize("rules", [(), ("vjp", "jvp")], ids=["none", "both"])
@pytest.mark.parametrize("check_vma", [True, False])
def test_shard_map(check_vma: bool, rules: tuple[str, ...]):
    """What is closed over may vary over the mesh, or not, and so may the arguments."""
    twice, _ = twice_of(rules)
    mesh = jax.make_mesh((4,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    xs, one = jnp.arange(1.0, 5.0), jnp.ones(1)
    bodies = {
        "replicated closure": (lambda a, x: twice(lambda y: a * y * y, x), lambda a, x: a**3 * x**4),
        "varying closure": (lambda a, x: twice(lambda y: x * y * y, a * one), lambda a, x: x**3 * a**4),
        "both": (
            lambda a, x: twice(lambda y: jax.lax.scan(lambda c, _: (c * a * x, None), y, None, 2)[0], one),
            lambda a, x: (a * x) ** 4,
        ),
    }
    for body, plain in bodies.values():
        ours = jax.shard_map(body, mesh=mesh, in_specs=(P(), P("i")), out_specs=P("i"), check_vma=check_vma)
        close(jax.jit(ours)(THETA, xs), plain(THETA, xs))
        got = jax.jit(jax.grad(lambda a, x, ours=ours: jnp.sum(ours(a, x)), (0, 1)))(THETA, xs)
        jax.tree.map(close, got, jax.grad(lambda a, x, plain=plain: jnp.sum(plain(a, x)), (0, 1))(THETA, xs))


def test_explicit_mesh():
    """An argument that is split in another way than declared gives a result that is split."""
    twice, _ = twice_of()
    mesh = jax.make_mesh((4,), ("i",), axis_types=(jax.sharding.AxisType.Explicit,))
    with jax.set_mesh(mesh):
        xs = jax.device_put(jnp.arange(1.0, 5.0), jax.sharding.NamedSharding(mesh, P("i")))
        fn = lambda x: twice(lambda y: x * y * y, jnp.ones(4))
        assert jax.typeof(jax.jit(fn)(xs)).sharding.spec == P("i")
        close(jax.jit(jax.grad(lambda x: jnp.sum(fn(x))))(xs), 3 * np.arange(1.0, 5.0) ** 2)


def test_export():
    twice, _ = twice_of(("vjp",))
    exported = jax.export.export(jax.jit(jax.grad(lambda a: twice(lambda x: a * x, a))))(THETA)
    close(jax.export.deserialize(exported.serialize()).call(THETA), 27)


# ---------------------------------------------------------------------------------------------------------------- caching
@jax.custom_vjp
def doubled(y):
    return 2 * y


doubled.defvjp(lambda y: (doubled(y), None), lambda _, y_bar: (FACTOR * y_bar,))
FACTOR = 2.0


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def times(factor, y):
    return factor * y


@times.defjvp
def _(factor, primals, tangents):
    return times(factor, *primals), 10 * factor * tangents[0]


def in_a_loop(c, y):
    return jax.lax.scan(lambda carry, _: (carry * c, None), y, None, 2)[0]


SAME_CODE = {
    "arithmetic": lambda t: lambda y: y * y - t,
    "relu": lambda t: lambda y: jax.nn.relu(y) + y - t,
    "custom_vjp": lambda t: lambda y: doubled(y) + y - t,
    "custom_jvp with a static argument": lambda t: lambda y: times(2, y) - t,
    "loop": lambda t: lambda y: in_a_loop(t, y) - 1.0,
    "condition": lambda t: lambda y: jax.lax.cond(t > 0, lambda: y, lambda: 2 * y) - t,
    "primitive": lambda t: lambda y: ROOT(lambda z: z - y, y) - t,
    "gradient": lambda t: lambda y: jax.grad(lambda y: t * y**2)(y) - 1.0,
    "linear algebra": lambda t: lambda y: jnp.linalg.solve(jnp.eye(2) * t, jnp.ones(2) * y)[0] - 1.0,
}


@pytest.fixture(name="compiled")
def _compiled():
    """What was compiled since the last look."""
    seen = []

    def note(event, *_, **__):
        if "backend_compile" in event:
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    yield lambda: (len(seen), seen.clear())[0]
    jax.monitoring.unregister_event_duration_listener(note)


@pytest.mark.parametrize("name", SAME_CODE)
def test_same_code_compiles_once(name: str, compiled):
    twice, _ = twice_of()
    is_loop = name in ("loop", "condition")  # which JAX itself compiles anew in each eager gradient
    make = SAME_CODE[name]
    ours = lambda t: twice(make(t), 1.0)
    thetas = [jnp.float32(k) for k in (1, 2, 3)]
    run = lambda t: (ours(t), None if is_loop else jax.grad(ours)(t))
    run(thetas[0])
    compiled()
    for theta in thetas[1:]:
        close(ours(theta), make(theta)(make(theta)(1.0)))
        compiled()
        run(theta)
        assert compiled() == 0


def test_what_may_change():
    """A function is traced at each call, so it reads what is there."""
    held, array = {"value": 2.0}, np.array([1.0, 2.0], "float32")
    number = 2.0
    readers = {
        "number": (lambda: sqrt(number), lambda: number),
        "dict": (lambda: sqrt(held["value"]), lambda: held["value"]),
        "NumPy array": (lambda: sqrt(array[1]), lambda: array[1]),
        "global": (lambda: sqrt(FACTOR), lambda: FACTOR),
    }
    for ours, plain in readers.values():
        close(ours(), np.sqrt(plain()))
    number = held["value"] = array[1] = 7.0
    for ours, plain in readers.values():
        close(ours(), np.sqrt(plain()))


def test_rule_inside_that_reads_a_global(monkeypatch):
    """The rule of a custom_vjp inside a function operand reads a global variable, which changes."""
    twice, _ = twice_of()
    gradient = lambda: jax.grad(lambda a: twice(lambda y: a * doubled(y), 1.0))(THETA)
    close(gradient(), 2 * 3 * 4)  # f(f(1)) = (2 a)^2
    monkeypatch.setitem(globals(), "FACTOR", 5.0)
    # f(y) = a d(y): its derivative in a is d(y), and in y it is a 5
    close(gradient(), doubled(3 * 2.0) + 3 * 5 * 2.0)


def test_static_argument_of_a_rule_inside():
    twice, _ = twice_of()
    for factor in (2, 3):
        close(jax.grad(lambda x, factor=factor: twice(lambda y: times(factor, y), x))(THETA), 100 * factor**2)


def test_many_programs_warn():
    twice, _ = twice_of()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number in range(12):
            twice(lambda y, number=number: y * number, 1.0)
    (found,) = caught
    assert str(found.message).split("\n")[0] == (
        "twice: operand 'f' was another program at each of 8 calls, and each was compiled."
    )
    assert "f = jaxprim.function(f, ...)  # once, outside of the loop; then twice(f, ...)" in str(found.message)


def test_nothing_is_kept():
    """Codes live as long as somebody holds them, and no value does."""
    codes = _hoisting._interned_codes
    twice, _ = twice_of()
    big = jnp.ones(1000)
    twice(lambda y: y * jnp.sum(big) * 123, 1.0)
    assert sum("<lambda>" in repr(code) for code in codes.values()) > 0
    before = len(codes)
    del twice
    jax.clear_caches()
    gc.collect()
    assert len(codes) < before


# ---------------------------------------------------------------------------------------------------------------- checking
def test_check():
    twice, _ = twice_of(("vjp", "jvp"))
    report = twice.report(lambda y: jnp.sin(THETA * y), X, only=["jvp-differences", "vjp-differences", "which-rule"])
    assert [finding.status for finding in report.findings] == ["pass"] * 3
    twice.def_vjp(lambda primals: (twice(*primals), lambda ct: jax.vjp(lambda f, x: f(x), *primals)[1](ct)))
    (finding,) = twice.report(lambda y: jnp.sin(THETA * y), X, only="vjp-differences").findings
    assert finding.status == "fail"
    assert "f.values[0]" in str(finding)


def test_check_finds_a_wrong_equation_at_a_number_of_python():
    root = root_of()
    root.def_implicit(lambda y, f, x0: 2 * y - f(y), solve="diagonal")
    (finding,) = root.report(lambda y: y * y - THETA, 2.0, only="equation").findings
    assert finding.status == "fail"
    assert "zero: the residual at the result" in str(finding)
