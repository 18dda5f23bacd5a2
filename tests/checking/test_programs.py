from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from jaxprim.checking.programs import QUICKLY, jit_once


def test_a_program_is_compiled_with_options_that_the_device_takes(monkeypatch: pytest.MonkeyPatch):
    given = []
    monkeypatch.setattr(jax, "jit", lambda function, compiler_options: given.append(compiler_options) or function)
    for platform in ("cpu", "tpu"):
        monkeypatch.setattr(jax, "default_backend", lambda platform=platform: platform)
        jit_once(jnp.sin)
    assert given == [QUICKLY, None]


def test_the_numbers_stay():
    assert jit_once(lambda x: [2 * x, jnp.sum(x)])(jnp.arange(3.0))[1] == 3
