"""From results to figures: what share is caught, by which question, how many right operations are rejected, how long it takes."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.checker.corpus import Entry

Result = dict[str, Any]
DTYPES = ("float64", "float32", "float16", "bfloat16")
# A verdict that says nothing about the operation: the tool broke, was stopped, or took its process with it.
BROKEN = ("error", "timeout", "crash")
# The questions of jaxprim that are meant for a fault, by the context in which it shows. Who wrote the faults had not read the
# questions: this table was written afterwards.
MEANT = {
    "value": ("implementations",),
    "type": ("abstract-eval",),
    "jvp": ("jvp-differences", "dot-product", "jvp-linear"),
    "vjp": ("vjp-differences", "dot-product", "vjp-linear"),
    "jvp value": ("primal",),
    "vjp value": ("primal",),
    "second jvp": ("second-order", "mixes"),
    "second vjp": ("second-order", "mixes"),
    "one tangent": ("jvp-zeros",),
    "one cotangent": ("vjp-zeros",),
    "one gradient": ("vjp-zeros",),
    "at zero": ("zero-operands",),
    "vmap value": ("vmap", "vmap-patterns"),
    "vmap one": ("vmap-sizes",),
    "vmap jvp": ("vmap-jvp",),
    "vmap vjp": ("vmap-vjp",),
    **dict.fromkeys(("jit value", "jit jvp", "jit vjp"), ("jit",)),
    # `dtypes` compares with float64; what a rule gives there, only differences can tell.
    **{f"{rule} in float64": (f"{rule}-differences",) for rule in ("jvp", "vjp")},
    **{f"{rule} in {dtype}": ("dtypes",) for rule in ("jvp", "vjp") for dtype in DTYPES if dtype != "float64"},
    **dict.fromkeys(("input", "repeated", "twice", "others first", "others first vjp"), ("pure", "deterministic")),
}


def upper_bound(rejected: int, runs: int, confidence: float = 0.95) -> float:
    """One-sided upper bound of a share (Clopper and Pearson): the share p for which so few rejections or fewer have
    probability ``1 - confidence``. 1 where nothing was run.
    """
    if rejected >= runs:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(rejected, runs, middle) > 1 - confidence else (low, middle)
    return high


def _at_most(k: int, n: int, p: float) -> float:
    """The probability of at most `k` of `n`."""
    if p in (0.0, 1.0):
        return float(p == 0.0)
    return math.fsum(math.exp(_log_choose(n, i) + i * math.log(p) + (n - i) * math.log1p(-p)) for i in range(k + 1))


def _log_choose(n: int, i: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1)


def figures(results: Iterable[Result], entries: dict[str, Entry]) -> dict[str, Any]:
    """All figures of a run, by tool. Results of entries that the corpus does not have any more are left out."""
    by_tool: dict[str, list[tuple[Entry, Result]]] = defaultdict(list)
    for result in results:
        if result["entry"] in entries and result["verdict"] != "does not apply":
            by_tool[result["tool"]].append((entries[result["entry"]], result))
    return {tool: _of_tool(rows) for tool, rows in by_tool.items()}


def _of_tool(rows: list[tuple[Entry, Result]]) -> dict[str, Any]:
    part = {name: [row for row in rows if row[0].part == name] for name in ("right", "fault", "power")}
    return {
        "faults": _share(part["fault"]),
        "kinds": _grouped(part["fault"], _kind, _share),
        "power": _power(part["power"]),
        "questions": _grouped(part["fault"] + part["power"], _kind, _questions),
        "by another": sorted(
            e.name for e, r in part["fault"] + part["power"] if r["questions"] and not _by_meant(e, r)
        ),
        "right": _rejections(part["right"]),
        "right by dtype": _grouped(part["right"], lambda e: e.op.dtype, _rejections),
        "seconds": _times(rows),
        "broken": [
            f"{r['entry']}, seed {r['seed']}: {r['verdict']}: {r['detail']}" for _, r in rows if r["verdict"] in BROKEN
        ],
    }


def _kind(entry: Entry) -> str:
    return f"{entry.kind} ({entry.fault.mode})" if entry.fault else entry.kind


def _grouped(rows: Any, key: Callable[[Entry], Any], reduce: Callable[[Any], Any]) -> dict[Any, Any]:
    groups: dict[Any, list[Any]] = defaultdict(list)
    for entry, result in rows:
        groups[key(entry)].append((entry, result))
    return {name: reduce(group) for name, group in groups.items()}


def _share(rows: Sequence[tuple[Entry, Result]]) -> dict[str, Any]:
    """How many were caught. A tool that raised something of its own told its user as much as that; it is counted apart."""
    verdicts = Counter(result["verdict"] for _, result in rows)
    missed = sorted(entry.name for entry, result in rows if result["verdict"] != "caught")
    return {"caught": verdicts["caught"], "raised": verdicts["error"], "of": len(rows), "missed": missed}


def _power(rows: Any) -> dict[str, dict[str, Any]]:
    """``{dtype: {size: share}}``, complex numbers under their real dtype."""
    by_dtype: dict[str, dict[str, Any]] = {}
    for dtype in DTYPES:
        of_dtype = [row for row in rows if row[0].op.dtype == dtype]
        by_dtype[dtype] = _grouped(of_dtype, lambda e: f"{e.fault.size:g}" if e.fault else "", _share)
    return by_dtype


def _questions(rows: Any) -> dict[str, int]:
    return dict(Counter(question for _, result in rows for question in result["questions"]).most_common())


def _by_meant(entry: Entry, result: Result) -> bool:
    """Whether a question that is meant for a fault has caught it."""
    return entry.fault is not None and not set(MEANT[entry.fault.context]).isdisjoint(result["questions"])


def _rejections(rows: Any) -> dict[str, Any]:
    """A right operation is rejected where the tool says that it is wrong, and also where the tool breaks."""
    rejected = [(entry, result) for entry, result in rows if result["verdict"] != "passed"]
    by_name = Counter(entry.name for entry, _ in rejected)
    return {
        "runs": len(rows),
        "operations": len({entry.name for entry, _ in rows}),
        "seeds": len({result["seed"] for _, result in rows}),
        "rejected": len(rejected),
        "broken": sum(result["verdict"] in BROKEN for _, result in rejected),
        "upper bound": upper_bound(len(rejected), len(rows)),
        "names": dict(by_name.most_common()),
        "questions": _questions(rejected),
    }


def _times(rows: Any) -> dict[str, float | None]:
    """Medians over operations of fewer than 10^6 elements, of the first seed, for which everything is compiled. A call
    that was stopped has no time.
    """
    timed = [(e, r) for e, r in rows if r["seed"] == 0 and r["verdict"] in ("passed", "caught")]
    small = [r for e, r in timed if not e.large]
    first = [r["first"] for r in small if r["first"] is not None]
    return {
        "median check": statistics.median(r["seconds"] for r in small) if small else None,
        "longest check": max((r["seconds"] for r in small), default=None),
        "median first finding": statistics.median(first) if first else None,
        "longest first finding": max(first, default=None),
    }


# --------------------------------------------------------------------------------------------------------------- printed
def text(made: dict[str, Any], missing: list[str]) -> str:
    """The figures as tables."""
    lines = [f"{name}: not installed, so it was not run" for name in missing]
    lines += [
        "",
        f"{'tool':<22}{'faults caught':>15}{'raised':>8}{'right rejected':>16}{'95 % bound':>12}{'broken':>8}{'median s':>10}{'first s':>9}",
    ]
    lines += [_summary(tool, found) for tool, found in made.items()]
    for tool, found in made.items():
        lines += [
            "",
            f"{tool}: share of faults caught, by size",
            *_power_table(found["power"], found["right by dtype"]),
        ]
    for tool, found in made.items():
        lines += _details(tool, found)
    return "\n".join(lines)


def _summary(tool: str, found: dict[str, Any]) -> str:
    faults, right, seconds = found["faults"], found["right"], found["seconds"]
    caught = f"{faults['caught']} of {faults['of']}"
    rejected = f"{right['rejected']} of {right['runs']}"
    bound = f"{right['upper bound']:.2%}" if right["runs"] else "-"
    return (
        f"{tool:<22}{caught:>15}{faults['raised']:>8}{rejected:>16}{bound:>12}{len(found['broken']):>8}"
        f"{_seconds(seconds['median check']):>10}{_seconds(seconds['median first finding']):>9}"
    )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _power_table(power: dict[str, dict[str, Any]], right: dict[str, Any]) -> list[str]:
    """A line for each dtype; the last column is the share of right operations that are rejected in it."""
    sizes = sorted({size for shares in power.values() for size in shares}, key=float, reverse=True)
    lines = ["  " + f"{'dtype':<10}" + "".join(f"{size:>10}" for size in sizes) + f"{'right rejected':>20}"]
    for dtype, shares in power.items():
        cells = [f"{shares[size]['caught']}/{shares[size]['of']}" if size in shares else "-" for size in sizes]
        rejected = f"{right[dtype]['rejected']}/{right[dtype]['runs']}" if dtype in right else "-"
        lines.append("  " + f"{dtype:<10}" + "".join(f"{cell:>10}" for cell in cells) + f"{rejected:>20}")
    return lines


def _details(tool: str, found: dict[str, Any]) -> list[str]:
    lines = ["", f"{tool}: which question caught what"] if any(found["questions"].values()) else []
    for kind, questions in found["questions"].items():
        if questions:
            lines.append(f"  {kind:<34}" + ", ".join(f"{name} {count}" for name, count in questions.items()))
    lists = {
        "missed": found["faults"]["missed"],
        "caught, by none of the questions meant for it": found["by another"],
        "broken": found["broken"],
    }
    for title, names in lists.items():
        lines += ["", f"{tool}: {title}", *(f"  {name}" for name in names)] if names else []
    rejected = found["right"]["names"]
    lines += ["", f"{tool}: right, and rejected", *(f"  {n}: {k}" for n, k in rejected.items())] if rejected else []
    return lines
