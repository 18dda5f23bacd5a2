"""What devices communicate: rules that only sum, calls that need whole arrays, and when nothing is asked."""

from __future__ import annotations

import faults
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprim
from jaxprim import Primitive
from jaxprim.checking.questions import communication

X, W = jnp.ones((4, 3)), jnp.ones(3)

pytestmark = pytest.mark.usefixtures("jax_defaults")


def ask(p, *operands):
    (found,) = jaxprim.report(p, *operands, only="communication").findings
    return found


def scaled():
    p = Primitive("scaled")
    p.def_impl(lambda x, w: x * x * w[None])
    p.def_sharding("b n, n -> b n")
    return p


def host(name, fn):
    p = Primitive(name)
    p.def_host(fn)
    p.def_abstract_eval(lambda x, *_: jax.ShapeDtypeStruct(x.shape, x.dtype))
    return p


def calls(p, slope):
    """The pullback of `scaled`, with this function for 2 x w."""

    @p.def_vjp
    def _(primals):
        x, w = primals
        return p(x, w), lambda g: (g * slope(x, w), jnp.sum(x * x * g, 0))

    return p


def in_numpy(x, w):
    return 2 * x * w


def as_it_is(x, w):
    return jax.pure_callback(in_numpy, jax.ShapeDtypeStruct(x.shape, x.dtype), x, w)


def test_a_host_function_that_a_rule_calls_as_it_is():
    found = ask(calls(scaled(), as_it_is), X, W)
    place = found.rules[0][1]
    text = found.text().replace(place, "PLACE")
    assert (
        text
        == """\
fail: communication of scaled at x=float32[4,3], w=float32[3]
  rule: vjp, PLACE
  jvp: axis 'b' split over two devices
    error:     all-gather of f32[4,3], the shape of x and of result (48 bytes); expected sums of at most 0 elements
  and 1 more comparison that is off
  note: a host function (jax.pure_callback) is called on whole arrays: a call that stands in a rule as it is has no sharding rule. Make it a Primitive of its own, with def_sharding
  note: axis 'b' split: value nothing; jvp 1 x all-gather (48 bytes), 1 x all-reduce (48 bytes); vjp 2 x all-gather (96 bytes), 2 x all-reduce (60 bytes)
  note: axis 'n' has size 3 in the example, which two devices cannot share evenly
  note: the jvp rule is derived from the vjp rule"""
    )


def test_an_operation_of_its_own_with_a_rule_sums_alone():
    slope = host("slope", in_numpy)
    slope.def_sharding("b n, n -> b n")
    found = ask(calls(scaled(), slope), X, W)
    assert found.status == "pass", found.text()
    assert any("vjp 1 x all-reduce (12 bytes)" in note for note in found.notes)


def test_a_sum_that_the_rule_says_and_no_other(monkeypatch):
    total = Primitive("total")
    total.def_impl(lambda x: (x + 0, jnp.sum(x, 0)))
    total.def_sharding("b n -> b n, n", reduced="b")
    found = ask(total, X.astype(jnp.bfloat16))
    (value,) = (item for item in found.evidence if item.rule == "sharding")
    assert (found.status, value.got, value.expected) == (
        "pass", "1 x all-reduce (12 bytes)", "sums of at most 3 elements",
    )  # fmt: skip
    monkeypatch.setattr(communication._Split, "most", lambda self, rule: 2)
    assert ask(total, X).evidence[0].message == "1 x all-reduce (12 bytes); expected sums of at most 2 elements"


@pytest.mark.parametrize(
    ("fault", "rule", "said"),
    [
        (faults.pullback_that_sums_more_than_a_cotangent, "vjp", "1 x all-reduce (36 bytes); expected sums of at most 3 elements"),
        (faults.jvp_that_sums_more_than_a_tangent, "jvp", "2 x all-reduce (48 bytes); expected sums of at most 6 elements"),
        (
            faults.pullback_whose_kernel_runs_on_the_whole_on_each_device, "vjp",
            "each device computes lapack_sgeqrf_ffi of [4, 3], the shape of x; "
            "each device computes lapack_sorgqr_ffi of [4, 3], the shape of x, and not of its part",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_what_a_derivative_may_sum_and_compute(fault, rule, said):
    p, operands = fault()
    found = ask(p, *operands)
    (wrong,) = [item for item in found.evidence if not item.ok]
    assert (wrong.rule, wrong.message.replace("operands[0]", "x")) == (rule, said)


def test_the_least_that_a_right_rule_sums():
    product = host("product", np.matmul)
    product.def_abstract_eval(lambda x, w: jax.ShapeDtypeStruct((x.shape[0], w.shape[1]), x.dtype))
    product.def_sharding("i k, k j -> i j", reduced="k")
    product.def_jvp(lambda primals, t: (product(*primals), product(t[0], primals[1]) + product(primals[0], t[1])))
    product.def_vjp(lambda primals: (product(*primals), lambda g: (product(g, primals[1].T), product(primals[0].T, g))))
    found = ask(product, jnp.ones((5, 6)), jnp.ones((6, 3)))
    assert found.status == "pass", found.text()
    assert [(item.rule, item.got, item.expected) for item in found.evidence] == [
        ("sharding", "1 x all-reduce (60 bytes)", "sums of at most 15 elements"),
        ("jvp", "3 x all-reduce (180 bytes)", "sums of at most 45 elements"),
        ("vjp", "1 x all-reduce (60 bytes)", "sums of at most 15 elements"),
    ]


def test_a_derivative_of_the_implementation_is_a_note():
    p = Primitive("p")
    p.def_impl(lambda x: as_it_is_differentiable(x))
    p.def_sharding("b n -> b n")
    found = ask(p, X)
    assert found.status == "pass", found.text()
    assert any("is JAX's derivative of the impl, into which the rule does not reach" in note for note in found.notes)


@jax.custom_vjp
def as_it_is_differentiable(x):
    return x * x


as_it_is_differentiable.defvjp(lambda x: (x * x, x), lambda x, g: (g * as_it_is(x, jnp.float32(1)),))


def kernel():
    p = Primitive("k")
    p.def_kernel(lambda x: -x, platform="cpu")
    p.def_abstract_eval(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype))
    return p


@pytest.mark.parametrize(
    ("p", "reason"),
    [
        (
            kernel(),
            "no sharding rule: on several devices, a kernel splits along its batch axes at most, and operands that are split "
            "along others are gathered; def_sharding says how it splits",
        ),
        (jnp.negative, "no sharding rule"),
        (
            host("h", np.negative),
            "no sharding rule: on several devices, its operands are gathered, 48 bytes here; def_sharding says how it splits",
        ),
    ],
)
def test_without_a_rule(p, reason):
    found = ask(p, X)
    assert (found.status, found.reason) == ("skipped", reason)


def test_one_device_says_how_to_get_two(monkeypatch):
    one = jax.local_devices()[:1]
    monkeypatch.setattr(jax, "local_devices", lambda: one)
    found = ask(scaled(), X, W)
    assert found.status == "skipped"
    assert found.reason == (
        "JAX has only one device here; set JAX_NUM_CPU_DEVICES=2 in the environment, or "
        'jax.config.update("jax_num_cpu_devices", 2) before JAX is used'
    )
