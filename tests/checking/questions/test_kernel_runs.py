from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import Primitive
from jaxprim.checking.answers import NotAsked
from jaxprim.checking.case import Case
from jaxprim.checking.questions import kernel_runs
from jaxprim.checking.reports.report import Evidence
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


def test_the_runs_are_those_that_the_function_itself_counts():
    runs = []
    found = [e for e in kernel_runs.kernel_runs(case(host_sine(runs), X)) if isinstance(e, Evidence)]
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
    plain = kernel_runs._runs
    monkeypatch.setattr(kernel_runs, "_runs", lambda *args: 2 * plain(*args))
    bad = [e for e in kernel_runs.kernel_runs(case(host_sine(), X)) if isinstance(e, Evidence) and not e.ok]
    assert next((e.got, e.expected) for e in bad) == ("2 times", "once")


def test_other_kernels_are_not_counted():
    made = host_sine()
    made.def_kernel(jnp.sin, platform="cpu")
    for fn, why in ((jnp.sin, "only the runs of a host function"), (made, "another implementation does")):
        with pytest.raises(NotAsked, match=why):
            list(kernel_runs.kernel_runs(case(fn, X)))
