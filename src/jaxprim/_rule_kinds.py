"""The kinds of rule that a primitive can have, one row each, and the forms in which an author may write them.

Each row holds all facts about a kind: its name in messages, its arguments, the transformation that needs it, and the
line that defines it. A new kind needs one row here, its rows in `derive/table.py` with the file that derives it, one
``def_...`` method, and one page in ``docs/rules``. A new way to write a kind needs one `Form` and one file in
``forms/``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Form:
    """One way to write a rule.

    Attributes:
        phrase: the name of such a rule in messages.
        leading: the arguments before the operands, or instead of them.
        said: the note in ``explain``; empty for the usual form.
        beside: the second entry of the returned pair, next to the primal outputs, if there is one.
        why: what a message says about its arguments.
        trailing: the arguments after the operands.
    """

    phrase: str
    leading: tuple[str, ...] = ()
    said: str = ""
    beside: str = ""
    why: str = ""
    trailing: tuple[str, ...] = ()

    def of(self, operand: str) -> Form:
        """The form of a rule for one operand."""
        return replace(self, phrase=f"{self.phrase} of operand '{operand}'")


@dataclass(frozen=True)
class RuleKind:
    """One kind of rule.

    Attributes:
        name: the name, as in ``def_NAME``, ``derive(NAME=...)`` and ``explain``.
        form: the usual way to write it.
        need: the transformation that needs it, as messages say it.
        write: the line that defines it; ``{0}`` is the primitive.
        is_implementation: whether it computes the operation.
        per_platform: whether there may be one for each platform.
        per_operand: whether there may be one for each operand, and none is derived.
    """

    name: str
    form: Form
    need: str
    write: str
    is_implementation: bool = False
    per_platform: bool = False
    per_operand: bool = False


JVP_PER_OPERAND = Form("JVP rule", ("x_dot", "y"), said="per operand")
VJP_PER_OPERAND = Form("VJP rule", ("y_bar", "y"), said="per operand")
VJP_PAIR = Form("forward function of the VJP rule", said="the two functions of jax.custom_vjp")
VJP_BACKWARD = Form(
    "backward function of the VJP rule",
    ("residuals", "cotangents"),
    why="it gets what fwd returned as residuals, and no static params: return those that it needs from fwd",
)
PARTIALS = Form("function of partial derivatives", ("y",), said="partial derivatives")
# The equation of an operation that solves one, in its three forms, and who solves the linear systems of its derivative.
RESIDUAL = Form("residual", ("y",), said="implicit")
FIXED_POINT = Form("fixed-point function", ("y",), said="implicit, of a fixed point")
MINIMUM = Form("objective", ("y",), said="implicit, of a minimum")
SOLVE = Form("solve function", ("matvec", "b"), why="it solves matvec(x) = b, where b and x have the structure of y")

KINDS: tuple[RuleKind, ...] = (
    RuleKind("impl", Form("impl"), "a call", "@{0}.def_impl", is_implementation=True),
    RuleKind("host", Form("host function"), "a call", "@{0}.def_host", is_implementation=True),
    RuleKind(
        "kernel",
        Form("kernel"),
        "a call",
        "@{0}.def_kernel(platform='cuda')",
        is_implementation=True,
        per_platform=True,
    ),
    RuleKind(
        "lowering",
        Form("lowering rule", ("ctx",)),
        "a call",
        "@{0}.def_impl",
        is_implementation=True,
        per_platform=True,
    ),
    RuleKind(
        "abstract_eval",
        Form("abstract eval"),
        "a call",
        "@{0}.def_abstract_eval  # def rule(*avals): return jax.ShapeDtypeStruct(shape, dtype)",
    ),
    RuleKind(
        "jvp",
        Form("JVP rule", ("primals", "tangents"), beside="tangents_out"),
        "forward-mode differentiation (jvp)",
        "@{0}.def_jvp  # def rule(primals, tangents): return primals_out, tangents_out",
    ),
    RuleKind(
        "vjp",
        Form("VJP rule", ("primals",), beside="pullback"),
        "reverse-mode differentiation (vjp, grad)",
        "@{0}.def_vjp  # def rule(primals): return primals_out, pullback",
    ),
    RuleKind(
        "transpose",
        Form("transpose rule", ("y_bar",)),
        "transposition (linear_transpose)",
        "@{0}.def_transpose  # def rule(y_bar, *other_operands), with linear=('operand',)",
    ),
    RuleKind(
        "batching",
        Form("batch rule", ("axis", "args", "dims"), beside="dims"),
        "batching (vmap)",
        "@{0}.def_batching  # def rule(axis, args, dims): return outs, dims_out",
    ),
    RuleKind("sharding", Form("sharding rule"), "splitting over devices", "{0}.def_sharding('n -> n')"),
    RuleKind(
        "partition",
        Form("partition rule", trailing=("axis",)),
        "splitting over devices",
        "@{0}.def_partition  # def rule(*local_operands, axis): return local_results",
    ),
    RuleKind(
        "function",
        Form("declaration of a function operand"),
        "a call with a function as an operand",
        "@{0}.def_function('f')  # def rule(*operands): return the arguments of f, a tuple",
        per_operand=True,
    ),
)

BY_NAME: dict[str, RuleKind] = {kind.name: kind for kind in KINDS}


def form_of(kind: str) -> Form:
    """The usual form of a kind."""
    return BY_NAME[kind].form
