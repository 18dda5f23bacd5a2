"""`Primitive`: what users hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Self, cast, overload

import jax
import numpy as np

from jaxprim import _host, _jax, _origin, _trees, _use, derive, forms
from jaxprim._avals import equalize_varying
from jaxprim._calls import Call, EagerCall, call_of
from jaxprim._checkable import Checkable
from jaxprim._closures import closed_over
from jaxprim._eager import EagerCalls, jit_as
from jaxprim._errors import BadCall, message
from jaxprim._keeping import KeptSetUps, host_with_set_ups, refuse_ignored, set_ups_of
from jaxprim._origin import name_of, named, public, whole
from jaxprim._pickling import ByName
from jaxprim._rules import Rule, RuleSet, rules_of
from jaxprim._signature import Bound, CallSignature
from jaxprim._types import Explanation, Kept
from jaxprim.derive import batching
from jaxprim.derive.abstract_eval import refuse_other_types, results
from jaxprim.derive.implementation import runs_on_host

if TYPE_CHECKING:
    from typing import TypedDict, Unpack

    class SolveOptions(TypedDict, total=False):
        """The arguments of `Primitive.def_implicit` about the linear solver."""

        solve: Any
        transpose_solve: Callable[..., Any] | None
        symmetric: bool
        tol: float | None
        keep: str | Sequence[str]

    # With these defaults, `Primitive` means `Primitive[..., Any]`. Only the type checker needs them, and Python itself
    # has them only from 3.13 on.
    from typing_extensions import ParamSpec, TypeVar

    P = ParamSpec("P", default=...)
    R = TypeVar("R", default=Any)
else:
    from typing import ParamSpec, TypeVar

    P, R = ParamSpec("P"), TypeVar("R")

F = TypeVar("F", bound=Callable[..., Any])

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


@public
@_jax.boundaries
class Primitive(ByName, Checkable, Generic[P, R]):
    """A custom JAX operation: one object that holds one rule for each transformation.

    Each rule is given by its author, derived from the rules that are given, or missing with a reason; `explain` says
    which. Forward mode runs the JVP rule and reverse mode the VJP rule, in every context.

    Every ``def_...`` takes a function, works as a decorator, and returns the function unchanged. Giving a rule again
    replaces it, and compiled functions that used the old rule are traced again.

    The signature and docstring that ``help`` and ``inspect.signature`` show come from the impl. If there is no impl,
    they come from the host function, then a kernel, then the abstract eval.

    Args:
        name: the name in jaxprs, profiles and messages.
        batching: how a batch is evaluated: ``"vmap"``, ``"sequential"``, ``"expand_dims"``, ``"broadcast_all"`` or
            ``"elementwise"``. By default ``"vmap"`` for an impl, ``"sequential"`` for a host function.

    Raises:
        BadCall: ``batching`` is not one of these words.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxprim import Primitive
        >>> square = Primitive("square")
        >>> @square.def_impl
        ... def _(x):
        ...     return x * x
        >>> @square.def_vjp
        ... def _(primals):
        ...     (x,) = primals
        ...     return square(x), lambda y_bar: 2 * x * y_bar
        >>> float(jax.grad(square)(3.0))
        6.0
    """

    # Whether one that is made again at the top level of a module replaces the earlier one also within a run.
    _replaces_in_its_run = True

    def __init__(self: Primitive[..., Any], name: str, *, batching: str | None = None) -> None:
        self._origin = _origin.here()
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance] users may err
            raise _no_name(name, self._origin.place)
        self.name = self.__name__ = self.__qualname__ = name
        self.__module__ = self._origin.module
        self._rules = RuleSet(name, self._origin.place, self._origin.top_module)
        self._rules.apply = self._apply_whole
        if batching is not None:
            self._set_word(batching)
        derive.install(self._rules)
        self._calls: EagerCalls | forms.WithFunctions = EagerCalls(
            self._rules.compiled,
            bind=self._bind,
            apply=self._apply,
            compiled=self._compiled,
            explain=self._explain_call,
        )
        earlier = _origin.replaced(self._rules, name, self._origin, in_its_run=self._replaces_in_its_run)
        if any(other.used for other in earlier):
            _jax.bump_redefinitions()

    # ----------------------------------------------------------------------------------------------------- applying
    def __call__(self, /, *operands: P.args, **params: P.kwargs) -> R:
        """Apply the primitive.

        Args:
            *operands: arrays or Python numbers of any shape and dtype, or pytrees of them. Rules receive them
                unchanged: nothing is promoted or broadcast.
            **params: static params, which are the keyword-only arguments of the impl and must be hashable. Operands may
                also be passed by name.

        Returns:
            The results, in the pytree that the implementation returns.

        Raises:
            BadCall: an operand is missing, unknown or not an array, or a param is missing, unknown or not hashable.
            RuleMissing: there is no implementation yet, or the result types are unknown.

        Example:
            >>> @primitive
            ... def power(x, *, exponent=2):
            ...     return x**exponent
            >>> float(power(3.0)), float(power(3.0, exponent=3))
            (9.0, 27.0)
        """
        try:
            return self._calls.call(operands, params)
        except Exception as error:
            _jax.hide_frames(error)
            raise

    def bind(self, /, *operands: P.args, **params: P.kwargs) -> R:
        """Apply the primitive, exactly as calling it does.

        Example:
            >>> @primitive
            ... def scale(x, factor):
            ...     return x * factor
            >>> float(scale.bind(3.0, factor=2.0))
            6.0
        """
        return self(*operands, **params)

    def use(self, implementation: str) -> Callable[P, R]:
        """Return a function that runs one implementation: ``"impl"``, ``"host"``, or the platform's ``"kernel"``.

        This is for debugging. ``p.use("impl")(x)`` affects one call; `jaxprim.use` affects everything inside a block.

        Example:
            >>> one = Primitive("one")
            >>> _ = one.def_kernel(lambda x: x + 1, platform="cpu")
            >>> _ = one.def_impl(lambda x: x + 100)
            >>> float(one(0.0)), float(one.use("impl")(0.0))
            (1.0, 100.0)
        """
        if (
            implementation != "kernel"
            and implementation in _use.IMPLEMENTATIONS
            and not self._rules.has(implementation)
        ):
            raise BadCall(
                message(
                    f"{self.name}: it has no {implementation} to use.",
                    got=f"use('{implementation}')",
                    expected=f"one of {', '.join(name for name in self._rules.given if name in ('impl', 'host'))}, kernel",
                    write=f"@{self.name}.def_{implementation}",
                )
            )

        def run(*operands: P.args, **params: P.kwargs) -> R:
            with _use.use(implementation, self):
                return self(*operands, **params)

        return run

    def _split(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Bound:
        """Split a call into operands and static params."""
        operands, params = self._rules.signature.bind(self.name, args, kwargs)
        return forms.with_functions(self._rules, operands, params), params

    def _bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Bound:
        """Split a call into operands and hashable static params."""
        operands, params = self._rules.signature.bind(self.name, args, kwargs)
        self._rules.signature.key(self.name, params)
        return operands, params

    def _compiled(self, params: Mapping[str, Any]) -> Callable[..., Any]:
        """Make the function that eager calls with these params run."""
        self._rules.used = True
        compiled = jit_as(self.name, lambda *operands: self._apply(operands, params, EagerCall))
        return self._on_host(params, compiled) if runs_on_host(self._rules, _jax.default_platform()) else compiled

    def _on_host(self, params: Mapping[str, Any], compiled: Callable[..., Any]) -> Callable[..., Any]:
        """Run an eager host function directly in this thread, so that its exceptions keep their traceback."""

        def run(*operands: Any) -> Any:
            leaves, tree = jax.tree.flatten(operands)
            if jax.config.jax_debug_nans or jax.config.jax_disable_jit or any(map(_needs_jax, leaves)):
                return compiled(*operands)
            devices = _committed_to(leaves)
            if len(devices) > 1:
                return compiled(*operands)  # raises, as JAX says it
            call = call_of(self._rules, params, tree)
            found = results(call, _avals(call, leaves))
            host = _host.callback(call, self._rules.given["host"], found)
            outs = host(*[np.asarray(leaf, _jax.typeof(leaf).dtype) for leaf in leaves])
            # Copy the results: the function may keep the memory that it returned and write to it later.
            copies = [np.array(out) for out in outs]
            whole = _trees.unflatten(found.tree, jax.device_put(copies, next(iter(devices), None)))
            return self._rules.without_kept(whole)

        return run

    def _apply(self, operands: Sequence[Any], params: Mapping[str, Any], cls: type[Call] = Call) -> Any:
        """Bind the JAX primitive to operands, and return what users see of its results."""
        out = self._apply_whole(operands, params, cls)
        return self._rules.without_kept(out) if self._rules.kept else out

    def _apply_whole(self, operands: Sequence[Any], params: Mapping[str, Any], cls: type[Call] = Call) -> Any:
        """Bind the JAX primitive to operands."""
        self._rules.used = True
        if self._rules.may_close and (outer := closed_over(self._closes_over())):
            leaves, tree = jax.tree.flatten((*operands, tuple(closed.tracer for closed in outer)))
            own = forms.closing(self._rules, outer)
            return self._apply_call(Call(own, params, tree, using=_use.choice(self._rules)), leaves)
        leaves, tree = jax.tree.flatten(tuple(operands))
        return self._apply_call(call_of(self._rules, params, tree, cls), leaves)

    def _closes_over(self) -> tuple[Callable[..., Any], ...]:
        """The functions in which `closed_over` looks for traced values."""
        given = self._rules.given.values() if self._rules.may_close else ()
        return tuple(fn for rule in given for fn in (rule.author, rule.fn))

    def _apply_call(self, call: Call, leaves: list[Any]) -> Any:
        if _jax.mesh_in_reach():
            leaves = equalize_varying(leaves, call.function_mask() if call.rules.functions else None)
        outs = call.rules.primitive.bind(*leaves, call=call)
        tree = call.result_tree  # `bind` has set it
        if tree is None:  # the tree depends on the operand types
            tree = results(call, _avals(call, leaves)).tree
        return outs[0] if tree == _trees.LEAF else _trees.unflatten(tree, outs)

    def _explain_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Raise an error that names the operand that is not an array, if there is one."""
        operands, params = self._rules.signature.bind(self.name, args, kwargs)
        leaves, tree = jax.tree.flatten(operands)
        try:
            _avals(call_of(self._rules, params, tree), leaves)
        except BadCall as error:
            raise error from None

    @property
    def primitive(self) -> Any:
        """The JAX primitive that jaxprs show."""
        return self._rules.primitive

    # ----------------------------------------------------------------------------------------------- implementations
    def def_impl(self, fn: F) -> F:
        """Give the JAX-traceable implementation: ``fn(*operands, **params) -> results``.

        JAX always traces it, even for an eager call. Its positional arguments are operands; its keyword-only arguments
        are static, hashable params. ``*operands`` and ``**params`` are allowed. The results are arrays in any pytree.

        Raises:
            RuleWrong: raised at tracing, if it has side effects or returns something that is not an array.

        Example:
            >>> import jax.numpy as jnp
            >>> norm = Primitive("norm")
            >>> @norm.def_impl
            ... def _(x, *, order=2):
            ...     return jnp.sum(jnp.abs(x) ** order) ** (1 / order)
            >>> float(norm(jnp.array([3.0, 4.0])))
            5.0
        """
        self._rules.give(Rule("impl", fn, fn))
        return fn

    @overload
    def def_host(self, fn: F) -> F: ...
    @overload
    def def_host(self, fn: F, *, keep: Callable[..., Any], of: str | Sequence[str], most: int = 16) -> F: ...
    @overload
    def def_host(self, *, keep: Callable[..., Any], of: str | Sequence[str], most: int = 16) -> Callable[[F], F]: ...
    def def_host(
        self, fn: Any = None, *, keep: Any = None, of: str | Sequence[str] = (), most: int = 16, aliases: None = None
    ) -> Any:
        """Give a host implementation, which JAX cannot look into: ``fn(*operands, **params) -> results``.

        It receives read-only NumPy arrays, and returns NumPy arrays with the shapes and dtypes that abstract eval
        declares; a Python number takes the declared dtype. It may run any Python code that is pure and does not use
        JAX. It runs if there is neither an impl nor a kernel for the platform.

        What is expensive to set up can be kept between calls, and found again by the bytes of the operands that it is
        made from: ``fn(made, *operands, **params)`` with ``made = keep(*those_operands)``. Value and derivatives, call sites
        and programs share it, and no two calls have it at the same time. `kept` counts.

        Args:
            fn: the function.
            keep: makes a set-up from the operands, and static params by keyword, that ``of`` names.
            of: names of operands and static params of ``fn``.
            most: how many set-ups are kept that no call uses now.

        Raises:
            BadCall: ``of`` names what ``fn`` does not take; or ``aliases=`` is given, which kernels have: JAX copies what
                Python returns, so a host function saves nothing by working in place.
            HostError: raised when it runs, if it uses JAX, writes to its input, or returns a type other than declared.

        Example:
            >>> import jax, jax.numpy as jnp
            >>> median = Primitive("median")
            >>> @median.def_host
            ... def _(x):
            ...     return np.median(x).astype(x.dtype)
            >>> @median.def_abstract_eval
            ... def _(x):
            ...     return jax.ShapeDtypeStruct((), x.dtype)
            >>> float(median(jnp.array([3.0, 1.0, 2.0])))
            2.0
        """
        refuse_ignored(self.name, fn, keep, of, most, aliases)
        if fn is None:
            return partial(self.def_host, keep=keep, of=of, most=most)
        author = fn if keep is None else host_with_set_ups(self.name, fn, keep, of, most)
        rule = Rule("host", author, author)
        forms.refuse_functions(self._rules, rule)
        self._rules.give(rule)
        return fn

    def kept(self) -> Kept:
        """How often set-ups of the host function were made and found again, and how many there are now.

        Raises:
            BadCall: the host function was given without ``keep=``.

        Example:
            >>> import jax.numpy as jnp
            >>> ranked = Primitive("ranked")
            >>> _ = ranked.def_host(lambda order, x, y: y[order], keep=lambda x: x.argsort(), of="x")
            >>> _ = ranked.def_abstract_eval(lambda x, y: y)
            >>> x = jnp.array([3.0, 1.0, 2.0])
            >>> _ = ranked(x, x), ranked(x, 2 * x)
            >>> ranked.kept()
            Kept(made=1, found=1, alive=1)
        """
        return self._set_ups().counts()

    def forget(self) -> None:
        """Drop all set-ups that the host function keeps.

        Raises:
            BadCall: the host function was given without ``keep=``.

        Example:
            >>> ranked = Primitive("ranked")
            >>> _ = ranked.def_host(lambda order, x: x[order], keep=lambda x: x.argsort(), of="x")
            >>> _ = ranked.def_abstract_eval(lambda x: x)
            >>> _ = ranked(np.array([3.0, 1.0], np.float32))
            >>> ranked.forget()
            >>> ranked.kept().alive
            0
        """
        self._set_ups().forget()

    def _set_ups(self) -> KeptSetUps:
        return set_ups_of(self.name, self._rules.given.get("host"), self._rules.made)

    @overload
    def def_kernel(self, fn: F, *, platform: str) -> F: ...
    @overload
    def def_kernel(self, *, platform: str) -> Callable[[F], F]: ...
    def def_kernel(self, fn: Any = None, *, platform: str) -> Any:
        """Give a JAX-traceable implementation for one platform, such as an FFI call or a Pallas kernel.

        The impl serves all other platforms.

        Args:
            fn: ``fn(*operands, **params) -> results``. The results have the same types as the impl's.
            platform: ``"cpu"``, ``"cuda"``, ``"rocm"`` or ``"tpu"``.

        Raises:
            BadCall: there is no such platform.
            RuleWrong: raised at lowering, if its result types differ from the operation's.

        Example:
            >>> square = Primitive("square")
            >>> @square.def_impl
            ... def _(x):
            ...     return x * x
            >>> @square.def_kernel(platform="cuda")
            ... def _(x):
            ...     return jax.lax.integer_pow(x, 2)
            >>> float(square(3.0))
            9.0
        """
        if fn is None:
            return lambda fn: self.def_kernel(fn, platform=platform)
        self._check_platform("def_kernel", platform)
        rule = Rule("kernel", fn, fn, platform)
        forms.refuse_functions(self._rules, rule)
        self._rules.give(rule)
        derive.reinstall(self._rules)
        return fn

    @overload
    def def_lowering(self, rule: F, platform: str | None = None) -> F: ...
    @overload
    def def_lowering(self, *, platform: str | None = None) -> Callable[[F], F]: ...
    def def_lowering(self, rule: Any = None, platform: str | None = None) -> Any:
        """Give a raw MLIR lowering rule, as ``mlir.register_lowering`` takes it.

        Args:
            rule: ``rule(ctx, *operands, **params)`` on MLIR values, one for each array in the operands. It returns the
                MLIR values of the results.
            platform: the platform, as in `def_kernel`; None for every platform.

        Raises:
            BadCall: there is no such platform.

        Example:
            >>> from jaxprim import mlir
            >>> double = Primitive("double")
            >>> _ = double.def_abstract_eval(lambda x: x)
            >>> @double.def_lowering
            ... def _(ctx, x):
            ...     return mlir.lower_fun(lambda x: 2 * x, multiple_results=False)(ctx, x)
            >>> float(double(3.0))
            6.0
        """
        if rule is None:
            return lambda rule: self.def_lowering(rule, platform)
        if platform is not None:
            self._check_platform("def_lowering", platform)
        self._rules.give(Rule("lowering", rule, rule, platform))
        derive.reinstall(self._rules)
        return rule

    def def_abstract_eval(self, fn: F) -> F:
        """Give the types of the results: ``fn(*avals, **params) -> avals``.

        Each array operand is passed as its type, with ``shape`` and ``dtype``. Return ``jax.ShapeDtypeStruct`` or
        ``jax.core.ShapedArray`` in the pytree of the results. A host function and a raw lowering need this rule; for an
        impl it is derived.

        Raises:
            RuleWrong: raised at tracing, if it does not return types, or disagrees with the impl.

        Example:
            >>> import jax, jax.numpy as jnp
            >>> pair = Primitive("pair")
            >>> @pair.def_host
            ... def _(x):
            ...     return x.min(), x.max()
            >>> @pair.def_abstract_eval
            ... def _(x):
            ...     return jax.ShapeDtypeStruct((), x.dtype), jax.ShapeDtypeStruct((), x.dtype)
            >>> [float(y) for y in pair(jnp.array([3.0, 1.0, 2.0]))]
            [1.0, 3.0]
        """
        self._rules.give(Rule("abstract_eval", fn, fn))
        return fn

    @overload
    def def_function(self, operand: str, fn: F, /) -> F: ...
    @overload
    def def_function(self, operand: str, /) -> Callable[[F], F]: ...
    def def_function(self, operand: str, fn: Any = None, /) -> Any:
        """Declare that an operand is a function, and what it is called with: ``fn(*operands, **params) -> arguments``.

        Any function may then stand there in a call: a new ``lambda`` each time, a bound method, a module. It may close over
        anything, also over traced values, with respect to which derivatives flow in both modes. It is traced at the call, at
        the types of the arguments, and must be pure. The impl and the rules call it, and differentiate it as any function:
        ``jax.vjp(lambda f, x: f(x), f, x)``. A VJP rule returns its cotangent in its place.

        Args:
            operand: the name of the operand.
            fn: returns the arguments, a tuple of arrays or types in any pytree. A list of tuples, if the function is called
                in several ways.

        Raises:
            BadCall: the implementation cannot call JAX code; raised by a call if there is no such operand, or it is not a
                function.
            RuleWrong: raised by a call if the declaration does not return arguments, or the function has side effects or
                does not return arrays; raised when it is called with other arguments than declared.

        Example:
            >>> import jax
            >>> twice = Primitive("twice")
            >>> _ = twice.def_impl(lambda f, x: f(f(x)))
            >>> @twice.def_function("f")
            ... def _(f, x):
            ...     return (x,)
            >>> float(jax.grad(lambda a: twice(lambda x: a * x, 3.0))(2.0))
            12.0
        """
        forms.refuse_other_names(self._rules, operand)
        if fn is None:
            return lambda fn: self.def_function(operand, fn)
        self._rules.give(forms.function_rule(self._rules, operand, fn))
        if isinstance(self._calls, EagerCalls):
            self._calls = forms.WithFunctions(self._calls, self._rules)
        return fn

    # --------------------------------------------------------------------------------------------------- derivatives
    @overload
    def def_jvp(self, rule: F, /) -> F: ...
    @overload
    def def_jvp(self, /, **per_operand: Callable[..., Any] | None) -> None: ...
    def def_jvp(self, rule: Any = None, /, **per_operand: Any) -> Any:
        """Give the JVP rule: ``rule(primals, tangents, **params) -> (primals_out, tangents_out)``.

        A tangent has the shape and dtype of its primal. A zero tangent, and that of an integer, boolean or key, is a
        `jaxprim.Zero`, which supports arithmetic. The rule may return one, or None, for a zero. It must be linear in
        the tangents. If it has an argument named ``perturbed``, it gets booleans in the structure of ``primals``.

        Alternatively, give one rule per operand, by name: ``f(x_dot, y, *primals, **params) -> y_dot``. None declares a
        zero derivative.

        Raises:
            RuleWrong: raised when the rule is used, if it returns a wrong structure, shape or dtype.

        Example:
            >>> scale = Primitive("scale")
            >>> _ = scale.def_impl(lambda x, factor: x * factor)
            >>> @scale.def_jvp
            ... def _(primals, tangents):
            ...     (x, factor), (x_dot, factor_dot) = primals, tangents
            ...     return scale(x, factor), x_dot * factor + x * factor_dot
            >>> [float(v) for v in jax.jvp(scale, (3.0, 2.0), (1.0, 10.0))]
            [6.0, 32.0]
        """
        self._refuse_both("def_jvp", rule, per_operand)
        given = per_operand if rule is None else None
        self._rules.give(
            forms.jvp_rule(self._rules, rule) if given is None else forms.jvp_per_operand(self._rules, given)
        )
        return rule

    @overload
    def def_vjp(self, rule: F, /, *, surrogate: str | None = None) -> F: ...
    @overload
    def def_vjp(self, fwd: F, bwd: Callable[..., Any], /, *, surrogate: str | None = None) -> F: ...
    @overload
    def def_vjp(self, /, *, surrogate: str) -> Callable[[F], F]: ...
    @overload
    def def_vjp(self, /, *, surrogate: None = None, **per_operand: Callable[..., Any] | None) -> None: ...
    def def_vjp(self, rule: Any = None, bwd: Any = None, /, *, surrogate: str | None = None, **per_operand: Any) -> Any:
        """Give the VJP rule: ``rule(primals, **params) -> (primals_out, pullback)``.

        ``pullback(cotangents)`` returns one cotangent per operand, with the operand's shape and dtype, or None or
        `jaxprim.Zero` for zero. What it returns for an integer, boolean or key, which has no cotangent, is dropped. The
        cotangent of a single result is passed bare; cotangents of several results are passed in the pytree of the
        results. If there is one operand, its cotangent may be returned bare. The pullback may close over any values it
        needs. A pullback with two arguments gets residuals first: the ``residuals`` of ``(primals_out, residuals,
        pullback)``, or the primals if the rule returns ``(primals_out, pullback)``. If the rule has an argument named
        ``perturbed``, it gets booleans in the structure of ``primals``.

        ``def_vjp(fwd, bwd)`` takes the two functions of ``jax.custom_vjp``. ``def_vjp(x=f)`` takes one rule per
        operand, ``f(y_bar, y, *primals, **params) -> x_bar``.

        Args:
            rule: the rule, or ``fwd``.
            bwd: ``bwd(residuals, cotangents)``.
            surrogate: the reason why the rule deliberately departs from the derivative (straight-through, clipping).
                The pullback may then be nonlinear, and JAX differentiates it as written.
            **per_operand: rules by operand name; None declares a zero derivative.

        Raises:
            RuleWrong: raised when the rule is used, if it returns a wrong structure, shape or dtype.

        Example:
            >>> import jax, jax.numpy as jnp
            >>> scale = Primitive("scale")
            >>> _ = scale.def_impl(lambda x, factor: x * factor)
            >>> @scale.def_vjp
            ... def _(primals):
            ...     x, factor = primals
            ...     return scale(x, factor), lambda y_bar: (y_bar * factor, jnp.sum(y_bar * x))
            >>> [float(g) for g in jax.grad(scale, (0, 1))(3.0, 2.0)]
            [2.0, 3.0]
        """
        self._refuse_both("def_vjp", rule, per_operand)
        if rule is None and not per_operand:
            return lambda rule: self.def_vjp(rule, surrogate=surrogate)
        if rule is None:
            self._rules.give(forms.vjp_per_operand(self._rules, per_operand))
        elif bwd is not None:
            self._rules.give(forms.vjp_pair_rule(self._rules, rule, bwd, surrogate))
        else:
            self._rules.give(forms.vjp_rule(self._rules, rule, surrogate))
        return rule

    def def_partials(self, fn: F) -> F:
        """Give the partial derivatives of an elementwise operation: ``fn(y, *primals, **params) -> (dy/dx1, ...)``.

        This makes the JVP and the VJP rule of an operation with one result ``y``. Each partial derivative broadcasts
        against ``y``; None stands for a zero. The cotangent of a broadcast operand is summed to the operand's shape. If
        an operand is real and the result complex, its cotangent is the real part.

        Raises:
            RuleWrong: raised when the rule is used, if it does not return one partial derivative per operand.

        Example:
            >>> import jax, jax.numpy as jnp
            >>> hypot = Primitive("hypot")
            >>> _ = hypot.def_impl(lambda x, y: jnp.sqrt(x * x + y * y))
            >>> @hypot.def_partials
            ... def _(r, x, y):
            ...     return x / r, y / r
            >>> round(float(jax.grad(hypot)(3.0, 4.0)), 6)
            0.6
        """
        for rule in forms.partials_rules(self._rules, fn):
            self._rules.give(rule)
        return fn

    @overload
    def def_implicit(self, residual: F, /, **options: Unpack[SolveOptions]) -> F: ...
    @overload
    def def_implicit(self, /, *, fixed_point: F, **options: Unpack[SolveOptions]) -> F: ...
    @overload
    def def_implicit(self, /, *, minimum: F, **options: Unpack[SolveOptions]) -> F: ...
    @overload
    def def_implicit(self, /, **options: Unpack[SolveOptions]) -> Callable[[F], F]: ...
    def def_implicit(
        self, residual: Any = None, /, *, fixed_point: Any = None, minimum: Any = None, solve: Any = "dense",
        transpose_solve: Any = None, symmetric: bool = False, tol: float | None = None, keep: str | Sequence[str] = (),
    ) -> Any:  # fmt: skip
        """Say which equation the result y solves: ``residual(y, *operands, **params) = 0``.

        This makes the JVP and the VJP rule, by the implicit function theorem, whatever computes y. Both can be
        differentiated again. The residual is JAX code. It returns the structure and types of y; None, or anything, in
        place of a result that is an integer, a boolean or a key. Only perturbed operands are differentiated.

        Args:
            residual: the equation.
            fixed_point: instead of it, a function with ``y = fixed_point(y, *operands, **params)``.
            minimum: instead of it, the real number that y minimizes: ``minimum(y, *operands, **params)``.
            solve: who solves the linear system of a derivative, with the Jacobian of the residual in y.

                - ``"dense"``: LU decomposition, for up to 2,000 unknowns.
                - ``"diagonal"``: for an elementwise equation.
                - ``"cg"``: conjugate gradients, for a symmetric positive definite Jacobian.
                - ``"gmres"``, ``"bicgstab"``, ``"normal_cg"``: for any Jacobian, without a matrix.
                - a function ``solve(matvec, b)``, which returns x with ``matvec(x) = b``, in the structure of y.
                - a solver of lineax.
            transpose_solve: a function like ``solve`` for the transposed system, which reverse mode solves.
            symmetric: whether the Jacobian is symmetric, so that ``solve`` solves both. At a minimum it is.
            tol: the norm of the linear system's residual at which an iterative word stops, relative to the right-hand
                side. By default four units of rounding.
            keep: names of what the implementation returns beside y, such as a factorization: ``return y, factors``. The
                two functions get it after ``b``, and nobody else sees it: the operation returns y.

        Raises:
            BadCall: there is no such solver, or the options do not go together.
            RuleMissing: raised in reverse mode, if there is no transposed solve.
            RuleWrong: raised when a rule is used, if the equation or the solver returns a wrong structure, shape or
                dtype, or the system is too large for ``"dense"``.

        Example:
            >>> import jax
            >>> root = Primitive("root")
            >>> _ = root.def_host(lambda a: np.cbrt(a))
            >>> _ = root.def_abstract_eval(lambda a: a)
            >>> @root.def_implicit(solve="diagonal")
            ... def _(y, a):
            ...     return y**3 - a
            >>> round(float(jax.grad(root)(8.0)), 6), round(float(jax.grad(jax.grad(root))(8.0)), 6)
            (0.083333, -0.006944)
        """
        options = forms.SolverOptions(
            solve, transpose_solve, symmetric, tol, (keep,) if isinstance(keep, str) else tuple(keep)
        )
        if residual is None and fixed_point is None and minimum is None:
            return lambda residual: self._give_implicit(residual, None, None, options)
        return self._give_implicit(residual, fixed_point, minimum, options)

    def _give_implicit(self, residual: Any, fixed_point: Any, minimum: Any, options: forms.SolverOptions) -> Any:
        both = forms.implicit_rules(self._rules, residual, fixed_point, minimum, options)
        self._rules.kept = options.keep
        for rule in both:
            self._rules.give(rule)
        return both[0].author

    @overload
    def def_transpose(self, rule: F, *, linear: Sequence[str] | str) -> F: ...
    @overload
    def def_transpose(self, *, linear: Sequence[str] | str) -> Callable[[F], F]: ...
    def def_transpose(self, rule: Any = None, *, linear: Sequence[str] | str) -> Any:
        """Declare that the primitive is linear in some operands, and give its transpose.

        Args:
            rule: ``rule(y_bar, *other_operands, **params)`` returns the cotangents of the linear operands, with their
                shapes and dtypes: bare for one operand, a tuple for several. It may be another `Primitive`; two
                primitives can be each other's transpose. JAX does not conjugate. If the rule has an argument named
                ``avals``, it gets the types of the linear operands, a tuple of objects with ``shape`` and ``dtype``.
            linear: the names of the operands in which the primitive is jointly linear.

        Raises:
            RuleWrong: raised when the rule is used, if it returns a wrong structure, shape or dtype.

        Example:
            >>> import jax, jax.numpy as jnp
            >>> shift = Primitive("shift")
            >>> _ = shift.def_impl(lambda x, *, steps: jnp.roll(x, steps))
            >>> @shift.def_transpose(linear="x")
            ... def _(y_bar, *, steps):
            ...     return shift(y_bar, steps=-steps)
            >>> x = jnp.array([1.0, 2.0, 3.0])
            >>> jax.linear_transpose(lambda x: shift(x, steps=1), x)(x)[0].tolist()
            [2.0, 3.0, 1.0]
        """
        if rule is None:
            return lambda rule: self.def_transpose(rule, linear=linear)
        self._rules.linear = (linear,) if isinstance(linear, str) else tuple(linear)
        self._rules.give(forms.transpose_rule(self._rules, rule))
        return rule

    # ------------------------------------------------------------------------------------------------------ batching
    @overload
    def def_batching(self, rule: str) -> str: ...
    @overload
    def def_batching(self, rule: F) -> F: ...
    def def_batching(self, rule: Any) -> Any:
        """Give the batch rule: ``rule(axis, args, dims, **params) -> (outs, dims_out)``, or a word (see `Primitive`).

        ``axis`` has ``size`` and ``name``. ``dims`` holds the batch dimension of each operand, or None for an unbatched
        one. ``dims_out`` holds the batch dimension of each result, or one dimension for all results. The rule is never
        called when nothing is batched. It does not replace the JVP and VJP rules: these are evaluated under ``vmap``.

        Raises:
            BadCall: there is no such word.
            RuleWrong: raised when the rule is used, if a result does not have the batch dimension that the rule
                declares.

        Example:
            >>> import jax, jax.numpy as jnp
            >>> total = Primitive("total")
            >>> _ = total.def_impl(lambda x: jnp.sum(x))
            >>> @total.def_batching
            ... def _(axis, args, dims):
            ...     return jnp.sum(jnp.moveaxis(args[0], dims[0], 0).reshape(axis.size, -1), 1), 0
            >>> jax.vmap(total)(jnp.ones((2, 3))).tolist()
            [3.0, 3.0]
        """
        if isinstance(rule, str):
            self._set_word(rule)
        else:
            self._rules.give(Rule("batching", rule, rule))
        return rule

    def _set_word(self, word: str) -> None:
        if word not in batching.WORDS:
            raise BadCall(
                message(
                    f"{self.name}: unknown batching word '{word}'.",
                    got=f"batching='{word}'",
                    expected=" | ".join(repr(known) for known in batching.WORDS),
                    defined=self._rules.made,
                    write=f"Primitive('{self.name}', batching='sequential')",
                )
            )
        self._rules.batching_word = word
        self._rules.given.pop("batching", None)
        self._rules.changed()

    # ------------------------------------------------------------------------------------------------------ sharding
    def def_sharding(
        self,
        rule: str,
        /,
        *,
        reduced: str | Iterable[str] | Mapping[str, str | Sequence[str]] = (),
        replicated: str | Iterable[str] = (),
    ) -> str:
        """Say how the operation splits over devices, for an implementation that XLA cannot split by itself.

        The rule names the axes of each array (``"i k"``): one group for each operand leaf, then one for each result leaf. An
        axis that all results have may be split. Each device computes its part with the same implementation, on the part
        of the operands that it has. The derivative rules need nothing: they are JAX code, and each operation in them
        splits by its own rule.

        Args:
            rule: for example ``"i k, k j -> i j"``. A scalar has an empty group; `...` stands for leading axes.
            reduced: axes that some result lacks, and over whose parts that result is summed. A dictionary says of each
                axis what that result is instead: ``"max"`` or ``"min"`` of the parts, or ``"invarying"``, the same for
                each of them. A tuple has one word, ``"sum"`` among them, for each result that lacks the axis.
            replicated: axes that each device needs whole.

        Raises:
            BadCall: the rule cannot be read, or does not say whether an axis that some result lacks is reduced or
                replicated; raised by a call if the rule has another number of arrays or axes than the operation.
            RuleWrong: raised when the operation is split, if a part of the operands does not give that part of the results.

        Example:
            >>> import jax.numpy as jnp
            >>> matmul = Primitive("matmul")
            >>> _ = matmul.def_impl(lambda a, b: a @ b)
            >>> matmul.def_sharding("i k, k j -> i j", reduced="k")
            'i k, k j -> i j'
            >>> matmul(jnp.ones((2, 3)), jnp.ones((3, 2))).tolist()
            [[3.0, 3.0], [3.0, 3.0]]
        """
        given = forms.sharding_rule(self.name, rule, reduced, replicated)
        self._rules.give(Rule("sharding", given, given))
        return rule

    def def_partition(self, rule: F) -> F:
        """Give the partition rule: ``rule(*local_operands, axis, **params) -> local_results``, what one device computes.

        It is for operations whose part of the result needs more than the same part of the operands, such as a stencil. The
        rule gets the part of the operands that the device has, and ``axis``, by which it asks the other devices:

        - ``axis.shift(x, "n", 1)``: the array of the device that has the part before, along the axis ``n``.
        - ``axis.index("n")`` and ``axis.parts("n")``: which part this device has, and of how many.

        `def_sharding` names the axes. The rule runs only if the operation is split. It is never differentiated: the
        derivative rules are those of the operation.

        Raises:
            RuleMissing: raised by a call if there is no sharding rule.
            RuleWrong: raised by a call if the rule returns something else than its part of the results.

        Example:
            >>> import jax.numpy as jnp
            >>> ahead = Primitive("ahead")
            >>> _ = ahead.def_impl(lambda x: jnp.roll(x, 1))
            >>> _ = ahead.def_sharding("n -> n")
            >>> @ahead.def_partition
            ... def _(x, axis):
            ...     return jnp.concatenate([axis.shift(x[-1:], "n", 1), x[:-1]])
            >>> ahead(jnp.arange(4)).tolist()
            [3, 0, 1, 2]
        """
        self._rules.give(Rule("partition", rule, rule))
        return rule

    # ------------------------------------------------------------------------------------------- looking and checking
    def derive(self, **choices: str) -> None:
        """Choose how rules that are not given are derived, instead of the table's default.

        Choosing ``lowering`` also sets which implementation runs everywhere, and choosing ``batching`` sets which one
        runs for batches. Giving the rule afterwards cancels the choice.

        Args:
            **choices: the source to derive each rule from, by the name of the rule.

        Raises:
            BadCall: the rule cannot be derived from that source, or the rule is given: a given rule is always used.

        Example:
            >>> half = Primitive("half")
            >>> _ = half.def_impl(lambda x: x / 2)
            >>> _ = half.def_vjp(lambda primals: (half(*primals), lambda y_bar: 5 * y_bar), surrogate="five")
            >>> float(jax.jacfwd(half)(1.0))
            5.0
            >>> half.derive(jvp="impl")
            >>> float(jax.jacfwd(half)(1.0))
            0.5
        """
        for wanted, source in choices.items():
            derive.set_choice(self._rules, wanted, source)

    def explain(self) -> Explanation:
        """Say for each rule whether it is given (where), derived (from what), or missing (why, and what to write).

        Example:
            >>> square = primitive(lambda x: x * x)
            >>> print(square.explain())
            <lambda>
              impl           given    ...
              abstract_eval  derived  from impl: by tracing the impl
              jvp            derived  from impl: JAX differentiates the impl
              vjp            derived  from impl: JAX differentiates the impl
              transpose      derived  from impl: linear_transpose of the impl, where it is linear
              batching       derived  from impl: vmap of the impl, rules kept
        """
        return derive.explain(self._rules)

    def _refuse_both(self, method: str, rule: Any, per_operand: Mapping[str, Any]) -> None:
        if rule is not None and per_operand:
            raise BadCall(
                message(
                    f"{self.name}: {method} takes one rule, or one rule per operand, not both.",
                    got=f"a rule and {', '.join(per_operand)}=",
                    defined=self._rules.made,
                    write=f"{self.name}.{method}(rule)",
                )
            )

    def _check_platform(self, method: str, platform: str) -> None:
        if platform not in PLATFORMS:
            raise BadCall(
                message(
                    f"{self.name}: {method} got an unknown platform.",
                    got=f"platform={platform!r}",
                    expected=" | ".join(map(repr, PLATFORMS)),
                    defined=self._rules.made,
                    write=f"@{self.name}.{method}(platform='cuda')",
                )
            )

    # --------------------------------------------------------------------------------------------- Python protocols
    def __repr__(self) -> str:
        return f"Primitive({self.name!r})"

    def __get__(self, instance: Any, owner: Any = None) -> Self:
        """Return the primitive, or a bound method if its first operand is called ``self``.

        Without `__get__`, ``help`` on a class would not show a signature.
        """
        is_method = instance is not None and next(iter(_operands_of(self)), None) == "self"
        return cast("Self", partial(cast("Any", self), instance)) if is_method else self

    def __getattr__(self, name: str) -> Any:
        # These are not properties: the class `Primitive` would then have them too, and `inspect` also looks at classes.
        author = _author_of(self)
        if name == "__wrapped__" and author is not None:
            return author
        if name == "__signature__":
            return (CallSignature() if author is None else self._rules.signature).shown()
        raise AttributeError(f"'{type(self).__name__}' object has no attribute {name!r}")


class _Doc:
    """The docstring of the class on `Primitive`, and the docstring of the implementation on each primitive."""

    def __init__(self, doc: str | None) -> None:
        self._doc = doc

    def __get__(self, instance: Primitive | None, owner: Any) -> str | None:
        if instance is None:
            return self._doc
        author = _author_of(instance)
        return None if author is None else whole(author).__doc__


def _author_of(made: Primitive) -> Callable[..., Any] | None:
    """The function that gives a primitive its signature and docstring."""
    rules: RuleSet | None = vars(made).get("_rules")  # None while the object is being made
    author = None if rules is None else rules.implementation_author
    return None if author is made else author


def _operands_of(made: Primitive) -> Iterable[str]:
    """The names of the operands; none before there is an implementation."""
    return () if _author_of(made) is None else rules_of(made).signature.operands


Primitive.__doc__ = _Doc(Primitive.__doc__)  # pyright: ignore[reportAttributeAccessIssue]


@overload
def primitive(fn: Callable[P, R], /, *, name: str | None = None, batching: str | None = None) -> Primitive[P, R]: ...
@overload
def primitive(
    *, name: str | None = None, batching: str | None = None
) -> Callable[[Callable[P, R]], Primitive[P, R]]: ...
@public
@_jax.boundary
def primitive(
    fn: Callable[..., Any] | None = None, /, *, name: str | None = None, batching: str | None = None
) -> Primitive | Callable[[Callable[..., Any]], Primitive]:
    """Make a `Primitive` from a function, which becomes its impl and gives it its name.

    Args:
        fn: the impl, any callable: a function, a ``functools.partial``, a NumPy ufunc. Without it, as in
            ``@primitive(batching="elementwise")``, this returns a decorator.
        name: the name in jaxprs, profiles and messages; by default the function's name.
        batching: how a batch is evaluated, as in `Primitive`.

    Raises:
        BadCall: ``fn`` is not callable, or there is no such batching word.

    Example:
        >>> from jaxprim import primitive
        >>> @primitive
        ... def scale(x, factor):
        ...     return x * factor
        >>> float(scale(3.0, 2.0))
        6.0
        >>> @primitive(batching="sequential")
        ... def square(x):
        ...     return x * x
        >>> jax.vmap(square)(np.arange(3.0)).tolist()
        [0.0, 1.0, 4.0]
    """
    if fn is None:
        return lambda fn: primitive(fn, name=name, batching=batching)
    if not callable(fn):
        raise _no_function(fn, _origin.place())
    made = Primitive(name_of(fn) if name is None else name, batching=batching)
    made.def_impl(fn)
    _take_names(made, fn, name)
    return made


def _take_names(made: Primitive, fn: Callable[..., Any], name: str | None) -> None:
    """Give a primitive the module and qualified name of its function."""
    fn = whole(fn)
    made.__module__ = getattr(fn, "__module__", None) or made.__module__
    if name is None:
        made.__qualname__ = getattr(fn, "__qualname__", None) or made.__qualname__


def _no_name(name: Any, made: str) -> BadCall:
    is_function = callable(name)
    return BadCall(
        message(
            "Primitive needs a name.",
            got=named(name) if is_function else _trees.describe(name),
            expected="a string",
            defined=made,
            write="@primitive  # on the function, which becomes the impl" if is_function else "Primitive('name')",
        )
    )


def _no_function(value: Any, place: str) -> BadCall:
    return BadCall(
        message(
            "primitive needs a function.",
            got=_trees.describe(value),
            expected="a function, which becomes the impl",
            defined=place,
            write=f"Primitive({value!r})" if isinstance(value, str) else "@primitive",
        )
    )


def _avals(call: Call, leaves: Sequence[Any]) -> list[Any]:
    """The types of operands. Raises `BadCall` for anything that is not an array."""
    avals = [_type_of(leaf) for leaf in leaves]
    if not all(avals):
        refuse_other_types(call, avals, leaves)
    return avals


def _type_of(leaf: Any) -> Any:
    try:
        return _jax.typeof(leaf)
    except (TypeError, ValueError):
        return None


def _needs_jax(leaf: Any) -> bool:
    """Whether a leaf is not a plain array on one device: a PRNG key, or an array over several devices."""
    aval = _type_of(leaf)
    return aval is None or _jax.is_key(aval) or (isinstance(leaf, jax.Array) and len(leaf.devices()) > 1)


def _committed_to(leaves: Sequence[Any]) -> set[Any]:
    """The devices of operands that were put on one deliberately. Results go there, as JAX's own do."""
    return {device for leaf in leaves if isinstance(leaf, jax.Array) and leaf.committed for device in leaf.devices()}
