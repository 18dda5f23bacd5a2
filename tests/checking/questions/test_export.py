from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from jaxprim.checking.answers import Note
from jaxprim.checking.case import Case
from jaxprim.checking.questions import export
from jaxprim.checking.subject import Subject

X = jnp.arange(1.0, 5.0)


def case(fn, *operands):
    return Case.of(Subject.of(fn), operands, {}, 0)


def test_what_cannot_be_written_is_not_asked():
    def host(x):
        return jax.pure_callback(lambda x: x * 2, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    pytest.importorskip("flatbuffers")
    assert all(isinstance(item, Note) for item in export.export(case(host, X)))
    assert all(item.ok for item in export.export(case(jnp.sin, X)))
