"""What the checker is told about an operation, and its front door: `check` and `report`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from jaxprim import _jax
from jaxprim._errors import BadCall, message
from jaxprim._rules import RuleSet
from jaxprim._trees import describe
from jaxprim._types import Example

if TYPE_CHECKING:
    from jaxprim.checking.run import Report, Speed

F = TypeVar("F", bound=Callable[..., Any])


@_jax.boundaries
class Checkable:
    """Base class of `Primitive`: its examples, its accuracy and its domain.

    Attributes:
        name: the name in messages.
    """

    name: str
    _rules: RuleSet
    _examples: Callable[[], Iterable[Any]] | None = None
    _accuracy: Callable[..., Any] | None = None
    _domain: Callable[..., Any] | None = None

    def def_examples(self, fn: F) -> F:
        """Give example inputs, which `check` and the command line use.

        Args:
            fn: ``fn()`` returns or yields tuples of operands, or `jaxprim.Example` objects, which carry static params.

        Example:
            >>> import jax.numpy as jnp
            >>> from jaxprim import Primitive
            >>> square = Primitive("square")
            >>> _ = square.def_impl(lambda x: x * x)
            >>> @square.def_examples
            ... def _():
            ...     return [(3.0,), (jnp.ones(2),)]
            >>> len(square.examples())
            2
        """
        self._examples = lambda: (self._usable(example, fn) for example in self._listed(fn))
        return fn

    def examples(self) -> tuple[Example, ...]:
        """Return the example inputs that the author gave."""
        return tuple(map(_example, self._examples())) if self._examples is not None else ()

    def def_accuracy(self, fn: F) -> F:
        """Say how accurately the operation computes its function, so that `check` allows for it.

        An iterative solver stops at its tolerance, and a quadrature at its own. All tolerances of `check` follow.

        Args:
            fn: ``fn(*operands, **params)`` returns the relative error, such as ``1e-6``; 0 if it only rounds.

        Raises:
            BadCall: ``fn`` is not a function.

        Example:
            >>> from jaxprim import Primitive
            >>> solve = Primitive("solve")
            >>> @solve.def_accuracy
            ... def _(b, *, tol):
            ...     return tol
        """
        self._accuracy = self._function("def_accuracy", fn)
        return fn

    def def_domain(self, fn: F) -> F:
        """Say which operands the operation accepts, so that `check` keeps to them where it invents operands.

        Args:
            fn: ``fn(*operands, **params)`` returns whether the operands are in the domain, as a bool, or brings them
                into it: then it returns all operands, in a tuple.

        Raises:
            BadCall: ``fn`` is not a function.

        Example:
            >>> from jaxprim import Primitive
            >>> interpolate = Primitive("interpolate")
            >>> @interpolate.def_domain
            ... def _(x, grid, values):
            ...     return x, grid.sort(), values
        """
        self._domain = self._function("def_domain", fn)
        return fn

    def check(
        self,
        /,
        *operands: Any,
        reference: Callable[..., Any] | None = None,
        seed: int | None = None,
        only: str | Iterable[str] | None = None,
        skip: str | Iterable[str] | None = None,
        speed: Speed | None = None,
        accuracy: float | None = None,
        pictures: bool = False,
        **params: Any,
    ) -> Report:
        """Check the primitive at these operands, or at its examples, and raise if a finding is bad.

        Args:
            *operands: the operands, as in `jaxprim.check`.
            reference: the same function in JAX or NumPy, which must agree with the implementation.
            seed: the random seed, 0 by default.
            only: the names of the questions to ask; ``jaxprim questions`` lists them.
            skip: the names of questions to leave out.
            speed: ``"fast"``, ``"normal"`` (the default) or ``"thorough"``.
            accuracy: the relative error to which the operation computes its function, instead of `def_accuracy`'s.
            pictures: also measure the pictures of ``report.html()``.
            **params: static params, and operands by name.

        Returns:
            The report, if no finding is bad.

        Raises:
            CheckFailed: a finding is bad; the message shows which one.

        Example:
            >>> from jaxprim import primitive
            >>> square = primitive(lambda x: x * x)
            >>> square.check(3.0).ok
            True
        """
        from jaxprim.checking import run

        return run.check(
            cast("Callable[..., Any]", self), *operands, reference=reference, seed=seed, only=only, skip=skip, speed=speed, accuracy=accuracy,
            pictures=pictures, **params,
        )  # fmt: skip

    def report(
        self,
        /,
        *operands: Any,
        reference: Callable[..., Any] | None = None,
        seed: int | None = None,
        only: str | Iterable[str] | None = None,
        skip: str | Iterable[str] | None = None,
        speed: Speed | None = None,
        accuracy: float | None = None,
        pictures: bool = False,
        **params: Any,
    ) -> Report:
        """Check the primitive and return all findings, good or bad: `check` without the exception.

        It takes the arguments of `check`.

        Example:
            >>> from jaxprim import primitive
            >>> square = primitive(lambda x: x * x)
            >>> [finding.question for finding in square.report(3.0, only="jit").findings]
            ['jit']
        """
        from jaxprim.checking import run

        return run.report(
            cast("Callable[..., Any]", self), *operands, reference=reference, seed=seed, only=only, skip=skip, speed=speed, accuracy=accuracy,
            pictures=pictures, **params,
        )  # fmt: skip

    def _function(self, method: str, fn: F) -> F:
        if not callable(fn):
            raise BadCall(
                message(
                    f"{self.name}: {method} takes a function.",
                    got=repr(fn),
                    expected="a function of the operands and static params",
                    defined=self._rules.made,
                    write=f"{self.name}.{method}(lambda *operands, **params: {fn!r})",
                )
            )
        return fn

    def _listed(self, fn: Callable[[], Any]) -> Iterable[Any]:
        """What `def_examples` returned, unless it is one example instead of a list of them."""
        found = fn()
        is_operands = isinstance(found, tuple) and not any(map(_is_example, cast("tuple[Any, ...]", found)))
        is_list = isinstance(found, Iterable) and not isinstance(found, dict) and not hasattr(found, "shape")
        if not is_list or (is_operands and not self._takes(1)):
            raise self._no_example(
                fn, "the examples are no list", found, "a list of tuples of operands, or of Examples"
            )
        return cast("Iterable[Any]", found)

    def _usable(self, example: Any, fn: Callable[[], Any]) -> Any:
        """Return an example unchanged, but refuse one with too few or too many operands."""
        self._refuse_pair(example)
        count = len(cast("tuple[Any, ...]", example)) if isinstance(example, tuple | list) else 1
        if isinstance(example, Example) or self._takes(count):
            return example
        operands = ", ".join(self._rules.signature.operands)
        raise self._no_example(fn, "an example has the wrong number of operands", example, f"a tuple ({operands})")

    def _takes(self, count: int) -> bool:
        """Whether a call may have this many operands; True before there is an implementation to tell."""
        signature = self._rules.signature
        return signature.source is None or signature.takes(count)

    def _no_example(self, fn: Callable[[], Any], what: str, got: Any, expected: str) -> BadCall:
        operands = [*self._rules.signature.operands] or ["x", "..."]
        return BadCall(
            message(
                f"{self.name}: def_examples: {what}.",
                got=describe(got),
                expected=expected,
                rule=fn,
                write=f"return [({', '.join(operands)}{',' * (len(operands) == 1)})]",
            )
        )

    def _refuse_pair(self, example: Any) -> Any:
        """Return an example unchanged, but refuse ``(operands, params)``, since a pair means two operands."""
        if not _looks_like_a_pair(example):
            return example
        signature = self._rules.signature
        params = set(example[1])
        may_be_operands = signature.takes(2) and not (params and params <= set(signature.params))
        if may_be_operands:
            return example
        raise BadCall(
            message(
                f"{self.name}: an example with static params must be a jaxprim.Example.",
                got=f"a tuple of {len(example[0])} and a dict of {', '.join(example[1]) or 'nothing'}",
                expected="a tuple of operands, or an Example",
                defined=self._rules.made,
                write="Example((x, ...), {" + ", ".join(f"'{name}': ..." for name in example[1]) + "})",
            )
        )


def _example(value: Any) -> Example:
    if isinstance(value, Example):
        return value
    return Example(tuple(value) if isinstance(value, tuple | list) else (value,))


def _is_example(value: Any) -> bool:
    return isinstance(value, Example | tuple | list)


def _looks_like_a_pair(example: Any) -> bool:
    return (
        type(example) is tuple
        and len(cast("tuple[Any, ...]", example)) == 2
        and isinstance(example[0], tuple)
        and isinstance(example[1], dict)
        and all(isinstance(key, str) for key in cast("dict[Any, Any]", example[1]))
    )
