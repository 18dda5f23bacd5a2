from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from jaxprim import Primitive
from jaxprim.checking.answers import NotAsked, Note
from jaxprim.checking.case import Case
from jaxprim.checking.questions.elsewhere import elsewhere
from jaxprim.checking.reports.findings import Evidence
from jaxprim.checking.subject import Subject

X = jnp.array([0.2, 0.5, 0.7])


def ask(fn, *operands, reference=None):
    return list(elsewhere(Case.of(Subject.of(fn, reference), operands, {}, 0)))


def wrong(found):
    return {item.rule for item in found if isinstance(item, Evidence) and not item.ok}


def by_slope(impl, slope):
    made = Primitive("made")
    made.def_impl(impl)
    made.def_jvp(lambda primals, tangents: (made(*primals), tangents[0] * slope(*primals)))
    return made


CHANCE = {
    "right below 1": (by_slope(jnp.sin, lambda x: jnp.where(x < 1, jnp.cos(x), 1.0)), X),
    "right for positive x": (by_slope(lambda x: 2 * jnp.abs(x), lambda x: 2.0 * jnp.ones_like(x)), X),
    "right at zero": (by_slope(lambda x: x**3, lambda x: x**2), 0.0),
}


@pytest.mark.parametrize("name", CHANCE)
def test_a_rule_that_is_right_by_chance_is_found(name):
    found = ask(*CHANCE[name])
    assert "jvp" in wrong(found)
    said = [item.text for item in found if isinstance(item, Note) and item.text.startswith("asked, at a point of ")]
    assert len(said) == 3
    assert all(text.endswith("if these are outside the domain, say so with def_domain") for text in said)


def symmetric_form():
    made = Primitive("form")
    made.def_impl(lambda a, x: x @ a @ x)
    made.def_vjp(
        lambda primals: (made(*primals), lambda c: (c * jnp.outer(*primals[1:] * 2), 2 * c * primals[0] @ primals[1]))
    )
    return made


def test_a_symmetric_matrix_hides_nothing_and_the_operand_is_named():
    found = ask(symmetric_form(), jnp.array([[2.0, 1.0], [1.0, 3.0]]), X[:2])
    bad = {e.leaf for e in found if isinstance(e, Evidence) and not e.ok and e.rule == "vjp"}
    assert "<x_bar, t> over x" in bad
    assert "<x_bar, t> over a" not in bad


def solve_by_cholesky():
    """Its rules take a for symmetric, as the factorization does."""
    made = Primitive("solve")
    half = lambda a: (a + a.T) / 2
    made.def_host(lambda a, b: scipy.linalg.solve(half(a), b, assume_a="pos").astype(b.dtype))
    made.def_abstract_eval(lambda a, b: b)

    @made.def_vjp
    def _(primals):
        a, b = primals
        x = made(a, b)

        def pullback(c):
            w = made(a, c)
            return -half(jnp.outer(w, x)), w

        return x, pullback

    return made


def test_a_solver_for_definite_matrices_is_only_asked_about_these():
    a = jnp.array([[2.0, 0.5, 0.1], [0.5, 3.0, 0.2], [0.1, 0.2, 1.0]])
    found = ask(solve_by_cholesky(), a, X)
    assert wrong(found) == set()
    assert any(isinstance(item, Evidence) for item in found)


def test_a_wrong_value_is_found_with_a_reference():
    fn = lambda x: jnp.where(jnp.abs(x) < 1, jnp.sin(x), x)
    assert wrong(ask(fn, X, reference=np.sin)) == {"impl"}


def test_the_primal_output_of_a_rule_is_compared():
    made = Primitive("made")
    made.def_impl(jnp.sin)
    made.def_jvp(lambda p, t: (jnp.where(p[0] < 1, jnp.sin(p[0]), 0.0), t[0] * jnp.cos(p[0])))
    assert any(e.against.startswith("primal output") for e in ask(made, X) if isinstance(e, Evidence) and not e.ok)


def test_without_numbers_or_points_it_is_not_asked():
    with pytest.raises(NotAsked, match="real or complex"):
        ask(lambda i: i + 1, jnp.arange(3))
    with pytest.raises(NotAsked, match="outside the domain"):
        ask(lambda x: jnp.where(jnp.all(x == X), x, jnp.nan), X)
