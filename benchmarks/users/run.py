"""Operations as users bring them, right and wrong in one rule: a second corpus, for the default check.

    python -m benchmarks.users.run                 check every entry, and count
    python -m benchmarks.users.run --part 0/4      a quarter of them; also --only NAME, --seed N

The right operations are hard on a checker: intermediate results that overflow a half precision, condition numbers of 1e7 and
1e10, long norms, kinks and poles at zero, integers, enumerations, operands without axes, and domains such as sorted grids.
Each wrong one is a right one with one rule replaced.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable

import jax

from benchmarks.users import domains, kinks, magnitudes, matrices, params, shapes, solvers
from benchmarks.users.operation import FAULTS, OPS, Op
from jaxprim import Example, Report, report

PARTS = magnitudes, matrices, kinks, params, shapes, domains, solvers  # each fills OPS and FAULTS


def asked(op: Op, seed: int, *, is_right: bool) -> Report:
    """The report of the default check. It holds the fast questions, so a fault that these catch is asked no more."""
    examples = [x if isinstance(x, Example) else Example(x) for x in op.examples()]
    if not is_right:
        found = report(op.primitive(), *examples, seed=seed, speed="fast")
        if not found.ok:
            return found
    return report(op.primitive(), *examples, seed=seed)


def run(names: Iterable[str], seed: int) -> int:
    """Check these entries, print a line of JSON for each, and at the end how many answers were wrong."""
    count: Counter[str] = Counter()
    for name in names:
        op, is_right = (OPS | FAULTS)[name], name in OPS
        started = time.perf_counter()
        with jax.enable_x64(op.x64):
            found = asked(op, seed, is_right=is_right)
        answer = "passed" if found.ok else "rejected"
        count[f"{'right' if is_right else 'wrong'} and {answer}"] += 1
        seconds = round(time.perf_counter() - started, 1)
        line = {"name": name, "right": is_right, "answer": answer, "seconds": seconds}
        print(json.dumps(line | {"by": [each.question for each in found.bad]}), flush=True)
        if is_right and found.bad:
            print(found, file=sys.stderr, flush=True)
    print(json.dumps(count))
    return count["right and rejected"] + count["wrong and passed"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", default="0/1")
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    at, parts = map(int, given.part.split("/"))
    warnings.simplefilter("ignore")
    names = [name for name in OPS | FAULTS if given.only in name][at::parts]
    return run(names, given.seed) > 0


if __name__ == "__main__":
    raise SystemExit(main())
