"""What a signature says."""

from __future__ import annotations

import pytest

from jaxprim import KernelError
from jaxprim.kernels.signature import parse
from jaxprim.kernels.sizes import local


def test_operands_attributes_and_results():
    found = parse("rms_norm(x: f32[n, d], w: f32[d]; eps: f32 = 1e-6, steps: i32) -> f32[n, d]")
    assert found.function == "rms_norm"
    assert [(a.name, a.dtype, a.dims) for a in found.operands] == [("x", "f32", ("n", "d")), ("w", "f32", ("d",))]
    assert [(a.name, a.dtype, a.default) for a in found.attributes] == [("eps", "f32", 1e-6), ("steps", "i32", None)]
    assert [(a.name, a.dims) for a in found.results] == [("out", ("n", "d"))]
    assert found.sizes == ("n", "d")
    assert not found.several


def test_names_are_optional_and_results_may_be_several():
    found = parse("(f64[n], i32[n, 3]) -> (mean: f64[], f64[2*n + 1])")
    assert [a.name for a in found.operands] == ["x1", "x2"]
    assert [(a.name, a.dims) for a in found.results] == [("mean", ()), ("out2", ("2*n + 1",))]
    assert found.several


def test_one_result_in_parentheses_is_a_tuple_of_one():
    assert parse("(f32[n]) -> (f32[n])").several


def test_no_operands():
    assert parse("(; n: i64) -> f32[n]").operands == ()


def test_batch_axes():
    found = parse("(x: f32[..., d], w: f32[d]) -> f32[...]")
    assert [a.batched for a in (*found.operands, *found.results)] == [True, False, True]
    assert found.results[0].dims == ()


def test_numbers_alone_are_an_elementwise_function():
    found = parse("(f64, f64) -> f64")
    assert found.elementwise
    assert all(a.batched and a.by_value for a in (*found.operands, *found.results))


def test_a_number_among_arrays_is_passed_by_value():
    found = parse("(x: f64[n], a: f64) -> f64[n]")
    assert not found.elementwise
    assert [a.by_value for a in found.operands] == [False, True]
    assert not found.operands[1].batched


def test_type_variables():
    found = parse("(x: T[n], i: I[n]; eps: T) -> T[n]")
    assert found.variables == ("T", "I")
    assert str(found.resolve({"T": "f64", "I": "i32"})) == "(x: f64[n], i: i32[n]; eps: f64) -> f64[n]"


@pytest.mark.parametrize(
    "source",
    [
        "f(x: f32[n, d], w: f32[d]; eps: f32 = 1e-06) -> f32[n, d]",
        "(x1: f32[..., n], x2: f32[]) -> (a: f32[..., n], b: i32[...])",
        "(x: f32[n]) -> (f32[n])",
        "(x: f64, y: c128) -> c128",
    ],
)
def test_a_signature_reads_back(source):
    assert str(parse(str(parse(source)))) == str(parse(source)) == source.replace(" ...", " ...")


@pytest.mark.parametrize(
    "source",
    [
        "f32[n] -> f32[n]",
        "(f32[n])",
        "(f32[n]) -> ",
        "(f33[n]) -> f32[n]",
        "(x f32[n]) -> f32[n]",
        "(x: f32[n-1]) -> f32[n]",
        "(x: f32[n]) -> f32[m]",
        "(x: f32[n]) -> f32[n ** 2]",
        "(x: f32[n], x: f32[n]) -> f32[n]",
        "(n: f32[n]) -> f32[n]",
        "(x: f32[n]; eps: f16) -> f32[n]",
        "(x: f32[n]; eps) -> f32[n]",
        "(x: f32[n]; eps: f32 = y) -> f32[n]",
        "(x: f32[..., n]) -> f32[n]",
        "(x: f32[n]) -> f32[..., n]",
        "(x: f32[n]) -> T[n]",
        "(f32, f32) -> (f32, f32)",
        "(bf16) -> bf16",
        "(x: f32[n]; k: f32) -> f32[k]",
    ],
)
def test_what_cannot_be_read_is_refused(source):
    with pytest.raises(Exception, match="this signature can't be read"):
        parse(source)


@pytest.mark.parametrize(
    "source",
    [
        "(x: f32[n]) -> f32[n], i32[]",
        "(x: f32[n]) -> f32[n],",
        "(x: f32[004]) -> f32[4]",
        "(x: f32[n]) -> f32[n + 99999999999999999999]",
        "(x: f32[n]; lambda: f32) -> f32[n]",
        "(x: f32[n]; x\u00b2: f32) -> f32[n]",
        "(x: f32[n]; \ufb01: f32) -> f32[n]",
        "(x: f32[n]; jaxprim_lock: i64) -> f32[n]",
        "(x: f32[n]; n: f32) -> f32[n]",
        "(x: F32[n]) -> F32[n]",
        "(x: f32[n]; eps: f32 = 'a') -> f32[n]",
        "(x: f32[n]; eps: f32 = 1e40) -> f32[n]",
        "(x: f32[n]; eps: T = [1]) -> f32[n]",
        "(x: f32[n]; k: u8 = 256) -> f32[n]",
        "(x: f32[n]) -> f32[" + "n + " * 5000 + "1]",
    ],
)
def test_what_only_seems_to_be_a_signature_is_refused(source):
    with pytest.raises(KernelError, match="this signature can't be read") as caught:
        parse(source)
    assert len(str(caught.value)) < 2000


def test_letters_beyond_ascii():
    found = parse("(\u03c3: f32[\u00f1]; \u03b2: f32) -> f32[\u00f1]")
    assert found.sizes == ("\u00f1",)
    assert local("\u03b2") == "v__u3b2_"
