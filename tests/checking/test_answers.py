from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from jaxprim import RuleWrong
from jaxprim.checking.answers import Note, Refusal, attempt, attempt_rule, collect, why_refused

X = jnp.ones(3)


def error_of(run):
    with pytest.raises(Exception) as error:
        run()
    return error.value


@jax.custom_vjp
def reverse_only(x):
    return x


reverse_only.defvjp(lambda x: (x, None), lambda _, y_bar: (y_bar,))


def callback(x):
    return jax.pure_callback(lambda x: x, jax.ShapeDtypeStruct((3,), jnp.float32), x)


A = jnp.array([[0.5, 1.0], [-2.0, 0.3]])


def loop(x):
    return jax.lax.while_loop(lambda s: s[1] < 3, lambda s: (s[0] * 2, s[1] + 1), (x, 0))[0]


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(lambda: jax.jvp(reverse_only, (X,), (X,)), id="jvp of custom_vjp"),
        pytest.param(lambda: jax.jvp(callback, (X,), (X,)), id="jvp of a callback"),
        pytest.param(lambda: jax.vjp(callback, X), id="vjp of a callback"),
        pytest.param(lambda: jax.vjp(loop, X)[1](X), id="vjp of a while loop"),
        pytest.param(lambda: jax.grad(lambda a: jax.scipy.special.betainc(a, 2.0, 0.3))(1.5), id="betainc"),
        pytest.param(lambda: jax.hessian(lambda a: jnp.linalg.eigvals(a).real.sum())(A), id="eigenvectors"),
    ],
)
def test_what_jax_cannot_differentiate_is_a_refusal(run):
    assert why_refused(error_of(run)).startswith("JAX has no such rule for it: ")


def test_an_author_s_mistake_is_no_refusal():
    assert why_refused(ValueError("matmul: shapes do not fit")) is None
    assert why_refused(KeyError("callbacks do not support JVP")) is None
    assert why_refused(RuntimeError("cannot be autodifferentiated")) is not None


# ----------------------------------------------------------------------------------------------------- calls that may fail
def fail(error):
    raise error


def test_an_attempt_gives_the_value_or_the_refusal():
    assert attempt(lambda: 5) == 5
    error = OSError("float32 only\nand more")
    assert attempt(lambda: fail(error)) == Refusal(error, "float32 only")
    with pytest.raises(RuleWrong):
        attempt(lambda: fail(RuleWrong("wrong")), faults=(RuleWrong,))


def test_a_rule_is_refused_only_where_it_is_missing_or_jax_has_no_such_mode():
    found = attempt_rule(lambda: jax.jvp(reverse_only, (X,), (X,)))
    assert isinstance(found, Refusal)
    assert found.why.startswith("JAX has no such rule for it: ")
    assert attempt_rule(lambda: 5) == 5
    with pytest.raises(ValueError, match="shapes do not fit"):
        attempt_rule(lambda: fail(ValueError("shapes do not fit")))


def test_what_an_answer_yields_before_it_is_refused_is_kept():
    def answer(error):
        yield Note("first")
        if error:
            raise error

    assert collect(answer(None)) == ([Note("first")], None)
    found, refused = collect(answer(ValueError("no")))
    assert (found, refused.why) == ([Note("first")], "no")
    with pytest.raises(RuleWrong):
        collect(answer(RuleWrong("wrong")), faults=(RuleWrong,))
