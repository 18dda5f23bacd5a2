"""A training on one process, and on two that share the same devices: the numbers are the same to the last digit."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys

import jax
import pages
import pytest
from tools import cxx, needs

pytestmark = [cxx, needs("numba"), pytest.mark.usefixtures("kernel_cache")]

TIMEOUT = 8  # seconds. A busy machine must not pass for a dead process.
HAS_ORBAX = importlib.util.find_spec("orbax") is not None


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return tmp_path_factory.mktemp("job") / "checkpoints"


@pytest.fixture(scope="module")
def job(kernel_cache, checkpoints):
    """What two processes said, of which one was killed."""
    launch = [sys.executable, "-m", "examples.distributed.launch", "-n", "2", sys.executable]
    asked = ["tests/examples/distributed/job.py", str(TIMEOUT), *([str(checkpoints)] if HAS_ORBAX else [])]
    # As tests/conftest.py has it for this process.
    env = {
        **os.environ,
        "PYTHONPATH": f"src{os.pathsep}.",
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    return subprocess.run([*launch, *asked], cwd=pages.ROOT, env=env, capture_output=True, text=True, check=False)


def of_each_process(said):
    return [re.findall(rf"^process {i}: (.*)", said, re.MULTILINE) for i in (0, 1)]


def test_every_kind_of_kernel_is_right_on_two_processes(job):
    """Each runs where the parts are: kernels along their batch axes, a host function by its sharding rule.

    The training runs a kernel in C++.
    """
    expected = {
        f"{name}, {way}, {kind}: right, split"
        for name in ("numba", "c_function", "host")
        for way in ("jit", "vmap", "shard_map")
        for kind in ("Auto", "Explicit")
    }
    for said in of_each_process(job.stdout):
        assert {line for line in said if ": right" in line} == expected, job.stderr


def test_losses_are_those_of_one_process(example, capsys, job):
    example.main(["--steps", "3", "--axes", "Explicit"])
    alone = re.findall(r"loss (\S+)", capsys.readouterr().out)
    assert len(alone) == 3
    assert float(alone[2]) < 0.7 * float(alone[0])
    for said in of_each_process(job.stdout):
        for kind in ("Auto", "Explicit"):
            assert [loss for line in said for loss in re.findall(rf"^{kind}, .*loss (\S+)", line)][:3] == alone, (
                job.stderr
            )


def test_a_process_that_is_killed_ends_the_others(job):
    """Within the timeout: a process that is not ended waits for a minute, and says so."""
    assert job.returncode == 1
    assert "process 1 of 2: ended by SIGKILL" in job.stderr
    assert "process 0 of 2: ended by SIGABRT" in job.stderr
    assert "another task died" in job.stderr
    assert "was not ended" not in job.stdout


@needs("orbax")
def test_a_job_goes_on_from_its_checkpoint_with_another_number_of_processes(example, capsys, job, checkpoints):
    example.main(["--steps", "5"])
    whole = capsys.readouterr().out.splitlines()
    example.main(["--steps", "5", "--checkpoints", str(checkpoints)])
    assert capsys.readouterr().out.splitlines() == whole[2:]
    assert jax.device_count() == 4
