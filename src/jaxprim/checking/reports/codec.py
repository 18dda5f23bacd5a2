"""Convert records of plain values to JSON and back. Complex numbers, infinities and NaN, which JSON lacks, are tagged."""

from __future__ import annotations

import json
import math
from dataclasses import fields, is_dataclass
from typing import Any

COMPLEX, FLOAT = "complex", "float"


def dumps(value: Any) -> str:
    """Records, tuples and numbers as JSON."""
    return json.dumps(encode(value), indent=1, allow_nan=False, ensure_ascii=False)


def encode(value: Any) -> Any:
    """Turn records and numbers into dictionaries, lists and plain values. Fields with default values are left out."""
    if is_dataclass(value) and not isinstance(value, type):
        kept = [f for f in fields(value) if getattr(value, f.name) != f.default]
        return {f.name: encode(getattr(value, f.name)) for f in kept}
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if isinstance(value, complex):
        return {COMPLEX: [encode(value.real), encode(value.imag)]}
    if isinstance(value, float) and not math.isfinite(value):
        return {FLOAT: str(value)}
    return value


def decode(value: Any) -> Any:
    """Turn encoded values back into numbers and tuples; dictionaries of fields stay dictionaries."""
    if isinstance(value, list):
        return tuple(decode(item) for item in value)
    if isinstance(value, dict):
        if set(value) == {COMPLEX}:
            return complex(*decode(value[COMPLEX]))
        if set(value) == {FLOAT}:
            return float(value[FLOAT])
        return {key: decode(item) for key, item in value.items()}
    return value
