from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import Primitive
from jaxprim.checking.answers import NotAsked, Note
from jaxprim.checking.case import Case
from jaxprim.checking.questions.explicit_mesh import explicit_mesh
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.subject import Subject

X = jnp.arange(1.0, 5.0)


def case(fn, *operands):
    return Case.of(Subject.of(fn), operands, {}, 0)


def test_values_rules_and_the_promised_sharding():
    found = [e for e in explicit_mesh(case(lambda x, f: x * f, X, 2.0)) if isinstance(e, Evidence)]
    assert all(e.ok for e in found)
    assert [(e.rule, e.leaf) for e in found] == [
        ("abstract eval", "result"),
        ("impl", "result"),
        ("jvp", "tangent of result"),
        ("vjp", "cotangent of x"),
        ("vjp", "cotangent of f"),
    ]
    assert found[0].got == "(devices)"


def test_a_host_function_is_asked_if_it_has_a_sharding_rule():
    made = Primitive("sine")
    made.def_host(lambda x: np.sin(x))
    made.def_abstract_eval(lambda x: x)
    made.def_jvp(lambda primals, tangents: (made(*primals), jnp.cos(primals[0]) * tangents[0]))
    with pytest.raises(NotAsked, match="sine: operand 'x' is split along an axis that it needs whole"):
        list(explicit_mesh(case(made, X)))
    made.def_sharding("n -> n")
    found = [e for e in explicit_mesh(case(made, X)) if isinstance(e, Evidence)]
    assert all(e.ok for e in found)
    assert {e.rule for e in found} == {"abstract eval", "impl", "jvp", "vjp"}


def test_what_jax_does_not_shard_is_not_asked_and_a_rule_alone_is_told():
    with pytest.raises(NotAsked, match="does not accept operands with explicit shardings: "):
        list(explicit_mesh(case(lambda x: jnp.cumsum(x), X)))
    made = Primitive("twice")
    made.def_impl(lambda x: 2 * x)
    made.def_jvp(lambda primals, tangents: (made(*primals), jnp.diff(jnp.cumsum(2 * tangents[0]), prepend=0.0)))
    told = [item.text for item in explicit_mesh(case(made, X)) if isinstance(item, Note)]
    assert any(text.startswith("the jvp rule does not accept operands with explicit shardings: ") for text in told), (
        told
    )


def test_one_device_is_not_asked(monkeypatch):
    one = jax.local_devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda: one)
    with pytest.raises(NotAsked, match="xla_force_host_platform_device_count=2"):
        list(explicit_mesh(case(jnp.sin, X)))
