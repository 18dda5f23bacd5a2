from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import Primitive
from jaxprim.checking import draw
from jaxprim.checking.case import Case
from jaxprim.checking.subject import Subject
from jaxprim.kernels.signature import parse


def test_types_are_drawn_and_numbers_kept():
    types = jax.ShapeDtypeStruct((2, 3), jnp.float32), jax.ShapeDtypeStruct((4,), jnp.int32), 2.0
    x, i, f = draw.drawn(types, 0)
    assert (x.shape, x.dtype, f) == ((2, 3), jnp.float32, 2.0)
    assert np.all((np.asarray(x) >= 0.5) & (np.asarray(x) <= 1.5))
    assert set(np.asarray(i).tolist()) <= {0, 1}
    assert jnp.array_equal(x, draw.drawn(types, 0)[0])
    assert not jnp.array_equal(x, draw.drawn(types, 1)[0])


def test_complex_numbers_booleans_and_keys():
    z, b, keys = draw.drawn(
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


def test_the_sizes_of_a_signature_are_all_different():
    types = draw._of_signature(parse("f(x: f32[n, d], w: T[d], k: i32[3]) -> f32[n]"))
    assert [(t.shape, str(t.dtype)) for t in types] == [((2, 3), "float32"), ((3,), "float32"), ((3,), "int32")]
    assert draw._of_signature(parse("f(x: f32[n]; eps: f32) -> f32[n]")) is None


def test_a_primitive_without_kernels_declares_nothing():
    made = Primitive("made")
    made.def_impl(lambda x: x)
    assert draw.declared(made) is None


def test_a_case_draws_its_operands():
    it = Case.of(Subject.of(jnp.sin), (jax.ShapeDtypeStruct((3,), jnp.float32),), {}, 0)
    assert it.label == "x=float32[3]"
    assert isinstance(it.point.leaves[0], jax.Array)
