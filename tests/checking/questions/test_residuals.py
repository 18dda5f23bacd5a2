from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from jaxprim import Primitive
from jaxprim.checking.case import Case
from jaxprim.checking.questions import residuals
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.subject import Subject

X = jnp.array([0.5, 1.0, -2.0])


def case(fn, *operands):
    return Case.of(Subject.of(fn), operands, {}, 0)


def said(question, it) -> str:
    return next(item.message for item in question(it) if isinstance(item, Evidence) and item.message)


def test_bytes_that_backward_does_not_read_are_told():
    @jax.custom_vjp
    def sine(x):
        return jnp.sin(x)

    sine.defvjp(lambda x: (jnp.sin(x), (x, jnp.sin(x), jnp.cos(x))), lambda kept, ct: (kept[2] * ct,))
    assert said(residuals.residuals, case(sine, X)) == (
        "keeps 36 bytes, 12 of them in operands; 24 bytes are never read"
    )
    assert said(residuals.residuals, case(jnp.sin, X)) == (
        "keeps 12 bytes, 0 of them in operands; the backward pass reads all of them"
    )
    assert said(residuals.residuals, case(lambda x, y: x * y, X, X)) == (
        "keeps 24 bytes, 24 of them in operands; the backward pass reads all of them"
    )


def test_names_that_no_policy_sees_are_told():
    class Namer:
        name = staticmethod(lambda x: checkpoint_name(x, "slope"))

    def by(name):
        square = Primitive("square")
        square.def_impl(lambda x: x * x)

        @square.def_vjp
        def _(primals):
            slope = name(2 * primals[0])
            return square(*primals), lambda ct: ct * slope

        return case(square, X)

    hidden = "; policies of jax.checkpoint cannot see the names slope"
    assert said(residuals.residuals, by(lambda x: checkpoint_name(x, "slope"))).endswith("reads all of them")
    assert said(residuals.residuals, by(Namer().name)).endswith(
        "reads all of them"
    )  # the function itself is closed over
    namer = Namer()
    assert said(residuals.residuals, by(lambda x: namer.name(x))).endswith(hidden)
