"""The derivation table: missing this, have that, use this. Its order is the rule; there is no silent second choice.

Only given rules are derived from, so there are no circles.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxprim._errors import BadCall, RuleMissing, message
from jaxprim._rules import RuleSet
from jaxprim._types import Status


@dataclass(frozen=True)
class Row:
    """``missing`` can be derived from ``have``."""

    missing: str
    have: str
    how: str


TABLE: tuple[Row, ...] = (
    Row("abstract_eval", "impl", "by tracing the impl"),
    Row("abstract_eval", "kernel", "by tracing a kernel"),
    Row("lowering", "kernel", "the kernel on its platform"),
    Row("lowering", "impl", "the traced impl"),
    Row("lowering", "host", "a callback that sees NumPy arrays"),
    Row("jvp", "transpose", "linear operands: the primitive applied to the tangent"),
    Row("jvp", "vjp", "the transpose of the pullback"),
    Row("jvp", "impl", "JAX differentiates the impl"),
    Row("vjp", "jvp", "JAX linearizes the JVP rule and transposes it"),
    Row("vjp", "transpose", "the transpose rule"),
    Row("vjp", "impl", "JAX differentiates the impl"),
    Row("transpose", "impl", "linear_transpose of the impl, where it is linear"),
    Row("batching", "impl", "vmap of the impl, rules kept"),
    Row("batching", "kernel", "vmap of the kernel, rules kept"),
    Row("batching", "host", "sequential: one element after the other, rules kept"),
    Row("batching", "lowering", "sequential: one element after the other, rules kept"),
)


@dataclass(frozen=True)
class Choice:
    """Where a rule comes from."""

    status: Status
    source: str = ""
    how: str = ""


def choose(rules: RuleSet, wanted: str) -> Choice:
    """Given; else as the author chose with ``derive``; else the first row of the table that applies."""
    if rules.has(wanted):
        return Choice("given")
    chosen = rules.choices.get(wanted)
    for row in TABLE:
        if row.missing == wanted and _has(rules, row.have) and chosen in (None, row.have):
            return Choice("derived", row.have, row.how)
    return Choice("missing")


def _has(rules: RuleSet, name: str) -> bool:
    return rules.has(name) or (name in ("kernel", "lowering") and any(n.startswith(name + "[") for n in rules.given))


def set_choice(rules: RuleSet, wanted: str, source: str) -> None:
    """Choose another derivation than the table's."""
    sources = [row.have for row in TABLE if row.missing == wanted]
    if source not in sources:
        raise BadCall(
            message(
                f"{rules.name}: derive({wanted}='{source}') is not a derivation.",
                got=f"{wanted} from '{source}'",
                expected=f"{wanted} from one of {', '.join(sources)}"
                if sources
                else f"one of {', '.join(sorted({row.missing for row in TABLE}))}",
                defined=rules.made,
                write=f"{rules.name}.derive({wanted}='{sources[0]}')"
                if sources
                else f"{rules.name}.derive(jvp='impl')",
            )
        )
    rules.choices[wanted] = source
    rules.changed()


_WRITE = {
    "jvp": "@{0}.def_jvp  # def rule(primals, tangents): return primals_out, tangents_out",
    "vjp": "@{0}.def_vjp  # def rule(primals): return primals_out, pullback",
    "transpose": "@{0}.def_transpose  # def rule(y_bar, *other_operands), with linear=('operand',)",
    "batching": "@{0}.def_batching  # def rule(axis, args, dims): return outs, dims_out",
    "abstract_eval": "@{0}.def_abstract_eval  # def rule(*avals): return jax.ShapeDtypeStruct(shape, dtype)",
    "lowering": "@{0}.def_impl",
}
_MODE = {"jvp": "forward-mode differentiation (jvp)", "vjp": "reverse-mode differentiation (vjp, grad)"}


def why_missing(rules: RuleSet, wanted: str) -> str:
    """Why a rule can't be derived."""
    chosen = rules.choices.get(wanted)
    if chosen is not None:
        return f"derive({wanted}='{chosen}') was chosen, and no {chosen} is given"
    sources = [row.have for row in TABLE if row.missing == wanted]
    opaque = ", and a host function is opaque to JAX" if rules.has("host") and "impl" in sources else ""
    if len(sources) == 1:
        return f"it could be derived from {sources[0]}, which is not given{opaque}"
    return f"it could be derived from {', '.join(sources[:-1])} or {sources[-1]}; none of them is given{opaque}"


def line_to_write(rules: RuleSet, wanted: str) -> str:
    if wanted in rules.choices:
        for row in TABLE:
            if row.missing == wanted and _has(rules, row.have):
                return f"{rules.name}.derive({wanted}='{row.have}')"
    return _WRITE[wanted].format(rules.name)


def missing(rules: RuleSet, wanted: str, why: str | None = None) -> RuleMissing:
    """The error at the moment a rule is needed."""
    return RuleMissing(
        message(
            f"{rules.name}: {_MODE.get(wanted, wanted)} needs a rule that is missing.",
            got=rules.listed,
            expected=f"a {wanted.upper()} rule",
            why=why or why_missing(rules, wanted),
            rule=rules.implementation_author,
            write=line_to_write(rules, wanted),
        )
    )
