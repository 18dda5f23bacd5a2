"""What devices communicate, read from lines of compiled programs as XLA writes them."""

from __future__ import annotations

import pytest

from jaxprim.checking.collectives import Moved, foreign_calls, moved


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("  %a.1 = f32[4,3]{1,0} all-gather(%p), channel_id=1, dimensions={0}", [("all-gather", "f32", (4, 3), 48)]),
        (
            "  ROOT %r = (bf16[4,3]{1,0}, pred[3]{0}) all-reduce(%x, %y), to_apply=%add",
            [("all-reduce", "bf16", (4, 3), 24), ("all-reduce", "pred", (3,), 3)],
        ),
        ("  %s = c64[] all-reduce-start(%x), channel_id=1", [("all-reduce", "c64", (), 8)]),
        ("  %d = f32[4]{0} all-reduce-done(%s)", []),
        ("  %t = f8e4m3fn[2,2]{1,0} all-to-all(%x)", [("all-to-all", "f8", (2, 2), 4)]),
        ("  %g = f32[4]{0} get-tuple-element(%all-gather), index=0", []),
    ],
)
def test_what_moves(line, found):
    expected = [(Moved(how, dtype, shape), size) for how, dtype, shape, size in found]
    assert [(each, each.bytes) for each in moved(line)] == expected


def test_an_array_in_words():
    assert str(Moved("all-gather", "f32", (4, 3))) == "all-gather of f32[4,3]"


def test_foreign_calls_and_the_shapes_of_their_operands():
    line = (
        '  ROOT %c = (f32[4,3]{1,0}) custom-call(%a, %b), custom_call_target="xla_ffi_python_cpu_callback", '
        "operand_layout_constraints={f32[4,3]{1,0}, f32[3]{0}}, api_version=API_VERSION_TYPED_FFI, backend_config={i = 0}"
    )
    assert foreign_calls(line) == [("xla_ffi_python_cpu_callback", [(4, 3), (3,)])]
