"""Residuals that a VJP rule names are saved by a policy of `jax.checkpoint`. `jax.custom_vjp` says how often kernels run."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

import jaxprim
from jaxprim import Primitive
from jaxprim.derive.named import may_name

RUNS: Counter[str] = Counter()
X = np.float32(3)
POLICIES = jax.checkpoint_policies
OFFLOADED = POLICIES.save_and_offload_only_these_names(
    names_which_can_be_saved=[],
    names_which_can_be_offloaded=["slope"],
    offload_src="device",
    offload_dst="pinned_host",
)


def kernel() -> Primitive:
    """x -> (x^2, 2 x), an opaque function that counts its runs."""
    both = Primitive("both")

    @both.def_host
    def _(x):
        RUNS["both"] += 1
        return x * x, 2 * x

    both.def_abstract_eval(lambda x: (x, x))
    both.def_batching("sequential")
    return both


BOTH = kernel()


def fwd(x):
    y, slope = BOTH(x)
    return y, checkpoint_name(slope, "slope")


def by_jax() -> Any:
    f = jax.custom_vjp(lambda x: BOTH(x)[0])
    f.defvjp(fwd, lambda slope, ct: (ct * slope,))
    return f


def by_decorator() -> Any:
    f = jaxprim.custom_vjp(lambda x: BOTH(x)[0])
    f.defvjp(fwd, lambda slope, ct: (ct * slope,))
    return f


def by_vjp() -> Any:
    f = Primitive("square")
    f.def_impl(lambda x: BOTH(x)[0])

    @f.def_vjp
    def _(primals):
        y, slope = fwd(*primals)
        return y, lambda ct: ct * slope

    return f


def by_both() -> Any:
    f = by_vjp()
    f.def_jvp(lambda primals, tangents: (f(*primals), 2 * primals[0] * tangents[0]))
    return f


MAKERS = [by_decorator, by_vjp, by_both]


def value_and_grad(f: Any, policy: Any, in_vmap: bool) -> tuple[Any, int]:
    """Three steps x -> x^2 / 3 under checkpoint, and how often the kernel ran."""
    step = jax.vmap(f) if in_vmap else f

    def loss(x):
        body = jax.checkpoint(lambda c, _: (step(c) / 3, None), policy=policy)
        return jax.lax.scan(body, x, None, length=3)[0].sum()

    RUNS.clear()
    x = jnp.stack([X, X]) if in_vmap else X
    found = jax.block_until_ready(jax.jit(jax.value_and_grad(loss))(x))
    return found, RUNS["both"]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("in_vmap", [False, True], ids=["", "vmap"])
def test_a_policy_saves_what_the_rule_names(make: Any, in_vmap: bool) -> None:
    offloaded = [] if in_vmap else [(OFFLOADED, 3)]
    for policy, runs in ((POLICIES.nothing_saveable, 6), (POLICIES.save_only_these_names("slope"), 3), *offloaded):
        f = make()
        (value, slope), ran = value_and_grad(f, policy, in_vmap)
        np.testing.assert_allclose(value, 6 if in_vmap else 3)
        np.testing.assert_allclose(slope, [8, 8] if in_vmap else 8)
        assert ran == runs * (2 if in_vmap else 1) == value_and_grad(by_jax(), policy, in_vmap)[1]
        assert "names residuals for jax.checkpoint: slope" in str(f.explain())


@pytest.mark.parametrize("make", MAKERS)
def test_the_bytes_that_are_saved(make: Any) -> None:
    def saved(f: Any) -> int:
        policy = POLICIES.save_only_these_names("slope")
        pull = jax.vjp(jax.checkpoint(lambda x: jnp.sum(jnp.sin(f(jnp.cos(x)))), policy=policy), jnp.ones(8))[1]
        return sum(leaf.nbytes for leaf in jax.tree.leaves(pull) if hasattr(leaf, "nbytes"))

    assert saved(make()) == saved(by_jax())


@pytest.mark.parametrize("make", MAKERS)
def test_what_is_offloaded_goes_to_the_host(make: Any) -> None:
    def moved(f: Any) -> list[str]:
        loss = lambda x: jnp.sum(jnp.sin(jax.checkpoint(f, policy=OFFLOADED)(x)))
        text = str(jax.make_jaxpr(jax.grad(loss))(jnp.ones(8)))
        return re.findall(r"(?:devices=|<)\S*(?:pinned_host|Host)\S*", text)

    assert moved(make()) == moved(by_jax()) != []


@pytest.mark.parametrize("make", MAKERS)
def test_other_nests_have_the_same_numbers(make: Any) -> None:
    f, policy = make(), POLICIES.save_only_these_names("slope")
    BOTH.def_jvp(lambda p, t: (BOTH(*p), (2 * p[0] * t[0], 2 * t[0])))
    kept = jax.checkpoint(f, policy=policy)
    assert [float(v) for v in jax.jit(lambda x: jax.jvp(kept, (x,), (x,)))(X)] == [9, 18]
    assert float(jax.jit(jax.hessian(kept))(X)) == 2
    xs = jnp.array([1.0, 2.0])
    assert jax.jit(jax.grad(jax.checkpoint(lambda x: jax.vmap(f)(x).sum(), policy=policy)))(xs).tolist() == [2, 4]


def test_a_rule_without_names_is_not_traced_for_forward_mode() -> None:
    traced: list[int] = []
    f = Primitive("plain")
    f.def_impl(lambda x: x * x)
    f.def_jvp(lambda primals, tangents: (f(*primals), 2 * primals[0] * tangents[0]))

    @f.def_vjp
    def _(primals):
        traced.append(1)
        return f(*primals), lambda ct: 2 * primals[0] * ct

    jax.jit(lambda x: jax.jvp(f, (x,), (x,)))(X)
    assert not traced


def test_which_code_may_name() -> None:
    def helper(x):
        return fwd(x)

    def rule_of(fn):
        f = Primitive("f")
        f.def_vjp(fn)
        return f._rules.given["vjp"]

    assert may_name(rule_of(lambda primals: helper(*primals)))
    assert may_name(rule_of(lambda primals: jax.ad_checkpoint.checkpoint_name(primals[0], "x")))
    assert not may_name(rule_of(lambda primals: (jnp.sin(primals[0]), lambda ct: ct)))
