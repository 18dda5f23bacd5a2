"""The author's VJP rule as programs.

The rule is traced once for each operand types. Its forward half becomes a program (operands) -> (results, residuals); the
residuals are the values that the traced pullback reads, no more, and an operand or a result among them is not kept
twice. Its backward half becomes a `LinearMap` (residuals, cotangents) -> cotangents, whose transpose is

- the transpose of its program, where every equation in it has one;
- else (an opaque backward) the JVP rule, for which the operands are then kept as residuals too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import jax

from jaxprim import _jax, _trees
from jaxprim._calls import Call
from jaxprim._errors import RuleMissing, text
from jaxprim._levels import Level, Levels, axes_of, batch_program
from jaxprim._linear import LinearMap, same_residuals
from jaxprim._masks import Mask, expand, select
from jaxprim._results import Results, fit, read_linear, read_outputs, tangents_for_rule, wanted_cotangents
from jaxprim._rules import Rule
from jaxprim.derive import implementation
from jaxprim.derive.forward import forward

Place = tuple[Literal["operand", "result", "new"], int]


@dataclass(frozen=True)
class Reverse:
    """A traced VJP rule.

    Attributes:
        call: the call whose rule it is, without batch levels.
        forward: the program (operands) -> (results, new residuals).
        places: where each residual is found: an operand, a result, or a new output of `forward`.
        pullback: (residuals, cotangents of the results that have any) -> cotangents of the perturbed operands.
        pushforward: its transpose, (residuals, tangents) -> tangents.
        results: the result types of one element.
    """

    call: Call
    forward: Any
    places: tuple[Place, ...]
    pullback: LinearMap
    pushforward: LinearMap
    results: Results

    @cached_property
    def reads_results(self) -> bool:
        """Whether the residuals are made from the primitive's own results."""
        if any(kind == "result" for kind, _ in self.places):
            return True
        count = len(self.results.avals)
        new = [index >= count for index in range(len(_jax.out_avals(self.forward)))]
        residuals = _jax.select_outputs(self.forward, new)
        operands = len(_jax.in_avals(self.forward))
        primitive, params = self.call.rules.primitive, {"call": self.call}
        return _jax.replace_application(residuals, primitive, params, operands) is not None


def reverse_rule(call: Call) -> Rule:
    """The VJP rule: given, or that of the impl where the author chose so."""
    return call.rules.given.get("vjp") or impl_rule(call)


def impl_rule(call: Call) -> Rule:
    """The VJP rule of the impl as JAX differentiates it."""
    impl = call.rules.given["impl"]

    def fn(primals: Any, perturbed: Any, params: Any) -> Any:
        return jax.vjp(lambda *xs: impl.author(*xs, **params), *primals)

    return Rule("vjp", impl.author, fn)


def reverse(call: Call, avals: Sequence[Any], perturbed: Mask) -> Reverse:
    """The traced VJP rule of one element of a call."""
    key = ("reverse", call.base, tuple(avals), perturbed)
    with axes_of(call.levels):
        return call.rules.cache.get(key, lambda: _trace(call.base, avals, perturbed))


# -------------------------------------------------------------------------------------------------- running the rule
@dataclass(frozen=True)
class Pullback:
    """The author's pullback, on flat cotangents."""

    call: Call
    rule: Rule
    results: Results
    avals: Sequence[Any]
    perturbed: Mask
    fn: Callable[..., Any]

    def __call__(self, cotangents: Sequence[Any]) -> list[Any]:
        """Cotangents of all operand leaves (None for a zero) from those of all result leaves (JAX zeros allowed)."""
        value = self.fn(_trees.unflatten(self.results.tree, tangents_for_rule(cotangents)))
        tree, value = _trees.bare(self.call.tree, value)
        wanted = wanted_cotangents(tree, self.call.names, self.avals)
        found = read_linear(self.call.rules.name, "VJP rule", self.rule.author, value, wanted)
        return [
            None if ct is None or not perturbed else fit(ct, aval)
            for ct, perturbed, aval in zip(found, self.perturbed, wanted.avals, strict=True)
        ]


def run_rule(call: Call, leaves: Sequence[Any], perturbed: Mask) -> tuple[list[Any], Pullback]:
    """Run the forward half of the rule on values or tracers."""
    rule = reverse_rule(call)
    avals = [_jax.typeof(leaf) for leaf in leaves]
    results = implementation.results(call, avals)
    flags = _trees.unflatten(call.tree, perturbed)
    out, pullback = rule.fn(call.operands(leaves), flags, call.params)
    outs = read_outputs(call.rules.name, "VJP rule", rule.author, out, results)
    outs = [fit(out, aval) for out, aval in zip(outs, results.avals, strict=True)]
    return outs, Pullback(call, rule, results, avals, perturbed, pullback)


# ------------------------------------------------------------------------------------------------------- tracing it
@dataclass(frozen=True)
class _TracedPullback:
    jaxpr: Any
    fixed: Sequence[Any]  # the constants; None in the place of a residual
    is_residual: Sequence[bool]

    def __call__(self, count: int, *args: Any) -> list[Any]:
        """Run it on ``count`` residuals and the cotangents."""
        residuals = iter(args[:count])
        consts = [next(residuals) if r else value for r, value in zip(self.is_residual, self.fixed, strict=True)]
        return _jax.evaluate_open(self.jaxpr, consts, *args[count:])


def trace_pullback(pullback: Pullback) -> tuple[_TracedPullback, list[Any]]:
    """Trace a pullback on all cotangents; also returns the traced values that it closes over: its residuals."""
    results = pullback.results
    mask = [_jax.has_tangent(aval) for aval in results.avals]
    zeros = [_jax.JaxZero(_jax.cotangent_aval(aval)) for aval in results.avals]

    def pull(*cts: Any) -> list[Any]:
        return _wanted(pullback, pullback(expand(cts, mask, zeros.__getitem__)))

    avals = cotangent_avals(results)
    jaxpr, consts = _jax.prune(*_jax.trace_open(pull, avals, f"{pullback.call.rules.name}_pullback"))
    is_residual = [isinstance(const, _jax.Tracer) for const in consts]
    fixed = [None if r else const for const, r in zip(consts, is_residual, strict=True)]
    residuals = select(consts, is_residual)
    return _TracedPullback(jaxpr, fixed, is_residual), residuals


def cotangent_avals(results: Results) -> list[Any]:
    return [_jax.cotangent_aval(aval) for aval in results.avals if _jax.has_tangent(aval)]


def _trace(call: Call, avals: Sequence[Any], perturbed: Mask) -> Reverse:
    found: list[_TracedPullback] = []

    def run(*leaves: Any) -> list[Any]:
        outs, pullback = run_rule(call, leaves, perturbed)
        traced, residuals = trace_pullback(pullback)
        found.append(traced)
        return [*outs, *residuals]

    results = implementation.results(call, avals)
    whole = _jax.trace(run, avals, f"{call.rules.name}_forward")
    implementation.refuse_tracers(call, reverse_rule(call), whole)
    program, places = _places(whole, len(results.avals))
    residuals = _residual_avals(program, places, avals, results)
    count = len(residuals)
    pull = _jax.trace(
        lambda *args: found[0](count, *args), [*residuals, *cotangent_avals(results)], f"{call.rules.name}_pullback"
    )
    return _close(call, avals, perturbed, program, places, pull, results, residuals)


def _places(forward_program: Any, count: int) -> tuple[Any, tuple[Place, ...]]:
    operands, same = _jax.forwarded(forward_program)
    places: list[Place] = []
    new: dict[int, int] = {}
    for index in range(count, len(operands)):
        operand, first = operands[index], same[index]
        if operand is not None:
            places.append(("operand", operand))
        elif first < count:
            places.append(("result", first))
        else:
            places.append(("new", new.setdefault(first, len(new))))
    keep = [index < count or index in new for index in range(len(operands))]
    return _jax.select_outputs(forward_program, keep), tuple(places)


def _residual_avals(program: Any, places: Sequence[Place], avals: Sequence[Any], results: Results) -> list[Any]:
    sources = {"operand": avals, "result": results.avals, "new": _jax.out_avals(program)[len(results.avals) :]}
    return [sources[kind][index] for kind, index in places]


def _close(
    call: Call,
    avals: Sequence[Any],
    perturbed: Mask,
    program: Any,
    places: tuple[Place, ...],
    pull: Any,
    results: Results,
    residuals: Sequence[Any],
) -> Reverse:
    """Close the loop: the pullback, and the pushforward that is its transpose. ``residuals`` are types."""
    rules = call.rules
    count = len(places)
    transposed = _try_transpose(pull, count) if rules.has("jvp") else None
    opaque = rules.has("jvp") and transposed is None
    if opaque:
        places = (*places, *(("operand", i) for i in range(len(avals))))
        residuals = [*residuals, *avals]

    def build_pull() -> Any:
        if not opaque:
            return pull
        inputs = [*residuals, *cotangent_avals(results)]
        return _jax.trace(lambda *args: _jax.evaluate(pull, *args[:count], *args[len(places) :]), inputs, "pullback")

    def build_push() -> Any:
        if opaque:
            return _push_by_jvp_rule(call, avals, perturbed, results, residuals)
        return transposed if transposed is not None else _must_transpose(call, pull, count)

    tangents = [_jax.strip(_jax.tangent_aval(a)) for a, p in zip(avals, perturbed, strict=True) if p]
    dots = [_jax.strip(_jax.tangent_aval(a)) for a in results.avals if _jax.has_tangent(a)]
    cts = [_jax.cotangent_aval(a) for a, p in zip(avals, perturbed, strict=True) if p]
    pullback = LinearMap(
        rules,
        "pullback",
        len(places),
        cotangent_avals(results),
        cts,
        build_pull,
        lambda _: (same_residuals, pushforward),
        is_linear=rules.surrogate is None,
        named_axes=_jax.named_axes(pull),
    )
    pushforward = LinearMap(
        rules,
        "pushforward",
        len(places),
        tangents,
        dots,
        build_push,
        lambda _: (same_residuals, pullback),
        named_axes=_jax.named_axes(pull),
    )
    return Reverse(call, program, places, pullback, pushforward, results)


# ------------------------------------------------------------------------------------- the transpose of the pullback
def _try_transpose(pull: Any, residuals: int) -> Any | None:
    try:
        return transpose_program(pull, residuals)
    except Exception:  # noqa: BLE001 JAX says "no transpose" with many types of exception
        return None


def _must_transpose(call: Call, pull: Any, residuals: int) -> Any:
    try:
        return transpose_program(pull, residuals)
    except Exception as error:
        raise no_transpose(call, error) from error


def no_transpose(call: Call, error: Exception) -> RuleMissing:
    rules = call.rules
    return RuleMissing(
        text(
            f"{rules.name}: its JVP rule is missing, and cannot be derived from the VJP rule.",
            got=rules.listed,
            expected="a JVP rule",
            why=f"forward mode needs the transpose of the pullback, which has none ({_first_line(error)})",
            rule=rules.given["vjp"].author if rules.has("vjp") else None,
            write=f"@{rules.name}.def_jvp",
        )
    )


def refuse_opaque_tangent(call: Call, avals: Sequence[Any], perturbed: Mask) -> None:
    """Refuse a reverse mode that would have to transpose a JVP rule which has no transpose."""
    found = forward(call, avals, perturbed)
    count = len(avals) + (len(implementation.results(call, avals).avals) if found.uses_results else 0)
    if not _jax.may_lack_transpose(found.program, count):
        return
    try:
        with axes_of(call.levels):
            transpose_program(found.program, count)
    except Exception as error:
        raise RuleMissing(
            text(
                f"{call.rules.name}: its VJP rule is missing, and cannot be derived from the JVP rule.",
                got=call.rules.listed,
                expected="a VJP rule",
                why=f"reverse mode needs the transpose of the tangent, which has none ({_first_line(error)})",
                rule=call.rules.given["jvp"].author,
                write=f"@{call.rules.name}.def_vjp",
            )
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def transpose_program(pull: Any, residuals: int) -> Any:
    """The transpose of a program in its inputs after the residuals."""
    avals = _jax.in_avals(pull)
    linear = [False] * residuals + [True] * (len(avals) - residuals)

    def run(*args: Any) -> list[Any]:
        out = _jax.transpose(pull, linear, args[:residuals], args[residuals:])
        return [_jax.zeros(x.aval) if isinstance(x, _jax.JaxZero) else x for x in out]

    inputs = [*avals[:residuals], *map(_jax.cotangent_aval, _jax.out_avals(pull))]
    return _jax.trace(run, inputs, "transposed")


def _push_by_jvp_rule(
    call: Call, avals: Sequence[Any], perturbed: Mask, results: Results, residuals: Sequence[Any]
) -> Any:
    """The pushforward of an opaque pullback: the JVP rule at the operands, which are the last residuals."""
    found = forward(call, avals, perturbed)
    has_tangent = [_jax.has_tangent(aval) for aval in results.avals]
    tangents = [_jax.strip(_jax.tangent_aval(a)) for a, p in zip(avals, perturbed, strict=True) if p]

    def run(*args: Any) -> list[Any]:
        operands = args[len(residuals) - len(avals) : len(residuals)]
        own = call.rules.primitive.bind(*operands, call=call) if found.uses_results else ()
        dots = _jax.evaluate(found.program, *operands, *own, *args[len(residuals) :])
        whole = expand(dots, found.nonzero, lambda i: _jax.zeros(_jax.tangent_aval(results.avals[i])))
        return select(whole, has_tangent)

    return _jax.trace(run, [*residuals, *tangents], f"{call.rules.name}_jvp")


# ---------------------------------------------------------------------------------------- a pullback that was kept
@dataclass(frozen=True)
class Explicit:
    """A Python pullback made explicit: the values that it closes over are its residuals.

    Attributes:
        values: those values (concrete arrays).
        pullback: (values, cotangents) -> cotangents.
        pushforward: its transpose.
    """

    values: tuple[Any, ...]
    pullback: LinearMap
    pushforward: LinearMap

    def residuals(self, levels: Levels) -> tuple[list[Any], Levels]:
        """The residuals, the same for every element of a batch."""
        shared = tuple(None for _ in self.values)
        return list(self.values), tuple(Level(level.axis, shared, ()) for level in levels)

    def program(self) -> Any:
        """The pushforward's program at these residuals."""
        run = self.pushforward.program
        return _jax.trace(
            lambda *tangents: _jax.evaluate(run, *self.values, *tangents), self.pushforward.in_avals, "push"
        )


def make_explicit(pullback: Pullback, operands: Sequence[Any]) -> Explicit:
    """Trace a pullback that closes over concrete values. ``operands`` (if any) serve an opaque one."""
    results = pullback.results
    mask = [_jax.has_tangent(aval) for aval in results.avals]
    zeros = [_jax.JaxZero(_jax.cotangent_aval(aval)) for aval in results.avals]

    def pull(*cts: Any) -> list[Any]:
        return _wanted(pullback, pullback(expand(cts, mask, zeros.__getitem__)))

    jaxpr, consts = _jax.prune(*_jax.trace_open(pull, cotangent_avals(results), "pullback"))
    avals = [_jax.typeof(const) for const in consts]
    program = _jax.trace(
        lambda *args: _jax.evaluate_open(jaxpr, args[: len(consts)], *args[len(consts) :]),
        [*avals, *cotangent_avals(results)],
        "pullback",
    )
    places: tuple[Place, ...] = tuple(("new", i) for i in range(len(consts)))
    found = _close(pullback.call, pullback.avals, pullback.perturbed, None, places, program, results, avals)
    extra = operands if len(found.places) > len(consts) else ()
    return Explicit((*consts, *extra), found.pullback, found.pushforward)


def _wanted(pullback: Pullback, cotangents: Sequence[Any]) -> list[Any]:
    """The cotangents of the perturbed operands, zeros made."""
    return [
        _jax.zeros(_jax.cotangent_aval(aval)) if ct is None else ct
        for ct, aval, wanted in zip(cotangents, pullback.avals, pullback.perturbed, strict=True)
        if wanted
    ]


# ----------------------------------------------------------------------------------------- residuals under batch levels
def run_forward(found: Reverse, call: Call, leaves: Sequence[Any]) -> tuple[list[Any], list[Any], Levels]:
    """Results and residuals of a call under its levels, and the residuals' batch dimensions."""
    count = len(found.results.avals)
    program, levels = _under_levels(found.forward, call.levels, [level.out_dims for level in call.levels], count)
    outs = _jax.evaluate(program, *leaves)
    sources = {"operand": list(leaves), "result": outs[:count], "new": outs[count:]}
    return outs[:count], [sources[kind][i] for kind, i in found.places], _residual_levels(found, levels, count)


def residuals_alone(
    found: Reverse, call: Call, leaves: Sequence[Any], results: Sequence[Any] | None, levels: Levels
) -> tuple[list[Any], Levels]:
    """The residuals at some operands, without the results unless they are residuals; known results are used."""
    count = len(found.results.avals)
    needs_results = any(kind == "result" for kind, _ in found.places)
    program = found.forward
    inputs = list(leaves)
    if results is not None:
        shared = _jax.replace_application(program, call.rules.primitive, {"call": call.base}, len(leaves))
        inputs = [*leaves, *results]
        program = shared if shared is not None else _jax.with_extra_inputs(program, len(leaves), found.results.avals)
    program, levels = _under_levels(program, levels, [()] * len(levels), 0)
    outs_levels = levels
    outs = _jax.evaluate_needed(program, [needs_results] * count, inputs)
    sources = {"operand": inputs[: len(leaves)], "result": outs[:count], "new": outs[count:]}
    return [sources[kind][i] for kind, i in found.places], _residual_levels(found, outs_levels, count)


def _under_levels(
    program: Any, levels: Levels, wanted: Sequence[Sequence[int | None]], count: int
) -> tuple[Any, Levels]:
    """A program under levels: the first ``count`` outputs where they are wanted, the others where they fall."""
    placed: list[Level] = []
    for level, out_dims in zip(levels, wanted, strict=True):
        _, natural = _jax.batch(program, level.axis, level.in_dims)
        fitted = Level(level.axis, level.in_dims, (*out_dims[:count], *natural[count:]))
        program = batch_program(program, fitted)
        placed.append(fitted)
    return program, tuple(placed)


def _residual_levels(found: Reverse, levels: Levels, count: int) -> Levels:
    def dims(level: Level) -> tuple[int | None, ...]:
        sources = {"operand": level.in_dims, "result": level.out_dims[:count], "new": level.out_dims[count:]}
        return tuple(sources[kind][i] for kind, i in found.places)

    return tuple(Level(level.axis, dims(level), ()) for level in levels)
