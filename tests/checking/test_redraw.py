from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import Primitive
from jaxprim.checking.case import Case
from jaxprim.checking.redraw import hides_its_domain, may_iterate, redrawn
from jaxprim.checking.subject import Subject

X = jnp.array([0.5, 1.0, 2.0])


def case(fn, *operands):
    return Case.of(Subject.of(fn), operands, {}, 0)


def points(it):
    return [[np.asarray(leaf) for leaf in found.point.leaves] for found in redrawn(it)]


def test_sizes_and_signs_differ_and_nothing_is_equal():
    every = np.concatenate([np.stack(leaves) for leaves in points(case(lambda x, y: x * y, X, X))])
    assert np.min(np.abs(every)) < 0.05
    assert np.max(np.abs(every)) > 20
    assert np.any(every < 0)
    assert np.unique(every).size == every.size == 18


def test_the_types_are_those_of_the_example():
    mixed = (jnp.float16(2.0), 1.5, jnp.arange(3), jnp.array([True, False]), 1 + 2j)
    it = case(lambda h, f, i, b, z: (h * f, i, b, z * 2), *mixed)
    for found in redrawn(it):
        assert found.point.types == it.point.types
        assert type(found.point.leaves[1]) is float
        assert [found.point.leaves[k] is it.point.leaves[k] for k in range(5)] == [False, False, True, True, False]


def test_a_point_outside_the_domain_gives_way_to_one_inside():
    for x, y in points(case(lambda x, y: jnp.sqrt(x) * y, X, X)):
        assert np.all(x > 0)
        assert np.any(y < 0)
    assert all(np.all(np.abs(x) <= 1) for (x,) in points(case(jnp.arcsin, X / 3)))
    assert points(case(lambda x: jnp.where(jnp.all(x == X), x, jnp.nan), X)) == []


def test_def_domain_brings_points_inside():
    root = Primitive("root")
    root.def_impl(lambda x: jnp.sqrt(jnp.abs(x)))
    root.def_domain(lambda x: (jnp.abs(x),))
    assert all(np.all(x >= 0) for (x,) in points(case(root, X)))


def test_infinities_stay_and_zeros_leave_where_all_code_is_seen():
    ((x,), *_) = points(case(lambda x: jnp.exp(x), jnp.array([0.0, -jnp.inf, 1.0])))
    assert x[1] == -np.inf
    assert x[0] != 0


def test_a_loop_or_foreign_code_may_hide_a_domain():
    assert not hides_its_domain(case(lambda x: jnp.sin(x) * x, X))
    assert hides_its_domain(case(lambda a: jnp.linalg.inv(a), jnp.eye(2)))
    assert hides_its_domain(case(lambda x: jnp.interp(x, X, X), X))


def test_many_numbers_get_one_point():
    assert len(points(case(jnp.sin, jnp.ones(20_000)))) == 1


def test_behind_a_loop_numbers_stay_among_those_of_the_example():
    loop = lambda x, y: jax.lax.fori_loop(0, 3, lambda _, z: jnp.sin(z) * y, x)
    mixed, grid = jnp.array([2.0, -0.5, 1.0]), jnp.array([0.0, 1.0, 4.0])
    ((x, y),) = points(case(loop, mixed, grid))
    assert np.all((x >= -0.5) & (x <= 2) & (x != mixed))
    assert np.all((y >= 0) & (y <= 4) & (np.diff(y, prepend=-1) > 0))
    assert not np.array_equal(y, grid)
    ((x, y),) = points(case(lambda x, y: loop(x, y[0]), jnp.float32(0.9), jnp.arange(1.0, 5.0)))
    assert 0.45 <= x < 0.9
    np.testing.assert_allclose(np.diff(y), np.diff(y)[0], rtol=1e-5)


def test_a_search_in_a_grid_is_asked_beyond_it_and_an_iteration_is_not():
    interp = Primitive("interp")
    interp.def_impl(lambda x, grid, values: jnp.interp(x, grid, values))
    found = points(case(interp, jnp.array([0.7, 1.5]), X, X**2))
    assert len(found) == 3
    assert any(np.any((x < grid[0]) | (x > grid[-1])) for x, grid, _ in found)
    assert all(np.all(np.diff(grid) > 0) for _, grid, _ in found)
    assert may_iterate(case(jax.scipy.special.gammainc, X, X))  # its loop is inside an operation of JAX
    assert may_iterate(case(lambda x: jnp.interp(jax.lax.fori_loop(0, 3, lambda _, z: jnp.sin(z), x), X, X), X))
    assert not may_iterate(case(lambda x: jax.lax.map(lambda z: jnp.sin(z), x), X))


def test_def_domain_says_how_far_numbers_may_go_behind_a_loop():
    loop = Primitive("loop")
    loop.def_impl(lambda x: jax.lax.fori_loop(0, 3, lambda _, z: jnp.sin(z), x))
    loop.def_domain(lambda x: True)
    assert len(points(case(loop, X))) == 3
