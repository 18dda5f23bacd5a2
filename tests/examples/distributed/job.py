"""What test_train.py asks of two processes that share four devices. It is one job, as a job takes seconds to start.

    python -m examples.distributed.launch python tests/examples/distributed/job.py TIMEOUT [CHECKPOINTS]

Each process says what it found. In the end one of them is killed while they train.
"""

import contextlib
import ctypes
import ctypes.util
import os
import signal
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from examples.distributed import train
from jaxprim import Primitive, kernels

X = np.linspace(0.5, 2, 24).reshape(8, 3)


def say(*words):
    # In one piece: the processes share the pipe.
    sys.stdout.write(f"process {jax.process_index()}: {' '.join(map(str, words))}\n")
    sys.stdout.flush()


# ------------------------------------------------------------------------------------------------------------ kernels
def operations():
    """The cosine by each kind of kernel but C++, which the training has, with a pullback in JAX."""
    cosf = ctypes.CDLL(ctypes.util.find_library("m")).cosf
    return {
        "numba": implemented(kernels.numba(lambda x: np.cos(x))),
        "c_function": implemented(kernels.c_function(cosf, "(f32) -> f32")),
        "host": on_host(),
    }


def implemented(kernel):
    p = Primitive("cosine")
    p.def_impl(kernel)
    return differentiable(p)


def on_host():
    p = Primitive("cosine")
    p.def_host(np.cos)
    p.def_abstract_eval(lambda x: x)
    p.def_sharding("... -> ...")
    return differentiable(p)


def differentiable(p):
    p.def_vjp(lambda primals: (p(*primals), lambda g: -g * jnp.sin(primals[0])))
    return p


def gradients(op, mesh):
    """The function of `x` for each way to use an operation."""
    in_shard_map = jax.shard_map(op, mesh=mesh, in_specs=P("d"), out_specs=P("d"))
    return {
        way: jax.value_and_grad(lambda x, f=f: jnp.sum(x * f(x)))
        for way, f in {"jit": op, "vmap": jax.vmap(op), "shard_map": in_shard_map}.items()
    }


def ask_kernels(kind):
    """Whether each device's part of each gradient is right. All are one program, as a program takes long to compile."""
    mesh = jax.make_mesh((4,), ("d",), axis_types=(kind,))
    x = train.place(X, mesh, P("d"))
    asked = {name: gradients(op, mesh) for name, op in operations().items()}
    with jax.set_mesh(mesh):
        found = jax.jit(lambda x: jax.tree.map(lambda fn: fn(x), asked))(x)
    for name, ways in found.items():
        for way, (value, gradient) in ways.items():
            np.testing.assert_allclose(value.addressable_data(0), np.sum(X * np.cos(X)), rtol=1e-5)
            for part in gradient.addressable_shards:
                np.testing.assert_allclose(part.data, (np.cos(X) - X * np.sin(X))[part.index], rtol=1e-4, atol=1e-5)
            split = gradient.sharding.shard_shape(gradient.shape) != gradient.shape
            say(f"{name}, {way}, {kind.name}: right, {'split' if split else 'whole'}")


# ----------------------------------------------------------------------------------------------------------- training
def ask_training(kind, checkpoints=None):
    mesh = train.make_mesh(2, kind.name)
    with jax.set_mesh(mesh):
        for step, loss in train.train(mesh, 3, checkpoints):
            say(f"{kind.name}, step {step}: loss {loss:.6f}")


def lose_a_process():
    """Process 1 is killed; the other trains on."""
    if jax.process_index() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        ask_training(AxisType.Auto)
    except jax.errors.JaxRuntimeError as error:
        say("lost another:", str(error).splitlines()[0])
    time.sleep(60)
    say("was not ended")


def main(timeout, folder=None):
    train.join(False, int(timeout))
    for kind in (AxisType.Auto, AxisType.Explicit):
        ask_kernels(kind)
    ask_training(AxisType.Auto)
    with contextlib.nullcontext() if folder is None else train.checkpoints_in(folder, 2) as checkpoints:
        ask_training(AxisType.Explicit, checkpoints)
    lose_a_process()


if __name__ == "__main__":
    main(*sys.argv[1:])
