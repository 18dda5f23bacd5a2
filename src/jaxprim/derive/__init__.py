"""Derive the rules that JAX needs of a primitive from the rules that its author gave.

`table` says where each kind of rule comes from, and dispatches by it. Each of JAX's rules has its own file:
`abstract_eval`, `lowering`, `jvp`, `vjp`, `transpose`, `batching`, `jet`. They build on programs: `traced` (an
implementation), `programs` (a call under its batch levels), `batched_programs`, `traced_jvp`, `traced_vjp`,
`transposed_pair`, `eager_pullback`. On several devices, `sharding` and `on_device` say how a call splits, and
`partition` what a part computes. `install` writes the rules into JAX's tables, and `explain` prints the choices of
the table.
"""

from __future__ import annotations

from jaxprim.derive.explain import explain
from jaxprim.derive.install import install, reinstall
from jaxprim.derive.partition import by_parts
from jaxprim.derive.table import TABLE, Row, set_choice

__all__ = ["TABLE", "Row", "by_parts", "explain", "install", "reinstall", "set_choice"]
