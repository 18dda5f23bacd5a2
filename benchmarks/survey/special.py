"""``jax.scipy.special``: every function with a derivative, beside SciPy's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax.scipy.special
import numpy as np
import scipy.special

from .op import Op, Operands, at, normal, points

PLAIN = at(0.3, 1.7, 4.2)
SIGNED = at(-2.3, -0.4, 0.6, 3.1)
UNIT = at(0.05, 0.4, 0.93)
EDGES = at(0.0, 1e-6, 30.0)


def op(name: str, *examples: Any, reference: bool | Callable[..., Any] = True, **fixed: Any) -> Op:
    """``jax.scipy.special.<name>`` with some arguments held fixed."""
    said = f"jax.scipy.special {name}" + "".join(f", {key}={value}" for key, value in fixed.items())
    own = getattr(scipy.special, name, None) if reference is True else None
    given = reference if callable(reference) else None
    return Op(
        said,
        lambda: _fixed(getattr(jax.scipy.special, name), fixed),
        points(*examples),
        given if own is None else _fixed(own, fixed),
    )


def _fixed(function: Callable[..., Any], fixed: dict[str, Any]) -> Callable[..., Any]:
    return partial(function, **fixed) if fixed else function


def _first(name: str, first: Any, *examples: Any) -> Op:
    """A function whose first argument, an order, is held fixed."""
    return Op(
        f"jax.scipy.special {name}({first}, ...)",
        lambda: lambda *x: getattr(jax.scipy.special, name)(first, *x),
        points(*examples),
        lambda *x: getattr(scipy.special, name)(first, *x),
    )


def ops() -> Iterator[Op]:
    yield from map(_one, ONE)
    yield from (op(name, *examples) for name, examples in SEVERAL)
    yield _first("polygamma", 1, PLAIN, at(0.01, 80.0))
    yield Op(  # JAX says that it has no derivative in the first two
        "jax.scipy.special betainc(1.5, 2.5, x)",
        lambda: lambda x: jax.scipy.special.betainc(1.5, 2.5, x),
        points(UNIT, at(1e-4, 0.9999)),
        lambda x: scipy.special.betainc(1.5, 2.5, x),
    )
    yield _first("expn", 2, PLAIN, at(1e-3, 30.0))
    yield op("bessel_jn", PLAIN, at(1e-3, 12.0), reference=lambda x: _orders(scipy.special.jv, x), v=2)
    yield op("multigammaln", at(3.5, 7.0), reference=lambda a: np.vectorize(scipy.special.multigammaln)(a, 2), d=2)
    yield op("logsumexp", normal(4), at(1.0, 1.0, 1.0), at(-100.0, 0.0, 100.0), at(-np.inf, 0.0, 1.0))
    yield op("softmax", normal(4), at(1.0, 1.0, 1.0), at(-100.0, 0.0, 100.0))
    yield op("log_softmax", normal(4), at(-100.0, 0.0, 100.0))
    yield Op(
        "jax.scipy.special sph_harm_y(2, 1, theta, phi)",
        lambda: (
            lambda theta, phi: jax.scipy.special.sph_harm_y(at(2).astype(int), at(1).astype(int), theta, phi, n_max=2)
        ),
        points((at(0.7), at(0.4))),
        lambda theta, phi: scipy.special.sph_harm_y(2, 1, theta, phi),
    )


def _orders(function: Callable[..., Any], x: np.ndarray) -> np.ndarray:
    return np.stack([function(order, x) for order in range(3)])


def _one(entry: tuple[str, tuple[Operands, ...]]) -> Op:
    name, examples = entry
    return op(name, *examples)


ONE = [
    ("gamma", (PLAIN, at(-1.5, -0.3), at(0.01, 20.0))),
    ("gammaln", (PLAIN, at(-1.5, -0.3), at(1.0, 2.0), at(1e-3, 1e4))),
    ("loggamma", (PLAIN,)),
    ("digamma", (PLAIN, at(-1.5, -0.3), at(1e-2, 1e3))),
    ("erf", (SIGNED, EDGES)),
    ("erfc", (SIGNED, at(0.0, 5.0, -5.0))),
    ("erfcx", (SIGNED, at(0.0, 50.0))),
    ("erfinv", (at(-0.9, 0.1, 0.6), at(0.0, 0.999))),
    ("erfcinv", (at(0.1, 1.2, 1.9), at(1.0, 1e-3))),
    ("dawsn", (SIGNED, at(0.0, 20.0))),
    ("wofz", (at(0.3 + 0.2j, -1.0 + 0.5j),)),
    ("expit", (SIGNED, at(0.0, 40.0, -40.0))),
    ("logit", (UNIT, at(1e-4, 0.5, 0.999))),
    ("entr", (PLAIN, at(1e-6, 1.0))),
    ("ndtr", (SIGNED, at(0.0, -5.0, 5.0))),
    ("ndtri", (UNIT, at(1e-4, 0.5, 0.999))),
    ("log_ndtr", (SIGNED, at(0.0, -30.0, 8.0))),
    ("i0", (SIGNED, at(0.0, 20.0))),
    ("i0e", (SIGNED, at(0.0, 200.0))),
    ("i1", (SIGNED, at(0.0, 20.0))),
    ("i1e", (SIGNED, at(0.0, 200.0))),
    ("expi", (at(0.3, 1.7, -1.2), at(1e-3, 30.0))),
    ("exp1", (PLAIN, at(1e-3, 30.0))),
    ("spence", (at(0.3, 2.5, 7.0), at(1.2), at(1.0), at(1e-3, 100.0))),
    ("fresnel", (SIGNED, at(0.0, 1e-3), at(10.0))),
    ("sici", (PLAIN, at(1e-3, 20.0))),
    ("factorial", (PLAIN,)),
]  # fmt: skip

SEVERAL = [
    ("beta", [(PLAIN, UNIT)]),
    ("betaln", [(PLAIN, UNIT), (at(1e-2, 1e3), at(1e3, 1e3))]),
    ("gammainc", [(PLAIN, at(0.5, 2.0, 3.0)), (at(0.1, 20.0), at(0.1, 20.0))]),
    ("gammaincc", [(PLAIN, at(0.5, 2.0, 3.0)), (at(0.1, 20.0), at(0.1, 20.0))]),
    ("xlogy", [(SIGNED, at(0.3, 1.0, 2.0, 9.0)), (at(0.0, 0.0), at(2.0, 0.5))]),
    ("xlog1py", [(SIGNED, at(0.3, -0.5, 2.0, 9.0)), (at(0.0, 0.0), at(2.0, -0.5))]),
    ("kl_div", [(PLAIN, UNIT), (at(1.0), at(1.0))]),
    ("rel_entr", [(PLAIN, UNIT), (at(1.0), at(1.0))]),
    ("zeta", [(at(1.3, 2.0, 5.0), at(0.6, 1.5, 3.0))]),
    ("poch", [(PLAIN, at(0.4, 1.3, 2.2))]),
    ("comb", [(at(5.5, 3.2), at(2.1, 1.3))]),
    ("boxcox", [(PLAIN, at(0.5, -1.0, 2.0)), (PLAIN, at(0.0, 0.0, 1e-6))]),
    ("boxcox1p", [(PLAIN, at(0.5, -1.0, 2.0)), (PLAIN, at(0.0, 0.0, 1e-6))]),
    ("owens_t", [(at(0.3, 1.7, -0.4), at(0.5, 2.0, 0.9))]),
    ("hyp1f1", [(at(0.5), at(1.5), at(0.7))]),
    ("hyp2f1", [(at(0.5), at(1.5), at(2.5), at(0.3))]),
]
