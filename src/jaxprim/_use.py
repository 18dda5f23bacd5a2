"""`jaxprim.use`: run a chosen implementation instead of the platform's own, for debugging."""

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

# JAX puts the value of a user context into every cache key, so functions that were compiled outside the block obey it
# too. The value is a tuple of (JAX primitives, implementation), innermost block first. An empty set of primitives means
# all.
_chosen = jax.make_user_context(default_value=())


def choice(rules: RuleSet) -> str | None:
    """The implementation that the surrounding blocks choose, if the primitive has it."""
    chosen = _chosen.value
    if not chosen:
        return None
    word = next((word for primitives, word in chosen if not primitives or rules.primitive in primitives), None)
    return word if word in rules.given else None


@public
@contextmanager
def use(implementation: str, *primitives: Any) -> Generator[None]:
    """Inside the block, primitives run their ``"impl"``, their ``"host"`` function, or the ``"kernel"`` of the
    platform.

    A primitive without that implementation runs as usual. If primitives are listed, all others run as usual too.
    Functions that were compiled before the block obey it. ``p.use("impl")(x)`` does the same for one call.

    Args:
        implementation: ``"impl"``, ``"host"`` or ``"kernel"``.
        primitives: the primitives to affect; by default all of them.

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
