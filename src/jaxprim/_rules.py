"""`RuleSet`: the rules of a primitive, and where each was written."""

from __future__ import annotations

import copy
import inspect
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxprim import _jax
from jaxprim._closures import holds_nothing
from jaxprim._errors import BadCall, RuleMissing, RuleWrong, header, message
from jaxprim._origin import source_of
from jaxprim._rule_kinds import BY_NAME, Form, form_of
from jaxprim._signature import CallSignature, accepts
from jaxprim._trees import describe

AuthorFn = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Rule:
    """One rule that an author gave, or a rule that jaxprim derived.

    Rules are compared by identity, so the author's function may be any callable, also one that cannot be hashed.

    Attributes:
        kind: ``"jvp"``, ``"vjp"``, ``"impl"``, ... (`_rule_kinds.KINDS`).
        author: the function that the author gave, or the first of several.
        fn: the rule in canonical form (`forms`); the function itself if its kind has only one form.
        platform: its platform; None for all.
        form: the form in which it was written.
        operands: for one rule per operand, the operands that have a rule; for a function operand, its name.
        surrogate: the reason for a deliberate departure from the derivative.
        casts: whether results of a host function take the declared dtype where that is NumPy's "same_kind".
        value_by_operation: whether the operation computes the value beside a tangent, even if the VJP rule writes it in
            another way.
        solves: the equation of a rule that `def_implicit` wrote (`forms.Implicit`).
    """

    kind: str
    author: AuthorFn
    fn: Callable[..., Any]
    platform: str | None = None
    form: Form | None = None
    operands: tuple[str, ...] | None = None
    surrogate: str | None = None
    casts: bool = False
    value_by_operation: bool = False
    solves: Any = None

    @property
    def label(self) -> str:
        """Its name in ``explain``, `record_rules` and messages: ``"jvp"``, ``"kernel[cuda]"``, ``"function[f]"``."""
        of = self.operands[0] if self.operands and BY_NAME[self.kind].per_operand else self.platform
        return self.kind if of is None else f"{self.kind}[{of}]"

    @property
    def phrase(self) -> str:
        """Its name in a message: ``"JVP rule"``."""
        return (self.form or form_of(self.kind)).phrase

    @property
    def origin(self) -> str:
        return source_of(self.author)

    @property
    def is_opaque(self) -> bool:
        """Whether it declares itself compiled code that JAX cannot look into, as `kernels.Kernel` does."""
        return getattr(self.author, "is_opaque", False)

    @property
    def derives(self) -> Mapping[str, str]:
        """The kinds of rules that compiled code says it derives by itself, with how it does."""
        return getattr(self.author, "derives", {}) if self.is_opaque else {}


class Records:
    """The listeners of `jaxprim.record_rules`, which are called whenever a rule is used."""

    def __init__(self) -> None:
        self.active: list[Callable[[str, str, str], None]] = []

    def add(self, primitive: str, rule: str, origin: str) -> None:
        for listener in self.active:
            listener(primitive, rule, origin)


RECORDS = Records()


class Cache:
    """A bounded cache of one primitive's traced rules; the oldest entry goes first.

    Args:
        size: the most entries.
        by_context: whether JAX's trace context is part of every key. For a call that closes over traced values it is not:
            JAX lowers the call in another context than it traces it in, when these values mean nothing any more.
    """

    def __init__(self, size: int = 1024, *, by_context: bool = True) -> None:
        self._entries: dict[Any, Any] = {}
        self._size, self._by_context = size, by_context
        self._lock = threading.Lock()

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """The entry of a key; made if there is none."""
        key = (key, _jax.trace_context() if self._by_context else None)
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
    """Keep a table from growing forever: when it is full, drop its oldest eighth.

    Dropping an eighth at a time makes the copy of the keys rare: once in ``most / 8`` insertions.
    """
    if len(table) >= most:
        for key in list(table)[: most // 8 + 1]:
            table.pop(key, None)


class RuleSet:
    """The state of one primitive: its rules, its signature, and everything traced from them.

    Attributes:
        name: the primitive's name.
        made: the file and line where the primitive was made.
        module: the module that made it.
        given: the rules that the author gave, by label (``"impl"``, ``"kernel[cuda]"``, ``"jvp"``, ...).
        choices: derivations that the author chose instead of the table's (``{"jvp": "impl"}``).
        chosen: the look-ups of `derive.table.choose` so far.
        linear: names of the operands in which the primitive was declared linear.
        batching_word: the word that says how a batch is evaluated; None if there is none.
        residual_names: the names that its VJP rule gave to residuals, as far as it was traced.
        kept: names of what the implementation returns beside the result, for the derivative rules alone.
        may_close: whether a rule was given while something was traced, so that it may close over traced values.
        used: whether the primitive was applied since its rules last changed.
        primitive, pushforward, pullback: the three JAX primitives.
        apply: applies the primitive to operands (a pytree call), and returns what is kept too; set by `Primitive`
            itself.
    """

    primitive: Any
    pushforward: Any
    pullback: Any
    apply: Callable[..., Any]

    def __init__(self, name: str, made: str = "", module: str = "") -> None:
        self.name, self.made, self.module = name, made, module
        self.given: dict[str, Rule] = {}
        self.choices: dict[str, str] = {}
        self.chosen: dict[Any, Any] = {}
        self.linear: tuple[str, ...] = ()
        self.batching_word: str | None = None
        self.residual_names: dict[str, None] = {}
        self.kept: tuple[str, ...] = ()
        self.may_close = False
        self.used = False
        self.cache = Cache()
        self.calls: dict[Any, Any] = {}
        self.compiled: dict[Any, Any] = {}
        self._signature: CallSignature | None = None
        self._whole: RuleSet | None = None

    # ------------------------------------------------------------------------------------------------------- writing
    def give(self, rule: Rule) -> None:
        """Add or replace a rule. Everything traced or compiled with the old rule is traced again."""
        if not callable(rule.author):
            raise self._not_a_function(rule)
        self.given[rule.label] = rule
        self.may_close = self.may_close or not (_jax.trace_state_clean() or holds_nothing(rule.author))
        self.choices.pop(rule.kind, None)  # a given rule is used; `derive` chooses among derivations
        self.changed()

    def for_one_call(self) -> RuleSet:
        """The same rules with tables of their own, for a call that closes over traced values. They die with the call."""
        own = copy.copy(self)
        own.cache, own.calls, own.compiled = Cache(by_context=False), {}, {}
        own._whole = self  # JAX's tables know the three primitives as long as it lives
        return own

    def take(self, given: dict[str, Rule]) -> None:
        """Take other rules, for one call, than those that the author gave."""
        self.given, self.chosen, self._signature = given, {}, None

    def _closes_over(self) -> tuple[AuthorFn, ...]:
        """Nothing: who asks what a rule closes over looks at its author's functions, and not at our records."""
        return ()

    @property
    def is_for_one_call(self) -> bool:
        return self._whole is not None

    def changed(self) -> None:
        self._signature = None
        self.residual_names.clear()
        self.chosen.clear()
        self.cache.clear()
        self.calls.clear()
        self.compiled.clear()
        if self.used:
            _jax.bump_redefinitions()
            self.used = False

    # ------------------------------------------------------------------------------------------------------- reading
    def without_kept(self, out: Any) -> Any:
        """The result of the primitive, of all that its implementation returned."""
        if not self.kept:
            return out
        if type(out) is tuple and len(out) == 1 + len(self.kept):
            return out[0]
        line = ", ".join(["y", *self.kept])
        raise RuleWrong(
            message(
                f"{self.name}: keep= names what the implementation returns beside the result, but it does not return it.",
                got=describe(out),
                expected=f"a tuple ({line})",
                rule=self.implementation_author,
                write=f"return {line}",
            )
        )

    def has(self, kind: str) -> bool:
        """Whether a rule of this kind was given, for any platform."""
        return kind in self.given or any(rule.kind == kind for rule in self.given.values())

    def by_platform(self, kind: str) -> dict[str | None, Rule]:
        """The rules of a kind, by platform (None for every platform)."""
        return {rule.platform: rule for rule in self.given.values() if rule.kind == kind}

    def kernels(self) -> dict[str, Rule]:
        """The implementations for one platform each."""
        return {platform: rule for platform, rule in self.by_platform("kernel").items() if platform is not None}

    def lowerings(self) -> dict[str | None, Rule]:
        """The raw lowering rules, by platform (None for every platform)."""
        return self.by_platform("lowering")

    @property
    def signature(self) -> CallSignature:
        """The signature of the first of impl, host, kernel and abstract eval that is given."""
        if self._signature is None:
            self._signature = CallSignature.of(self._signature_source())
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
        """The given rules, listed for a message."""
        names = list(self.given)
        return f"the rule{'s' * (len(names) > 1)} {', '.join(names)}" if names else "no rules"

    @property
    def implementation_author(self) -> AuthorFn | None:
        """The function that defines the operands: the first of impl, host, kernel and abstract eval that is given."""
        rules = (
            self.given.get("impl"),
            self.given.get("host"),
            *self.kernels().values(),
            self.given.get("abstract_eval"),
        )
        return next((rule.author for rule in rules if rule is not None), None)

    def _not_a_function(self, rule: Rule) -> BadCall:
        return BadCall(
            message(
                f"{self.name}: def_{rule.kind} needs a function.",
                got=describe(rule.author),
                expected="a function, or no argument when used as a decorator",
                defined=self.made,
                write=f"@{self.name}.def_{rule.kind}",
            )
        )

    @property
    def functions(self) -> list[str]:
        """The names of the operands that are functions."""
        declared = (rule.operands for rule in self.given.values() if BY_NAME[rule.kind].per_operand)
        return [name for names in declared for name in names or ()]

    @property
    def surrogate(self) -> str | None:
        return self.given["vjp"].surrogate if "vjp" in self.given else None

    def record(self, label: str, rule: Rule | None = None) -> None:
        """Note that a rule is used: the one given under this label, if no other stands for it."""
        if RECORDS.active:
            found = rule or self.given.get(label)
            RECORDS.add(self.name, label, found.origin if found else "derived")

    def record_linear(self, linear_map: Any) -> None:
        self.record("jvp" if linear_map.role == "pushforward" else "vjp")


def rules_of(primitive: Any) -> RuleSet:
    """The rule set of a `Primitive`. It is private: users go through the methods."""
    return primitive._rules


# -------------------------------------------------------------------------------------------------- calling a rule
def call_author(rules: RuleSet, form: Form, author: AuthorFn, /, *args: Any, **params: Any) -> Any:
    """Call an author's function; if it does not accept the arguments, raise an error that says which it must take."""
    try:
        return author(*args, **params)
    except (TypeError, RecursionError) as error:
        explain_call(error, rules, form, author, args, params)
        raise


def explain_call(
    error: Exception, rules: RuleSet, form: Form, author: AuthorFn, args: Sequence[Any], params: Mapping[str, Any],
    *, frames: int = 1,
) -> None:  # fmt: skip
    """Raise our own error if a call of an author's function failed because it does not take these arguments, or recurses.

    Args:
        frames: the number of frames between the ``except`` and the author's function.
    """
    if isinstance(error, RecursionError):
        raise endless(rules, form, author) from None
    depth = sum(1 for _ in traceback.walk_tb(error.__traceback__))
    if isinstance(error, TypeError) and depth == frames and not accepts(author, args, params):
        raise _wrong_signature(rules, form, author, len(args), params) from None


def endless(rules: RuleSet, form: Form, author: AuthorFn) -> RuleWrong:
    """The error for a rule that needs itself, as an impl that applies its own operation."""
    return RuleWrong(
        message(
            f"{rules.name}: the {form.phrase} recurses without end.",
            got="RecursionError",
            expected="a function that does not need itself",
            why=f"it applies {rules.name} where that runs the same {form.phrase} again, or calls itself",
            rule=author,
            write=f"return result  # computed without {rules.name}",
        )
    )


def _wrong_signature(rules: RuleSet, form: Form, author: AuthorFn, count: int, params: Mapping[str, Any]) -> RuleWrong:
    is_transpose = form == form_of("transpose")  # a transpose rule gets only the operands that are not linear
    operands = [name for name in rules.signature.names(count) if not is_transpose or name not in rules.linear]
    positional = [*form.leading, *operands[: count - len(form.leading) - len(form.trailing)], *form.trailing]
    wanted = ", ".join([*positional, *(["*"] if params else []), *params])
    name = getattr(author, "__name__", "_")
    return RuleWrong(
        message(
            f"{rules.name}: the {form.phrase} does not accept the arguments it is called with.",
            got=f"{name}{inspect.signature(author)}",
            expected=f"({wanted})",
            why=form.why or ("every rule gets all operands and every static param" if params else None),
            rule=author,
            write=header(author, wanted),
        )
    )
