"""How well a checker of derivatives works: what it catches, what it rejects though it is right, how long it takes.

    python -m benchmarks.checker.run --jobs 4            everything, 100 seeds of each right operation: hours
    python -m benchmarks.checker.run --quick             one seed, a fault of each kind, two sizes: minutes
    python -m benchmarks.checker.run --report            the tables again, of results that are there

Each answer is appended to the results file as it comes, and a run goes on where the last one ended: start with a new file
after a change of the code. A tool that crashes or does not end in time costs that entry alone; it is counted and listed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from benchmarks.checker import corpus, tools
from benchmarks.checker.corpus import Entry
from benchmarks.checker.figures import figures, text
from benchmarks.checker.tools import Checker

Task = dict[str, Any]
TOOLS = ["jaxprim", "jax check_grads", "autograd check_grads", "torch gradcheck"]
# A process keeps what it compiled; a fresh one now and then keeps it small.
TASKS_PER_PROCESS = 100


def plan(entries: dict[str, Entry], names: list[str], seeds: int, quick: bool) -> Iterator[Task]:
    """Every task: right operations with each seed, those of 10^6 elements with every tenth, wrong ones with the first."""
    chosen = _quick(entries) if quick else entries
    for seed in range(1 if quick else seeds):
        for entry in chosen.values():
            if seed == 0 or (entry.part == "right" and (seed % 10 == 0 or not entry.large)):
                yield from (
                    {"tool": tool, "entry": entry.name, "seed": seed} for tool in names if _applies(tool, entry)
                )


def _applies(tool: str, entry: Entry) -> bool:
    return tool in ("jaxprim", "jax check_grads") or tools.ported(entry) is not None


def _quick(entries: dict[str, Entry]) -> dict[str, Entry]:
    """One fault of each kind and mode; two sizes in two dtypes; every right operation."""
    chosen: dict[tuple[Any, ...], Entry] = {}
    for entry in entries.values():
        fault = entry.fault
        if fault is None:
            chosen[(entry.name,)] = entry
        elif entry.part == "fault":
            chosen.setdefault((entry.kind, fault.mode), entry)
        elif fault.size in (1e-1, 1e-4) and entry.op.dtype in ("float32", "float64"):
            chosen[(entry.name,)] = entry
    return {entry.name: entry for entry in chosen.values()}


class Worker:
    """A process that answers tasks, and is replaced when it crashes, is too slow, or has done enough."""

    def __init__(self, command: list[str], timeout: float, environment: dict[str, str] | None = None) -> None:
        self.command, self.timeout, self.environment = command, timeout, os.environ | (environment or {})
        self.process: Any = None
        self.done = 0

    def ask(self, task: Task) -> Task:
        process = self._ready()
        expired = threading.Event()
        timer = threading.Timer(self.timeout, lambda: (expired.set(), process.kill()))
        timer.start()
        try:
            line = self._exchange(process, task)
        finally:
            timer.cancel()
        if line:
            return json.loads(line)
        code = self.close()
        verdict, detail = ("timeout", f"{self.timeout:g} s") if expired.is_set() else ("crash", f"exit code {code}")
        return task | {"verdict": verdict, "questions": [], "seconds": 0.0, "first": None, "detail": detail}

    def _ready(self) -> Any:
        if self.done >= TASKS_PER_PROCESS:
            self.close()
        if self.process is None:
            # What operations and tools print is dropped: 2 is where the worker sends it.
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            self.process, self.done = subprocess.Popen(self.command, text=True, env=self.environment, **pipes), 0
            self.process.stdout.readline()  # until it is ready
        self.done += 1
        return self.process

    @staticmethod
    def _exchange(process: Any, task: Task) -> str:
        try:
            process.stdin.write(json.dumps(task) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            return ""
        return process.stdout.readline()

    def close(self) -> int | None:
        process, self.process = self.process, None
        if process is None:
            return None
        if process.poll() is None:
            process.kill()
        process.communicate()
        return process.returncode


def run(tasks: list[Task], options: argparse.Namespace) -> None:
    """Answer the tasks with several workers, and append each answer to the results file."""
    waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
    for task in tasks:
        waiting.put(task)
    answers: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
    with tempfile.TemporaryDirectory() as programs, options.results.open("a") as file:
        given = (options, waiting, answers, compiled_once(programs))
        threads = [threading.Thread(target=_work, args=given, daemon=True) for _ in range(options.jobs)]
        for thread in threads:
            thread.start()
        for count in range(1, len(tasks) + 1):
            file.write(json.dumps(answers.get()) + "\n")
            file.flush()
            print(f"\r{count} of {len(tasks)}", end="", file=sys.stderr, flush=True)
        for thread in threads:
            thread.join()  # their processes write into the folder


def compiled_once(folder: str) -> dict[str, str]:
    """An environment in which JAX keeps in the folder what it compiles: the programs differ in no seed."""
    keep = {"MIN_COMPILE_TIME_SECS": "0", "MIN_ENTRY_SIZE_BYTES": "-1"}
    return {"JAX_COMPILATION_CACHE_DIR": folder} | {f"JAX_PERSISTENT_CACHE_{key}": to for key, to in keep.items()}


def _work(options: argparse.Namespace, waiting: Any, answers: Any, compiled: dict[str, str]) -> None:
    """The first seed is timed, so that it compiles as it would for a user; the others find what is compiled."""
    command = [sys.executable, "-m", "benchmarks.checker.worker", options.check, options.on_finding or ""]
    timed, repeated = Worker(command, options.timeout), Worker(command, options.timeout, compiled)
    while True:
        try:
            task = waiting.get_nowait()
        except queue.Empty:
            break
        if task["seed"]:
            timed.close()  # for good: the first seed comes first
        answers.put((repeated if task["seed"] else timed).ask(task))
    timed.close()
    repeated.close()


def read(path: Path) -> list[Task]:
    """The results so far. A line that was cut off by an end of the program is removed: its task is done again."""
    if not path.exists():
        return []
    whole, newline, cut_off = path.read_text().rpartition("\n")
    if cut_off:
        path.write_text(whole + newline)
    return [json.loads(line) for line in whole.splitlines()]


def _key(task: Task) -> tuple[Any, ...]:
    return task["tool"], task["entry"], task["seed"]


def versions() -> dict[str, str]:
    """What was measured: the commit, with a mark if files differ from it, and what ran it."""
    git = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    commit = subprocess.run(git, cwd=Path(__file__).parent, capture_output=True, text=True, check=False).stdout.strip()
    return {"commit": commit, "jax": jax.__version__, "python": platform.python_version()}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.checker.run")
    parser.add_argument("--seeds", type=int, default=100, help="operands of each right operation (100)")
    parser.add_argument("--quick", action="store_true", help="one seed, one fault of each kind, two sizes")
    parser.add_argument("--jobs", type=int, default=1, help="processes (1)")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for one entry (120)")
    parser.add_argument("--only", default="", help="entries whose name contains this")
    parser.add_argument(
        "--tools", nargs="+", default=TOOLS, choices=TOOLS, help="tools to run (all that are installed)"
    )
    parser.add_argument("--results", type=Path, default=Path("checker-results.jsonl"), help="where answers are kept")
    parser.add_argument("--check", default=Checker.target, help="module:function to measure as jaxprim's")
    parser.add_argument("--on-finding", default=Checker.listener, help="its keyword for a callback per finding")
    parser.add_argument("--report", action="store_true", help="run nothing, print the tables")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    made, missing = tools.available(options.tools, options.check, options.on_finding)
    entries = {name: entry for name, entry in corpus.entries().items() if options.only in name}
    if not options.report:
        known = {_key(result) for result in read(options.results)}
        run([t for t in plan(entries, list(made), options.seeds, options.quick) if _key(t) not in known], options)
    found = figures(read(options.results), entries)
    kept = {"versions": versions(), "missing": missing, "figures": found}
    options.results.with_suffix(".json").write_text(json.dumps(kept, indent=1))
    print(text(found, missing))
    return found


if __name__ == "__main__":
    main()
