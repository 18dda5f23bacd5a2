"""What jaxprim does on a GPU: ``bash benchmarks/gpu/run.sh [tests gallery calls rms_norm streams throws memory]``.

It prints a table, and writes it as JSON. A ratio is one of medians, of rounds in which all peers take turns; see ../README.md.
With ``--platform cpu`` the same runs with kernels in C++, which says nothing about a GPU, but tests this program.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import re
import resource
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu.cases import PLATFORMS, Cases, rms_norm_in_jax
from benchmarks.timing import interleaved, ratio

ROOT = Path(__file__).parents[2]
LIMIT_S = 220  # a part that would begin later is not begun: the whole takes less than four minutes
ROUNDS = 31


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        part: the part of this program.
        what: what was looked at.
        found: a number, or what was found in words.
        target: the most that the number may be; None if it is only told.
        ok: whether it is as it should be; None if it was not run.
    """

    part: str
    what: str
    found: float | str
    target: float | None = None
    ok: bool | None = True

    def __str__(self) -> str:
        found = f"{self.found:.3f}" if isinstance(self.found, float) else self.found
        target = "" if self.target is None else f"<= {self.target:g}"
        said = {True: "ok", False: "WRONG", None: "NOT RUN"}[self.ok]
        return f"{self.part:<9} {self.what:<58} {found:>12}  {target:<8} {said}"


def measured(part: str, what: str, found: float, target: float | None = None) -> Row:
    return Row(part, what, found, target, target is None or found <= target)


def holds(part: str, what: str, ok: bool, found: str = "") -> Row:
    return Row(part, what, found or ("right" if ok else "wrong"), ok=ok)


def closely(part: str, what: str, got: Any, expected: Any, atol: float = 1e-4) -> Row:
    """Whether numbers are the same but for rounding, with the largest difference."""
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True)
    worst = max(float(np.max(np.abs(np.asarray(a) - np.asarray(b)))) for a, b in pairs)
    return holds(part, what, worst <= atol, f"off by {worst:.0e}")


# ------------------------------------------------------------------------------------------------------------- tests
def tests(cases: Cases) -> Iterator[Row]:
    """The tests that are marked `gpu`, in the files that have some."""
    if importlib.util.find_spec("pytest") is None:
        yield Row("tests", "marked gpu", "no pytest", ok=None)
        return
    marked = [
        path
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if re.search(r"^@gpu$", path.read_text(), re.MULTILINE)
    ]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "--import-mode=importlib"]
    # Without the options of the project: they need plugins that may not be here.
    done = subprocess.run(
        [*command, "-o", "addopts=", *map(str, marked)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    said = done.stdout.strip().splitlines()
    if done.returncode != 0:
        print(done.stdout[-3000:], done.stderr[-2000:])
    yield holds(
        "tests", f"marked gpu, in {len(marked)} files", done.returncode == 0, said[-1].strip("= ") if said else ""
    )


# ----------------------------------------------------------------------------------------------------------- gallery
def gallery(cases: Cases) -> Iterator[Row]:
    """Attention in Pallas, the one operation of the gallery with a kernel for GPUs, beside its values on the CPU."""
    sys.path.insert(0, str(ROOT / "examples" / "gallery"))
    module = importlib.import_module("attention")
    params = {"causal": True, "block": 32}
    operands, tangents = module.operands(64, 32), module.operands(64, 32, 6)[3:]
    cpu = jax.devices("cpu")[0]
    op = lambda *operands: module.flash(*operands, **params)
    truth = lambda *operands: module.flash.use("impl")(*operands, **params)
    ways = {
        "value": lambda op: lambda p, t: op(*p),
        "JVP": lambda op: lambda p, t: jax.jvp(op, p, t),
        "VJP": lambda op: lambda p, t: jax.vjp(op, *p)[1](op(*t)),
    }
    for what, way in ways.items():
        got = jax.jit(way(op))(operands, tangents)
        expected = jax.jit(way(truth))(*jax.device_put((operands, tangents), cpu))
        yield closely("gallery", f"attention, {what}, beside the CPU", got, expected, 1e-3)
    report = module.flash.check(*operands, **params, speed="fast")
    yield holds("gallery", "attention, check", report.ok)


# ------------------------------------------------------------------------------------------------------------- calls
def calls(cases: Cases, sizes: tuple[int, ...] = (16, 1_000_000)) -> Iterator[Row]:
    """A kernel through jaxprim, and the same kernel through a bare `ffi_call`."""
    forms = {"eager": _eager, "a jitted call": _jitted, "a jitted loop of 100": _in_a_loop}
    for size in sizes:
        x = jnp.arange(size, dtype=jnp.float32)
        yield closely("calls", f"axpy on {size}", cases.axpy(x), cases.axpy_by_hand(x), 0)
        for what, form in forms.items():
            tasks = {"jaxprim": form(cases.axpy, x), "bare": form(cases.axpy_by_hand, x)}
            times = interleaved(tasks, ROUNDS)
            target = 1.01 if what == "a jitted loop of 100" else None
            yield measured("calls", f"{what} on {size}, vs ffi_call", ratio(times["jaxprim"], times["bare"]), target)


def _eager(fn: Any, x: Any, count: int = 50) -> Callable[[], object]:
    return lambda: [fn(x).block_until_ready() for _ in range(count)]


def _jitted(fn: Any, x: Any) -> Callable[[], object]:
    return _eager(jax.jit(fn), x, 200)


def _in_a_loop(fn: Any, x: Any) -> Callable[[], object]:
    return _eager(jax.jit(lambda x: jax.lax.fori_loop(0, 100, lambda _, x: fn(x), x)), x, 5)


# ---------------------------------------------------------------------------------------------------------- RMSNorm
def rms_norm(cases: Cases, shapes: tuple[tuple[int, int], ...] = ((512, 1024), (4096, 4096))) -> Iterator[Row]:
    """RMSNorm, forward and backward, beside the same kernels by hand, and beside XLA."""
    ops = {"jaxprim": cases.rms_norm(), "custom_vjp": cases.rms_norm_by_hand(), "jnp": rms_norm_in_jax}
    for n, d in shapes:
        key, w = jax.random.key(0), jnp.linspace(0.5, 1.5, d)
        x, g = (jax.random.normal(k, (n, d)) for k in jax.random.split(key))
        forms = {
            "forward": {name: jax.jit(op) for name, op in ops.items()},
            "backward": {name: jax.jit(lambda x, w, g, op=op: jax.vjp(op, x, w)[1](g)) for name, op in ops.items()},
        }
        for what, made in forms.items():
            operands = (x, w) if what == "forward" else (x, w, g)
            values = {name: fn(*operands) for name, fn in made.items()}
            yield closely("rms_norm", f"{what}, {n} x {d}, beside jnp", values["jaxprim"], values["jnp"], 1e-4 * n**0.5)
            run = lambda fn, operands=operands: lambda: [jax.block_until_ready(fn(*operands)) for _ in range(5)]
            times = interleaved({name: run(fn) for name, fn in made.items()}, ROUNDS)
            for peer, target in (("custom_vjp", 1.01), ("jnp", None)):
                found = ratio(times["jaxprim"], times[peer])
                yield measured("rms_norm", f"{what}, {n} x {d}, vs {peer}", found, target)


# --------------------------------------------------------------------------------------------------- streams, errors
def streams(cases: Cases, count: int = 20) -> Iterator[Row]:
    """A slow kernel between other work, in two threads at once: what follows must wait for it, on its stream."""
    slow, axpy = cases.kernels["slow"], cases.axpy
    chain = jax.jit(lambda x: axpy(slow(x + 1) * 2) + 1)
    inputs = [jnp.arange(1000, dtype=jnp.float32) + shift for shift in (0, 5)]
    wrong: list[str] = []

    def work(x: Any) -> None:
        for _ in range(count):
            got = np.asarray(chain(x))
            if not np.array_equal(got, 0.5 * (2 * (np.asarray(x) + 1) + 1) * 2 + 2):
                wrong.append("wrong")

    threads = [threading.Thread(target=work, args=(x,)) for x in inputs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    yield holds("streams", f"two threads, {count} slow kernels each", not wrong)


def throws(cases: Cases) -> Iterator[Row]:
    """What a kernel throws is raised, and the next kernel runs."""
    x = jnp.arange(8, dtype=jnp.float32)
    wrong = {"refuse": (lambda: cases.kernels["refuse"](x, bad=1), "this kernel throws")}
    if "too_large" in cases.kernels:
        wrong["too_large"] = lambda: cases.kernels["too_large"](x), "invalid"
    for name, (call, words) in wrong.items():
        try:
            jax.block_until_ready(call())
            said = "nothing raised"
        except (RuntimeError, ValueError) as error:
            said = str(error).splitlines()[0]
        yield holds("throws", f"{name}: {said[:45]}", words in said)
    yield holds("throws", "the next kernel runs", bool(jnp.all(cases.kernels["refuse"](x, bad=0) == 0.5 * x + 1)))


# ------------------------------------------------------------------------------------------------------------ memory
def memory(cases: Cases, count: int = 1000) -> Iterator[Row]:
    """The memory that is held after many calls, more than before them, in megabytes."""
    x = jnp.ones(100_000, jnp.float32)
    for form, fn in {"eager": cases.axpy, "jitted": jax.jit(cases.axpy)}.items():
        for _ in range(100):
            fn(x).block_until_ready()
        before = _held()
        for _ in range(count):
            fn(x).block_until_ready()
        yield measured("memory", f"MB more after {count} calls, {form}", (_held() - before) / 1e6, 1.0)


def _held() -> int:
    """The memory in use on the device; the most that this process ever used, where the device does not say."""
    stats = jax.devices()[0].memory_stats()
    return stats["bytes_in_use"] if stats else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# -------------------------------------------------------------------------------------------------------------- main
PARTS: dict[str, Callable[[Cases], Iterator[Row]]] = {
    part.__name__: part for part in (throws, calls, rms_norm, streams, memory, gallery, tests)
}


def run(names: list[str], cases: Cases, limit_s: float = LIMIT_S) -> list[Row]:
    """The rows of some parts, each printed when it is there. A part that breaks is a row."""
    start, rows = time.monotonic(), list[Row]()
    for name in names:
        if time.monotonic() - start > limit_s:
            found: Iterator[Row] = iter([Row(name, "the time is over", f"{limit_s:.0f} s", ok=None)])
        else:
            found = _guarded(name, PARTS[name], cases)
        for row in found:
            rows.append(row)
            print(row, flush=True)
    return rows


def _guarded(name: str, part: Callable[[Cases], Iterator[Row]], cases: Cases) -> Iterator[Row]:
    try:
        yield from part(cases)
    except Exception as error:  # noqa: BLE001 (a part that breaks must not hide the others)
        traceback.print_exc()
        yield Row(name, "broke", f"{type(error).__name__}", ok=False)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=" ".join(PARTS))
    parser.add_argument("--platform", choices=sorted(PLATFORMS), default="cuda")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="where to write the table")
    given = parser.parse_args(arguments)
    unknown = sorted({*given.parts} - PARTS.keys())
    if unknown:
        parser.error(f"no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    if given.platform == "cpu":
        jax.config.update("jax_platforms", "cpu")
    try:
        device = jax.devices(given.platform)[0]
    except RuntimeError as error:
        print(f"JAX {jax.__version__} sees no device for {given.platform}: {error}")
        return 2
    start = time.monotonic()
    print(f"jax {jax.__version__}, {device.device_kind}", flush=True)
    cases = Cases(PLATFORMS[given.platform])
    if not given.parts:
        cases.compile_all()
        print(f"compiled after {time.monotonic() - start:.0f} s", flush=True)
    rows = run(given.parts or list(PARTS), cases)
    about = {"jax": jax.__version__, "device": device.device_kind, "seconds": round(time.monotonic() - start, 1)}
    given.json.write_text(json.dumps({**about, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    bad = sum(row.ok is False for row in rows)
    print(f"{len(rows)} rows, {bad} not as they should be, {about['seconds']} s; also in {given.json}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
