"""The C++ source of the handler of an instantiation: the author's template, over numbers that carry derivatives.

It is the handler of `handler.py`, with the same reading of the call, sizes, attributes, order of arguments, status and
threads. What differs is the element: its numbers are made from their components, and the results are taken apart. The
functions that do so are in `native/jaxprim_jets.h`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jaxprim.kernels.arguments import Argument, Layout, c_arguments
from jaxprim.kernels.handler import (
    Function,
    attribute_names,
    by_name,
    copier,
    invocation,
    reads,
)
from jaxprim.kernels.instantiation import BITS, REALS, STILL, ZEROS, Instantiation, size_of
from jaxprim.kernels.signature import Array
from jaxprim.kernels.sizes import local, to_c

AD = "jaxprim::ad"
_HERE = "here.template"


def write_derived_handler(made: Instantiation, function: Function) -> str:
    """The source of the handler."""
    derived = made.derived
    layout = Layout(function.size, is_declared=True, number="Number")
    passed = c_arguments(made.signature, function.arguments, layout)
    names = attribute_names(derived, function)
    count = len(made.parts)
    # Lanes have the same components without the highest bit.
    alike = [part.component < 2**made.order // 2 or part.index not in made.moving for part in made.parts]
    shared = ", ".join(str(same).lower() for same in [*alike, *[False] * len(made.outputs)])
    return "\n".join(
        [
            *by_name(function),
            *(f"    {line}" for line in reads(derived, names)),
            *(f"    {line}" for line in _types(made)),
            *(f"    {line}" for line in copier(made.signature, function, passed)),
            f"    const bool shared[{count + len(made.outputs)}] = {{{shared}}};",
            f"    {AD}::for_each_place<Real, State, {made.lanes}>(call, buffers, {count}, shared, {function.threads},",
            "        [&]([[maybe_unused]] const auto& here, [[maybe_unused]] State& state) {",
            *(f"      {line}" for line in _Element(made, function, passed).lines()),
            "    });",
            "  });",
            "}",
            "",
        ]
    )


def _types(made: Instantiation) -> list[str]:
    """The types of numbers: ``Inner`` has the order of the call, ``Number`` is what the function gets."""
    inner = "Real"
    for _ in range(made.order - (made.lanes > 1)):
        inner = f"{AD}::Dual<{inner}>"
    if made.lanes > 1:
        inner = f"{AD}::Dual<{inner}, {AD}::Vec<{inner}, {made.lanes}>>"
    if not made.is_pullback:
        number, state = "Inner", f"{AD}::Nothing"
    elif made.by_tape:
        number, state = f"{AD}::Rev<Inner>", f"{AD}::Recorder<Inner>"
    else:
        number, state = f"{AD}::Pulled<Inner, {_total(made)}>::Number", f"{AD}::Nothing"
    real = made.signature.operands[made.moving[0]].type.c
    return [f"using Real = {real};", f"using Inner = {inner};", f"using Number = {number};", f"using State = {state};"]


def _total(made: Instantiation) -> int:
    """The numbers in all operands that move, of a signature that says how many there are."""
    return sum(size_of(made.signature.operands[index]) for index in made.moving)


def _count(array: Array) -> str:
    return " * ".join(["INT64_C(1)", *map(to_c, array.expressions)])


class _Element:
    """The statements of one element."""

    def __init__(self, made: Instantiation, function: Function, passed: Sequence[Argument]) -> None:
        self.made, self.function, self.passed = made, function, passed
        self.signature = made.signature
        self.at = {part: place for place, part in enumerate(made.parts)}
        self.jets = 2**made.order

    def lines(self) -> list[str]:
        return [
            *self.enter(),
            *self.memory(),
            *(argument.before for argument in self.passed if argument.before),
            *self.run(),
            *(argument.after for argument in self.passed if argument.after),
            *(
                f'{self.own(index)}.require_written("{self.signature.results[index].name}");'
                for index in self.made.results
            ),
            *(self.pull() if self.made.is_pullback else self.push()),
        ]

    # ----------------------------------------------------------------------------------------------- before the function
    def enter(self) -> Iterator[str]:
        """The operands as numbers."""
        by_tape = self.made.is_pullback and self.made.by_tape
        if by_tape:
            yield "state.begin();"
        first = 0
        for index, array in enumerate(self.signature.operands):
            name = local(array.name)
            if index not in self.made.moving:
                yield from self.constant(index, array)
                continue
            yield f"{AD}::Array<Number> own_{name}({_count(array)});"
            if not self.made.is_pullback:
                yield f"{AD}::load(own_{name}, {self.jet(False, index)}, here.live);"
            elif by_tape:
                given = f"own_{name}, {self.jet(False, index)}, here.live, {self.still(index)}"
                yield f"const uint32_t before_{name} = state.enter({given});"
            else:
                given = f"own_{name}, {self.jet(False, index)}, here.live, {self.still(index)}, {first}"
                yield f"{AD}::Pulled<Inner, {_total(self.made)}>::enter({given});"
                first += size_of(array)
            if array.by_value:
                yield f"const Number {name} = own_{name}[0];"
            elif array.name not in self.signature.in_place:
                yield f"[[maybe_unused]] const Number* {name} = own_{name}.data();"

    def constant(self, index: int, array: Array) -> Iterator[str]:
        """An operand without tangents, such as integers."""
        name, kind = local(array.name), array.type.c
        there = f"{_HERE} operand<{kind}>({self.at_first(index)})"
        if array.by_value:
            yield f"const {kind} {name} = *{there};"
        elif array.name not in self.signature.in_place:
            yield f"[[maybe_unused]] const {kind}* {name} = {there};"
        else:
            yield f"{AD}::Array<{kind}> own_{name}({_count(array)});"
            yield f"std::copy({there}, {there} + {_count(array)}, own_{name}.data());"

    def memory(self) -> Iterator[str]:
        """Memory for the results."""
        operands = {result: operand for operand, result in self.signature.in_place.items()}
        for array in self.signature.results:
            name, kind = local(array.name), "Number" if array.dtype in REALS else array.type.c
            if array.name not in operands:
                yield f"{AD}::Array<{kind}> own_{name}({_count(array)});"
                yield f"own_{name}.spoil();"
            yield f"[[maybe_unused]] {kind}* {name} = {self.memory_of(array)}.data();"

    # ------------------------------------------------------------------------------------------------------ the function
    def run(self) -> Iterator[str]:
        call = f"::{self.function.name}({', '.join(argument.value for argument in self.passed)})"
        reals = [local(row.name) for row in self.signature.attributes if row.dtype in REALS]
        if reals:
            taken = ", ".join(f"const auto& {name}" for name in reals)
            yield f"const auto function = [&]({taken}) -> decltype({call}) {{ return {call}; }};"
            call = f"{AD}::call<Number>(function, {', '.join(reals)})"
        yield invocation(self.signature, self.function, call)

    # ------------------------------------------------------------------------------------------------ after the function
    def push(self) -> Iterator[str]:
        for place, part in enumerate(self.made.outputs, len(self.made.parts)):
            yield f"{AD}::store({self.own(part.index)}, {part.component}, {_HERE} out<Real>({place}), here.live);"

    def pull(self) -> Iterator[str]:
        by_tape = self.made.by_tape
        if by_tape:
            yield "state.end();"
        else:
            yield f"{AD}::Pulled<Inner, {_total(self.made)}> pulled;"
        for index in self.made.results:
            given = f"{self.own(index)}, {self.jet(True, index)}, here.live"
            yield f"state.seed({given});" if by_tape else f"pulled.add({given});"
        if by_tape:
            yield "state.sweep();"
        for place, part in enumerate(self.made.outputs, len(self.made.parts)):
            array = self.signature.operands[part.index]
            first = sum(size_of(self.signature.operands[i]) for i in self.made.moving if i < part.index and not by_tape)
            where = f"state.leave(before_{local(array.name)}" if by_tape else f"pulled.leave({first}"
            rest = f"{_count(array)}, {part.component}, {_HERE} out<Real>({place}), here.live"
            yield f"if (!({self.still(part.index)})) {where}, {rest});"

    # --------------------------------------------------------------------------------------------------------------- names
    def at_first(self, index: int) -> int:
        return next(place for part, place in self.at.items() if not part.is_cotangent and part.index == index)

    def jet(self, is_cotangent: bool, index: int) -> str:
        """All components of an operand, or of the cotangent of a result."""
        place = next(p for part, p in self.at.items() if (part.is_cotangent, part.index) == (is_cotangent, index))
        return f"{_HERE} in<Real, {self.jets}>({place}, {local(ZEROS)})"

    def still(self, index: int) -> str:
        bit = self.made.moving.index(index)
        return f"({local(STILL)} >> {bit} & 1) != 0" if bit < BITS else "false"

    def own(self, index: int) -> str:
        """The memory of a result."""
        return self.memory_of(self.signature.results[index])

    def memory_of(self, result: Array) -> str:
        operands = {each: operand for operand, each in self.signature.in_place.items()}
        return f"own_{local(operands.get(result.name, result.name))}"
