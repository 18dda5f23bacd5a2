"""The functions of ``jax.custom_vjp`` and ``jax.custom_jvp``, as they are.

Three things differ from rules that are written for jaxprim. Non-differentiable arguments stand among the operands of
`fun` and `fwd`, and before all else in `bwd` and the JVP rule. With ``symbolic_zeros=True`` the functions see JAX's own
objects. And functions may close over traced values. Such a call has one more operand, the last: the arrays of its
non-differentiable arguments, and the closed-over values (`Hidden` says which).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
from jax.custom_derivatives import CustomVJPPrimal

from jaxprim import _jax
from jaxprim._closures import ClosedOver, differentiated, ended, first_differentiated, with_values
from jaxprim._errors import BadCall, message
from jaxprim._nondiff import thaw
from jaxprim._origin import name_of, place
from jaxprim._rule_kinds import VJP_BACKWARD, VJP_PAIR, form_of
from jaxprim._rules import AuthorFn, Rule, RuleSet, call_author
from jaxprim._trees import Flags, TreeMismatch, describe, flatten_like, split, tuple_tree, with_zero
from jaxprim._zeros import is_zero
from jaxprim.forms.whole import pair_rule

# The static param of a call that has hidden operands.
HIDDEN = "hidden_operands"


@dataclass(frozen=True)
class Hidden:
    """The last operand of a call, ``(arrays, values)``.

    Attributes:
        arrays: how many arrays non-differentiable arguments hold.
        outer: the traced values that functions close over.
    """

    arrays: int
    outer: tuple[ClosedOver, ...] = ()

    def __repr__(self) -> str:
        return f"{self.arrays + len(self.outer)}"


@dataclass(frozen=True, eq=False)
class Decorated:
    """A function as ``custom_vjp`` or ``custom_jvp`` took it.

    Attributes:
        word: ``"custom_vjp"`` or ``"custom_jvp"``.
        fun: the function.
        signature: its signature; positional arguments only.
        names: the names of its non-differentiable arguments.
        argnums: their positions.
    """

    word: str
    fun: AuthorFn
    signature: inspect.Signature
    names: tuple[str, ...]
    argnums: tuple[int, ...]

    def merge(self, static: Sequence[Any], operands: Sequence[Any]) -> list[Any]:
        """All arguments, in their order."""
        statics, others = iter(static), iter(operands)
        return [next(statics if i in self.argnums else others) for i in range(len(static) + len(operands))]

    def separate(self, args: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """The non-differentiable arguments, and the others."""
        return [args[i] for i in self.argnums], [arg for i, arg in enumerate(args) if i not in self.argnums]

    @property
    def positional(self) -> tuple[str, ...]:
        """The names of all arguments."""
        return tuple(self.signature.parameters)

    def given(self, operands: Sequence[Any], params: Mapping[str, Any], flags: Flags | None = None) -> _Given:
        """What a call gives to the function, or to a rule."""
        hidden: Hidden | None = params.get(HIDDEN)
        arrays, values = operands[-1] if hidden is not None else ((), ())
        left = iter(arrays)
        static = [thaw(params[name], left) for name in self.names]
        count = len(operands) - (hidden is not None)
        marks: list[list[bool]] = [] if flags is None else split(flags.tree.children(), flags.leaves)
        trees = [] if flags is None else flags.tree.children()[:count]
        return _Given(
            self,
            tuple(operands[:count]),
            static,
            Flags(tuple_tree(trees), [mark for part in marks[:count] for mark in part]),
            () if hidden is None else hidden.outer,
            list(values),
            marks[count] if len(marks) > count else [],
        )


def decorated(word: str, fun: AuthorFn, argnums: Sequence[int], argnames: Sequence[str]) -> Decorated:
    """A function and its non-differentiable arguments."""
    kinds = inspect.Parameter
    try:
        parameters = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):  # a builtin
        parameters = [kinds("operands", kinds.VAR_POSITIONAL)]
    parameters = [p.replace(annotation=kinds.empty) for p in parameters]
    parameters = [p for p in parameters if p.kind not in (kinds.KEYWORD_ONLY, kinds.VAR_KEYWORD)]
    signature = inspect.Signature(parameters)
    names = [p.name for p in parameters if p.kind is not kinds.VAR_POSITIONAL]
    variadic = next((p.name for p in parameters if p.kind is kinds.VAR_POSITIONAL), None)
    argnums = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    argnames = (argnames,) if isinstance(argnames, str) else tuple(argnames)
    unknown = [name for name in argnames if name not in names]
    unknown += [i for i in argnums if not 0 <= i < len(names) and (variadic is None or i < 0)]
    if unknown:
        raise _no_argument(word, fun, unknown[0], names)
    places = tuple(sorted({*argnums, *map(names.index, argnames)}))
    static = [names[i] if i < len(names) else f"{variadic}_{i - len(names)}" for i in places]
    return Decorated(word, fun, signature, tuple(static), places)


@dataclass(frozen=True, eq=False)
class _Given:
    """What a call gives to the function or to a rule.

    Attributes:
        of: the function.
        operands: the operands, without the hidden one.
        static: the non-differentiable arguments.
        flags: which leaves of the operands are perturbed.
        outer, values: what the functions close over, and the operands that stand for it.
        marks: which leaves of the hidden operand are perturbed.
    """

    of: Decorated
    operands: tuple[Any, ...]
    static: list[Any]
    flags: Flags
    outer: Sequence[ClosedOver]
    values: list[Any]
    marks: list[bool]

    def close(self, fn: AuthorFn) -> AuthorFn:
        """A function of the author's, with operands in the place of the traced values that it closes over."""
        return with_values(fn, self.outer, self.values, self._ended)

    def _ended(self, closed: ClosedOver, rule: AuthorFn) -> BadCall:
        name = name_of(self.of.fun)
        return ended(name, closed, rule, _with_argument(name, self.of, closed))

    def refuse_perturbed(self, rules: RuleSet, rule: AuthorFn) -> None:
        """Refuse to differentiate in what the rule gives no derivative for.

        A value that only the rules close over is no argument of the function, so its derivative is zero. As in JAX,
        `custom_jvp` stops the derivative at a non-differentiable argument, and `custom_vjp` refuses it.
        """
        if not any(self.marks):
            return
        arrays = len(self.marks) - len(self.outer)
        if self.of.word == "custom_vjp" and any(self.marks[:arrays]):
            raise _differentiated_argument(rules, self.of, rule)
        args = self.of.merge(self.static, self.operands)
        closed = first_differentiated(self.of.fun, args, self.outer, self.marks[arrays:])
        if closed is not None:
            why = f"the rule knows the derivatives of the arguments only, as with jax.{self.of.word}"
            write = _with_argument(rules.name, self.of, closed)
            raise differentiated(rules.name, closed, "an argument", why, rule, write)


def implementation(of: Decorated) -> AuthorFn:
    """The impl of a decorated function: non-differentiable arguments are static params."""

    @functools.wraps(of.fun, updated=())
    def impl(*operands: Any, **params: Any) -> Any:
        given = of.given(operands, params)
        return given.close(of.fun)(*of.merge(given.static, given.operands))

    kinds = inspect.Parameter
    operands = [p for p in of.signature.parameters.values() if p.name not in of.names]
    static = [kinds(name, kinds.KEYWORD_ONLY) for name in of.names]
    # Messages ask what the function was decorated with.
    vars(impl).update(__signature__=inspect.Signature([*operands, *static]), decorated_with=of.word)
    return impl


def vjp_as_jax(
    rules: RuleSet, of: Decorated, fwd: AuthorFn, bwd: AuthorFn, symbolic_zeros: bool, surrogate: str | None
) -> Rule:
    """The two functions of ``defvjp``."""
    fwd_form = replace(VJP_PAIR, leading=of.positional)
    why = "the non-differentiable arguments come first" if of.names else VJP_BACKWARD.why
    bwd_form = replace(VJP_BACKWARD, leading=(*of.names, *VJP_BACKWARD.leading), why=why)

    def forward(primals: Any, perturbed: Flags, params: Mapping[str, Any]) -> Any:
        given = of.given(primals, params, perturbed)
        given.refuse_perturbed(rules, fwd)
        args = _marked(given.operands, given.flags) if symbolic_zeros else given.operands
        result = call_author(rules, fwd_form, given.close(fwd), *of.merge(given.static, args))
        if not isinstance(result, tuple | list) or len(result) != 2:
            return result
        return result[0], (given, HIDDEN in params, result[1])

    def backward(kept: Any, cts: Any) -> Any:
        given, has_hidden, residuals = kept
        cts = as_symbolic_zeros(cts) if symbolic_zeros else cts
        found = call_author(rules, bwd_form, given.close(bwd), *given.static, residuals, cts)
        found = _in_dtypes_of(given, found)
        return with_zero(found, len(given.operands)) if has_hidden else found

    return pair_rule(rules, fwd, forward, backward, surrogate)


def jvp_as_jax(rules: RuleSet, of: Decorated, jvp: AuthorFn, symbolic_zeros: bool) -> Rule:
    """The function of ``defjvp``."""
    form = replace(form_of("jvp"), leading=(*of.names, *form_of("jvp").leading))

    def fn(primals: Any, tangents: Any, perturbed: Flags, params: Mapping[str, Any]) -> Any:
        given = of.given(primals, params, perturbed)
        given.refuse_perturbed(rules, jvp)
        dots = tuple(tangents[: len(given.operands)])
        dots = as_symbolic_zeros(dots) if symbolic_zeros else dots
        return call_author(rules, form, given.close(jvp), *given.static, given.operands, dots)

    return Rule("jvp", jvp, fn)


def as_symbolic_zeros(tree: Any) -> Any:
    """Tangents or cotangents with JAX's symbolic zeros, which rules with ``symbolic_zeros=True`` look for."""
    return jax.tree.map(lambda leaf: _jax.SymbolicZero(leaf.aval) if is_zero(leaf) else leaf, tree)


def _marked(operands: Sequence[Any], flags: Flags) -> tuple[Any, ...]:
    """Operands whose leaves say whether they are perturbed."""
    leaves = map(CustomVJPPrimal, jax.tree.leaves(tuple(operands)), flags.leaves)
    return jax.tree.unflatten(flags.tree, list(leaves))


def _in_dtypes_of(given: _Given, cotangents: Any) -> Any:
    """Cotangents in the dtypes of their operands. JAX takes any other: a rule for bfloat16 may sum in float32."""
    if not isinstance(cotangents, tuple | list) or len(cotangents) != len(given.operands):
        return cotangents
    return tuple(_like(operand, ct) for operand, ct in zip(given.operands, cotangents, strict=True))


def _like(operand: Any, ct: Any) -> Any:
    leaves, tree = jax.tree.flatten(operand)
    try:
        cts = flatten_like(tree, ct, spread=True)
    except TreeMismatch:
        return ct  # the reader of the cotangents says what is wrong
    if all(map(_has_dtype_of, leaves, cts)):
        return ct
    return tree.unflatten([c if _has_dtype_of(x, c) else c.astype(x.dtype) for x, c in zip(leaves, cts, strict=True)])


def _has_dtype_of(operand: Any, ct: Any) -> bool:
    """Whether a cotangent is used as it is: a float of another width is converted, and a complex number is not."""
    if not hasattr(ct, "astype") or ct.dtype == operand.dtype or is_zero(ct):
        return True
    is_a = lambda value, kind: jax.numpy.issubdtype(value.dtype, kind)
    return not any(is_a(ct, kind) and is_a(operand, kind) for kind in (jax.numpy.floating, jax.numpy.complexfloating))


# -------------------------------------------------------------------------------------------------------------- errors
def _with_argument(name: str, of: Decorated, closed: ClosedOver) -> str:
    arguments = ", ".join([*of.positional, closed.name])
    return f"{name}({arguments})  # one more argument of the function and of its rule"


def _differentiated_argument(rules: RuleSet, of: Decorated, rule: AuthorFn) -> BadCall:
    names = ", ".join(of.names)
    return BadCall(
        message(
            f"{rules.name}: a non-differentiable argument is differentiated.",
            got=f"a derivative in {names}",
            expected=f"a derivative in {', '.join(name for name in of.positional if name not in of.names)}",
            why="the rule returns no cotangent for it",
            rule=rule,
            write=f"jax.lax.stop_gradient({of.names[0]})  # or without nondiff_argnums: an argument with a derivative",
        )
    )


def _no_argument(word: str, fun: AuthorFn, got: Any, names: Sequence[str]) -> BadCall:
    by_name = isinstance(got, str)
    places = [repr(name) if by_name else str(i) for i, name in enumerate(names)]
    option = "nondiff_argnames" if by_name else "nondiff_argnums"
    return BadCall(
        message(
            f"{name_of(fun)}: {option} names an argument that the function does not take.",
            got=f"{option}=({got!r},)",
            expected=f"one of {', '.join(places)}" if places else "no argument",
            why="an argument that is passed by keyword only is not possible" if by_name else None,
            rule=fun,
            write=f"@partial(jaxprim.{word}, {option}=({places[0] if places else ''},))",
        )
    )


def no_function(word: str, got: Any) -> BadCall:
    """The error for a decorator, or one of its methods, that got something else than a function."""
    return BadCall(
        message(
            f"{word} needs a function.",
            got=describe(got),
            expected="a function",
            defined=place(),
            write=f"@jaxprim.{word}  # on the function" if word.startswith("custom") else f"{word}(rule)",
        )
    )
