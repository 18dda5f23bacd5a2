"""The only place that uses JAX's internals.

All private names of JAX are imported here, and all texts of JAX that we recognise are in `words`. So a JAX release that
changes one of them breaks one file. Other modules use ``_jax.trace``, ``_jax.typeof`` and so on. The modules are:

- `state`: the current state of JAX: tracing or not, settings, the key of compiled functions;
- `avals`: types, meshes, varying axes, zeros;
- `programs`: traced functions: evaluate, batch, differentiate them, remove dead code;
- `custom_rules`: what an author wrote behind JAX's wrappers;
- `shown`: the programs that JAX sees in the params of an equation;
- `tables`: JAX's tables of rules, and the return values that it expects of rules;
- `split_call`: calls that XLA may split over devices;
- `over`: the devices of such a call, as the program of one of them sees them;
- `partitioner`: XLA's question about such a call, and the program of one device;
- `host_call`: Python functions that run inside a compiled program;
- `tracebacks`: errors without the frames of JAX and jaxprim;
- `words`: primitive names, parts of messages, file names.

No code here compares version numbers. It detects differences between releases from JAX itself: whether a name exists,
which arguments a function takes, how long a tuple is. Each such place says which release needs it, and when it can be
removed. A name that some supported release lacks is read with ``getattr(module, "name", default)`` or tested with
``hasattr``. All other names are required, and ``jaxprim doctor`` reads them from these files.
"""

# This file only exports. Other names in these modules are private to them.
# pyright: reportUnusedImport=false
# ruff: noqa: F401

from jaxprim._jax import words
from jaxprim._jax.avals import (
    Aval,
    JaxZero,
    ShapedArray,
    ShardingTypeError,
    SymbolicZero,
    add_tangents,
    cast_varying,
    conform,
    cotangent_aval,
    explicit_axes,
    float0,
    has_mesh,
    has_tangent,
    in_mesh,
    is_array_type,
    is_extended,
    is_key,
    is_undefined,
    mesh_in_reach,
    ordinary_point,
    places,
    register_value_type,
    split_over,
    strip,
    struct_of,
    tangent_aval,
    typeof,
    unshard_front,
    vary_over,
    varying,
    without_its_mesh,
    zero_tangent,
    zeros,
)
from jaxprim._jax.custom_rules import written_rule
from jaxprim._jax.host_call import host_call, is_runtime_error
from jaxprim._jax.over import Over, OverVmap
from jaxprim._jax.partitioner import SPLIT_TARGET, Operation, make_again
from jaxprim._jax.programs import (
    Literal,
    Program,
    Var,
    apply_equation,
    axes_in,
    batch,
    batched_aval,
    bind_axes,
    close,
    closed_over_tracers,
    dce,
    effects_of,
    element_aval,
    evaluate,
    evaluate_inside,
    evaluate_needed,
    evaluate_open,
    flow_of,
    has_side_effects,
    in_avals,
    inner_programs,
    jet_of,
    jvp_flat,
    jvp_program,
    loops_carry_reals,
    move_dim,
    named_axes,
    only_axes,
    out_avals,
    passed_through,
    prune,
    refused_effects,
    residual_names,
    select_outputs,
    trace,
    trace_open,
    transpose,
    transpose_by_vjp,
    transpose_unknown,
    uses,
    vmapped_axis,
    without_axes,
)
from jaxprim._jax.shown import late_program
from jaxprim._jax.split_call import lower_operation, lower_split, may_be_batch_split
from jaxprim._jax.state import (
    Tracer,
    asks_for_value,
    at_once,
    bump_redefinitions,
    compilations,
    has_ended,
    held_weakly,
    is_concrete,
    is_eager,
    redefinitions,
    settings,
    trace_context,
    trace_state_clean,
    without_jax,
    without_mesh,
)
from jaxprim._jax.tables import (
    default_platform,
    ffi_attribute,
    ffi_targets,
    has_transpose,
    is_elementwise,
    is_linear,
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
from jaxprim._jax.tracebacks import boundaries, boundary, hide_frames
