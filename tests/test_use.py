"""`jaxprim.use` and `Primitive.use`: another implementation, for a block or a call."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import jaxprim
from jaxprim import BadCall, Primitive, use


@pytest.fixture
def p():
    made = Primitive("p")
    made.def_kernel(lambda x: x + 1, platform="cpu")
    made.def_impl(lambda x: x + 10)
    made.def_host(lambda x: x + x.dtype.type(100))
    made.def_jvp(lambda primals, tangents: (made(*primals), 3 * tangents[0]))
    return made


def test_inside_a_block(p):
    assert float(p(0.0)) == 1
    with use("impl"):
        assert float(p(0.0)) == 10
        with use("kernel"):
            assert float(p(0.0)) == 1
        with use("host", p):
            assert float(p(0.0)) == 100
        assert float(p(0.0)) == 10
    assert float(p(0.0)) == 1


def test_what_was_compiled_outside_obeys(p):
    compiled = jax.jit(lambda x: jax.vmap(p)(x))
    x = jnp.zeros(2)
    assert compiled(x).tolist() == [1, 1]
    for word, value in (("impl", 10), ("host", 100), ("kernel", 1)):
        with use(word):
            assert compiled(x).tolist() == [value, value]
    assert compiled(x).tolist() == [1, 1]


def test_a_block_inside_a_compiled_function(p):
    @jax.jit
    def f(x):
        with use("impl"):
            inside = p(x)
        return inside, p(x)

    assert [float(y) for y in f(0.0)] == [10, 1]


def test_under_scan_and_derivatives(p):
    with use("impl"):
        assert float(jax.lax.scan(lambda x, _: (p(x), None), 0.0, None, length=3)[0]) == 30
        assert [float(y) for y in jax.jit(lambda x: jax.jvp(p, (x,), (1.0,)))(0.0)] == [10, 3]
        assert float(jax.grad(p)(0.0)) == 3


def test_only_the_named_primitives(p):
    q = Primitive("q")
    q.def_kernel(lambda x: x + 1, platform="cpu")
    q.def_impl(lambda x: x + 10)
    with use("impl", q):
        assert (float(p(0.0)), float(q(0.0))) == (1, 10)


def test_one_that_lacks_it_keeps_its_own():
    q = Primitive("q")
    q.def_impl(lambda x: x + 10)
    with use("host"):
        assert float(q(0.0)) == 10


def test_one_call(p):
    assert float(p.use("impl")(0.0)) == 10
    assert jax.jit(jax.vmap(p.use("host")))(jnp.zeros(2)).tolist() == [100, 100]
    assert float(jax.grad(p.use("host"))(0.0)) == 3
    assert float(p(0.0)) == 1


def test_a_raw_lowering_gives_way_to_the_impl():
    from jaxprim import mlir

    q = Primitive("q")
    q.def_impl(lambda x: x + 10)
    q.def_lowering(mlir.lower_fun(lambda x: x + 1, multiple_results=False), platform="cpu")
    assert float(q(0.0)) == 1
    assert float(q.use("impl")(0.0)) == 10


def test_trace_shows_which_one_ran(p):
    with jaxprim.record_rules(quiet=True) as record:
        jax.jit(p.use("impl"))(0.0)
    assert [rule for _, rule, _ in record.counts] == ["impl"]


def test_unknown_words_and_what_is_not_there(p):
    with pytest.raises(BadCall, match="use got an unknown implementation"), use("gpu"):
        pass
    q = Primitive("q")
    q.def_impl(lambda x: x)
    with pytest.raises(BadCall, match="q: it has no host to use"):
        q.use("host")
