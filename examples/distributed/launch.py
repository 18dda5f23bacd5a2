"""Start the processes of one job on this machine, as `mpirun` and `srun` do on a cluster.

    python -m examples.distributed.launch -n 4 python -m examples.distributed.train

Each process is told where the first one listens, how many there are, and which one it is: `train.join` reads that. The
CPU's devices are shared out, so that the job has as many devices with one process as with four.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time


def main(argv=None):
    options = arguments().parse_args(argv)
    jobs = [subprocess.Popen(options.command, env=env) for env in environments(options.n, options.devices)]
    try:
        codes = wait(jobs, options.patience)
    finally:
        for job in jobs:
            job.kill()
    for i, code in enumerate(codes):
        if code:
            print(f"process {i} of {len(jobs)}: {in_words(code)}", file=sys.stderr, flush=True)
    return next((1 for code in codes if code), 0)


def arguments():
    parser = argparse.ArgumentParser(prog="launch", description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=2, help="how many processes")
    parser.add_argument(
        "--devices", type=int, default=4, help="how many devices of the CPU all processes have together"
    )
    parser.add_argument(
        "--patience", type=float, default=120, metavar="SECONDS", help="for the others, once one has failed"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what each process runs")
    return parser


def environments(n, devices):
    if devices % n:
        raise SystemExit(f"launch: {devices} devices cannot be shared out to {n} processes")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    job = {"JOB_ADDRESS": f"localhost:{port}", "JOB_PROCESSES": str(n), "JAX_NUM_CPU_DEVICES": str(devices // n)}
    return [{**os.environ, **job, "JOB_PROCESS": str(i)} for i in range(n)]


def wait(jobs, patience):
    """The exit codes. Once a process has failed, JAX ends the others; what it has not ended in time is ended here."""
    deadline = None
    while None in (codes := [job.poll() for job in jobs]):
        if deadline is None and any(codes):
            deadline = time.monotonic() + patience
        if deadline is not None and time.monotonic() > deadline:
            for job in jobs:
                job.kill()
        time.sleep(0.02)
    return codes


def in_words(code):
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


if __name__ == "__main__":
    sys.exit(main())
