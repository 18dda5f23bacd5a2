"""The derivation table is the dispatch: what `explain()` says is what runs.

Each source of a rule is rigged to give another number, so that the number tells which source was used. The sources of one
operation disagree on purpose; nothing here is compared with a derivation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprim
from jaxprim import BadCall, Primitive, RuleMissing, RuleWrong, mlir
from jaxprim.derive import TABLE
from jaxprim.derive.table import choose, missing

# What each source multiplies its operand by: values, and derivatives where it has one of its own.
SLOPES = {"impl": 2.0, "host": 3.0, "kernel": 5.0, "lowering": 7.0, "jvp": 11.0, "vjp": 13.0, "transpose": 17.0}
X = jnp.array([1.0, 2.0])


def _lower(ctx, x):
    return mlir.lower_fun(lambda x: SLOPES["lowering"] * x, multiple_results=False)(ctx, x)


def rigged(*sources: str) -> Primitive:
    """An operation x -> a x with another a in each source."""
    op = Primitive("op")
    give = {
        "impl": lambda: op.def_impl(lambda x: SLOPES["impl"] * x),
        "host": lambda: op.def_host(lambda x: np.float32(SLOPES["host"]) * x),
        "kernel": lambda: op.def_kernel(lambda x: SLOPES["kernel"] * x, platform="cpu"),
        "lowering": lambda: op.def_lowering(_lower, platform="cpu"),
        "abstract_eval": lambda: op.def_abstract_eval(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype)),
        "jvp": lambda: op.def_jvp(lambda primals, tangents: (op(*primals), SLOPES["jvp"] * tangents[0])),
        "vjp": lambda: op.def_vjp(lambda primals: (op(*primals), lambda y_bar: SLOPES["vjp"] * y_bar)),
        "transpose": lambda: op.def_transpose(lambda y_bar: SLOPES["transpose"] * y_bar, linear="x"),
        "batching": lambda: op.def_batching(lambda axis, args, dims: (19.0 * args[0], dims[0])),
    }
    for source in sources:
        give[source]()
    return op


def factor(y) -> float:
    """By what an operand of X was multiplied; the same for each element."""
    ratios = np.asarray(y) / np.asarray(X)
    assert ratios[0] == ratios[1]
    return float(ratios[0])


# What runs for a kind of rule, seen from outside. A cotangent or tangent of X makes every mode a multiple of X.
ASK: dict[str, Callable[[Primitive], float]] = {
    "lowering": lambda op: factor(jax.jit(op)(X)),
    "jvp": lambda op: factor(jax.jit(lambda x: jax.jvp(op, (x,), (x,))[1])(X)),
    "vjp": lambda op: factor(jax.jit(lambda x: jax.vjp(op, x)[1](x)[0])(X)),
    "transpose": lambda op: factor(jax.linear_transpose(op, X)(X)[0]),
    "batching": lambda op: factor(jax.jit(jax.vmap(op))(X)),
}
EAGER: dict[str, Callable[[Primitive], float]] = {
    "lowering": lambda op: factor(op(X)),
    "jvp": lambda op: factor(jax.jvp(op, (X,), (X,))[1]),
    "vjp": lambda op: factor(jax.vjp(op, X)[1](X)[0]),
    "transpose": ASK["transpose"],
    "batching": lambda op: factor(jax.vmap(op)(X)),
}


class Chosen(NamedTuple):
    """An operation with several sources of one rule, of which one is chosen, and the number that shows it."""

    wanted: str
    source: str
    given: tuple[str, ...]
    number: float


# A JVP that comes from the transpose rule applies the primitive itself to the tangent; by default its impl.
CHOSEN = [
    Chosen("lowering", "kernel", ("impl", "host", "kernel"), 5.0),
    Chosen("lowering", "impl", ("impl", "host", "kernel"), 2.0),
    Chosen("lowering", "host", ("impl", "host", "kernel"), 3.0),
    Chosen("jvp", "transpose", ("impl", "vjp", "transpose"), 2.0),
    Chosen("jvp", "vjp", ("impl", "vjp", "transpose"), 13.0),
    Chosen("jvp", "impl", ("host", "impl", "vjp", "transpose"), 2.0),
    Chosen("vjp", "jvp", ("impl", "jvp", "transpose"), 11.0),
    Chosen("vjp", "transpose", ("impl", "jvp", "transpose"), 17.0),
    Chosen("vjp", "impl", ("impl", "jvp", "transpose"), 2.0),
    Chosen("transpose", "impl", ("impl", "jvp", "vjp"), 2.0),
    Chosen("batching", "kernel", ("impl", "kernel", "lowering"), 5.0),
    Chosen("batching", "impl", ("impl", "host", "kernel"), 2.0),
    Chosen("batching", "host", ("impl", "host", "kernel"), 3.0),
    Chosen("batching", "lowering", ("impl", "lowering"), 7.0),
]


@pytest.mark.parametrize("ask", [ASK, EAGER], ids=["jit", "eager"])
@pytest.mark.parametrize("row", CHOSEN, ids=lambda row: f"{row.wanted} from {row.source}")
def test_what_is_chosen_runs_and_is_what_explain_says(row, ask):
    op = rigged(*row.given)
    op.derive(**{row.wanted: row.source})
    shown = op.explain()[row.wanted]
    assert (shown.status, shown.origin) == ("derived", row.source)
    assert f"chosen with derive({row.wanted}='{row.source}')" in shown.notes
    assert ask[row.wanted](op) == row.number


@pytest.mark.parametrize("row", CHOSEN, ids=lambda row: f"{row.wanted} from {row.source}")
def test_a_choice_reaches_functions_that_were_compiled_before(row):
    op = rigged(*row.given)
    ask = jax.jit(op)
    ask(X)
    if row.wanted == "lowering":
        op.derive(lowering=row.source)
        assert factor(ask(X)) == row.number


def test_every_derivation_is_tried_above():
    """But for the types, which the next tests try, and for what follows from the implementation (`test_on_device`)."""
    derivations = {
        (row.missing, row.have)
        for row in TABLE
        if not row.is_given and not row.is_where_it_runs and row.missing != "abstract_eval"
    }
    assert {(row.wanted, row.source) for row in CHOSEN} == derivations


# What runs where nothing is chosen: the first row that applies, as explain says.
DEFAULT = [
    (("impl", "host"), {"lowering": 2.0, "jvp": 2.0, "vjp": 2.0, "transpose": 2.0, "batching": 2.0}),
    (("impl", "kernel"), {"lowering": 5.0, "jvp": 2.0, "vjp": 2.0, "transpose": 2.0, "batching": 5.0}),
    (("impl", "lowering"), {"lowering": 7.0, "jvp": 2.0, "vjp": 2.0, "transpose": 2.0, "batching": 2.0}),
    (("impl", "jvp"), {"lowering": 2.0, "jvp": 11.0, "vjp": 11.0, "transpose": 2.0, "batching": 2.0}),
    (("impl", "vjp"), {"lowering": 2.0, "jvp": 13.0, "vjp": 13.0, "transpose": 2.0, "batching": 2.0}),
    (("impl", "jvp", "vjp"), {"lowering": 2.0, "jvp": 11.0, "vjp": 13.0, "transpose": 2.0, "batching": 2.0}),
    (("impl", "transpose"), {"lowering": 2.0, "jvp": 2.0, "vjp": 17.0, "transpose": 17.0, "batching": 2.0}),
    (("impl", "jvp", "transpose"), {"jvp": 11.0, "vjp": 11.0, "transpose": 17.0}),
    (("impl", "batching"), {"lowering": 2.0, "batching": 19.0}),
    (("host", "abstract_eval"), {"lowering": 3.0, "batching": 3.0}),
    (("host", "kernel", "abstract_eval"), {"lowering": 5.0, "batching": 5.0}),
    (("host", "abstract_eval", "jvp"), {"lowering": 3.0, "jvp": 11.0, "vjp": 11.0, "batching": 3.0}),
    (("host", "abstract_eval", "vjp"), {"lowering": 3.0, "jvp": 13.0, "vjp": 13.0, "batching": 3.0}),
    (("host", "abstract_eval", "transpose"), {"jvp": 3.0, "vjp": 17.0, "transpose": 17.0}),
    (("lowering", "abstract_eval"), {"lowering": 7.0, "batching": 7.0}),
    (("kernel",), {"lowering": 5.0, "batching": 5.0}),
]
_CASES = [(given, wanted, number) for given, numbers in DEFAULT for wanted, number in numbers.items()]


@pytest.mark.parametrize("ask", [ASK, EAGER], ids=["jit", "eager"])
@pytest.mark.parametrize(("given", "wanted", "number"), _CASES, ids=lambda value: str(value).replace("'", ""))
def test_what_runs_by_default(given, wanted, number, ask):
    assert ask[wanted](rigged(*given)) == number


@pytest.mark.parametrize("given", [given for given, _ in DEFAULT], ids=", ".join)
@pytest.mark.parametrize("wanted", list(ASK))
def test_what_explain_calls_missing_is_refused(given, wanted):
    op = rigged(*given)
    if wanted != "lowering" and op.explain()[wanted].status == "missing":
        with pytest.raises(RuleMissing):
            ASK[wanted](op)


def test_reverse_mode_and_forward_mode_from_the_same_source_are_one():
    """A vjp from the impl beside a jvp from the impl is JAX's own transposition: no rule is recorded."""
    with jaxprim.record_rules(quiet=True) as record:
        ASK["vjp"](rigged("impl"))
    assert not any("vjp" in rule for _, rule, _ in record.counts)


# ------------------------------------------------------------------------------------------------------- types
def test_types_come_from_the_source_that_explain_names():
    """A kernel with another result type than the impl: the type shows which was traced."""
    op = Primitive("op")
    op.def_kernel(lambda x: jnp.concatenate([x, x]), platform="cuda")
    assert op.explain()["abstract_eval"].origin == "kernel"
    assert jax.eval_shape(op, X).shape == (4,)
    op.def_impl(lambda x: x)
    assert op.explain()["abstract_eval"].origin == "impl"
    assert jax.eval_shape(op, X).shape == (2,)
    op.derive(abstract_eval="kernel")
    assert op.explain()["abstract_eval"].origin == "kernel"
    with pytest.raises(RuleWrong, match="the impl returned the result with a different type"):
        jax.eval_shape(op, X)
    op.derive(abstract_eval="impl")
    assert jax.eval_shape(op, X).shape == (2,)
    op.def_abstract_eval(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype))
    assert op.explain()["abstract_eval"].status == "given"


# ------------------------------------------------------------------------------------------------------- compiled code
def test_compiled_code_has_no_derivative_and_explain_says_so():
    def run(x):
        return 2 * x

    run.is_opaque = True
    op = Primitive("op")
    op.def_impl(run)
    assert {row.rule for row in op.explain() if row.status == "missing"} == {"jvp", "vjp", "transpose"}
    assert "it is compiled code, opaque to JAX" in op.explain()["jvp"].why
    for wanted in ("jvp", "vjp", "transpose"):
        with pytest.raises(RuleMissing):
            ASK[wanted](op)


# ------------------------------------------------------------------------------------------------------- choosing
def test_a_choice_that_is_no_row_is_refused():
    op = rigged("impl")
    with pytest.raises(BadCall):
        op.derive(jvp="batching")
    with pytest.raises(BadCall):
        op.derive(nothing="impl")
    with pytest.raises(BadCall):
        op.derive(jvp="jvp")


@pytest.mark.parametrize("kind", ["jvp", "vjp", "transpose", "batching", "abstract_eval"])
def test_a_given_rule_is_not_chosen_away(kind):
    op = rigged("impl", kind)
    with pytest.raises(BadCall, match="has no effect, because"):
        op.derive(**{kind: "impl"})


def test_a_word_is_a_given_batch_rule():
    op = Primitive("op", batching="sequential")
    op.def_impl(lambda x: x)
    with pytest.raises(BadCall, match="batching='sequential'"):
        op.derive(batching="impl")


def test_a_raw_lowering_for_every_platform_is_not_chosen_away():
    op = rigged("impl")
    op.def_lowering(_lower)
    with pytest.raises(BadCall, match="has no effect"):
        op.derive(lowering="impl")


def test_giving_a_rule_ends_a_choice():
    op = rigged("impl", "vjp")
    op.derive(jvp="impl")
    assert ASK["jvp"](op) == 2.0
    op.def_jvp(lambda primals, tangents: (op(*primals), 11.0 * tangents[0]))
    assert op.explain()["jvp"].status == "given"
    assert ASK["jvp"](op) == 11.0


def test_a_choice_without_its_source_is_missing():
    op = rigged("impl")
    op.derive(jvp="vjp")
    assert op.explain()["jvp"].status == "missing"
    with pytest.raises(RuleMissing):
        ASK["jvp"](op)


def test_nothing_to_derive_from():
    op = rigged("host")
    assert choose(op._rules, "vjp").status == "missing"
    assert isinstance(missing(op._rules, "vjp"), RuleMissing)
