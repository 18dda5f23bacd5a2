"""Draw nests, and reduce the first failing one, with Hypothesis."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jaxprim._errors import BadCall, message
from jaxprim.fuzzing.layers import CHOICES, LAYERS, Nest
from jaxprim.fuzzing.pair import Failure, Pair


class _Found(Exception):
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.what)
        self.failure = failure


def smallest(
    take: Callable[[Pair, Nest], Failure | None], pairs: Sequence[Pair], seed: int, examples: int, depth: int
) -> Failure | None:
    """The smallest failing nest that Hypothesis finds, or None if none fails.

    Raises:
        BadCall: Hypothesis is not installed.
    """
    try:
        import hypothesis
        from hypothesis import errors
        from hypothesis import strategies as st
    except ImportError as error:
        raise BadCall(
            message("fuzz needs Hypothesis.", got=str(error), write="pip install 'jaxprim[testing]'")
        ) from error
    layer = st.tuples(st.sampled_from(list(LAYERS)), st.integers(0, CHOICES - 1))
    last: list[Failure] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples, database=None, deadline=None, report_multiple_bugs=False, print_blob=False,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        suppress_health_check=(hypothesis.HealthCheck.too_slow,), verbosity=hypothesis.Verbosity.quiet,
    )  # fmt: skip
    @hypothesis.given(st.lists(layer, min_size=1, max_size=depth).map(tuple), st.sampled_from(list(pairs)))
    def ask(nest: Nest, pair: Pair) -> None:
        failure = take(pair, nest)
        if failure is not None:
            last.append(failure)
            raise _Found(failure)

    try:
        ask()
    except _Found as found:
        return found.failure
    except errors.Flaky:  # the same nest gave another result when run again: the operation keeps state
        return last[-1]
    return None
