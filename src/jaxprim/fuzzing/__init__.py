"""Random nests of transformations and control flow around an operation, against the same nests around its reference."""

from jaxprim.fuzzing.run import FuzzReport, fuzz, report

__all__ = ["FuzzReport", "fuzz", "report"]
