"""Processes are started, told who they are, and waited for. What they are here needs no JAX."""

from __future__ import annotations

import sys

import pytest

# In one piece: the processes share the pipe.
TELL = """
import os
names = "JOB_PROCESS", "JOB_PROCESSES", "JAX_NUM_CPU_DEVICES", "JOB_ADDRESS"
os.write(1, (" ".join(os.environ[name] for name in names) + "\\n").encode())
"""


def launched(example, capfd, n, program, *options):
    code = example.main(["-n", str(n), *options, sys.executable, "-c", program])
    said = capfd.readouterr()
    return code, sorted(said.out.splitlines()), said.err.splitlines()


def test_each_process_is_told_which_one_it_is_its_share_of_the_devices_and_where_to_meet(example, capfd):
    code, told, said = launched(example, capfd, 3, TELL, "--devices", "6")
    assert (code, said) == (0, [])
    assert [line.rpartition(" ")[0] for line in told] == ["0 3 2", "1 3 2", "2 3 2"]
    (address,) = {line.rpartition(" ")[2] for line in told}
    assert address.startswith("localhost:")


def test_devices_that_cannot_be_shared_out(example):
    with pytest.raises(SystemExit, match="4 devices cannot be shared out to 3 processes"):
        example.main(["-n", "3", "true"])


def test_a_process_that_fails_is_named_and_the_others_are_not_waited_for(example, capfd):
    program = "import os, time; os.environ['JOB_PROCESS'] == '1' and exit(7); time.sleep(60)"
    code, _, said = launched(example, capfd, 2, program, "--patience", "0.1")
    assert (code, said) == (1, ["process 0 of 2: ended by SIGKILL", "process 1 of 2: exit code 7"])
