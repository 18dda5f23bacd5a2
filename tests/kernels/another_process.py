"""What test_splitting.py asks of two processes, one after the other: that the second finds the programs of the first in
JAX's compilation cache and in files, and that they compute.

    python another_process.py FOLDER [numba]

It says, for each program, whether it was found in the cache.
"""

import ctypes
import ctypes.util
import json
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxprim import Primitive, kernels

FOLDER = Path(sys.argv[1])
SOURCE = """
#include <vector>
struct Weights {
  std::vector<float> w;
  Weights(const float* w, int64_t n) : w(w, w + n) {}
};
void times(Weights& kept, const float* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * kept.w[i];
}
"""
X, W = np.arange(24, dtype=np.float32).reshape(8, 3) / 16, np.array([1, 2, 3], np.float32)
hits = []


def main():
    is_first = not FOLDER.exists()
    FOLDER.mkdir(exist_ok=True)
    jax.config.update("jax_num_cpu_devices", 4)
    jax.config.update("jax_compilation_cache_dir", str(FOLDER / "cache"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    jax.monitoring.register_event_listener(lambda event, **_: hits.append(event) if "cache_hits" in event else None)
    found = {}
    if is_first:
        write_files()
    else:
        try:
            call_file("Auto")
        except jax.errors.JaxRuntimeError as error:  # the kernel is not built yet
            found["not there"] = str(error)
    times_kernel.build()
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((4,), ("d",), axis_types=(kind,))
        with jax.set_mesh(mesh):
            for name, fn, truth in programs(mesh):
                found[f"{name}, {kind.name}"] = ask(fn, truth, mesh)
    found |= dict(call_files())
    assert 1 <= times_kernel.kept().made <= 8  # one for each device, for the value and for the gradient
    print(json.dumps(found))


def close(found, truth):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), found, truth)


def ask(fn, truth, mesh):
    """Whether a gradient is found in the cache; and it is right."""
    x, w = jax.device_put(X, NamedSharding(mesh, P("d"))), jax.device_put(W, NamedSharding(mesh, P()))
    hits.clear()
    compiled = jax.jit(gradient(fn)).lower(x, w).compile()
    close(compiled(x, w), truth)
    return len(hits) == 1


def gradient(fn):
    return jax.value_and_grad(lambda x, w: jnp.sum(jnp.sin(fn(x, w))), (0, 1))


def programs(mesh):
    plus = lambda f: lambda x, w: f(x) + w[None]
    yield "cpp", times, gradient(lambda x, w: x * w[None])(X, W)
    for name, cosine in cosines().items():
        yield name, plus(cosine), gradient(plus(jnp.cos))(X, W)
    in_shard_map = partial(jax.shard_map, mesh=mesh, in_specs=P("d"), out_specs=P("d"))
    yield "host", plus(in_shard_map(on_host())), gradient(plus(jnp.cos))(X, W)
    # The same without jaxprim and without a derivative: JAX decides whether it keeps such programs.
    callback = in_shard_map(lambda x: jax.pure_callback(np.cos, jax.typeof(x), x))
    constant = lambda f: plus(lambda x: f(jax.lax.stop_gradient(x)))
    yield "JAX's callback", constant(callback), gradient(constant(jnp.cos))(X, W)


# -------------------------------------------------------------------------------------------------------- the operations
times_kernel = kernels.cpp(SOURCE, "times(x: f32[..., n], w: f32[n]) -> f32[..., n]", keep="Weights(w)")
times = Primitive("times")
times.def_impl(lambda x, w: times_kernel(x, w))


@times.def_vjp
def _(primals):
    x, w = primals
    return times(x, w), lambda g: (times(g, w), jnp.sum(g * x, 0))


def cosines():
    made = {"c_function": kernels.c_function(ctypes.CDLL(ctypes.util.find_library("m")).cosf, "(f32) -> f32")}
    if "numba" in sys.argv:
        made["numba"] = kernels.numba(lambda x: np.cos(x), name="cosine")
    return {name: differentiable(Primitive("cosine"), kernel) for name, kernel in made.items()}


def differentiable(p, kernel=None):
    if kernel is not None:
        p.def_impl(kernel)
    p.def_vjp(lambda primals: (p(*primals), lambda g: -g * jnp.sin(primals[0])))
    return p


def on_host():
    p = Primitive("cosine")
    p.def_host(np.cos)
    p.def_abstract_eval(lambda x: x)
    return differentiable(p)


# --------------------------------------------------------------------------------------------------------------- files
def write_files():
    times_kernel.build()
    (n,) = jax.export.symbolic_shape("4*b")
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((4,), ("d",), axis_types=(kind,))
        write(kind.name, jax.ShapeDtypeStruct(X.shape, X.dtype, sharding=NamedSharding(mesh, P("d"))))
    write("symbolic", jax.ShapeDtypeStruct((n, 3), X.dtype))


def write(name, x):
    exported = jax.export.export(jax.jit(gradient(times)), disabled_checks=times_kernel.export_checks())(x, W)
    (FOLDER / name).write_bytes(exported.serialize())


def call_file(name):
    """The results of an exported program, and whether it runs on what each device has."""
    loaded = jax.export.deserialize(bytearray((FOLDER / name).read_bytes()))
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Explicit if name == "Explicit" else AxisType.Auto,))
    with jax.set_mesh(mesh):
        x = X if name == "symbolic" else jax.device_put(X, NamedSharding(mesh, P("d")))
        compiled = jax.jit(loaded.call).lower(x, W).compile()
        return compiled(x, W), " all-gather(" not in compiled.as_text()


def call_files():
    truth = gradient(lambda x, w: x * w[None])(X, W)
    for name in ("Auto", "Explicit", "symbolic"):
        found, is_split = call_file(name)
        close(found, truth)
        yield f"exported, {name}", is_split


main()
