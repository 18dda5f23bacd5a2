"""An error shows its author's frames, and neither JAX's nor jaxprim's, as JAX_TRACEBACK_FILTERING asks for."""

from __future__ import annotations

import traceback
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import jaxprim
from jaxprim import JaxprimError, Primitive, kernels

X = jnp.ones(3)


class Mine(Exception):
    """An error of an author's function."""


def failing(*_):
    raise Mine


def op(**rules):
    made = Primitive("op")
    made.def_impl(lambda x: x * 2.0)
    for kind, rule in rules.items():
        getattr(made, f"def_{kind}")(rule)
    return made


def host_op(fn):
    made = Primitive("op")
    made.def_host(fn)
    made.def_abstract_eval(lambda x: x)
    return made


def failing_pullback(primals):
    return primals[0], failing


CASES = {
    "call": lambda: Primitive("op")(X),
    "bind": lambda: Primitive("op").bind(X),
    "a wrong call": lambda: op()(X, X),
    "impl": lambda: op(impl=failing)(X),
    "impl under jit": lambda: jax.jit(op(impl=failing))(X),
    "impl under vmap": lambda: jax.vmap(op(impl=failing))(X),
    "host function": lambda: host_op(failing)(X),
    "JVP rule": lambda: jax.jvp(op(jvp=failing), (X,), (X,)),
    "JVP rule under jit": lambda: jax.jit(jax.jacfwd(op(jvp=failing)))(X),
    "pullback": lambda: jax.grad(lambda x: op(vjp=failing_pullback)(x).sum())(X),
    "pullback under jit": lambda: jax.jit(jax.grad(lambda x: op(vjp=failing_pullback)(x).sum()))(X),
    "definition": lambda: op().def_jvp(3),
    "constructor": lambda: Primitive(3),
    "decorator": lambda: jaxprim.primitive(3),
    "check": lambda: op(vjp=lambda primals: (2.0 * primals[0], lambda ct: 3.0 * ct)).check(X, only="vjp-differences"),
    "check of a function": lambda: jaxprim.check(op(), X, only="no-such-question"),
    "kernel": lambda: kernels.cpp("", "not a signature"),
    "from_numpy": lambda: jaxprim.from_numpy(3),
}


def files_of(case):
    with pytest.raises((Mine, JaxprimError)) as caught:
        CASES[case]()
    return [Path(frame.filename) for frame in traceback.extract_tb(caught.value.__traceback__)]


@pytest.mark.parametrize("case", CASES)
def test_only_the_authors_frames_are_shown(case):
    shown = files_of(case)
    assert [path for path in shown if path != Path(__file__)] == []
    # The line of this file that called, and the author's function if that raised.
    assert len(shown) >= 2


@pytest.fixture(name="filtering")
def _filtering():
    before = jax.config.jax_traceback_filtering
    yield lambda mode: jax.config.update("jax_traceback_filtering", mode)
    jax.config.update("jax_traceback_filtering", before)


@pytest.mark.parametrize("mode", ["off", "tracebackhide", "remove_frames"])
@pytest.mark.parametrize("case", ["call", "definition"])
def test_another_mode_loses_no_frame(case, mode, filtering):
    filtering(mode)
    assert any(path.is_relative_to(Path(jaxprim.__file__).parent) for path in files_of(case))


def test_frames_are_marked_for_ipython(filtering):
    filtering("tracebackhide")
    with pytest.raises(JaxprimError) as caught:
        CASES["call"]()
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    marked = ["__tracebackhide__" in frame.f_locals for frame in frames if frame.f_code.co_filename != __file__]
    assert len(marked) > 1
    assert all(marked)


def test_jax_names_the_authors_line_as_the_source_of_an_operation():
    """In HLO, which profilers show."""
    text = jax.jit(op(impl=lambda x: x * 3.0)).lower(X).as_text(debug_info=True)
    assert Path(__file__).name in text
    assert "jaxprim/_primitive.py" not in text
