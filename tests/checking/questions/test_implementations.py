from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import Primitive
from jaxprim.checking.answers import NotAsked, Note
from jaxprim.checking.case import Case
from jaxprim.checking.questions.implementations import implementations
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.subject import Subject

X = jnp.array([0.5, 1.0, -2.0])


def asked(target, *operands):
    return list(implementations(Case.of(Subject.of(target), operands, {}, 0)))


def three(kernel=1.0, host=1.0):
    p = Primitive("p")
    p.def_impl(lambda x: x)
    p.def_host(lambda x: x * np.float32(host))
    p.def_kernel(lambda x: x * np.float32(kernel), platform="cpu")
    p.def_kernel(lambda x: x * 0, platform="tpu")
    return p


def test_all_that_can_run_here_are_compared_with_the_impl():
    found = asked(three(), X)
    assert [(e.rule, e.against, e.ok) for e in found if isinstance(e, Evidence)] == [
        ("host", "the impl", True),
        ("kernel[cpu]", "the impl", True),
    ]
    assert [note.text for note in found if isinstance(note, Note)] == ["the kernel for tpu cannot run here"]


def test_which_one_differs():
    bad = [e for e in asked(three(kernel=1.0001), X) if isinstance(e, Evidence) and not e.ok]
    assert [(e.rule, e.leaf) for e in bad] == [("kernel[cpu]", "result")]
    bad = [e for e in asked(three(host=2), X) if isinstance(e, Evidence) and not e.ok]
    assert [e.rule for e in bad] == ["host"]


def test_one_that_raises():
    p = three()

    @p.def_host
    def _(x):
        raise ValueError("no host here")

    (bad,) = [e for e in asked(p, X) if isinstance(e, Evidence) and not e.ok]
    assert (bad.rule, bad.message.startswith("raised ")) == ("host", True)


def test_one_implementation_is_not_asked():
    p = Primitive("p")
    p.def_impl(lambda x: x)
    with pytest.raises(NotAsked):
        asked(p, X)
    with pytest.raises(NotAsked):
        asked(jnp.sin, X)
