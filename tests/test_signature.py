"""Which arguments are operands and which are static params; names and defaults."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import BadCall, Primitive, primitive
from jaxprim._rules import rules_of
from jaxprim._signature import CallSignature


def bind(fn, *args, **kwargs):
    return CallSignature.of(fn).bind("p", args, kwargs)


def test_positional_arguments_are_operands_and_keyword_only_ones_params():
    def fn(x, y, *, a, b=2):
        pass

    assert bind(fn, 1, 2, a=3) == ((1, 2), {"a": 3, "b": 2})


def test_an_operand_may_be_given_by_its_name():
    def fn(x, y, z=5, *, a=0):
        pass

    assert bind(fn, 1, z=3, y=2) == ((1, 2, 3), {"a": 0})
    assert bind(fn, y=2, x=1) == ((1, 2, 5), {"a": 0})


def test_variadic_operands():
    def fn(x, *rest, a=1):
        pass

    assert bind(fn, 1, 2, 3, a=4) == ((1, 2, 3), {"a": 4})
    assert bind(fn, x=1) == ((1,), {"a": 1})
    assert CallSignature.of(fn).names(3) == ("x", "rest[0]", "rest[1]")


def test_any_params():
    def fn(x, **options):
        pass

    assert bind(fn, 1, a=2, b=3) == ((1,), {"a": 2, "b": 3})


def test_positional_only_operands():
    def fn(x, y, /, *, a=1):
        pass

    assert bind(fn, 1, 2) == ((1, 2), {"a": 1})


def test_partial_and_callable_objects():
    class Op:
        def __call__(self, x, *, a=1):
            return x

    assert bind(functools.partial(lambda x, y, *, a: x, a=7), 1, 2) == ((1, 2), {"a": 7})
    assert bind(Op(), 1) == ((1,), {"a": 1})


def test_a_function_without_a_signature_takes_any_operands():
    found = CallSignature.of(dict.fromkeys)
    assert found.bind("p", (1, 2), {})[0] == (1, 2)


@pytest.mark.parametrize(
    "wrong",
    [lambda p: p(), lambda p: p(1.0, 2.0), lambda p: p(1.0, b=2), lambda p: p(1.0, x=1.0, a=1), lambda p: p(1.0)],
    ids=["missing operand", "too many", "unknown keyword", "twice", "missing param"],
)
def test_calls_that_do_not_fit(wrong):
    p = Primitive("p")
    p.def_impl(lambda x, *, a: x)
    with pytest.raises(BadCall):
        wrong(p)


# ------------------------------------------------------------------------------------------------------- on a primitive
@pytest.mark.parametrize("call", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_calls_on_a_primitive(call):
    scale = Primitive("scale")
    scale.def_impl(lambda x, factor=10.0, *, power=1: x * factor**power)
    x = jnp.arange(3.0)
    for fn, expected in [
        (lambda x: scale(x), 10),
        (lambda x: scale(x, 2.0), 2),
        (lambda x: scale(x, factor=2.0), 2),
        (lambda x: scale(factor=2.0, x=x, power=3), 8),
        (lambda x: scale.bind(x, factor=3.0), 3),
        (lambda x: scale(x, power=2), 100),
    ]:
        np.testing.assert_allclose(call(fn)(x), x * expected)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_variadic_operands_are_differentiated(n):
    total = Primitive("total")
    total.def_impl(lambda *xs: sum(i * x for i, x in enumerate(xs)))

    @total.def_vjp
    def _(primals):
        return total(*primals), lambda y_bar: tuple(float(i) * y_bar for i in range(len(primals)))

    xs = [jnp.float32(i + 1) for i in range(n)]
    assert float(total(*xs)) == sum(i * (i + 1) for i in range(n))
    grads = jax.grad(total, argnums=tuple(range(n)))(*xs)
    assert [float(g) for g in grads] == list(range(n))
    np.testing.assert_allclose(jax.vmap(total)(*[jnp.ones(2)] * n), sum(range(n)))


def test_rules_get_every_param_with_defaults():
    seen = {}
    p = Primitive("p")
    p.def_impl(lambda x, *, a=1, b=2: seen.setdefault("impl", (a, b)) and x)

    @p.def_jvp
    def _(primals, tangents, *, a, b):
        seen["jvp"] = a, b
        return p(*primals, a=a, b=b), tangents[0]

    @p.def_vjp
    def _(primals, **params):
        seen["vjp"] = params["a"], params["b"]
        return p(*primals, **params), lambda y_bar: y_bar

    @p.def_batching
    def _(axis, args, dims, a, b):
        seen["batching"] = a, b
        return args[0], dims[0]

    jax.jvp(lambda x: p(x, b=5), (1.0,), (1.0,))
    jax.grad(lambda x: p(x, b=5))(1.0)
    jax.vmap(lambda x: p(x, b=5))(jnp.ones(2))
    assert set(seen.values()) == {(1, 5)}
    assert set(seen) == {"impl", "jvp", "vjp", "batching"}


def test_params_of_any_name_do_not_clash_with_jax_s_own():
    p = Primitive("p")
    p.def_impl(lambda x, **params: x * sum(params.values()))
    names = ["call", "levels", "map", "axis", "name", "self", "rules", "kind", "author", "params", "args", "perturbed"]
    params = dict.fromkeys(names, 1)

    @p.def_jvp
    def _(primals, tangents, **params):
        return p(*primals, **params), tangents[0] * sum(params.values())

    @p.def_vjp
    def _(primals, **params):
        return p(*primals, **params), lambda y_bar: y_bar * sum(params.values())

    f = jax.vmap(lambda x: p(x, **params))
    for fn in (f, jax.jit(f), jax.jit(jax.grad(lambda x: jnp.sum(f(x)))), lambda x: jax.jvp(f, (x,), (x,))[1]):
        np.testing.assert_allclose(fn(jnp.ones(2)), len(names))
    assert float(p(1.0, **params)) == len(names)


def test_a_later_definition_matches_by_position():
    p = Primitive("p")
    p.def_kernel(lambda left, right: left - right, platform="cpu")
    p.def_impl(lambda x, y: x - y)
    p.def_abstract_eval(lambda a, b: a)
    assert rules_of(p).signature.names(2) == ("x", "y")
    assert float(p(y=1.0, x=3.0)) == 2.0


def test_names_come_from_the_first_implementation_there_is():
    p = Primitive("p")
    p.def_abstract_eval(lambda a: a)
    assert rules_of(p).signature.names(1) == ("a",)
    p.def_kernel(lambda k: k, platform="cpu")
    assert rules_of(p).signature.names(1) == ("k",)
    p.def_host(lambda h: h)
    assert rules_of(p).signature.names(1) == ("h",)
    p.def_impl(lambda i: i)
    assert rules_of(p).signature.names(1) == ("i",)


# --------------------------------------------------------------------------------------------------- what an impl may be
@pytest.mark.parametrize("call", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize(
    ("fn", "options"),
    [
        (jax.nn.softmax, {"axis": 0}),
        (jnp.sum, {"keepdims": True}),
        (jnp.linalg.norm, {}),
        (jax.nn.gelu, {"approximate": False}),
        (jax.scipy.special.logsumexp, {"keepdims": True}),
        (jnp.cumsum, {}),
        (functools.partial(jax.nn.softmax, axis=-1), {}),
    ],
    ids=["softmax", "sum", "norm", "gelu", "logsumexp", "cumsum", "partial"],
)
def test_functions_of_jax_keep_their_own_defaults(fn, options, call):
    """Their optional arguments are no operands, and are static where they are given by name."""
    op = Primitive("op")
    op.def_impl(fn)
    x = jnp.arange(1.0, 4.0)
    for given in ({}, options):
        same = lambda way: np.testing.assert_allclose(call(way(op))(x), way(fn)(x), rtol=1e-5, atol=1e-6)
        same(lambda f: lambda x: f(x, **given))  # noqa: B023
        same(lambda f: jax.jacrev(lambda x: f(x, **given)))  # noqa: B023


def test_rules_of_a_function_of_jax_get_the_options_that_are_given():
    seen = []
    op = Primitive("softmax")
    op.def_impl(jax.nn.softmax)

    @op.def_jvp
    def _(primals, tangents, **params):
        seen.append(params)
        y = op(*primals, **params)
        (x_dot,) = tangents
        return y, y * (x_dot - jnp.sum(y * x_dot, keepdims=True))

    x = jnp.arange(3.0)
    want = jax.jacfwd(jax.nn.softmax)(x)
    np.testing.assert_allclose(jax.jacfwd(op)(x), want, rtol=1e-5)
    np.testing.assert_allclose(jax.jacfwd(lambda x: op(x, axis=-1))(x), want, rtol=1e-5)
    assert seen == [{}, {"axis": -1}]
    with pytest.raises(BadCall, match="pass axis, where by keyword"):
        op(x, 0)
    with pytest.raises(BadCall, match="Did you mean 'axis'"):
        op(x, axes=0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Scaled:
    w: jax.Array

    @primitive
    def times(self, x):
        return self.w * x

    def plain(self, x):
        return self.w * x

    by_definition = Primitive("by_definition")

    @by_definition.def_impl
    def _(self, x):
        return self.w * x


@pytest.mark.parametrize("call", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_methods(call):
    scaled, x = Scaled(jnp.float32(2)), jnp.float32(3)
    bound = Primitive("bound")
    bound.def_impl(scaled.plain)
    for op in (
        scaled.times,
        scaled.by_definition,
        bound,
        primitive(scaled.plain),
        functools.partial(Scaled.times, scaled),
    ):
        assert float(call(op)(x)) == 6.0
        assert float(call(jax.grad(op))(x)) == 2.0
    assert float(call(jax.grad(lambda s: s.times(x)))(scaled).w) == 3.0
    with pytest.raises(BadCall, match="operand 'self' is not an array"):
        Scaled.times(object(), x)


def test_a_primitive_in_a_class_is_no_method_without_self():
    class Holder:
        double = primitive(lambda x: 2 * x)
        empty = Primitive("empty")

    assert float(Holder().double(3.0)) == 6.0
    assert Holder().empty is Holder.empty
