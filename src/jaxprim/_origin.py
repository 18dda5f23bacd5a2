"""Where a thing was made: the author's own line and module, and what a rerun cell replaces.

Everything here skips jaxprim's own frames. So the place of a primitive or kernel is the line where its author called
`from_numpy`, `@primitive` and so on, no matter how many of our functions lie between.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeVar, cast

T = TypeVar("T")

_PACKAGE = str(Path(__file__).parent) + os.sep


# ------------------------------------------------------------------------------------------------------------ functions
def source_of(fn: Callable[..., Any]) -> str:
    """Where an author wrote a function, as ``file.py:12``, relative to the current folder if the file is inside it.

    For a primitive or kernel that is used as a function, this is the place where it was made.
    """
    target: Any = whole(inspect.unwrap(fn, stop=lambda f: _made_at(f) is not None)) if callable(fn) else fn
    if (made := _made_at(target)) is not None:
        return made
    code = _code(target)
    if code is None:
        return f"<{getattr(target, '__name__', type(target).__name__)}>"
    return f"{shorten(code.co_filename)}:{code.co_firstlineno}"


def credit(fn: T, made: Any) -> T:
    """Let messages show the place where ``made`` was made for one of our own functions."""
    vars(fn)["_origin"] = made._origin
    return fn


def _made_at(thing: Any) -> str | None:
    origin = getattr(thing, "_origin", None)
    return origin.place if isinstance(origin, Origin) else None


def _code(fn: Any) -> CodeType | None:
    """The code of a function, or of the ``__call__`` of an object."""
    if not hasattr(fn, "__code__") and callable(fn):
        fn = type(fn).__call__
    code = getattr(fn, "__code__", None)
    return code if isinstance(code, CodeType) else None


def name_of(fn: Callable[..., Any]) -> str:
    """The name of a function; the inner function's name for a ``functools.partial``, the class name for an object."""
    fn = whole(fn)
    return getattr(fn, "__name__", None) or type(fn).__name__


def whole(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function inside a ``functools.partial``; any other function unchanged."""
    while isinstance(fn, functools.partial):
        fn = cast("functools.partial[Any]", fn).func
    return fn


def shorten(path: str) -> str:
    """A path as one would type it: relative to the current folder if the file is inside it."""
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive on Windows
        return path
    return path if relative.startswith("..") else relative


def named(fn: Callable[..., Any]) -> str:
    """An author's function by its name and place: ``scale_jvp at file.py:12``, or only the place if it has no name."""
    name = getattr(fn, "__name__", "")
    return f"{name} at {source_of(fn)}" if name not in ("", "_", "<lambda>") else source_of(fn)


def public(thing: T) -> T:
    """Mark a class or function that users import from ``jaxprim``: tracebacks and ``help`` call it by that name."""
    if isinstance(thing, type) and "__annotations__" in vars(thing):
        # Python resolves string annotations in the class's module, so resolve them before the module changes.
        thing.__annotations__ = inspect.get_annotations(thing, eval_str=True)
    thing.__module__ = "jaxprim"
    return thing


# --------------------------------------------------------------------------------------------------------------- places
@dataclass(frozen=True)
class Origin:
    """The place in the author's code where something was made.

    Attributes:
        file, line: the line that made it, outside of jaxprim.
        place: file and line as messages show them, ``file.py:12``.
        module: the name of the module of that line.
        function: the function that the line is in; None at the top level of a module.
        top_module: the name of the module at whose top level the author's helper functions were called. It is
            `module` if there is no helper.
        run: the code that runs at that top level, held weakly; None if there is no top level, as in a thread.
    """

    file: str
    line: int
    place: str
    module: str
    function: str | None
    top_module: str
    run: weakref.ref[CodeType] | None

    def same_run(self, other: Origin) -> bool:
        """Whether both were made by one run of a module or cell. A cell that is run again is compiled again."""
        return self.run is not None and other.run is not None and self.run() is not None and self.run() is other.run()


def here() -> Origin:
    """The origin of a thing that is being made now."""
    frame = _author_frame()
    top = next((f for f in _outwards(frame) if _is_top_level(f)), None)
    return Origin(
        frame.f_code.co_filename,
        frame.f_lineno,
        _place(frame),
        _module(frame),
        None if _is_top_level(frame) else frame.f_code.co_name,
        _module(top or frame),
        None if top is None else weakref.ref(top.f_code),
    )


def place() -> str:
    """The author's line that is running, as ``file.py:12``."""
    return _place(_author_frame())


def file() -> str:
    """The author's file that is running."""
    return _author_frame().f_code.co_filename


def _place(frame: FrameType) -> str:
    return f"{shorten(frame.f_code.co_filename)}:{frame.f_lineno}"


def _author_frame() -> FrameType:
    """The nearest frame outside of jaxprim; the outermost one if there is none."""
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while _is_own(frame) and frame.f_back is not None:
        frame = frame.f_back
    return frame


def _is_own(frame: FrameType) -> bool:
    # Decide by file, not by module: examples in our docstrings run under our modules' names, but count as author's
    # code. Methods that dataclasses generate for our classes have no file, so for them the module decides.
    filename = frame.f_code.co_filename
    return filename.startswith(_PACKAGE) or (filename == "<string>" and _module(frame).startswith("jaxprim."))


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_top_level(frame: FrameType) -> bool:
    """Whether a frame runs a module, or a cell or line of an interactive session, not a function or class body."""
    # IPython calls the code of a cell "<cell line: 1>", so the name "<module>" is not enough.
    if frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        return False
    return frame.f_code.co_name == "<module>" or frame.f_locals is frame.f_globals


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "__main__"))


# --------------------------------------------------------------------------------------------------------------- reruns
# The things made under one name from the top level of one module.
_made: dict[tuple[str, str], weakref.WeakKeyDictionary[Any, Origin]] = {}
_lock = threading.RLock()  # A finalizer may run, and take it, while this thread holds it.


def replaced(thing: Any, name: str, origin: Origin, *, in_its_run: bool = True) -> list[Any]:
    """The things that the same module made earlier under this name, which `thing` replaces: a notebook cell was rerun.

    Compiled functions read that name, which is now bound to `thing`, so the caller must make them trace again. A thing
    made in a helper function does not replace things of the same run: a script may make many things of one name in
    `main`. With ``in_its_run=False`` the same holds for a thing made at the top level, as in a loop.
    """
    if origin.run is None:
        return []
    key = (origin.top_module, name)
    with _lock:
        namesakes = _made.get(key, weakref.WeakKeyDictionary())
        at_top_level = origin.function is None and in_its_run
        earlier = [other for other, its in namesakes.items() if at_top_level or not origin.same_run(its)]
        for other in earlier:
            del namesakes[other]
        namesakes[thing] = origin
        _made[key] = namesakes  # set it last: a finalizer may run before, and removes an empty entry
    weakref.finalize(thing, _forget, key).atexit = False
    return earlier


def made(module: str, name: str) -> list[Any]:
    """The things that were made under a name from the top level of a module and not replaced since, the last one first."""
    with _lock:
        return list(_made.get((module, name), ()))[::-1]


def _forget(key: tuple[str, str]) -> None:
    with _lock:
        if key in _made and not list(_made[key]):  # `list` skips keys that are being freed just now
            del _made[key]
