"""What every test runs under: four devices, JAX's own checks on, nothing promoted or broadcast in silence.

Warnings are errors in pyproject.toml.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator

import jax
import numpy as np
import pytest
from covering import covering, name_of
from jax_versions import IS_OLDER_JAX, ROWS_ALONE

if jax.config.jax_platforms is None:  # A machine with an accelerator asks for it by JAX_PLATFORMS=cuda,cpu.
    jax.config.update("jax_platforms", "cpu")
# Through the config and not XLA_FLAGS: it works in pytest-xdist's workers, and programs that a test starts do not
# inherit it.
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_enable_checks", True)
# Each test compiles many small programs and runs each once.
jax.config.update("jax_disable_most_optimizations", True)

# What does not depend on JAX, or is made of parts that other tests hold on every JAX. It runs on the newest alone, so that
# a run of CI does not wait for it three times.
ON_NEWEST_JAX_ALONE = [
    "benchmarks",
    "checking/questions/test_other_points.py",
    "checking/reports",
    "checking/test_accuracy.py",
    "checking/test_options.py",
    "checking/test_precision.py",
    "checking/test_progress.py",
    "checking/test_run.py",
    "cli",
    "docs_site",
    "examples",
    "fuzzing",
    "kernels/test_any_words.py",
    "kernels/test_build.py",
    "kernels/test_build_ahead.py",
    "kernels/test_compilers.py",
    "kernels/test_finite_differences.py",
    "kernels/test_from_numba.py",
    "kernels/test_from_pointer.py",
    "kernels/test_from_source.py",
    "kernels/test_identity.py",
    "kernels/test_languages.py",
    "kernels/test_manifest.py",
    "kernels/test_parameters.py",
    "kernels/test_platforms.py",
    "kernels/test_stencil.py",
    "kernels/test_toolchain.py",
    "testing",
    "test_cache.py",
    "test_change_guide.py",
    "test_checking_docs.py",
    "test_docs.py",
    "test_faults.py",
    "test_hatch.py",
    "test_imports.py",
    "test_pages.py",
    "test_pytest_plugin.py",
    "test_rights.py",
    "test_typing.py",
]
collect_ignore = ON_NEWEST_JAX_ALONE if IS_OLDER_JAX else []

# The same, of files whose other tests run on every JAX.
TESTS_ON_NEWEST_JAX_ALONE = [
    "checking/questions/test_second_order.py::test_right_functions",
    "derive/test_on_device.py::test_another_process_finds_the_program_and_loads_an_exported_one",
    "forms/test_implicit.py::test_a_batch_of_directions_one_of_which_is_zero",
    "forms/test_implicit.py::test_a_complex_equation_with_a_real_operand",
    "forms/test_implicit.py::test_a_minimum",
    "forms/test_implicit.py::test_a_minimum_in_complex_numbers",
    "forms/test_implicit.py::test_a_result_without_a_tangent_is_no_unknown",
    "forms/test_implicit.py::test_an_equation_that_is_not_holomorphic",
    "forms/test_implicit.py::test_an_operation_that_was_used_can_be_dropped",
    "forms/test_implicit.py::test_second_derivatives_by_products_alone",
    "forms/test_implicit.py::test_second_derivatives_in_the_matrix",
    "forms/test_linear_solvers.py::test_an_iteration_stops_at_its_tolerance",
    "forms/test_linear_solvers.py::test_an_iteration_that_cannot_meet_its_tolerance_ends",
    "test_call_counts.py::test_the_page_has_the_numbers",
    "test_doctor.py::test_each_name_is_missed_when_it_is_gone",
    "test_messages.py::test_correction",
]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of a test with several parametrizations, takes a few of the combinations.

    On the newest JAX each pair of values occurs, so that two parametrizations give all combinations. On an older one, each
    value does.
    """
    if ROWS_ALONE:
        return
    here = [item for item in items if not (IS_OLDER_JAX and name_of(item) in TESTS_ON_NEWEST_JAX_ALONE)]
    chosen = covering(here, 1 if IS_OLDER_JAX else 2)
    if len(chosen) < len(items):
        kept = set(chosen)
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = chosen


def pytest_report_header() -> list[str]:
    """The versions that really run; `.ci/run` reads them back from here."""
    versions = f"versions: JAX {jax.__version__}, Python {platform.python_version()}, NumPy {np.__version__}"
    return [versions, *([f"left to the newest JAX: {', '.join(collect_ignore)}"] if collect_ignore else [])]


@pytest.fixture(params=[False, True], ids=["x32", "x64"])
def x64(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Runs the test twice: with 64-bit types off and on."""
    with jax.enable_x64(request.param):
        yield request.param


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """JAX raises when a tracer outlives its trace. It also switches caches off, hence not for every test."""
    with jax.checking_leaks():
        yield


@pytest.fixture
def jax_defaults() -> Iterator[None]:
    """JAX as a user has it: for code that others wrote, which may promote and broadcast."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"), jax.enable_checks(False):
        yield


@pytest.fixture(scope="session")
def kernel_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Kernels compile into a folder of the test run alone, which its workers share."""
    base = tmp_path_factory.getbasetemp()
    # With pytest-xdist, each worker's base folder lies in the run's.
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    before = os.environ.get("JAXPRIM_CACHE")
    os.environ["JAXPRIM_CACHE"] = str(shared / "kernels")
    yield os.environ["JAXPRIM_CACHE"]
    os.environ.pop("JAXPRIM_CACHE")
    if before is not None:
        os.environ["JAXPRIM_CACHE"] = before
