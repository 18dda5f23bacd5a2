"""`RuleSet`: the record of a primitive's rules and where each came from."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxprim import _jax
from jaxprim._errors import BadCall, RuleMissing, RuleWrong, header, message
from jaxprim._origin import source_of
from jaxprim._signature import Signature
from jaxprim._trees import describe

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
    """Which rule was used, how often: what `jaxprim.record_rules` shows."""

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
                message(
                    f"{self.name}: it has no implementation.",
                    got=self.listed,
                    expected="one of def_impl, def_host, def_kernel, or def_abstract_eval with def_lowering",
                    defined=self.made,
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
            message(
                f"{self.name}: def_{method} takes a function.",
                got=describe(rule.author),
                expected="a function, or nothing where it is used as a decorator",
                defined=self.made,
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


def rules_of(primitive: Any) -> RuleSet:
    """The rule set of a `Primitive`, which keeps it to itself: users go through its methods."""
    return primitive._rules


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
        message(
            f"{rules.name}: the {kind} does not take what it is called with.",
            got=f"{name}{inspect.signature(author)}",
            expected=f"({wanted})",
            why="every rule gets all operands and every static param" if params else None,
            rule=author,
            write=header(author, wanted),
        )
    )
