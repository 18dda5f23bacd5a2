"""`RuleSet`: the record of a primitive's rules and where each came from.

Authors may write a rule in several forms; each is brought to one canonical form here, so that what follows knows one:

- JVP: ``fn(primals, tangents, perturbed, params) -> (primals_out, tangents_out)``
- VJP: ``fn(primals, perturbed, params) -> (primals_out, pullback)`` with ``pullback(cotangents) -> cotangents``
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxprim import _jax
from jaxprim._errors import RuleMissing, RuleWrong, source_of, text
from jaxprim._signature import Signature
from jaxprim._trees import TreeMismatch, flatten_like
from jaxprim._zeros import Zero, is_zero

AuthorFn = Callable[..., Any]


@dataclass(frozen=True)
class Rule:
    """One rule that an author gave.

    Attributes:
        name: ``"jvp"``, ``"vjp"``, ``"impl"``, ...
        author: the function (or the first of several) as it was given.
        fn: the rule in canonical form.
        operands: for a rule per operand: the operands that have one.
        surrogate: the reason for a deliberate departure from the derivative.
    """

    name: str
    author: AuthorFn
    fn: Callable[..., Any]
    operands: tuple[str, ...] | None = None
    surrogate: str | None = None

    @property
    def origin(self) -> str:
        return source_of(self.author)


class Records:
    """Which rule was used, how often: what `jaxprim.trace` shows."""

    def __init__(self) -> None:
        self.active: list[Callable[[str, str, str], None]] = []

    def add(self, primitive: str, rule: str, origin: str) -> None:
        for listener in self.active:
            listener(primitive, rule, origin)


RECORDS = Records()


class Cache:
    """A bounded cache of one primitive's traced rules; the oldest entry goes first."""

    def __init__(self, size: int = 1024) -> None:
        self._entries: dict[Any, Any] = {}
        self._size = size
        self._lock = threading.Lock()

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """The entry of a key, made where there is none. JAX's trace context is part of every key."""
        key = (key, _jax.trace_context())
        entry = self._entries.get(key)
        if entry is None:
            entry = make()
            with self._lock:
                if len(self._entries) >= self._size:
                    self._entries.pop(next(iter(self._entries)))
                entry = self._entries.setdefault(key, entry)
        return entry

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()


class RuleSet:
    """All that is known of one primitive: its rules, its signature, and what was traced of them.

    Attributes:
        name: the primitive's name.
        given: the rules that the author gave, by name (``"impl"``, ``"kernel[cuda]"``, ``"jvp"``, ...).
        choices: derivations that the author chose instead of the table's (``{"jvp": "impl"}``).
        linear: names of the operands in which the primitive was declared linear.
        batching_word: how a batch is evaluated, where a word says so.
        used: whether the primitive was applied since its rules last changed.
        primitive, pushforward, pullback: the three JAX primitives.
        apply: applies the primitive to operands (a pytree call); set when it is installed.
    """

    primitive: Any
    pushforward: Any
    pullback: Any
    apply: Callable[..., Any]

    def __init__(self, name: str) -> None:
        self.name = name
        self.given: dict[str, Rule] = {}
        self.choices: dict[str, str] = {}
        self.linear: tuple[str, ...] = ()
        self.batching_word: str | None = None
        self.used = False
        self.cache = Cache()
        self.calls: dict[Any, Any] = {}
        self.compiled: dict[Any, Any] = {}
        self._signature: Signature | None = None

    # ------------------------------------------------------------------------------------------------------- writing
    def give(self, rule: Rule) -> None:
        """Add or replace a rule; everything that was traced or compiled with the old one is traced again."""
        self.given[rule.name] = rule
        self.changed()

    def changed(self) -> None:
        self._signature = None
        self.cache.clear()
        self.calls.clear()
        self.compiled.clear()
        if self.used:
            _jax.bump_redefinitions()
            self.used = False

    # ------------------------------------------------------------------------------------------------------- reading
    def has(self, name: str) -> bool:
        return name in self.given

    def kernels(self) -> dict[str, Rule]:
        """The implementations for one platform each."""
        return {name[7:-1]: rule for name, rule in self.given.items() if name.startswith("kernel[")}

    def lowerings(self) -> dict[str | None, Rule]:
        """The raw lowering rules, by platform (None for every platform)."""
        return {name[9:-1] or None: rule for name, rule in self.given.items() if name.startswith("lowering[")}

    @property
    def signature(self) -> Signature:
        """Read off the first of impl, host, kernel, abstract eval that is given."""
        if self._signature is None:
            self._signature = Signature.of(self._signature_source())
        return self._signature

    def _signature_source(self) -> AuthorFn:
        kernels = [rule for name, rule in self.given.items() if name.startswith("kernel[")]
        for rule in (self.given.get("impl"), self.given.get("host"), *kernels, self.given.get("abstract_eval")):
            if rule is not None:
                return rule.author
        raise RuleMissing(
            text(
                f"{self.name}: it has no implementation yet.",
                expected="one of def_impl, def_host, def_kernel, or def_abstract_eval with def_lowering",
                write=f"@{self.name}.def_impl",
            )
        )

    @property
    def surrogate(self) -> str | None:
        return self.given["vjp"].surrogate if "vjp" in self.given else None

    def record(self, rule: str, origin: str | None = None) -> None:
        """Note that a rule is used."""
        if RECORDS.active:
            given = self.given.get(rule)
            RECORDS.add(self.name, rule, origin or (given.origin if given else "derived"))

    def record_linear(self, linear_map: Any) -> None:
        self.record("jvp" if linear_map.role == "pushforward" else "vjp")


# --------------------------------------------------------------------------------------------------- canonical forms
def takes_perturbed(fn: AuthorFn) -> bool:
    """Whether a rule names the extra argument ``perturbed``."""
    try:
        parameter = inspect.signature(fn).parameters.get("perturbed")
    except (TypeError, ValueError):
        return False
    return parameter is not None


def _extra(fn: AuthorFn, perturbed: Any) -> dict[str, Any]:
    return {"perturbed": perturbed} if takes_perturbed(fn) else {}


def jvp_rule(author: AuthorFn) -> Rule:
    """``rule(primals, tangents, **params) -> (primals_out, tangents_out)``."""

    def fn(primals: Any, tangents: Any, perturbed: Any, params: Mapping[str, Any]) -> Any:
        return author(primals, tangents, **_extra(author, perturbed), **params)

    return Rule("jvp", author, fn)


def vjp_rule(rules: RuleSet, author: AuthorFn, surrogate: str | None) -> Rule:
    """``rule(primals, **params) -> (primals_out, pullback)`` or ``(primals_out, residuals, pullback)``."""

    def fn(primals: Any, perturbed: Any, params: Mapping[str, Any]) -> Any:
        result = author(primals, **_extra(author, perturbed), **params)
        return read_vjp_result(rules.name, author, primals, result)

    return Rule("vjp", author, fn, surrogate=surrogate)


def vjp_pair_rule(rules: RuleSet, fwd: AuthorFn, bwd: AuthorFn, surrogate: str | None) -> Rule:
    """The two functions of ``jax.custom_vjp``."""

    def fn(primals: Any, perturbed: Any, params: Mapping[str, Any]) -> Any:
        result = fwd(*primals, **_extra(fwd, perturbed), **params)
        if not isinstance(result, tuple) or len(result) != 2:
            raise RuleWrong(
                text(
                    f"{rules.name}: the forward function of the VJP rule must return (output, residuals).",
                    got=_shape_of(result),
                    expected="a tuple of 2",
                    rule=fwd,
                    write="return output, residuals",
                )
            )
        out, residuals = result
        return out, lambda cts: bwd(residuals, cts)

    return Rule("vjp", fwd, fn, surrogate=surrogate)


def read_vjp_result(name: str, author: AuthorFn, primals: Any, result: Any) -> tuple[Any, Callable[[Any], Any]]:
    """The output and the pullback in what a VJP rule returned."""
    if isinstance(result, tuple) and len(result) == 2 and callable(result[1]):
        out, pullback = result
        if _required(name, author, pullback) == 2:
            return out, lambda cts: pullback(primals, cts)
        return out, pullback
    if isinstance(result, tuple) and len(result) == 3 and callable(result[2]):
        out, residuals, pullback = result
        _require_two(name, author, pullback)
        return out, lambda cts: pullback(residuals, cts)
    flattened = isinstance(result, tuple) and len(result) > 3 and callable(result[-1])
    raise RuleWrong(
        text(
            f"{name}: the VJP rule must return (output, pullback) or (output, residuals, pullback).",
            got=_shape_of(result),
            expected="a tuple of 2 or 3 whose last entry is a function",
            rule=author,
            write="return (y1, y2), pullback" if flattened else "return output, pullback",
        )
    )


def _shape_of(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}: ({', '.join(type(v).__name__ for v in value)})"
    return f"a {type(value).__name__}"


def _required(name: str, author: AuthorFn, pullback: AuthorFn) -> int:
    """How many positional arguments a pullback requires: 1 (cotangents) or 2 (residuals, cotangents)."""
    if type(pullback).__module__.startswith("jax."):  # what jax.vjp returns takes the cotangents
        return 1
    try:
        parameters = list(inspect.signature(pullback).parameters.values())
    except (TypeError, ValueError):
        return 1
    kinds = inspect.Parameter
    required = [
        p
        for p in parameters
        if p.default is kinds.empty and p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
    ]
    variadic = [p for p in parameters if p.kind is kinds.VAR_POSITIONAL]
    if variadic or len(required) not in (1, 2):
        raise RuleWrong(
            text(
                f"{name}: the pullback of the VJP rule must take (cotangents) or (residuals, cotangents).",
                got=f"{getattr(pullback, '__name__', 'pullback')}{inspect.signature(pullback)}",
                expected="one or two required positional arguments, no *args",
                rule=author,
                write="def pullback(y_bar):  # or: def pullback(residuals, y_bar):",
            )
        )
    return len(required)


def _require_two(name: str, author: AuthorFn, pullback: AuthorFn) -> None:
    if _required(name, author, pullback) != 2:
        raise RuleWrong(
            text(
                f"{name}: the VJP rule returns residuals, but its pullback does not take them.",
                got=f"{getattr(pullback, '__name__', 'pullback')}{inspect.signature(pullback)}",
                expected="two required positional arguments",
                why="(output, residuals, pullback) calls pullback(residuals, cotangents); if the primitive has several"
                " results, the output is one tuple: return (y1, y2), pullback",
                rule=author,
                write="def pullback(residuals, y_bar):",
            )
        )


# ------------------------------------------------------------------------------------------------- rules per operand
def _not_differentiable(rules: RuleSet, kind: str, operand: str, given: Mapping[str, Any]) -> RuleMissing:
    return RuleMissing(
        text(
            f"{rules.name}: it is not differentiable with respect to operand '{operand}'.",
            why=f"def_{kind} gives rules per operand, for {', '.join(given) or 'none'}, and none for '{operand}'",
            write=f"{rules.name}.def_{kind}(..., {operand}=rule)  # or {operand}=None for a derivative that is zero",
        )
    )


def _first(per_operand: Mapping[str, AuthorFn | None]) -> AuthorFn:
    return next((rule for rule in per_operand.values() if rule is not None), lambda: None)


def jvp_per_operand(rules: RuleSet, per_operand: Mapping[str, AuthorFn | None]) -> Rule:
    """``f(x_dot, y, *primals, **params) -> y_dot`` for each operand."""

    def fn(primals: Any, tangents: Any, perturbed: Any, params: Mapping[str, Any]) -> Any:
        y = rules.apply(primals, params)
        total: Any = jax.tree.map(Zero.zero_if_zero, y)
        for name, t in zip(rules.signature.names(len(primals)), tangents, strict=True):
            if all(is_zero(leaf) for leaf in jax.tree.leaves(t, is_leaf=is_zero)):
                continue
            if name not in per_operand:
                raise _not_differentiable(rules, "jvp", name, per_operand)
            rule = per_operand[name]
            if rule is not None:
                total = _add_trees(total, rule(t, y, *primals, **params))
        return y, total

    return Rule("jvp", _first(per_operand), fn, operands=tuple(per_operand))


def _add_trees(total: Any, part: Any) -> Any:
    leaves, treedef = jax.tree.flatten(total, is_leaf=is_zero)
    try:
        parts = flatten_like(treedef, part)
    except TreeMismatch:
        return part  # the check of the rule's result names the mismatch
    return treedef.unflatten([a if b is None else a + b for a, b in zip(leaves, parts, strict=True)])


def vjp_per_operand(rules: RuleSet, per_operand: Mapping[str, AuthorFn | None]) -> Rule:
    """``f(y_bar, y, *primals, **params) -> x_bar`` for each operand."""

    def fn(primals: Any, perturbed: Any, params: Mapping[str, Any]) -> Any:
        y = rules.apply(primals, params)
        names = rules.signature.names(len(primals))
        wanted = [any(jax.tree.leaves(p)) for p in perturbed]
        for name, want in zip(names, wanted, strict=True):
            if want and name not in per_operand:
                raise _not_differentiable(rules, "vjp", name, per_operand)

        def pullback(y_bar: Any) -> tuple[Any, ...]:
            chosen = [per_operand.get(name) if want else None for name, want in zip(names, wanted, strict=True)]
            return tuple(None if rule is None else rule(y_bar, y, *primals, **params) for rule in chosen)

        return y, pullback

    return Rule("vjp", _first(per_operand), fn, operands=tuple(per_operand))


# ----------------------------------------------------------------------------------------------- elementwise partials
def partials_rules(rules: RuleSet, author: AuthorFn) -> tuple[Rule, Rule]:
    """``fn(y, *primals, **params) -> (dy/dx1, ...)`` of an elementwise operation: the JVP and the VJP."""

    def partials(y: Any, primals: Any, params: Mapping[str, Any]) -> Sequence[Any]:
        result = author(y, *primals, **params)
        result = result if isinstance(result, tuple | list) else (result,)
        if len(result) != len(primals):
            raise RuleWrong(
                text(
                    f"{rules.name}: def_partials must return one partial derivative per operand.",
                    got=f"{len(result)} partial derivatives",
                    expected=f"{len(primals)}, for {', '.join(rules.signature.names(len(primals)))}"
                    " (None where it is zero)",
                    rule=author,
                    write=f"return {', '.join(f'dy_d{n}' for n in rules.signature.names(len(primals)))}",
                )
            )
        return result

    def jvp(primals: Any, tangents: Any, perturbed: Any, params: Mapping[str, Any]) -> Any:
        y = rules.apply(primals, params)
        y_dot: Any = Zero.zero_if_zero(y)
        for partial, t in zip(partials(y, primals, params), tangents, strict=True):
            if partial is not None and not is_zero(t):
                y_dot = y_dot + (partial * t).astype(y.dtype)
        return y, y_dot

    def vjp(primals: Any, perturbed: Any, params: Mapping[str, Any]) -> Any:
        y = rules.apply(primals, params)
        slopes = partials(y, primals, params)

        def pullback(y_bar: Any) -> tuple[Any, ...]:
            return tuple(
                None if partial is None or not p else reduce_to(partial * y_bar, x)
                for partial, x, p in zip(slopes, primals, perturbed, strict=True)
            )

        return y, pullback

    return Rule("jvp", author, jvp), Rule("vjp", author, vjp)


def reduce_to(ct: Any, operand: Any) -> Any:
    """The cotangent of a broadcast operand: summed to its shape, and real if the operand is real."""
    x = _jax.typeof(operand)
    if is_zero(ct):
        return None
    extra = len(ct.shape) - len(x.shape)
    axes = tuple(range(extra)) + tuple(
        i + extra for i, size in enumerate(x.shape) if size == 1 and ct.shape[i + extra] != 1
    )
    summed = jnp.sum(ct, axis=axes).reshape(x.shape) if axes else ct
    if jnp.iscomplexobj(summed) and not jnp.issubdtype(x.dtype, jnp.complexfloating):
        summed = summed.real
    return summed.astype(x.dtype)
