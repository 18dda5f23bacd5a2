"""Set-ups of host functions: found by their operands, shared by all that calls, and never by two calls at once."""

from __future__ import annotations

import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import lu_factor, lu_solve

from jaxprim import BadCall, Primitive


def solver(make=lu_factor, most=16):
    p = Primitive("system")
    p.def_host(lambda factors, a, b, *, trans=0: lu_solve(factors, b, trans=trans), keep=make, of="a", most=most)
    p.def_abstract_eval(lambda a, b, *, trans=0: b)

    @p.def_vjp
    def _(primals, *, trans):
        a, b = primals
        x = p(a, b, trans=trans)

        def pullback(x_bar):
            u = p(a, x_bar, trans=1 - trans)
            return -jnp.outer(u, x) if not trans else -jnp.outer(x, u), u

        return x, pullback

    return p


A = np.array([[4.0, 1.0, 0.0], [2.0, 3.0, 1.0], [0.0, 1.0, 5.0]], np.float32)
B = np.array([1.0, 2.0, 3.0], np.float32)


def test_value_and_derivatives_share_a_factorization():
    p = solver()
    loss = lambda a, b: jnp.sum(p(a, b) ** 2)
    a_bar, b_bar = jax.jit(jax.grad(loss, (0, 1)))(A, B)
    x = np.linalg.solve(A, B)
    u = np.linalg.solve(A.T, 2 * x)
    np.testing.assert_allclose(b_bar, u, rtol=1e-5)
    np.testing.assert_allclose(a_bar, -np.outer(u, x), rtol=1e-5)
    assert p.kept() == (1, 1, 1)
    jax.block_until_ready(jax.lax.scan(lambda c, _: (p(A, c), None), B, None, length=10)[0])
    jax.block_until_ready(jax.vmap(p, (None, 0))(A, np.stack([B] * 4)))
    assert p.kept() == (1, 15, 1)
    jax.block_until_ready(jax.vmap(p, (0, None))(np.stack([A, 2 * A, 3 * A]), B))
    assert p.kept() == (3, 16, 3)
    p.forget()
    assert p.kept() == (3, 16, 0)
    assert "keeps lu_factor(a)" in p.explain()["host"].notes


def test_the_bytes_count():
    keys: list[tuple[int, ...]] = []
    p = Primitive("shaped")
    p.def_host(lambda made, x, y: y + np.float32(made), keep=lambda x: keys.append(x.shape) or float(x.size), of=("x",))
    p.def_abstract_eval(lambda x, y: y)
    zeros = np.zeros((2, 2), np.float32)
    for x in (zeros, -zeros, zeros.reshape(4, 1), zeros.astype(np.int32), zeros):
        p(x, B)
    assert p.kept() == (4, 1, 4)
    assert keys == [(2, 2), (2, 2), (4, 1), (2, 2)]


def test_a_set_up_may_refer_to_its_operands():
    p = Primitive("total")
    p.def_host(lambda made, x, y: y + made["x"].sum(), keep=lambda x: x, of="x")
    p.def_abstract_eval(lambda x, y: y)
    memory = np.ones(1040, np.float32)
    x = memory[-memory.ctypes.data % 64 // 4 :][:1000]  # JAX takes an array that begins there as it is
    for run in (p, jax.jit(p)):
        x[:] = 1
        first = x.copy()
        assert run({"x": x}, 1.0) == 1001
        x[:] = 5
        assert run({"x": first}, 1.0) == 1001
        assert run({"x": x}, 1.0) == 5001
    assert p.kept() == (2, 4, 2)


def test_static_params_are_a_part_of_it():
    p = Primitive("scaled")
    p.def_host(lambda made, x, *, n=1: x * np.float32(made), keep=lambda *, n: n, of="n")
    p.def_abstract_eval(lambda x, *, n=1: x)
    assert [float(p(np.float32(2), n=n)) for n in (1, 2, 1)] == [2.0, 4.0, 2.0]
    assert p.kept() == (2, 1, 2)


def test_at_most_so_many_and_none_that_failed():
    fails = [False]

    def make(a):
        if fails[0]:
            raise ValueError("no factors today")
        return lu_factor(a)

    p = solver(make, most=2)
    for k in range(1, 6):
        p(k * A, B)
    assert p.kept() == (5, 0, 2)
    p(5 * A, B)
    p(4 * A, B)
    p(1 * A, B)
    assert p.kept() == (6, 2, 2)
    fails[0] = True
    with pytest.raises(ValueError, match="no factors today"):
        p(7 * A, B)
    fails[0] = False
    np.testing.assert_allclose(p(7 * A, B), np.linalg.solve(7 * A, B), rtol=1e-5)
    assert p.kept() == (7, 2, 2)
    none = solver(most=0)
    none(A, B)
    none(A, B)
    assert none.kept() == (2, 0, 0)


def test_no_two_calls_have_one_at_the_same_time():
    p = Primitive("busy")
    both = threading.Barrier(2, timeout=20)

    @p.def_host(keep=lambda a: [False], of="a")
    def _(made, a, b, *, wait=False):
        assert not made[0]
        made[0] = True
        if wait:
            both.wait()
        made[0] = False
        return b

    p.def_abstract_eval(lambda a, b, *, wait=False: b)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: p(A, B, wait=True), range(2)))
        assert p.kept() == (2, 0, 2)
        list(pool.map(lambda _: p(A, B), range(60)))


def test_what_is_forgotten_while_in_use_does_not_come_back():
    p = solver(lambda a: p.forget() or lu_factor(a))
    np.testing.assert_allclose(p(A, B), np.linalg.solve(A, B), rtol=1e-5)
    assert p.kept() == (1, 0, 0)


def test_what_frees_a_set_up_may_ask_for_counts():
    alive: list[int] = []
    p = solver(lambda a: Factors(lu_factor(a), lambda: alive.append(p.kept().alive)), most=1)
    p(A, B)
    p(2 * A, B)  # no room for the first
    p.forget()
    assert alive == [1, 0]


class Factors(tuple):
    """LU factors that say when they are freed."""

    def __new__(cls, factors, gone):
        made = super().__new__(cls, factors)
        made.gone = gone
        return made

    def __del__(self):
        self.gone()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::RuntimeWarning")
def test_a_fork_makes_its_own():
    p = solver()
    p(A, B)
    set_ups = p._set_ups()
    with set_ups._lock:  # as another thread may have it
        child = os.fork()
        if child == 0:
            os._exit(0 if p.kept() == (0, 0, 0) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert p.kept() == (1, 0, 1)


def said(*args, **kwargs):
    with pytest.raises(BadCall) as caught:
        Primitive("system").def_host(*args, **kwargs)
    return re.sub(r"\S*(test_keeping\.py):\d+", r"\1:N", str(caught.value))


@pytest.mark.parametrize(
    ("options", "fn", "headline", "got", "expected"),
    [
        ({"of": "c"}, lambda made, a, b: b, "of= names what a set-up is made from.", "an operand 'c'", "some of a, b"),
        ({"of": ()}, lambda made, a, b: b, "of= names what a set-up is made from.", "none", "some of a, b"),
        ({"of": "a", "keep": 3}, lambda made, a: a, "keep= takes a function.", "an int", "a function of the operands in of="),
        ({"of": "a", "most": -1}, lambda made, a: a, "most= takes a number.", "-1", "how many set-ups are kept, 0 or more"),
        ({"of": "a"}, lambda: 0, "its host function has no argument for the set-up.", "()", "the set-up first"),
    ],
)  # fmt: skip
def test_messages(options, fn, headline, got, expected):
    assert (
        said(fn, **{"keep": lu_factor, **options})
        == f"""system: {headline}
  got:      {got}
  expected: {expected}
  rule:     test_keeping.py:N
  write:    system.def_host(fn, keep=make, of=("a",))  # fn(made, a, b), where made = make(a)"""
    )


@pytest.mark.parametrize(("options", "got"), [({"of": "a"}, "of='a'"), ({"most": 4}, "most=4")])
def test_options_of_keep_alone(options, got):
    assert (
        said(lambda a: a, **options)
        == f"""system: of= and most= have no meaning without keep=.
  got:      {got}
  expected: keep=, which makes a set-up
  rule:     test_keeping.py:N
  write:    system.def_host(fn, keep=make, of=("a",))  # fn(made, a, b), where made = make(a)"""
    )


def test_a_host_function_does_not_work_in_place():
    assert (
        said(lambda x: x, aliases={"y": "x"})
        == """system: a host function does not work in place.
  got:      aliases={'y': 'x'}
  expected: a host function that returns a new array
  why:      JAX copies what Python returns, so the copy that aliases= saves would be made all the same
  rule:     test_keeping.py:N
  write:    y = x.copy()  # then change y, and return it"""
    )
    assert said(aliases={"y": "x"}).startswith("system: a host function does not work in place.")


def test_a_host_function_that_keeps_none():
    p = Primitive("plain")
    p.def_host(lambda x: x)
    with pytest.raises(BadCall) as caught:
        p.kept()
    assert (
        re.sub(r"\S*(test_keeping\.py):\d+", r"\1:N", str(caught.value))
        == """plain: it keeps no set-ups.
  expected: a host function that was given with keep=
  defined:  test_keeping.py:N
  write:    plain.def_host(fn, keep=make, of=("a",))  # fn(made, a, b), where made = make(a)"""
    )
