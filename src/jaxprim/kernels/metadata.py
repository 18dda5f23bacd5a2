"""Ask a handler with which version of XLA's API it was compiled.

XLA asks too, when it registers the handler. If the version is later than its own, and JAX had no backend yet, JAX then
has none at all, and says that a plug-in failed. So jaxprim asks first, in the same way: with a call that has no operands,
and an extension that the handler answers before anything else.
"""

from __future__ import annotations

import ctypes

_METADATA = 1  # XLA_FFI_Extension_Metadata
_WORD = ctypes.c_size_t
_POINTER = ctypes.c_void_p


class _Version(ctypes.Structure):
    _fields_ = (("size", _WORD), ("extension", _POINTER), ("major", ctypes.c_int), ("minor", ctypes.c_int))


class _Metadata(ctypes.Structure):
    # The handler writes what comes after the version; a later XLA may have more of it.
    _fields_ = (("size", _WORD), ("version", _Version), ("rest", ctypes.c_char * 1024))


class _Extension(ctypes.Structure):
    _fields_ = (("size", _WORD), ("type", ctypes.c_int), ("next", _POINTER), ("metadata", ctypes.POINTER(_Metadata)))


class _List(ctypes.Structure):
    """Operands, results or attributes: none."""

    _fields_ = (("size", _WORD), ("extension", _POINTER), ("count", ctypes.c_int64), ("rows", _POINTER * 2))


class _Attributes(ctypes.Structure):
    _fields_ = (("size", _WORD), ("extension", _POINTER), ("count", ctypes.c_int64), ("rows", _POINTER * 3))


class _Frame(ctypes.Structure):
    _fields_ = (
        ("size", _WORD),
        ("extension", ctypes.POINTER(_Extension)),
        ("api", _POINTER),
        ("context", _POINTER),
        ("stage", ctypes.c_int),
        ("operands", _List),
        ("results", _List),
        ("attributes", _Attributes),
        ("future", _POINTER),
    )


_REFUSED = ctypes.CFUNCTYPE(_POINTER, _POINTER)


class _Api(ctypes.Structure):
    """The beginning of XLA's table of functions: the one that makes errors, for a handler that refuses the call."""

    _fields_ = (
        ("size", _WORD),
        ("extension", _POINTER),
        ("version", _Version),
        ("internal", _POINTER),
        ("make_error", _REFUSED),
        ("rest", _POINTER * 64),
    )


def api_of(handler: int) -> tuple[int, int] | None:
    """The version of XLA's API that the handler at an address was compiled with; None if it does not say."""
    metadata = _Metadata(size=ctypes.sizeof(_Metadata))
    extension = _Extension(ctypes.sizeof(_Extension), _METADATA, None, ctypes.pointer(metadata))
    refuse = _REFUSED(lambda _: 1)  # any address but 0 is an error
    api = _Api(size=ctypes.sizeof(_Api), make_error=refuse)
    frame = _Frame(
        size=_Frame.future.offset,  # XLA counts its fields up to the attributes, and handlers want that number
        extension=ctypes.pointer(extension),
        api=ctypes.addressof(api),
        operands=_List(size=ctypes.sizeof(_List)),
        results=_List(size=ctypes.sizeof(_List)),
        attributes=_Attributes(size=ctypes.sizeof(_Attributes)),
    )
    error = ctypes.CFUNCTYPE(_POINTER, _POINTER)(handler)(ctypes.addressof(frame))
    version = (metadata.version.major, metadata.version.minor)
    return None if error or version == (0, 0) else version
