from __future__ import annotations

import jax.numpy as jnp

from jaxprim.checking.case import Case
from jaxprim.checking.questions.vmap_sizes import vmap_sizes
from jaxprim.checking.subject import Subject

X = jnp.arange(1.0, 7.0).reshape(3, 2)


def case(fn, *operands):
    return Case.of(Subject.of(fn), operands, {}, 0)


def test_a_batch_of_none_has_types():
    found = [e for e in vmap_sizes(case(lambda x, f: x * f, X, 2.0)) if "empty batch" in getattr(e, "against", "")]
    assert [(e.leaf, e.got) for e in found] == [
        ("result[0]", "float32[0, 3, 2]"),
        ("tangent[0]", "float32[0, 3, 2]"),
        ("cotangent[0]", "float32[0, 3, 2]"),
        ("cotangent[1]", "float32[0]"),
    ]
    assert all(e.ok for e in found)
