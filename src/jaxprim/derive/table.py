"""The derivation table: for each missing rule, the given rules that it can be derived from.

The table is the dispatch. Each of JAX's rules calls `choose` to get its row and calls that row's function, and
``explain()`` prints the same row. The order of the rows decides: the first row that applies is used, with no fallback
if it fails. Rules are derived from given rules only, so there are no cycles.

The function of a row is in the file of its rule, under ``@derives(missing, have)``. The docstring of that file gives
the arguments and the result of such functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from jaxprim._errors import BadCall, RuleMissing, message
from jaxprim._rule_kinds import BY_NAME
from jaxprim._rules import RuleSet
from jaxprim._types import Status

Derivation = Callable[..., Any]
D = TypeVar("D", bound=Derivation)


@dataclass(frozen=True)
class Row:
    """One row: the rule ``missing`` can be derived from the rule ``have``.

    Attributes:
        missing: the kind of rule.
        have: the kind of rule it is derived from; equal to ``missing`` for a given rule.
        how: the explanation in ``explain``.
        looks_inside: whether JAX must differentiate or transpose the code of ``have``, so the row does not apply to
            compiled code, unless that says how it does it.
        is_vmap: whether JAX must vmap the implementation on every platform, so the row does not apply to a host
            function.
        is_where_it_runs: whether the row applies only where ``have`` is the implementation that runs. There is nothing to
            choose then.
    """

    missing: str
    have: str
    how: str = ""
    looks_inside: bool = False
    is_vmap: bool = False
    is_where_it_runs: bool = False

    @property
    def is_given(self) -> bool:
        return self.missing == self.have

    @property
    def derive(self) -> Derivation:
        """The function that derives the rule."""
        return derivation(self.missing, self.have)


TABLE: tuple[Row, ...] = (
    Row("abstract_eval", "abstract_eval"),
    Row("abstract_eval", "impl", "by tracing the impl"),
    Row("abstract_eval", "kernel", "by tracing a kernel"),
    Row("lowering", "lowering"),
    Row("lowering", "kernel", "the kernel on its platform"),
    Row("lowering", "impl", "the traced impl"),
    Row("lowering", "host", "a callback that sees NumPy arrays"),
    Row("jvp", "jvp"),
    Row("jvp", "transpose", "linear operands: the primitive applied to the tangent"),
    Row("jvp", "vjp", "the transpose of the pullback"),
    Row("jvp", "impl", "JAX differentiates the impl", looks_inside=True),
    Row("vjp", "vjp"),
    Row("vjp", "jvp", "JAX linearizes the JVP rule and transposes it"),
    Row("vjp", "transpose", "the transpose rule"),
    Row("vjp", "impl", "JAX differentiates the impl", looks_inside=True),
    Row("transpose", "transpose"),
    Row("transpose", "impl", "linear_transpose of the impl, where it is linear", looks_inside=True),
    Row("batching", "batching"),
    Row("batching", "kernel", "vmap of the kernel on its platform, rules kept", is_vmap=True),
    Row("batching", "impl", "vmap of the impl, rules kept", is_vmap=True),
    Row("batching", "host", "sequential: one element after the other, rules kept"),
    Row("batching", "lowering", "sequential: one element after the other, rules kept"),
    Row("partition", "partition"),
    Row("sharding", "sharding"),
    Row("sharding", "lowering", "along the axes of vmap; its own stay whole", is_where_it_runs=True),
    Row("sharding", "kernel", "XLA splits the program; kernels split along their batch axes", is_where_it_runs=True),
    Row("sharding", "impl", "XLA splits the program; kernels split along their batch axes", is_where_it_runs=True),
    Row("sharding", "host", "along the axes of vmap; its own stay whole", is_where_it_runs=True),
)

_FUNCTIONS: dict[tuple[str, str], Derivation] = {}


def derives(missing: str, have: str) -> Callable[[D], D]:
    """Register a function as the derivation of a row."""

    def attach(fn: D) -> D:
        _FUNCTIONS[missing, have] = fn
        return fn

    return attach


def derivation(missing: str, have: str) -> Derivation:
    """The function of a row."""
    return _FUNCTIONS[missing, have]


# ------------------------------------------------------------------------------------------------------ looking it up
@dataclass(frozen=True)
class Choice:
    """The source of one rule of a primitive.

    Attributes:
        status: given, derived or missing.
        row: the row of the table; None if the rule is missing.
        is_chosen: whether the author chose the row with ``derive``.
    """

    status: Status
    row: Row | None = None
    is_chosen: bool = False

    @property
    def source(self) -> str:
        """The kind of rule it is derived from; empty if it is missing."""
        return "" if self.row is None else self.row.have

    @property
    def derive(self) -> Derivation:
        """The function of the row."""
        if self.row is None:
            raise AttributeError("a missing rule has no derivation")
        return self.row.derive


ANY = "any"  # any platform


def choose(rules: RuleSet, wanted: str, platform: str | None = ANY, *, given: bool = True) -> Choice:
    """Choose the row: the given rule, else the author's choice with ``derive``, else the first row that applies.

    Args:
        rules: the primitive's rules.
        wanted: the kind of rule.
        platform: count only the kernels and lowerings of this platform; by default those of all platforms.
        given: False to skip a given rule, if it does not cover the case.
    """
    key = (wanted, platform, given)
    found = rules.chosen.get(key)
    if found is None:
        found = rules.chosen[key] = _choose(rules, wanted, platform, given)
    return found


def _choose(rules: RuleSet, wanted: str, platform: str | None, given: bool) -> Choice:
    chosen = rules.choices.get(wanted)
    for row in rows_of(wanted):
        if (row.is_given and not given) or not applies(rules, row, platform):
            continue
        if row.is_given:
            return Choice("given", row)
        if chosen in (None, row.have):
            return Choice("derived", row, chosen is not None)
    return Choice("missing")


def rows_of(wanted: str) -> tuple[Row, ...]:
    """The rows of a kind of rule, in order."""
    return tuple(row for row in TABLE if row.missing == wanted)


def applies(rules: RuleSet, row: Row, platform: str | None = ANY) -> bool:
    """Whether a primitive has what a row needs."""
    if row.is_vmap and choose(rules, "lowering", None, given=False).source == "host":
        return False
    if row.is_where_it_runs and choose(rules, "lowering", platform).source != row.have:
        return False
    if row.looks_inside and is_opaque(rules, row):
        return False
    if row.have == "batching" and rules.batching_word is not None:
        return True  # given as a word
    if not BY_NAME[row.have].per_platform or platform == ANY:
        return rules.has(row.have)
    return not rules.by_platform(row.have).keys().isdisjoint({platform, None})


def is_opaque(rules: RuleSet, row: Row) -> bool:
    """Whether what a row needs is compiled code, which JAX cannot look into, and which does not derive the rule itself."""
    rule = rules.given.get(row.have)
    return rule is not None and rule.is_opaque and row.missing not in rule.derives


def how(rules: RuleSet, row: Row) -> str:
    """The explanation of a row for a primitive: compiled code that derives a rule itself says how."""
    rule = rules.given.get(row.have)
    said = rule.derives if rule is not None and row.looks_inside else {}
    return said.get(row.missing, row.how)


def has_own_vjp(rules: RuleSet) -> bool:
    """Whether reverse mode runs a rule of its own, instead of transposing forward mode.

    It transposes forward mode if the VJP comes from the JVP rule, or if both come from the same source.
    """
    choice = choose(rules, "vjp")
    if choice.status == "given":
        return True
    return choice.source not in ("", "jvp", choose(rules, "jvp").source)


# ----------------------------------------------------------------------------------------------------- choosing a row
def set_choice(rules: RuleSet, wanted: str, source: str) -> None:
    """Choose another derivation than the table's first, for a rule that is not given."""
    sources = [row.have for row in rows_of(wanted) if not row.is_given and not row.is_where_it_runs]
    if source not in sources:
        raise _not_a_derivation(rules, wanted, source, sources)
    if choose(rules, wanted, None).status == "given":
        raise _is_given(rules, wanted, source)
    rules.choices[wanted] = source
    rules.changed()


def _not_a_derivation(rules: RuleSet, wanted: str, source: str, sources: list[str]) -> BadCall:
    kinds = dict.fromkeys(row.missing for row in TABLE if not row.is_given and not row.is_where_it_runs)
    return BadCall(
        message(
            f"{rules.name}: derive({wanted}='{source}') is not a derivation.",
            got=f"{wanted} from '{source}'",
            expected=f"{wanted} from one of {', '.join(sources)}" if sources else f"one of {', '.join(sorted(kinds))}",
            defined=rules.made,
            write=f"{rules.name}.derive({wanted}='{sources[0]}')" if sources else f"{rules.name}.derive(jvp='impl')",
        )
    )


def _is_given(rules: RuleSet, wanted: str, source: str) -> BadCall:
    rule = rules.given.get(wanted)
    return BadCall(
        message(
            f"{rules.name}: derive({wanted}='{source}') has no effect, because the {BY_NAME[wanted].form.phrase} is given.",
            got=f"a given {BY_NAME[wanted].form.phrase}" if rule else f"batching='{rules.batching_word}'",
            expected=f"a primitive whose {BY_NAME[wanted].form.phrase} is derived",
            why="a given rule is always used; derive only chooses how the other rules are derived",
            rule=rule.author if rule else None,
            defined=None if rule else rules.made,
            write=f"{rules.name}.derive({wanted}='{source}')  # and remove def_{wanted}",
        )
    )


# ----------------------------------------------------------------------------------------------------- missing rules
def why_missing(rules: RuleSet, wanted: str) -> str:
    """The reason why a rule cannot be derived."""
    chosen = rules.choices.get(wanted)
    if chosen is not None:
        return f"derive({wanted}='{chosen}') was chosen, but no {chosen} is given"
    rows = [row for row in rows_of(wanted) if not row.is_given]
    compiled = next((row.have for row in rows if row.looks_inside and is_opaque(rules, row)), None)
    needs_impl = any(row.have == "impl" for row in rows)
    host = ", and a host function is opaque to JAX" if rules.has("host") and needs_impl else ""
    if len(rows) == 1:
        only = f"it could be derived from {rows[0].have}, which"
        return f"{only} is compiled code, opaque to JAX" if compiled else f"{only} is not given{host}"
    sources = [row.have for row in rows]
    some = f"it could be derived from {', '.join(sources[:-1])} or {sources[-1]};"
    if compiled:
        return f"{some} only the {compiled} is given, and it is compiled code, opaque to JAX"
    return f"{some} none of them is given{host}"


def line_to_write(rules: RuleSet, wanted: str) -> str:
    """The line that gives a missing rule, or chooses a derivation that is possible."""
    if wanted in rules.choices:
        for row in rows_of(wanted):
            if applies(rules, row) and not row.is_given:
                return f"{rules.name}.derive({wanted}='{row.have}')"
    return BY_NAME[wanted].write.format(rules.name)


def missing(rules: RuleSet, wanted: str, why: str | None = None) -> RuleMissing:
    """The error for a missing rule that a transformation needs."""
    kind = BY_NAME[wanted]
    return RuleMissing(
        message(
            f"{rules.name}: {kind.need} needs a rule that is missing.",
            got=rules.listed,
            expected=f"a {kind.form.phrase}",
            why=why or why_missing(rules, wanted),
            rule=rules.implementation_author,
            write=line_to_write(rules, wanted),
        )
    )


def not_linear(rules: RuleSet, mode: str, operands: Sequence[str]) -> RuleMissing:
    """The error for a perturbed operand in which the primitive was not declared linear."""
    linear = ", ".join(rules.linear)
    why = f"{', '.join(operands)} is perturbed, but the transpose rule only gives the derivative in {linear}"
    return missing(rules, mode, why)
