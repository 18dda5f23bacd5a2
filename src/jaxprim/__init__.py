"""jaxprim: custom JAX primitives, complete.

Define an operation once, with as many or as few rules as you like; it works under every JAX transformation. Each rule
is given by its author, derived from the rules that are given, or missing with a reason.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from jaxprim import _doctor

try:
    from jaxprim import ad, mlir
    from jaxprim._errors import BadCall, CheckFailed, HostError, JaxprimError, KernelError, RuleMissing, RuleWrong
    from jaxprim._primitive import Primitive, primitive
    from jaxprim._record import record_rules
    from jaxprim._types import Example, Explanation, RuleInfo
    from jaxprim._use import use
    from jaxprim._zeros import Zero
except (ImportError, AttributeError, TypeError) as error:  # a JAX that is too new, or too old
    _doctor.explain_failed_import(error)
    raise
_doctor.warn_on_another_release()

if TYPE_CHECKING:
    from jaxprim import fuzzing, kernels, testing
    from jaxprim.checking import Finding, Report, check, report
    from jaxprim.fuzzing import fuzz
    from jaxprim.kernels.from_numpy import from_numpy

__version__ = "0.1.0"

__all__ = [
    "BadCall",
    "CheckFailed",
    "Example",
    "Explanation",
    "Finding",
    "HostError",
    "JaxprimError",
    "KernelError",
    "Primitive",
    "Report",
    "RuleInfo",
    "RuleMissing",
    "RuleWrong",
    "Zero",
    "ad",
    "check",
    "from_numpy",
    "fuzz",
    "fuzzing",
    "kernels",
    "mlir",
    "primitive",
    "record_rules",
    "report",
    "testing",
    "use",
]


def __getattr__(name: str) -> Any:
    # The checker and the kernels are imported on first use, to keep `import jaxprim` fast.
    if name in ("check", "report", "Report", "Finding"):
        from jaxprim import checking

        return getattr(checking, name)
    if name == "fuzz":
        from jaxprim.fuzzing import fuzz

        return fuzz
    if name == "from_numpy":
        from jaxprim.kernels.from_numpy import from_numpy

        return from_numpy
    if name in ("fuzzing", "kernels", "testing"):
        return importlib.import_module(f"jaxprim.{name}")
    raise AttributeError(f"module 'jaxprim' has no attribute {name!r}")
