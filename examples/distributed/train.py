"""Train a small network on several devices and several processes: data-parallel, tensor-parallel, or both.

The network is one block of a transformer without its attention, for each of `batch` sequences of `length` vectors:

    y = x + relu(rms_norm(x, scale) w_in) w_out

RMSNorm is the gallery's operation in C++. The mesh has two axes. "data" splits the batch, so that the gradient of each
parameter is summed over it. "model" splits the columns of `w_in` and the rows of `w_out`, so that `y` is summed over it.
The losses do not depend on how many processes the devices belong to.

    python -m examples.distributed.launch -n 4 python -m examples.distributed.train

docs/scaling.md has the lines for a cluster, and says what happens when a process dies.
"""

import argparse
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from examples.gallery.rms_norm import rms_norm

BATCH, LENGTH, WIDTH, HIDDEN = 8, 6, 16, 32
SPECS = {"scale": P(), "w_in": P(None, "model"), "w_out": P("model", None)}


# ---------------------------------------------------------------------------------------------------------- processes
def join(cluster, timeout):
    """Meet the other processes of the job, before JAX is used. Each then sees the devices of all.

    JAX ends every process of a job in which one has not been heard of, or has ended too early, for `timeout` seconds.
    """
    timeouts = {"heartbeat_timeout_seconds": timeout, "shutdown_timeout_seconds": timeout}
    if "JOB_ADDRESS" in os.environ:  # launch.py
        address, n, i = (os.environ[f"JOB_{name}"] for name in ("ADDRESS", "PROCESSES", "PROCESS"))
        jax.distributed.initialize(address, int(n), int(i), cluster_detection_method="deactivate", **timeouts)
    elif cluster:  # JAX asks SLURM, Open MPI or Kubernetes
        jax.distributed.initialize(**timeouts)


def make_mesh(model, kind):
    devices = jax.device_count()
    return jax.make_mesh((devices // model, model), ("data", "model"), axis_types=(AxisType[kind],) * 2)


# -------------------------------------------------------------------------------------------------------------- arrays
def parameters(mesh):
    rng = np.random.default_rng(0)
    made = {
        "scale": np.ones(WIDTH),
        "w_in": rng.normal(size=(WIDTH, HIDDEN)) / WIDTH**0.5,
        "w_out": rng.normal(size=(HIDDEN, WIDTH)) / HIDDEN**0.5,
    }
    return {name: place(value, mesh, SPECS[name]) for name, value in made.items()}


def examples(step, mesh):
    """The batch of a step. A real one would be read from files, each process its own part of it."""
    x = np.random.default_rng(step).normal(size=(BATCH, LENGTH, WIDTH))
    return place(x, mesh, P("data")), place(np.flip(x, -1), mesh, P("data"))


def place(value, mesh, spec):
    """A global array. Each process gives the parts that its own devices have."""
    value = value.astype(np.float32)
    return jax.make_array_from_callback(value.shape, NamedSharding(mesh, spec), lambda index: value[index])


# -------------------------------------------------------------------------------------------------------------- a step
def loss_of(params, x, target):
    # On explicit axes, JAX asks where the sum over "model" is to go.
    explicit = any(kind is AxisType.Explicit for kind in jax.typeof(x).sharding.mesh.axis_types)
    normed = jax.vmap(rms_norm, (0, None))(x, params["scale"])
    hidden = jax.nn.relu(normed @ params["w_in"])
    y = x + jnp.matmul(hidden, params["w_out"], out_sharding=P("data") if explicit else None)
    return jnp.mean((y - target) ** 2)


@jax.jit
def step_of(params, x, target):
    loss, gradient = jax.value_and_grad(loss_of)(params, x, target)
    return jax.tree.map(lambda p, g: p - 1.0 * g, params, gradient), loss


def train(mesh, steps, checkpoints=None):
    """The loss of each step. It goes on from the last checkpoint, if there is one."""
    params, first = parameters(mesh), 0
    if checkpoints is not None and checkpoints.latest_step() is not None:
        first = checkpoints.latest_step()
        params = restored(checkpoints, first, params)
    for step in range(first, steps):
        params, loss = step_of(params, *examples(step, mesh))
        yield step, float(loss)
        if checkpoints is not None:
            save(checkpoints, step + 1, params)


# --------------------------------------------------------------------------------------------------------- checkpoints
def checkpoints_in(folder, every):
    import orbax.checkpoint as ocp

    kept = ocp.CheckpointManagerOptions(save_interval_steps=every, max_to_keep=2)
    return ocp.CheckpointManager(Path(folder).resolve(), options=kept)


def save(checkpoints, step, params):
    """Each process writes the parts that it has."""
    import orbax.checkpoint as ocp

    checkpoints.save(step, args=ocp.args.StandardSave(params))


def restored(checkpoints, step, like):
    """The parameters of a step, placed as those of `like`: the job may have another number of processes by now."""
    import orbax.checkpoint as ocp

    return checkpoints.restore(step, args=ocp.args.StandardRestore(jax.tree.map(ocp.utils.to_shape_dtype_struct, like)))


def main(argv=None):
    parser = argparse.ArgumentParser(prog="train", description=__doc__.splitlines()[0])
    parser.add_argument("--cluster", action="store_true", help="find the other processes: SLURM, Open MPI, Kubernetes")
    parser.add_argument(
        "--timeout", type=int, default=100, metavar="SECONDS", help="until a lost process ends the others"
    )
    parser.add_argument("--model", type=int, default=2, help="over how many devices a parameter is split")
    parser.add_argument("--axes", choices=["Auto", "Explicit"], default="Explicit", help="the type of the mesh's axes")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--checkpoints", metavar="FOLDER", help="keep them here, and go on from the last one")
    parser.add_argument("--every", type=int, default=2, metavar="STEPS", help="how often a checkpoint is kept")
    options = parser.parse_args(argv)
    join(options.cluster, options.timeout)
    checkpoints = options.checkpoints and checkpoints_in(options.checkpoints, options.every)
    mesh = make_mesh(options.model, options.axes)
    with jax.set_mesh(mesh):
        for step, loss in train(mesh, options.steps, checkpoints or None):
            if jax.process_index() == 0:
                print(f"step {step}: loss {loss:.6f}", flush=True)
    if checkpoints:
        checkpoints.close()


if __name__ == "__main__":
    main()
