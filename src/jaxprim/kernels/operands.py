"""The operands of a kernel's call: their types, their batch axes, and their names in Python."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprim import _jax
from jaxprim._avals import refuse_byte_order
from jaxprim._errors import BadCall, message
from jaxprim.kernels.signature import Array, KernelSignature


def python_signature(signature: KernelSignature) -> inspect.Signature:
    """The signature for Python and `Primitive`: operands by position, attributes by keyword."""
    kinds, empty = inspect.Parameter, inspect.Parameter.empty
    operands = [kinds(array.name, kinds.POSITIONAL_ONLY) for array in signature.operands]
    attributes = [
        kinds(row.name, kinds.KEYWORD_ONLY, default=empty if row.default is None else row.default)
        for row in signature.attributes
    ]
    return inspect.Signature([*operands, *attributes])


def type_of(owner: str, name: str, operand: Any, defined: str) -> Any:
    """The type of an operand.

    Raises:
        BadCall: it is no array.
    """
    try:
        return _jax.typeof(operand)
    except (TypeError, ValueError):
        refuse_byte_order(owner, name, operand, defined=defined)
        raise BadCall(
            message(
                f"{owner}: operand '{name}' is not an array.",
                got=f"a {type(operand).__name__}",
                expected="an array or a number",
                defined=defined,
            )
        ) from None


def settle(operand: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
    """An operand with all batch axes. A Python number also gets the kernel's dtype."""
    if _jax.typeof(operand).dtype != dtype:
        operand = jax.lax.convert_element_type(operand, dtype)
    return operand if jnp.shape(operand) == shape else jnp.reshape(operand, shape)


def as_declared(operand: Any, array: Array, batch: tuple[int, ...]) -> Any:
    """An operand for a handler of the author's own: with all batch axes in full if it has `...`, and none if not."""
    own = jnp.shape(operand)[len(batch) :]
    return with_batch(operand, batch) if array.batched else jnp.reshape(operand, own)


def with_batch(operand: Any, batch: tuple[int, ...]) -> Any:
    """An operand that has all batch axes, with each of them in full."""
    shape = (*batch, *jnp.shape(operand)[len(batch) :])
    return operand if jnp.shape(operand) == shape else jnp.broadcast_to(operand, shape)
