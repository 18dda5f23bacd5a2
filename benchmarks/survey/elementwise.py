"""``jax.nn``, ``jax.numpy`` and ``jax.scipy.stats``: rules of JAX itself, with their corners."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.stats
import numpy as np
import scipy.stats

from .op import Op, at, normal, points

SIGNED = at(-2.3, -0.4, 0.6, 3.1)
KINKS = at(0.0, 30.0, -30.0)
ACTIVATIONS = [
    "relu", "relu6", "sigmoid", "hard_sigmoid", "log_sigmoid", "silu", "hard_silu", "mish", "elu", "celu", "selu", "gelu",
    "leaky_relu", "soft_sign", "softplus", "squareplus", "sparse_plus", "sparse_sigmoid", "hard_tanh",
]  # fmt: skip


def ops() -> Iterator[Op]:
    yield from (_nn(name, SIGNED, KINKS) for name in ACTIVATIONS)
    yield _nn("gelu", SIGNED, KINKS, approximate=False)
    yield _nn("glu", normal(2, 4))
    yield _nn("standardize", normal(2, 4))
    yield _nn("log1mexp", at(0.1, 0.8, 4.0), at(1e-6, 50.0))
    yield _nn("logmeanexp", normal(4), at(-100.0, 0.0, 100.0))
    yield _nn("dot_product_attention", tuple(normal(3, 1, 2, seed=i) for i in range(3)))
    yield from (_jnp(name, *examples) for name, examples in NUMPY)
    yield from (_jnp(name, *examples, reference=None) for name, examples in NO_NUMPY)
    yield _jnp("linalg.norm", (at(3.0, -4.0),), (at(0.0, 0.0),))
    yield _jnp("linalg.norm", (at(3.0, -4.0),), ord=3)
    yield _jnp("std", normal(4), at(1.0, 1.0, 1.0))
    yield _jnp("prod", at(2.0, -1.0, 3.0), at(2.0, 0.0, 3.0))
    yield _jnp("cumprod", at(2.0, -1.0, 3.0), at(2.0, 0.0, 3.0))
    yield _jnp("quantile", (at(0.3, 2.0, 1.1, 0.7), at(0.4)))
    yield _jnp("nanmean", at(1.0, 2.0), at(1.0, np.nan, 2.0))
    for name, more in STATS:
        yield from _density(name, *more)


def _nn(name: str, *examples: Any, **fixed: Any) -> Op:
    return _op("jax.nn", name, examples, fixed)


def _jnp(name: str, *examples: Any, reference: Any = True, **fixed: Any) -> Op:
    own = _of(np, name, fixed)() if reference else None
    return _op("jax.numpy", name, examples, fixed, own)


def _op(library: str, name: str, examples: Any, fixed: dict[str, Any], reference: Any = None) -> Op:
    said = name + "".join(f", {key}={value}" for key, value in fixed.items())
    module = jax.nn if library == "jax.nn" else jnp
    return Op(f"{library} {said}", _of(module, name, fixed), points(*examples), reference)


def _of(module: Any, name: str, fixed: dict[str, Any]) -> Callable[[], Callable[..., Any]]:
    def make() -> Callable[..., Any]:
        found = module
        for part in name.split("."):
            found = getattr(found, part)
        return partial(found, **fixed) if fixed else found

    return make


def _density(name: str, x: np.ndarray, *parameters: np.ndarray) -> Iterator[Op]:
    """Density and distribution function beside SciPy's."""
    for which in ("logpdf", "cdf"):
        if hasattr(getattr(jax.scipy.stats, name), which):
            yield Op(
                f"jax.scipy.stats {name}.{which}",
                partial(getattr, getattr(jax.scipy.stats, name), which),
                points((x, *parameters)),
                getattr(getattr(scipy.stats, name), which),
            )


NUMPY = [
    ("sinc", (at(0.3, -1.6), at(0.0, 1e-3, 1e-5), at(1.0, 5.0))),
    ("logaddexp", ((SIGNED, SIGNED[::-1]), (at(1.0, -700.0), at(1.0, 700.0)), (at(-np.inf), at(0.3)))),
    ("logaddexp2", ((SIGNED, SIGNED[::-1]), (at(1.0), at(1.0)))),
    ("hypot", ((SIGNED, SIGNED[::-1]), (at(0.0), at(0.0)), (at(1e18), at(1e18)))),
    ("cbrt", (SIGNED, at(1e-12, -1e12), at(0.0))),
    ("sqrt", (at(0.3, 4.0), at(1e-12), at(0.0))),
    ("arctan2", ((SIGNED, SIGNED[::-1]), (at(0.0, 1.0), at(1.0, 0.0)), (at(0.0), at(0.0)))),
    ("power", ((at(0.3, 2.0), at(1.7, -0.6)), (at(0.0, 0.0), at(2.0, 1.0)), (at(0.0), at(0.0)), (at(-2.0), at(3.0)))),
    ("float_power", ((at(0.3, 2.0), at(1.7, -0.6)),)),
    ("remainder", ((at(5.3, -2.1), at(2.0, 1.5)),)),
    ("fmod", ((at(5.3, -2.1), at(2.0, 1.5)),)),
    ("maximum", ((SIGNED, SIGNED[::-1]), (at(1.0), at(1.0)))),
    ("fmax", ((SIGNED, SIGNED[::-1]), (at(1.0), at(1.0)))),
    ("max", (SIGNED, at(1.0, 1.0, 0.0))),
    ("abs", (SIGNED, at(0.0), at(0.3 + 0.4j), at(0.0 + 0.0j))),
    ("angle", (at(0.3 + 0.4j, -1.0 + 2.0j),)),
    ("arcsin", (at(-0.9, 0.2), at(0.9999), at(1.0))),
    ("arccosh", (at(1.3, 5.0), at(1.0001))),
    ("expm1", (SIGNED, at(0.0, 1e-7))),
    ("log1p", (at(-0.4, 2.0), at(0.0, 1e-7))),
    ("tan", (SIGNED, at(1.57))),
    ("interp", ((at(0.5, 1.2), at(0.0, 1.0, 2.0), at(1.0, 3.0, 2.0)),)),
    ("sort", (at(3.0, 1.0, 2.0), at(1.0, 1.0, 0.0))),
    ("median", (at(3.0, 1.0, 2.0, 7.0),)),
    ("unwrap", (at(0.1, 3.0, 6.2),)),
    ("convolve", ((normal(4), normal(3, seed=1)),)),
    ("trapezoid", ((normal(4), at(0.0, 1.0, 1.5, 3.0)),)),
]

NO_NUMPY = [
    ("fft.fft", (normal(4) + 1j * normal(4, seed=1),)),
    ("fft.rfft", (normal(4),)),
    ("fft.irfft", (normal(3) + 1j * normal(3, seed=1),)),
]

STATS = [
    ("norm", (SIGNED, at(0.1), at(1.3))),
    ("t", (SIGNED, at(3.0))),
    ("beta", (at(0.2, 0.7), at(1.5), at(2.5))),
    ("gamma", (at(0.2, 2.0), at(1.5))),
    ("laplace", (SIGNED,)),
    ("logistic", (SIGNED,)),
    ("cauchy", (SIGNED,)),
    ("chi2", (at(0.5, 3.0), at(2.5))),
    ("vonmises", (at(0.5, 2.0), at(1.3))),
    ("truncnorm", (at(0.2, 0.5), at(-1.0), at(2.0))),
    ("gennorm", (at(0.4, -1.5), at(1.5))),
]
