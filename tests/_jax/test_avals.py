"""Types, and the mesh axes over which values vary, as this JAX has them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxprim import _jax

SPLIT = PartitionSpec("d")


def on_devices(fn: Any, *args: Any, out: Any = SPLIT) -> Any:
    mesh = jax.make_mesh((4,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    split = tuple(PartitionSpec("d") if arg.ndim else PartitionSpec() for arg in args)
    return jax.jit(jax.shard_map(fn, mesh=mesh, in_specs=split, out_specs=out))(*args)


def test_varying_axes_are_read() -> None:
    seen: list[Any] = []

    def body(x: Any, a: Any) -> Any:
        seen.extend([_jax.varying(_jax.typeof(x)), _jax.varying(_jax.typeof(a))])
        return x

    on_devices(body, jnp.arange(4.0), jnp.float32(2))
    assert seen == [frozenset({"d"}), frozenset()]
    assert _jax.varying(_jax.typeof(jnp.ones(2))) == frozenset()


def test_a_value_is_cast_and_its_transpose_sums() -> None:
    cast = lambda a: _jax.cast_varying(a, frozenset({"d"}))
    gradient = lambda x, a: jax.grad(lambda a: (x * cast(a)).sum())(a)
    out = on_devices(gradient, jnp.arange(4.0), jnp.float32(2), out=PartitionSpec())
    np.testing.assert_allclose(out, 6.0)


def test_a_type_is_put_into_a_mesh() -> None:
    seen: list[Any] = []

    def body(x: Any) -> Any:
        plain = jax.core.ShapedArray((2, 3), jnp.float32)
        seen.append(_jax.in_mesh(plain, frozenset({"d"}), _jax.typeof(x)))
        return x

    on_devices(body, jnp.arange(4.0))
    assert (_jax.varying(seen[0]), seen[0].shape, _jax.has_mesh(seen[0])) == (frozenset({"d"}), (2, 3), True)


@pytest.mark.parametrize(("value", "dtype"), [(1.5, "float32"), (2j, "complex64"), (3, "float0"), (True, "float0")])
def test_tangent_and_cotangent_types(value: Any, dtype: str) -> None:
    aval = _jax.typeof(jnp.asarray(value))
    assert (_jax.tangent_aval(aval).dtype.name, _jax.cotangent_aval(aval).dtype.name) == tuple(
        "void" if dtype == "float0" else dtype for _ in range(2)
    )
    assert _jax.has_tangent(aval) == (dtype != "float0")
    assert isinstance(_jax.zero_tangent(jnp.asarray(value)), _jax.JaxZero)
