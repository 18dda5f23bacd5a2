"""`ffi`: a compiled handler for XLA's FFI as a kernel, wherever it comes from."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxprim import _jax, _origin
from jaxprim._errors import KernelError, message
from jaxprim.kernels import identity, metadata, pointers
from jaxprim.kernels.aliases import shared
from jaxprim.kernels.kernel import Kernel, Target
from jaxprim.kernels.options import ORDERS, one_of, refuse_keep, text_of
from jaxprim.kernels.signature import KernelSignature, parse
from jaxprim.kernels.source import api_of_headers, show_api, target_name

# The platforms of XLA's FFI, by the names of JAX and of XLA's registry.
PLATFORMS = {"cpu": "cpu", "cuda": "CUDA", "rocm": "ROCM"}
STAGES = ("instantiate", "prepare", "initialize", "execute")


def ffi(
    handler: Any,
    signature: str,
    *,
    platform: str = "cpu",
    attributes: Mapping[str, Any] | None = None,
    order: str = "C",
    name: str | None = None,
    aliases: Mapping[str, str] | None = None,
    keep: None = None,
) -> Kernel:
    """A handler for XLA's FFI that is compiled already, as a kernel. Nothing is compiled.

    Args:
        handler: a capsule, as nanobind modules and `jax.ffi.pycapsule` give it; a ctypes function; an address; the name
            of a target that is registered with `jax.ffi.register_ffi_target`; or a dict of handlers by stage,
            ``{"instantiate": ..., "execute": ...}``. It is kept alive as long as the process.
        signature: ``"solve(a: f64[..., n, n], b: f64[..., n]) -> f64[..., n]"``. It says how to check a call. An operand
            with `...` comes to the handler with all batch axes, and one without comes with none.
        platform: where the handler runs: ``"cpu"``, ``"cuda"`` or ``"rocm"``.
        attributes: attributes of the handler that are the same in every call, such as strings and arrays. Numbers that
            differ from call to call stand in the signature, after the `;`.
        order: ``"F"`` for arrays in Fortran order.
        name: its name in messages.
        aliases: for the name of a result, that of the operand in whose memory it is: ``{"y": "x"}`` for a handler that
            works in place. It gets both, at the same address.
        keep: refused, because XLA calls the handler directly. It may have a state of its own, by its stages.

    Example:
        >>> import jax.numpy as jnp, numpy as np
        >>> from jaxlib import lapack
        >>> from jaxprim import kernels
        >>> cholesky = kernels.ffi(
        ...     lapack.prepare_lapack_call("potrf_ffi", np.dtype("float32")),
        ...     "(a: f32[..., n, n]) -> (f32[..., n, n], info: i32[...])",
        ...     attributes={"uplo": np.uint8(ord("L"))},
        ...     order="F",
        ... )
        >>> factor, info = cholesky(jnp.array([[4.0, 0.0], [2.0, 2.0]]))
        >>> factor.tolist(), int(info)
        ([[2.0, 0.0], [1.0, 1.0]], 0)
    """
    why = "XLA calls the handler directly; a handler of two stages has a state for each place in a program"
    refuse_keep("ffi", keep, why, 'kernels.ffi({"instantiate": make, "execute": run}, signature)')
    found = shared(parse(signature), aliases)
    one_of("platform", platform, tuple(PLATFORMS))
    stages = None if isinstance(handler, str) else _stages(handler)
    own = text_of("name", name) or found.function or (handler if isinstance(handler, str) else _name(handler))
    _refuse_twice(found, attributes or {})

    def load(_: KernelSignature) -> Target:
        target = _registered(own, str(handler), platform) if stages is None else _register(own, stages, platform)
        return Target(target, {key: _attribute(value) for key, value in (attributes or {}).items()})

    return Kernel(own, found, load, platform=platform, order=one_of("order", order, ORDERS), own_handler=True)


def _name(handler: Any) -> str:
    name = getattr(handler, "__name__", None)
    return name if isinstance(name, str) and name.isidentifier() else "handler"


def _attribute(value: Any) -> Any:
    """A value as JAX takes it: a Python number would get a type that depends on JAX's settings."""
    return value if isinstance(value, str | bool | dict) else np.asarray(value)[()] if np.ndim(value) == 0 else value


def _refuse_twice(signature: KernelSignature, attributes: Mapping[str, Any]) -> None:
    both = [row.name for row in signature.attributes if row.name in attributes]
    if both:
        raise KernelError(
            message(
                f"the attribute '{both[0]}' is given twice.",
                got=f"attributes={{{both[0]!r}: ...}}, and {signature}",
                expected="in the signature what differs from call to call, and in attributes= the rest",
                defined=_origin.place(),
            )
        )


# --------------------------------------------------------------------------------------------------- handlers in memory
def _stages(handler: Any) -> dict[str, tuple[Any, int]]:
    """The handlers by stage, each with its address. Refuses what is none."""
    rows = dict(handler) if isinstance(handler, Mapping) else {"execute": handler}
    if "execute" not in rows or not set(rows) <= set(STAGES):
        raise KernelError(
            message(
                "kernels.ffi got handlers of other stages.",
                got=", ".join(map(repr, rows)) or "no stage",
                expected=f"'execute', and maybe {', '.join(map(repr, STAGES[:-1]))}",
                defined=_origin.place(),
            )
        )
    return {stage: (pointer, _address(pointer)) for stage, pointer in rows.items()}


def _address(pointer: Any) -> int:
    address = pointers.handler_address(pointer)
    if pointers.is_capsule(pointer) and pointers.prototype_of(pointer) is not None:
        raise KernelError(
            message(
                "kernels.ffi got a plain C function.",
                got=f"a capsule named {pointers.prototype_of(pointer)!r}",
                expected="a handler for XLA's FFI",
                defined=_origin.place(),
                write="kernels.c_function(...)  # for a function that takes its arguments as C does",
            )
        )
    found, known = metadata.api_of(address), api_of_headers()
    if found is not None and (found[0] != known[0] or found > known):
        raise KernelError(
            message(
                "the handler was compiled with a later version of XLA's API than this JAX has.",
                got=show_api(found),
                expected=f"at most {show_api(known)}",
                why="XLA would refuse it, and JAX would then have no device at all",
                defined=_origin.place(),
                write="pip install --upgrade jax  # or compile the handler with the headers of this JAX",
            )
        )
    return address


_kept: dict[str, Any] = {}


def _register(name: str, stages: Mapping[str, tuple[Any, int]], platform: str) -> str:
    """Register handlers under a name that is the same in every process with the same library, and give that name."""
    said = [(stage, identity.identity(pointer, address)[0]) for stage, (pointer, address) in sorted(stages.items())]
    target = target_name(name, hashlib.sha256(repr((said, platform)).encode()).hexdigest()[:16])
    if target not in _kept:
        capsules = {stage: jax.ffi.pycapsule(address) for stage, (_, address) in stages.items()}
        given = capsules if len(capsules) > 1 else capsules["execute"]
        jax.ffi.register_ffi_target(target, given, platform=PLATFORMS[platform])
        _kept[target] = stages
    return target


# ---------------------------------------------------------------------------------------------------- registered targets
def _registered(name: str, target: str, platform: str) -> str:
    """The name of a target, which must be registered by now."""
    known = _jax.ffi_targets() if platform == "cpu" else None
    if known is None or target in known:
        return target
    close = difflib.get_close_matches(target, known, n=3)
    raise KernelError(
        message(
            f"{name}: no handler is registered under its name.",
            got=f"'{target}' for {platform}",
            expected=f"a name such as {', '.join(map(repr, close))}" if close else "the name of a registered target",
            why="the package that has the handler may register it when it is imported",
            write=f"jax.ffi.register_ffi_target({target!r}, capsule, platform={PLATFORMS[platform]!r})",
        )
    )
