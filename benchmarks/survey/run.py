"""What `jaxprim.check` finds in functions of others: the tables of docs/checking/survey.md.

    python -m benchmarks.survey.run --json FILE          every function in float32 and float64; keeps the answers
    python -m benchmarks.survey.run --fast lineax        those whose names begin so; the quick questions alone
    python -m benchmarks.survey.run --thorough lineax    every question at every point
    python -m benchmarks.survey.run --tables FILE        the tables, of answers that were kept

Without --fast or --thorough, the first point in float32 is asked the default questions, and all others, and float64, the
quick ones. It exits with 1 if a function fails and verdicts.py does not say why. The libraries are not installed with
jaxprim: `pip install diffrax equinox flax jaxopt lineax optax optimistix scipy`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax

import jaxprim
from jaxprim.checking.questions import Speed

from . import answers, elementwise, learning, matrices, solvers, special
from .answers import Answers
from .op import Op, cast

PARTS = (special, elementwise, matrices, solvers, learning)


def ask(op: Op, bits: int, speed: Speed) -> Answers:
    """Puts the questions to one function in one precision."""
    jax.config.update("jax_enable_x64", bits == 64)
    try:
        function = op.make()
    except (AttributeError, ImportError) as error:
        return Answers(op.name, bits, speed, absent=str(error))
    reports: list[jaxprim.Report] = []
    for index, point in enumerate(op.points):
        here: Speed = "fast" if speed == "normal" and (index or bits == 64) else speed
        example = jaxprim.Example(cast(point, bits == 64))
        reports.append(jaxprim.report(function, example, reference=op.reference, speed=here))
    return Answers.of(op.name, bits, speed, reports)


def chosen(beginnings: Sequence[str]) -> Iterator[Op]:
    for part in PARTS:
        yield from (op for op in part.ops() if not beginnings or op.name.startswith(tuple(beginnings)))


def run(options: argparse.Namespace) -> Iterator[Answers]:
    for op in chosen(options.names):
        for bits in options.bits or (32, 64):
            found = ask(op, bits, options.speed)
            print(found.line(), flush=True)
            if options.json:
                answers.write(options.json, found)
            yield found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="beginnings of names; all by default")
    parser.set_defaults(speed="normal")
    for speed in ("fast", "thorough"):
        parser.add_argument(f"--{speed}", dest="speed", action="store_const", const=speed)
    parser.add_argument("--bits", type=int, choices=(32, 64), action="append")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append the answers, a line of JSON each")
    parser.add_argument("--tables", type=Path, metavar="FILE", help="ask nothing; print the tables of kept answers")
    options = parser.parse_args()
    found = answers.read(options.tables) if options.tables else list(run(options))
    if options.tables:
        print(*answers.tables(found), sep="\n")
    return int(any(one.unexpected for one in found))


if __name__ == "__main__":
    sys.exit(main())
