"""Split a call's arguments into operands (traced) and static params (keyword-only)."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax

from jaxprim import _jax
from jaxprim._errors import BadCall, message
from jaxprim._keys import typed
from jaxprim._origin import whole
from jaxprim._trees import describe

_EMPTY = inspect.Parameter.empty
Bound = tuple[tuple[Any, ...], dict[str, Any]]  # operands, params


@dataclass(frozen=True)
class CallSignature:
    """Operand and param names with their defaults, read from the first implementation that is given.

    Attributes:
        operands: operand names with their defaults, in order.
        params: keyword-only names with their defaults.
        variadic: the name of ``*operands``, if there is one.
        any_params: whether ``**params`` accepts further static params.
        options: optional arguments of a library's function, which are static params if they are given.
        source: the function that it was read from.
    """

    operands: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    variadic: str | None = None
    any_params: bool = False
    options: tuple[str, ...] = ()
    source: Callable[..., Any] | None = None

    @staticmethod
    def of(fn: Callable[..., Any]) -> CallSignature:
        nin = _ufunc_inputs(fn)
        if nin is not None:  # its keywords (out, where, ...) are not static params
            names = ("x",) if nin == 1 else tuple(f"x{i + 1}" for i in range(nin))
            return CallSignature(operands=dict.fromkeys(names, _EMPTY), source=fn)
        try:
            parameters = inspect.signature(fn).parameters.values()
        except (TypeError, ValueError):  # a builtin without a signature: any operands, any params
            return CallSignature(variadic="operands", any_params=True, source=fn)
        kinds = inspect.Parameter
        positional = (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        variadic = [p.name for p in parameters if p.kind is kinds.VAR_POSITIONAL]
        operands = {p.name: p.default for p in parameters if p.kind in positional}
        options = _options(fn, operands)
        return CallSignature(
            operands={name: default for name, default in operands.items() if name not in options},
            params={p.name: p.default for p in parameters if p.kind is kinds.KEYWORD_ONLY},
            variadic=variadic[0] if variadic else None,
            any_params=any(p.kind is kinds.VAR_KEYWORD for p in parameters),
            options=options,
            source=fn,
        )

    def takes(self, count: int) -> bool:
        """Whether a call may have this many operands, all by position."""
        needed = sum(default is _EMPTY for default in self.operands.values())
        return needed <= count and (count <= len(self.operands) or self.variadic is not None)

    def shown(self) -> inspect.Signature:
        """The signature for ``help`` and ``inspect.signature``: the source's own, if it has one."""
        kinds = inspect.Parameter
        if self.source is None:
            return inspect.Signature([kinds("operands", kinds.VAR_POSITIONAL), kinds("params", kinds.VAR_KEYWORD)])
        try:
            if _ufunc_inputs(self.source) is None:
                return inspect.signature(self.source)
        except (TypeError, ValueError):  # a builtin
            return CallSignature().shown()
        return inspect.Signature([kinds(name, kinds.POSITIONAL_OR_KEYWORD) for name in self.operands])

    def names(self, count: int) -> tuple[str, ...]:
        """The names of this many operands: ``x``, ``factor``, ``operands[2]``."""
        named = tuple(self.operands)[:count]
        return named + tuple(f"{self.variadic or 'operands'}[{i}]" for i in range(count - len(named)))

    def bind(self, primitive: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Bound:
        """Split a call's arguments into operands and params, defaults filled in."""
        names = tuple(self.operands)
        if len(args) > len(names) and self.variadic is None:
            by_keyword = [*self.params, *self.options]
            raise BadCall(
                message(
                    f"{primitive}: too many operands.",
                    got=f"{len(args)} positional arguments",
                    expected=f"{len(names)}: {', '.join(names)}" if names else "no operands",
                    why=f"pass {', '.join(by_keyword)} by keyword" if by_keyword else None,
                    rule=self.source,
                    write=self._example_call(primitive),
                )
            )
        rest = dict(kwargs)
        operands = list(args) + [
            self._operand(primitive, name, rest, len(args)) for name in names[min(len(args), len(names)) :]
        ]
        self._refuse_twice(primitive, names[: len(args)], rest)
        params = {name: rest.pop(name) if name in rest else default for name, default in self.params.items()}
        for name, value in params.items():
            if value is _EMPTY:
                raise BadCall(
                    message(
                        f"{primitive}: the static param '{name}' is missing.",
                        got=_listed("static params", sorted(set(kwargs) & set(self.params))),
                        expected=f"static params {', '.join(self.params)}",
                        rule=self.source,
                        write=self._example_call(primitive),
                    )
                )
        self._refuse_unknown(primitive, rest)
        params.update(rest)
        return tuple(operands), params

    def _operand(self, primitive: str, name: str, kwargs: dict[str, Any], count: int) -> Any:
        value = kwargs.pop(name, self.operands[name])
        if value is _EMPTY:
            self._refuse_keywords(primitive, tuple(self.operands)[:count], kwargs)
            raise BadCall(
                message(
                    f"{primitive}: the operand '{name}' is missing.",
                    got=_listed("operands", [*tuple(self.operands)[:count], *kwargs]),
                    expected=f"operands {', '.join(self.operands)}",
                    rule=self.source,
                    write=self._example_call(primitive),
                )
            )
        return value

    def _refuse_keywords(self, primitive: str, given: tuple[str, ...], kwargs: Mapping[str, Any]) -> None:
        """Name the keyword that is wrong, rather than the operand that it was meant for."""
        self._refuse_twice(primitive, given, kwargs)
        self._refuse_unknown(primitive, [name for name in kwargs if name not in {*self.operands, *self.params}])

    def _refuse_twice(self, primitive: str, given: tuple[str, ...], kwargs: Mapping[str, Any]) -> None:
        for name in given:
            if name in kwargs:
                raise BadCall(
                    message(
                        f"{primitive}: the operand '{name}' is given twice, by position and by name.",
                        got=f"{', '.join(given)} by position, and {name}=",
                        expected="each operand once",
                        rule=self.source,
                        write=self._example_call(primitive),
                    )
                )

    def _refuse_unknown(self, primitive: str, names: Iterable[str]) -> None:
        unknown = [] if self.any_params else [name for name in names if name not in self.options]
        if not unknown:
            return
        name, known = unknown[0], [*self.operands, *self.params, *self.options]
        close = difflib.get_close_matches(name, known, 1)
        raise BadCall(
            message(
                f"{primitive}: unknown keyword '{name}'." + (f" Did you mean '{close[0]}'?" if close else ""),
                got=f"{name}=...",
                expected=f"{_listed('operands', self.operands)}; {_listed('static params', [*self.params, *self.options])}",
                rule=self.source,
                write=self._example_call(primitive),
            )
        )

    def _example_call(self, primitive: str) -> str:
        operands = [*self.operands] + ([f"*{self.variadic}"] if self.variadic else [])
        return f"{primitive}({', '.join([*operands, *(f'{name}=...' for name in self.params)])})"

    # --------------------------------------------------------------------------------------------------- static params
    def key(self, primitive: str, params: Mapping[str, Any]) -> tuple[Any, ...]:
        """A hashable key of the static params."""
        key = tuple((name, typed(value)) for name, value in sorted(params.items()))
        try:
            hash(key)
        except TypeError:
            for name, value in params.items():
                self._refuse_traced(primitive, name, value)
                self._refuse_unhashable(primitive, name, value)
        return key

    def _refuse_traced(self, primitive: str, name: str, value: Any) -> None:
        traced = [leaf for leaf in jax.tree.leaves(value) if isinstance(leaf, _jax.Tracer)]
        if traced:
            raise BadCall(
                message(
                    f"{primitive}: the static param '{name}' is a traced value.",
                    got=f"{name}: {describe(traced[0] if traced[0] is value else value)} (traced)",
                    expected="a Python value known at trace time",
                    why="static params are part of the compiled program",
                    rule=self.source,
                    write=self.with_operand(name),
                )
            ) from None

    def _refuse_unhashable(self, primitive: str, name: str, value: Any) -> None:
        try:
            hash(value)
        except TypeError:
            raise BadCall(
                message(
                    f"{primitive}: the static param '{name}' is not hashable.",
                    got=f"{name}: {describe(value)}",
                    expected="a hashable value, such as a number, string or tuple",
                    why="static params are part of the cache key of compiled programs",
                    rule=self.source,
                    write=self._hashable_form(name, value),
                )
            ) from None

    def _hashable_form(self, name: str, value: Any) -> str:
        if isinstance(value, list):
            return f"{name}=tuple({name})"
        if isinstance(value, set):
            return f"{name}=frozenset({name})"
        if isinstance(value, dict):
            return f"{name}=tuple(sorted({name}.items()))"
        if getattr(value, "ndim", None) == 1:
            return f"{name}=tuple({name}.tolist())"
        if hasattr(value, "ndim"):
            return self.with_operand(name)
        return (
            f"@dataclasses.dataclass(frozen=True)  # on {type(value).__name__}, so that its __hash__ matches its __eq__"
        )

    def with_operand(self, name: str) -> str:
        """The line that makes a static param an operand."""
        return f"{self._header(operands=[*self.operands, name])}  # '{name}' before the `*`: an operand"

    @property
    def word(self) -> str | None:
        """``"custom_vjp"`` or ``"custom_jvp"``, if that made the operation."""
        return getattr(self.source, "decorated_with", None)

    def with_param(self, name: str) -> str:
        """The line that makes an operand a static param."""
        if self.word is not None:
            return f"@partial(jaxprim.{self.word}, nondiff_argnames={(*self.params, name)!r})"
        return f"{self._header(params=[name, *self.params])}  # '{name}' after the `*`: a static param"

    def _header(self, operands: Iterable[str] | None = None, params: Iterable[str] | None = None) -> str:
        keywords = [p for p in (self.params if params is None else params) if p not in (operands or ())]
        positional = [x for x in (self.operands if operands is None else operands) if x not in keywords]
        star = [f"*{self.variadic}"] if self.variadic else ["*"] if keywords else []
        arguments = ", ".join([*positional, *star, *keywords])
        name = getattr(self.source, "__name__", "_")
        return f"lambda {arguments}:" if name == "<lambda>" else f"def {name}({arguments}):"


def accepts(fn: Callable[..., Any], args: Sequence[Any], keywords: Mapping[str, Any] | None = None) -> bool:
    """Whether a function takes these arguments; a builtin without a signature takes any."""
    try:
        inspect.signature(fn).bind(*args, **(keywords or {}))
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def _listed(what: str, names: Collection[str]) -> str:
    return f"{what} {', '.join(names)}" if names else f"no {what}"


def _options(fn: Callable[..., Any], operands: Mapping[str, Any]) -> tuple[str, ...]:
    """The optional arguments of a library's function that are no operands: its author cannot move them behind a ``*``.

    NumPy, SciPy    all of them
    JAX             from the first one on whose default decides shapes or branches, such as ``axis=-1``; those behind it
                    are no operands either, as they could not be passed by position
    """
    module = f"{getattr(whole(fn), '__module__', None)}."
    if module.startswith(("numpy.", "scipy.")):
        return tuple(name for name, default in operands.items() if default is not _EMPTY)
    if not module.startswith(_jax.words.OWN_MODULES):
        return ()
    names = list(operands)
    first = next((i for i, name in enumerate(names) if isinstance(operands[name], bool | int | str)), len(names))
    return tuple(names[first:])


def _ufunc_inputs(fn: Any) -> int | None:
    """How many operands a ufunc of NumPy or JAX takes, or a `functools.partial` of one; None for other functions."""
    if isinstance(fn, functools.partial):
        inner = _ufunc_inputs(fn.func)
        return None if inner is None else inner - len(fn.args)
    nin = getattr(fn, "nin", None)
    return nin if isinstance(nin, int) else None
