"""The one door to JAX's internals.

Every name of JAX that is not public comes through here, and every text of JAX that is recognised stands in `words`, so that
a JAX release which changes one breaks one file. Other modules say ``_jax.trace``, ``_jax.typeof``, ...; the rooms are:

- `state`: what runs right now: tracing or not, settings, the key of compiled functions;
- `avals`: types, meshes, varying axes, zeros;
- `programs`: functions that were traced: evaluating, batching, differentiating, removing dead code;
- `tables`: where JAX keeps the rules of primitives, and what it expects rules to return;
- `host_call`: Python functions that run inside a compiled program;
- `words`: primitive names, parts of messages, file names.

No room compares version numbers. What differs between releases is found by asking JAX: whether it has a name, which arguments
a function takes, how long a tuple is. Each such place says which release needs it, and when it can go. A name that some
supported release lacks is read with ``getattr(module, "name", default)`` or asked for with ``hasattr``; every other name is
needed, and ``jaxprim doctor`` reads them all from these files.
"""

# This file exports. What else its rooms hold is theirs.
# pyright: reportUnusedImport=false
# ruff: noqa: F401

from jaxprim._jax import words
from jaxprim._jax.avals import (
    Aval,
    JaxZero,
    ShapedArray,
    ShardingTypeError,
    add_tangents,
    cast_varying,
    conform,
    cotangent_aval,
    float0,
    has_mesh,
    has_tangent,
    in_mesh,
    is_array_type,
    is_extended,
    is_key,
    is_undefined,
    mesh_in_reach,
    register_value_type,
    strip,
    struct_of,
    tangent_aval,
    typeof,
    unshard_front,
    varying,
    zero_tangent,
    zeros,
)
from jaxprim._jax.host_call import host_call, is_runtime_error
from jaxprim._jax.programs import (
    Literal,
    Program,
    Var,
    apply_equation,
    axis_effects,
    batch,
    batched_aval,
    bind_axes,
    close,
    closed_over_tracers,
    dce,
    element_aval,
    evaluate,
    evaluate_needed,
    evaluate_open,
    in_avals,
    inner_programs,
    jet_of,
    jvp_flat,
    jvp_program,
    move_dim,
    named_axes,
    out_avals,
    passed_through,
    prune,
    refused_effects,
    select_outputs,
    trace,
    trace_open,
    transpose,
    uses,
)
from jaxprim._jax.state import (
    Tracer,
    asks_for_value,
    at_once,
    bump_redefinitions,
    compilations,
    is_concrete,
    is_eager,
    redefinitions,
    trace_context,
    trace_state_clean,
    without_jax,
)
from jaxprim._jax.tables import (
    has_transpose,
    is_elementwise,
    linearization,
    linearize_by_jvp,
    lower_fun,
    lower_program,
    new_primitive,
    platform_of,
    public_ad,
    public_mlir,
    register,
    register_lowering,
    unregister,
)
