"""`jaxprim.use`: run another implementation than the platform's own, for debugging."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import jax

from jaxprim._errors import BadCall, message
from jaxprim._origin import public

if TYPE_CHECKING:
    from jaxprim._rules import RuleSet

IMPLEMENTATIONS = ("impl", "host", "kernel")

# A user context of JAX: its value is part of every cache key of JAX, so that functions compiled outside obey it. It holds
# pairs of JAX primitives (none for all) and a word, the innermost first.
_chosen = jax.make_user_context(default_value=())


def choice(rules: RuleSet) -> str | None:
    """The implementation that is asked for here, if the primitive has it."""
    chosen = _chosen.value
    if not chosen:
        return None
    word = next((word for primitives, word in chosen if not primitives or rules.primitive in primitives), None)
    return word if word in rules.given else None


@public
@contextmanager
def use(implementation: str, *primitives: Any) -> Generator[None]:
    """Inside the block, primitives run their ``"impl"``, their ``"host"`` function, or the ``"kernel"`` of the platform.

    A primitive that lacks the implementation keeps its own; so does one that is not named, if some are. Functions that
    were compiled before the block obey it. ``p.use("impl")(x)`` is the same for one call.

    Args:
        implementation: ``"impl"``, ``"host"`` or ``"kernel"``.
        primitives: the primitives that are meant; all, if there are none.

    Example:
        >>> import jax, jaxprim
        >>> from jaxprim import Primitive
        >>> one = Primitive("one")
        >>> one.def_kernel(lambda x: x + 1, platform="cpu")  # doctest: +ELLIPSIS
        <function ...>
        >>> one.def_impl(lambda x: x + 100)  # doctest: +ELLIPSIS
        <function ...>
        >>> compiled = jax.jit(one)
        >>> float(compiled(0.0))
        1.0
        >>> with jaxprim.use("impl"):
        ...     float(compiled(0.0))
        100.0
    """
    if implementation not in IMPLEMENTATIONS:
        raise BadCall(
            message(
                "use got an unknown implementation.",
                got=repr(implementation),
                expected=" | ".join(map(repr, IMPLEMENTATIONS)),
                write="with jaxprim.use('impl'):",
            )
        )
    with _chosen(((frozenset(p.primitive for p in primitives), implementation), *_chosen.value)):
        yield
