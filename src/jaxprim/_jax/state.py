"""The current state of JAX: tracing or not, its settings, and the cache key of compiled functions."""

# Private names are what this folder is for.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from typing import Any, TypeVar

import jax
from jax._src import config, core, dispatch, util

from jaxprim._jax import words

Tracer = core.Tracer
trace_context: Callable[[], Hashable] = config.trace_context
trace_state_clean: Callable[[], bool] = core.trace_state_clean


def is_eager() -> bool:
    """Whether an operation applied right here would run at once, on values."""
    return isinstance(core.trace_ctx.trace, core.EvalTrace)


def is_concrete(values: Sequence[Any]) -> bool:
    """Whether no value is a tracer."""
    return not any(isinstance(value, Tracer) for value in values)


# What decides what is traced, beside the types of operands.
_SETTINGS: tuple[Any, ...] = (
    config.enable_x64,
    config.default_matmul_precision,
    config.numpy_dtype_promotion,
    config.numpy_rank_promotion,
    config.threefry_partitionable,
    config.default_prng_impl,
)


def settings() -> Callable[[], AbstractContextManager[None]]:
    """What makes contexts with JAX's settings of the place that this is called from."""
    values = [setting.value for setting in _SETTINGS]

    @contextmanager
    def again() -> Generator[None]:
        with ExitStack() as stack:
            for setting, value in zip(_SETTINGS, values, strict=True):
                stack.enter_context(setting(value))
            yield

    return again


@contextmanager
def without_mesh() -> Generator[None]:
    """A context for what one device computes: the mesh that the caller has set does not concern it."""
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())), config._check_vma(False):
        yield


@contextmanager
def of_program(mesh: Any) -> Generator[None]:
    """A context for what a program over a mesh computes. It may be lowered for an eager `vmap`, which is not around it.

    JAX 0.8.1 takes the mesh axes of a `vmap` out of the mesh for a `shard_map`.
    """
    before = core.trace_ctx.axis_env
    core.trace_ctx.set_axis_env(core.top_axis_env)
    try:
        with jax.sharding.use_abstract_mesh(mesh):
            yield
    finally:
        core.trace_ctx.set_axis_env(before)


def has_ended(tracer: Any) -> bool:
    """Whether a tracer's transformation is known to be over. JAX knows it of all but those of ``jit`` and control flow."""
    return not tracer._trace.is_valid()


C = TypeVar("C", bound=type)
# JAX keeps the types of what an equation computes in a cache of 2048 entries, by the equation's params. Of these classes
# it holds an object only as long as somebody else does. A JAX that lacks the set keeps the objects, and that is all.
_held_weakly: set[type] = getattr(util, "weakref_cache_key_types", set[type]())


def held_weakly(cls: C) -> C:
    """A class whose objects JAX's caches do not keep alive: they may hold arrays, as a pullback holds its residuals."""
    _held_weakly.add(cls)
    return cls


# A JAX "user context". Its value is part of every cache key of JAX, so increasing it makes all jitted functions
# retrace.
redefinitions = jax.make_user_context(default_value=0)
# JAX 0.10.1 gave a user context these methods of what it holds. This can go with 0.10.0.
_of_all_threads: Any = redefinitions if hasattr(redefinitions, "set_global") else getattr(redefinitions, "_obj")  # noqa: B009


def bump_redefinitions() -> None:
    """Make every compiled function of this process retrace, because a rule that it may use was replaced."""
    _of_all_threads.set_global(_of_all_threads.get_global() + 1)


class ForbiddenTrace(core.Trace):
    """The current trace while a host function runs: any use of JAX in its thread calls ``refuse``."""

    def __init__(self, refuse: Callable[[str], Exception]) -> None:
        super().__init__()
        self.requires_low = False
        self.refuse = refuse

    def process_primitive(self, primitive: Any, tracers: Any, params: Any, /) -> Any:
        raise self.refuse(params.get("name", primitive.name))

    def process_custom_jvp_call(self, primitive: Any, *args: Any, **params: Any) -> Any:
        raise self.refuse(primitive.name)

    process_custom_vjp_call = process_call = process_custom_jvp_call

    def stage_value(self, val: Any) -> Any:
        raise self.refuse("asarray")


def without_jax(refuse: Callable[[str], Exception]) -> Any:
    """A context in which JAX cannot be used in this thread."""
    return core.set_current_trace(ForbiddenTrace(refuse))


def at_once() -> Any:
    """A context in which operations run at once. JAX calls abstract eval in a context where operations cannot run."""
    return core.set_current_trace(core.eval_trace)


def asks_for_value(error: Exception) -> bool:
    """Whether an error of JAX says that code needs the concrete value of a tracer."""
    if isinstance(error, jax.errors.ConcretizationTypeError | jax.errors.TracerArrayConversionError):
        return True
    return isinstance(error, TypeError | ValueError) and all(word in str(error) for word in words.HASHED_TRACER)


def compilations() -> int:
    """How often JAX has compiled something since the first call of this function."""
    return _compilation_count()[0]


@cache
def _compilation_count() -> list[int]:
    """The count, kept by one listener, because JAX cannot unregister listeners."""
    count = [0]

    def listen(event: str, *_: Any, **__: Any) -> None:
        count[0] += event == dispatch.BACKEND_COMPILE_EVENT

    jax.monitoring.register_event_duration_secs_listener(listen)
    return count
