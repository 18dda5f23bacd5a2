"""Random nests of transformations and control flow around an operation, against the same nests around its reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax

from jaxprim._errors import BadCall, CheckFailed, message
from jaxprim._origin import public
from jaxprim.checking import run as checking
from jaxprim.checking.run import Inputs
from jaxprim.checking.subject import Subject
from jaxprim.fuzzing import search
from jaxprim.fuzzing.layers import Nest, parse, spell
from jaxprim.fuzzing.pair import Failure, Pair, Refused

# JAX keeps every program that it compiled; of ten thousand nests that would be all memory.
FORGET_AFTER = 200
DEPTH = 3
# So many reasons why nests could not be asked are shown.
REASONS = 5


@dataclass
class FuzzReport:
    """What a run of nests found.

    Attributes:
        subject: the name of the operation.
        seed: the seed of the nests.
        target: what the command line calls the operation; empty for a run in Python.
        compared: how many nests gave the same.
        refused: how many could not be asked, by reason.
        failure: the smallest nest that gave something else, or None.
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
        """Whether at least one nest was compared, and none gave something else."""
        return self.failure is None and self.compared > 0

    def text(self) -> str:
        """What was found: a failure with the line that shows it again, or why nothing was compared."""
        agree = "1 nest agrees" if self.compared == 1 else f"{self.compared} nests agree"
        head = f"{self.subject}: {agree}, {self.refused.total()} cannot be run (seed {self.seed})"
        return "\n".join([head, *self._failed(), *(self.reasons() if not self.ok and self.failure is None else ())])

    def reasons(self) -> Iterator[str]:
        """Why nests could not be asked, the most frequent reasons first."""
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
        """The line that asks for the failing nest again."""
        nest = spell(self.failure.nest) if self.failure is not None else ""
        if self.target:
            return f'jaxprim fuzz {self.target} --nest "{nest}"'
        return f'jaxprim.fuzz({self.subject}, ..., nest="{nest}")'

    def raise_if_bad(self) -> None:
        """Raise ``CheckFailed`` with the text if a nest gave something else, or none was compared."""
        if not self.ok:
            raise CheckFailed(self.text())

    def take(self, pair: Pair, nest: Nest) -> Failure | None:
        """Ask for one nest, and count it."""
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
    """Put an operation into random nests of transformations and control flow, and compare with its reference there.

    It returns what was found, good or bad. In a test, use `fuzz`, which raises.

    Args:
        target: a ``Primitive``, or any function that JAX can trace.
        *operands: an example of its operands, or ``jaxprim.Example`` objects; without any, those of ``def_examples``.
        reference: the same function in JAX, without rules of its own. A primitive's traceable impl by default.
        examples: how many nests.
        seed: the seed of the nests.
        depth: how many layers a nest has at most.
        nest: only this nest, as a failure spells it.
        **params: static params, and operands that go by name.

    Returns:
        What was found: ``found.ok``, ``found.failure``, ``found.text()``, ``found.raise_if_bad()``.

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

    It takes what `jaxprim.fuzzing.report` takes, and asks for the same nests.

    Returns:
        The report, when at least one nest was compared and all agree.

    Raises:
        CheckFailed: a nest gives something else than around the reference, or none could be compared.
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
    found: FuzzReport, subject: Subject, given: Sequence[Inputs], examples: int, depth: int = DEPTH,
    nest: str | None = None, tell: Callable[[], None] = lambda: None,
) -> None:  # fmt: skip
    """Ask for nests, and fill in what is found; the first failure is made small. ``tell`` is called after each nest."""
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
