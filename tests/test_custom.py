"""`custom_vjp` and `custom_jvp`: JAX's decorators as primitives. The truth is JAX's own decorator, or a closed form."""

from __future__ import annotations

import copy
import gc
import inspect
import pickle
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprim
from jaxprim import custom_jvp, custom_vjp

Make = Callable[..., Any]
X = np.float32(0.7)


# ----------------------------------------------------------------------------------- the same as JAX's, line for line
def rigged_vjp(make: Make) -> Any:
    """x * k, whose rule has 100 times the derivative: so one sees which rule ran."""

    @partial(make, nondiff_argnums=(1,))
    def f(x, k, y):
        """The docstring."""
        return x * k * y

    def fwd(x, k, y):
        return f(x, k, y), (x, y)

    def bwd(k, residuals, ct):
        x, y = residuals
        return 100 * ct * k * y, jnp.sum(100 * ct * k * x)

    f.defvjp(fwd, bwd)
    return f


def rigged_jvp(make: Make) -> Any:
    @partial(make, nondiff_argnames=("k",))
    def f(x, k, y):
        return x * k * y

    @f.defjvp
    def _(k, primals, tangents):
        (x, y), (x_dot, y_dot) = primals, tangents
        return f(x, k, y), 100 * k * (x_dot * y + x * y_dot)

    return f


XS = jnp.array([1.0, 2.0, 3.0])
PLACES: dict[str, Callable[[Any], Any]] = {
    "call": lambda f: (f(XS, 3, 2.0), f(XS, y=2.0, k=3), jax.jit(lambda x: f(x, 3, 2.0))(XS)),
    "grad": lambda f: jax.grad(lambda x, y: f(x, 3, y).sum(), (0, 1))(XS, 2.0),
    "jit(grad)": lambda f: jax.jit(jax.grad(lambda x, y: f(x, 3, y).sum(), (0, 1)))(XS, 2.0),
    "vmap(grad)": lambda f: jax.vmap(jax.grad(lambda x, y: f(x, 3, y), (0, 1)), (0, None))(XS, 2.0),
    "grad(vmap)": lambda f: jax.grad(lambda x, y: jax.vmap(lambda x: f(x, 3, y))(x).sum(), (0, 1))(XS, 2.0),
    "grad(checkpoint)": lambda f: jax.grad(jax.checkpoint(lambda x: f(x, 3, 2.0).sum()))(XS),
    "grad(scan)": lambda f: jax.grad(lambda x: jax.lax.scan(lambda c, _: (f(c, 3, 1.0), None), x, None, 2)[0].sum())(
        XS
    ),
    "grad(grad)": lambda f: jax.grad(lambda x: jax.grad(lambda y: f(x, 3, y * y).sum())(2.0))(XS),
    "grad(cond)": lambda f: jax.grad(lambda x: jax.lax.cond(x > 0, lambda x: f(x, 3, 2.0), lambda x: x, x))(1.0),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("rigged", [rigged_vjp, rigged_jvp], ids=["vjp", "jvp"])
def test_the_numbers_are_those_of_jax(rigged: Any, place: str) -> None:
    make = (custom_vjp, jax.custom_vjp) if rigged is rigged_vjp else (custom_jvp, jax.custom_jvp)
    got, expected = (PLACES[place](rigged(which)) for which in make)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), got, expected)


def test_one_import_line_gives_the_other_mode_checks_and_an_explanation() -> None:
    f = rigged_vjp(custom_vjp)
    # JAX's has no forward mode. The rule's derivative is 100 k y.
    assert float(jax.jvp(lambda x: f(x, 3, 2.0), (1.0,), (1.0,))[1]) == 600
    assert "the two functions of jax.custom_vjp" in str(f.explain())
    assert not f.report(XS, 3, 2.0, only="vjp-differences").ok

    @custom_vjp
    def right(x):
        return jnp.sin(x)

    right.defvjp(lambda x: (right(x), x), lambda x, ct: (ct * jnp.cos(x),))
    assert right.check(XS, only=["jit", "vjp-differences", "jvp-differences"]).ok


def test_check_takes_the_arguments_of_the_function() -> None:
    @partial(custom_vjp, nondiff_argnums=(0,))
    def apply(f, x):
        return f(x)

    apply.defvjp(lambda f, x: (apply(f, x), x), lambda f, x, ct: (ct * jax.grad(f)(x),))
    questions = ["vjp-differences", "jvp-differences"]
    assert apply.check(jnp.sin, 0.5, only=questions).ok
    assert jaxprim.check(apply, jnp.sin, 0.5, only=questions).ok
    apply.def_examples(lambda: [(jnp.sin, 0.5)])
    assert apply.check(only=questions).ok


# -------------------------------------------------------------------------------------------------------- what it looks like
@custom_vjp
def square(x, power=2):
    """The docstring."""
    return x**power


square.defvjp(lambda x, power: (square(x, power), x), lambda x, ct: (2 * ct * x, None))


def test_it_looks_like_its_function() -> None:
    assert (square.__name__, square.__doc__, square.__module__) == ("square", "The docstring.", __name__)
    assert str(inspect.signature(square)) == "(x, power=2)"
    assert str(inspect.signature(rigged_vjp(custom_vjp))) == "(x, k, y)"
    assert rigged_vjp(custom_vjp).nondiff_argnums == (1,)
    assert repr(square) == "custom_vjp('square')"
    assert square.fun is square.__wrapped__
    assert pickle.loads(pickle.dumps(square)) is square is copy.deepcopy(square)
    assert isinstance(square, jaxprim.Primitive)


def test_arguments_resolve_as_in_jax() -> None:
    assert float(square(3.0)) == float(square(x=3.0)) == float(square(3.0, power=2)) == 9
    assert float(jax.grad(lambda x: square(power=2, x=x))(3.0)) == 6


class Model:
    scale = 3.0

    @partial(custom_vjp, nondiff_argnums=(0,))
    def f(self, x):
        return self.scale * x

    f.defvjp(lambda self, x: (self.f(x), None), lambda self, _, ct: (10 * self.scale * ct,))


def test_methods_bind_and_can_be_called_as_in_jax() -> None:
    model = Model()
    assert float(model.f(2.0)) == float(model.f(model, 2.0)) == float(Model.f(model, 2.0)) == 6
    assert float(jax.grad(model.f)(2.0)) == float(jax.grad(lambda x: model.f(model, x))(2.0)) == 30


# ------------------------------------------------------------------------------------------------------------------ closures
def masked(make: Make, mask: Any) -> Any:
    """x * mask; both rules read the mask too, and have 10 times the derivative."""
    f = make(lambda x: x * mask)
    if make in (custom_jvp, jax.custom_jvp):
        f.defjvp(lambda primals, tangents: (f(*primals), 10 * mask * tangents[0]))
    else:
        f.defvjp(lambda x: (f(x), None), lambda _, ct: (10 * ct * mask,))
    return f


@pytest.mark.parametrize("make", [custom_vjp, custom_jvp])
def test_rules_and_functions_close_over_traced_values(make: Make) -> None:
    grad = lambda mask, x: jax.grad(lambda x: masked(make, mask)(x).sum())(x)
    masks = jnp.stack([XS, XS + 1])
    for got, expected in [
        (jax.jit(grad)(XS, XS), 10 * XS),
        (jax.vmap(grad, (0, None))(masks, XS), 10 * masks),
        (jax.vmap(lambda mask: masked(make, mask)(2.0))(XS), 2 * XS),
        (jax.lax.scan(lambda c, mask: (grad(mask, c), None), XS, masks)[0], 10 * masks[1]),
        (jax.grad(jax.checkpoint(lambda x: jax.jit(lambda m: masked(make, m)(x).sum())(XS)))(XS), 10 * XS),
        # The gradient 10 mask is differentiated in the mask.
        (jax.grad(lambda mask: grad(jax.lax.stop_gradient(XS), XS).sum() * mask)(2.0), 10 * XS.sum()),
        # Differentiated outside of the jit in which the function is made: JAX has no answer here.
        (jax.grad(lambda x: jax.jit(lambda x, m: masked(make, m)(x).sum())(x, XS))(XS), 10 * XS),
        (jax.jvp(lambda x: jax.jit(lambda x, m: masked(make, m)(x))(x, XS), (XS,), (XS,))[1], 10 * XS * XS),
    ]:
        np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_a_value_that_only_the_rule_reads_has_no_derivative() -> None:
    def outer(y):
        f = custom_vjp(jnp.sin)
        f.defvjp(lambda x: (f(x), None), lambda _, ct: (ct * jnp.cos(y),))
        return jax.grad(f)(1.0) + f(2.0)

    assert float(jax.grad(outer)(0.3)) == pytest.approx(-np.sin(0.3))


@pytest.mark.parametrize("hold", ["list", "partial", "object", "method", "default", "inner function", "custom"])
def test_where_a_traced_value_is_found(hold: str) -> None:
    class Holder:
        def __init__(self, value):
            self.value = value

        def times(self, x):
            return x * self.value

    def made(theta):
        holder, inner_function = Holder(theta), lambda x: x * theta
        inner = custom_jvp(lambda x: x * theta)
        inner.defjvps(lambda x_dot, y, x: theta * x_dot)
        functions = {
            "list": lambda held: lambda x: x * held[0]["a"],
            "partial": lambda held: partial(lambda held, x: x * held[0]["a"], held),
            "object": lambda held: lambda x: holder.times(x),
            "method": lambda held: Holder(theta).times,
            "default": lambda held: lambda x, *, held=held: x * held[0]["a"],
            "inner function": lambda held: lambda x: inner_function(x),
            "custom": lambda held: lambda x: inner(x),
        }
        f = custom_vjp(functions[hold]([{"a": theta}]))
        f.defvjp(lambda x: (f(x), None), lambda _, ct: (ct * theta,))
        return jax.value_and_grad(f)(3.0)

    assert [float(v) for v in jax.jit(made)(2.0)] == [6, 2]
    assert jax.vmap(made)(XS)[0].tolist() == [3, 6, 9]


def test_non_differentiable_arguments_may_be_anything() -> None:
    @partial(custom_jvp, nondiff_argnums=(0, 2))
    def sample(shape, low, key):
        return jax.random.uniform(key, tuple(shape), minval=low)

    @sample.defjvp
    def _(shape, key, primals, tangents):
        return sample(shape, primals[0], key), jnp.broadcast_to(tangents[0], tuple(shape))

    keys = jax.random.split(jax.random.key(0), 3)
    for shape in ([2], np.array([2]), (2,)):
        assert jax.vmap(lambda key, shape=shape: sample(shape, 0.0, key))(keys).shape == (3, 2)
        assert float(jax.jit(jax.grad(lambda low: sample(shape, low, keys[0]).sum()))(0.0)) == 2  # noqa: B023


def test_a_number_in_a_container_is_not_taken_for_another() -> None:
    f = custom_vjp(lambda config, x: x * config["k"], nondiff_argnums=(0,))
    f.defvjp(lambda config, x: (f(config, x), None), lambda config, _, ct: (ct * config["k"],))
    config = {"k": 2.0}
    assert float(jax.vmap(jax.grad(lambda x: f(config, x)))(XS)[0]) == 2
    config["k"] = 5.0  # in place
    assert float(jax.vmap(jax.grad(lambda x: f(config, x)))(XS)[0]) == 5


# ------------------------------------------------------------------------------------------------------------- other options
def test_symbolic_zeros_are_those_of_jax() -> None:
    zero = jax.custom_derivatives.SymbolicZero
    seen: list[Any] = []

    @custom_vjp
    def f(x, y):
        return x * y, y

    def fwd(x, y):
        seen.append((x.perturbed, y.perturbed))
        return f(x.value, y.value), y.value

    def bwd(y, cts):
        seen.append(type(cts[1]) is zero)
        return cts[0] * y, cts[1]

    f.defvjp(fwd, bwd, symbolic_zeros=True)
    assert float(jax.grad(lambda x: f(x, 3.0)[0])(2.0)) == 3
    assert seen == [(True, False), True]

    g = custom_jvp(lambda x, y: x * y)

    @partial(g.defjvp, symbolic_zeros=True)
    def _(primals, tangents):
        assert type(tangents[1]) is zero
        return g(*primals), tangents[0] * primals[1]

    assert float(jax.jit(jax.grad(g))(2.0, 3.0)) == 3


def test_optimize_remat_computes_the_value_by_the_function() -> None:
    for optimize, value in ((True, np.tan(3.2)), (False, np.sin(3.2))):
        f = custom_vjp(jnp.tan)
        f.defvjp(lambda x: (jnp.sin(x), x), lambda x, ct: (jnp.cos(x) * ct,), optimize_remat=optimize)
        got, slope = jax.value_and_grad(jax.checkpoint(f))(np.float32(3.2))
        assert (float(got), float(slope)) == pytest.approx((value, np.cos(3.2)), rel=1e-5)


def test_a_cotangent_may_be_wider_than_its_operand() -> None:
    f = custom_vjp(lambda x: x)
    f.defvjp(lambda x: (x, None), lambda _, ct: (ct.astype(jnp.float32) * 2,))
    got = jax.jit(jax.grad(lambda x: f(x).sum()))(jnp.ones(2, jnp.bfloat16))
    assert (got.dtype, got.tolist()) == (jnp.bfloat16, [2, 2])


def test_an_eager_call_is_a_call_of_the_function() -> None:
    @custom_vjp
    def f(x):
        return x if x > 0 else None

    f.defvjp(lambda x: (x, None), lambda _, ct: (ct,))
    assert (f(2.0), f(-2.0)) == (2.0, None)
    g = custom_vjp(lambda x: x + 1)
    g.defvjp(lambda x: (g(x), None), lambda _, ct: (ct,))
    assert type(g(2)) is int
    g.def_kernel(lambda x: x + 100, platform="cpu")
    assert float(g(2.0)) == 102
    with jaxprim.use("impl"):
        assert float(g(2.0)) == 3


def test_more_rules_can_be_given() -> None:
    f = custom_vjp(lambda x: x * x)
    f.defvjp(lambda x: (f(x), x), lambda x, ct: (20 * ct * x,))
    f.def_jvp(lambda primals, tangents: (f(*primals), 200 * primals[0] * tangents[0]))
    f.def_batching(lambda axis, args, dims: (args[0] * 7, dims[0]))
    assert (float(jax.grad(f)(1.0)), float(jax.jvp(f, (1.0,), (1.0,))[1])) == (20, 200)
    assert jax.vmap(f)(XS).tolist() == (7 * XS).tolist()


def test_other_decorators_beneath() -> None:
    f = custom_jvp(jax.custom_batching.custom_vmap(lambda x: 2.0 * x))
    f.defjvp(lambda primals, tangents: (f(*primals), 2 * tangents[0]))
    f.def_vmap(lambda size, batched, x: (7.0 * x, True))
    assert jax.vmap(f)(XS).tolist() == (7 * XS).tolist()


# ------------------------------------------------------------------------------------------------------------- memory, costs
def test_functions_made_in_a_loop_are_freed() -> None:
    kept: list[weakref.ref[Any]] = []

    def step(x: Any) -> Any:
        f = masked(custom_vjp, x)
        kept.append(weakref.ref(f._rules))
        return jax.grad(lambda x: f(x).sum())(x)

    step(XS)
    for _ in range(3):
        jax.vmap(step)(XS)
        step(XS)
        jax.jit(lambda x: step(x))(XS)
    gc.collect()
    assert len(kept) >= 9
    assert not [ref for ref in kept if ref() is not None]


def test_a_call_that_closes_over_traced_values_leaves_nothing_in_the_function() -> None:
    apply = custom_vjp(lambda f, x: f(x), nondiff_argnums=(0,))
    apply.defvjp(lambda f, x: (apply(f, x), None), lambda f, _, ct: (ct * f(1.0),))
    for _ in range(3):
        jax.vmap(lambda theta: jax.grad(lambda x: apply(lambda y: theta * y, x))(1.0))(XS)
    assert not apply._rules.calls
    assert not apply._rules.cache._entries


def test_a_loop_at_the_top_level_makes_nothing_trace_again() -> None:
    code = """
import jax, jax.numpy as jnp, jaxprim
traced = []
def step(x):
    traced.append(1)
    return x + 1
compiled = jax.jit(step)
for i in range(3):
    @jaxprim.custom_vjp
    def f(x):
        return x * i
    f.defvjp(lambda x: (f(x), None), lambda _, ct: (ct,))
    jax.grad(f)(1.0)
    compiled(1.0)
"""
    variables: dict[str, Any] = {"__name__": "a_script"}
    exec(compile(code, "a_script.py", "exec"), variables)
    assert variables["traced"] == [1]
