"""Who made this: places in messages, the names of a function on its primitive, and cells that are run again."""

from __future__ import annotations

import doctest
import functools
import gc
import inspect
import io
import os
import pydoc
import sys
import threading
import types
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprim
from jaxprim import BadCall, Example, Primitive, _origin, kernels, primitive
from jaxprim._origin import here, name_of, source_of
from jaxprim._rules import rules_of

HERE = f"{__file__.rpartition('/')[2]}:"


def line():
    return sys._getframe(1).f_lineno


# --------------------------------------------------------------------------------------------------------------- places
def helper(name):
    return Primitive(name)


def cpp(name="op", scale="2"):
    return kernels.cpp(
        f"void {name}(const float* x, int64_t n, float* y) {{ for (int64_t i = 0; i < n; ++i) y[i] = {scale} * x[i]; }}",
        f"{name}(x: f32[n]) -> f32[n]",
    )


MAKERS = {
    "Primitive": lambda: Primitive("op"),
    "primitive of a partial": lambda: primitive(functools.partial(jnp.add, 2)),
    "primitive of a ufunc": lambda: primitive(np.sin),
    "primitive with options": lambda: primitive(name="op", batching="vmap")(lambda x: x),
    "from_numpy": lambda: jaxprim.from_numpy(np.sin),
    "finite differences": lambda: jaxprim.from_numpy(np.sin, derivative="finite differences"),
    "numba": lambda: kernels.numba(lambda x: x + 1, "(x: f32) -> f32"),
    "numba, writing": lambda: kernels.numba(lambda x, y: None, "(x: f32[n]) -> (y: f32[n])"),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_it_is_made_at_the_author_s_line(make):
    made = make()
    place = rules_of(made).made if isinstance(made, Primitive) else made.origin
    assert place.endswith(f"{HERE}{make.__code__.co_firstlineno}")


def test_it_is_made_at_the_line_of_the_helper():
    made = helper("op")
    assert rules_of(made).made.endswith(f"{HERE}{helper.__code__.co_firstlineno + 1}")
    assert cpp().origin.endswith(f"{HERE}{cpp.__code__.co_firstlineno + 1}")


def test_rules_that_from_numpy_writes_are_the_author_s_line():
    op = jaxprim.from_numpy(lambda x: x, derivative="finite differences")
    where = f"{HERE}{line() - 1}"
    shown = str(op.explain()).splitlines()
    assert [row.endswith(where) for row in shown if " given " in row] == [True] * 4


def test_where_a_function_was_written():
    class Callable:
        def __call__(self, x):
            return x

    place = f"{HERE}{line() - 3}"
    for fn in (Callable(), functools.partial(Callable(), 1), Callable.__call__, jax.jit(Callable.__call__)):
        assert source_of(fn).endswith(place)
    assert source_of(np.sin) == "<sin>"
    assert source_of(len) == "<len>"
    made = Primitive("made")
    assert source_of(made).endswith(f"{HERE}{line() - 1}")
    assert [name_of(f) for f in (np.sin, functools.partial(np.sin), Callable(), made)] == [
        "sin",
        "sin",
        "Callable",
        "made",
    ]


def test_here_outside_of_any_module():
    """A thread's first frame is a function: there is no top level, so nothing can be run again."""
    found = []
    thread = threading.Thread(target=lambda: found.append(here()))
    thread.start()
    thread.join()
    assert found[0].run is None
    assert found[0].module == __name__


# ------------------------------------------------------------------------------------------------------ @primitive's forms
def test_primitive_with_and_without_options():
    @primitive(batching="sequential", name="tripled")
    def triple(x):
        return 3 * x

    @primitive()
    def double(x):
        return 2 * x

    assert (triple.name, triple.__name__, triple.__qualname__) == ("tripled", "tripled", "tripled")
    assert "sequential" in str(triple.explain())
    assert jax.vmap(triple)(jnp.arange(3.0)).tolist() == [0, 3, 6]
    assert (double.name, float(double(3.0))) == ("double", 6.0)
    assert primitive(lambda x: x, name="same").name == "same"


class Power:
    """A power."""

    def __call__(self, x, *, exponent=2):
        return x**exponent


@pytest.mark.parametrize(
    ("fn", "name", "signature", "expected"),
    [
        (functools.partial(lambda a, x: a * x, 2.0), "<lambda>", "(x)", 6),
        (jnp.square, "square", "(x: 'ArrayLike', /) -> 'Array'", 9),
        (Power(), "Power", "(x, *, exponent=2)", 9),
        (functools.partial(Power(), exponent=3), "Power", "(x, *, exponent=3)", 27),
        (lambda x: x + 1, "<lambda>", "(x)", 4),
        (jax.jit(lambda x, *, n=1: x + n), "<lambda>", "(x, *, n=1)", 4),
    ],
)
def test_primitive_on_anything_that_can_be_called(fn, name, signature, expected):
    made = primitive(fn)
    assert made.name == name
    assert str(inspect.signature(made)).replace('"', "'") == signature
    assert float(made(3.0)) == expected


def test_primitive_on_a_ufunc():
    """It has a name and operands; that NumPy cannot be traced is said when it is."""
    made = primitive(np.hypot)
    assert (made.name, str(inspect.signature(made))) == ("hypot", "(x1, x2)")
    with pytest.raises(jaxprim.RuleWrong, match="def_host"):
        made(3.0, 4.0)


@pytest.mark.parametrize(
    ("value", "got", "write"), [("scale", "a str", "Primitive('scale')"), (3, "an int", "@primitive")]
)
def test_primitive_on_what_cannot_be_called(value, got, write):
    with pytest.raises(BadCall) as caught:
        primitive(value)
    made = line() - 1
    assert str(caught.value).replace(os.path.relpath(__file__), __file__).splitlines() == [
        "primitive takes a function.",
        f"  got:      {got}",
        "  expected: a function, which becomes the impl",
        f"  defined:  {__file__}:{made}",
        f"  write:    {write}",
    ]


# ----------------------------------------------------------------------------------------- the function that it was made from
@primitive
def scale(x: jax.Array, factor: jax.Array, *, power: int = 1) -> jax.Array:
    """Scale an array.

    >>> float(scale(3.0, 2.0))
    6.0
    """
    return x * factor**power


def test_it_looks_like_its_function():
    fn = scale.__wrapped__
    assert inspect.isfunction(fn)
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        assert getattr(scale, name) == getattr(fn, name)
    assert inspect.signature(scale) == inspect.signature(fn)
    assert inspect.unwrap(scale) is fn
    assert typing.get_type_hints(scale.__wrapped__)["power"] is int
    assert "scale(x: 'jax.Array', factor: 'jax.Array', *, power: 'int' = 1)" in helped(scale).replace(
        "jax.jaxlib", "jax"
    )
    assert "Scale an array." in helped(scale)


def helped(thing):
    out = io.StringIO()
    pydoc.Helper(output=out).help(thing)
    return out.getvalue()


def test_one_that_is_made_by_name_looks_like_its_first_implementation():
    op = Primitive("op")
    assert (op.__doc__, op.__module__, op.__qualname__) == (None, __name__, "op")
    assert str(inspect.signature(op)) == "(*operands, **params)"
    assert not hasattr(op, "__wrapped__")

    def types_of(a, /):
        """Types."""
        return a

    def host(h, *, n=1):
        """Host."""
        return h

    def impl(i, *, n=1):
        """Impl."""
        return i

    for give, fn in ((op.def_abstract_eval, types_of), (op.def_host, host), (op.def_impl, impl)):
        give(fn)
        assert (op.__doc__, op.__wrapped__) == (fn.__doc__, fn)
        assert inspect.signature(op) == inspect.signature(fn)
        assert (op.__name__, op.__qualname__, op.name) == ("op", "op", "op")
    op.def_impl(lambda other: other)
    assert (op.__doc__, str(inspect.signature(op))) == (None, "(other)")
    op.__doc__ = "My own."
    assert op.__doc__ == "My own."


def test_jax_names_the_arguments():
    with pytest.raises(ValueError, match="argument x of type"):
        jax.vmap(scale)(jnp.ones(3), jnp.ones(4))
    assert float(jax.jit(scale, static_argnames="power")(3.0, 2.0, power=2)) == 12.0


def test_the_class_keeps_its_own_docstring_and_signature():
    assert Primitive.__doc__.startswith("A custom JAX operation")
    assert list(inspect.signature(Primitive).parameters) == ["name", "batching"]
    assert not hasattr(Primitive, "__signature__")


def test_doctest_finds_the_examples_in_its_docstring():
    found = [test.name for test in doctest.DocTestFinder().find(sys.modules[__name__]) if test.examples]
    assert f"{__name__}.scale" in found


def test_wraps_and_class_attributes():
    @functools.wraps(scale)
    def wrapper(*args):
        return scale(*args)

    class Model:
        op = scale

    assert (wrapper.__name__, wrapper.__doc__) == ("scale", scale.__doc__)
    assert inspect.signature(wrapper) == inspect.signature(scale)
    assert Model.op is Model().op is scale


def test_a_primitive_that_is_its_own_impl_can_still_be_looked_at():
    op = Primitive("op")
    op.def_impl(op)
    assert str(inspect.signature(op)) == "(*operands, **params)"
    assert "op" in str(op.explain())


# --------------------------------------------------------------------------------------------------------------- examples
def test_an_example_of_a_tuple_and_a_dict_is_one_of_two_operands():
    op = Primitive("op")
    op.def_impl(lambda pair, weights: pair[0] * weights["w"])
    op.def_examples(lambda: [((1.0, 2.0), {"w": 3.0})])
    assert op.examples() == (Example(((1.0, 2.0), {"w": 3.0})),)


@pytest.mark.parametrize(
    "impl", [lambda x, *, n: x, lambda x, y, *, n: x, lambda x, y, z: x], ids=["one", "a param's name", "three"]
)
def test_static_params_come_in_an_example(impl):
    op = Primitive("op")
    made = f"{HERE}{line() - 1}"
    op.def_impl(impl)
    op.def_examples(lambda: [((1.0,), {"n": 2})])
    with pytest.raises(BadCall) as caught:
        op.examples()
    head, got, expected, defined, write = str(caught.value).splitlines()
    assert head == "op: an example that has static params is a jaxprim.Example."
    assert got == "  got:      a tuple of 1 and a dict of n"
    assert expected == "  expected: a tuple of operands, or an Example"
    assert defined.endswith(made)
    assert write == "  write:    Example((x, ...), {'n': ...})"


# ----------------------------------------------------------------------------------------------------- cells that are run again
HEAD = """
import jax, jax.numpy as jnp, numpy as np, jaxprim
from jaxprim import Primitive, primitive, kernels
def make(factor):
    op = Primitive("made in a helper")
    op.def_impl(lambda x: factor * x)
    return op
def wrapped(factor):
    return make(factor)
SOURCE = "void op(const float* x, int64_t n, float* y) {{ for (int64_t i = 0; i < n; ++i) y[i] = {0} * x[i]; }}"
"""
CELLS = {
    "Primitive": "op = Primitive('op')\nop.def_impl(lambda x: {0} * x)",
    "primitive": "@primitive\ndef op(x):\n    return {0} * x",
    "primitive with options": "@primitive(name='other')\ndef op(x):\n    return {0} * x",
    "from_numpy": "op = jaxprim.from_numpy(lambda x: x * np.float32({0}), name='op')",
    "finite differences": "op = jaxprim.from_numpy(lambda x: x * np.float32({0}), derivative='finite differences', name='op')",
    "cpp": "op = kernels.cpp(SOURCE.format({0}), 'op(x: f32[n]) -> f32[n]')",
    "numba": "op = kernels.numba(lambda x: {0} * x, '(x: f32) -> f32')",
    "kernel in a primitive": "op = primitive(kernels.cpp(SOURCE.format({0}), 'op(x: f32[n]) -> f32[n]'))",
    "helper": "op = make({0})",
    "helper's helper": "op = wrapped({0})",
    "class": "class Ops:\n    op = make({0})\nop = Ops.op",
}


def run_cell(source, module, name="<module>", filename="<cell>"):
    exec(compile(source, filename, "exec").replace(co_name=name), module)


@pytest.mark.parametrize("co_name", ["<module>", "<cell line: 1>"])
@pytest.mark.parametrize("module", ["__main__", "__notebook__"])
@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_that_is_run_again(cell, module, co_name, kernel_cache):
    """Compiled functions that read the name trace again."""
    notebook = {"__name__": module}
    run = functools.partial(run_cell, module=notebook, name=co_name)
    run(HEAD)
    run(CELLS[cell].format(2))
    run("compiled = jax.jit(lambda x: op(x))")
    x = jnp.ones(3, "float32")
    assert notebook["compiled"](x).tolist() == [2, 2, 2]
    run(CELLS[cell].format(10))
    assert notebook["op"](x).tolist() == [10, 10, 10]
    assert notebook["compiled"](x).tolist() == [10, 10, 10]


def test_every_one_of_a_cell_that_makes_several_of_a_name():
    notebook = {"__name__": "__main__"}
    run_cell(HEAD, notebook)
    cell = "one = make({0}); two = make({0})"
    run_cell(cell.format(2), notebook)
    run_cell("compiled = jax.jit(lambda x: one(x))", notebook)
    assert float(notebook["compiled"](1.0)) == 2.0
    run_cell(cell.format(10), notebook)
    assert float(notebook["compiled"](1.0)) == 10.0


def test_one_run_that_makes_many_of_a_name_traces_nothing_again():
    """Otherwise a script that makes a primitive for each layer would compile everything once for each."""
    traced = []
    fn = jax.jit(lambda x: traced.append(1) or x)
    for _ in range(3):
        op = helper("layer")
        op.def_impl(lambda x: x)
        jax.eval_shape(op, 1.0)
        fn(1.0)
    assert len(traced) == 1


def test_what_was_made_is_forgotten_with_it():
    notebook = {"__name__": "__forgotten__"}
    run_cell(HEAD + CELLS["Primitive"].format(2), notebook)
    assert ("__forgotten__", "op") in _origin._made
    notebook.clear()
    gc.collect()
    assert ("__forgotten__", "op") not in _origin._made


def test_a_page_of_another_module_is_another_place():
    """The same name in two modules are two operations."""
    traced = []
    one, two = types.ModuleType("one"), types.ModuleType("two")
    run_cell(HEAD + CELLS["Primitive"].format(2), vars(one))
    fn = jax.jit(lambda x: traced.append(1) or one.op(x))
    fn(1.0)
    run_cell(HEAD + CELLS["Primitive"].format(3), vars(two))
    fn(1.0)
    assert len(traced) == 1
