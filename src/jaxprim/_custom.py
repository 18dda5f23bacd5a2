"""`custom_vjp` and `custom_jvp`: JAX's decorators, as primitives.

They take what JAX's take, and call the author's functions in the same way. What they make is a `Primitive`: the function
is its impl, and the rules are its rules.

A call where nothing is traced is a call of the function, as in JAX: it may branch on values, and reads globals anew. Under
a transformation the primitive is applied.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, Self, cast

import jax

from jaxprim import _jax, _use, forms
from jaxprim._calls import Call
from jaxprim._closures import ClosedOver, closed_over, holds_nothing
from jaxprim._errors import BadCall, RuleMissing, message
from jaxprim._nondiff import freeze
from jaxprim._origin import name_of, public
from jaxprim._primitive import Primitive
from jaxprim._rule_kinds import JVP_PER_OPERAND
from jaxprim._zeros import is_zero

if TYPE_CHECKING:
    from typing_extensions import ParamSpec, TypeVar

    from jaxprim._signature import Bound

    P = ParamSpec("P", default=...)
    R = TypeVar("R", default=Any)
else:
    from typing import ParamSpec, TypeVar

    P, R = ParamSpec("P"), TypeVar("R")


class Custom(Primitive[P, R]):
    """A function with custom derivatives: what `custom_vjp` and `custom_jvp` share.

    Attributes:
        fun: the function.
        nondiff_argnums: the positions of its non-differentiable arguments.
    """

    # In JAX, a function that a loop defines again is another function. Compiled functions that used the earlier ones
    # are none the worse for it.
    _replaces_in_its_run = False
    _word: str
    _rule_line: str
    # With defaults, because `__getattr__` runs while the object is being made.
    fun: Callable[..., Any]
    _functions: tuple[Callable[..., Any], ...] = ()
    _may_close = False

    def __init__(
        self,
        fun: Callable[P, R],
        nondiff_argnums: Sequence[int] = (),
        nondiff_argnames: Sequence[str] = (),
    ) -> None:
        if not callable(fun):
            raise forms.no_function(self._word, fun)
        super().__init__(name_of(fun))
        functools.update_wrapper(self, fun, updated=())
        self.fun = fun
        self._of = forms.decorated(self._word, fun, nondiff_argnums, nondiff_argnames)
        self.nondiff_argnums = self._of.argnums
        parameters = self._of.signature.parameters.values()
        self._count = -1 if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(parameters)
        self.def_impl(forms.implementation(self._of))
        self._note(fun)

    def _note(self, *functions: Callable[..., Any]) -> None:
        """Note the author's functions, which may close over traced values."""
        self._functions = (*self._functions[:1], *functions)
        self._may_close = bool(self._of.names) or not all(map(holds_nothing, self._functions))

    def _closes_over(self) -> tuple[Callable[..., Any], ...]:
        """The functions in which `closed_over` looks for traced values."""
        return self._functions

    # ----------------------------------------------------------------------------------------------------- applying
    def __call__(self, /, *operands: P.args, **params: P.kwargs) -> R:
        """Call the function: with the arguments of the function, by position or by name.

        Raises:
            BadCall: the arguments do not fit the function's signature, or a traced value that the function closes over
                is differentiated.
            RuleMissing: no rule was given.
        """
        try:
            return self._call(operands, params)
        except Exception as error:
            _jax.hide_frames(error)
            raise

    def _call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        rules = self._rules
        if not ("vjp" in rules.given or "jvp" in rules.given):
            raise self._no_rule()
        if kwargs or len(args) != self._count:
            args = self._resolve(args, kwargs)
        if _jax.is_eager() and self._runs_itself():
            return self.fun(*args)
        operands, params, outer = self._taken_apart(args)
        if not outer:
            return self._calls.call(operands, params)
        rules.used = True
        leaves, tree = jax.tree.flatten(operands)
        return self._apply_call(Call(rules.for_one_call(), params, tree, using=_use.choice(rules)), leaves)

    def _runs_itself(self) -> bool:
        """Whether the author's function is what an eager call runs."""
        given = self._rules.given
        is_alone = len(given) <= 2 or not any(rule.kind in ("host", "kernel", "lowering") for rule in given.values())
        return is_alone and _use.choice(self._rules) is None

    def _taken_apart(self, args: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any], list[ClosedOver]]:
        """The operands and static params of a call, and the traced values that functions close over."""
        static, operands = self._of.separate(args)
        outer = closed_over((*self._functions, *static)) if self._may_close and not _jax.trace_state_clean() else []
        frozen = list(map(freeze, static))
        params = {name: value for name, (value, _) in zip(self._of.names, frozen, strict=True)}
        arrays = [array for _, part in frozen for array in part]
        if arrays or outer:
            params[forms.HIDDEN] = forms.Hidden(len(arrays), tuple(outer))
            operands.append((tuple(arrays), tuple(closed.tracer for closed in outer)))
        return tuple(operands), params, outer

    # ---------------------------------------------------------------------------------------------------- arguments
    def _resolve(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
        """All arguments by position, defaults filled in, as JAX does it.

        If all non-differentiable arguments are passed by name, those by position are the others: so `check` calls it.
        """
        names = self._of.names
        signature, static = self._of.signature, {name: kwargs[name] for name in names if name in kwargs}
        is_split = bool(names) and len(static) == len(names)
        if is_split:
            kept = [p for p in signature.parameters.values() if p.name not in static]
            signature, kwargs = inspect.Signature(kept), {k: v for k, v in kwargs.items() if k not in static}
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise self._unresolved(args, kwargs, error) from None
        bound.apply_defaults()
        return tuple(self._of.merge(list(static.values()), bound.args)) if is_split else bound.args

    def _split(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Bound:
        static, operands = self._of.separate(self._resolve(args, kwargs))
        return tuple(operands), dict(zip(self._of.names, static, strict=True))

    def _bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Bound:
        return args, dict(kwargs)  # `_taken_apart` has done it

    def _takes(self, count: int) -> bool:
        return self._fits((None,) * count, {})

    # ------------------------------------------------------------------------------------------------------ messages
    def _no_rule(self) -> RuleMissing:
        return RuleMissing(
            message(
                f"{self.name}: it has no derivative rule.",
                got=f"a {self._word} without {self._rule_line.partition('(')[0]}",
                expected="a rule before the first call",
                rule=self.fun,
                write=f"{self.name}.{self._rule_line}",
            )
        )

    def _unresolved(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], error: TypeError) -> BadCall:
        takes = self._of.signature.parameters
        return BadCall(
            message(
                f"{self.name}: the arguments do not fit the function.",
                got=", ".join([f"{len(args)} by position", *(f"{name}=" for name in kwargs)]),
                expected=f"{self.name}{self._of.signature}",
                why=f"{error}"
                + (f"; {self._word} passes all arguments by position" if set(kwargs) - set(takes) else ""),
                rule=self.fun,
                write=f"{self.name}({', '.join(takes)})",
            )
        )

    def _refuse(self, method: str, why: str, write: str) -> NoReturn:
        raise BadCall(
            message(
                f"{self.name}: {method} is not supported.",
                got=f"{method}(...)",
                expected="defvjp(fwd, bwd)",
                why=why,
                rule=self.fun,
                write=write,
            )
        )

    # --------------------------------------------------------------------------------------------- Python protocols
    def __repr__(self) -> str:
        return f"{self._word}({self.name!r})"

    def __get__(self, instance: Any, owner: Any = None) -> Self:
        """Return the function, or a bound method if its first argument is called ``self``.

        JAX's decorators do not bind. So ``a.f(a, x)``, as one has to write there, means ``a.f(x)``.
        """
        if instance is None or next(iter(self._of.signature.parameters), None) != "self":
            return self

        @functools.wraps(self.fun)
        def method(*args: Any, **kwargs: Any) -> Any:
            if args and args[0] is instance and self._fits(args, kwargs):
                return call(*args, **kwargs)
            return call(instance, *args, **kwargs)

        call = cast("Callable[..., Any]", self)
        return cast("Self", method)

    def _fits(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        try:
            self._of.signature.bind(*args, **kwargs)
        except TypeError:
            return False
        return True

    def __getattr__(self, name: str) -> Any:
        if name == "__signature__":
            return inspect.signature(self.fun)
        if name.startswith("def"):  # a decorator of JAX's beneath, such as `custom_vmap`
            return getattr(self.fun, name)
        return super().__getattr__(name)


@public
@_jax.boundaries
class custom_vjp(Custom[P, R]):  # noqa: N801 the name is JAX's
    """``jax.custom_vjp`` as a `Primitive`: with both modes, checks, and its rule in every context.

    The function and its rules stay as they are, and so do ``nondiff_argnums`` and ``nondiff_argnames``. What it makes is
    a `Primitive`: it has `explain` and `check`, forward mode comes from the rule, and ``def_jvp`` or ``def_batching``
    give it more rules.

    Zero cotangents reach ``bwd`` as `jaxprim.Zero`, which does arithmetic.

    Args:
        fun: the function.
        nondiff_argnums: the positions of arguments that are not differentiated. ``fwd`` gets them in their places, and
            ``bwd`` before the residuals.
        nondiff_argnames: the same by name.

    Raises:
        BadCall: ``fun`` is not callable, or has no such argument.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxprim import custom_vjp
        >>> @custom_vjp
        ... def scale(x, factor):
        ...     return x * factor
        >>> def fwd(x, factor):
        ...     return scale(x, factor), (x, factor)
        >>> def bwd(residuals, y_bar):
        ...     x, factor = residuals
        ...     return y_bar * factor, jnp.sum(y_bar * x)
        >>> scale.defvjp(fwd, bwd)
        >>> float(jax.grad(scale)(3.0, 2.0)), float(jax.jvp(scale, (3.0, 2.0), (1.0, 0.0))[1])
        (2.0, 2.0)
    """

    _word, _rule_line = "custom_vjp", "defvjp(fwd, bwd)"

    def defvjp(
        self,
        fwd: Callable[..., Any],
        bwd: Callable[..., Any],
        symbolic_zeros: bool = False,
        optimize_remat: bool = False,
        generic_batching: bool = False,
        *,
        surrogate: str | None = None,
    ) -> None:
        """Give the VJP rule, as to ``jax.custom_vjp``.

        Args:
            fwd: ``fwd(*args) -> (output, residuals)``, with the arguments of the function.
            bwd: ``bwd(*nondiff_args, residuals, cotangents)`` returns one cotangent for each other argument.
            symbolic_zeros: whether ``fwd`` gets ``CustomVJPPrimal`` objects, and ``bwd`` JAX's ``SymbolicZero``.
            optimize_remat: whether the function, and not ``fwd``, computes the value under ``jax.checkpoint``. This
                matters only where ``fwd`` computes it in another way.
            generic_batching: accepted, and not needed: batches are always evaluated in this way.
            surrogate: the reason why the rule deliberately departs from the derivative, as in `Primitive.def_vjp`.

        Raises:
            RuleWrong: raised when the rule is used, if it returns a wrong structure, shape or dtype.

        Example:
            >>> import jax, jax.numpy as jnp
            >>> from jaxprim import custom_vjp
            >>> clip = custom_vjp(lambda x: x)
            >>> clip.defvjp(lambda x: (x, None), lambda _, y_bar: (jnp.clip(y_bar, -1, 1),), surrogate="clipping")
            >>> float(jax.grad(lambda x: 5 * clip(x))(1.0))
            1.0
        """
        for fn in (fwd, bwd):
            if not callable(fn):
                raise forms.no_function("defvjp", fn)
        self.fwd, self.bwd, self.symbolic_zeros, self.optimize_remat = fwd, bwd, symbolic_zeros, optimize_remat
        rule = forms.vjp_as_jax(self._rules, self._of, fwd, bwd, symbolic_zeros, surrogate)
        self._rules.give(replace(rule, value_by_operation=optimize_remat))
        self._note(fwd, bwd)

    def defvjp_with_logs(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: an operation is pure, and its pullback returns cotangents only."""
        self._refuse("defvjp_with_logs", "a pullback returns cotangents only", "jax.debug.print  # in bwd")

    def defvjp_with_accums(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: return the cotangents, and JAX adds them up."""
        self._refuse("defvjp_with_accums", "a pullback returns cotangents, and JAX adds them up", "return x_bar, ...")

    def defremat(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: name the residuals, and a policy of ``jax.checkpoint`` says which are saved."""
        write = "residual = checkpoint_name(residual, 'name')  # in fwd, and a policy that saves it"
        self._refuse("defremat", "a policy of jax.checkpoint says what is computed again", write)

    defremat_with_logs = defremat


@public
@_jax.boundaries
class custom_jvp(Custom[P, R]):  # noqa: N801 the name is JAX's
    """``jax.custom_jvp`` as a `Primitive`: with checks, and its rule in every context.

    The function and its rules stay as they are, and so do ``nondiff_argnums`` and ``nondiff_argnames``. What it makes is
    a `Primitive`: it has `explain` and `check`, and ``def_vjp`` or ``def_batching`` give it more rules.

    Zero tangents reach the rule as `jaxprim.Zero`, which does arithmetic.

    Args:
        fun: the function.
        nondiff_argnums: the positions of arguments that are not differentiated. The rule gets them first.
        nondiff_argnames: the same by name.

    Raises:
        BadCall: ``fun`` is not callable, or has no such argument.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxprim import custom_jvp
        >>> @custom_jvp
        ... def scale(x, factor):
        ...     return x * factor
        >>> @scale.defjvp
        ... def _(primals, tangents):
        ...     (x, factor), (x_dot, factor_dot) = primals, tangents
        ...     return scale(x, factor), x_dot * factor + x * factor_dot
        >>> float(jax.grad(scale)(3.0, 2.0))
        2.0
    """

    _word, _rule_line = "custom_jvp", "defjvp(rule)"

    def defjvp(self, jvp: Callable[..., Any], symbolic_zeros: bool = False) -> Callable[..., Any]:
        """Give the JVP rule, as to ``jax.custom_jvp``.

        Args:
            jvp: ``jvp(*nondiff_args, primals, tangents) -> (primals_out, tangents_out)``.
            symbolic_zeros: whether zero tangents are JAX's ``SymbolicZero``.

        Returns:
            The rule, so that this works as a decorator.

        Raises:
            RuleWrong: raised when the rule is used, if it returns a wrong structure, shape or dtype.

        Example:
            >>> import jax
            >>> from jaxprim import custom_jvp
            >>> square = custom_jvp(lambda x: x * x)
            >>> @square.defjvp
            ... def _(primals, tangents):
            ...     return square(*primals), 2 * primals[0] * tangents[0]
            >>> float(jax.grad(square)(3.0))
            6.0
        """
        if not callable(jvp):
            raise forms.no_function("defjvp", jvp)
        self.jvp, self.symbolic_zeros = jvp, symbolic_zeros
        self._rules.give(forms.jvp_as_jax(self._rules, self._of, jvp, symbolic_zeros))
        self._note(jvp)
        return jvp

    def defjvps(self, *jvps: Callable[..., Any] | None) -> None:
        """Give one JVP rule per argument, as to ``jax.custom_jvp``; None declares a zero derivative.

        Args:
            *jvps: ``f(x_dot, y, *primals) -> y_dot`` for each argument.

        Raises:
            BadCall: there are non-differentiable arguments, or another number of rules than arguments.

        Example:
            >>> import jax
            >>> from jaxprim import custom_jvp
            >>> scale = custom_jvp(lambda x, factor: x * factor)
            >>> scale.defjvps(lambda x_dot, y, x, factor: x_dot * factor, None)
            >>> float(jax.grad(scale)(3.0, 2.0))
            2.0
        """
        names = tuple(self._of.signature.parameters)
        if self._of.names or (self._count >= 0 and len(jvps) != self._count):
            raise self._not_one_each(jvps, names)

        def rule(primals: Any, tangents: Any) -> Any:
            y = cast("Callable[..., Any]", self)(*primals)
            parts = [
                fn(dot, y, *primals)
                for fn, dot in zip(jvps, tangents, strict=False)
                if fn is not None and not all(map(is_zero, jax.tree.leaves(dot)))
            ]
            return y, jax.tree.map(lambda *dots: functools.reduce(lambda a, b: a + b, dots), *parts) if parts else None

        made = forms.jvp_as_jax(self._rules, self._of, rule, symbolic_zeros=False)
        first = next((fn for fn in jvps if fn is not None), rule)
        operands = names if len(names) == len(jvps) else tuple(f"{names[-1]}[{i}]" for i in range(len(jvps)))
        self._rules.give(replace(made, author=first, form=JVP_PER_OPERAND, operands=operands))
        self.jvp, self.symbolic_zeros = rule, False
        self._note(*(fn for fn in jvps if fn is not None))

    def _not_one_each(self, jvps: Sequence[Any], names: tuple[str, ...]) -> BadCall:
        return BadCall(
            message(
                f"{self.name}: defjvps takes one rule per argument, and no non-differentiable arguments.",
                got=f"{len(jvps)} of them"
                + (f", and nondiff_argnames {', '.join(self._of.names)}" * bool(self._of.names)),
                expected=f"rules for {', '.join(names)}",
                rule=self.fun,
                write=f"{self.name}.defjvp(rule)"
                if self._of.names
                else f"{self.name}.defjvps({', '.join(f'{name}_rule' for name in names)})",
            )
        )
