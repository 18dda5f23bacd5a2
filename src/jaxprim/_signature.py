"""How a call's arguments fall into operands (traced) and static params (keyword-only)."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxprim import _jax
from jaxprim._errors import BadCall, text

_EMPTY = inspect.Parameter.empty
Bound = tuple[tuple[Any, ...], dict[str, Any]]  # operands, params


@dataclass(frozen=True)
class Signature:
    """Operand and param names with their defaults, read off the first implementation that was given.

    Attributes:
        operands: operand names with their defaults, in order.
        params: keyword-only names with their defaults.
        variadic: the name of ``*operands``, if there is one.
        any_params: whether ``**params`` takes further static params.
        source: the function that it was read off.
    """

    operands: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    variadic: str | None = None
    any_params: bool = False
    source: Callable[..., Any] | None = None

    @staticmethod
    def of(fn: Callable[..., Any]) -> Signature:
        nin = getattr(fn, "nin", None)
        if isinstance(nin, int):  # a ufunc of NumPy or JAX: its keywords (out, where, ...) are no static params
            names = ("x",) if nin == 1 else tuple(f"x{i + 1}" for i in range(nin))
            return Signature(operands=dict.fromkeys(names, _EMPTY), source=fn)
        try:
            parameters = inspect.signature(fn).parameters.values()
        except (TypeError, ValueError):  # a builtin without a signature: any operands, any params
            return Signature(variadic="operands", any_params=True, source=fn)
        kinds = inspect.Parameter
        positional = (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        variadic = [p.name for p in parameters if p.kind is kinds.VAR_POSITIONAL]
        return Signature(
            operands={p.name: p.default for p in parameters if p.kind in positional},
            params={p.name: p.default for p in parameters if p.kind is kinds.KEYWORD_ONLY},
            variadic=variadic[0] if variadic else None,
            any_params=any(p.kind is kinds.VAR_KEYWORD for p in parameters),
            source=fn,
        )

    def is_plain(self, count: int) -> bool:
        """Whether this many positional operands, and nothing else, are a whole call."""
        return (count == len(self.operands) or (self.variadic is not None and count > len(self.operands))) and not any(
            True for _ in self.params
        )

    def names(self, count: int) -> tuple[str, ...]:
        """The names of this many operands: ``x``, ``factor``, ``operands[2]``."""
        named = tuple(self.operands)[:count]
        return named + tuple(f"{self.variadic or 'operands'}[{i}]" for i in range(count - len(named)))

    def bind(self, primitive: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Bound:
        """Split a call's arguments into operands and params, defaults filled in."""
        names = tuple(self.operands)
        if len(args) > len(names) and self.variadic is None:
            raise BadCall(
                text(
                    f"{primitive}: too many operands.",
                    got=f"{len(args)} positional arguments",
                    expected=f"at most {len(names)} operands ({', '.join(names) or 'none'})"
                    + (f"; static params {', '.join(self.params)} go by keyword" if self.params else ""),
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
                    text(
                        f"{primitive}: the static param '{name}' is missing.",
                        got=f"params {sorted(set(kwargs) & set(self.params)) or 'none'}",
                        expected=f"a value for '{name}'",
                        rule=self.source,
                        write=self._example_call(primitive),
                    )
                )
        if rest and not self.any_params:
            self._refuse_unknown(primitive, next(iter(rest)))
        params.update(rest)
        return tuple(operands), params

    def _operand(self, primitive: str, name: str, kwargs: dict[str, Any], count: int) -> Any:
        value = kwargs.pop(name, self.operands[name])
        if value is _EMPTY:
            raise BadCall(
                text(
                    f"{primitive}: the operand '{name}' is missing.",
                    got=f"{count} positional operands" + (f" and {', '.join(kwargs)}" if kwargs else ""),
                    expected=f"operands {', '.join(self.operands)}",
                    rule=self.source,
                    write=self._example_call(primitive),
                )
            )
        return value

    def _refuse_twice(self, primitive: str, given: tuple[str, ...], kwargs: Mapping[str, Any]) -> None:
        for name in given:
            if name in kwargs:
                raise BadCall(
                    text(
                        f"{primitive}: the operand '{name}' is given twice, by position and by name.",
                        rule=self.source,
                        write=self._example_call(primitive),
                    )
                )

    def _refuse_unknown(self, primitive: str, name: str) -> None:
        known = [*self.operands, *self.params]
        close = difflib.get_close_matches(name, known, 1)
        raise BadCall(
            text(
                f"{primitive}: unknown keyword '{name}'." + (f" Did you mean '{close[0]}'?" if close else ""),
                got=f"{name}=...",
                expected=f"operands {', '.join(self.operands) or 'none'}; static params "
                f"{', '.join(self.params) or 'none'}",
                rule=self.source,
                write=self._example_call(primitive),
            )
        )

    def _example_call(self, primitive: str) -> str:
        operands = [*self.operands] + ([f"*{self.variadic}"] if self.variadic else [])
        return f"{primitive}({', '.join([*operands, *(f'{name}=...' for name in self.params)])})"


def typed(value: Any) -> Any:
    """A key of a static param in which 1, 1.0 and True differ, and 0.0 and -0.0; one nan is like another."""
    kind = type(value)
    if isinstance(value, tuple):
        return (kind, *map(typed, value))
    if isinstance(value, float):
        return kind, value.hex()
    return kind, value


def static_key(primitive: str, params: Mapping[str, Any]) -> tuple[Any, ...]:
    """A hashable key of the static params."""
    key = tuple((name, typed(value)) for name, value in sorted(params.items()))
    try:
        hash(key)
    except TypeError:
        _refuse_unhashable(primitive, params)
    return key


def _refuse_unhashable(primitive: str, params: Mapping[str, Any]) -> None:
    for name, value in params.items():
        if isinstance(value, _jax.Tracer):
            raise BadCall(
                text(
                    f"{primitive}: the static param '{name}' is a traced value.",
                    got=f"{name}={value.aval.str_short()} (traced)",
                    expected="a Python value that is known while tracing",
                    why="static params are part of the compiled program; a traced value must be an operand",
                    write=f"def {primitive}_impl(..., {name}):  # before the `*`, so that it is an operand",
                )
            ) from None
        try:
            hash(value)
        except TypeError:
            raise BadCall(
                text(
                    f"{primitive}: the static param '{name}' is not hashable.",
                    got=f"{name}: {type(value).__name__}",
                    expected="a hashable value, such as a number, string or tuple",
                    why="static params are part of the key under which compiled programs are found again",
                    write=_hashable_form(name, value),
                )
            ) from None


def _hashable_form(name: str, value: Any) -> str:
    if isinstance(value, list):
        return f"{name}=tuple({name})"
    if isinstance(value, dict):
        return f"{name}=tuple(sorted({name}.items()))"
    if hasattr(value, "tolist"):
        return f"pass '{name}' as an operand, or {name}=tuple({name}.tolist())"
    return f"give {type(value).__name__} a __hash__ and an __eq__"
