"""Every text of JAX that jaxprim recognises: names of primitives and effects, parts of messages, file and module names.

JAX promises none of them. What each is for stands beside it, and so does what goes wrong if JAX changes it.
"""

from __future__ import annotations

# ------------------------------------------------------------------------------------------------ names of primitives
# A zero operand is a term that a sum may leave out. A name too few costs an addition of zeros.
SUMS = frozenset({"add", "add_any"})

# One zero operand makes the whole result zero, so that the equation need not run. (Not so for `complex`, or a `psum` of
# several operands.) A name too few costs dead work, and may make `inf * 0`.
# fmt: off
ZERO_PRESERVING = frozenset((
    "mul", "neg", "dot_general", "reduce_sum", "broadcast_in_dim", "reshape", "transpose", "squeeze", "slice", "rev",
    "convert_element_type", "conv_general_dilated", "copy", "copy_p", "real", "imag", "conj", "cumsum", "expand_dims",
    "pvary", "pcast", "reduce_precision",
))
# fmt: on
# Linear in the first operand alone: `x / 0` is no zero, and an index or a divisor that is zero says nothing.
ZERO_IF_FIRST = frozenset({"div", "dynamic_slice", "gather"})

# They have a transpose rule, which raises. One that is missing here is met when the transpose runs.
TRANSPOSE_RAISES = frozenset({"pure_callback", "io_callback", "ffi_call"})

# Host functions and foreign kernels lose the varying axes of their operands inside `shard_map`, so jaxprim puts them
# back. With one missing here, gradients inside `shard_map` are wrong by the number of devices.
OPAQUE = frozenset(
    {"pure_callback", "io_callback", "ffi_call", "host_call", "pallas_call", "custom_call", "triton_kernel_call"}
)

# A loop of unknown length: sums in it have no bound that the code shows. Asked by the question `accuracy`.
WHILE = "while"

# -------------------------------------------------------------------------------------------------------------- effects
# Effects that an implementation cannot have, as a message calls them. JAX's own text stands for any other.
REF_EFFECTS = {
    "ReadEffect": "a read of a mutable ref",
    "WriteEffect": "a write to a mutable ref",
    "AccumEffect": "an addition to a mutable ref",
}

# ------------------------------------------------------------------------------------------------------ parts of messages
# A traced value where JAX's own functions take static arguments: "unhashable type: 'DynamicJaxprTracer'", or before
# JAX 0.9 "... Tracer ... is not hashable". Both words must be in it.
HASHED_TRACER = ("hash", "Tracer")

# How the message of a program that failed while it ran begins, where JAX raises a ValueError for it.
STATUS = frozenset(
    {
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    }
)

# What JAX says of a function that has no derivative in one mode. The checker then says why it cannot ask; any other
# error is a fault of the rule.
REFUSALS = (
    r"can't apply forward-mode (autodiff|differentiation) \(jvp\) to a custom_vjp function",
    r"callbacks? do(es)? not support (JVP|transpose|differentiation)",
    r"Linearization failed to produce known values",
    r"FFI calls? (cannot|do not|does not)",
    r"Reverse-mode differentiation does not work for lax\.while_loop",
    r"(Differentiation|Transpose|Transposition) rule (for|\(for).*not implemented",
    r"(Differentiation|Transpose) rule not implemented",
    r"[Gg]radients? .*not (supported|implemented)",  # betainc, in its first two operands
    r"cannot be (auto)?differentiated",  # libraries, of what they do not support
    r"[Dd]erivatives of non-symmetric eigenvectors",
    r"reduce_precision does not accept dtype complex",  # checkpoint policies that save complex numbers
)

# What JAX says of a loop that is told which devices its first state, but not its next, belongs to; and of a Pallas
# kernel whose results do not say it. The checker asks again with `check_vma=False`.
VARYING = {TypeError: "manual axis types do not match", ValueError: "`check_vma=False` on `jax.shard_map`"}

# What export refuses by design, not by a fault of the operation.
NOT_EXPORTED = ("cannot be serialized", "callback", "custom call")

# How a stack begins that stands in a message: that of a host function, in the error of the program that called it.
TRACEBACK = "Traceback (most recent call last):"

# ------------------------------------------------------------------------------------------------ files and modules
# The file of `x * y` on JAX's arrays. A `Zero` hides `__jax_array__` from it, so that the array operators defer to the
# zero's own. Were the file renamed, `x * zero` would make the zero an array.
ARRAY_OPERATORS_FILE = "array_methods.py"

# Where the class of what `jax.vjp` returns is defined: such a pullback takes the cotangents alone.
OWN_MODULES = "jax."
