"""`RuleSet`: the record of a primitive's rules and where each came from.

Authors may write a rule in several forms; each is brought to one canonical form here, so that what follows knows one:

- JVP: ``fn(primals, tangents, perturbed, params) -> (primals_out, tangents_out)``
- VJP: ``fn(primals, perturbed, params) -> (primals_out, pullback)`` with ``pullback(cotangents) -> cotangents``
"""

from __future__ import annotations

import difflib
import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxprim import _jax
from jaxprim._avals import short
from jaxprim._errors import BadCall, RuleMissing, RuleWrong, source_of, text
from jaxprim._results import Results, fit, read_linear, wanted_cotangents, wanted_tangents
from jaxprim._signature import Signature
from jaxprim._trees import describe, leaf_names, tuple_tree, written
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


def make_room(table: dict[Any, Any], most: int) -> None:
    """Keep a table from growing for ever: when it is full, its oldest eighth goes."""
    if len(table) >= most:
        for key in list(table)[: most // 8 + 1]:
            table.pop(key, None)


class RuleSet:
    """All that is known of one primitive: its rules, its signature, and what was traced of them.

    Attributes:
        name: the primitive's name.
        made: the file and line where the primitive was made.
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

    def __init__(self, name: str, made: str = "") -> None:
        self.name, self.made = name, made
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
        if not callable(rule.author):
            raise self._no_function(rule)
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
        if self.implementation_author is None:
            raise RuleMissing(
                text(
                    f"{self.name}: it has no implementation.",
                    got=self.listed,
                    expected="one of def_impl, def_host, def_kernel, or def_abstract_eval with def_lowering",
                    made=self.made,
                    write=f"@{self.name}.def_impl",
                )
            )
        return self.implementation_author

    @property
    def listed(self) -> str:
        """The given rules as messages name them."""
        names = [name.removesuffix("[]") for name in self.given]
        return f"the rule{'s' * (len(names) > 1)} {', '.join(names)}" if names else "no rules"

    @property
    def implementation_author(self) -> AuthorFn | None:
        """The function that says what the operands are: the first of impl, host, kernel, abstract eval."""
        kernels = [rule for name, rule in self.given.items() if name.startswith("kernel[")]
        rules = (self.given.get("impl"), self.given.get("host"), *kernels, self.given.get("abstract_eval"))
        return next((rule.author for rule in rules if rule is not None), None)

    def _no_function(self, rule: Rule) -> BadCall:
        method = rule.name.partition("[")[0]
        return BadCall(
            text(
                f"{self.name}: def_{method} takes a function.",
                got=describe(rule.author),
                expected="a function, or nothing where it is used as a decorator",
                made=self.made,
                write=f"@{self.name}.def_{method}",
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


# -------------------------------------------------------------------------------------------------- calling a rule
# What a rule takes before (or instead of) the operands.
_LEADING: dict[str, tuple[str, ...]] = {
    "JVP rule": ("primals", "tangents"),
    "VJP rule": ("primals",),
    "batch rule": ("axis", "args", "dims"),
    "transpose rule": ("y_bar",),
    "JVP rule of operand": ("x_dot", "y"),
    "VJP rule of operand": ("y_bar", "y"),
    "function of partial derivatives": ("y",),
}


def call_author(rules: RuleSet, kind: str, author: AuthorFn, /, *args: Any, **params: Any) -> Any:
    """Call an author's function; where it does not take what it is called with, say so."""
    try:
        return author(*args, **params)
    except TypeError as error:
        inside = error.__traceback__ is not None and error.__traceback__.tb_next is not None
        if inside or _takes(author, args, params):
            raise
        raise _wrong_signature(rules, kind, author, len(args), params) from None


def _takes(author: AuthorFn, args: Sequence[Any], params: Mapping[str, Any]) -> bool:
    try:
        inspect.signature(author).bind(*args, **params)
    except TypeError:
        return False
    except ValueError:  # a builtin without a signature
        return True
    return True


def _wrong_signature(rules: RuleSet, kind: str, author: AuthorFn, count: int, params: Mapping[str, Any]) -> RuleWrong:
    leading = _LEADING.get(kind.partition(" '")[0], ())
    operands = [name for name in rules.signature.names(count) if kind != "transpose rule" or name not in rules.linear]
    positional = [*leading, *operands[: count - len(leading)]]
    wanted = ", ".join([*positional, *(["*"] if params else []), *params])
    name = getattr(author, "__name__", "_")
    return RuleWrong(
        text(
            f"{rules.name}: the {kind} does not take what it is called with.",
            got=f"{name}{inspect.signature(author)}",
            expected=f"({wanted})",
            why="every rule gets all operands and every static param" if params else None,
            rule=author,
            write=f"lambda {wanted}:" if name == "<lambda>" else f"def {name}({wanted}):",
        )
    )


# --------------------------------------------------------------------------------------------------- canonical forms
def takes_perturbed(fn: AuthorFn) -> bool:
    """Whether a rule names the extra argument ``perturbed``."""
    try:
        parameter = inspect.signature(fn).parameters.get("perturbed")
    except (TypeError, ValueError):
        return False
    return parameter is not None


def _extra(fn: AuthorFn, perturbed: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    return {"perturbed": perturbed} if "perturbed" not in params and takes_perturbed(fn) else {}


def jvp_rule(rules: RuleSet, author: Any) -> Rule:
    """``rule(primals, tangents, **params) -> (primals_out, tangents_out)``."""

    def fn(primals: Any, tangents: Any, perturbed: Any, params: Mapping[str, Any]) -> Any:
        return call_author(rules, "JVP rule", author, primals, tangents, **_extra(author, perturbed, params), **params)

    return Rule("jvp", author, fn)


def vjp_rule(rules: RuleSet, author: AuthorFn, surrogate: str | None) -> Rule:
    """``rule(primals, **params) -> (primals_out, pullback)`` or ``(primals_out, residuals, pullback)``."""

    def fn(primals: Any, perturbed: Any, params: Mapping[str, Any]) -> Any:
        result = call_author(rules, "VJP rule", author, primals, **_extra(author, perturbed, params), **params)
        return read_vjp_result(rules, author, primals, params, result)

    return Rule("vjp", author, fn, surrogate=surrogate)


def vjp_pair_rule(rules: RuleSet, fwd: AuthorFn, bwd: AuthorFn, surrogate: str | None) -> Rule:
    """The two functions of ``jax.custom_vjp``."""

    def fn(primals: Any, perturbed: Any, params: Mapping[str, Any]) -> Any:
        extra = _extra(fwd, perturbed, params)
        result = call_author(rules, "forward function of the VJP rule", fwd, *primals, **extra, **params)
        if not isinstance(result, tuple) or len(result) != 2:
            raise RuleWrong(
                text(
                    f"{rules.name}: the forward function of the VJP rule must return (output, residuals).",
                    got=describe(result),
                    expected="a tuple of 2",
                    rule=fwd,
                    write="return output, residuals",
                )
            )
        out, residuals = result
        return out, lambda cts: bwd(residuals, cts)

    return Rule("vjp", fwd, fn, surrogate=surrogate)


def read_vjp_result(
    rules: RuleSet, author: AuthorFn, primals: Any, params: Mapping[str, Any], result: Any
) -> tuple[Any, Callable[[Any], Any]]:
    """The output and the pullback in what a VJP rule returned."""
    if isinstance(result, tuple) and len(result) == 2 and callable(result[1]):
        out, pullback = result
        if _required(rules.name, author, pullback) == 2:
            return out, lambda cts: pullback(primals, cts)
        return out, pullback
    if isinstance(result, tuple) and len(result) > 2 and callable(result[-1]):
        required = _required(rules.name, author, result[-1])
        if len(result) > 3 or required != 2:
            _refuse_flattened(rules, author, primals, params, result)
        if len(result) == 3:
            out, residuals, pullback = result
            _require_two(rules.name, author, pullback, required)
            return out, lambda cts: pullback(residuals, cts)
    raise RuleWrong(
        text(
            f"{rules.name}: the VJP rule must return (output, pullback) or (output, residuals, pullback).",
            got=_entries(result),
            expected="a tuple of 2 or 3 whose last entry is a function",
            rule=author,
            write="return output, pullback",
        )
    )


def _entries(value: Any) -> str:
    if isinstance(value, tuple) and len(value) <= 4:
        return f"a tuple of {len(value)}: {'; '.join(describe(v).removeprefix('one array, ') for v in value)}"
    return describe(value)


def _refuse_flattened(
    rules: RuleSet, author: AuthorFn, primals: Any, params: Mapping[str, Any], result: tuple[Any, ...]
) -> None:
    """Say so where a rule returned ``y1, y2, pullback`` for ``(y1, y2), pullback``."""
    tree = jax.tree.structure(jax.eval_shape(lambda: rules.apply(primals, params)))
    if tree.num_leaves != len(result) - 1:
        return
    outputs = Results((), tree).variables()
    raise RuleWrong(
        text(
            f"{rules.name}: the VJP rule returned its results one by one.",
            got=_entries(result),
            expected="a tuple of 2: the output and the pullback; the output has the structure of the operation's results",
            rule=author,
            write=f"return {written(tree, outputs)}, pullback",
        )
    )


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
                why="the cotangents of several results come as one tuple",
                write="def pullback(y_bar):" if len(required) < 2 else "def pullback(residuals, y_bar):",
            )
        )
    return len(required)


def _require_two(name: str, author: AuthorFn, pullback: AuthorFn, required: int) -> None:
    if required != 2:
        raise RuleWrong(
            text(
                f"{name}: the VJP rule returns residuals, but its pullback does not take them.",
                got=f"{getattr(pullback, '__name__', 'pullback')}{inspect.signature(pullback)}",
                expected="two required positional arguments",
                why="of (output, residuals, pullback), pullback(residuals, cotangents) is called",
                rule=author,
                write="def pullback(residuals, y_bar):",
            )
        )


# ------------------------------------------------------------------------------------------------- rules per operand
PerOperand = Mapping[str, AuthorFn | None]


def _not_differentiable(rules: RuleSet, kind: str, operand: str, given: PerOperand) -> RuleMissing:
    names = {name: getattr(rule, "__name__", None) for name, rule in given.items()} | {operand: "rule"}
    return RuleMissing(
        text(
            f"{rules.name}: it is not differentiable with respect to operand '{operand}'.",
            got=f"rules for {', '.join(given)}",
            expected=f"a rule for {operand}, or {operand}=None for a derivative that is zero",
            why=f"def_{kind} was given one rule per operand",
            rule=_first(given),
            write=f"{rules.name}.def_{kind}({', '.join(f'{name}={rule}' for name, rule in names.items())})",
        )
    )


def _refuse_unknown_operand(rules: RuleSet, kind: str, operands: Sequence[str], given: PerOperand) -> None:
    for name in given:
        if name not in operands:
            close = difflib.get_close_matches(name, operands, 1) or operands
            raise BadCall(
                text(
                    f"{rules.name}: def_{kind} was given a rule for '{name}', which is no operand.",
                    got=f"{name}=",
                    expected=f"operands {', '.join(operands)}",
                    rule=given[name],
                    write=f"{rules.name}.def_{kind}({close[0]}={getattr(given[name], '__name__', None)})",
                )
            )


def _first(per_operand: PerOperand) -> AuthorFn:
    return next((rule for rule in per_operand.values() if rule is not None), lambda: None)


def jvp_per_operand(rules: RuleSet, per_operand: PerOperand) -> Rule:
    """``f(x_dot, y, *primals, **params) -> y_dot`` for each operand."""

    def fn(primals: Any, tangents: Any, perturbed: Any, params: Mapping[str, Any]) -> Any:
        names = rules.signature.names(len(primals))
        _refuse_unknown_operand(rules, "jvp", names, per_operand)
        y = rules.apply(primals, params)
        leaves, tree = jax.tree.flatten(y)
        wanted = wanted_tangents(Results(tuple(map(_jax.typeof, leaves)), tree))
        total: list[Any] = [Zero(aval) for aval in wanted.avals]
        for name, t in zip(names, tangents, strict=True):
            if all(is_zero(leaf) for leaf in jax.tree.leaves(t, is_leaf=is_zero)):
                continue
            if name not in per_operand:
                raise _not_differentiable(rules, "jvp", name, per_operand)
            rule, kind = per_operand[name], f"JVP rule of operand '{name}'"
            if rule is not None:
                part = call_author(rules, kind, rule, t, y, *primals, **params)
                dots = read_linear(rules.name, kind, rule, part, wanted)
                total = [a if b is None else a + fit(b, w) for a, b, w in zip(total, dots, wanted.avals, strict=True)]
        return y, tree.unflatten(total)

    return Rule("jvp", _first(per_operand), fn, operands=tuple(per_operand))


def vjp_per_operand(rules: RuleSet, per_operand: PerOperand) -> Rule:
    """``f(y_bar, y, *primals, **params) -> x_bar`` for each operand."""

    def fn(primals: Any, perturbed: Any, params: Mapping[str, Any]) -> Any:
        names = rules.signature.names(len(primals))
        _refuse_unknown_operand(rules, "vjp", names, per_operand)
        y = rules.apply(primals, params)
        wanted = [any(jax.tree.leaves(p)) for p in perturbed]
        for name, want in zip(names, wanted, strict=True):
            if want and name not in per_operand:
                raise _not_differentiable(rules, "vjp", name, per_operand)

        def cotangent(name: str, operand: Any, y_bar: Any) -> Any:
            rule, kind = per_operand[name], f"VJP rule of operand '{name}'"
            if rule is None:
                return None
            part = call_author(rules, kind, rule, y_bar, y, *primals, **params)
            leaves, tree = jax.tree.flatten(operand)
            labels = lambda: leaf_names(tuple_tree([tree]), [name])
            read = read_linear(
                rules.name, kind, rule, part, wanted_cotangents(tree, labels, [*map(_jax.typeof, leaves)])
            )
            return tree.unflatten(read)

        def pullback(y_bar: Any) -> tuple[Any, ...]:
            each = zip(names, primals, wanted, strict=True)
            return tuple(cotangent(name, operand, y_bar) if want else None for name, operand, want in each)

        return y, pullback

    return Rule("vjp", _first(per_operand), fn, operands=tuple(per_operand))


# ----------------------------------------------------------------------------------------------- elementwise partials
def partials_rules(rules: RuleSet, author: AuthorFn) -> tuple[Rule, Rule]:
    """``fn(y, *primals, **params) -> (dy/dx1, ...)`` of an elementwise operation: the JVP and the VJP."""

    def jvp(primals: Any, tangents: Any, perturbed: Any, params: Mapping[str, Any]) -> Any:
        y = rules.apply(primals, params)
        slopes = _partials(rules, author, y, primals, params)
        y_dot: Any = Zero.zero_if_zero(y)
        for partial, t in zip(slopes, tangents, strict=True):
            if partial is not None and not is_zero(t):
                y_dot = y_dot + _to(_times(partial, t), y)
        return y, y_dot

    def vjp(primals: Any, perturbed: Any, params: Mapping[str, Any]) -> Any:
        y = rules.apply(primals, params)
        slopes = _partials(rules, author, y, primals, params)

        def pullback(y_bar: Any) -> tuple[Any, ...]:
            return tuple(
                None if partial is None or not p or is_zero(y_bar) else reduce_to(_times(partial, y_bar), x)
                for partial, x, p in zip(slopes, primals, perturbed, strict=True)
            )

        return y, pullback

    return Rule("jvp", author, jvp), Rule("vjp", author, vjp)


def _partials(
    rules: RuleSet, author: AuthorFn, y: Any, primals: Sequence[Any], params: Mapping[str, Any]
) -> Sequence[Any]:
    """The partial derivatives that an author's function returns, one per operand."""
    names = rules.signature.names(len(primals))
    if jax.tree.structure((y, primals)) != jax.tree.structure((0, (0,) * len(primals))):
        raise _not_elementwise(rules, author, "operands or results that are pytrees", None)
    result = call_author(rules, "function of partial derivatives", author, y, *primals, **params)
    result = result if isinstance(result, tuple | list) else (result,)
    line = f"return {', '.join(f'dy_d{name}' for name in names)}"
    if len(result) != len(primals):
        raise RuleWrong(
            text(
                f"{rules.name}: def_partials must return one partial derivative per operand.",
                got=f"{len(result)}",
                expected=f"{len(primals)}, for {', '.join(names)}",
                why="None stands for a partial derivative that is zero",
                rule=author,
                write=line,
            )
        )
    for name, x, partial in zip(names, primals, result, strict=True):
        _check_partial(rules, author, name, _jax.typeof(x), partial, _jax.typeof(y))
    return result


def _check_partial(rules: RuleSet, author: AuthorFn, name: str, x: Any, partial: Any, y: Any) -> None:
    if partial is None:
        return
    aval = _jax.typeof(partial)
    if jnp.broadcast_shapes(aval.shape, y.shape) != y.shape:
        raise _not_elementwise(rules, author, f"{short(aval)} for {name}", short(y))
    is_complex = [jnp.issubdtype(a.dtype, jnp.complexfloating) for a in (x, aval, y)]
    if is_complex == [False, True, False]:
        raise RuleWrong(
            text(
                f"{rules.name}: the partial derivative with respect to {name} is complex, and operand and result are real.",
                got=short(aval),
                expected=short(y),
                rule=author,
                write=f"dy_d{name} = dy_d{name}.real",
            )
        )


def _not_elementwise(rules: RuleSet, author: AuthorFn, got: str, expected: str | None) -> RuleWrong:
    return RuleWrong(
        text(
            f"{rules.name}: def_partials is for elementwise operations of arrays, with one result.",
            got=got,
            expected=expected,
            rule=author,
            write=f"@{rules.name}.def_jvp",
        )
    )


def _times(partial: Any, t: Any) -> Any:
    with jax.numpy_dtype_promotion("standard"):  # a real operand of a complex operation, and the like
        return partial * t


def _to(value: Any, like: Any) -> Any:
    """A value in the dtype of another: the real part where that is real."""
    is_real = not jnp.issubdtype(like.dtype, jnp.complexfloating)
    return (value.real if is_real else value).astype(like.dtype)


def reduce_to(ct: Any, operand: Any) -> Any:
    """The cotangent of a broadcast operand: summed to its shape, and real if the operand is real."""
    x = _jax.typeof(operand)
    extra = len(ct.shape) - len(x.shape)
    axes = tuple(range(extra)) + tuple(
        i + extra for i, size in enumerate(x.shape) if size == 1 and ct.shape[i + extra] != 1
    )
    return _to(jnp.sum(ct, axis=axes).reshape(x.shape) if axes else ct, x)
