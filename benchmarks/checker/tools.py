"""The tools that are compared: each looks at one entry and says whether it found a mistake."""

from __future__ import annotations

import importlib
import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

from benchmarks.checker import elementwise
from benchmarks.checker import makers as f
from benchmarks.checker.corpus import Entry
from jaxprim.checking.reports.report import Report
from jaxprim.checking.run import ask, cases, inputs
from jaxprim.checking.subject import Subject

PASSED, CAUGHT, ERROR, ABSENT = "passed", "caught", "error", "does not apply"


@dataclass(frozen=True)
class Outcome:
    """What one tool said of one entry.

    Attributes:
        verdict: "passed", "caught" (it says that there is a mistake), "error" (it broke in another way), "does not
            apply"; the bench adds "timeout" and "crash".
        questions: Of jaxprim's report: the names of those that were answered with no.
        seconds: The whole call, tracing and compiling included.
        first: Seconds to the first finding, where the tool tells.
        detail: The first line of what went wrong.
    """

    verdict: str
    questions: tuple[str, ...] = ()
    seconds: float = 0.0
    first: float | None = None
    detail: str = ""


Tool = Callable[[Entry, int], Outcome]


def timed(call: Callable[[], Outcome], refusal: type[BaseException] = AssertionError) -> Outcome:
    """Run a tool that raises `refusal` at a mistake."""
    start = time.perf_counter()
    try:
        outcome = call()
    except refusal as error:
        outcome = Outcome(CAUGHT, detail=_line(error))
    except Exception as error:  # noqa: BLE001 a tool that breaks is one of the results
        outcome = Outcome(ERROR, detail=_line(error))
    return Outcome(outcome.verdict, outcome.questions, time.perf_counter() - start, outcome.first, outcome.detail)


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0][:200]


# --------------------------------------------------------------------------------------------------------------- jaxprim
def check(target: Any, *operands: Any, seed: int, on_finding: Callable[[Any], None], **params: Any) -> Report:
    """`jaxprim.check`, which tells each finding as it comes, as the command line does."""
    subject, found = Subject.of(target, None), list[Any]()
    for finding in ask(cases(subject, inputs(subject, operands, params), seed)):
        on_finding(finding)
        found.append(finding)
    return Report(subject.name, seed, tuple(found))


@dataclass
class Checker:
    """The `check` above, or another callable with its signature.

    Attributes:
        target: "module:function".
        listener: The keyword by which it takes a callback for each finding, if it has one: it tells the time to the first.
    """

    target: str = "benchmarks.checker.tools:check"
    listener: str | None = "on_finding"
    check: Callable[..., Any] = field(init=False)

    def __post_init__(self) -> None:
        module, _, name = self.target.partition(":")
        self.check = getattr(importlib.import_module(module), name)
        if self.listener and self.listener not in inspect.signature(self.check).parameters:
            raise ValueError(f"{self.target} has no parameter {self.listener!r}")

    def __call__(self, entry: Entry, seed: int) -> Outcome:
        return timed(lambda: self._ask(entry, seed))

    def _ask(self, entry: Entry, seed: int) -> Outcome:
        start, heard = time.perf_counter(), list[float]()
        told = {self.listener: lambda *_: heard.append(time.perf_counter() - start)} if self.listener else {}
        report = self.check(entry.op.assemble(), *entry.operands(seed), seed=seed, **entry.op.params, **told)
        questions = tuple(sorted({finding.question for finding in report.findings if not finding.ok}))
        return Outcome(PASSED if report.ok else CAUGHT, questions, first=heard[0] if heard else None)


# ------------------------------------------------------------------------------------------------------------------- JAX
def jax_check_grads(entry: Entry, seed: int) -> Outcome:
    """`jax.test_util.check_grads` at its defaults, order 2, in the modes that the operation's form has."""
    operands = entry.operands(seed)
    real = [i for i, x in enumerate(operands) if all(jnp.issubdtype(a.dtype, jnp.inexact) for a in jax.tree.leaves(x))]
    op = entry.op.assemble()

    def fn(*chosen: Any) -> Any:
        given = dict(zip(real, chosen, strict=True))
        return op(*(given.get(i, x) for i, x in enumerate(operands)), **entry.op.params)

    modes = ["rev"] if entry.op.form == "custom_vjp" else ["fwd", "rev"]

    def ask() -> Outcome:
        check_grads(fn, [operands[i] for i in real], order=2, modes=modes)
        return Outcome(PASSED)

    return timed(ask)


# ------------------------------------------------------------------------------------- the same mistake in other libraries
# Faults that are arithmetic on what a rule returns, so that they can be made in any library: kind -> change(size).
PORTABLE: dict[str, Callable[[float], Callable[[Any], Any]]] = {
    "right": lambda size: lambda x: x,
    "sign": lambda size: f.negated,
    "factor 2": lambda size: f.scaled(1.0),
    "factor 1/2": lambda size: f.scaled(-0.5),
    "all zero": lambda size: f.scaled(-1.0),
    "affine 1e-4": lambda size: f.shifted(1e-4),
    "scale 0.1 %": lambda size: f.scaled(1e-3),
    "scale": f.scaled,
    "affine": f.shifted,
}


@dataclass(frozen=True)
class Ported:
    """An elementwise entry without JAX: the function, the derivative, and what each rule does to its result."""

    fn: Callable[..., Any]
    slope: Callable[..., Any]
    jvp: Callable[[Any], Any]
    vjp: Callable[[Any], Any]
    mode: str


def ported(entry: Entry) -> Ported | None:
    if entry.op.elementwise is None or entry.kind not in PORTABLE or entry.op.dtype == "bfloat16":
        return None
    fn, slope, _, _ = elementwise.TABLE[entry.op.elementwise]
    size, mode = (entry.fault.size or 0.0, entry.fault.mode) if entry.fault else (0.0, "right")
    change = PORTABLE[entry.kind](size)
    jvp = change if mode in ("jvp", "both") else PORTABLE["right"](0.0)
    vjp = change if mode in ("vjp", "both") else PORTABLE["right"](0.0)
    return Ported(fn, slope, jvp, vjp, mode)


def _in(entry: Entry, seed: int) -> Any:
    return np.array(entry.operands(seed)[0])


def autograd_check_grads(entry: Entry, seed: int) -> Outcome:
    """`autograd.test_util.check_grads` at its defaults, with both modes: the default is the reverse mode alone."""
    import autograd.numpy as anp
    from autograd.extend import defjvp, defvjp, primitive
    from autograd.test_util import check_grads as check

    op = ported(entry)
    if op is None:
        return Outcome(ABSENT)
    fn = primitive(lambda x: op.fn(np, x))
    defvjp(fn, lambda y, x: lambda y_bar: op.vjp(op.slope(anp, x, y) * y_bar))
    defjvp(fn, lambda x_dot, y, x: op.jvp(op.slope(anp, x, y) * x_dot))

    def ask() -> Outcome:
        check(fn, modes=["fwd", "rev"], order=2)(_in(entry, seed))
        return Outcome(PASSED)

    return timed(ask)


def torch_gradcheck(entry: Entry, seed: int) -> Outcome:
    """`torch.autograd.gradcheck` at its defaults; for a fault in forward mode with ``check_forward_ad``."""
    import torch
    from torch.autograd.gradcheck import GradcheckError

    op = ported(entry)
    if op is None:
        return Outcome(ABSENT)

    class Made(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            y = op.fn(torch, x)
            ctx.save_for_backward(x, y)
            ctx.save_for_forward(x, y)
            return y

        @staticmethod
        def backward(ctx: Any, y_bar: Any) -> Any:
            return op.vjp(op.slope(torch, *ctx.saved_tensors) * y_bar)

        @staticmethod
        def jvp(ctx: Any, x_dot: Any) -> Any:
            return op.jvp(op.slope(torch, *ctx.saved_tensors) * x_dot)

    def ask() -> Outcome:
        x = torch.tensor(_in(entry, seed), requires_grad=True)
        torch.autograd.gradcheck(Made.apply, (x,), check_forward_ad=op.mode == "jvp")
        return Outcome(PASSED)

    return timed(ask, GradcheckError)


def available(names: list[str], checker: str, listener: str | None) -> tuple[dict[str, Tool], list[str]]:
    """The tools by name, and those that are not installed."""
    made: dict[str, Tool] = {
        "jax check_grads": jax_check_grads,
        "autograd check_grads": autograd_check_grads,
        "torch gradcheck": torch_gradcheck,
    }
    missing = [name for name in names if name.split()[0] in ("autograd", "torch") and not _installed(name.split()[0])]
    kept = {name: made[name] for name in names if name in made and name not in missing}
    return ({"jaxprim": Checker(checker, listener)} | kept if "jaxprim" in names else kept), missing


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
