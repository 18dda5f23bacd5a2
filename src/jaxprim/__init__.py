"""jaxprim: custom JAX primitives, complete.

Define an operation once, with as many or as few rules as you like; it works under every JAX transformation. Each rule
is given by its author, derived from the rules that are given, or missing with a reason.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from jaxprim import _doctor

if TYPE_CHECKING:
    from jaxprim import ad, fuzzing, kernels, mlir, testing
    from jaxprim._custom import custom_jvp, custom_vjp
    from jaxprim._errors import BadCall, CheckFailed, HostError, JaxprimError, KernelError, RuleMissing, RuleWrong
    from jaxprim._hoisting import function
    from jaxprim._primitive import Primitive, primitive
    from jaxprim._record import record_rules
    from jaxprim._types import Example, Explanation, RuleInfo
    from jaxprim._use import use
    from jaxprim._zeros import Zero
    from jaxprim.checking.reports.report import Finding, Report
    from jaxprim.checking.run import check, report
    from jaxprim.fuzzing.run import fuzz
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
    "custom_jvp",
    "custom_vjp",
    "from_numpy",
    "function",
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

# The module of each name that is not a module itself; tests/test_imports.py compares them with the imports above.
_HOMES = {
    "BadCall": "_errors",
    "CheckFailed": "_errors",
    "Example": "_types",
    "Explanation": "_types",
    "Finding": "checking.reports.report",
    "HostError": "_errors",
    "JaxprimError": "_errors",
    "KernelError": "_errors",
    "Primitive": "_primitive",
    "Report": "checking.reports.report",
    "RuleInfo": "_types",
    "RuleMissing": "_errors",
    "RuleWrong": "_errors",
    "Zero": "_zeros",
    "check": "checking.run",
    "custom_jvp": "_custom",
    "custom_vjp": "_custom",
    "from_numpy": "kernels.from_numpy",
    "function": "_hoisting",
    "fuzz": "fuzzing.run",
    "primitive": "_primitive",
    "record_rules": "_record",
    "report": "checking.run",
    "use": "_use",
}


def __getattr__(name: str) -> Any:
    # A name is imported when it is first used. Importing all at once would import JAX, and the command line, which is
    # part of this package, must show its help and complete words in a shell without that.
    if name not in __all__:
        raise AttributeError(f"module 'jaxprim' has no attribute {name!r}")
    try:
        found = importlib.import_module(f"jaxprim.{_HOMES.get(name, name)}")
        value = getattr(found, name) if name in _HOMES else found
    except (ImportError, AttributeError, TypeError) as error:  # a JAX that is too new, or too old
        _doctor.explain_failed_import(error)
        raise ImportError(f"jaxprim.{name} could not be imported: {error}") from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not _doctor.is_tested():
    # Nobody knows whether it works with this JAX: fail now, and not where the first name is used.
    __getattr__("Primitive")
    _doctor.warn_on_another_release()
