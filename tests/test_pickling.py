"""A primitive and a kernel copy to themselves, and pickle by module and name or say why they do not."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import pytest

import jaxprim
from jaxprim import Primitive

MAKERS = {
    "Primitive": "op = Primitive('op')",
    "another name": "another_name = Primitive('op')",
    "primitive": "@primitive\ndef op(x): return x",
    "primitive with options": "@primitive(name='other', batching='vmap')\ndef op(x): return x",
    "partial": "import functools\nop = primitive(functools.partial(lambda a, x: a * x, 2))",
    "ufunc": "op = primitive(np.sin)",
    "from_numpy": "op = jaxprim.from_numpy(np.sin, like='x')",
    "kernel": "op = kernels.cpp('void op(const float* x, int64_t n, float* y) {}', 'op(x: f32[n]) -> f32[n]')",
    "numba": "op = kernels.numba(lambda x: x + 1, '(x: f32) -> f32')",
    "a helper's": "def make():\n    made = Primitive('made')\n    return made\nop = make()",
    "a class's": "class Ops:\n    @primitive\n    def op(x): return x",
}
HEAD = "import jaxprim, numpy as np\nfrom jaxprim import Primitive, primitive, kernels\n"


@pytest.fixture(name="module")
def _module(monkeypatch):
    """Runs code as a module of another name."""

    def make(source, name="their_ops"):
        module = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(HEAD + source, vars(module))
        return module

    return make


@pytest.mark.parametrize("maker", MAKERS)
def test_it_copies_to_itself_and_pickles_by_module_and_name(maker, module):
    made = module(MAKERS[maker])
    op = next(v for name, v in vars(made).items() if name in ("op", "another_name", "Ops"))
    op = getattr(op, "op", op)
    assert copy.copy(op) is op
    assert copy.deepcopy({"op": [op]})["op"][0] is op
    dumped = pickle.dumps({"op": (op, 1)})
    assert b"their_ops" in dumped
    assert pickle.loads(dumped)["op"][0] is op


def test_one_that_a_helper_in_another_module_made(module):
    module("def make(name):\n    return Primitive(name)", "their_factory")
    made = module("from their_factory import make\nop = make('made')")
    assert b"their_ops" in pickle.dumps(made.op)
    assert pickle.loads(pickle.dumps(made.op)) is made.op


def test_one_that_was_made_in_a_function_and_then_put_into_a_module(module):
    def make():
        return Primitive("late")

    made = module("")
    made.op = make()
    assert pickle.loads(pickle.dumps(made.op)) is made.op


def test_its_own_name_comes_first(module):
    """IPython's `_` and `_3` are what was printed last, another object soon."""
    made = module("_ = None\nalias = None\n_3 = alias = op = _ = Primitive('op')")
    assert b"op" in pickle.dumps(made.op)
    del made.op
    assert b"alias" in pickle.dumps(made.alias)


def refusal(op):
    with pytest.raises(pickle.PicklingError) as caught:
        pickle.dumps(op)
    return str(caught.value)


def message(got, kind="Primitive"):
    return textwrap.dedent(f"""\
        op: it cannot be pickled, because it is not an attribute of a module.
          got:      {got}
          why:      a {kind} is pickled by module and name
          defined:  <string>:3
          write:    op = ...  # at the top level of a module that can be imported""")


def test_the_reason_is_that_it_was_made_again(module):
    made = module("op = Primitive('op')")
    old, made.op = made.op, Primitive("op")
    assert refusal(old) == message("'op' of module 'their_ops' is now another Primitive")


def test_the_reason_is_that_the_name_is_gone(module):
    made = module("op = Primitive('op')")
    op = made.__dict__.pop("op")
    assert refusal(op) == message("a Primitive made in module 'their_ops', which has no name for it")


def test_the_reason_is_that_the_module_is_not_imported(module):
    op = module("op = Primitive('op')").op
    del sys.modules["their_ops"]
    assert refusal(op) == message("module 'their_ops', which is not imported")


def test_the_reason_is_that_a_function_made_it(module):
    kernel = MAKERS["kernel"].removeprefix("op = ")
    made = module(f"def make(): return {kernel}")
    assert refusal(made.make()) == message("a Kernel made in the function 'make' of module 'their_ops'", "Kernel")


def test_pickling_into_another_process(tmp_path):
    (tmp_path / "my_ops.py").write_text("from jaxprim import primitive\n@primitive\ndef triple(x):\n    return 3 * x\n")
    program = textwrap.dedent("""
        import pickle, sys
        import my_ops
        if sys.argv[1] == "dump":
            pickle.dump(my_ops.triple, open("p.pkl", "wb"))
        else:
            print(float(pickle.load(open("p.pkl", "rb"))(2.0)))
    """)
    (tmp_path / "run.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(Path(jaxprim.__file__).parents[1]), "JAX_PLATFORMS": "cpu"}
    run = lambda what: subprocess.run(
        [sys.executable, "run.py", what], cwd=tmp_path, check=True, capture_output=True, text=True, env=environment
    )
    run("dump")
    assert run("load").stdout.strip() == "6.0"


@pytest.mark.parametrize("name", jaxprim.__all__)
def test_what_is_public_says_so_and_pickles(name):
    thing = getattr(jaxprim, name)
    if not isinstance(thing, types.ModuleType):
        assert thing.__module__ == "jaxprim"
        assert pickle.loads(pickle.dumps(thing)) is thing


def test_an_error_keeps_its_class():
    error = pickle.loads(pickle.dumps(jaxprim.RuleWrong("wrong")))
    assert (type(error), str(error)) == (jaxprim.RuleWrong, "wrong")
