"""Operations on several devices beside the same in jnp: ``python benchmarks/scale.py [compile communication devices]``.

- *compile*: what one more call costs to trace, lower and compile, as a ratio to a call of ``jnp.matmul`` in this run.
- *communication*: how often devices communicate and how many bytes, ours and those of jnp, from the compiled programs.
- *devices*: the time of one step on 1, 2, 4, 8 devices, ours as a ratio to jnp's. The size is the same for all (strong) or
  grows with the devices (weak). Devices of one CPU share its cores: what shows is the cost of splitting, not a speed-up.

Beside ours and jnp stands `jax.experimental.custom_partitioning`, written by hand. See README.md.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax

DEVICES = int(os.environ.get("JAX_NUM_CPU_DEVICES", "4"))
jax.config.update("jax_num_cpu_devices", DEVICES)

import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax.experimental.custom_partitioning import custom_partitioning  # noqa: E402
from jax.sharding import AxisType, NamedSharding  # noqa: E402
from jax.sharding import PartitionSpec as P  # noqa: E402
from timing import Line, interleaved, line, show  # noqa: E402

from jaxprim import Primitive, kernels  # noqa: E402
from jaxprim.checking.collectives import moved  # noqa: E402

GALLERY = Path(__file__).parents[1] / "examples" / "gallery"
SOURCE = """
void matmul(const float* x, const float* w, int64_t i, int64_t k, int64_t j, float* y) {
  for (int64_t a = 0; a < i; ++a) {
    for (int64_t b = 0; b < j; ++b) y[a * j + b] = 0;
    for (int64_t c = 0; c < k; ++c)
      for (int64_t b = 0; b < j; ++b) y[a * j + b] += x[a * k + c] * w[c * j + b];
  }
}
void twice(const float* x, int64_t n, float* y) { for (int64_t i = 0; i < n; ++i) y[i] = 2 * x[i]; }
"""
TWICE = kernels.cpp(SOURCE, "twice(x: f32[..., n]) -> f32[..., n]")
KERNEL = kernels.cpp(SOURCE, "matmul(x: f32[i, k], w: f32[k, j]) -> f32[i, j]")


def ours() -> Primitive[..., Any]:
    """A product of matrices in C++, with both rules."""
    p = Primitive("matmul")
    p.def_impl(lambda x, w: KERNEL(x, w))
    p.def_sharding("i k, k j -> i j", reduced="k")
    p.def_jvp(lambda primals, t: (p(*primals), p(t[0], primals[1]) + p(primals[0], t[1])))
    p.def_vjp(lambda primals: (p(*primals), lambda g: (p(g, primals[1].T), p(primals[0].T, g))))
    return p


def by_hand() -> Callable[..., Any]:
    """The same for rows that are split, as `custom_partitioning` wants it. It has no derivative and no batches."""

    @custom_partitioning
    def matmul(x: Any, w: Any) -> Any:
        return KERNEL(x, w)

    def partition(mesh: Any, arguments: Any, result: Any) -> Any:
        rows = arguments[0].sharding.spec[0] if len(arguments[0].sharding.spec) else None
        taken = NamedSharding(mesh, P(rows, None)), NamedSharding(mesh, P(None, None))
        return mesh, lambda x, w: KERNEL(x, w), NamedSharding(mesh, P(rows, None)), taken

    def infer(mesh: Any, arguments: Any, result: Any) -> Any:
        rows = arguments[0].sharding.spec[0] if len(arguments[0].sharding.spec) else None
        return NamedSharding(mesh, P(rows, None))

    rule = "i k, k j -> i j"
    matmul.def_partition(partition, infer, sharding_rule=rule, need_replication_factors=("k", "j"))
    return matmul


def mesh_of(kind: AxisType, *sizes: int) -> Any:
    return jax.make_mesh(sizes, ("d", "t")[: len(sizes)], axis_types=(kind,) * len(sizes))


# ------------------------------------------------------------------------------------------------------------- compile
CALLS = 40


def chain(f: Callable[..., Any], calls: int) -> Callable[..., Any]:
    def run(x: Any, w: Any) -> Any:
        for _ in range(calls):
            x = jnp.sin(f(x, w))
        return x

    return run


def compiled_for(f: Callable[..., Any], x: Any, w: Any) -> None:
    """Compile a chain of calls. The function is new each time, so nothing of JAX's caches is used."""
    jax.jit(chain(f, CALLS)).lower(x, w).compile()


def compiling() -> Iterator[Line]:
    operations: dict[str, Callable[..., Any]] = {
        "jnp": lambda x, w: x @ w,
        "a sharding rule": ours(),
        "custom_partitioning by hand": by_hand(),
        "a kernel's batch axes": lambda x, w: TWICE(x),
        "jnp, elementwise": lambda x, w: 2 * x,
    }
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = mesh_of(kind, 2, DEVICES // 2)
        with jax.set_mesh(mesh):
            x = jax.device_put(jnp.ones((16, 16)), NamedSharding(mesh, P("d")))
            w = jax.device_put(jnp.ones((16, 16)), NamedSharding(mesh, P()))
            # `custom_partitioning` does not work where axes are explicit.
            asked = {k: f for k, f in operations.items() if kind is AxisType.Auto or "by hand" not in k}
            times = interleaved({k: partial(compiled_for, f, x, w) for k, f in asked.items()}, 5, 1, time.process_time)
        for name in asked:
            if not name.startswith("jnp"):
                peer, target = ("jnp, elementwise", 1.1) if "batch" in name else ("jnp", None)
                yield line(f"compile a call, {kind.name.lower()}: {name}", times, name, peer, target)


# ------------------------------------------------------------------------------------------------------- communication
def loss(f: Callable[..., Any], x: Any, w: Any) -> Any:
    return jnp.sum(jnp.sin(f(x, w)))


def gradient(f: Callable[..., Any]) -> Callable[..., Any]:
    return jax.grad(partial(loss, f), (0, 1))


PROGRAMS: dict[str, Callable[..., Any]] = {
    "value": lambda f, x, w: f(x, w),
    "jvp": lambda f, x, w: jax.jvp(f, (x, w), (jnp.cos(x), jnp.sin(w))),
    "gradient": lambda f, x, w: gradient(f)(x, w),
    "gradient of checkpoint": lambda f, x, w: gradient(jax.checkpoint(f))(x, w),
    "Hessian-vector product": lambda f, x, w: jax.jvp(gradient(f), (x, w), (jnp.cos(x), jnp.sin(w)))[1],
    "vmap": lambda f, x, w: jax.vmap(f, (0, None))(jnp.stack([x, 2 * x]), w),
}
LAYOUTS = {"data": (P("d"), P()), "tensor": (P(), P(None, "t")), "data and tensor": (P("d"), P(None, "t"))}


def communicated() -> Iterator[str]:
    """One line for each layout and program: how often and how many bytes, ours and those of jnp."""
    mesh, p = mesh_of(AxisType.Auto, 2, DEVICES // 2), ours()
    for layout, specs in LAYOUTS.items():
        x, w = (jax.device_put(jnp.ones((64, 64)), NamedSharding(mesh, spec)) for spec in specs)
        for name, program in PROGRAMS.items():
            found = [
                moved(jax.jit(partial(program, f)).lower(x, w).compile().as_text()) for f in (p, lambda x, w: x @ w)
            ]
            said = [f"{len(each)} of {sum(array.bytes for array in each):,} bytes" for each in found]
            more = sum(a.bytes for a in found[0]) > sum(a.bytes for a in found[1])
            yield f"{layout:<16} {name:<24} {said[0]:<24} jnp {said[1]:<24} {'MORE' if more else 'ok'}"


# ------------------------------------------------------------------------------------------------------------- devices
def load(name: str) -> Any:
    if str(GALLERY) not in sys.path:
        sys.path.insert(0, str(GALLERY))
    return importlib.import_module(name)


def steps(rows: int) -> Iterator[tuple[str, Callable[..., Any], Callable[..., Any], tuple[Any, ...]]]:
    """Four operations of the gallery: the name, one step of ours and of jnp, and operands whose first axis is split."""
    norm, entropy, heat, bessel = map(load, ("rms_norm", "softmax_cross_entropy", "heat", "bessel"))
    square = lambda f: jax.grad(lambda *operands: jnp.sum(f(*operands) ** 2))
    x = jnp.asarray(np.random.default_rng(0).uniform(0.5, 1.5, (rows, 512)), jnp.float32)
    yield "RMSNorm, gradient", square(norm.rms_norm), square(norm.rms_norm.use("impl")), (x, jnp.ones(512))
    label = jnp.arange(rows, dtype="int32") % 512
    mean = lambda op: jax.grad(lambda z, label: jnp.mean(op(z, label)[0]))
    yield "cross-entropy, gradient", mean(entropy.cross_entropy), mean(entropy.cross_entropy.use("impl")), (x, label)
    grow = lambda op: lambda u, k: jax.lax.scan(lambda u, _: (u + 0.1 * op(u, k), None), u, None, length=20)[0]
    yield "heat, 20 steps", grow(heat.diffuse), grow(heat.diffuse.use("impl")), (x, x)
    order = jnp.ones_like(x)
    yield "I_1, value", bessel.iv, lambda v, x: jax.scipy.special.i1(x), (order, x)


def here(kind: str) -> Iterator[Line]:
    """The steps on all devices of this process."""
    mesh = mesh_of(AxisType.Auto, DEVICES)
    for name, mine, theirs, operands in steps(1024 * (DEVICES if kind == "weak" else 1)):
        put = lambda x: jax.device_put(
            x, NamedSharding(mesh, P("d") if x.shape[0] % DEVICES == 0 and x.shape[0] > 512 else P())
        )
        placed = [put(x) for x in operands]
        run = {k: partial(_step, jax.jit(f), placed) for k, f in {"ours": mine, "theirs": theirs}.items()}
        peer = "i1" if name.startswith("I_1") else "jax.numpy"
        times = interleaved(run, 7)
        yield line(
            f"{name}, {DEVICES} devices, {kind}", {"ours": times["ours"], peer: times["theirs"]}, "ours", peer, None
        )


def _step(f: Callable[..., Any], operands: Any) -> None:
    jax.block_until_ready(f(*operands))


def on_devices() -> None:
    for count in (1, 2, 4, 8):
        command = [sys.executable, __file__, "here"]
        subprocess.run(command, check=True, env={**os.environ, "JAX_NUM_CPU_DEVICES": str(count)})


def lines_of(fn: Callable[..., Any]) -> int:
    """The lines of a function's body that are code."""
    import inspect

    body = re.sub(r'""".*?"""', "", inspect.getsource(fn), flags=re.DOTALL).splitlines()
    return sum(bool(row.strip()) for row in body) - 1


def main(asked: list[str]) -> int:
    found: list[Line] = []
    if "here" in asked:
        for kind in ("strong", "weak"):
            show(list(here(kind)))
        return 0
    if "compile" in asked:
        found += show(list(compiling()))
        print(f"lines of code: a sharding rule 1; custom_partitioning by hand {lines_of(by_hand)}, for one axis")
    said = list(communicated()) if "communication" in asked else []
    print(*said, sep="\n")
    if "devices" in asked:
        on_devices()
    return int(not all(each.ok for each in found) or any(row.endswith("MORE") for row in said))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["compile", "communication", "devices"]))
