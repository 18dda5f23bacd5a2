"""One process of the bench: reads a task a line, answers a result a line. A crash costs one task.

python -m benchmarks.checker.worker CHECK LISTENER
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from dataclasses import asdict
from typing import Any

import jax

from benchmarks.checker import corpus, tools


def answer(task: dict[str, Any], made: dict[str, tools.Tool]) -> dict[str, Any]:
    """The result of a task ``{"tool", "entry", "seed"}``. Entries are made anew, so that no state is handed on."""
    entry = corpus.entries()[task["entry"]]
    # As a user does it: the context manager holds for one thread, and callbacks of JAX run in others.
    jax.config.update("jax_enable_x64", entry.x64)
    return task | asdict(made[task["tool"]](entry, task["seed"]))


def main(checker: str, listener: str) -> None:
    # What operations and tools print must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    names = ["jaxprim", "jax check_grads", "autograd check_grads", "torch gradcheck"]
    made, _ = tools.available(names, checker, listener or None)
    answers.write("ready\n")  # the time to import JAX is not that of a task
    answers.flush()
    for line in sys.stdin:
        answers.write(json.dumps(answer(json.loads(line), made)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
