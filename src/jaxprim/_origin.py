"""Who made this: the author's own line and module, and what a cell that is run again replaces.

Everything here looks past jaxprim's own frames, so that `from_numpy`, `@primitive` and a kernel are made where their
author called them, however many of our functions lie between.
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
    """Where an author wrote a function, as ``file.py:12``, relative to the current folder where it lies below it.

    A primitive or a kernel that serves as a function is where it was made.
    """
    target: Any = whole(inspect.unwrap(fn, stop=lambda f: _made_at(f) is not None)) if callable(fn) else fn
    if (made := _made_at(target)) is not None:
        return made
    code = _code(target)
    if code is None:
        return f"<{getattr(target, '__name__', type(target).__name__)}>"
    return f"{shorten(code.co_filename)}:{code.co_firstlineno}"


def credit(fn: T, made: Any) -> T:
    """Have messages place a function of ours where the thing that it serves was made."""
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
    """A function's name. That of a ``functools.partial`` is its function's, that of a callable object its class's."""
    fn = whole(fn)
    return getattr(fn, "__name__", None) or type(fn).__name__


def whole(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function that a ``functools.partial`` is a part of; any other as it is."""
    while isinstance(fn, functools.partial):
        fn = cast("functools.partial[Any]", fn).func
    return fn


def shorten(path: str) -> str:
    """A path as its reader would type it: relative to the current folder where it lies below it."""
    try:
        relative = os.path.relpath(path)
    except ValueError:  # another drive on Windows
        return path
    return path if relative.startswith("..") else relative


def named(fn: Callable[..., Any]) -> str:
    """An author's function by its name and place: ``scale_jvp at file.py:12``, or the place alone if it has no name."""
    name = getattr(fn, "__name__", "")
    return f"{name} at {source_of(fn)}" if name not in ("", "_", "<lambda>") else source_of(fn)


def public(thing: T) -> T:
    """Mark a class or function that users import from ``jaxprim``: tracebacks and ``help`` call it by that name."""
    if isinstance(thing, type) and "__annotations__" in vars(thing):
        # Python looks the names in a class's annotations up in its module, so they are looked up before it changes.
        thing.__annotations__ = inspect.get_annotations(thing, eval_str=True)
    thing.__module__ = "jaxprim"
    return thing


# --------------------------------------------------------------------------------------------------------------- places
@dataclass(frozen=True)
class Origin:
    """Where in its author's code something was made.

    Attributes:
        file, line: the line that made it, outside of jaxprim.
        place: the same as messages show it, ``file.py:12``.
        module: the name of the module of that line.
        function: the function that the line is in; None at the top level of a module.
        top_module: the name of the module at whose top level the author's helper functions were called. It is
            `module` where there is no helper.
        run: the code that runs at that top level, held weakly; None where there is none, such as in a thread.
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
    """The origin of what is made now."""
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
    # By file: the examples in our docstrings run under our modules' names, and are an author's code. What dataclasses
    # write for a class of ours has no file.
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
# What was made under one name from the top level of one module.
_made: dict[tuple[str, str], weakref.WeakKeyDictionary[Any, Origin]] = {}
_lock = threading.RLock()  # A finalizer may run, and take it, while this thread holds it.


def replaced(thing: Any, name: str, origin: Origin) -> list[Any]:
    """What the same module made under this name before, which `thing` replaces: a notebook cell is run again.

    The name that compiled functions read is then bound to `thing`, so whoever calls this makes them trace again. What one
    run makes in a helper function replaces nothing of that run: a script may make many things of one name in `main`.
    """
    if origin.run is None:
        return []
    key = (origin.top_module, name)
    with _lock:
        namesakes = _made.get(key, weakref.WeakKeyDictionary())
        at_top_level = origin.function is None
        earlier = [other for other, its in namesakes.items() if at_top_level or not origin.same_run(its)]
        for other in earlier:
            del namesakes[other]
        namesakes[thing] = origin
        _made[key] = namesakes  # last: a finalizer may run meanwhile, and takes an empty one out
    weakref.finalize(thing, _forget, key).atexit = False
    return earlier


def _forget(key: tuple[str, str]) -> None:
    with _lock:
        if key in _made and not list(_made[key]):  # a list skips what is being dropped just now
            del _made[key]
