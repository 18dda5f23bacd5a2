"""The subject of a check: a primitive, or any function that JAX can trace, behind one interface.

This is the only file of the checker and of fuzzing that knows `Primitive`, its rules, their derivations and the kernels.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import jax

from jaxprim import _jax
from jaxprim._errors import BadCall, message
from jaxprim._origin import name_of
from jaxprim._primitive import Primitive
from jaxprim._rules import rules_of
from jaxprim._types import Example, RuleInfo
from jaxprim._use import use
from jaxprim.checking.answers import Refusal, attempt
from jaxprim.checking.values import is_scalar
from jaxprim.derive import by_parts, explain

if TYPE_CHECKING:
    from jaxprim.forms.implicit import Implicit
    from jaxprim.forms.sharding import Sharding
    from jaxprim.kernels.signature import KernelSignature


class NoExamples(BadCall):
    """There is nothing to check a subject on."""


@dataclass(frozen=True)
class Subject:
    """A primitive or a function under check.

    Attributes:
        name: the name in reports.
        call: applies the subject to operands and static params.
        primitive: the primitive, or None for a function.
        reference: an independent version of the same function, which must agree; or None.
    """

    name: str
    call: Callable[..., Any]
    primitive: Primitive | None = None
    reference: Callable[..., Any] | None = None
    _compiles_anew: dict[str, bool] = field(default_factory=dict[str, bool], init=False, repr=False, compare=False)
    _programs: dict[Any, Callable[..., Any]] = field(
        default_factory=dict[Any, Callable[..., Any]], init=False, repr=False, compare=False
    )

    @staticmethod
    def of(target: Callable[..., Any], reference: Callable[..., Any] | None = None) -> Subject:
        """The subject of a primitive or a function."""
        if isinstance(target, Primitive):
            return Subject(target.name, target, target, reference)
        return Subject(name_of(target), target, None, reference)

    @property
    def has_examples(self) -> bool:
        """Whether the author gave examples with ``def_examples``; it does not run them."""
        return self.primitive is not None and self.primitive._examples is not None  # pyright: ignore[reportPrivateUsage]

    @property
    def is_primitive(self) -> bool:
        """Whether it is a primitive with rules, and not a function that JAX differentiates."""
        return self.primitive is not None

    # -------------------------------------------------------------------------------------------------------- rules
    @property
    def surrogate(self) -> str | None:
        """The author's reason for a VJP that departs from the derivative, or None."""
        return rules_of(self.primitive).surrogate if self.primitive is not None else None

    @property
    def rules(self) -> tuple[RuleInfo, ...]:
        """Where each rule comes from; nothing for a function."""
        return explain(rules_of(self.primitive)).rows if self.primitive is not None else ()

    def rule(self, name: str) -> RuleInfo | None:
        """The `RuleInfo` of a rule; None for a function."""
        return next((info for info in self.rules if info.rule == name), None)

    def missing(self, name: str) -> str | None:
        """Why there is no rule of this name. None if there is one, or if only JAX can tell."""
        info = self.rule(name)
        return f"no {name.upper()} rule: {info.why}" if info is not None and info.status == "missing" else None

    def is_given(self, name: str) -> bool:
        """Whether the author gave a rule of this name."""
        info = self.rule(name)
        return info is not None and info.status == "given"

    @property
    def implicit(self) -> Implicit | None:
        """The equation that the operation solves, if a rule was written by def_implicit."""
        given = rules_of(self.primitive).given if self.primitive is not None else {}
        return next((given[mode].solves for mode in ("jvp", "vjp") if mode in given and given[mode].solves), None)

    def departs(self, name: str) -> bool:
        """Whether the author declared that this rule departs from the derivative."""
        info = self.rule(name)
        return self.surrogate is not None and (name == "vjp" or (info is not None and info.origin == "vjp"))

    # ---------------------------------------------------------------------------------------------- implementations
    @property
    def impl(self) -> Callable[..., Any] | None:
        """The traceable implementation that the author gave a primitive."""
        rules = rules_of(self.primitive) if self.primitive is not None else None
        author = rules.given["impl"].author if rules is not None and "impl" in rules.given else None
        if author is None or rules is None or not rules.kept:
            return author
        return lambda *operands, **params: rules.without_kept(author(*operands, **params))

    @property
    def author(self) -> Callable[..., Any]:
        """The author's function: the first implementation of a primitive, or the function itself."""
        author = rules_of(self.primitive).implementation_author if self.primitive is not None else None
        return author or self.call

    @property
    def kernel_platforms(self) -> tuple[str, ...]:
        """The platforms that a primitive has a kernel for."""
        return tuple(rules_of(self.primitive).kernels()) if self.primitive is not None else ()

    @property
    def sharding(self) -> Sharding | None:
        """The sharding rule that the author gave a primitive, or None."""
        given = rules_of(self.primitive).given if self.primitive is not None else {}
        return cast("Sharding", given["sharding"].author) if "sharding" in given else None

    @property
    def partition(self) -> Callable[..., Any] | None:
        """What computes a primitive by its partition rule, of parts along an axis, or None.

        It takes the operands' leaves and tree, the static params, the axis, and the number of parts. Each result leaf has one
        more axis in front, for the parts.
        """
        if self.primitive is None or "partition" not in rules_of(self.primitive).given:
            return None
        rules = rules_of(self.primitive)
        return lambda leaves, tree, params, axis, count: by_parts(rules, params, tree, leaves, axis, count)

    def run_by(self, implementation: str) -> AbstractContextManager[Any]:
        """A context in which a primitive always runs its ``"impl"``, ``"host"`` or ``"kernel"``."""
        return nullcontext() if self.primitive is None else use(implementation, self.primitive)

    def compiles_anew(self, rule: str, function: Callable[..., Any], operands: Sequence[Any]) -> bool:
        """Whether JAX compiles a part of the implementation or of a rule at each call; measured once per rule."""
        if rule not in self._compiles_anew:
            self._compiles_anew[rule] = _compiles_anew(function, operands)
        return self._compiles_anew[rule]

    def run_compiled(self, key: Any, function: Callable[..., Any], *args: Any) -> Any:
        """Run a function as a compiled program, or plainly if it cannot be compiled. The key identifies the function."""
        if key not in self._programs:
            self._programs[key] = jax.jit(function)
        found = attempt(lambda: jax.block_until_ready(self._programs[key](*args)))
        if not isinstance(found, Refusal):
            return found
        plain = function(*args)  # raises, if it fails at this point
        self._programs[key] = function
        return plain

    def over_other_memory(self, flat: Callable[..., Any], leaves: Sequence[Any]) -> Iterator[Sequence[Any]]:
        """What a function of flat leaves gives where the memory of its kernels' results held other numbers before.

        Nothing, if it uses no kernel.
        """
        if "jaxprim.kernels.filled" not in sys.modules:
            return
        from jaxprim.kernels import filled

        program = _jax.trace(flat, [_jax.typeof(leaf) for leaf in leaves], self.name)
        if _jax.uses(program, filled.NAME):
            yield from filled.runs(program, leaves)

    def examples(self) -> Sequence[Example]:
        """The author's examples, or the types that a kernel declares. Without either, raises NoExamples."""
        found = self.primitive.examples() if self.primitive is not None else ()
        if not found:
            types = _declared_types(self.primitive) if self.primitive is not None else None
            if types is None:
                raise NoExamples(_no_examples(self))
            return [Example(types)]
        return found

    def accuracy(self, operands: tuple[Any, ...], params: Mapping[str, Any]) -> float:
        """The accuracy that the author declares at these operands; 0 where he declares none."""
        declared = self.primitive._accuracy if self.primitive is not None else None  # pyright: ignore[reportPrivateUsage]
        return float(declared(*operands, **params)) if declared is not None else 0.0

    @property
    def declares_domain(self) -> bool:
        """Whether the author gave def_domain."""
        return self.primitive is not None and self.primitive._domain is not None  # pyright: ignore[reportPrivateUsage]

    def into_domain(self, operands: tuple[Any, ...], params: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """Operands inside the domain that the author declares: these, or what he makes of them; None if there are none."""
        declared = self.primitive._domain if self.primitive is not None else None  # pyright: ignore[reportPrivateUsage]
        if declared is None:
            return operands
        found = declared(*operands, **params)
        if isinstance(found, tuple):
            return cast("tuple[Any, ...]", found)
        return operands if bool(found) else None

    def close_over_static(self, operands: tuple[Any, ...]) -> tuple[Subject, tuple[Any, ...]]:
        """The subject as a function of only the operands that hold numbers, and these operands.

        The others are static: operands that hold something else, such as a function, and the ``nondiff_argnums`` of
        ``jax.custom_jvp`` or ``jax.custom_vjp``.
        """
        declared = getattr(self.call, "nondiff_argnums", ()) if self.primitive is None else ()
        static = {i: x for i, x in enumerate(operands) if i in declared or not _holds_numbers(x)}
        if not static or self.primitive is not None:
            return self, operands
        reference = None if self.reference is None else _close_over(self.reference, static, self.call)
        subject = replace(self, call=_close_over(self.call, static, self.call), reference=reference)
        return subject, tuple(x for i, x in enumerate(operands) if i not in static)

    def split(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """A call's operands and static params. An operand of a primitive may also be passed by name."""
        if self.primitive is None:
            return args, kwargs
        return self.primitive._split(args, kwargs)  # pyright: ignore[reportPrivateUsage]

    def keywords(self) -> set[str]:
        """The names of the operands and params that can be passed by keyword."""
        if self.primitive is not None:
            signature = rules_of(self.primitive).signature
            return {*signature.operands, *signature.params}
        try:
            parameters = inspect.signature(self.call).parameters.values()
        except (TypeError, ValueError):  # a builtin may have no signature
            return set()
        return {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}

    def operand_names(self, operands: tuple[Any, ...], params: Mapping[str, Any]) -> tuple[str, ...]:
        """The name of each operand, from the signature if there is one, else by position."""
        if self.primitive is not None:
            return rules_of(self.primitive).signature.names(len(operands))
        try:
            bound = inspect.signature(self.call).bind(*operands, **params)
        except (TypeError, ValueError):
            return tuple(f"operand{i}" for i in range(len(operands)))
        return _names_of(bound, len(operands))


def place_of(primitive: Primitive) -> str:
    """The file and line where a primitive was defined."""
    return rules_of(primitive).made


# The sizes in a signature become 2, 3, 4, ...: all different, so that mixing up two axes shows.
_FIRST_SIZE = 2


def _declared_types(primitive: Primitive) -> tuple[Any, ...] | None:
    """The types of the operands that a kernel of the primitive declares, or None if no kernel declares them all."""
    kernels = rules_of(primitive).kernels()
    if not kernels:
        return None
    from jaxprim.kernels.kernel import Kernel  # loads all of jaxprim.kernels, which few primitives need

    return next(
        (_types_of(rule.author.signature) for rule in kernels.values() if isinstance(rule.author, Kernel)), None
    )


def _types_of(signature: KernelSignature) -> tuple[Any, ...] | None:
    """The operand types of a kernel's signature, with f32 for its type variables; None if they are not all known."""
    from jaxprim.kernels.dtypes import DTYPES

    if any(attribute.default is None for attribute in signature.attributes):
        return None
    resolved = signature.resolve(dict.fromkeys(signature.variables, "f32"))
    sizes = {name: _FIRST_SIZE + k for k, name in enumerate(resolved.sizes)}
    try:
        shapes = [tuple(int(dim) if dim.isdigit() else sizes[dim] for dim in array.dims) for array in resolved.operands]
    except KeyError:  # a size that is computed from others
        return None
    pairs = zip(shapes, resolved.operands, strict=True)
    return tuple(jax.ShapeDtypeStruct(shape, DTYPES[array.dtype].numpy) for shape, array in pairs)


def _compiles_anew(function: Callable[..., Any], operands: Sequence[Any]) -> bool:
    """Whether a second call compiles something, such as a loop whose body is a closure."""
    try:
        jax.block_until_ready(function(*operands))
        before = _jax.compilations()
        function(*operands)
    except Exception:  # noqa: BLE001 - the question that calls the function reports the failure
        return False
    return _jax.compilations() > before


def _holds_numbers(operand: Any) -> bool:
    """Whether all leaves of an operand are arrays, numbers, keys, or the type of an array."""
    leaves = jax.tree_util.tree_leaves(operand)
    return all(is_scalar(leaf) or (hasattr(leaf, "dtype") and hasattr(leaf, "shape")) for leaf in leaves)


def _close_over(
    function: Callable[..., Any], static: Mapping[int, Any], like: Callable[..., Any]
) -> Callable[..., Any]:
    """The function with its static operands fixed, and the names of the others in its signature."""

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
    """The message for a subject that has no example of its operands."""
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
