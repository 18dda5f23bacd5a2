"""Random nests of transformations and control flow around an operation, against the same nests around its reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax

from jaxprim import _jax
from jaxprim._defaults import DEPTH
from jaxprim._errors import BadCall, CheckFailed, message
from jaxprim._origin import public
from jaxprim._types import Example
from jaxprim.checking import run as checking
from jaxprim.checking.subject import Subject
from jaxprim.fuzzing import search
from jaxprim.fuzzing.layers import Nest, parse, spell
from jaxprim.fuzzing.pair import Failure, Pair, Refused

# JAX keeps every compiled program. Ten thousand nests would fill the memory.
FORGET_AFTER = 200
# At most this many reasons are shown for nests that could not be run.
REASONS = 5


@dataclass
class FuzzReport:
    """The result of a fuzzing run.

    Attributes:
        subject: the name of the operation.
        seed: the seed of the nests.
        target: the name of the operation on the command line; empty for a run in Python.
        compared: how many nests agree.
        refused: how many could not be run, by reason.
        failure: the smallest nest that differs, or None.
        layers: how often each layer was in a nest that was compared.
    """

    subject: str
    seed: int
    target: str = ""
    compared: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    failure: Failure | None = None
    layers: Counter[str] = field(default_factory=Counter)

    @property
    def ok(self) -> bool:
        """Whether at least one nest was compared, and none differs."""
        return self.failure is None and self.compared > 0

    def text(self) -> str:
        """The result as text: a failure with the line that reproduces it, or why nothing was compared."""
        agree = "1 nest agrees" if self.compared == 1 else f"{self.compared} nests agree"
        head = f"{self.subject}: {agree}, {self.refused.total()} cannot be run (seed {self.seed})"
        return "\n".join([head, *self._failed(), *(self.reasons() if not self.ok and self.failure is None else ())])

    def reasons(self) -> Iterator[str]:
        """Why nests could not be run, the most frequent reasons first."""
        yield from (f"  {count} x {reason}" for reason, count in self.refused.most_common(REASONS))

    def _failed(self) -> Iterator[str]:
        if self.failure is None:
            return
        yield f"fail: {self.subject} in the nest: {spell(self.failure.nest) or 'no layers'}"
        yield f"  at:        {self.failure.example}"
        first, *rest = self.failure.what.splitlines() or [""]
        yield f"  wrong:     {first}"
        yield from (" " * 13 + line for line in rest)
        yield f"  again:     {self.again()}"

    def again(self) -> str:
        """The line that runs the failing nest again."""
        nest = spell(self.failure.nest) if self.failure is not None else ""
        if self.target:
            return f'jaxprim fuzz {self.target} --nest "{nest}"'
        return f'jaxprim.fuzz({self.subject}, ..., nest="{nest}")'

    def raise_if_bad(self) -> None:
        """Raise ``CheckFailed`` with the text if a nest differs, or none was compared."""
        if not self.ok:
            raise CheckFailed(self.text())

    def take(self, pair: Pair, nest: Nest) -> Failure | None:
        """Run one nest, and count it."""
        try:
            failure = pair.ask(nest)
        except Refused as error:
            self.refused[str(error)] += 1
            return None
        if failure is None:
            self.compared += 1
            self.layers.update(name for name, _ in nest)
        if (self.compared + self.refused.total()) % FORGET_AFTER == 0:
            jax.clear_caches()
        return failure


def report(
    target: Callable[..., Any],
    /,
    *operands: Any,
    reference: Callable[..., Any] | None = None,
    examples: int = 100,
    seed: int = 0,
    depth: int = DEPTH,
    nest: str | None = None,
    **params: Any,
) -> FuzzReport:
    """Compare an operation with its reference in random nests of transformations and control flow.

    It returns the report, good or bad. In a test, use `fuzz`, which raises.

    Args:
        target: a ``Primitive``, or any function that JAX can trace.
        *operands: an example of its operands, or ``jaxprim.Example`` objects; without any, the examples of ``def_examples``.
        reference: the same function in JAX, without rules of its own. A primitive's traceable impl by default.
        examples: the number of nests.
        seed: the seed of the nests.
        depth: the largest number of layers in a nest.
        nest: run only this nest, written as in the report of a failure.
        **params: static params, and operands passed by name.

    Returns:
        A report: ``found.ok``, ``found.failure``, ``found.text()``, ``found.raise_if_bad()``.

    Raises:
        BadCall: there is no reference, or no example, or no such nest.

    Example:
        >>> import jax.numpy as jnp, jaxprim
        >>> square = jaxprim.primitive(lambda x: x * x)
        >>> jaxprim.fuzzing.report(square, jnp.ones(2), nest="vmap").text()
        '<lambda>: 1 nest agrees, 0 cannot be run (seed 0)'
    """
    subject = Subject.of(target, reference)
    found = FuzzReport(subject.name, seed)
    run(found, subject, checking.inputs(subject, operands, params), examples, depth, nest)
    return found


@public
@_jax.boundary
def fuzz(
    target: Callable[..., Any],
    /,
    *operands: Any,
    reference: Callable[..., Any] | None = None,
    examples: int = 100,
    seed: int = 0,
    depth: int = DEPTH,
    nest: str | None = None,
    **params: Any,
) -> FuzzReport:
    """Compare an operation with its reference in random nests of transformations, and raise if one differs.

    It takes the arguments of `jaxprim.fuzzing.report`, and runs the same nests.

    Returns:
        The report, if at least one nest was compared and all agree.

    Raises:
        CheckFailed: a nest differs from the nest around the reference, or none could be compared.
        BadCall: as for `report`.

    Example:
        >>> import jax.numpy as jnp, jaxprim
        >>> square = jaxprim.primitive(lambda x: x * x)
        >>> jaxprim.fuzz(square, jnp.ones(2), examples=3).ok
        True
    """
    found = report(
        target, *operands, reference=reference, examples=examples, seed=seed, depth=depth, nest=nest, **params
    )
    found.raise_if_bad()
    return found


def run(
    found: FuzzReport, subject: Subject, given: Sequence[Example], examples: int, depth: int = DEPTH,
    nest: str | None = None, tell: Callable[[], None] = lambda: None,
) -> None:  # fmt: skip
    """Run nests and fill in ``found``; the first failure is reduced. ``tell`` is called after each nest."""
    pairs = [Pair(case, i) for i, case in enumerate(checking.cases(subject, given, found.seed), start=1)]
    if nest is not None:
        found.failure = next(filter(None, (found.take(pair, _nest(nest)) for pair in pairs)), None)
        return

    def take(pair: Pair, drawn: Nest) -> Failure | None:
        failure = found.take(pair, drawn)
        tell()
        return failure

    found.failure = search.smallest(take, pairs, found.seed, examples, depth)


def _nest(spelling: str) -> Nest:
    try:
        return parse(spelling)
    except ValueError as error:
        raise BadCall(message("fuzz: no such nest.", got=str(error), write='nest="grad:1 vmap:2 jit"')) from error
