"""Errors without the frames of JAX and jaxprim, as JAX_TRACEBACK_FILTERING asks for."""

# Private names are what this folder is for.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar, cast

from jax._src import source_info_util, traceback_util

from jaxprim._jax import words

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)

_PACKAGE = str(Path(__file__).parents[1]) + os.sep

# JAX then leaves jaxprim's frames out of the errors of its own functions, such as `jax.grad`, and names the author's
# line, not one of ours, as the source of an operation.
traceback_util.register_exclusion(_PACKAGE)
source_info_util.register_exclusion(_PACKAGE)


def hide_frames(error: Exception) -> None:
    """Take the frames of JAX and jaxprim out of the traceback of an error that leaves a function of jaxprim.

    The caller raises it again, with a bare ``raise``, which adds no frame. Inside a function of JAX that does the same,
    nothing is done, so that JAX sees the whole traceback.
    """
    mode, frames = traceback_util._filtering_mode(), error.__traceback__
    if frames is None or _inside_boundary(frames.tb_frame):
        return
    if mode == words.MARKED_FRAMES:
        traceback_util._add_tracebackhide_to_hidden_frames(frames)
    elif mode == words.NO_FRAMES:
        error.with_traceback(traceback_util.filter_traceback(frames))


def _inside_boundary(frame: FrameType | None) -> bool:
    while frame is not None and not traceback_util._is_reraiser_frame(frame):
        frame = frame.f_back
    return frame is not None


def boundary(fn: F) -> F:
    """A function whose errors show none of jaxprim's frames. It costs a call, so what is called often does without."""

    @functools.wraps(fn)
    def call(*args: Any, **options: Any) -> Any:
        __tracebackhide__ = True  # pytest's word for a frame that it leaves out
        try:
            return fn(*args, **options)
        except Exception as error:
            hide_frames(error)
            raise

    return cast("F", call)


def boundaries(cls: C) -> C:
    """A class whose public methods are boundaries, and so is its constructor."""
    for name, value in list(vars(cls).items()):
        if name == "__init__" or (not name.startswith("_") and callable(value)):
            setattr(cls, name, boundary(value))
    return cls
