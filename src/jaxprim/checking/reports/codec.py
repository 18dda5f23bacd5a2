"""Records of plain values to JSON and back. JSON has no complex, infinite or undefined numbers: they get a name."""

from __future__ import annotations

import json
import math
from dataclasses import fields, is_dataclass
from typing import Any

COMPLEX, FLOAT = "complex", "float"


def dumps(value: Any) -> str:
    """Records, tuples and numbers as JSON."""
    return json.dumps(encoded(value), indent=1, allow_nan=False, ensure_ascii=False)


def encoded(value: Any) -> Any:
    """The same as dictionaries and lists. What a record has by default is left out."""
    if is_dataclass(value) and not isinstance(value, type):
        kept = [f for f in fields(value) if getattr(value, f.name) != f.default]
        return {f.name: encoded(getattr(value, f.name)) for f in kept}
    if isinstance(value, tuple | list):
        return [encoded(item) for item in value]
    if isinstance(value, complex):
        return {COMPLEX: [encoded(value.real), encoded(value.imag)]}
    if isinstance(value, float) and not math.isfinite(value):
        return {FLOAT: str(value)}
    return value


def decoded(value: Any) -> Any:
    """Numbers and tuples back; dictionaries of fields stay dictionaries."""
    if isinstance(value, list):
        return tuple(decoded(item) for item in value)
    if isinstance(value, dict):
        if set(value) == {COMPLEX}:
            return complex(*decoded(value[COMPLEX]))
        if set(value) == {FLOAT}:
            return float(value[FLOAT])
        return {key: decoded(item) for key, item in value.items()}
    return value
