"""Who is wrong where a question fails, found by other means than the check: see docs/checking/survey.md."""

from __future__ import annotations

VERDICTS = {
    "jax.scipy.special erfcx": "JAX is wrong: second derivatives of an array raise",
    "jax.scipy.special spence": "JAX is wrong: 0 at 1, and nan in reverse mode on (1, 2]",
}
