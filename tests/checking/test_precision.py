from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import Primitive
from jaxprim.checking.precision import Point, Precision
from jaxprim.checking.subject import Subject

X = jnp.array([1.0, 2.0])


def mixed(x, n, f=2.0):
    return {"y": x * f, "n": n + 1}


def native(fn, *operands):
    subject = Subject.of(fn)
    return Precision.native(subject, Point.of(subject, operands, {}))


def test_a_point_names_its_leaves():
    point = Point.of(Subject.of(mixed), ({"w": X}, 3, None), {})
    assert point.names == ("x['w']", "n")
    assert point.differentiable == (0,)


def test_results_are_flat_and_named():
    precision = native(mixed, X, 3, 2.0)
    assert precision.names == ("result['n']", "result['y']")
    assert precision.outputs == (1,)
    assert precision.output_names == ("result['y']",)
    assert [v.tolist() for v in precision.value()] == [4, [2.0, 4.0]]


def test_derivatives_of_some_leaves():
    precision = native(mixed, X, 3, 2.0)
    pushed = precision.jvp({0: np.array([1.0, 0.5]), 2: np.asarray(0.5)})
    assert pushed.tangent[0].tolist() == [2.5, 2.0]
    assert precision.jvp({2: np.asarray(0.5)}).tangent[0].tolist() == [0.5, 1.0]
    pulled = precision.vjp([np.array([1.0, -1.0])], (0, 2))
    assert pulled.cotangent[0].tolist() == [2.0, -2.0]
    assert pulled.cotangent[2] == -1.0


def test_a_view_in_double_precision():
    subject = Subject.of(mixed)
    precision = Precision.in_double(subject, Point.of(subject, (X, jnp.array([3]), 2.0), {}))
    assert precision.label == "float64"
    assert precision.eps == 2.0**-52
    assert [leaf.dtype for leaf in precision.results] == [jnp.int32, jnp.float64]
    assert precision.jvp({0: np.array([1 / 3, 0.0])}).tangent[0][0] == 2 / 3
    assert not jax.config.jax_enable_x64


def test_a_label_names_the_dtypes():
    assert native(mixed, X, 3).label == "float32"
    assert native(jnp.add, 1, 2).label == "exact"


def loop(a, x):
    return jax.lax.fori_loop(0, 3, lambda _, y: a * y + x, x)


@jax.jit
def compiled(a, x):
    return loop(a, x)


def untraceable(a, x):
    return loop(a, x) if float(a) > 0 else x


@pytest.mark.parametrize("fn", [loop, lambda a, x: jax.jit(lambda x: a * x)(x)], ids=["loop", "jit"])
def test_what_jax_would_compile_at_each_call_is_compiled_once(fn):
    assert runs_of_ten(fn) == 0


@pytest.mark.parametrize("fn", [compiled, jnp.multiply, untraceable])
def test_what_jax_does_not_compile_at_each_call_is_called(fn):
    assert runs_of_ten(fn) == 10


def runs_of_ten(fn):
    """How often ten evaluations at other numbers call the function, after a first one; that they are right as well."""
    runs = []

    def counted(a, x):
        runs.append(a)
        return fn(a, x)

    precision = native(counted, jnp.float32(0.5), X)
    precision.value([jnp.float32(0.25), X])
    before, others = len(runs), [[jnp.float32(0.25), X + k] for k in range(10)]
    for leaves in others:
        np.testing.assert_allclose(precision.value(leaves)[0], fn(*leaves), rtol=1e-6)
    return len(runs) - before


def test_rules_with_loops_are_compiled_once_too():
    runs = []

    @jax.custom_vjp
    def f(x):
        return x**2

    def backward(x, ct):
        runs.append(x)
        return (jax.lax.fori_loop(0, 2, lambda _, y: y + x * ct, 0 * x),)

    f.defvjp(lambda x: (f(x), x), backward)
    precision, ct = native(f, X), [np.array([1.0, 0.5])]
    for factor in (1, 2, 3, 4):
        found = precision.vjp(ct, (0,), [factor * X])
        assert found.cotangent[0].tolist() == [2.0 * factor, 2.0 * factor]
    assert len(runs) == 3  # twice to tell, and the program


def test_a_rule_of_a_primitive_with_a_loop_is_compiled_once_too():
    runs = []
    p = Primitive("looped")
    p.def_impl(lambda x: 2.0 * x)

    @p.def_jvp
    def _(primals, tangents):
        runs.append(tangents)
        (x,), (t,) = primals, tangents
        return p(x), jax.lax.fori_loop(0, 2, lambda _, y: y + t + 0.0 * x, 0 * x)

    precision = Precision.native(Subject.of(p), Point.of(Subject.of(p), (X,), {}))
    for factor in (1.0, 2.0, 3.0, 4.0):
        assert precision.jvp({0: factor * np.ones(2)}, [X]).tangent[0].tolist() == [2.0 * factor, 2.0 * factor]
    assert len(runs) == 3


def test_values_along_a_direction():
    precision = native(mixed, X, 3, 2.0)
    assert precision.value_along({0: np.array([1.0, 0.0])}, 0.5)[0].tolist() == [3.0, 4.0]


def test_a_point_that_the_implementation_refuses_has_no_value():
    def picky(x):
        if x[0] > 1.1:
            raise ValueError("out of the domain")
        return x

    assert np.isnan(native(picky, X).value_along({0: np.ones(2)}, 1.0)[0]).all()


def test_unused_results_get_symbolic_zeros():
    seen = []

    @jax.custom_vjp
    def two(x):
        return x, 2 * x

    two.defvjp(
        lambda x: (two(x.value), None),
        lambda _, cts: (seen.append([type(ct).__name__ for ct in cts]), (jnp.zeros(2),))[1],
        symbolic_zeros=True,
    )
    native(two, X).vjp([np.ones(2), np.ones(2)], (0,), results=(1,))
    assert "Zero" in seen[0][0]
    assert "Zero" not in seen[0][1]


@pytest.mark.parametrize("result", [2.0, np.ones(2, np.float32)])
def test_a_plain_function_may_return_what_is_no_jax_array(result):
    assert native(lambda x: result, X).outputs == (0,)


def in_double(target, *operands):
    subject = target if isinstance(target, Subject) else Subject.of(target)
    return Precision.in_double(subject, Point.of(subject, operands, {}))


def test_a_rule_in_other_types_is_one_program_for_all_points():
    runs = []
    p = Primitive("doubled")
    p.def_impl(lambda x: 2 * x)
    p.def_jvp(lambda primals, tangents: (p(*primals), runs.append(tangents) or 2 * tangents[0]))
    subject = Subject.of(p)
    assert in_double(subject, X).jvp({0: np.ones(2)}).tangent[0].tolist() == [2.0, 2.0]
    before = len(runs)
    assert in_double(subject, 3 * X).jvp({0: 3 * np.ones(2)}).tangent[0].tolist() == [6.0, 6.0]
    assert len(runs) == before


def test_a_rule_in_other_types_that_cannot_be_traced_is_called():
    p = Primitive("doubled")
    p.def_impl(lambda x: 2 * x)
    p.def_jvp(lambda primals, tangents: (p(*primals), (2 if float(primals[0][0]) > 0 else 3) * tangents[0]))
    assert in_double(p, X).jvp({0: np.ones(2)}).tangent[0].tolist() == [2.0, 2.0]


def test_directions_share_a_program_unless_zeros_give_no_numbers():
    ones = {0: np.ones(2)}
    for y in (X, 0 * X):  # at 0 the slope of the root is infinite, and 0 x inf is NaN
        precision = in_double(lambda x, y: x + jnp.sqrt(y), X, y)
        assert precision.jvp(ones, among=(0, 1)).tangent[0].tolist() == [1.0, 1.0]
        shared = ["jvp", 0, 1] in [list(key[0]) for key in precision.subject._programs]
        alone = ["jvp", 0] in [list(key[0]) for key in precision.subject._programs]
        assert (shared, alone) == (True, not np.any(y))
