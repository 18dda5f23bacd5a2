from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import Primitive
from jaxprim.checking.case import Case
from jaxprim.checking.questions import cost
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.setting import NotAsked
from jaxprim.checking.subject import Subject

X = jnp.array([0.5, 1.0, -2.0])


def case(fn, *operands):
    return Case.of(Subject.of(fn), operands, {}, 0)


def host_sine(runs=None):
    made = Primitive("sine")

    @made.def_host
    def _(x):
        if runs is not None:
            runs.append(x.shape)
        return np.sin(x)

    made.def_abstract_eval(lambda x: x)
    made.def_jvp(lambda primals, tangents: (made(*primals), jnp.cos(primals[0]) * tangents[0]))
    return made


def said(question, it) -> str:
    return next(item.message for item in question(it) if isinstance(item, Evidence) and item.message)


def test_the_runs_are_those_that_the_function_itself_counts():
    runs = []
    found = [e for e in cost.kernel_runs(case(host_sine(runs), X)) if isinstance(e, Evidence)]
    assert all(e.ok for e in found)
    assert [(e.against, e.got) for e in found[1:]] == [
        ("a call", "once"),
        ("a call in jit", "once"),
        ("a branch of cond", "once"),
        ("two steps of scan", "2 times"),
    ]
    told = found[0].message
    assert told == "jvp: once; vjp: once; vjp of a checkpoint: once; vmap over 3: 3 times"
    batched = jax.jit(jax.vmap(host_sine(counted := [])))
    batched(jnp.stack([X] * 3))
    counted.clear()
    jax.block_until_ready(batched(jnp.stack([X] * 3)))
    assert len(counted) == 3


def test_a_kernel_that_runs_more_often_than_it_is_called_is_bad(monkeypatch):
    plain = cost._runs
    monkeypatch.setattr(cost, "_runs", lambda *args: 2 * plain(*args))
    bad = [e for e in cost.kernel_runs(case(host_sine(), X)) if isinstance(e, Evidence) and not e.ok]
    assert next((e.got, e.expected) for e in bad) == ("2 times", "once")


def test_other_kernels_are_not_counted():
    made = host_sine()
    made.def_kernel(jnp.sin, platform="cpu")
    for fn, why in ((jnp.sin, "only the runs of a host function"), (made, "another implementation does")):
        with pytest.raises(NotAsked, match=why):
            list(cost.kernel_runs(case(fn, X)))


def test_bytes_that_backward_does_not_read_are_told():
    @jax.custom_vjp
    def sine(x):
        return jnp.sin(x)

    sine.defvjp(lambda x: (jnp.sin(x), (x, jnp.sin(x), jnp.cos(x))), lambda kept, ct: (kept[2] * ct,))
    assert said(cost.residuals, case(sine, X)) == ("keeps 36 bytes, 12 of them in operands; 24 bytes are never read")
    assert said(cost.residuals, case(jnp.sin, X)) == (
        "keeps 12 bytes, 0 of them in operands; the backward pass reads all"
    )
    assert said(cost.residuals, case(lambda x, y: x * y, X, X)) == (
        "keeps 24 bytes, 24 of them in operands; the backward pass reads all"
    )
