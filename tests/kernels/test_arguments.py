"""How a signature's operands, attributes, sizes and results reach a C function."""

from __future__ import annotations

import pytest

from jaxprim import KernelError
from jaxprim.kernels.arguments import Layout, c_arguments, refuse_left_out
from jaxprim.kernels.handler import Function, prototype, write_handler
from jaxprim.kernels.signature import parse

SOLVE = parse("(a: f64[n, n], b: f64[n, k]; tol: f64, m: i32) -> (lu: f64[n, n], piv: i32[n], x: f64[n, k])")


def types(spec, **layout):
    return [argument.type for argument in c_arguments(SOLVE, spec, Layout(**layout))]


def test_the_default_order():
    assert types(None) == [
        "const double*", "const double*", "double", "int32_t", "int64_t", "int64_t", "double*", "int32_t*", "double*",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("item", "type_"),
    [
        ("a", "const double*"),
        ("x", "double*"),
        ("n", "int64_t"),
        ("n*k + 1", "int64_t"),
        ("&n", "int64_t*"),
        ("n:i32", "int32_t"),
        ("&(n + 1):u8", "uint8_t*"),
        ("tol", "double"),
        ("tol:f32", "float"),
        ("&tol", "double*"),
        ("&m", "int32_t*"),
        ("3", "int"),
        ("3:i64", "int64_t"),
        ("&1.5", "double*"),
        ("'N'", "char"),
        ("&'N'", "char*"),
        ("lu=a", "double*"),
        ("&status", "int64_t*"),
        ("&status:i32", "int32_t*"),
        ("scratch f32[4*n]", "float*"),
    ],
)
def test_one_argument(item, type_):
    assert types(item) == [type_]


def test_sizes_of_another_type():
    assert types("&n, k, &status", size="i32") == ["int32_t*", "int32_t", "int32_t*"]


@pytest.mark.parametrize(
    "item", ["y", "&a", "lu=b", "a=b", "x=lu", "status", "scratch f33[n]", "n:f99", "'NT'", "n ** 2", "*a"]
)
def test_what_is_unknown_is_named(item):
    with pytest.raises(KernelError, match=r"arguments=.* can't be read"):
        types(item)


def test_the_declaration_that_messages_show():
    signature = parse("(x: f32[n, d], a: f32; eps: f32) -> f32[n, d]")
    call = Function("scale")
    assert prototype(signature, call) == (
        "void scale(const float* x, float a, float eps, int64_t n, int64_t d, float* out)"
    )
    assert (
        prototype(parse("(f64, c128) -> f64"), Function("f", by_address=True))
        == "double f(double x1, double _Complex x2)"
    )


def test_names_that_are_keywords_or_names_of_jaxprim_stay_apart():
    source = write_handler(parse("(int: f32[at], call: f32[call_]; default: f32) -> f32[at]"), Function("f"))
    assert "v_int" in source
    assert "int64_t v_at" in source


@pytest.mark.parametrize(
    ("item", "type_"),
    [
        ("n:f64", "double"),
        ("n:c128", "double _Complex"),
        ("&n:f32", "float*"),
        ("m:f64", "double"),
        ("3000000000", "int64_t"),
    ],
)
def test_numbers_of_a_later_kind(item, type_):
    assert types(item) == [type_]


@pytest.mark.parametrize(
    "item",
    [
        "tol:i32",
        "n:bool",
        "1.5:i32",
        "300:u8",
        "-1:u8",
        "1e999",
        "'\u540d'",
        "'N':i32",
        "n)",
        "(n",
        "'N",
        "9" * 30,
        "n" + "+n" * 5000,
    ],
)
def test_what_a_type_cannot_hold_is_refused(item):
    with pytest.raises(KernelError, match=r"arguments=.* can't be read"):
        types(item)


def test_a_size_may_be_called_status_but_not_beside_the_status():
    signature = parse("(x: f64[status]) -> f64[]")
    assert [a.type for a in c_arguments(signature, None, Layout())] == ["const double*", "int64_t", "double*"]
    with pytest.raises(KernelError, match="can't be read"):
        c_arguments(signature, "x, &status, out", Layout())


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ("a, b, tol, m, n, k, lu, piv", "result 'x'"),
        ("a, b, tol, m, n, k, lu, x", "result 'piv'"),
        ("", "result 'lu'"),
        ("b, tol, m, lu, piv, x, n", "operand 'a'"),
        ("a, b, m, lu, piv, x", "attribute 'tol'"),
    ],
)
def test_what_is_left_out_is_named(spec, what):
    with pytest.raises(KernelError, match=f"arguments= leaves out the {what}"):
        refuse_left_out(SOLVE, spec)


def test_what_may_be_left_out():
    refuse_left_out(SOLVE, "lu=a, x=b, tol:f32, &m, piv")
    refuse_left_out(parse("(x: f64[n], like: f64[m]; k: i64) -> f64[m, k]"), "x, out")
    refuse_left_out(parse("(x: f64, y: f64) -> f64"), "y, x")
