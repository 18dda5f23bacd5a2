"""The C++ source of the function that XLA calls, from a signature.

One source serves a function that is compiled along (`cpp`, `cuda`), one that is linked, and one that is only known by its
address when the program runs (`c_function`, `numba`). It does what `native/jaxprim_kernel.h` offers: it reads the
call, checks it, and runs the function for each position of the batch axes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from jaxprim.kernels.arguments import Argument, Layout, arguments
from jaxprim.kernels.signature import Array, KernelSignature
from jaxprim.kernels.sizes import local, to_c

SYMBOL = "jaxprim_handler"
# Attributes of a function that is known by address. The second is random in each process: a program that was compiled
# in another process, and is loaded from a cache or a file, must not jump to an address that means nothing here.
ADDRESS, PROCESS = "jaxprim_function", "jaxprim_process"
LOCK = "jaxprim_lock"


@dataclass(frozen=True)
class Function:
    """How the author's function is reached.

    Attributes:
        name: what it is called in C, and in messages.
        how: "here" (its source stands in the same file), "linked", or "address".
        arguments: their order, where it is not the default one.
        size: the type in which sizes are passed.
        status: whether a returned integer that is not 0 is an error (a function that stands here says so itself).
        meanings: what such integers mean.
        threads: over how many threads of XLA the batch axes are spread; 0 for all.
        exclusive: whether no two functions of this kind may run at once in a process.
        cuda: whether it runs on a CUDA stream, which it gets last.
    """

    name: str
    how: str
    arguments: str | None = None
    size: str = "i64"
    status: bool = False
    meanings: tuple[tuple[int, str], ...] = ()
    threads: int = 1
    exclusive: bool = False
    cuda: bool = False


def handler(signature: KernelSignature, function: Function) -> str:
    """The source of the handler."""
    passed = arguments(signature, function.arguments, Layout(function.size, function.how == "here"))
    if function.cuda:
        passed.append(Argument("cudaStream_t", "stream"))
    lines = [
        *_declaration(signature, function, passed),
        *(["static int64_t jaxprim_token;"] if function.how == "address" else []),
        *([f'extern "C" void {PROCESS}(int64_t token) {{ jaxprim_token = token; }}'] * (function.how == "address")),
        *_meanings(function),
        f'extern "C" XLA_FFI_Error* {SYMBOL}(XLA_FFI_CallFrame* frame) {{',
        f'  return jaxprim::handle("{function.name}", meaning, frame, [](const jaxprim::Call& call) {{',
        *(f"    {line}" for line in _body(signature, function, passed)),
        "  });",
        "}",
    ]
    return "\n".join(lines) + "\n"


def attribute_names(signature: KernelSignature, function: Function) -> list[str]:
    """The attributes that a handler reads, in XLA's order."""
    extra = [ADDRESS, PROCESS] * (function.how == "address") + [LOCK] * function.exclusive
    return sorted([*(attribute.name for attribute in signature.attributes), *extra])


def prototype(signature: KernelSignature, function: Function) -> str:
    """The declaration that the author's function must have, for messages."""
    passed = arguments(signature, function.arguments, Layout(function.size))
    if function.cuda:
        passed.append(Argument("cudaStream_t", "stream"))
    named = [f"{argument.type} {_plain_name(argument.value, index)}" for index, argument in enumerate(passed)]
    return f"{returned(signature, function)} {function.name}({', '.join(named)})"


def _plain_name(value: str, index: int) -> str:
    name = value.rsplit("{", maxsplit=1)[-1].rsplit("(", maxsplit=1)[-1].strip("})").removeprefix("v_")
    return name if name.isidentifier() and not name.startswith("argument") else f"argument{index}"


def returned(signature: KernelSignature, function: Function) -> str:
    """The C type that the author's function returns."""
    if signature.results[0].by_value:
        return str(signature.results[0].type.c_value)
    return "int" if function.status else "void"


def _declaration(signature: KernelSignature, function: Function, passed: Sequence[Argument]) -> list[str]:
    types = ", ".join(argument.type for argument in passed)
    kind = returned(signature, function)
    if function.how == "linked":
        return [f'extern "C" {kind} {function.name}({types});']
    if function.how == "address":
        return [f"using Function = {kind} (*)({types});"]
    return []


def _meanings(function: Function) -> list[str]:
    cases = [f"    case {code}: return {json.dumps(words)};" for code, words in function.meanings]
    return [
        "static const char* meaning(int64_t code) {",
        "  switch (code) {",
        *cases,
        "    default: return nullptr;",
        "  }",
        "}",
    ]


def _body(signature: KernelSignature, function: Function, passed: Sequence[Argument]) -> list[str]:
    arrays = [*signature.operands, *signature.results]
    names = attribute_names(signature, function)
    return [
        f"call.expect({len(signature.operands)}, {len(signature.results)}, {len(names)});",
        f"const jaxprim::Buffer buffers[{len(arrays)}] = {{",
        *(_buffer(signature, index) for index in range(len(arrays))),
        "};",
        *_attributes(signature, names),
        *_sizes(signature),
        *_address(function, names),
        *(["const auto stream = static_cast<cudaStream_t>(call.stream());"] if function.cuda else []),
        *_copier(function, passed),
        *([f"const jaxprim::Exclusive lock({_read_i64(names, LOCK)});"] if function.exclusive else []),
        f"jaxprim::for_each(call, buffers, {function.threads}, [&](const int64_t* at) {{",
        *(f"  {line}" for line in _element(signature, function, passed)),
        "});",
    ]


def _buffer(signature: KernelSignature, index: int) -> str:
    count = len(signature.operands)
    kind, place = ("operand", index) if index < count else ("result", index - count)
    array = [*signature.operands, *signature.results][index]
    return f'  call.{kind}({place}, "{array.name}", {array.type.xla}, {len(array.dims)}),'


def _sizes(signature: KernelSignature) -> list[str]:
    """Each size from the first operand that has it; whatever else has it must agree."""
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


def _address(function: Function, names: Sequence[str]) -> list[str]:
    if function.how != "address":
        return []
    return [
        f"if ({_read_i64(names, PROCESS)} != jaxprim_token)",
        '  call.refuse("this program was compiled in another process, where the function had another address");',
        f"const auto function = reinterpret_cast<Function>({_read_i64(names, ADDRESS)});",
    ]


def _read_i64(names: Sequence[str], name: str) -> str:
    return f'call.attribute<int64_t>({names.index(name)}, "{name}", XLA_FFI_DataType_S64)'


def _copier(function: Function, passed: Sequence[Argument]) -> list[str]:
    if not any(argument.before.startswith("copy(") for argument in passed):
        return []
    if function.cuda:
        return [
            "auto copy = [&](auto* to, const auto* from, int64_t count) {",
            "  cudaMemcpyAsync(to, from, count * sizeof(*to), cudaMemcpyDeviceToDevice, stream);",
            "};",
        ]
    return ["auto copy = [](auto* to, const auto* from, int64_t count) { std::copy(from, from + count, to); };"]


def _element(signature: KernelSignature, function: Function, passed: Sequence[Argument]) -> list[str]:
    pointers = [_at(signature, function, index) for index in range(len(signature.operands) + len(signature.results))]
    # From the global namespace: its name may be that of a variable here, or of a function of std for its operands.
    target = "function" if function.how == "address" else f"::{function.name}"
    call = f"{target}({', '.join(argument.value for argument in passed)})"
    return [
        *pointers,
        *(argument.before for argument in passed if argument.before),
        _call(signature, function, call),
        *(argument.after for argument in passed if argument.after),
        *(
            ["if (const auto error = cudaGetLastError(); error != cudaSuccess) call.refuse(cudaGetErrorString(error));"]
            if function.cuda
            else []
        ),
    ]


def _at(signature: KernelSignature, function: Function, index: int) -> str:
    """The number, or the pointer to the numbers, of one element of an operand or result."""
    is_result = index >= len(signature.operands)
    array = (*signature.operands, *signature.results)[index]
    kind = ("" if is_result else "const ") + (_value_type(array, function) if array.by_value else array.type.c)
    place = f"buffers[{index}].at<{kind}>(at[{index}])"
    if array.by_value and not is_result:
        return f"{kind} {local(array.name)} = *{place};"
    return f"[[maybe_unused]] {kind}* {local(array.name)} = {place};"


def _value_type(array: Array, function: Function) -> str:
    """The type of one number by value: C++'s own for a function that stands here, else C's."""
    return array.type.c if function.how == "here" else str(array.type.c_value)


def _call(signature: KernelSignature, function: Function, call: str) -> str:
    if signature.results[0].by_value:
        return f"*{local(signature.results[0].name)} = {call};"
    if function.how == "here":
        return f"jaxprim::invoke(call, [&] {{ return {call}; }});"
    return f"call.status({call});" if function.status else f"{call};"
