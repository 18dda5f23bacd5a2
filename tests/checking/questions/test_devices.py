from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from jaxprim.checking.answers import NotAsked, Note
from jaxprim.checking.case import Case
from jaxprim.checking.questions import devices
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.subject import Subject

X = jnp.arange(1.0, 5.0)


def case(fn, *operands):
    return Case.of(Subject.of(fn), operands, {}, 0)


def test_one_device_is_not_asked_and_says_which_flag(monkeypatch):
    one = jax.local_devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda: one)
    for question in (devices.sharded_jit, devices.shard_map):
        with pytest.raises(NotAsked, match="xla_force_host_platform_device_count=2"):
            list(question(case(jnp.sin, X)))


def test_an_operand_that_all_devices_share():
    found = [e for e in devices.shard_map(case(lambda x, f: x * f, X, X + 1)) if isinstance(e, Evidence)]
    assert all(e.ok for e in found)
    shared = [e for e in found if e.rule == "vjp" and "f=None" in e.against]
    assert [e.leaf for e in shared] == ["cotangent of x", "cotangent of f"]


def test_a_loop_that_needs_check_vma_off_is_told():
    def loop(x):
        done = lambda state: jnp.any(state[1])
        return jax.lax.while_loop(done, lambda s: (s[0] * 2, s[0] > 9), (x, jnp.ones(4, bool)))[0]

    found = list(devices.shard_map(case(loop, X)))
    assert all(item.ok for item in found if isinstance(item, Evidence))
    assert "only with check_vma=False" in next(item.text for item in found if isinstance(item, Note))
