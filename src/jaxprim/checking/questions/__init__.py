"""The questions, in the order of asking. A new one is a function with `@question` in a file named after it
or after its group, listed here, with a page in docs/checking/questions.
"""

from __future__ import annotations

from types import ModuleType

from jaxprim.checking.question import Question, Speed
from jaxprim.checking.questions import (
    abstract_eval,
    accuracy,
    communication,
    control_flow,
    devices,
    dot_product,
    dtypes,
    elsewhere,
    equations,
    explicit_mesh,
    export,
    holomorphic,
    implementations,
    jit,
    jvp_differences,
    kernel_runs,
    linearity,
    linearize,
    other_points,
    primal,
    purity,
    reference,
    residuals,
    second_order,
    shapes,
    split,
    symbolic_zeros,
    tangent_types,
    vjp_differences,
    vmap,
    vmap_nested,
    vmap_patterns,
    vmap_sizes,
    which_rule,
    x64,
)  # fmt: skip

__all__ = ["MODULES", "QUESTIONS", "Question", "Speed", "find_question"]

MODULES = (
    *(abstract_eval, reference, purity, jit, implementations, primal),  # values
    *(jvp_differences, vjp_differences, elsewhere, other_points, dot_product, linearity),  # first order
    *(symbolic_zeros, tangent_types, holomorphic, linearize),
    equations,
    second_order,
    *(vmap, vmap_patterns, vmap_sizes, vmap_nested),  # batching
    *(which_rule, control_flow, kernel_runs, residuals),  # control flow
    *(dtypes, x64, shapes),  # types
    accuracy,  # numerics
    *(split, communication, devices, explicit_mesh, export),  # scale
)


def _questions_of(module: ModuleType) -> list[Question]:
    """The questions that a module defines, in order; imported ones are left out."""
    found = [value for value in vars(module).values() if isinstance(value, Question)]
    return [question for question in found if question.ask.__module__ == module.__name__]


QUESTIONS = tuple(question for module in MODULES for question in _questions_of(module))


def find_question(name: str) -> Question:
    """The question of this name."""
    return next(question for question in QUESTIONS if question.name == name)
