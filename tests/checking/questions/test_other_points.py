from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import Primitive, from_numpy
from jaxprim.checking.answers import NotAsked, Note
from jaxprim.checking.case import Case
from jaxprim.checking.questions.other_points import static_params, zero_operands
from jaxprim.checking.reports.report import Evidence
from jaxprim.checking.subject import Subject

X = jnp.array([0.5, 1.0, -2.0])


def case(fn, *operands, **params):
    return Case.of(Subject.of(fn), operands, params, 0)


def evidence(answer):
    return [item for item in answer if isinstance(item, Evidence)]


def notes(answer):
    return [item.text for item in answer if isinstance(item, Note)]


def test_each_operand_has_its_zero_at_another_place():
    values = [0.0, 4.0, 1.0]
    found = evidence(zero_operands(case(lambda x, y: jnp.hypot(x, y), X, jnp.array(values) + 1)))
    assert found
    assert all(e.ok for e in found)
    assert {e.against.rpartition(", ")[2] for e in found} == {"with zeros in the operands"}
    bad = [e for e in evidence(zero_operands(case(_not_a_number_at_zero, X, X))) if not e.ok]
    assert max(e.bad for e in bad if e.leaf.startswith("tangent")) == 2


@jax.custom_jvp
def _not_a_number_at_zero(x, y):
    return x * y


@_not_a_number_at_zero.defjvp
def _(primals, tangents):
    (x, y), z = primals, primals[0] * primals[1]
    return z, z / x * tangents[0] + z / y * tangents[1]


def test_where_zeros_leave_the_domain_one_operand_alone_holds_one():
    found = evidence(zero_operands(case(lambda x, y: jnp.cumsum(x / y), X, X + 3)))
    assert all(e.ok for e in found)
    assert {e.against.rpartition(", ")[2] for e in found} == {"with a zero in x"}
    bad = [e for e in evidence(zero_operands(case(_quotient, X, X + 3))) if not e.ok]
    assert bad[0].against.endswith(", with a zero in x")
    with pytest.raises(NotAsked, match=r"the implementation is not finite at x="):
        list(zero_operands(case(jnp.log, X + 3)))


@jax.custom_jvp
def _quotient(x, y):
    return x / y


@_quotient.defjvp
def _(primals, tangents):
    (x, y), z = primals, primals[0] / primals[1]
    return z, z / x * tangents[0] - z / y * tangents[1]


def test_a_kink_at_zero_is_no_failure():
    assert all(e.ok for e in evidence(zero_operands(case(jnp.abs, X))))


def test_what_has_no_zeros_to_put_or_takes_none_is_not_asked():
    with pytest.raises(NotAsked, match="no operand is an array of nonzero numbers"):
        list(zero_operands(case(lambda x, n: x * n, 2.0, jnp.arange(3))))

    def positive(x):
        if not hasattr(x, "_trace") and (np.asarray(x) == 0).any():
            raise ValueError("no zeros here")
        return x * 2

    with pytest.raises(NotAsked, match=r"does not accept x=.*: no zeros here"):
        list(zero_operands(case(positive, X)))


def interpolate():
    """Linear interpolation on a grid that increases, with its own rules for the values and the point."""
    made = Primitive("interpolate")
    made.def_host(lambda x, grid, values: np.interp(x, grid, values).astype(values.dtype))
    made.def_abstract_eval(lambda x, grid, values: x)

    @made.def_jvp
    def _(primals, tangents):
        return jax.jvp(jnp.interp, primals, tangents)

    return made


GRID, VALUES = jnp.array([1.0, 1.5, 2.5, 4.0]), jnp.array([1.0, 3.0, -1.0, 2.0])


def test_a_domain_is_kept_to():
    made, asked = interpolate(), []
    point = case(made, jnp.array([1.2, 2.0, 3.1]), GRID, VALUES)

    @made.def_domain
    def _(x, grid, values):
        asked.append(grid)
        return jnp.clip(x, 1.1, 3.9), jnp.sort(grid), values

    found = list(zero_operands(point))
    assert asked
    (said,) = [text for text in notes(found) if text.startswith("asked")]
    assert "x=[1.1 2. 3.1], grid=[0. 1. 2.5 4. ]" in said
    assert said.endswith("if these are outside the domain, say so with def_domain")


def test_operands_outside_the_domain_are_not_asked():
    made = interpolate()
    made.def_domain(lambda x, grid, values: bool(jnp.all(jnp.diff(grid) > 0)) and bool(jnp.all(x > 1)))
    found = list(zero_operands(case(made, jnp.array([1.2, 2.0, 3.1]), GRID, VALUES)))
    assert {e.against.rpartition(", ")[2] for e in evidence(found)} == {"with a zero in values"}
    assert all(e.ok for e in evidence(found))
    made.def_domain(lambda x, grid, values: False)
    with pytest.raises(NotAsked, match="it is outside the domain that def_domain declares"):
        list(zero_operands(case(made, jnp.array([1.2, 2.0, 3.1]), GRID, VALUES)))


def test_a_static_param_keeps_to_the_domain():
    made = power()
    made.def_domain(lambda x, *, n, **others: n in (1, 2))
    found = evidence(static_params(case(made, X, n=2)))
    places = {e.against.rpartition(", with ")[2] for e in found if ", with " in e.against}
    assert places == {"n=1", "negate=True", "scale=1.5"}


def power():
    made = Primitive("power")
    made.def_impl(lambda x, *, n, negate=False, scale=1.0, name="p": scale * (-(x**n) if negate else x**n))
    return made


def test_each_param_that_is_a_number_has_another_value():
    found = evidence(static_params(case(power(), X, n=2, negate=False, scale=3.0)))
    assert all(e.ok for e in found)
    places = {e.against.rpartition(", with ")[2] for e in found if ", with " in e.against}
    assert places == {"n=3", "negate=True", "scale=4.5"}


def test_a_value_that_is_refused_gives_way_to_the_next():
    def upto(x, n):
        if n > 2:
            raise ValueError("too many")
        return x[:n]

    assert {e.against.rpartition(", with ")[2] for e in evidence(static_params(case(upto, X, n=2)))} >= {"n=1"}


@pytest.mark.parametrize(
    ("value", "valid", "asked"),
    [
        (3, lambda n: n % 2 == 1, 5),  # a window has an odd width
        (8, lambda n: n & (n - 1) == 0, 16),
        (9, lambda n: n % 2 == 1 and n <= 9, 7),
        (0.8, lambda n: 0 <= n < 1, 0.4),
    ],
)
def test_a_value_that_the_domain_needs_is_found(value, valid, asked):
    """The rule is right for the example's value alone."""
    made = Primitive("times")
    made.def_impl(lambda x, *, n: n * x)
    made.def_partials(lambda y, x, *, n: value * jnp.ones_like(x))
    made.def_domain(lambda x, *, n: valid(n))
    found = evidence(static_params(case(made, X, n=value)))
    assert {e.against.rpartition(", with ")[2] for e in found if not e.ok} == {f"n={asked}"}


def test_a_size_of_the_result_changes_and_keeps_indices_in_range():
    total = Primitive("total")

    def segment_sum(x, owner, *, groups):
        if groups == 4:
            raise ValueError(groups)  # so that a smaller number comes next
        return jax.ops.segment_sum(x, owner, groups)

    total.def_impl(segment_sum)
    total.def_transpose(lambda y_bar, owner, *, groups: y_bar[owner], linear="x")
    found = evidence(static_params(case(total, X, jnp.array([0, 2, 1]), groups=3)))
    assert all(item.ok for item in found)
    assert any("with groups=5" in item.against for item in found)


def test_a_rule_that_refuses_a_value_is_told():
    made = power()

    @made.def_jvp
    def _(primals, tangents, *, n, **others):
        if n != 2:
            raise ValueError("squares alone")
        return made(*primals, n=n), 2 * primals[0] * tangents[0]

    said = notes(static_params(case(made, X, n=2)))
    assert any(text.startswith("the jvp rule is not evaluated, with n=3: ") for text in said), said


def host_sum(seen, **options):
    made = from_numpy(
        lambda x, *, m: seen(x, m), like=lambda x, **_: jax.ShapeDtypeStruct((), x.dtype), name="host_sum"
    )
    return case(made, X, **options)


def test_foreign_code_gets_no_integer_that_is_larger_than_a_size():
    tried = set()

    def seen(x, m):
        tried.add(m)
        return x[:m].sum()

    found = evidence(static_params(host_sum(seen, m=3)))
    assert all(e.ok for e in found if e.against.startswith("two values"))
    assert tried == {2, 3}


def test_a_value_with_which_foreign_code_gives_other_results_each_time_is_left_out():
    calls = iter(range(1000))
    seen = lambda x, m: x[:m].sum() if m == 1 else np.float32(next(calls))
    with pytest.raises(NotAsked, match="no static param"):
        list(static_params(host_sum(seen, m=1)))


def test_without_params_that_can_change_it_is_not_asked():
    for given in ({}, {"name": "q"}):
        with pytest.raises(NotAsked, match="no static param"):
            list(static_params(case(lambda x, **params: x, X, **given)))
