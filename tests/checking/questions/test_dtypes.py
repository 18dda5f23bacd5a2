from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxprim import Primitive
from jaxprim.checking.answers import Note
from jaxprim.checking.case import Case
from jaxprim.checking.questions.dtypes import dtypes
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.subject import Subject

X = jnp.array([0.5, 1.0, -2.0])


def case(fn, *operands):
    return Case.of(Subject.of(fn), operands, {}, 0)


def notes(question, it):
    return [item.text for item in question(it) if isinstance(item, Note)]


def test_each_other_dtype_is_asked():
    found = [e for e in dtypes(case(jnp.sin, X)) if isinstance(e, Evidence)]
    assert all(e.ok for e in found)
    # Each in a small dtype: the type, the value, a tangent and a cotangent. Differences ask the rest in float64.
    assert [e.against.rpartition(", in ")[2] for e in found] == ["float16"] * 4 + ["bfloat16"] * 4 + ["float64"]


def test_a_dtype_that_is_not_taken_is_told():
    def only_float32(x):
        if x.dtype != jnp.float32:
            raise TypeError("float32 alone")
        return x

    assert notes(dtypes, case(only_float32, X)) == [
        f"the implementation does not take {name}: float32 alone" for name in ("float16", "bfloat16", "float64")
    ]


def test_complex_numbers_have_no_half_precision():
    found = [e for e in dtypes(case(jnp.exp, jax.lax.complex(X, X))) if isinstance(e, Evidence)]
    assert {e.against.rpartition(", in ")[2] for e in found} == {"float64"}


def test_terms_of_a_tangent_that_cancel_are_rounded_each_by_itself():
    x, factor = jnp.array([1.6045, 0.528, 0.555], jnp.float16), jnp.asarray(1.392, jnp.float16)
    found = [e for e in dtypes(Case.of(Subject.of(lambda x, f: x * f), (x, factor), {}, 80)) if isinstance(e, Evidence)]
    (jvp,) = (e for e in found if e.rule == "jvp" and e.against.endswith("bfloat16") and "rule" in e.against)
    assert jvp.ok, jvp
    assert abs(jvp.expected) < 0.05 < jvp.tolerance  # the difference of two terms of about 2


def test_operands_are_named_where_something_is_off():
    doubled_in_float16 = lambda x: x * (2 if x.dtype == jnp.float16 else 1)
    assert notes(dtypes, case(doubled_in_float16, X)) == [
        "asked in float16: x=[ 0.5 1. -2. ]; if these are outside the domain, say so with def_domain"
    ]


def test_operands_are_named_where_the_domain_has_changed_them():
    root = Primitive("root")
    root.def_impl(jnp.sqrt)
    root.def_domain(lambda x: (jnp.maximum(x, 1),))
    said = notes(dtypes, case(root, 1 - X))
    assert [text.partition(": ")[0] for text in said] == ["asked in float16", "asked in bfloat16", "asked in float64"]
    assert said[0].endswith(": x=[1. 1. 3.]; if these are outside the domain, say so with def_domain")
