"""Whatever a signature, its arguments, options and operands say: it works, or an error of jaxprim's says what is wrong."""

from __future__ import annotations

import ctypes
import random
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprim import JaxprimError, from_numpy, kernels
from jaxprim.kernels.arguments import refuse_left_out
from jaxprim.kernels.handler import Function, write_handler
from jaxprim.kernels.kernel import Kernel, Target
from jaxprim.kernels.signature import parse

DRAWS = 1500
ADDRESS = ctypes.cast(ctypes.CDLL(None).labs, ctypes.c_void_p).value  # of any function

NAMES = [
    "x",
    "y",
    "z",
    "w",
    "k",
    "p",
    "q",
    "x",
    "n",
    "m",
    "T",
    "lambda",
    "status",
    "self",
    "\u03b1",
    "ﬁ",
    "x²",
    "if",
    "None",
    "_",
    "out",
    "jaxprim_lock",
    "int",
    "kernel",
]
DTYPES = ["f32", "f64", "c64", "i8", "i64", "u64", "bool", "f16", "bf16", "T", "U", "F32", "f33", "", "i128"]
SIZES = [
    "n",
    "m",
    "3",
    "n", "m", "...", "3", "004", "0", "-1", "n + 1", "n // 0", "n // m", "n - 9", "n**2", "2 * n // (n - n)", "", "n/2", "²", "٣",
    "n + " * 5000 + "1", "(" * 300 + "n" + ")" * 300, "9" * 30, str(2**62), "lambda", "1_0", "0x10", "'n'", "n if n else m", "\0", "n\n",
]  # fmt: skip
DEFAULTS = ["1", "1e-6", "'a'", "[1]", "1e999", "-1", "True", "2**3", "1j", "(", "[" * 2000, "9" * 5000, "None", ""]
JUNK = [
    "",
    ",",
    ";",
    "(",
    ")",
    "[",
    "]",
    "->",
    ":",
    "=",
    "...",
    "\0",
    "\n",
    "\U0001d4b3",
    "'",
    '"',
    "\\",
    "%s",
    "{",
    "\ud800",
]
ITEMS = [
    "x", "&x", "n", "&n", "n:i32", "n:f64", "n:c128", "n:bool", "n:f16", "n:f99", "eps", "&eps", "eps:i32", "eps:u8", "out", "out=x", "x=out",
    "&status", "status", "&status:f64", "&status:i32", "3", "3.5:i8", "300:u8", "1e999", "1e400:f32", "'N'", "'名'", "'NT'", "''", "'", "(", "[",
    "scratch f64[n]", "scratch f64[n // 0]", "scratch f99[n]", "scratch f32[]", "scratch", "n // 0", "n" + "+n" * 5000, "True", "True:i32",
    "None", "1j", "-" + "9" * 30, "9" * 5000, "out1", "out2", "lambda", "x:f32", "1:c64", "&'N'", "", " ", "\u03b1", "*x", "\0",
]  # fmt: skip
VALUES = [
    0, 1, -1, 2.5, True, None, "a", [1], [1, [2]], 10**400, 2**63, 2**64, float("nan"), float("inf"), 1e300, 1j, np.array(2.0), np.array([2.0]),
    np.float16(1), np.uint64(2**63), jnp.float32(2), object(), np.array(1, ">f8"), np.datetime64("2020"), b"x", {}, lambda: 1, np.array("a"),
]  # fmt: skip
OPERANDS = [
    1, 2.5, 1j, True, None, "a", np.ones(3, np.float32), np.ones(3, np.int32), np.ones((2, 3), np.float32), np.ones(0, np.float32), [1.0, 2.0],
    np.ones(3, ">f4"), np.ones(3, np.float16), jnp.ones(3, jnp.bfloat16), np.array(["a"]), np.ones(3, np.complex64), object(), np.ones((), bool),
    np.datetime64("2020"), np.ones(3, [("a", "f4")]), {}, (), np.array(1, dtype=object), range(3),
]  # fmt: skip
LIKES = [
    5,
    object(),
    "x",
    "y",
    "(",
    "->",
    "() -> f32",
    "(f32[n]) -> f32[n], f32[n]",
    np.ones(2),
    {"a": 1},
    b"x",
    [None],
]
NOT_TEXT = [None, 5, b"(f32) -> f32", ["(f32) -> f32"], object(), 2.5, ()]
OPTIONS = {
    "arguments": [None, "", "x, n, out", "x", 5, ["x"], "x, (n, out", b"x"],
    "sizes": ["i64", "i32", "f32", None, 5, ["i32"]],
    "status": [None, {1: "it failed"}, [1], "a", {"a": 1}, {1: 2}, {1.5: "a"}, 5, {True: "a"}],
    "threads": [1, None, 0, -1, 2.5, True, "2", [1], 2**70],
    "order": ["C", "F", "c", None, 3],
    "flags": [(), "-O2", 5, None, [1], ["-O2"]],
    "libraries": [(), "m", 5, None],
    "include": [(), ".", 5, None],
    "function": [None, "f", "", 5, "a b"],
}


def signature(draw: random.Random) -> str:
    some = lambda words, usual: draw.choice(words[:usual] if draw.random() < 0.9 else words)
    name = lambda: some(NAMES, 7)
    dims = lambda: ", ".join(some(SIZES, 3) for _ in range(draw.randrange(3)))
    kind = lambda: some(DTYPES, 7) + (f"[{dims()}]" if draw.random() < 0.8 else "")
    array = lambda: (f"{name()}: " if draw.random() < 0.5 else "") + kind()
    default = lambda: f" = {draw.choice(DEFAULTS)}" if draw.random() < 0.4 else ""
    attribute = lambda: f"{some(['eps', 'x'], 1)}: {some(DTYPES, 5)}{default()}"
    several = lambda make: ", ".join(make() for _ in range(draw.randrange(3)))
    text = f"{draw.choice(['', 'f', name()])}({several(array)}; {several(attribute)}) -> {draw.choice(['({})', '{}']).format(several(array) or array())}"
    for _ in range(draw.choice([0, 0, 0, 1, 3])):
        place = draw.randrange(len(text) + 1)
        text = text[:place] + draw.choice(JUNK) + text[place + draw.randrange(3) :]
    return text


def refused(run):
    """Whether it is refused by an error of jaxprim's; any other one fails the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # Python's own, for what stands in the place of a number
        try:
            run()
        except JaxprimError:
            return True
    return False


@pytest.mark.parametrize("seed", range(4))
def test_signatures_and_calls(seed, monkeypatch):
    """A signature that can be read is one that each maker of kernels takes, and that a call can be held against."""
    monkeypatch.setattr(Kernel, "target", lambda self, resolved: Target("no_kernel"))  # nothing is compiled or run
    draw, read, called = random.Random(seed), 0, 0
    for _ in range(DRAWS // 4):
        text = signature(draw)
        if refused(partial(parse, text)):
            continue
        read += 1
        found = parse(text)
        assert str(parse(str(found))) == str(found), text
        operands = [draw.choice(OPERANDS[: draw.choice([5, None])]) for _ in found.operands]
        attributes = {row.name: draw.choice(VALUES[: draw.choice([3, None])]) for row in found.attributes}
        for make in MAKERS:
            called += not refused(partial(lowered, make, text, operands, attributes))
    assert read > DRAWS // 40
    assert called > 0


MAKERS = [
    lambda text: kernels.cpp("void f() {}", text, function="f"),
    lambda text: kernels.cpp("", text, handler="F"),
    lambda text: kernels.c_function(ADDRESS, text, sizes="i32", order="F"),
    lambda text: from_numpy(lambda *operands, **params: operands, like=text, name="host"),
]


def lowered(make, text, operands, attributes):
    made = make(text)
    jax.jit(lambda: made(*operands, **attributes)).lower()


@pytest.mark.parametrize("seed", range(2))
def test_arguments(seed):
    draw, read = random.Random(seed), 0
    shapes = [
        "(x: f64[n]; eps: f32) -> f64[n]",
        "(x: c128, y: f32[n, m]; eps: i64, status: u8) -> (f32[m], i32[])",
        "(x: f64) -> f64",
    ]
    signatures = [parse(text) for text in shapes]
    for _ in range(DRAWS):
        spec = draw.choice([",", ", "]).join(draw.choice(ITEMS) for _ in range(draw.randrange(6)))
        call = Function("f", by_address=draw.random() < 0.5, arguments=spec, size=draw.choice(["i64", "i32"]))
        found = draw.choice(signatures)
        read += not refused(partial(write_handler, found, call))
        refused(partial(refuse_left_out, found, spec))
    assert read > DRAWS // 100


@pytest.mark.parametrize(
    ("option", "value"),
    [pytest.param(key, value, id=f"{key}-{i}") for key, values in OPTIONS.items() for i, value in enumerate(values)],
)
def test_options(option, value):
    """An option is taken, or refused where the kernel is made."""
    signature = "f(x: f64[n]) -> f64[n]"
    refused(lambda: kernels.cpp("void f(const double* x, int64_t n, double* y) {}", signature, **{option: value}))
    refused(lambda: kernels.cpp("", signature, handler="F", **{option: value}))
    if option in ("arguments", "sizes", "status", "threads", "order"):
        refused(lambda: kernels.c_function(ADDRESS, signature, **{option: value}))


@pytest.mark.parametrize("like", [pytest.param(like, id=str(i)) for i, like in enumerate(LIKES)])
def test_types_of_host_results(like):
    def call():
        jax.eval_shape(from_numpy(lambda x: x, like=like, name="host"), np.ones(2, np.float32))

    refused(call)


@pytest.mark.parametrize("text", [pytest.param(text, id=str(i)) for i, text in enumerate(NOT_TEXT)])
def test_what_is_no_signature(text):
    assert refused(lambda: parse(text))
    assert refused(lambda: kernels.cpp("", text))
    assert refused(lambda: kernels.c_function(ADDRESS, text))


@pytest.mark.parametrize("value", [pytest.param(value, id=str(i)) for i, value in enumerate(VALUES)])
@pytest.mark.parametrize("dtype", ["f32", "f64", "i8", "i64", "u64", "bool"])
def test_attributes_are_taken_alike_by_plain_and_jitted_calls(dtype, value, monkeypatch):
    monkeypatch.setattr(Kernel, "target", lambda self, resolved: Target("no_kernel"))
    kernel = kernels.cpp("void f() {}", f"f(x: f32[]; a: {dtype}) -> f32[]")
    staged = refused(lambda: jax.jit(lambda: kernel(np.float32(1), a=value)).lower())
    assert refused(lambda: kernel._calls._enter(None, (np.float32(1),), {"a": value})) == staged
