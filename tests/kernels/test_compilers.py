"""Compilers as people have them, and options that people give them."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from tools import cxx

from jaxprim import KernelError, kernels
from jaxprim.kernels import build

TWICE = (
    "int twice(const float* x, int64_t n, float* out) { for (int64_t i = 0; i < n; ++i) out[i] = 2 * x[i]; return 0; }"
)
STRICT = ("-Wall", "-Wextra", "-pedantic", "-Wconversion", "-Wshadow", "-Wold-style-cast", "-Wundef", "-Werror")


@cxx
@pytest.mark.parametrize(
    "flags",
    [
        ("-fvisibility=hidden",), STRICT, ("-fno-exceptions", "-fno-rtti"), ("-std=c++20",), ("-O0", "-g"), ("-flto",),
        ("-Wl,--as-needed",), ("-DNAME=a b",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_flags_that_people_have(flags):
    text = f"int twice(const float* x, int64_t n, float* out);\n{TWICE}"
    kernel = kernels.cpp(text, "twice(x: f32[...,n]) -> f32[...,n]", flags=flags, threads=None)
    assert kernel(np.ones((5, 2), np.float32)).tolist() == [[2, 2]] * 5


@cxx
def test_strict_flags_with_a_file_of_c(tmp_path):
    (tmp_path / "main.cpp").write_text(
        'extern "C" float helper(float);\nfloat f(float x);\nfloat f(float x) { return helper(x); }'
    )
    (tmp_path / "helper.c").write_text("float helper(float x);\nfloat helper(float x) { return 3 * x; }")
    files = [tmp_path / "main.cpp", tmp_path / "helper.c"]
    assert float(kernels.cpp(files, "f(x: f32) -> f32", flags=("-Wall", "-pedantic", "-Werror"))(1.0)) == 3


@cxx
def test_flags_that_cannot_work_say_so():
    with pytest.raises(KernelError, match=r"jaxprim needs C\+\+17 or later"):
        kernels.cpp(TWICE, "twice(x: f32[n]) -> f32[n]", flags=["-std=c++14"]).build()
    with pytest.raises(KernelError, match="twice: the compiler wrote no library"):
        kernels.cpp(TWICE, "twice(x: f32[n]) -> f32[n]", flags=["-fsyntax-only"]).build()
    for wrong in ("-O3", None, [3], ["a\0b"], {1: 2}):
        with pytest.raises(KernelError, match="invalid value for `flags`"):
            kernels.cpp(TWICE, "twice(x: f32[n]) -> f32[n]", flags=wrong)


@cxx
def test_a_source_with_a_mark_of_its_encoding_and_letters_of_all_kinds():
    source = "\ufeff// \N{MATHEMATICAL ITALIC SMALL X}\nfloat f(float x) { return x; }"
    assert float(kernels.cpp(source, "f(x: f32) -> f32")(2.0)) == 2
    with pytest.raises(KernelError, match="its source can't be written as UTF-8"):
        kernels.cpp("// \ud800\nfloat f(float x) { return x; }", "f(x: f32) -> f32").build()


def test_a_program_that_does_not_run_is_named(monkeypatch, tmp_path):
    program = tmp_path / "g++"
    program.write_bytes(b"\x7fELF no program")
    program.chmod(0o755)
    monkeypatch.setenv("CXX", str(program))
    with pytest.raises(KernelError, match="the compiler can't be run"):
        kernels.cpp(TWICE, "twice(x: f32[n]) -> f32[n]").build()


@cxx
def test_the_compilers_words_need_not_be_utf8(monkeypatch, tmp_path):
    program = tmp_path / "g++"
    program.write_text("#!/bin/sh\nprintf 'error: \\351' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("CXX", str(program))
    monkeypatch.setenv("JAXPRIM_CACHE", str(tmp_path / "cache"))
    with pytest.raises(KernelError, match="error: \N{REPLACEMENT CHARACTER}"):
        kernels.cpp(TWICE, "twice(x: f32[n]) -> f32[n]").build()


# -------------------------------------------------------------------------------------------- one process, many libraries
STATICS = """
inline float variable = @;
inline float in_inline() { static float s = @; return s; }
template <class T> T in_template() { static T s = @; return s; }
template <class T> struct Held { static inline T value = @; };
struct Local { static float get() { static float s = @; return s; } };
inline auto in_lambda = [] { static float s = @; return s; };
namespace ns { float global = @; }
inline thread_local float of_thread = @;
extern "C" float index(int) { return @; }
float write(int) { return @; }
void f(float* y) {
  y[0] = variable, y[1] = in_inline(), y[2] = in_template<float>(), y[3] = Held<float>::value, y[4] = Local::get();
  y[5] = in_lambda(), y[6] = ns::global, y[7] = of_thread, y[8] = index(0), y[9] = write(0);
}
"""


@cxx
def test_each_library_keeps_to_itself():
    made = [kernels.cpp(STATICS.replace("@", value), "f() -> f32[10]") for value in "23"]
    assert [kernel().tolist() for kernel in made] == [[2.0] * 10, [3.0] * 10]


@cxx
@pytest.mark.parametrize("name", ["index", "write", "read", "step", "error", "gamma", "malloc", "memcpy", "exit", "y0"])
def test_a_kernel_with_c_linkage_may_have_any_name(name):
    source = f'extern "C" void {name}(const float* x, int64_t n, float* y) {{ for (int64_t i = 0; i < n; ++i) y[i] = 2 * x[i]; }}'
    if name in ("gamma", "malloc", "memcpy", "exit", "y0"):  # declared by a header that the handler includes
        with pytest.raises(KernelError, match=f"{name}: it does not compile"):
            kernels.cpp(source, f"{name}(x: f32[n]) -> f32[n]").build()
    else:
        found = kernels.cpp(source, f"{name}(x: f32[n]) -> f32[n]")(np.ones(3, np.float32))
        assert found.tolist() == [2, 2, 2]


@cxx
@pytest.mark.parametrize("flag", ["-ffast-math", "-Ofast", "-funsafe-math-optimizations"])
def test_fast_arithmetic_stays_in_the_kernel(flag):
    source = _one(flag)
    assert build.library(source)[0].one() == 1
    assert np.float64(2.0**-1040) / 2 != 0


def _one(flag: str) -> build.Source:
    return build.Source("one", f'extern "C" int one() {{ return 1; }} // {flag}', flags=(flag,))


# --------------------------------------------------------------------------------------------------- errors and statuses
@cxx
@pytest.mark.parametrize(
    ("declared", "body", "words"),
    [
        ("enum E { OK, BAD }; E", "return *x > 0 ? BAD : OK;", "f: bad"),
        ("enum class E : unsigned char { ok, bad }; E", "return *x > 0 ? E::bad : E::ok;", "f: bad"),
        ("enum E { OK, BAD = -7 }; E", "return *x > 0 ? BAD : OK;", "f: the kernel returned status -7"),
        ("long long", "return *x > 0 ? 1LL << 40 : 0;", "f: the kernel returned status 1099511627776"),
        ("void", 'if (*x > 0) throw "plain text";', "f: plain text"),
        ("#include <string>\nvoid", 'if (*x > 0) throw std::string("a string");', "f: a string"),
        ("void", "if (*x > 0) throw 42;", "f: the kernel threw 42"),
        ("struct Mine {}; void", "if (*x > 0) throw Mine();", "f: the kernel threw a Mine"),
        ("#include <stdexcept>\nvoid", r'if (*x > 0) throw std::runtime_error("caf\xe9 \xc3\xa9 \xed\xa0\x80!");', "f: caf\ufffd é \ufffd\ufffd\ufffd!"),
    ],
)  # fmt: skip
def test_no_error_is_lost(declared, body, words):
    f = kernels.cpp(
        f"{declared} f(const float* x, float* y) {{ *y = 2; {body} }}", "f(x: f32[]) -> f32[]", status={1: "bad"}
    )
    assert float(f(-1.0)) == 2
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jax.block_until_ready(f(1.0))
    assert str(caught.value).splitlines()[0] == f"UNKNOWN: {words}"


@cxx
@pytest.mark.parametrize("kind", ["double", "float", "const char*", "struct S { int code; }; S", "void*"])
def test_what_is_no_status_does_not_compile(kind):
    f = kernels.cpp(f"{kind} f(const float* x, float* y) {{ return {{}}; }}", "f(x: f32[]) -> f32[]")
    with pytest.raises(KernelError, match="an integer or an enum that is 0 on success"):
        f.build()


@cxx
@pytest.mark.parametrize(
    "words", ["\N{MATHEMATICAL ITALIC SMALL X} < 0", 'tab\tquote" \\ new\nline ??/ %s', "\x01 é \x7f"]
)
def test_the_words_of_a_status_come_out_as_they_went_in(words):
    f = kernels.cpp("int f(const float* x, float* y) { return 1; }", "f(x: f32[]) -> f32[]", status={1: words})
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jax.block_until_ready(f(1.0))
    assert f"UNKNOWN: f: {words}" in str(caught.value)


@pytest.mark.parametrize("status", [[(1, "x")], {1: 2}, {"1": "x"}, {2**63: "x"}, "bad", 3])
def test_a_status_that_is_no_mapping_is_refused(status):
    with pytest.raises(KernelError, match="invalid value for `status`"):
        kernels.cpp(TWICE, "twice(x: f32[n]) -> f32[n]", status=status)


ANY_NAMES = ["status", "self", "int", "double", "operands", "call", "frame", "entry", "scratch", "é"]
PLACES = range(len(ANY_NAMES))


@cxx
def test_attributes_of_any_name():
    source = f"void f(const float* x, {', '.join(f'float b{i}' for i in PLACES)}, int64_t m, float* y) {{ *y = "
    source += f"m * ({' + '.join(f'{i} * b{i}' for i in PLACES)}); }}"
    f = kernels.cpp(source, f"f(x: f32[m]; {', '.join(f'{name}: f32' for name in ANY_NAMES)}) -> f32[]")
    assert float(f(np.ones(3, np.float32), **{name: i + 1 for i, name in enumerate(ANY_NAMES)})) == 3 * sum(
        i * (i + 1) for i in PLACES
    )


@cxx
def test_sizes_of_any_name():
    source = f"void f({', '.join(f'const float* x{i}' for i in PLACES)}, {', '.join(f'int64_t m{i}' for i in PLACES)}, "
    source += f"float* y) {{ *y = {' + '.join(f'{i} * m{i}' for i in PLACES)}; }}"
    f = kernels.cpp(source, f"f({', '.join(f'x{i}: f32[{name}]' for i, name in enumerate(ANY_NAMES))}) -> f32[]")
    assert float(f(*[np.ones(i + 1, np.float32) for i in PLACES])) == sum(i * (i + 1) for i in PLACES)


@pytest.mark.parametrize("name", ["lambda", "None", "class", "jaxprim_function"])
def test_a_name_that_an_attribute_cannot_have_is_refused(name):
    with pytest.raises(KernelError, match=r"a name that Python takes for an argument|a name without jaxprim_ in front"):
        kernels.cpp("", f"f(x: f32[n]; {name}: f32) -> f32[n]")
