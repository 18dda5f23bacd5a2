"""Random nests of transformations and control flow around an operation, against the same nests around its reference."""

from jaxprim.fuzzing.run import Fuzzing, fuzz

__all__ = ["Fuzzing", "fuzz"]
