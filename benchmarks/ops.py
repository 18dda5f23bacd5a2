"""The same operation, ``y = x * factor``, by jaxprim and by each peer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive as JaxPrimitive
from jax.interpreters import ad, batching, mlir

from jaxprim import Primitive

Op = Callable[..., Any]


def jaxprim_explicit(name: str = "scale") -> Op:
    """Both rules, residuals explicit."""
    scale = _scale(name)

    @scale.def_vjp
    def _(primals):
        def pullback(residuals, y_bar):
            x, factor = residuals
            return y_bar * factor, jnp.sum(y_bar * x)

        return scale(*primals), primals, pullback

    return scale


def jaxprim_closure(name: str = "scale") -> Op:
    """Both rules, residuals in a closure."""
    scale = _scale(name)

    @scale.def_vjp
    def _(primals):
        x, factor = primals
        return scale(x, factor), lambda y_bar: (y_bar * factor, jnp.sum(y_bar * x))

    return scale


def jaxprim_impl(name: str = "scale") -> Op:
    """An impl and nothing else."""
    scale = Primitive(name)
    scale.def_impl(lambda x, factor: x * factor)
    return scale


def _scale(name: str) -> Primitive:
    scale = Primitive(name)
    scale.def_impl(lambda x, factor: x * factor)

    @scale.def_jvp
    def _(primals, tangents):
        x, factor = primals
        x_dot, factor_dot = tangents
        return scale(x, factor), x_dot * factor + x * factor_dot

    return scale


def bare(name: str = "scale") -> Op:
    """JAX's own primitive with hand-written rules; it skips zeros by hand, as jaxprim does by itself."""
    p = JaxPrimitive(name)
    p.def_impl(jax.jit(p.bind))
    p.def_abstract_eval(lambda x, factor: jax.core.ShapedArray(x.shape, x.dtype))
    mlir.register_lowering(p, mlir.lower_fun(lambda x, factor: x * factor, multiple_results=False))

    def jvp(primals, tangents):
        (x, factor), (x_dot, factor_dot) = primals, tangents
        terms = []
        if type(x_dot) is not ad.Zero:
            terms.append(x_dot * factor)
        if type(factor_dot) is not ad.Zero:
            terms.append(x * factor_dot)
        return p.bind(x, factor), sum(terms[1:], terms[0])

    def batch(args, dims):
        (x, factor), (x_dim, factor_dim) = args, dims
        if factor_dim is not None:
            x = jnp.moveaxis(x, x_dim, 0) if x_dim is not None else x[None]
            factor = factor.reshape(-1, *[1] * (x.ndim - 1))
            return x * factor, 0
        return p.bind(x, factor), x_dim

    ad.primitive_jvps[p] = jvp
    batching.primitive_batchers[p] = batch
    return p.bind


def custom_jvp(name: str = "scale") -> Op:
    """``jax.custom_jvp``."""

    def scale(x, factor):
        return x * factor

    op = jax.custom_jvp(scale)
    op.defjvp(lambda primals, tangents: (op(*primals), tangents[0] * primals[1] + primals[0] * tangents[1]))
    return op


def custom_vjp(name: str = "scale") -> Op:
    """``jax.custom_vjp``."""

    def scale(x, factor):
        return x * factor

    op = jax.custom_vjp(scale)
    op.defvjp(
        lambda x, factor: (op(x, factor), (x, factor)),
        lambda residuals, y_bar: (y_bar * residuals[1], jnp.sum(y_bar * residuals[0])),
    )
    return op


def hiprim(name: str = "scale") -> Op | None:
    """JAX's experimental hijax primitive, under the name that this JAX has for it."""
    from jax.experimental import hijax

    base = getattr(hijax, "HiPrim", None) or getattr(hijax, "VJPHiPrimitive", None)
    if base is None:
        return None

    def init(self, x, factor):
        self.in_avals, self.out_aval, self.params = (x, factor), x, {}
        base.__init__(self)

    def batch(self, axis, args, dims):
        return type(self)(*map(jax.typeof, args))(*args), dims[0]

    members = {
        "__init__": init,
        "expand": lambda self, x, factor: x * factor,
        "vjp_fwd": lambda self, nonzero, x, factor: (self(x, factor), (x, factor)),
        "vjp_bwd_retval": lambda self, residuals, ct: (ct * residuals[1], jnp.sum(ct * residuals[0])),
        "jvp": lambda self, primals, tangents: (
            self(*primals),
            _dense(tangents[0]) * primals[1] + primals[0] * _dense(tangents[1]),
        ),
        "batch": batch,
    }
    cls = type(name, (base,), members)
    return lambda x, factor: cls(jax.typeof(x), jax.typeof(factor))(x, factor)


def _dense(tangent: Any) -> Any:
    return tangent.instantiate() if hasattr(tangent, "instantiate") else tangent


PEERS: dict[str, Callable[[], Op | None]] = {
    "jaxprim": jaxprim_explicit,
    "jaxprim, closure": jaxprim_closure,
    "jaxprim, impl only": jaxprim_impl,
    "bare Primitive": bare,
    "custom_jvp": custom_jvp,
    "custom_vjp": custom_vjp,
    "HiPrim": hiprim,
}
