"""`Primitive`: what users hold."""

from __future__ import annotations

import pickle
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, overload

import jax
import numpy as np

from jaxprim import _host, _jax, _rules, _trees, derive
from jaxprim._avals import equalize_varying
from jaxprim._calls import Call, EagerCall, call_of
from jaxprim._errors import BadCall, JaxprimError, text
from jaxprim._explain import explain
from jaxprim._install import install, reinstall
from jaxprim._rules import Rule, RuleSet
from jaxprim._signature import static_key, typed
from jaxprim._types import Example
from jaxprim.derive import batching, implementation

F = TypeVar("F", bound=Callable[..., Any])

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")

# The primitives that were made at the top level of a module, so that making one of the same name there again (a
# notebook cell that is run twice) makes functions compiled with the old one trace again.
_made: weakref.WeakValueDictionary[tuple[str, str], RuleSet] = weakref.WeakValueDictionary()


class Primitive:
    """A custom JAX operation: one object that holds one rule for each transformation.

    Each rule is given by its author, derived from the rules that are given, or missing with a reason; `explain` says
    which. Forward mode runs the JVP rule and reverse mode the VJP rule, in every context.

    Args:
        name: what jaxprs, profiles and messages call it.
        batching: how a batch is evaluated: ``"vmap"``, ``"sequential"``, ``"expand"``, ``"broadcast"`` or
            ``"elementwise"``. By default ``"vmap"`` for an impl, ``"sequential"`` for a host function.

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

    def __init__(self, name: str, *, batching: str | None = None) -> None:
        self.name = name
        self.rules = RuleSet(name)
        self.rules.apply = self._apply
        if batching is not None:
            self._set_word(batching)
        install(self.rules)
        self._compiled = self.rules.compiled
        self._examples: Callable[[], Iterable[Any]] | None = None
        self._module = _remember(self.rules)
        self.__name__ = self.__qualname__ = name

    # ----------------------------------------------------------------------------------------------------- applying
    def __call__(self, *operands: Any, **params: Any) -> Any:
        """Apply the primitive. Operands may be pytrees; keyword-only arguments of the impl are static params."""
        try:
            if not params:
                compiled = self._compiled.get(len(operands))
                if compiled is not None:  # this many operands are a whole call
                    return compiled(*operands) if _jax.trace_state_clean() else self._apply(operands, params)
            return self._call(operands, params)
        except TypeError as error:
            if not isinstance(error, JaxprimError):
                self._refuse_non_arrays(operands, params)  # names the operand, if that is the reason
            raise

    def bind(self, *operands: Any, **params: Any) -> Any:
        """Apply the primitive: the same as calling it. An operand may be given by its name."""
        return self(*operands, **params)

    def _call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if not _jax.trace_state_clean():
            operands, params = self.rules.signature.bind(self.name, args, kwargs)
            if not kwargs and not params and len(operands) == len(args):
                self._compiled[len(args)] = self._eager(params)
            return self._apply(operands, params)
        key = (len(args), *((name, typed(value)) for name, value in kwargs.items()))
        try:
            compiled = self._compiled.get(key)
        except TypeError:  # an operand by name, or an unhashable param, which is refused below
            compiled = None
        if compiled is not None:
            return compiled(*args)
        operands, params = self.rules.signature.bind(self.name, args, kwargs)
        compiled = self._eager(params)
        if len(operands) == len(args):
            self._compiled[key if params else len(args)] = compiled
        return compiled(*operands)

    def _eager(self, params: Mapping[str, Any]) -> Callable[..., Any]:
        """The cached compiled callable of eager calls with these params."""
        key = ("eager", static_key(self.name, params))
        if key not in self._compiled:
            self.rules.used = True
            apply = lambda *operands: self._apply(operands, params, EagerCall)
            apply.__name__ = apply.__qualname__ = self.name
            compiled = jax.jit(apply)
            self._compiled[key] = self._on_host(params, compiled) if self._runs_on_host() else compiled
        return self._compiled[key]

    def _runs_on_host(self) -> bool:
        return (
            self.rules.has("host") and not self.rules.has("impl") and jax.default_backend() not in self.rules.kernels()
        )

    def _on_host(self, params: Mapping[str, Any], compiled: Callable[..., Any]) -> Callable[..., Any]:
        """An eager host function runs at once, in this thread: its exceptions keep their own traceback."""

        def run(*operands: Any) -> Any:
            leaves, tree = jax.tree.flatten(operands)
            if jax.config.jax_debug_nans or jax.config.jax_disable_jit or any(map(_needs_jax, leaves)):
                return compiled(*operands)
            call = call_of(self.rules, params, tree)
            results = implementation.results(call, _avals(call, leaves))
            host = _host.callback(call, self.rules.given["host"], results)
            outs = host(*[np.asarray(leaf, _jax.typeof(leaf).dtype) for leaf in leaves])
            return _trees.unflatten(results.tree, jax.device_put(outs))

        return run

    def _apply(self, operands: Sequence[Any], params: Mapping[str, Any], cls: type[Call] = Call) -> Any:
        """Bind the JAX primitive to operands."""
        self.rules.used = True
        leaves, tree = jax.tree.flatten(tuple(operands))
        call = call_of(self.rules, params, tree, cls)
        if _jax.mesh_in_reach():
            leaves = equalize_varying(leaves)
        tree = call.result_tree
        if tree is None:  # not known yet, or not the same for all operand types
            tree = implementation.results(call, _avals(call, leaves)).tree
        outs = self.rules.primitive.bind(*leaves, call=call)
        return outs[0] if tree == _trees.LEAF else _trees.unflatten(tree, outs)

    def _refuse_non_arrays(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        operands, params = self.rules.signature.bind(self.name, args, kwargs)
        leaves, tree = jax.tree.flatten(operands)
        _avals(call_of(self.rules, params, tree), leaves)

    @property
    def primitive(self) -> Any:
        """The JAX primitive that jaxprs show."""
        return self.rules.primitive

    # ----------------------------------------------------------------------------------------------- implementations
    def def_impl(self, fn: F) -> F:
        """Give the JAX-traceable implementation: ``fn(*operands, **params) -> results``.

        Always traced. Its positional arguments are operands; its keyword-only arguments are static, hashable params.
        """
        self.rules.give(Rule("impl", fn, fn))
        return fn

    def def_host(self, fn: F) -> F:
        """Give a host implementation: it gets and returns NumPy arrays, and may do anything in Python but use JAX."""
        self.rules.give(Rule("host", fn, fn))
        return fn

    @overload
    def def_kernel(self, fn: F, *, platform: str) -> F: ...
    @overload
    def def_kernel(self, *, platform: str) -> Callable[[F], F]: ...
    def def_kernel(self, fn: Any = None, *, platform: str) -> Any:
        """Give a JAX-traceable implementation for one platform (``"cpu"``, ``"cuda"``, ``"rocm"``, ``"tpu"``)."""
        if fn is None:
            return lambda fn: self.def_kernel(fn, platform=platform)
        self._check_platform("def_kernel", platform)
        self.rules.give(Rule(f"kernel[{platform}]", fn, fn))
        reinstall(self.rules)
        return fn

    @overload
    def def_lowering(self, rule: F, platform: str | None = None) -> F: ...
    @overload
    def def_lowering(self, *, platform: str | None = None) -> Callable[[F], F]: ...
    def def_lowering(self, rule: Any = None, platform: str | None = None) -> Any:
        """Give a raw MLIR lowering rule, ``rule(ctx, *operands, **params)``, as ``mlir.register_lowering`` takes it."""
        if rule is None:
            return lambda rule: self.def_lowering(rule, platform)
        if platform is not None:
            self._check_platform("def_lowering", platform)
        self.rules.give(Rule(f"lowering[{platform or ''}]", rule, rule))
        reinstall(self.rules)
        return rule

    def def_abstract_eval(self, fn: F) -> F:
        """Give the result types: ``fn(*avals, **params)`` returns ``jax.ShapeDtypeStruct`` or ``ShapedArray``."""
        self.rules.give(Rule("abstract_eval", fn, fn))
        return fn

    # --------------------------------------------------------------------------------------------------- derivatives
    @overload
    def def_jvp(self, rule: F, /) -> F: ...
    @overload
    def def_jvp(self, /, **per_operand: Callable[..., Any] | None) -> None: ...
    def def_jvp(self, rule: Any = None, /, **per_operand: Any) -> Any:
        """Give the JVP rule: ``rule(primals, tangents, **params) -> (primals_out, tangents_out)``.

        Or one rule per operand, by name: ``f(x_dot, y, *primals, **params) -> y_dot``; None for a derivative that is
        zero. A tangent that is zero is a `jaxprim.Zero`; that of an integer is None.
        """
        self._refuse_both("def_jvp", rule, per_operand)
        self.rules.give(_rules.jvp_rule(rule) if rule is not None else _rules.jvp_per_operand(self.rules, per_operand))
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

        ``pullback(cotangents)`` may close over what it needs. A pullback with two arguments gets residuals: those
        of ``(primals_out, residuals, pullback)``, else the primals. ``def_vjp(fwd, bwd)`` takes the two functions of
        ``jax.custom_vjp``; ``def_vjp(x=f)`` one rule per operand, ``f(y_bar, y, *primals, **params) -> x_bar``.

        Args:
            surrogate: the reason of a deliberate departure from the derivative (straight-through, clipping). The
                pullback may then be nonlinear, and is differentiated as it is.
        """
        self._refuse_both("def_vjp", rule, per_operand)
        if rule is None and not per_operand:
            return lambda rule: self.def_vjp(rule, surrogate=surrogate)
        if rule is None:
            self.rules.give(_rules.vjp_per_operand(self.rules, per_operand))
        elif bwd is not None:
            self.rules.give(_rules.vjp_pair_rule(self.rules, rule, bwd, surrogate))
        else:
            self.rules.give(_rules.vjp_rule(self.rules, rule, surrogate))
        return rule

    def def_partials(self, fn: F) -> F:
        """Give the partial derivatives of an elementwise operation: ``fn(y, *primals, **params) -> (dy/dx1, ...)``.

        Makes the JVP and the VJP. None stands for a partial derivative that is zero.
        """
        for rule in _rules.partials_rules(self.rules, fn):
            self.rules.give(rule)
        return fn

    @overload
    def def_transpose(self, rule: F, *, linear: Sequence[str] | str) -> F: ...
    @overload
    def def_transpose(self, *, linear: Sequence[str] | str) -> Callable[[F], F]: ...
    def def_transpose(self, rule: Any = None, *, linear: Sequence[str] | str) -> Any:
        """Declare that the primitive is linear in some operands, and give its transpose.

        ``rule(y_bar, *other_operands, **params)`` returns the cotangents of the linear operands. It may be another
        `Primitive`; two can be each other's transpose.
        """
        if rule is None:
            return lambda rule: self.def_transpose(rule, linear=linear)
        self.rules.linear = (linear,) if isinstance(linear, str) else tuple(linear)
        self.rules.give(Rule("transpose", rule, rule))
        return rule

    # ------------------------------------------------------------------------------------------------------ batching
    @overload
    def def_batching(self, rule: str) -> str: ...
    @overload
    def def_batching(self, rule: F) -> F: ...
    def def_batching(self, rule: Any) -> Any:
        """Give the batch rule: ``rule(axis, args, dims, **params) -> (outs, dims_out)``, or a word (see `Primitive`).

        ``axis`` has ``size`` and ``name``; ``dims`` has the batch dimension of each operand, None where it has none.
        It is never called when nothing is batched.
        """
        if isinstance(rule, str):
            self._set_word(rule)
        else:
            self.rules.give(Rule("batching", rule, rule))
        return rule

    def _set_word(self, word: str) -> None:
        if word not in batching.WORDS:
            raise BadCall(
                text(
                    f"{self.name}: unknown batching word '{word}'.",
                    got=f"batching='{word}'",
                    expected=" | ".join(repr(known) for known in batching.WORDS),
                    write=f"Primitive('{self.name}', batching='sequential')",
                )
            )
        self.rules.batching_word = word
        self.rules.given.pop("batching", None)
        self.rules.changed()

    # ------------------------------------------------------------------------------------------- looking and checking
    def def_examples(self, fn: F) -> F:
        """Give example inputs: ``fn()`` returns or yields tuples of operands, or ``(operands, params)`` pairs."""
        self._examples = fn
        return fn

    def examples(self) -> tuple[Example, ...]:
        """The example inputs that the author gave."""
        return tuple(map(_example, self._examples())) if self._examples is not None else ()

    def derive(self, **choices: str) -> None:
        """Choose another derivation than the table's: ``p.derive(jvp="impl")``."""
        for wanted, source in choices.items():
            derive.set_choice(self.rules, wanted, source)

    def explain(self) -> str:
        """Which rule is given (where), derived (from what), or missing (why, and what to write)."""
        return explain(self.name, derive.report(self.rules))

    def operand_names(self, *operands: Any) -> tuple[str, ...]:
        """The names of the operands in a call."""
        return self.rules.signature.names(len(operands))

    def check(self, *operands: Any, **params: Any) -> Any:
        """Check the primitive at these operands (or at its examples); raises with a breadcrumb when a rule is wrong."""
        from jaxprim import checking

        report = checking.check(self, *operands, **params)
        report.raise_if_bad()
        return report

    def _refuse_both(self, method: str, rule: Any, per_operand: Mapping[str, Any]) -> None:
        if rule is not None and per_operand:
            raise BadCall(
                text(
                    f"{self.name}: {method} takes one rule, or one rule per operand, not both.",
                    got=f"a rule and {', '.join(per_operand)}=",
                    write=f"{self.name}.{method}(rule)",
                )
            )

    def _check_platform(self, method: str, platform: str) -> None:
        if platform not in PLATFORMS:
            raise BadCall(
                text(
                    f"{self.name}: {method} got an unknown platform.",
                    got=f"platform={platform!r}",
                    expected=" | ".join(map(repr, PLATFORMS)),
                    write=f"{self.name}.{method}(..., platform='cuda')",
                )
            )

    # ---------------------------------------------------------------------------------------------- copies and pickles
    def __copy__(self) -> Primitive:
        return self

    def __deepcopy__(self, memo: Any) -> Primitive:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        module = sys.modules.get(self._module)
        for attribute, value in vars(module).items() if module is not None else ():
            if value is self:
                return _find, (self._module, attribute)
        raise pickle.PicklingError(
            text(
                f"{self.name}: it cannot be pickled, as it is no attribute of the module it was made in.",
                got=f"module '{self._module}'",
                why="a Primitive pickles by module and name",
                write=f"{self.name} = Primitive('{self.name}')  # at the top level of the module",
            )
        )

    def __repr__(self) -> str:
        return f"Primitive({self.name!r})"


def primitive(fn: Callable[..., Any]) -> Primitive:
    """``@primitive`` on a function: the `Primitive` of its name, with the function as its impl.

    Example:
        >>> from jaxprim import primitive
        >>> @primitive
        ... def scale(x, factor):
        ...     return x * factor
        >>> float(scale(3.0, 2.0))
        6.0
    """
    made = Primitive(fn.__name__)
    made.def_impl(fn)
    made.__doc__ = fn.__doc__
    return made


def _find(module: str, attribute: str) -> Primitive:
    __import__(module)
    return getattr(sys.modules[module], attribute)


def _remember(rules: RuleSet) -> str:
    """Note a primitive that is made; returns the name of the module that makes it."""
    frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    if frame.f_globals.get("__name__") == __name__ and frame.f_back is not None:  # made by @primitive
        frame = frame.f_back
    module = frame.f_globals.get("__name__", "__main__")
    if frame.f_code.co_name == "<module>":
        earlier = _made.get((module, rules.name))
        if earlier is not None and earlier.used:
            _jax.bump_redefinitions()
        _made[module, rules.name] = rules
    return module


def _avals(call: Call, leaves: Sequence[Any]) -> list[Any]:
    """The types of operands; anything that is no array is refused."""
    avals = [_type_of(leaf) for leaf in leaves]
    if not all(avals):
        implementation.refuse_other_types(call, avals, leaves)
    return avals


def _type_of(leaf: Any) -> Any:
    try:
        return _jax.typeof(leaf)
    except (TypeError, ValueError):
        return None


def _needs_jax(leaf: Any) -> bool:
    """Whether a leaf is no plain array on one device: a PRNG key, or an array over several devices."""
    aval = _type_of(leaf)
    return aval is None or _jax.is_key(aval) or (isinstance(leaf, jax.Array) and len(leaf.devices()) > 1)


def _example(value: Any) -> Example:
    if isinstance(value, Example):
        return value
    is_pair = (
        isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], tuple) and isinstance(value[1], dict)
    )
    if is_pair and all(isinstance(key, str) for key in value[1]):
        return Example(value[0], value[1])
    return Example(tuple(value) if isinstance(value, tuple | list) else (value,))
