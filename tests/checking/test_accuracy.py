"""An operation that is accurate to a tolerance: all questions allow for it, and a rule that is wrong by more is found."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse.linalg

import jaxprim
from jaxprim import BadCall, Example, Primitive

N, TOLERANCE = 60, 1e-5
MATRIX = 2.2 * np.eye(N) - np.eye(N, k=1) - np.eye(N, k=-1)
B = jnp.asarray(np.linspace(1.0, 2.0, N) * np.cos(np.arange(N)))
QUESTIONS = ["jvp-differences", "vjp-differences", "dot-product", "jvp-linear", "vjp-linear"]


def conjugate_gradients(wrong: float = 0.0) -> Primitive:
    """x of A x = b by SciPy's CG at its default tolerance; A is symmetric, so the solve is its own transpose."""
    solve = Primitive("solve")

    @solve.def_host
    def _(b):
        return scipy.sparse.linalg.cg(MATRIX.astype(b.dtype), b, rtol=TOLERANCE)[0].astype(b.dtype)

    solve.def_abstract_eval(lambda b: b)
    solve.def_jvp(lambda primals, tangents: (solve(*primals), (1 + wrong) * solve(*tangents)))
    solve.def_vjp(lambda primals: (solve(*primals), lambda x_bar: (1 + wrong) * solve(x_bar)))
    return solve


def test_an_iterative_solver_passes_with_its_accuracy():
    assert jaxprim.report(conjugate_gradients(), B, accuracy=TOLERANCE).bad == ()


def test_without_it_the_report_says_what_to_declare():
    report = jaxprim.report(conjugate_gradients(), B, only=QUESTIONS)
    assert not report.ok
    assert any("say accuracy=1e-0" in hint for finding in report.bad for hint in finding.hints)


@pytest.mark.parametrize("how", ["option", "example", "def_accuracy"])
def test_a_rule_that_is_wrong_by_more_is_found(how):
    solve = conjugate_gradients(wrong=20 * TOLERANCE)  # the VJP rule is compared in sums of many elements
    if how == "def_accuracy":
        solve.def_accuracy(lambda b: TOLERANCE)
    options = {"accuracy": TOLERANCE} if how == "option" else {}
    example = Example((B,), accuracy=TOLERANCE if how == "example" else None)
    found = {finding.question for finding in jaxprim.report(solve, example, only=QUESTIONS, **options).bad}
    assert "jvp-differences" in found


def test_a_wrong_vjp_rule_is_found():
    report = jaxprim.report(conjugate_gradients(wrong=100 * TOLERANCE), B, only=QUESTIONS, accuracy=TOLERANCE)
    assert {"jvp-differences", "vjp-differences"} <= {finding.question for finding in report.bad}


def test_a_param_may_say_it():
    power = Primitive("power")
    power.def_impl(lambda x, *, eps: x**2 * (1 + 0.5 * eps * jnp.cos(1e3 * x)))
    power.def_jvp(lambda primals, tangents, *, eps: (power(*primals, eps=eps), 2 * primals[0] * tangents[0]))
    power.def_accuracy(lambda x, *, eps: eps)
    assert jaxprim.report(power, jnp.array([0.5, 2.0]), eps=1e-4, only=["primal", "jvp-linear", "dot-product"]).ok


@pytest.mark.parametrize("accuracy", [-1e-3, 1.0, float("nan")])
def test_an_accuracy_that_is_none_is_refused(accuracy):
    with pytest.raises(BadCall) as error:
        jaxprim.report(conjugate_gradients(), B, accuracy=accuracy)
    assert str(error.value) == (
        "solve: the accuracy is not a relative error.\n"
        f"  got:      accuracy={accuracy!r}\n"
        "  expected: a number from 0 to below 1\n"
        "  write:    jaxprim.check(solve, ..., accuracy=1e-6)"
    )


@pytest.mark.parametrize("method", ["def_accuracy", "def_domain"])
def test_what_is_no_function_is_refused(method):
    solve = Primitive("solve")
    with pytest.raises(BadCall) as error:
        getattr(solve, method)(1e-6)
    assert str(error.value).splitlines()[:3] == [
        f"solve: {method} takes a function.",
        "  got:      1e-06",
        "  expected: a function of the operands and static params",
    ]
    assert str(error.value).endswith(f"  write:    solve.{method}(lambda *operands, **params: 1e-06)")
