"""How often an opaque kernel runs: host calls counted at run time, beside the same kernels in JAX's custom rules.

The numbers stand in docs/design/kernel-calls.md. ``python tests/test_call_counts.py`` writes that page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows.remat import other_remat

from jaxprim import Primitive

PAGE = Path(__file__).parent.parent / "docs" / "design" / "kernel-calls.md"
KERNELS = ("value", "jvp", "vjp forward", "vjp backward")


# ----------------------------------------------------------------------------------- kernels of y = exp(x), each its own
@dataclass(frozen=True)
class Kernel:
    """A host function and how many results of the type of its first operand it has (None: one, bare)."""

    fn: Callable[..., Any]
    results: int | None = None


VALUE = Kernel(lambda x: np.exp(x))
BACKWARD = Kernel(lambda slope, y, ct: slope * ct + 0 * y)
SEPARATE = {
    "value": VALUE,
    "jvp": Kernel(lambda x: np.exp(x)),
    "vjp forward": Kernel(lambda x: np.exp(x)),
    "vjp backward": BACKWARD,
}
FUSED = {
    "value": VALUE,
    "jvp": Kernel(lambda x, x_dot: (np.exp(x), np.exp(x) * x_dot), 2),
    "vjp forward": Kernel(lambda x: (np.exp(x), np.exp(x)), 2),
    "vjp backward": BACKWARD,
}


class Counted:
    """Host kernels that count their runs."""

    def __init__(self, kernels: dict[str, Kernel]) -> None:
        self.kernels = kernels
        self.runs: Counter[str] = Counter()

    def primitives(self) -> list[Any]:
        return [self._primitive(name) for name in KERNELS]

    def callbacks(self) -> list[Any]:
        """The same kernels as users of JAX's own custom rules call them."""
        return [self._callback(name) for name in KERNELS]

    def _primitive(self, name: str) -> Primitive:
        op = Primitive(name.replace(" ", "_"))
        op.def_host(partial(self._run, name))
        op.def_abstract_eval(lambda *avals: self._results(name, avals[0]))
        return op

    def _callback(self, name: str) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            run = lambda *xs: self._run(name, *map(np.asarray, xs))
            return jax.pure_callback(run, self._results(name, args[0]), *args, vmap_method="sequential")

        return call

    def _results(self, name: str, first: Any) -> Any:
        result, count = jax.ShapeDtypeStruct(first.shape, first.dtype), self.kernels[name].results
        return result if count is None else (result,) * count

    def _run(self, name: str, *args: Any) -> Any:
        self.runs[name] += 1
        return self.kernels[name].fn(*args)


# ----------------------------------------------------------------------------------------------------- the op, six times
def separate_jaxprim(counted: Counted) -> Any:
    """The rules call the op for its value, and kernels of their own for the derivative."""
    op, jvp, forward, backward = counted.primitives()
    op.def_jvp(lambda primals, dots: (op(*primals), jvp(*primals) * dots[0]))

    @op.def_vjp
    def _(primals: Any) -> Any:
        y, slope = op(*primals), forward(*primals)
        return y, lambda ct: backward(slope, y, ct)

    return op


def separate_custom_jvp(counted: Counted) -> Any:
    value, jvp, _, _ = counted.callbacks()
    op = jax.custom_jvp(value)
    op.defjvp(lambda primals, dots: (value(*primals), jvp(*primals) * dots[0]))
    return op


def separate_custom_vjp(counted: Counted) -> Any:
    value, _, forward, backward = counted.callbacks()
    op = jax.custom_vjp(value)

    def fwd(x: Any) -> Any:
        y = value(x)
        return y, (forward(x), y)

    op.defvjp(fwd, lambda residuals, ct: (backward(*residuals, ct),))
    return op


def fused_jaxprim(counted: Counted) -> Any:
    """The rules have kernels that compute the value too."""
    op, jvp, forward, backward = counted.primitives()
    op.def_jvp(lambda primals, dots: jvp(*primals, *dots))

    @op.def_vjp
    def _(primals: Any) -> Any:
        y, slope = forward(*primals)
        return y, lambda ct: backward(slope, y, ct)

    return op


def fused_custom_jvp(counted: Counted) -> Any:
    value, jvp, _, _ = counted.callbacks()
    op = jax.custom_jvp(value)
    op.defjvp(lambda primals, dots: jvp(*primals, *dots))
    return op


def fused_custom_vjp(counted: Counted) -> Any:
    value, _, forward, backward = counted.callbacks()
    op = jax.custom_vjp(value)

    def fwd(x: Any) -> Any:
        y, slope = forward(x)
        return y, (slope, y)

    op.defvjp(fwd, lambda residuals, ct: (backward(*residuals, ct),))
    return op


# -------------------------------------------------------------------------------------------------------- the contexts
POLICIES = {
    "nothing_saveable": jax.checkpoint_policies.nothing_saveable,
    "everything_saveable": jax.checkpoint_policies.everything_saveable,
    "dots_saveable": jax.checkpoint_policies.dots_saveable,
    "save_only_these_names": jax.checkpoint_policies.save_only_these_names("value"),
}


def loss(f: Any) -> Any:
    """A loss whose gradient needs the value."""
    return lambda x: jnp.sum(f(x) ** 2)


def scanned(f: Any) -> Any:
    return lambda x: jax.lax.scan(lambda c, _: (f(c) * 0.5, None), x, None, length=3)[0]


def named(f: Any) -> Any:
    return lambda x: jax.ad_checkpoint.checkpoint_name(f(x), "value")


def pushed(f: Any) -> Any:
    return lambda x: jax.jvp(f, (x,), (jnp.ones_like(x),))


def linearized(f: Any) -> Any:
    def run(x: Any) -> Any:
        y, push = jax.linearize(f, x)
        return y, push(x), push(2 * x)

    return run


FORWARD: dict[str, Any] = {
    "jit(jvp)": pushed,
    "jit(jvp(vmap)), 4 elements": lambda f: lambda x: pushed(jax.vmap(f))(jnp.stack([x] * 4)),
    "jit(jvp(scan)), 3 steps": lambda f: pushed(scanned(f)),
    "jit(linearize), 2 tangents": linearized,
    "jit(jacfwd), 3 inputs": jax.jacfwd,
}
REVERSE: dict[str, Any] = {
    "jit(grad)": lambda f: jax.grad(loss(f)),
    "jit(value_and_grad)": lambda f: jax.value_and_grad(loss(f)),
    "jit(grad(vmap)), 4 elements": lambda f: lambda x: jax.grad(loss(jax.vmap(f)))(jnp.stack([x] * 4)),
    "jit(grad(scan)), 3 steps": lambda f: jax.grad(loss(scanned(f))),
    "jit(jacrev), 3 outputs": jax.jacrev,
    **{
        f"jit(grad(checkpoint)), {name}": lambda f, p=policy: jax.grad(jax.checkpoint(loss(named(f)), policy=p))
        for name, policy in POLICIES.items()
    },
    **{
        f"jit(grad(scan(checkpoint))), {name}": lambda f, p=policy: jax.grad(
            loss(scanned(jax.checkpoint(named(f), policy=p)))
        )
        for name, policy in POLICIES.items()
    },
}
PLAIN: dict[str, Any] = {
    "jit": lambda f: f,
    "jit(vmap), 4 elements": lambda f: lambda x: jax.vmap(f)(jnp.stack([x] * 4)),
    "jit(scan), 3 steps": scanned,
}
CONTEXTS = {**PLAIN, **FORWARD, **REVERSE}


@cache
def counts(make: Callable[[Counted], Any], context: str, remat3: bool = False) -> str:
    """Runs of each kernel when the compiled function runs once: ``"1 0 1 1"``."""
    counted = Counted(FUSED if "fused" in make.__name__ else SEPARATE)
    x = jnp.linspace(0.1, 0.3, 3)
    with other_remat(remat3):
        compiled = jax.jit(CONTEXTS[context](make(counted))).lower(x).compile()
        counted.runs.clear()
        jax.block_until_ready(compiled(x))
    return " ".join(str(counted.runs[name]) for name in KERNELS)


def theirs(make: Callable[[Counted], Any], context: str, remat3: bool = False) -> str:
    """The same for JAX's custom rules, which cannot do everything."""
    try:
        return counts(make, context, remat3)
    except ValueError:
        return "cannot"


OPS = {
    "separate": (separate_jaxprim, separate_custom_jvp, separate_custom_vjp),
    "fused": (fused_jaxprim, fused_custom_jvp, fused_custom_vjp),
}
Row = tuple[str, str, str]


def measured(kind: str) -> list[Row]:
    """Context, runs of jaxprim's op, runs of JAX's custom rule for that mode."""
    ours, custom_jvp, custom_vjp = OPS[kind]
    rows = [(c, counts(ours, c), theirs(custom_vjp if c in REVERSE else custom_jvp, c)) for c in CONTEXTS]
    other = [c for c in REVERSE if "checkpoint" in c]
    return rows + [(f"{c}, JAX_REMAT3=1", counts(ours, c, True), theirs(custom_vjp, c, True)) for c in other]


# ------------------------------------------------------------------------------------------------------------- the page
MINOR = ".".join(jax.__version__.split(".")[:2])
NEWEST = "0.12"


def table_of(page: str, kind: str) -> dict[str, Row]:
    """A table of the page. A row that ends in ", JAX 0.10" stands for that version alone."""
    lines = page.split(f"<!-- {kind} -->")[1].split("<!-- end -->", maxsplit=1)[0].strip().splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {context: (context, ours, custom) for context, ours, custom in cells}


def expected(page: str, kind: str, context: str) -> Row:
    table = table_of(page, kind)
    return (context, *table.get(f"{context}, JAX {MINOR}", table[context])[1:])


@pytest.mark.parametrize("kind", OPS)
def test_the_page_has_the_numbers(kind: str) -> None:
    page = PAGE.read_text()
    rows = measured(kind)
    assert rows == [expected(page, kind, context) for context, _, _ in rows]


@pytest.mark.parametrize("kind", OPS)
def test_no_more_than_custom_vjp(kind: str) -> None:
    """Reverse mode without ``checkpoint``, and with JAX's other implementation of it."""
    ours, _, custom_vjp = OPS[kind]
    for context in REVERSE:
        remat3 = "checkpoint" in context
        got, limit = counts(ours, context, remat3), counts(custom_vjp, context, remat3)
        assert all(int(g) <= int(most) for g, most in zip(got.split(), limit.split(), strict=True)), context


def test_jacobians_compute_the_primal_part_once() -> None:
    assert counts(separate_jaxprim, "jit(jacfwd), 3 inputs") == "0 1 0 0"
    assert counts(separate_jaxprim, "jit(jacrev), 3 outputs") == "1 0 1 3"


def test_an_eager_jacobian_does_too() -> None:
    counted = Counted(SEPARATE)
    op = separate_jaxprim(counted)
    jax.jacfwd(op)(jnp.ones(3))
    assert counted.runs == {"value": 1, "jvp": 1}
    counted.runs.clear()
    jax.jacrev(op)(jnp.ones(3))
    assert counted.runs == {"value": 1, "vjp forward": 1, "vjp backward": 3}


def write() -> None:
    """Put this version's numbers into the page: all of them for the newest JAX, for others the ones that differ."""
    page = PAGE.read_text()
    for kind in OPS:
        old = table_of(page, kind)
        if MINOR == NEWEST:
            rows = measured(kind) + [row for context, row in old.items() if ", JAX 0" in context]
        else:
            kept = [row for context, row in old.items() if not context.endswith(f", JAX {MINOR}")]
            rows = kept + [(f"{c}, JAX {MINOR}", *rest) for c, *rest in measured(kind) if tuple(rest) != old[c][1:]]
        header = "| context | jaxprim | JAX's custom rule |\n|---|---|---|\n"
        body = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        before, rest = page.split(f"<!-- {kind} -->")
        after = rest.split("<!-- end -->", 1)[1]
        page = f"{before}<!-- {kind} -->\n\n{header}{body}\n\n<!-- end -->{after}"
    PAGE.write_text(page)


if __name__ == "__main__":
    write()
