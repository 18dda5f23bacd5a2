"""`Zero`: a symbolic zero that computes.

A rule gets a zero tangent or cotangent as a `Zero`. It adds, multiplies, indexes, ... like an array of zeros, with the
shape and dtype that array arithmetic gives, and stays symbolic while the result is zero:

    0 + x = x        0 * x = x * 0 = 0 / x = 0        sum(0) = 0[i] = 0

Integers, booleans and keys have no tangents: JAX's type of their zero is float0, with which no array can be computed. In
arithmetic such a zero is a weakly typed float, like the Python number 0.0, so it takes the dtype of whatever it meets.
So the rule of ``scale(x, factor)`` serves ``scale(x, 2)`` too:

    x_dot * 2 + x * 0 = x_dot * 2

So a rule written as plain array code is correct, skips work on zeros, and never computes ``inf * 0 = nan``.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import _jax
from jaxprim._origin import public

# Array methods whose result is not an array of zeros, such as `argmax`. They run on the instantiated array.
_ARRAY_METHODS = frozenset(
    [
        "all",
        "any",
        "argmax",
        "argmin",
        "argpartition",
        "argsort",
        "at",
        "clip",
        "compress",
        "copy",
        "cumprod",
        "cumsum",
        "diagonal",
        "item",
        "itemsize",
        "max",
        "min",
        "nbytes",
        "nonzero",
        "prod",
        "ptp",
        "repeat",
        "round",
        "searchsorted",
        "sort",
        "std",
        "take",
        "tolist",
        "trace",
        "var",
        "view",
    ]
)


@public
class Zero(_jax.JaxZero):
    """A tangent or cotangent that is known to be zero.

    It behaves like ``jnp.zeros(shape, dtype)`` in array code. ``Zero + x`` is ``x``, broadcast and promoted like the
    array sum. ``Zero * x`` is a `Zero`, and so are slices, reshapes, sums and casts of a `Zero`. A jnp or lax function
    converts it to an array of zeros.

    The zero of an integer, boolean or key has the dtype of a Python float in array code, and promotes like one.

    Attributes:
        aval: the type of the tangent (a ``jax.core.ShapedArray``), which is float0 for an integer, boolean or key.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxprim import Zero
        >>> t = Zero.zero_if_zero(jnp.ones(3))
        >>> t * 2.0
        Zero(float32[3])
        >>> (t + jnp.arange(3.0)).tolist()
        [0.0, 1.0, 2.0]
    """

    __slots__ = ()
    # NumPy arrays on the left defer to the reflected methods below.
    __array_ufunc__ = None

    @staticmethod
    def zero_if_zero(t: Any) -> Zero:
        """A `Zero` of the type of ``t``, even if ``t`` is not zero: a start value for adding up tangents."""
        return Zero(t.aval if is_symbolic(t) else _jax.tangent_aval(_jax.typeof(t)))

    @staticmethod
    def from_primal_value(value: Any) -> Zero:
        """The zero tangent of a value, as JAX's class had it until 0.8."""
        return Zero(_jax.tangent_aval(_jax.typeof(value)))

    @staticmethod
    def of(shape: tuple[int, ...], dtype: Any, weak_type: bool = False) -> Zero:
        """A `Zero` with this shape and dtype."""
        return Zero(_jax.ShapedArray(shape, np.dtype(dtype), weak_type))

    shape = property(lambda self: self.aval.shape)
    dtype = property(lambda self: _array_aval(self.aval).dtype)
    ndim = property(lambda self: len(self.aval.shape))
    size = property(lambda self: self.aval.size)
    weak_type = property(lambda self: _array_aval(self.aval).weak_type)

    def __jax_array__(self) -> jax.Array:
        return _zeros(self)

    def __getattribute__(self, name: str) -> Any:
        # JAX's array operators (`x * zero`) convert any operand that has __jax_array__, and otherwise defer to its
        # reflected method. Here they must defer, but jnp and lax functions must convert. If JAX changes this, `x *
        # zero` becomes an array of zeros instead of a `Zero`: slower, but still correct.
        if name == "__jax_array__" and _calling_file().endswith(_jax.words.ARRAY_OPERATORS_FILE):
            raise AttributeError(name)
        return object.__getattribute__(self, name)

    def instantiate(self) -> jax.Array:
        """Return the array of zeros."""
        return _zeros(self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.zeros(self.shape, dtype or self.dtype)

    # ---- products: 0 * x = 0 / x = 0 @ x = 0 for every x, even inf and nan: the zero is symbolic
    def _zero(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Zero:
        """A `Zero` of the type that ``fn`` returns for arrays."""
        return Zero(_result_aval(fn, self, *args, **kwargs))

    def __neg__(self) -> Zero:
        return self

    __pos__ = __neg__

    def __mul__(self, other: Any) -> Zero:
        return self._zero(operator.mul, other)

    def __rmul__(self, other: Any) -> Zero:
        return Zero(_result_aval(lambda zero, x: x * zero, self, other))

    def __truediv__(self, other: Any) -> Any:
        if isinstance(other, _jax.JaxZero):
            return self.instantiate() / other.instantiate()  # 0 / 0 = nan
        return self._zero(operator.truediv, other)

    def __rtruediv__(self, other: Any) -> Any:
        # x / 0 is inf or nan, as for arrays.
        return (other.instantiate() if isinstance(other, _jax.JaxZero) else other) / self.instantiate()

    def __matmul__(self, other: Any) -> Zero:
        return self._zero(operator.matmul, other)

    def __rmatmul__(self, other: Any) -> Zero:
        return Zero(_result_aval(lambda zero, x: x @ zero, self, other))

    def __pow__(self, other: Any) -> Any:
        # 0**p is 0 for p > 0, 1 for p = 0 and inf for p < 0. A traced p is unknown, so the array decides.
        if isinstance(other, int | float) and other > 0:
            return self._zero(operator.pow, other)
        return self.instantiate() ** other

    # ---- sums: 0 + x = x in the type of the array sum
    def __add__(self, other: Any) -> Any:
        return _sum(self, other, lambda x: x)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return _sum(self, other, operator.neg)

    def __rsub__(self, other: Any) -> Any:
        return _sum(self, other, lambda x: x)

    # ---- views
    def __getitem__(self, index: Any) -> Zero:
        return self._zero(lambda x, i: x[i], index) if _is_array(index) else self._zero(lambda x: x[index])

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __iter__(self) -> Any:
        return iter([self[i] for i in range(len(self))])

    def reshape(self, *shape: Any) -> Zero:
        return self._zero(lambda x: x.reshape(*shape))

    def transpose(self, *axes: Any) -> Zero:
        return self._zero(lambda x: x.transpose(*axes))

    def swapaxes(self, axis1: int, axis2: int) -> Zero:
        return self._zero(lambda x: x.swapaxes(axis1, axis2))

    def astype(self, dtype: Any) -> Zero:
        return self._zero(lambda x: x.astype(dtype))

    def ravel(self) -> Zero:
        return self.reshape(-1)

    flatten = ravel

    def squeeze(self, axis: Any = None) -> Zero:
        return self._zero(lambda x: x.squeeze(axis))

    def sum(self, axis: Any = None, keepdims: bool = False) -> Zero:
        return self._zero(lambda x: x.sum(axis=axis, keepdims=keepdims))

    def mean(self, axis: Any = None, keepdims: bool = False) -> Zero:
        return self._zero(lambda x: x.mean(axis=axis, keepdims=keepdims))

    def dot(self, other: Any) -> Zero:
        return self._zero(jnp.dot, other)

    def conj(self) -> Zero:
        return self

    conjugate = conj
    T = property(lambda self: self.transpose())
    mT = property(lambda self: self.swapaxes(-1, -2))  # noqa: N815 NumPy's name
    real = property(lambda self: self._zero(lambda x: x.real))
    imag = property(lambda self: self._zero(lambda x: x.imag))

    # ---- results that are not zero, computed on the array
    def __abs__(self) -> Zero:
        return self._zero(abs)

    def __eq__(self, other: Any) -> Any:
        return self.instantiate() == other

    def __ne__(self, other: Any) -> Any:
        return self.instantiate() != other

    def __lt__(self, other: Any) -> Any:
        return self.instantiate() < other

    def __le__(self, other: Any) -> Any:
        return self.instantiate() <= other

    def __gt__(self, other: Any) -> Any:
        return self.instantiate() > other

    def __ge__(self, other: Any) -> Any:
        return self.instantiate() >= other

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        return bool(self.instantiate())

    def __float__(self) -> float:
        return float(self.instantiate())

    def __int__(self) -> int:
        return int(self.instantiate())

    def __complex__(self) -> complex:
        return complex(self.instantiate())

    def __getattr__(self, name: str) -> Any:
        # Only called for names that are not defined above. Attributes that describe placement must stay missing, or JAX
        # would take a `Zero` for one of its arrays.
        if name in _ARRAY_METHODS:
            return getattr(self.instantiate(), name)
        raise AttributeError(f"'Zero' object has no attribute {name!r}")


def _calling_file() -> str:
    # `inspect.stack` is about a thousand times slower.
    return sys._getframe(2).f_code.co_filename  # pyright: ignore[reportPrivateUsage]


def _is_array(x: Any) -> bool:
    return hasattr(x, "dtype") and hasattr(x, "shape")


def _struct(x: Any) -> Any:
    return _jax.struct_of(_array_aval(x.aval)) if is_symbolic(x) else x


def _array_aval(aval: Any) -> Any:
    """The type of a zero in array code: a weakly typed float where JAX has float0."""
    if aval.dtype != _jax.float0:
        return aval
    return aval.update(dtype=jax.dtypes.canonicalize_dtype(float), weak_type=True)


def _zeros(zero: Zero) -> jax.Array:
    return _jax.zeros(_array_aval(zero.aval))


def _result_aval(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    out = jax.eval_shape(lambda *xs: fn(*xs, **kwargs), *map(_struct, args))
    return _jax.ShapedArray(out.shape, out.dtype, bool(getattr(out, "weak_type", False)))


def _sum(zero: Zero, other: Any, sign: Callable[[Any], Any]) -> Any:
    """``zero + sign(other)`` in the shape and dtype of the array sum, without adding."""
    if is_symbolic(other):
        return Zero(_result_aval(operator.add, zero, other))
    if _is_array(other) and other.shape == zero.shape and other.dtype == zero.dtype:
        return sign(other)
    # 0 + x is x, broadcast and promoted: float32[] zero + int32[3] x gives float32[3].
    aval = _result_aval(operator.add, zero, other)
    return jnp.broadcast_to(jnp.asarray(sign(other), aval.dtype), aval.shape)


def is_symbolic(value: Any) -> bool:
    """Whether a value is a symbolic zero: jaxprim's `Zero`, or one of JAX's two."""
    return isinstance(value, _jax.JaxZero | _jax.SymbolicZero)


def is_zero(value: Any) -> bool:
    """Whether a value that a rule returned means zero: None, or a symbolic zero."""
    return value is None or is_symbolic(value)


_jax.register_value_type(Zero, lambda zero: _array_aval(zero.aval), _zeros)
