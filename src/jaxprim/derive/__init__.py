"""What JAX asks of a primitive, answered from the rules that its author gave.

`table` says where each kind of rule comes from, and is what dispatches. One file for each of JAX's rules: `abstract_eval`,
`lowering`, `jvp`, `vjp`, `transpose`, `batching`, `jet`. They are made of programs: `traced` (an implementation), `programs` (a
call under its batch levels), `batched_programs`, `traced_jvp`, `traced_vjp`, `transposed_pair`, `eager_pullback`. `install`
writes all of it into JAX's tables, and `explain` says what was looked up.
"""

from __future__ import annotations

from jaxprim.derive.explain import explain
from jaxprim.derive.install import install, reinstall
from jaxprim.derive.table import TABLE, Row, set_choice

__all__ = ["TABLE", "Row", "explain", "install", "reinstall", "set_choice"]
