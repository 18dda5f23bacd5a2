"""Every operation of tests/zoo.py in random nests of transformations, against its reference in the same nests.

    python benchmarks/fuzz_zoo.py --examples 10000

It prints a line for each operation, and the smallest nest of each that differs; then it exits with 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import jax

from jaxprim import fuzzing

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import zoo


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=500, help="nests in all, shared evenly (500)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the nests (0)")
    parser.add_argument("--depth", type=int, default=3, help="layers in a nest, at most (3)")
    parser.add_argument("names", nargs="*", help="the operations; all by default")
    options = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    entries = [e for e in (*zoo.ZOO, *zoo.INSIDE) if not options.names or e.name in options.names]
    each = max(1, options.examples // len(entries))
    found = [_fuzz(entry, each, options.seed, options.depth) for entry in entries]
    bad = sum(result.failure is not None for result in found)
    compared, refused = sum(f.compared for f in found), sum(f.refused.total() for f in found)
    print(f"JAX {jax.__version__}: {compared} nests agree, {refused} cannot be run, {bad} operations differ")
    return 1 if bad else 0


def _fuzz(entry: zoo.Entry, examples: int, seed: int, depth: int) -> fuzzing.FuzzReport:
    start = time.perf_counter()
    found = fuzzing.report(
        entry.f, *entry.args(), reference=entry.reference, examples=examples, seed=seed, depth=depth
    )  # fmt: skip
    print(f"{entry.name}: {found.text()} in {time.perf_counter() - start:.0f} s", flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
