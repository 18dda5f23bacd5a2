from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

import jaxprim
from jaxprim import Example, Primitive
from jaxprim.checking.answers import Note
from jaxprim.checking.case import Case
from jaxprim.checking.questions.vmap import vmap, vmap_jvp, vmap_vjp
from jaxprim.checking.subject import Subject

X = jnp.ones((3, 2))


def case(fn, *operands):
    return Case.of(Subject.of(fn), operands, {}, 0)


def take_with_the_first_index_for_all():
    made = Primitive("take")
    made.def_impl(lambda x, i: x[i])

    def rule(axis, args, dims):
        x, i = (a if d is None else jnp.moveaxis(a, d, 0) for a, d in zip(args, dims, strict=True))
        i = i if dims[1] is None else i[0]
        return (x[i], None) if dims[0] is None else (x[:, i], 0)

    made.def_batching(rule)
    return made


OTHER_INDICES = [Example((jnp.array([1.0, 2.0, 4.0]), jnp.array(i))) for i in ([0, 1], [2, 0])]


def test_indices_of_the_members_differ_where_other_examples_have_others():
    take = take_with_the_first_index_for_all()
    assert jaxprim.report(take, OTHER_INDICES[0], only="vmap").ok
    bad = jaxprim.report(take, *OTHER_INDICES, only="vmap").bad
    assert [finding.question for finding in bad] == ["vmap", "vmap"]
    assert {item.against for item in bad[0].evidence if not item.ok} == {
        f"vmap against a loop, in_axes {axes}" for axes in ("x=0, i=0", "x=-1, i=-1", "x=None, i=0", "x=-1, i=0")
    }


@pytest.mark.parametrize("question", [vmap, vmap_jvp, vmap_vjp])
def test_half_precision_is_asked_in_float64_too(question):
    it = case(lambda a, x: a @ x, X.astype(jnp.bfloat16), X[0].astype(jnp.bfloat16))
    against = [item.against for item in question(it)]
    assert sum("(float64)" in where for where in against) == len(against) / 2


def test_a_batch_rule_for_half_precision_alone_is_asked_there():
    def rule(axis, args, dims):
        if args[0].dtype == jnp.float64:
            raise TypeError("half precision only")
        return 2 * args[0], dims[0]

    made = Primitive("double")
    made.def_impl(lambda x: 2 * x)
    made.def_batching(rule)
    *evidence, note = vmap(case(made, X.astype(jnp.float16)))
    assert all(item.ok for item in evidence)
    assert note == Note("not asked in float64: half precision only")


@pytest.mark.parametrize("question", [vmap, vmap_jvp, vmap_vjp])
def test_a_right_function_with_keys_integers_and_several_results(question):
    def fn(key, x, i):
        return jax.random.split(key), x[i] * 2, i + 1

    found = list(question(case(fn, jax.random.key(0), X[:, 0], jnp.array([0, 2]))))
    assert found
    assert all(item.ok for item in found), next(item for item in found if not item.ok)
