"""What is checked: a primitive, or any function that JAX can trace, seen through the same few questions."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import jax

from jaxprim import _jax
from jaxprim._errors import BadCall, RuleMissing, message
from jaxprim._primitive import Primitive
from jaxprim._rules import rules_of
from jaxprim._types import RuleInfo
from jaxprim.checking import draw
from jaxprim.checking.values import is_scalar
from jaxprim.derive import report

# What JAX says of a function that has no derivative in one mode. Any other error is a fault of the rule.
REFUSALS = (
    r"can't apply forward-mode (autodiff|differentiation) \(jvp\) to a custom_vjp function",
    r"callbacks? do(es)? not support (JVP|transpose|differentiation)",
    r"Linearization failed to produce known values",
    r"FFI calls? (cannot|do not|does not)",
    r"Reverse-mode differentiation does not work for lax\.while_loop",
    r"(Differentiation|Transpose|Transposition) rule (for|\(for).*not implemented",
    r"(Differentiation|Transpose) rule not implemented",
    r"[Gg]radients? .*not (supported|implemented)",  # betainc, in its first two operands
    r"cannot be (auto)?differentiated",  # libraries, of what they do not support
    r"[Dd]erivatives of non-symmetric eigenvectors",
    r"reduce_precision does not accept dtype complex",  # checkpoint policies that save complex numbers
)
_REFUSAL = re.compile("|".join(REFUSALS))
# How a stack begins that stands in a message.
TRACEBACK = "Traceback (most recent call last):"


class NoExamples(BadCall):
    """There is nothing to check a subject on."""


@dataclass(frozen=True)
class Subject:
    """A primitive or a function under check.

    Attributes:
        name: how reports call it.
        call: applies it to operands and static params.
        primitive: the primitive, or None for a function.
        reference: the same function by other means, which it must agree with; or None.
    """

    name: str
    call: Callable[..., Any]
    primitive: Primitive | None = None
    reference: Callable[..., Any] | None = None
    _compiles_anew: dict[str, bool] = field(default_factory=dict[str, bool], init=False, repr=False, compare=False)

    @staticmethod
    def of(target: Callable[..., Any], reference: Callable[..., Any] | None = None) -> Subject:
        """The subject that a primitive or a function is."""
        if isinstance(target, Primitive):
            return Subject(target.name, target, target, reference)
        return Subject(getattr(target, "__name__", None) or type(target).__name__, target, None, reference)

    @property
    def surrogate(self) -> str | None:
        """The author's reason why the VJP departs from the derivative, or None if it does not."""
        return rules_of(self.primitive).surrogate if self.primitive is not None else None

    def rule(self, name: str) -> RuleInfo | None:
        """What is known of a rule; None for a function, which JAX differentiates as it can."""
        if self.primitive is None:
            return None
        return next((info for info in report(rules_of(self.primitive)) if info.rule == name), None)

    def missing(self, name: str) -> str | None:
        """Why there is no rule of this name, or None if there is one, or it is not known before it is asked."""
        info = self.rule(name)
        return f"no {name.upper()} rule: {info.why}" if info is not None and info.status == "missing" else None

    def gave(self, name: str) -> bool:
        """Whether the author gave a rule of this name."""
        info = self.rule(name)
        return info is not None and info.status == "given"

    def departs(self, name: str) -> bool:
        """Whether a rule's disagreement with the derivative is the author's declared departure."""
        info = self.rule(name)
        return self.surrogate is not None and (name == "vjp" or (info is not None and info.origin == "vjp"))

    def compiles_anew(self, rule: str, function: Callable[..., Any], operands: Sequence[Any]) -> bool:
        """Whether JAX compiles a part of the implementation or of a rule at each call; found out once for each."""
        if rule not in self._compiles_anew:
            self._compiles_anew[rule] = _compiles_anew(function, operands)
        return self._compiles_anew[rule]

    def examples(self) -> list[tuple[tuple[Any, ...], Mapping[str, Any]]]:
        """The author's examples, or the types that a kernel declares; raises with the line to write where there are none."""
        found = self.primitive.examples() if self.primitive is not None else ()
        if not found:
            types = draw.declared(self.primitive) if self.primitive is not None else None
            if types is None:
                raise NoExamples(_no_examples(self))
            return [(types, {})]
        return [(example.operands, example.params) for example in found]

    def closed(self, operands: tuple[Any, ...]) -> tuple[Subject, tuple[Any, ...]]:
        """The subject as a function of the operands that hold numbers, and these: others, such as functions, are static.

        So is an operand that ``nondiff_argnums`` of ``jax.custom_jvp`` or ``jax.custom_vjp`` names.
        """
        declared = getattr(self.call, "nondiff_argnums", ()) if self.primitive is None else ()
        static = {i: x for i, x in enumerate(operands) if i in declared or not _holds_numbers(x)}
        if not static or self.primitive is not None:
            return self, operands
        reference = None if self.reference is None else _closed(self.reference, static, self.call)
        subject = replace(self, call=_closed(self.call, static, self.call), reference=reference)
        return subject, tuple(x for i, x in enumerate(operands) if i not in static)

    def split(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """A call's operands and static params: a primitive's operand may also go by name."""
        if self.primitive is None:
            return args, kwargs
        return rules_of(self.primitive).signature.bind(self.name, args, kwargs)

    def operand_names(self, operands: tuple[Any, ...], params: Mapping[str, Any]) -> tuple[str, ...]:
        """The name of each operand: from the signature where it tells, else by position."""
        if self.primitive is not None:
            return rules_of(self.primitive).signature.names(len(operands))
        try:
            bound = inspect.signature(self.call).bind(*operands, **params)
        except (TypeError, ValueError):
            return tuple(f"operand{i}" for i in range(len(operands)))
        return _names_of(bound, len(operands))


def _compiles_anew(function: Callable[..., Any], operands: Sequence[Any]) -> bool:
    """Whether a second call compiles something, such as a loop whose body is a closure."""
    try:
        jax.block_until_ready(function(*operands))
        before = _jax.compilations()
        function(*operands)
    except Exception:  # noqa: BLE001 - a function that fails says so where it is asked
        return False
    return _jax.compilations() > before


def _holds_numbers(operand: Any) -> bool:
    """Whether all leaves of an operand are arrays, numbers, keys, or the type of an array."""
    leaves = jax.tree_util.tree_leaves(operand)
    return all(is_scalar(leaf) or (hasattr(leaf, "dtype") and hasattr(leaf, "shape")) for leaf in leaves)


def _closed(function: Callable[..., Any], static: Mapping[int, Any], like: Callable[..., Any]) -> Callable[..., Any]:
    """The function without its static operands, with the names of those that are left."""

    def call(*operands: Any, **params: Any) -> Any:
        given = iter(operands)
        every = [static[i] if i in static else next(given) for i in range(len(static) + len(operands))]
        return function(*every, **params)

    with suppress(TypeError, ValueError):  # a builtin has no signature
        signature = inspect.signature(like)
        left = [p for i, p in enumerate(signature.parameters.values()) if i not in static]
        call.__signature__ = signature.replace(parameters=left)
    return call


def _no_examples(subject: Subject) -> str:
    """What to write for a subject that cannot be checked, as there is no example of its operands."""
    if subject.primitive is None:
        return message(
            f"{subject.name}: no example to check it on.",
            got="no operands",
            expected="an example of its operands",
            write=f"jaxprim.check({subject.name}, x, ...)",
        )
    return message(
        f"{subject.name}: no example to check it on.",
        got="no operands, and no def_examples",
        expected="at least one example of its operands",
        write=f"@{subject.name}.def_examples\n            def _():\n                return [(x, ...)]"
        "  # each entry: the operands, or Example(operands, params)",
    )


def _names_of(bound: inspect.BoundArguments, count: int) -> tuple[str, ...]:
    names: list[str] = []
    for name, parameter in bound.signature.parameters.items():
        if name not in bound.arguments:
            continue
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{name}[{i}]" for i in range(len(bound.arguments[name]))]
        else:
            names.append(name)
    return tuple(names[:count])


def refusal(error: BaseException) -> str | None:
    """The reason why something cannot be asked, if an error says so: a rule is missing, or JAX has no such mode."""
    if isinstance(error, RuleMissing):
        return first_line(error)
    found = isinstance(error, TypeError | ValueError | NotImplementedError | RuntimeError) and _REFUSAL.search(
        str(error)
    )
    return f"JAX has no such rule for it: {first_line(error)}" if found else None


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where it has none."""
    return next((line for line in without_frames(str(error).strip()) if line), type(error).__name__)


def without_frames(message: str) -> Iterator[str]:
    """The lines of a message but for a traceback in it, such as that of a host function: what it raised comes last."""
    lead, inside = "", False
    for line in message.splitlines():
        if inside and line.startswith("  "):
            continue  # a frame
        inside = line.endswith(TRACEBACK)
        if inside:
            lead += line.removesuffix(TRACEBACK)
        else:
            yield (lead + line).rstrip()
            lead = ""
    if lead:
        yield lead.rstrip()
