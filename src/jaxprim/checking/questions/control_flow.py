"""Does an operation give the same in the body of a loop, in a branch, or recomputed?"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from jaxprim.checking import contexts
from jaxprim.checking.against_plain_call import compare_in
from jaxprim.checking.answers import Answer
from jaxprim.checking.case import Case
from jaxprim.checking.contexts import Transform
from jaxprim.checking.question import question


@question(
    "Are value, JVP and VJP the same inside scan, cond, while_loop and checkpoint?",
    group="control flow",
)
def control_flow(case: Case) -> Answer:
    """Compare value, JVP and VJP inside scan, cond, while_loop and checkpoint with a plain call."""
    results = case.native.results
    places: Mapping[str, Transform] = {
        "scan": contexts.scan,
        "cond": lambda function: contexts.cond(function, contexts.zeros(results)),
        "while_loop": lambda function: contexts.while_loop(function, results),
        "checkpoint": contexts.checkpoint,
    }
    # JAX has no reverse mode through a loop whose length is not known.
    yield from compare_in(case, places, rules={"while_loop": ("impl", "jvp")})


@question(
    "Are JVP and VJP the same under every policy of jax.checkpoint?",
    group="control flow",
    speed="thorough",
)
def checkpoint(case: Case) -> Answer:
    """Compare JVP and VJP under ``jax.checkpoint`` with each policy, and inside and around a scan, with a plain call."""
    places: dict[str, Transform] = {
        f"checkpoint, {policy}": partial(contexts.checkpoint, policy=policy) for policy in contexts.POLICIES
    }
    places["checkpoint inside scan"] = lambda function: contexts.scan(contexts.checkpoint(function))
    places["scan inside checkpoint"] = lambda function: contexts.checkpoint(contexts.scan(function))
    yield from compare_in(case, places, rules=dict.fromkeys(places, ("jvp", "vjp")))
