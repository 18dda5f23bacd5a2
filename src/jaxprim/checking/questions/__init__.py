"""The table of questions, one row each. A new one is a function, a row here, and a page in docs/checking/questions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxprim.checking.case import Case
from jaxprim.checking.questions import (
    accuracy,
    batches,
    batching,
    control,
    cost,
    elsewhere,
    explicit,
    fidelity,
    first_order,
    kernels,
    linearity,
    modes,
    repeat,
    scale,
    second_order,
    types,
    values,
    zeros,
)
from jaxprim.checking.setting import Answer

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
    # ------------------------------------------------------------------------------------------------------------ values
    Question(
        "abstract-eval",
        "Does abstract eval promise the tree, shape, dtype and weak type that the implementation returns?",
        values.abstract_eval,
        speed="fast",
        group="values",
    ),
    Question(
        "reference",
        "Does the implementation give what the reference gives?",
        values.reference,
        speed="fast",
        group="values",
    ),
    Question(
        "deterministic",
        "Do the same operands give the same results again?",
        repeat.deterministic,
        group="values",
    ),
    Question(
        "pure",
        "Are operands left as they were, and is nothing remembered from one call to the next?",
        repeat.pure,
        group="values",
    ),
    Question(
        "jit",
        "Do the implementation and both rules give under jax.jit what they give eagerly?",
        values.jit,
        group="values",
    ),
    Question(
        "disable-jit",
        "Do they give the same under jax.disable_jit()?",
        values.disable_jit,
        speed="thorough",
        group="values",
    ),
    Question(
        "implementations",
        "Do the impl, the host function and every kernel that can run here give the same?",
        kernels.implementations,
        group="values",
    ),
    Question(
        "primal",
        "Do both rules return the implementation's value beside the derivative?",
        values.primal,
        speed="fast",
        group="values",
    ),
    # ------------------------------------------------------------------------------------------------------- first order
    Question(
        "jvp-differences",
        "Is the JVP rule the derivative, by differences of the implementation?",
        first_order.jvp_differences,
        departs="jvp",
        speed="fast",
        group="first order",
    ),
    Question(
        "vjp-differences",
        "Is the VJP rule the transposed derivative, by differences of the implementation?",
        first_order.vjp_differences,
        departs="vjp",
        speed="fast",
        group="first order",
    ),
    Question(
        "zero-operands",
        "Are both rules the derivative where operands hold zeros?",
        elsewhere.zero_operands,
        departs="vjp",
        group="first order",
    ),
    Question(
        "static-params",
        "Do values and both rules hold for other values of the static params?",
        elsewhere.static_params,
        departs="vjp",
        group="first order",
    ),
    Question(
        "dot-product",
        "Are the two rules each other's transpose: <ct, J t> = <J^T ct, t>, without conjugation?",
        first_order.dot_product,
        departs="vjp",
        speed="fast",
        group="first order",
    ),
    Question(
        "jvp-linear",
        "Is the JVP rule linear in the tangent?",
        linearity.jvp_linear,
        departs="jvp",
        speed="fast",
        group="first order",
    ),
    Question(
        "vjp-linear",
        "Is the VJP rule linear in the cotangent?",
        linearity.vjp_linear,
        departs="vjp",
        speed="fast",
        group="first order",
    ),
    Question(
        "jvp-zeros",
        "Does the JVP rule treat symbolic zeros as zeros?",
        zeros.jvp_zeros,
        speed="fast",
        group="first order",
    ),
    Question(
        "vjp-zeros",
        "Does the VJP rule treat symbolic zeros as zeros?",
        zeros.vjp_zeros,
        speed="fast",
        group="first order",
    ),
    Question(
        "tangent-types",
        "Is each tangent and cotangent of the type of what it belongs to, and float0 for integers?",
        modes.tangent_types,
        speed="fast",
        group="first order",
    ),
    Question(
        "holomorphic",
        "Is the JVP rule right along t and along i t, for a complex t?",
        modes.holomorphic,
        departs="jvp",
        group="first order",
    ),
    Question(
        "linearize",
        "Does jax.linearize give the value and the tangents of the JVP rule?",
        modes.linearize,
        group="first order",
    ),
    # ------------------------------------------------------------------------------------------------------ second order
    Question(
        "second-order",
        "Is the derivative of each rule right, by differences of that rule?",
        second_order.second_order,
        departs="vjp",
        group="second order",
    ),
    Question(
        "mixes",
        "Do forward and reverse mode over forward and reverse mode give the same second derivative?",
        second_order.mixes,
        departs="vjp",
        group="second order",
    ),
    Question(
        "symmetry",
        "Is the second derivative symmetric in its two directions?",
        second_order.symmetry,
        departs="vjp",
        group="second order",
    ),
    Question(
        "third-order",
        "Is the second derivative of each rule right, by differences of its first derivative?",
        second_order.third_order,
        departs="vjp",
        speed="thorough",
        group="second order",
    ),
    # ---------------------------------------------------------------------------------------------------------- batching
    Question("vmap", "Does vmap of the implementation give what a loop gives?", batching.vmap, group="batching"),
    Question(
        "vmap-jvp",
        "Does vmap of the JVP, and the JVP of vmap, give what a loop gives?",
        batching.vmap_jvp,
        group="batching",
    ),
    Question(
        "vmap-vjp",
        "Does vmap of the VJP, and the VJP of vmap, give what a loop gives?",
        batching.vmap_vjp,
        group="batching",
    ),
    Question(
        "vmap-patterns",
        "Does vmap give what a loop gives for every choice of axes?",
        batches.vmap_patterns,
        group="batching",
    ),
    Question(
        "vmap-sizes",
        "Does vmap work over a batch of one, and over a batch of none?",
        batches.vmap_sizes,
        group="batching",
    ),
    Question(
        "vmap-nested",
        "Does vmap of vmap, each over another axis, give what one element gives?",
        batches.vmap_nested,
        speed="thorough",
        group="batching",
    ),
    # ------------------------------------------------------------------------------------------------------ control flow
    Question(
        "which-rule",
        "Does forward mode run the JVP rule and reverse mode the VJP rule, in every context?",
        fidelity.which_rule,
        group="control flow",
    ),
    Question(
        "control-flow",
        "Are value, JVP and VJP the same inside scan, cond, while_loop and checkpoint?",
        control.control_flow,
        group="control flow",
    ),
    Question(
        "checkpoint",
        "Are JVP and VJP the same under every policy of jax.checkpoint?",
        control.checkpoint,
        speed="thorough",
        group="control flow",
    ),
    Question(
        "kernel-runs",
        "How often does the host function run, and does it run once for one call?",
        cost.kernel_runs,
        group="control flow",
    ),
    Question(
        "residuals",
        "How many bytes does reverse mode keep, and are all of them read?",
        cost.residuals,
        group="control flow",
    ),
    # ------------------------------------------------------------------------------------------------------------- types
    Question(
        "dtypes",
        "Does it keep its types and its values in every dtype that it takes?",
        types.dtypes,
        group="types",
    ),
    Question(
        "x64",
        "Does it keep its values with 64-bit types switched the other way?",
        types.x64,
        speed="thorough",
        group="types",
    ),
    Question(
        "shapes",
        "Do its types hold for operands without elements, and for single numbers?",
        types.shapes,
        speed="thorough",
        group="types",
    ),
    # ---------------------------------------------------------------------------------------------------------- numerics
    Question(
        "accuracy",
        "How many units in the last place is it off, at random, tiny, huge and special numbers?",
        accuracy.accuracy,
        speed="thorough",
        group="numerics",
    ),
    # ------------------------------------------------------------------------------------------------------------- scale
    Question(
        "sharded-jit",
        "Does jit give on two devices what it gives on one?",
        scale.sharded_jit,
        speed="thorough",
        group="scale",
    ),
    Question(
        "shard-map",
        "Does shard_map over two devices give what a loop gives?",
        scale.shard_map,
        speed="thorough",
        group="scale",
    ),
    Question(
        "explicit-mesh",
        "Are values and shardings right on a mesh whose axes are a part of types?",
        explicit.explicit_mesh,
        speed="thorough",
        group="scale",
    ),
    Question(
        "export",
        "Does a program that is exported and read again give the same?",
        scale.export,
        speed="thorough",
        group="scale",
    ),
)


def named(name: str) -> Question:
    """The question of this name."""
    return next(question for question in QUESTIONS if question.name == name)
