"""One wrong definition for each message, with the corrected one beside it; `test_messages.py` runs them."""

from messages import batching, calls, closing, custom, definitions, functions, host, implicit, jvp, missing, types, vjp
from messages.case import CASES

__all__ = [
    "CASES",
    "batching",
    "calls",
    "closing",
    "custom",
    "definitions",
    "functions",
    "host",
    "implicit",
    "jvp",
    "missing",
    "types",
    "vjp",
]
