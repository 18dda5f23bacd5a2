from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim.checking import draw
from jaxprim.checking.case import Case
from jaxprim.checking.subject import Subject


def test_types_are_drawn_and_numbers_kept():
    types = jax.ShapeDtypeStruct((2, 3), jnp.float32), jax.ShapeDtypeStruct((4,), jnp.int32), 2.0
    x, i, f = draw.draw_types(types, 0)
    assert (x.shape, x.dtype, f) == ((2, 3), jnp.float32, 2.0)
    assert np.all((np.asarray(x) >= 0.5) & (np.asarray(x) <= 1.5))
    assert set(np.asarray(i).tolist()) <= {0, 1}
    assert jnp.array_equal(x, draw.draw_types(types, 0)[0])
    assert not jnp.array_equal(x, draw.draw_types(types, 1)[0])


def test_complex_numbers_booleans_and_keys():
    z, b, keys = draw.draw_types(
        (
            jax.ShapeDtypeStruct((2,), jnp.complex64),
            jax.ShapeDtypeStruct((2,), jnp.bool_),
            jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 3)),
        ),
        0,
    )
    assert z.dtype == jnp.complex64
    assert jnp.all(z.imag > 0)
    assert b.dtype == jnp.bool_
    assert keys.shape == (3,)
    assert jnp.issubdtype(keys.dtype, jax.dtypes.prng_key)


def test_a_case_draws_its_operands():
    it = Case.of(Subject.of(jnp.sin), (jax.ShapeDtypeStruct((3,), jnp.float32),), {}, 0)
    assert it.label == "x=float32[3]"
    assert isinstance(it.point.leaves[0], jax.Array)
