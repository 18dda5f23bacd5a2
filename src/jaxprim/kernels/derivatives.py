"""The derivatives of a kernel from its source: each is a call of another instantiation of the author's template.

With F(m) and P(m) as in `instantiation`, J the Jacobian of the author's f over numbers of order m, and a a new letter:

    JVP of F(m)    F(m+1)  at x + x_dot a                                   the components with a
    JVP of P(m)    P(m+1)  at x + x_dot a, y_bar + y_bar_dot a              the components with a

What comes out is linear in the components with a, and can be transposed in them. For x x_bar, the product of numbers of
order m, its component with all letters pairs the component s of one with the component `full ^ s` of the other. So the
transpose of a product with a number is the product with the same number, with the components in reverse:

    F(m+1)  x_dot -> J x_dot                                 P(m)    x_bar = J^T y_bar
    P(m+1)  x_dot, y_bar_dot -> J^T y_bar_dot + d(J^T y_bar) x_dot
              y_bar_dot                                      F(m+1)  J u at x + u a, for the cotangent u of x_bar
              x_dot                                          P(m+1)  at x + u a, with y_bar: d(J^T y_bar) u, as J^T y_bar is
                                                                     a gradient, whose Jacobian is symmetric

P is linear in y_bar too, with the transpose F(m+1) at x + u a. So nothing else is ever needed, and no tape is recorded
within a tape. A result along whose batch axes an operand was the same is the sum over them: the handler adds it up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxprim import _jax
from jaxprim._errors import KernelError
from jaxprim.kernels.instantiation import BITS, STILL, ZEROS, Instantiation, Part, canonical, has_derivatives, up_to
from jaxprim.kernels.kernel import Attributes, Kernel, Target, call, no_transpose
from jaxprim.kernels.signature import KernelSignature
from jaxprim.kernels.source import Source

Values = Mapping[Part, Any]
MOST_LANES = 8


class Derivatives:
    """The instantiations of one kernel, each compiled when it is first used.

    Attributes:
        means: for ``"jvp"`` and ``"vjp"``, how it is computed and what it costs.
    """

    def __init__(
        self,
        by_tape: bool,
        means: Mapping[str, str],
        source: Callable[[Instantiation], Source],
        load: Callable[[Instantiation, Source], Target],
        refuse: Callable[[KernelSignature], None],
    ) -> None:
        self.by_tape, self.means, self._source, self._load, self._refuse = by_tape, means, source, load, refuse
        self._kernels: dict[Instantiation, Kernel] = {}
        self._made: dict[Kernel, Instantiation] = {}

    def kernel(self, base: Kernel, made: Instantiation) -> Kernel:
        """The kernel of an instantiation."""
        if made not in self._kernels:
            found = Kernel(
                made.name,
                made.derived,
                lambda _: self._load(made, self._source(made)),
                source=lambda _: self._source(made),
                platform=base.platform,
                order=base.order,
                derivatives=self,
                of=base,
            )
            self._made[found] = made
            self._kernels[made] = found
        return self._kernels[made]

    def up_to(self, base: Kernel, signature: KernelSignature, degree: int) -> list[Kernel]:
        """What derivatives up to a degree need, for a signature without type variables."""
        rows = up_to(signature, self.by_tape, degree) if has_derivatives(signature) else []
        return [self.kernel(base, made) for made in rows]

    def in_lanes(self, kernel: Kernel, operands: Sequence[Any], results: Sequence[Any]) -> Kernel:
        """The kernel that runs several elements at once, where a batch axis is one of the last tangents alone."""
        made = self._made.get(kernel)
        if made is None or made.order == 0 or any(component < 2**made.order // 2 for component in made.wanted):
            return kernel
        size = _lanes(made, operands, results)
        if size < 2:
            return kernel
        found = self.kernel(kernel, replace(made, lanes=4 if size <= 4 else MOST_LANES))
        try:
            found.target(found.signature)
        except KernelError:  # a library that was built ahead, without a compiler: one element after the other
            return kernel
        return found

    # --------------------------------------------------------------------------------------------------- JAX's two rules
    def jvp(self, primals: Sequence[Any], tangents: Sequence[Any], outs: Sequence[Any], params: Any) -> list[Any]:
        """The tangents of the results."""
        here = self._read(primals, params)
        if here.made.degree == 0:
            self._refuse(here.made.signature)
        given = {
            part: dot
            for part, dot in zip(here.made.parts, tangents, strict=True)
            if part in here.values and here.moves(part) and not isinstance(dot, _jax.JaxZero)
        }
        if not given:
            return list(map(_jax.zero_tangent, outs))
        for linear in here.linear():
            if all(map(linear, given)):
                rest = {part: x for part, x in here.values.items() if not linear(part)}
                return here.bind(here.made, {**rest, **given}, here.still, here.results)
        made = here.made
        top = 2**made.order
        up = replace(made, order=made.order + 1, wanted=tuple(component | top for component in made.wanted))
        raised = {replace(part, component=part.component | top): dot for part, dot in given.items()}
        dots = here.bind(up, {**here.values, **raised}, here.still, here.results)
        if made.order or made.is_pullback:
            return dots
        by_place = dict(zip(made.results, dots, strict=True))
        return [by_place.get(place, _jax.zero_tangent(out)) for place, out in enumerate(outs)]

    def transpose(self, cotangents: Sequence[Any], args: Sequence[Any], params: Any) -> list[Any]:
        """The cotangents of the operands that are unknown, None for the others."""
        here = self._read(args, params)
        unknown = {part: x.aval for part, x in here.values.items() if _jax.is_undefined(x)}
        cts = (
            {
                part: ct
                for part, ct in zip(here.made.outputs, cotangents, strict=True)
                if not isinstance(ct, _jax.JaxZero)
            }
            if here.made.degree
            else {}
        )
        bit = next((bit for bit in here.letters() if all(part.component >> bit & 1 for part in unknown)), None)
        known = {part: x for part, x in here.values.items() if part not in unknown}
        if bit is not None:
            found = here.transposed_along(bit, known, unknown, cts)
        elif here.made.is_pullback and all(part.is_cotangent for part in unknown):
            found = here.transposed_pullback(known, unknown, cts)
        else:
            raise no_transpose(params["kernel"])
        return [found.get(part) for part in here.made.parts]

    def _read(self, args: Sequence[Any], params: Any) -> _Equation:
        kernel: Kernel = params["kernel"]
        made = self._made.get(kernel)
        results: list[Any] = list(params["results"])
        if made is None:
            made = Instantiation(params["signature"], False, 0, (0,), self.by_tape)
            results = [results[place] for place in made.results]
        masks = {name: int(np.frombuffer(raw, kind)[0]) for name, kind, raw in params["attributes"]}
        zeros, still = masks.get(ZEROS, 0), masks.get(STILL, 0)
        values = {
            part: x for place, (part, x) in enumerate(zip(made.parts, args, strict=True)) if not zeros >> place & 1
        }
        rest = tuple(row for row in params["attributes"] if row[0] not in (ZEROS, STILL))
        return _Equation(self, kernel, made, values, rest, frozenset(_bits(still)), results)


def _bits(mask: int) -> Iterator[int]:
    return (bit for bit in range(BITS) if mask >> bit & 1)


def _lanes(made: Instantiation, operands: Sequence[Any], results: Sequence[Any]) -> int:
    """The size of the largest batch axis along which all but the highest components are the same."""
    top = 2**made.order // 2
    rank = operands[0].ndim - len(made.array(made.parts[0]).dims)
    alike = [x for part, x in zip(made.parts, operands, strict=True) if part.component < top]
    axes = [axis for axis in range(rank) if all(x.shape[axis] == 1 for x in alike)]
    return max((x.shape[axis] for x in (*operands, *results) for axis in axes), default=1)


@dataclass(frozen=True)
class _Equation:
    """A call of an instantiation, as JAX's rules find it.

    Attributes:
        of: the family.
        kernel: the kernel that is called.
        made: its instantiation; F(0) is the kernel itself.
        values: its operands; those of zeros are left out.
        attributes: the author's attributes.
        still: the operands whose cotangents a pullback leaves out, by their places among those that move.
        results: the types of the results that move.
    """

    of: Derivatives
    kernel: Kernel
    made: Instantiation
    values: Values
    attributes: Attributes
    still: frozenset[int]
    results: Sequence[Any]

    def moves(self, part: Part) -> bool:
        return part.is_cotangent or part.index in self.made.moving

    def letters(self) -> list[int]:
        """The letters that all results have. They are linear in the components that have one of them."""
        return [bit for bit in range(self.made.order) if all(component >> bit & 1 for component in self.made.wanted)]

    def linear(self) -> list[Callable[[Part], bool]]:
        """The sets of operands in which it is linear."""
        along = [lambda part, bit=bit: bool(part.component >> bit & 1) for bit in self.letters()]
        return [*along, *[lambda part: part.is_cotangent] * self.made.is_pullback]

    # ----------------------------------------------------------------------------------------------------- transposition
    def transposed_along(self, bit: int, known: Values, unknown: Values, cts: Values) -> dict[Part, Any]:
        """The transpose in components that have a letter, which all results have too."""
        made, order = self.made, self.made.order - 1
        base = {without(bit, part): x for part, x in known.items() if not part.component >> bit & 1}
        reverse = {part: without(bit, part).component ^ 2**order - 1 for part in unknown}
        if not made.is_pullback:
            down = {reversed_in(order, without(bit, part), True): ct for part, ct in cts.items()}
            return self.pull(order, {**base, **down}, unknown, reverse, ())
        along = {raised(order, reversed_in(order, without(bit, part), False)): ct for part, ct in cts.items()}
        of_cotangents = {part: aval for part, aval in unknown.items() if part.is_cotangent}
        of_operands = {part: aval for part, aval in unknown.items() if not part.is_cotangent}
        operands = {part: x for part, x in base.items() if not part.is_cotangent}
        return {
            **self.push(order, {**operands, **along}, of_cotangents, reverse),
            **self.pull(order + 1, {**base, **along}, of_operands, reverse, (2**order,)),
        }

    def transposed_pullback(self, known: Values, unknown: Values, cts: Values) -> dict[Part, Any]:
        """The transpose of a pullback in all its cotangents: x_bar = J^T y_bar has J u."""
        order, full = self.made.order, self.made.full
        along = {raised(order, reversed_in(order, part, False)): ct for part, ct in cts.items()}
        reverse = {part: part.component ^ full for part in unknown}
        return self.push(order, {**known, **along}, unknown, reverse)

    def push(self, order: int, values: Values, unknown: Values, component: Mapping[Part, int]) -> dict[Part, Any]:
        """J u: F(order + 1), of which the components with the last letter are wanted, for each unknown cotangent."""
        if not unknown:
            return {}
        wanted = canonical([component[part] | 2**order for part in unknown], order + 1)
        made = replace(self.made, is_pullback=False, order=order + 1, wanted=wanted, lanes=1)
        at = {part: Part(True, part.index, component[part] | 2**order) for part in unknown}
        return self.bind_for(made, values, at, unknown, ())

    def pull(
        self, order: int, values: Values, unknown: Values, component: Mapping[Part, int], letter: Sequence[int]
    ) -> dict[Part, Any]:
        """J^T y_bar: P(order), for each unknown operand."""
        if not unknown:
            return {}
        more = sum(letter)
        wanted = canonical([component[part] | more for part in unknown], order)
        made = replace(self.made, is_pullback=True, order=order, wanted=wanted, lanes=1)
        at = {part: Part(False, part.index, component[part] | more) for part in unknown}
        moving = {part.index for part in unknown}
        still = [place for place, index in enumerate(made.moving) if index not in moving]
        return self.bind_for(made, values, at, unknown, still)

    # -------------------------------------------------------------------------------------------------------------- calls
    def bind_for(
        self, made: Instantiation, values: Values, at: Mapping[Part, Part], unknown: Values, still: Sequence[int]
    ) -> dict[Part, Any]:
        """Call an instantiation: for each unknown part the result that it stands for."""
        avals = {at[part]: aval for part, aval in unknown.items()}
        types = [avals[part] if part in avals else self.unwanted(made, part, values) for part in made.outputs]
        outs = dict(zip(made.outputs, self.bind(made, values, frozenset(still), types), strict=True))
        return {part: outs[place] for part, place in at.items()}

    def unwanted(self, made: Instantiation, part: Part, values: Values) -> Any:
        """The type of a result that nobody reads: as small as may be."""
        array = made.array(part)
        return _jax.ShapedArray(self.small(made, part, values), array.type.numpy)

    def small(self, made: Instantiation, part: Part, values: Values) -> tuple[int, ...]:
        """The shape of a part that is the same for the whole batch."""
        known = (*values.items(), *self.values.items(), *zip(self.made.outputs, self.results, strict=True))
        shape = next(_shape(x) for other, x in known if _is_of_one(other, part))
        batch = len(shape) - len(made.array(part).dims)
        return (*[1] * batch, *shape[batch:])

    def bind(self, made: Instantiation, values: Values, still: frozenset[int], results: Sequence[Any]) -> list[Any]:
        """Call an instantiation at these components; all others are 0."""
        zeros, leaves = 0, list[Any]()
        for place, part in enumerate(made.parts):
            x = values.get(part)
            if x is None:
                x = self.filler(made, part, values)
                if place < BITS:
                    zeros |= 1 << place
                else:
                    x = jnp.zeros_like(x)
            leaves.append(x)
        masks = [(ZEROS, zeros), *[(STILL, sum(1 << place for place in still if place < BITS))] * made.is_pullback]
        rows = tuple((name, "int64", np.int64(mask).tobytes()) for name, mask in masks)
        kernel = self.of.kernel(self.kernel, made)
        types = [_jax.ShapedArray(aval.shape, aval.dtype) for aval in results]
        return call(kernel, made.derived, (*self.attributes, *rows), leaves, types)

    def filler(self, made: Instantiation, part: Part, values: Values) -> Any:
        """An array of the right shape for a component that is 0 everywhere, and so is not read."""
        found = next((x for other, x in values.items() if _is_of_one(other, part)), None)
        return found if found is not None else jnp.zeros(self.small(made, part, values), made.array(part).type.numpy)


def _is_of_one(part: Part, other: Part) -> bool:
    """Whether two parts are components of the same array."""
    return (part.is_cotangent, part.index) == (other.is_cotangent, other.index)


def _shape(x: Any) -> tuple[int, ...]:
    return x.aval.shape if _jax.is_undefined(x) else x.shape


def without(bit: int, part: Part) -> Part:
    """The component without one letter, among numbers that do not have it."""
    low = part.component & (1 << bit) - 1
    return replace(part, component=part.component >> bit + 1 << bit | low)


def raised(order: int, part: Part) -> Part:
    """The component with a new letter, of numbers of this order."""
    return replace(part, component=part.component | 2**order)


def reversed_in(order: int, part: Part, is_cotangent: bool) -> Part:
    """The component that the transpose pairs with this one."""
    return Part(is_cotangent, part.index, part.component ^ 2**order - 1)
