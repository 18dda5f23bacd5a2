"""`jaxprim.record_rules` says which rule ran, where it was written, and how often."""

from __future__ import annotations

import contextlib
import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprim
from jaxprim import Primitive

X = jnp.array([1.0, 2.0, 3.0])


def both_rules():
    op = Primitive("op")
    op.def_impl(lambda x: 2 * x)
    op.def_jvp(lambda primals, tangents: (op(*primals), 2 * tangents[0]))
    op.def_vjp(lambda primals: (op(*primals), lambda y_bar: 2 * y_bar))
    return op


def names(record):
    return {rule for _, rule, _ in record.counts}


@pytest.mark.parametrize("call", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_forward_mode_runs_the_jvp_rule_and_reverse_mode_the_vjp_rule(call):
    op = both_rules()
    with jaxprim.record_rules(quiet=True) as forward:
        call(lambda x: jax.jvp(op, (x,), (x,)))(X)
    with jaxprim.record_rules(quiet=True) as reverse:
        call(jax.grad(lambda x: jnp.sum(op(x))))(X)
    assert "jvp" in names(forward)
    assert not any(name.startswith("vjp") for name in names(forward))
    assert "vjp" in names(reverse)
    assert "jvp" not in names(reverse)


def test_the_place_is_the_author_s():
    op = both_rules()
    with jaxprim.record_rules(quiet=True) as record:
        jax.grad(lambda x: jnp.sum(op(x)))(X)
    places = {origin for name, rule, origin in record.counts if rule == "vjp"}
    assert all("test_record.py:" in place for place in places)


def test_a_host_function_counts_every_time_it_runs():
    op = Primitive("host")
    op.def_host(lambda x: 2 * x)
    op.def_abstract_eval(lambda x: x)
    fn = jax.jit(op)
    with jaxprim.record_rules(quiet=True) as record:
        for _ in range(3):
            jax.block_until_ready(fn(X))
        op(X)
    assert sum(n for (_, rule, _), n in record.counts.items() if rule == "host") == 4


def test_it_prints_a_table_at_the_end():
    op, out = both_rules(), io.StringIO()
    with jaxprim.record_rules(file=out):
        jax.jvp(op, (X,), (X,))
    header, *rows = out.getvalue().splitlines()
    assert header.split() == ["primitive", "rule", "where", "times"]
    assert any(row.split()[:2] == ["op", "jvp"] for row in rows)


def test_nothing_used():
    out = io.StringIO()
    with jaxprim.record_rules(file=out) as record:
        np.ones(3)
    assert not record.counts
    assert out.getvalue().strip() == "no rule of a jaxprim primitive was used"


def test_it_prints_to_standard_output(capsys):
    with jaxprim.record_rules():
        pass
    assert "no rule" in capsys.readouterr().out


def test_blocks_nest_and_end_with_an_error():
    op = both_rules()
    with jaxprim.record_rules(quiet=True) as outer:
        with jaxprim.record_rules(quiet=True) as inner, contextlib.suppress(RuntimeError):
            jax.jvp(op, (X,), (X,))
            raise RuntimeError
        jax.grad(lambda x: jnp.sum(op(x)))(X)
    assert "vjp" in names(outer) - names(inner)
    before = dict(outer.counts)
    jax.jvp(op, (X,), (X,))
    assert dict(outer.counts) == before
