"""The C++ source of the function that XLA calls, made from a signature.

The author's function stands in the same source (`cpp`, `cuda`), or only its address is known, when the program runs
(`c_function`, `numba`). In both cases the handler reads the call, checks it, and runs the function for each position of
the batch axes, with the functions of `native/jaxprim_kernel.h`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxprim.kernels import keeping
from jaxprim.kernels.arguments import Argument, Layout, c_arguments
from jaxprim.kernels.keeping import SetUp
from jaxprim.kernels.languages import CPP, Language
from jaxprim.kernels.signature import Array, KernelSignature
from jaxprim.kernels.sizes import local, to_c

SYMBOL = "jaxprim_handler"
# Attributes of a call of a function that is known by its address: its key in the table of this process, and its name. The
# program holds no address, so it may be found in JAX's compilation cache, or loaded from a file, by another process.
KEY, NAME = "jaxprim_function", "jaxprim_name"
BIND = "jaxprim_bind"  # the C function that puts a row into the table


@dataclass(frozen=True)
class Function:
    """How the author's function is reached.

    Attributes:
        name: its name in C, and in messages.
        language: the language of its source.
        by_address: whether only its address is known. Otherwise its source stands in the same file.
        arguments: the order of its arguments, if it is not the default.
        size: the dtype in which sizes are passed.
        status: whether a returned integer other than 0 is an error. (The return type of a function in the same file
            says so itself.)
        meanings: what such integers mean.
        threads: the number of XLA's threads that share the batch axes; 0 for all of them.
        exclusive: whether only one function of this kind may run at a time in a process.
        kept: the classes of set-ups that are kept between calls. The function gets one of the last, before all else.
        most: how many of them are kept.
    """

    name: str
    language: Language = CPP
    by_address: bool = False
    arguments: str | None = None
    size: str = "i64"
    status: bool = False
    meanings: tuple[tuple[int, str], ...] = ()
    threads: int = 1
    exclusive: bool = False
    kept: tuple[SetUp, ...] = ()
    most: int = 0


def write_handler(signature: KernelSignature, function: Function) -> str:
    """The source of the handler. For a function that is known by its address, it depends on the function's type alone."""
    passed = _passed(signature, function, Layout(function.size, is_declared=not function.by_address))
    names = attribute_names(signature, function)
    return "\n".join(
        [
            *keeping.functions(function.kept, function.most),
            *(_by_address(signature, function, passed, names) if function.by_address else by_name(function)),
            *(f"    {line}" for line in _body(signature, function, passed, names)),
            "  });",
            "}",
            "",
        ]
    )


def by_name(function: Function) -> list[str]:
    """How the handler of a function in the same source begins."""
    cases = [f"    case INT64_C({code}): return {literal(words)};" for code, words in function.meanings]
    return [
        "static const char* meaning(const jaxprim::Entry*, int64_t code) {",
        "  switch (code) {",
        *cases,
        "    default: return nullptr;",
        "  }",
        "}",
        f"JAXPRIM_EXPORT XLA_FFI_Error* {SYMBOL}(XLA_FFI_CallFrame* frame) {{",
        f"  return jaxprim::handle({literal(function.name)}, meaning, frame, [](const jaxprim::Call& call) {{",
    ]


def _by_address(
    signature: KernelSignature, function: Function, passed: Sequence[Argument], names: Sequence[str]
) -> list[str]:
    """How the handler of a function that is known by its address begins: its type, and the table of such functions."""
    types = ", ".join(argument.type for argument in passed)
    key, name = names.index(KEY), names.index(NAME)
    return [
        f"using Function = {return_type(signature, function)} (*)({types});",
        "static jaxprim::Table table;",
        f"JAXPRIM_EXPORT void {BIND}(int64_t key, void* function, int32_t* lock, int64_t threads, const char* name,",
        "                  int64_t count, const int64_t* codes, const char* const* words) {",
        "  jaxprim::Entry entry{function, lock, threads, name, {}};",
        "  for (int64_t i = 0; i < count; ++i) entry.meanings[codes[i]] = words[i];",
        "  table.add(key, std::move(entry));",
        "}",
        f"JAXPRIM_EXPORT XLA_FFI_Error* {SYMBOL}(XLA_FFI_CallFrame* frame) {{",
        f"  return jaxprim::handle_entry(table, {key}, {name}, frame,",
        "                               [](const jaxprim::Call& call, const jaxprim::Entry& entry) {",
    ]


def contract(signature: KernelSignature, function: Function) -> tuple[str, ...]:
    """All that a handler is written from. It names the handler where its text may be that of another jaxprim."""
    said = (function.arguments, function.size, function.status)
    own = () if function.by_address else (function.name, function.meanings, function.threads)
    more = [repr(signature.aliases)] if signature.aliases else []
    kept = [repr((function.kept, function.most))] if function.kept else []
    return (str(signature), repr((*said, *own)), *more, *kept)


def literal(text: str) -> str:
    """A text as a C string. Each byte that is not plain is written in octal, which every standard of C and C++ reads."""
    plain = frozenset(range(32, 127)) - frozenset(b'"\\?')  # two `?` may begin a trigraph
    encoded = text.replace("\0", "\N{SYMBOL FOR NULL}").encode(errors="replace")
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in encoded) + '"'


def attribute_names(signature: KernelSignature, function: Function) -> list[str]:
    """The attributes that a handler reads, in XLA's order."""
    extra = [KEY, NAME] * function.by_address
    return sorted([*(attribute.name for attribute in signature.attributes), *extra])


def prototype(signature: KernelSignature, function: Function) -> str:
    """The declaration that the author's function must have, for messages."""
    passed = _passed(signature, function, Layout(function.size))
    names = [name or f"argument{index}" for index, name in enumerate(_names(signature, passed))]
    named = [f"{row.type}& set_up" for row in function.kept[-1:]]
    named += [f"{argument.type} {name}" for argument, name in zip(passed, names, strict=True)]
    declared = f"{return_type(signature, function)} {function.name}({', '.join(named)})"
    return declared + keeping.constructors(signature, function.kept)


def given(signature: KernelSignature, function: Function) -> list[tuple[str, str]]:
    """The name and the C type of what the author's function is given, in order; no name for a constant."""
    passed = _passed(signature, function, Layout(function.size, is_declared=True))
    # A number by pointer stands in a variable that is declared before the call.
    by_pointer = [argument.before.partition("= ")[2].strip(" ;") for argument in passed]
    values = [replace(a, value=b) if a.value.startswith("&") else a for a, b in zip(passed, by_pointer, strict=True)]
    set_up = [("", f"{row.type}&") for row in function.kept[-1:]]
    return [*set_up, *zip(_names(signature, values), [argument.type for argument in passed], strict=True)]


def _names(signature: KernelSignature, passed: Sequence[Argument]) -> list[str]:
    """The signature's name of each argument that is a variable of the handler, maybe converted; empty for others."""
    rows = (*signature.operands, *signature.attributes, *signature.results)
    names = {local(name): name for name in [*(row.name for row in rows), *signature.sizes]} | {"stream": "stream"}
    variables = [re.split(r"[{(]", argument.value)[-1].strip("})") for argument in passed]
    return [names.get(variable, "") for variable in variables]


def _passed(signature: KernelSignature, function: Function, layout: Layout) -> list[Argument]:
    """The arguments of the author's function, with the stream on which it must launch."""
    device = function.language.device
    stream = [] if device is None else [Argument(device.stream, "stream")]
    return [*c_arguments(signature, function.arguments, layout), *stream]


def return_type(signature: KernelSignature, function: Function) -> str:
    """The C type that the author's function returns."""
    if signature.results[0].by_value:
        return str(signature.results[0].type.c_value)
    return "int" if function.status else "void"


def _body(
    signature: KernelSignature, function: Function, passed: Sequence[Argument], names: Sequence[str]
) -> list[str]:
    threads = "entry.threads" if function.by_address else function.threads
    return [
        *reads(signature, names),
        *_address(function),
        *_stream(function),
        *copier(signature, function, passed),
        *_starts(signature),
        f"jaxprim::for_each(call, buffers, {threads}, [&](const int64_t* at) {{",
        *(f"  {line}" for line in _element(signature, function, passed)),
        "});",
    ]


def reads(signature: KernelSignature, names: Sequence[str]) -> list[str]:
    """The statements that read a call: its arrays as ``buffers``, its attributes and its sizes."""
    arrays = [*signature.operands, *signature.results]
    return [
        f"call.expect({len(signature.operands)}, {len(signature.results)}, {len(names)});",
        f"const jaxprim::Buffer buffers[{len(arrays)}] = {{",
        *(_buffer(signature, index) for index in range(len(arrays))),
        "};",
        *_attributes(signature, names),
        *_sizes(signature),
    ]


def _buffer(signature: KernelSignature, index: int) -> str:
    count = len(signature.operands)
    kind, place = ("operand", index) if index < count else ("result", index - count)
    array = [*signature.operands, *signature.results][index]
    return f'  call.{kind}({place}, "{array.name}", {array.type.xla}, {len(array.dims)}),'


def _sizes(signature: KernelSignature) -> list[str]:
    """Read each size off the first operand that has it; all others that have it must agree."""
    known = {attribute.name for attribute in signature.attributes}
    lines: list[str] = []
    for index, array in enumerate((*signature.operands, *signature.results)):
        for axis, (dim, node) in enumerate(zip(array.dims, array.expressions, strict=True)):
            if dim in signature.sizes and dim not in known:
                lines.append(f"[[maybe_unused]] const int64_t {local(dim)} = buffers[{index}].size({axis});")
                known.add(dim)
            else:
                lines.append(f"call.require(buffers[{index}], {axis}, {to_c(node)});")
    return lines


def _attributes(signature: KernelSignature, names: Sequence[str]) -> list[str]:
    return [
        f"[[maybe_unused]] const {row.type.c} {local(row.name)} = call.attribute<{row.type.c}>({names.index(row.name)}, "
        f'"{row.name}", {row.type.xla});'
        for row in signature.attributes
    ]


def _address(function: Function) -> list[str]:
    if not function.by_address:
        return []
    return [
        "const auto function = reinterpret_cast<Function>(entry.function);",
        "const jaxprim::Exclusive lock(entry.lock);",
    ]


def _stream(function: Function) -> list[str]:
    device = function.language.device
    return [] if device is None else [f"const auto stream = static_cast<{device.stream}>(call.stream());"]


def copier(signature: KernelSignature, function: Function, passed: Sequence[Argument]) -> list[str]:
    if not signature.aliases and not any(argument.before.startswith("copy(") for argument in passed):
        return []
    device = function.language.device
    copy = "std::copy(from, from + count, to);" if device is None else device.copy
    return [f"auto copy = [&](auto* to, const auto* from, int64_t count) {{ {copy} }};"]


def _starts(signature: KernelSignature) -> list[str]:
    """Copies of operands into results that should share their memory, for a caller that gave each its own."""
    pairs = [(x, len(signature.operands) + y) for x, y in signature.alias_places.items()]
    kinds = [signature.operands[x].type.c for x, _ in pairs]
    return [
        f"if (call.apart(buffers[{x}], buffers[{y}])) "
        f"copy(buffers[{y}].at<{kind}>(0), buffers[{x}].at<const {kind}>(0), buffers[{x}].total());"
        for (x, y), kind in zip(pairs, kinds, strict=True)
    ]


def _element(signature: KernelSignature, function: Function, passed: Sequence[Argument]) -> list[str]:
    pointers = [_at(signature, function, index) for index in range(len(signature.operands) + len(signature.results))]
    device = function.language.device
    # `::` because a variable of the handler, or a function of std, may have the same name.
    target = "function" if function.by_address else f"::{function.name}"
    set_up = ["*kept"] * bool(function.kept)
    call = f"{target}({', '.join([*set_up, *(argument.value for argument in passed)])})"
    return [
        *pointers,
        *keeping.lease(signature, function.kept, device),
        *(argument.before for argument in passed if argument.before),
        invocation(signature, function, call),
        *(argument.after for argument in passed if argument.after),
        *([] if device is None else [device.check]),
    ]


def _at(signature: KernelSignature, function: Function, index: int) -> str:
    """The number, or the pointer to the numbers, of one element of an operand or result."""
    is_result = index >= len(signature.operands)
    array = (*signature.operands, *signature.results)[index]
    kind = ("" if is_result or array.name in signature.in_place else "const ") + (
        _value_type(array, function) if array.by_value else array.type.c
    )
    place = f"buffers[{index}].at<{kind}>(at[{index}])"
    if array.by_value and not is_result:
        return f"{kind} {local(array.name)} = *{place};"
    return f"[[maybe_unused]] {kind}* {local(array.name)} = {place};"


def _value_type(array: Array, function: Function) -> str:
    """The type of one number by value: C++'s type for a function in the same source, and C's for one in another."""
    return str(array.type.c_value) if function.by_address else array.type.c


_RETURNS = "the function must return nothing, or a status: an integer or an enum that is 0 on success"


def invocation(signature: KernelSignature, function: Function, call: str) -> str:
    """The statement that calls the author's function, and takes what it returns."""
    if signature.results[0].by_value:
        store = f"*{local(signature.results[0].name)} = {call};"
        return store if function.by_address else f"jaxprim::store({local(signature.results[0].name)}, {call});"
    if not function.by_address:
        return (
            f"static_assert(jaxprim::is_status<decltype({call})>, {literal(_RETURNS)}); "
            f"jaxprim::invoke(call, [&] {{ return {call}; }});"
        )
    return f"call.status({call});" if function.status else f"{call};"
