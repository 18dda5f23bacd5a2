"""Pytrees of operands, results, tangents and cotangents: named leaves, None for a zero, code that writes them."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import Primitive, RuleWrong
from jaxprim._trees import (
    TreeMismatch,
    bare,
    describe,
    described,
    flatten_like,
    identifiers,
    leaf_names,
    returned,
    stand_in,
    written,
)

Point = namedtuple("Point", ["x", "y"])


@jax.tree_util.register_dataclass
@dataclass
class Params:
    w: Any
    b: Any


@jax.tree_util.register_pytree_node_class
class Strict:
    """A node that refuses leaves that are no arrays."""

    def __init__(self, a):
        if not hasattr(a, "dtype"):
            raise TypeError("an array, please")
        self.a = a

    def tree_flatten(self):
        return (self.a,), None

    @classmethod
    def tree_unflatten(cls, aux, children):
        (a,) = children
        return cls(a)


@jax.tree_util.register_dataclass
@dataclass
class Named:
    w: Any
    name: str = field(metadata={"static": True})


TREES = {
    "leaf": 0,
    "tuple": (0, 1),
    "empty": (),
    "none": None,
    "nested": ({"b": [0, (1,)], "a": 2}, None, 3),
    "namedtuple": Point(0, {"z": 1}),
    "dataclass": Params(0, (1, 2)),
    "ordered": OrderedDict(b=0, a=1),
    "default": defaultdict(list, b=0, a=1),
    "static data": Named(0, "n"),
}


# ------------------------------------------------------------------------------------------------------------ flatten_like
@pytest.mark.parametrize("tree", TREES)
def test_a_value_of_the_same_structure(tree):
    value = TREES[tree]
    leaves, treedef = jax.tree.flatten(value)
    assert flatten_like(treedef, value) == leaves


@pytest.mark.parametrize("tree", TREES)
def test_none_is_zero_for_a_whole_subtree(tree):
    treedef = jax.tree.structure(TREES[tree])
    assert flatten_like(treedef, None) == [None] * treedef.num_leaves


def test_none_is_zero_at_any_depth():
    treedef = jax.tree.structure(({"a": 0, "b": (1, 2)}, 3))
    assert flatten_like(treedef, (None, 30)) == [None, None, None, 30]
    assert flatten_like(treedef, ({"a": None, "b": (10, None)}, None)) == [None, 10, None, None]
    assert flatten_like(treedef, ({"a": 1, "b": None}, 3)) == [1, None, None, 3]
    params = jax.tree.structure(Params(0, (1, 2)))
    assert flatten_like(params, Params(None, (1, None))) == [None, 1, None]
    assert flatten_like(params, Params(5, None)) == [5, None, None]


def test_lists_and_tuples_stand_for_each_other():
    treedef = jax.tree.structure((0, [1, 2]))
    assert flatten_like(treedef, [0, (1, 2)]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("expected", "value", "where"),
    [
        (0, (1,), ""),
        ((0, 1), 1, ""),
        ((0, 1), (1,), ""),
        ({"a": 0}, {"b": 0}, ""),
        ({"a": (0, 1)}, {"a": (0,)}, "['a']"),
        (({"a": 0}, 1), ({"a": [0]}, 1), "[0]['a']"),
        (Params(0, 1), Point(0, 1), ""),
        (Params(0, 1), {"w": 0, "b": 1}, ""),
        ([Params(0, (1, 2))], [Params(0, (1,))], "[0].b"),
    ],
)
def test_mismatches_name_the_place(expected, value, where):
    with pytest.raises(TreeMismatch) as caught:
        flatten_like(jax.tree.structure(expected), value)
    assert caught.value.got_where.endswith(f", at {where}" if where else describe(value))


@pytest.mark.parametrize("tree", TREES)
def test_a_stand_in_has_the_structure_and_the_leaves(tree):
    leaves, treedef = jax.tree.flatten(TREES[tree])
    made = stand_in(treedef, leaves)
    assert flatten_like(treedef, made) == leaves
    assert describe(made) == (described(treedef) if tree != "leaf" else "an int")
    if treedef.num_leaves > 1:
        with pytest.raises(TreeMismatch):
            flatten_like(jax.tree.structure([0, [0], 0]), made)


def test_static_data_that_only_the_definition_knows_must_agree():
    @jax.tree_util.register_pytree_node_class
    class Keyed(dict):  # a mapping whose keys are its static data
        def tree_flatten(self):
            return tuple(self.values()), tuple(self)

        @classmethod
        def tree_unflatten(cls, keys, children):
            return cls(zip(keys, children, strict=True))

    class Other:
        def __init__(self, **parts):
            self.parts = parts

    jax.tree_util.register_pytree_node(
        Other,
        lambda o: (tuple(o.parts.values()), tuple(o.parts)),
        lambda keys, parts: Other(**dict(zip(keys, parts, strict=True))),
    )
    assert flatten_like(jax.tree.structure(Other(a=0)), Other(a=5)) == [5]
    with pytest.raises(TreeMismatch):
        flatten_like(jax.tree.structure(Other(a=0)), Other(b=5))
    assert flatten_like(jax.tree.structure(Keyed(a=0)), Keyed(a=5)) == [5]
    with pytest.raises(TreeMismatch):
        flatten_like(jax.tree.structure(Keyed(a=0)), Keyed(b=5))


def test_bare():
    leaf, pair = jax.tree.structure(0), jax.tree.structure((0, 1))
    of = jax.tree_util.treedef_tuple
    assert bare(of([leaf]), 5) == (leaf, 5)
    assert bare(of([leaf]), (5,)) == (leaf, 5)
    assert bare(of([leaf]), [5]) == (leaf, 5)
    assert bare(of([pair]), (1, 2)) == (pair, (1, 2))
    assert bare(of([pair]), ((1, 2),)) == (pair, (1, 2))
    assert bare(of([leaf, leaf]), (1, 2)) == (of([leaf, leaf]), (1, 2))


# ------------------------------------------------------------------------------------------------------------ for messages
def test_leaf_names():
    tree = jax.tree.structure(({"w": 0, "b": (1, 2)}, 3))
    assert leaf_names(tree, ["p", "x"]) == ["p['b'][0]", "p['b'][1]", "p['w']", "x"]
    assert leaf_names(jax.tree.structure((0, 1))) == ["[0]", "[1]"]
    assert leaf_names(jax.tree.structure((Params(0, 1),)), ["p"]) == ["p.w", "p.b"]
    assert identifiers(["p['b'][0]", "x", "p.w"], "_bar") == ["p_b_0_bar", "x_bar", "p_w_bar"]


def test_written_is_python():
    tree = jax.tree.structure(({"w": 0, "b": [1, (2,)]}, Point(3, 4)))
    code = written(tree, list("abcde"))
    assert code == "({'b': [a, (b,)], 'w': c}, Point(x=d, y=e))"
    assert jax.tree.structure(eval(code, {"Point": Point, **dict(zip("abcde", range(5), strict=True))})) == tree
    assert returned(jax.tree.structure((0, 1)), ["a", "b"]) == "return a, b"
    assert returned(jax.tree.structure((0,)), ["a"]) == "return (a,)"
    assert returned(jax.tree.structure(0), ["a"]) == "return a"
    assert written(jax.tree.structure(Strict(np.ones(1))), ["a"]) == "Strict(a)"
    assert written(jax.tree.structure(Named(0, "n")), ["w"]) == "Named(w=w, name='n')"
    assert written(jax.tree.structure(OrderedDict(b=0, a=1)), ["b", "a"]) == "OrderedDict({'b': b, 'a': a})"
    assert written(jax.tree.structure(defaultdict(list, a=0)), ["a"]) == "{'a': a}"
    assert written(jax.tree.structure((None, [])), []) == "(None, [])"


def test_describe():
    assert describe((1, 2)) == "a tuple of 2"
    assert describe({"b": 1, "a": 2}) == "a dict with keys ['a', 'b']"
    assert describe(jnp.ones((2, 3))) == "one array, float32[2,3]"
    assert describe(np.ones(2, np.int8)) == "one array, int8[2]"
    assert describe(None) == "None"
    assert describe(1) == "an int"
    assert describe(Params(1, 2)) == "a Params"


# ------------------------------------------------------------------------------------------------- operands and results
VALUES = {
    "dict": {"w": jnp.arange(3.0), "b": jnp.ones(3)},
    "tuple": (jnp.arange(3.0), jnp.ones(3)),
    "list": [jnp.arange(3.0), [jnp.ones(3)]],
    "namedtuple": Point(jnp.arange(3.0), jnp.ones(3)),
    "dataclass": Params(jnp.arange(3.0), jnp.ones(3)),
    "with none": {"w": jnp.arange(3.0), "b": None, "c": ()},
    "partial": jax.tree_util.Partial(lambda: None, jnp.arange(3.0)),
    "ordered": OrderedDict(w=jnp.arange(3.0), b=jnp.ones(3)),
}


@pytest.mark.parametrize("call", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("tree", VALUES)
def test_pytree_operands_and_results(tree, call):
    """y = 3 x, leaf by leaf, for the same tree in and out."""
    op = Primitive("triple")
    op.def_impl(lambda t: jax.tree.map(lambda x: 3 * x, t))

    @op.def_jvp
    def _(primals, tangents):
        return op(*primals), jax.tree.map(lambda t: 3 * t, tangents[0])

    @op.def_vjp
    def _(primals):
        return op(*primals), lambda bar: (jax.tree.map(lambda t: 3 * t, bar),)

    value = VALUES[tree]
    total = lambda t: sum(jnp.sum(leaf) for leaf in jax.tree.leaves(op(t)))
    same = lambda got, factor: jax.tree.map(np.testing.assert_allclose, got, jax.tree.map(lambda x: factor * x, value))
    same(call(op)(value), 3)
    same(call(lambda t: jax.jvp(op, (t,), (t,))[1])(value), 3)
    grads = call(jax.grad(total))(value)
    jax.tree.map(lambda g: np.testing.assert_allclose(g, 3), grads)
    assert jax.tree.structure(grads) == jax.tree.structure(value)
    batched = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), value)
    got = call(jax.vmap(op))(batched)
    jax.tree.map(np.testing.assert_allclose, got, jax.tree.map(lambda x: 3 * x, batched))


def test_a_tree_that_changes_between_calls():
    op = Primitive("total")
    op.def_impl(lambda t: sum(map(jnp.sum, jax.tree.leaves(t))))
    for _ in range(2):
        assert float(op({"a": 1.0})) == 1.0
        assert float(op([1.0, 2.0])) == 3.0
        assert float(op(({"a": 1.0}, (2.0, 3.0)))) == 6.0
        assert float(op(5.0)) == 5.0


@pytest.mark.parametrize(
    "call",
    [lambda f: f, jax.jit, jax.vmap, lambda f: lambda x: jax.jvp(f, (x,), (x,))[1]],
    ids=["eager", "jit", "vmap", "jvp"],
)
def test_results_whose_tree_depends_on_params_and_types(call):
    op = Primitive("op")
    op.def_impl(lambda x, *, parts=1: [x] * parts if parts > 1 else ({"x": x} if x.ndim > 1 else x))
    assert len(call(lambda x: op(x, parts=3))(jnp.ones(2))) == 3
    assert len(call(lambda x: op(x, parts=2))(jnp.ones(2))) == 2
    for _ in range(2):
        assert call(op)(jnp.ones(2)).shape == (2,)
        assert set(call(op)(jnp.ones((4, 2, 2)))) == {"x"}


def test_two_leaves_of_one_type_do_not_change_places():
    """An OrderedDict keeps its own order, unlike a dict."""
    op = Primitive("op")
    op.def_impl(lambda t: 2 * t["b"] + 3 * t["a"])
    op.def_vjp(lambda primals: (op(*primals), lambda bar: OrderedDict(b=2 * bar, a=3 * bar)))
    op.def_jvp(lambda primals, tangents: (op(*primals), 2 * tangents[0]["b"] + 3 * tangents[0]["a"]))
    for call in (lambda f: f, jax.jit):
        got = call(jax.grad(op))(OrderedDict(b=1.0, a=1.0))
        assert (float(got["b"]), float(got["a"])) == (2.0, 3.0)
        tangent = OrderedDict(b=10.0, a=0.0)
        _, dot = call(lambda t: jax.jvp(op, (OrderedDict(b=1.0, a=1.0),), (t,)))(tangent)
        assert float(dot) == 20.0


# ------------------------------------------------------------------------------------- classes that look at their leaves
class Pair:
    """Two arrays. What it is built of is converted, checked and noted."""

    met: ClassVar[list[Any]] = []

    def __init__(self, w, b):
        Pair.met += [type(w), type(b)]
        self.w, self.b = jnp.asarray(w), jnp.asarray(b)
        assert self.w.ndim == 0


@dataclass
class Checked:
    w: Any
    b: Any

    def __post_init__(self):
        if not isinstance(self.w, jax.Array | np.ndarray) or not isinstance(self.b, jax.Array | np.ndarray):
            raise TypeError(f"arrays, please, not {self.w!r} and {self.b!r}")


for cls in (Pair, Checked):
    jax.tree_util.register_pytree_node(cls, lambda p: ((p.w, p.b), None), lambda _, parts, cls=cls: cls(*parts))


def affine_of(cls, how):
    """w x + b, for an operand that holds w and b; the result is of the class too."""
    op = Primitive("affine")
    impl = lambda x, p: cls(p.w * x, p.b + x)

    def pullback(primals, bar):
        x, p = primals
        return bar.w * p.w + bar.b, cls(bar.w * x, bar.b)

    def jvp(primals, tangents):
        (x, p), (x_dot, p_dot) = primals, tangents
        return op(x, p), cls(p_dot.w * x + p.w * x_dot, p_dot.b + x_dot)

    op.def_impl(impl)
    if how == "abstract eval":
        op.def_abstract_eval(lambda x, p: cls(jnp.asarray(p.w), jnp.asarray(p.b)))
    if how == "kernel":
        op.def_kernel(impl, platform="cpu")
    if how in ("jvp", "both"):
        op.def_jvp(jvp)
    if how in ("vjp", "both"):
        op.def_vjp(lambda primals: (op(*primals), lambda bar: pullback(primals, bar)))
    if how == "per operand":
        op.def_jvp(
            x=lambda t, y, x, p: cls(p.w * t, t + 0 * p.b),
            p=lambda t, y, x, p: cls(t.w * x, t.b + 0 * x),
        )
        op.def_vjp(x=lambda c, y, x, p: c.w * p.w + c.b, p=lambda c, y, x, p: cls(c.w * x, c.b))
    return op


HOWS = ["impl", "kernel", "abstract eval", "jvp", "vjp", "both", "per operand"]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("cls", [Pair, Checked])
def test_a_class_that_looks_at_its_leaves_is_built_of_arrays(cls, how):
    op, Pair.met[:] = affine_of(cls, how), []
    x, p = jnp.float32(3), cls(jnp.float32(2), jnp.float32(5))
    total = lambda x, p: op(x, p).w + 10 * op(x, p).b
    for jit in (lambda f: f, jax.jit):
        out = jit(op)(x, p)
        assert (type(out), float(out.w), float(out.b)) == (cls, 6.0, 8.0)
        x_bar, p_bar = jit(jax.grad(total, (0, 1)))(x, p)
        assert [float(v) for v in (x_bar, p_bar.w, p_bar.b)] == [12.0, 3.0, 10.0]
        assert float(jit(jax.grad(lambda x: total(x, p)))(x)) == 12.0
        assert float(jit(lambda x: jax.jvp(lambda x: total(x, p), (x,), (x,))[1])(x)) == 36.0
        dot = jit(lambda w: jax.jvp(lambda w: total(x, cls(w, p.b)), (w,), (w,))[1])(p.w)
        assert float(dot) == 6.0
        np.testing.assert_array_equal(jit(jax.vmap(lambda x: total(x, p)))(jnp.stack([x, x])), [86.0, 86.0])
        np.testing.assert_array_equal(jit(jax.vmap(jax.grad(lambda x: total(x, p))))(jnp.stack([x, x])), [12.0, 12.0])
    assert not {t for t in Pair.met if t in (int, bool, object, type(None), str)}


def test_a_message_about_such_a_class():
    op, one = Primitive("op"), jnp.float32(1)
    op.def_impl(lambda p: p.w * p.b)
    op.def_vjp(lambda primals: (op(*primals), lambda bar: Pair(bar * one, jnp.ones(2))))
    with pytest.raises(RuleWrong, match=r"a wrong cotangent for p\[<flat index 1>\]"):
        jax.grad(op)(Pair(one, one))
    op.def_vjp(lambda primals: (op(*primals), lambda bar: {"w": bar}))
    with pytest.raises(
        RuleWrong, match=r"(?s)got: .*a dict with keys.*expected: a Pair.*return Pair\(p_flat_index_0_bar, "
    ):
        jax.grad(op)(Pair(one, one))
