"""The table of questions: one row each. A new question is one function and one row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxprim.checking.case import Case
from jaxprim.checking.setting import Answer

from . import batching, fidelity, first_order, kernels, linearity, values, zeros

Speed = Literal["fast", "normal", "thorough"]


@dataclass(frozen=True)
class Question:
    """A question about a subject at one point.

    Attributes:
        name: its stable name.
        sentence: what it asks.
        ask: yields evidence; raises NotAsked with the reason if it does not apply.
        departs: the rule whose declared departure from the derivative (a surrogate VJP) answers it, or None.
        speed: the least thorough check that asks it.
        group: what kind of question it is; reports and pages list those of one group together.
    """

    name: str
    sentence: str
    ask: Callable[[Case], Answer]
    departs: str | None = None
    speed: Speed = "normal"
    group: str = ""


QUESTIONS = (
    Question(
        "abstract-eval",
        "Does abstract eval promise the tree, shape, dtype and weak type that the implementation returns?",
        values.abstract_eval,
        speed="fast",
    ),
    Question("jit", "Do the implementation and both rules give under jax.jit what they give eagerly?", values.jit),
    Question(
        "implementations",
        "Do the impl, the host function and every kernel that can run here give the same?",
        kernels.implementations,
    ),
    Question(
        "primal",
        "Do both rules return the implementation's value beside the derivative?",
        values.primal,
        speed="fast",
    ),
    Question(
        "jvp-differences",
        "Is the JVP rule the derivative, by differences of the implementation?",
        first_order.jvp_differences,
        departs="jvp",
        speed="fast",
    ),
    Question(
        "vjp-differences",
        "Is the VJP rule the transposed derivative, by differences of the implementation?",
        first_order.vjp_differences,
        departs="vjp",
        speed="fast",
    ),
    Question(
        "dot-product",
        "Are the two rules each other's transpose: <ct, J t> = <J^T ct, t>, without conjugation?",
        first_order.dot_product,
        departs="vjp",
        speed="fast",
    ),
    Question("jvp-linear", "Is the JVP rule linear in the tangent?", linearity.jvp_linear, departs="jvp", speed="fast"),
    Question(
        "vjp-linear", "Is the VJP rule linear in the cotangent?", linearity.vjp_linear, departs="vjp", speed="fast"
    ),
    Question("jvp-zeros", "Does the JVP rule treat symbolic zeros as zeros?", zeros.jvp_zeros, speed="fast"),
    Question("vjp-zeros", "Does the VJP rule treat symbolic zeros as zeros?", zeros.vjp_zeros, speed="fast"),
    Question("vmap", "Does vmap of the implementation give what a loop gives?", batching.vmap),
    Question("vmap-jvp", "Does vmap of the JVP, and the JVP of vmap, give what a loop gives?", batching.vmap_jvp),
    Question("vmap-vjp", "Does vmap of the VJP, and the VJP of vmap, give what a loop gives?", batching.vmap_vjp),
    Question(
        "which-rule",
        "Does forward mode run the JVP rule and reverse mode the VJP rule, in every context?",
        fidelity.which_rule,
    ),
)


def named(name: str) -> Question:
    """The question of this name."""
    return next(question for question in QUESTIONS if question.name == name)
