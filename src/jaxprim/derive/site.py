"""The site of a derivative rule: the types and perturbed operands that it is traced for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jaxprim import _jax
from jaxprim._calls import Call
from jaxprim._masks import Mask, select
from jaxprim._returned import Results, Wanted, wanted_cotangents
from jaxprim.derive.abstract_eval import results


@dataclass(frozen=True, eq=False)
class Site:
    """One element of a call, and which of its operands are perturbed. A rule is traced once for each site.

    A site is made once for each combination (`site_of`) and compared by identity. What an eager gradient needs to know of
    types is kept in it, as JAX takes longer to make a cotangent type than to find a site.

    Attributes:
        call: the call without its batch levels.
        avals: the types of its n operand leaves.
        perturbed: which of the n have a tangent that is not symbolically zero.
    """

    call: Call
    avals: tuple[Any, ...]
    perturbed: Mask

    @cached_property
    def results(self) -> Results:
        """The m results of one element: their types and their tree."""
        return results(self.call, self.avals)

    @cached_property
    def has_tangent(self) -> Mask:
        """Which of the m results have a tangent (integers, booleans and keys have none)."""
        return tuple(_jax.has_tangent(aval) for aval in self.results.avals)

    @cached_property
    def tangent_avals(self) -> list[Any]:
        """The tangent types of the perturbed operands."""
        return tangent_avals(select(self.avals, self.perturbed))

    @cached_property
    def result_tangent_avals(self) -> list[Any]:
        """The tangent types of the results that have any."""
        return tangent_avals(select(self.results.avals, self.has_tangent))

    @cached_property
    def all_cotangent_avals(self) -> list[Any]:
        """The cotangent types of all m results; float0 where there is none."""
        return [_jax.cotangent_aval(aval) for aval in self.results.avals]

    @cached_property
    def cotangent_avals(self) -> list[Any]:
        """The cotangent types of the results that have any."""
        return select(self.all_cotangent_avals, self.has_tangent)

    @cached_property
    def operand_cotangent_avals(self) -> list[Any]:
        """The cotangent types of all n operands."""
        return [_jax.cotangent_aval(aval) for aval in self.avals]

    @cached_property
    def wanted_cotangents(self) -> Wanted:
        """What a pullback must return: a cotangent for each operand; that of a single operand may be bare."""
        operands = self.call.tree.children()
        tree = operands[0] if len(operands) == 1 else self.call.tree
        return wanted_cotangents(tree, self.call.names, self.avals)


def site_of(call: Call, primals: Sequence[Any], perturbed: Sequence[bool]) -> Site:
    """The site of a call, whose operands may be whole batches."""
    avals, mask = call.element_avals([_jax.typeof(x) for x in primals]), tuple(perturbed)
    return call.rules.cache.get(("site", call.base, avals, mask), lambda: Site(call.base, avals, mask))


def tangent_avals(avals: Sequence[Any]) -> list[Any]:
    """The tangent types of values, without weak types."""
    return [_jax.strip(_jax.tangent_aval(aval)) for aval in avals]
