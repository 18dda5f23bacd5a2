"""A scaling primitive with both of its derivative rules.

The code is that of a tutorial on custom primitives for JAX, block by block and in its order. What differs is marked with
`CHANGED` and listed in docs/porting.md: three import lines, and one call that JAX has removed. What comes after
"Beyond the tutorial" is new.

Run it with `python examples/custom_scale.py`, or check it with `jaxprim check examples/custom_scale.py`.
"""
# The tutorial's code stays as it is, in its own style and with its imports where they stand:
# ruff: noqa: E402, F401, F841, I001, RET504
# fmt: off


# ------------------------------------------------------------------------------------ block 1: what a JVP rule looks like
def primitive_jvp(primals, tangents):
    # primals: A tuple of the primal inputs to the primitive.
    # tangents: A tuple of tangent values corresponding to the primals.
    #           Tangents have the same shape and dtype as the corresponding primal.
    #           A tangent value might be jax.ad.Zero if the corresponding
    #           primal is considered constant with respect to differentiation.

    # 1. Compute the primal outputs (same as the abstract evaluation or implementation)
    primal_outputs = ...  # Compute f(primals)

    # 2. Compute the tangent outputs based on primals and input tangents
    tangent_outputs = ...  # Compute J @ tangents

    return primal_outputs, tangent_outputs


# ------------------------------------------------------------------------------------------- block 2: the JVP rule, used
import jax
import jax.numpy as jnp
from jaxprim import Primitive  # CHANGED: was `from jax.core import Primitive`
from jaxprim import ad  # CHANGED: was `from jax.interpreters import ad`
from jaxprim import mlir  # CHANGED: was `from jax.interpreters import mlir`

# Assume custom_scale_p is already defined with abstract eval and lowering
# For example:
custom_scale_p = Primitive('custom_scale')

@custom_scale_p.def_impl
def _custom_scale_impl(x, factor):
    # Example CPU implementation
    return x * factor

@custom_scale_p.def_abstract_eval
def _custom_scale_abstract_eval(x_abs, factor_abs):
    # Example abstract evaluation
    # CHANGED: was `jax.core.get_aval(factor_abs) == ...`; JAX removed it, and factor_abs is an aval already
    assert factor_abs == jax.core.ShapedArray((), factor_abs.dtype)
    return jax.core.ShapedArray(x_abs.shape, x_abs.dtype)

# Assume MLIR lowering is also defined...

# Now, define the JVP rule
@custom_scale_p.def_jvp
def _custom_scale_jvp(primals, tangents):
    x, factor = primals
    x_dot, factor_dot = tangents  # Input tangents

    # Primal output computation (could also call the impl)
    y = x * factor

    # Calculate output tangent y_dot
    # Use the product rule: d(x*factor)/dt = (dx/dt)*factor + x*(dfactor/dt)
    # Handle Zero tangents correctly
    y_dot = ad.Zero.zero_if_zero(factor_dot)
    if not isinstance(x_dot, ad.Zero):
        y_dot += x_dot * factor
    if not isinstance(factor_dot, ad.Zero):
        y_dot += x * factor_dot

    # Ensure output tangent has same structure as output primal
    if isinstance(y_dot, ad.Zero) and y is not None:
        # If y_dot is Zero, create a concrete zero tangent with the right shape/dtype
        y_dot = jnp.zeros_like(y)

    print(f"Custom JVP: x={x}, factor={factor}, x_dot={x_dot}, factor_dot={factor_dot}, y={y}, y_dot={y_dot}")
    return y, y_dot

# Example usage with jax.jvp
x_val = jnp.array([1.0, 2.0, 3.0])
factor_val = 2.0
x_tangent = jnp.array([0.1, 0.2, 0.3])
factor_tangent = 0.5  # Tangent for the scalar factor

# Define a function that uses the primitive
def apply_scale(x, factor):
    return custom_scale_p.bind(x, factor=factor)  # Use bind

# Compute JVP
primal_out, tangent_out = jax.jvp(apply_scale, (x_val, factor_val), (x_tangent, factor_tangent))

print(f"Primal output: {primal_out}")
print(f"Tangent output: {tangent_out}")
# Expected output tangent:
# y_dot = x_dot * factor + x * factor_dot
#       = [0.1, 0.2, 0.3] * 2.0 + [1.0, 2.0, 3.0] * 0.5
#       = [0.2, 0.4, 0.6] + [0.5, 1.0, 1.5]
#       = [0.7, 1.4, 2.1]


# ------------------------------------------------------------------------------------ block 3: what a VJP rule looks like
def primitive_vjp(primals):
    # primals: A tuple of the primal inputs.

    # 1. Compute the primal outputs
    primal_outputs = ...  # Compute f(primals)

    # 2. Determine residuals needed for backward pass
    residuals = ...  # e.g., primal inputs, intermediate values

    # 3. Define the backward pass function
    def backward_pass(residuals, output_cotangents):
        # residuals: The data saved from the forward pass.
        # output_cotangents: The cotangent vector(s) corresponding to the primal_outputs.

        # Compute input cotangents based on residuals and output_cotangents
        input_cotangents = ...  # Compute output_cotangents^T @ J

        return input_cotangents  # Must be a tuple matching the structure of primals

    return primal_outputs, backward_pass


# ------------------------------------------------------------------------------------------- block 4: the VJP rule, used
# Define the VJP rule
@custom_scale_p.def_vjp
def _custom_scale_vjp(primals):
    x, factor = primals

    # Forward pass: Compute output and save inputs for backward pass
    y = custom_scale_p.bind(x, factor=factor)  # Use bind for actual computation
    residuals = (x, factor)  # Need x and factor for the backward pass

    # Define the backward pass function
    def backward_pass(residuals, y_bar):
        # y_bar is the cotangent of the output y
        x_res, factor_res = residuals  # Unpack residuals

        # Calculate input cotangents (gradients)
        # Gradient w.r.t. x: dy/dx = factor => x_bar = y_bar * factor
        x_bar = y_bar * factor_res

        # Gradient w.r.t. factor: dy/dfactor = x => factor_bar = sum(y_bar * x)
        # Need to sum if x is not a scalar, as factor is scalar.
        factor_bar = jnp.sum(y_bar * x_res)

        print(f"Custom VJP Backward: y_bar={y_bar}, x_res={x_res}, factor_res={factor_res}, x_bar={x_bar}, factor_bar={factor_bar}")
        # Return tuple of cotangents matching the order of primals (x, factor)
        return (x_bar, factor_bar)

    return y, backward_pass

# Example usage with jax.grad
x_val = jnp.array([1.0, 2.0, 3.0])
factor_val = 2.0

# Define a function to differentiate
def loss_fn(x, factor):
    y = apply_scale(x, factor)  # Uses our primitive via apply_scale
    return jnp.sum(y * y)  # Example loss: sum of squares

# Compute gradients using jax.grad
# grad takes derivatives w.r.t. specified argnums (0 for x, 1 for factor)
grad_x = jax.grad(loss_fn, argnums=0)(x_val, factor_val)
grad_factor = jax.grad(loss_fn, argnums=1)(x_val, factor_val)

print(f"Gradient w.r.t. x: {grad_x}")
print(f"Gradient w.r.t. factor: {grad_factor}")

# Expected gradients:
# L = sum( (x*factor)^2 )
# dL/dy = 2*y = 2*x*factor
# dL/dx = dL/dy * dy/dx = (2*x*factor) * factor = 2*x*factor^2
#       = 2 * [1, 2, 3] * 2^2 = [8, 16, 24]
# dL/dfactor = sum( dL/dy * dy/dfactor ) = sum( (2*x*factor) * x ) = sum( 2*x^2*factor )
#            = 2 * factor * sum(x^2) = 2 * 2.0 * (1^2 + 2^2 + 3^2)
#            = 4 * (1 + 4 + 9) = 4 * 14 = 56.0


# ------------------------------------------------------------------------------------------------- block 5: verification
# Example using jax.test_util for verification
from jax.test_util import check_grads

# Check gradients for apply_scale function which uses the primitive
# check_grads compares analytical gradients (from VJP) with numerical estimates
check_grads(apply_scale, (x_val, factor_val), order=2, modes=['fwd', 'rev'], eps=1e-3)
# order=2 checks both first and second derivatives (if applicable)
# modes=['fwd', 'rev'] checks both JVP and VJP consistency
print("Gradient checks passed!")


# fmt: on
# ---------------------------------------------------------------------------------------------------- Beyond the tutorial
@custom_scale_p.def_examples
def _examples():
    return [(x_val, factor_val), (jnp.full((2, 3), -1.5), jnp.float32(0.25))]


def transformations():
    """The same operation under JAX's other transformations: {what was done: what came out}."""
    xs = jnp.arange(6.0).reshape(2, 3)

    def step(carry, x):
        y = apply_scale(x, carry)
        return carry + 0.5, y

    def through_scan(factor):
        _, ys = jax.lax.scan(step, factor, xs)
        return jnp.sum(ys)

    return {
        "jit": jax.jit(apply_scale)(x_val, factor_val),
        "vmap over x": jax.vmap(apply_scale, (0, None))(xs, factor_val),
        "vmap over factor": jax.vmap(apply_scale, (None, 0))(x_val, jnp.array([1.0, 10.0])),
        "hessian": jax.hessian(loss_fn)(x_val, factor_val),
        "scan": jax.lax.scan(step, factor_val, xs)[1],
        "grad of scan": jax.grad(through_scan)(factor_val),
        "grad of checkpoint": jax.grad(jax.checkpoint(loss_fn))(x_val, factor_val),
    }


if __name__ == "__main__":
    for name, value in transformations().items():
        print(f"{name}: {value.tolist()}")
    print(custom_scale_p.explain())
    print(custom_scale_p.check())
