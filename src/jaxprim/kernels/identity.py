"""What a compiled function is, said the same way in every process: the name under which programs know it.

A program in JAX's compilation cache, or in a file, holds this name instead of an address. So it may only be the same for
functions that compute the same. That is known of a function of a library, from the library's content and the function's
place in it, and of a function that Numba compiled, from its code. Any other function, such as a callback into Python, has
a name of this process alone.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import secrets
from functools import lru_cache
from pathlib import Path
from typing import Any

from jaxprim.kernels.manifest import digest

# A forked child shares its parent's addresses, and so its number.
_PROCESS = secrets.token_hex(16)


class _Found(ctypes.Structure):
    """What `dladdr` says of an address."""

    _fields_ = (
        ("path", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def identity(pointer: Any, address: int) -> tuple[str, bool]:
    """The name of a function with this address, and whether the name says all that the function does.

    A function of a library may depend on the library's variables, of which two copies of the library have two.
    """
    code = _of_numba(pointer)
    return (code, True) if code is not None else (_in_library(address) or of_process(address), False)


def of_process(address: int) -> str:
    """The name of a function that is known in this process alone."""
    return f"{_PROCESS} {address}"


def _in_library(address: int) -> str | None:
    # Not what /proc/self/maps says: a callback of ctypes may lie in memory that libffi mapped from its own file.
    found = _Found()
    lookup = getattr(ctypes.CDLL(None), "dladdr", None)
    if lookup is None or not lookup(ctypes.c_void_p(address), ctypes.byref(found)) or not found.path:
        return None
    path = os.fsdecode(found.path)
    content = _content(path) if Path(path).is_absolute() else ""
    return f"{content} {address - (found.base or 0)}" if content else None


@lru_cache(maxsize=64)
def _content(path: str) -> str:
    """The digest of a library that this process has loaded, which does not change any more."""
    return digest(path)


# Numba's names for functions and constants, which count what the process has compiled or hold addresses.
_NAME = re.compile(r'[@!]"?((?:[\w.$]*_ZN|\.const\.)[^"\s(),:]*)"?')


def _of_numba(pointer: Any) -> str | None:
    """The code that Numba compiled, for the machine but before it has addresses."""
    inspect = getattr(pointer, "inspect_llvm", None)
    code = inspect() if callable(inspect) else None
    if not isinstance(code, str) or "inttoptr" in code or ".dynamic.globals" in code:
        return None
    numbers: dict[str, int] = {}
    plain = _NAME.sub(lambda name: f"@n{numbers.setdefault(name[1], len(numbers))}", code)
    return hashlib.sha256(plain.encode()).hexdigest()
