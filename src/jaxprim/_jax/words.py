"""Every text of JAX that jaxprim recognises: names of primitives and effects, parts of messages, file and module names.

JAX guarantees none of them. The comment at each one says what it is for, and what goes wrong if JAX changes it.
"""

from __future__ import annotations

# ------------------------------------------------------------------------------------------------ names of primitives
# Sums, which may drop a zero operand: x + 0 = x. A name missing here costs an addition of zeros.
SUMS = frozenset({"add", "add_any"})

# Operations that are linear in each operand on its own, so they are zero if any operand is: f(0, y) = f(x, 0) = 0. A name
# missing here costs useless work, and may compute `inf * 0 = nan`; a name too many is a wrong number.
MULTILINEAR = frozenset({"mul", "dot_general", "conv_general_dilated"})

# Operations that are linear in some of their operands together, and which these are, so they are zero if all of these are:
# x + 0 is not, nor is x / 0. The others may be anything but zero: an index, a predicate, a divisor (0 / 0 is nan). JAX says
# itself which further operations are linear in all operands. A name missing here costs useless work; a name too many, or
# a place too few, is a wrong number.
LINEAR_IN = {
    "add": slice(None),
    "sub": slice(None),
    "broadcast_in_dim": slice(0, 1),
    "convert_element_type": slice(0, 1),
    "div": slice(0, 1),
    "dynamic_slice": slice(0, 1),
    "dynamic_update_slice": slice(0, 2),
    "gather": slice(0, 1),
    "pcast": slice(0, 1),
    "scatter": slice(0, 3, 2),
    "scatter-add": slice(0, 3, 2),
    "scatter-sub": slice(0, 3, 2),
    "select_n": slice(1, None),
    "slice": slice(0, 1),
    "triangular_solve": slice(1, 2),
}

# Equations that run a program on their operands, and two that choose or repeat one. A name missing here costs useless work.
CALLS = frozenset({"jit", "closed_call", "core_call", "remat2"})
COND = "cond"
# What `checkpoint_name` applies. If JAX renames it, policies of `jax.checkpoint` do not see what a VJP rule names.
NAME = "name"
SCAN = "scan"
# How JAX 0.12 applies `searchsorted` and others. If JAX renames it, the question `elsewhere` keeps its points inside a grid.
HIJAX = "call_hi_primitive"

# Equations with a program that does not simply run once on their operands. With one missing, the question `deterministic`
# runs the program of its body instead, which fails or gives other numbers.
NOT_A_CALL = frozenset({"cond", "scan", "while", "shard_map", "xla_pmap", "custom_partitioning", "pallas_call"})

# Operations with a transpose rule that raises. One missing here fails only when the transpose runs.
TRANSPOSE_RAISES = frozenset({"pure_callback", "io_callback", "ffi_call"})

# Host functions and foreign kernels lose the varying axes of their operands inside `shard_map`, so jaxprim restores
# them. If one is missing here, gradients inside `shard_map` are wrong by a factor of the number of devices.
OPAQUE = frozenset(
    {"pure_callback", "io_callback", "ffi_call", "host_call", "pallas_call", "custom_call", "triton_kernel_call"}
)

# JAX's own calls of Python. A program calls Python by a number that is counted in the module that it is lowered in, so such a
# program cannot be put into another module. With one missing here, an operation that is split calls another function.
PYTHON_CALLS = frozenset({"pure_callback", "io_callback", "debug_callback", "debug_print"})

# In the text of a lowered program, a call of code that is no JAX: a kernel, a host function, a routine of LAPACK.
FOREIGN_CALL = "custom_call"

# In the text of a compiled program: how devices communicate. A name missing here, and a question of the checker does not
# see an array that is gathered.
ALL_REDUCE = "all-reduce"
MOVES = ("all-gather", "all-to-all", "collective-permute", "collective-broadcast")
# There, too: the function that a foreign call calls, and the types of its operands.
FOREIGN_TARGET, FOREIGN_OPERANDS = "custom_call_target", "operand_layout_constraints"
# A part of that function's name if it calls a host function of Python, on every JAX.
CALLBACK = "callback"

# In the text of a lowered program: what may give numbers for operands that it is not made for. Beside foreign calls these
# are loops, such as those of a solver or a search, and linear algebra that is no call on some platforms. With one missing,
# the checker may ask a solver for symmetric matrices about others.
LOOP = "stablehlo.while"
MAY_NOT_CHECK = (FOREIGN_CALL, LOOP, "stablehlo.cholesky", "stablehlo.triangular_solve")

# A loop of unknown length, so the code shows no bound on the number of terms in its sums. Used by the question `accuracy`,
# and for zeros, which may pass through it.
WHILE = "while"

# -------------------------------------------------------------------------------------------------------------- effects
# Effects that an implementation cannot have, and their names in messages. Other effects appear with JAX's own text.
REF_EFFECTS = {
    "ReadEffect": "a read of a mutable ref",
    "WriteEffect": "a write to a mutable ref",
    "AccumEffect": "an addition to a mutable ref",
}

# ---------------------------------------------------------------------------------------------------- parts of messages
# A traced value where JAX's own functions take static arguments: "unhashable type: 'DynamicJaxprTracer'", or before
# JAX 0.9 "... Tracer ... is not hashable". Both words must be in it.
HASHED_TRACER = ("hash", "Tracer")

# The first words of the message when JAX raises a ValueError for a program that failed at run time.
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

# JAX's messages for a function without a derivative in one mode. The checker then reports why it skipped the question;
# any other error counts as a fault of the rule.
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

# JAX's messages for a loop whose first state varies over other mesh axes than its next state, and for a Pallas kernel
# whose results do not declare their axes. The checker tries again with `check_vma=False`.
VARYING = {TypeError: "manual axis types do not match", ValueError: "`check_vma=False` on `jax.shard_map`"}

# What JAX's export refuses by design, so it is not a fault of the operation.
NOT_EXPORTED = ("cannot be serialized", "callback", "custom call")

# The first line of a traceback inside a message: the error of a program contains the traceback of its host function.
TRACEBACK = "Traceback (most recent call last):"

# ------------------------------------------------------------------------------------------------ files and modules
# The file of `x * y` on JAX's arrays. A `Zero` hides `__jax_array__` from it, so that the array operators defer to the
# zero's own. If JAX renames the file, `x * zero` converts the zero to an array.
ARRAY_OPERATORS_FILE = "array_methods.py"

# Values of JAX_TRACEBACK_FILTERING: frames are marked for IPython, or taken out. Any other leaves errors as they are.
MARKED_FRAMES = "tracebackhide"
NO_FRAMES = "quiet_remove_frames"

# The package that defines the pullback class of `jax.vjp`. Such a pullback takes only the cotangents.
OWN_MODULES = "jax."

# ------------------------------------------------------------------------------------------- names inside of functions
# How JAX wraps the rules of a `custom_jvp` or `custom_vjp`: a function that remembers its results, one that traces the rule
# when it is called, and the variables there that hold the rule. With one missing, a function operand that uses such a
# function is another program at each call: it is compiled anew, and right.
MEMOIZED = "_memoize.<locals>.memoized"
TRACES_LATER = "DynamicJaxprTrace.process_custom_"
RULE_VARIABLES = ("jvp", "fwd")
# The param of such an equation that follows from the others.
FOLLOWS = "out_trees"
# In the names of what these wrappers hold for one trace alone.
STORES = "transformation_with_aux2"
DEBUG_INFO = "DebugInfo"
