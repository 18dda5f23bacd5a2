"""The element types of a signature, and their names in C, XLA and NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class DType:
    """One element type.

    Attributes:
        name: its name in a signature, such as ``f32``.
        c: the type that an array's pointer points to.
        c_value: the type of one element passed or returned by value; None if C has none.
        xla: its name in XLA's C API.
        numpy: the NumPy dtype.
    """

    name: str
    c: str
    c_value: str | None
    xla: str
    numpy: np.dtype[Any]

    @property
    def is_attribute(self) -> bool:
        """Whether an attribute may have this type. XLA passes only real scalars of the common types."""
        return self.c_value is not None and self.numpy.kind != "c"

    @property
    def rank(self) -> int:
        """The place of its kind; see `rank_of`."""
        return rank_of(self.numpy)

    def scalar(self, value: Any) -> Any:
        """A number as a NumPy scalar of this type; None if it is no real number, or if the type cannot hold it."""
        try:
            number = np.asarray(value)
        except Exception:  # noqa: BLE001 - an object may say anything when NumPy asks it for an array
            return None
        kind = self.numpy.kind
        if number.shape != () or number.dtype.kind not in "biuf" or (number.dtype.kind == "f" and kind != "f"):
            return None
        with np.errstate(over="ignore"):
            found = number.astype(self.numpy)[()]
        fits = int(number) == int(found) if kind in "biu" else bool(np.isfinite(found) or not np.isfinite(number))
        return found if fits else None


def _row(name: str, c: str, xla: str, numpy: Any, c_value: str | None = "") -> DType:
    return DType(name, c, c if c_value == "" else c_value, f"XLA_FFI_DataType_{xla}", np.dtype(numpy))


DTYPES: dict[str, DType] = {
    row.name: row
    for row in (
        _row("f32", "float", "F32", np.float32),
        _row("f64", "double", "F64", np.float64),
        # Not every compiler has a type for these, so a kernel gets their bits.
        _row("f16", "uint16_t", "F16", np.float16, None),
        _row("bf16", "uint16_t", "BF16", jnp.bfloat16, None),
        _row("c64", "std::complex<float>", "C64", np.complex64, "float _Complex"),
        _row("c128", "std::complex<double>", "C128", np.complex128, "double _Complex"),
        _row("i8", "int8_t", "S8", np.int8),
        _row("i16", "int16_t", "S16", np.int16),
        _row("i32", "int32_t", "S32", np.int32),
        _row("i64", "int64_t", "S64", np.int64),
        _row("u8", "uint8_t", "U8", np.uint8),
        _row("u16", "uint16_t", "U16", np.uint16),
        _row("u32", "uint32_t", "U32", np.uint32),
        _row("u64", "uint64_t", "U64", np.uint64),
        _row("bool", "bool", "PRED", np.bool_),
    )
}


def rank_of(dtype: np.dtype[Any]) -> int:
    """The place of a dtype's kind: bool, integer, real, complex. A number can be stored in its own and in later kinds."""
    return "bifc".find({"u": "i", "V": "f"}.get(dtype.kind, dtype.kind))  # V: bfloat16


_BY_NUMPY = {row.numpy: name for name, row in DTYPES.items()}


def name_of(dtype: Any) -> str | None:
    """The name of a NumPy dtype in a signature; None if it has none."""
    return _BY_NUMPY.get(np.dtype(dtype)) if isinstance(dtype, np.dtype | type) else None
