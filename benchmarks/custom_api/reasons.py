"""Why a test of JAX's `tests/custom_api_test.py` differs with jaxprim's decorators."""

from __future__ import annotations

ERRORS = "expects the text, or the class, of JAX's error"
EQUATION = "expects JAX's own equation"
BRANCHES = "the function branches on values while JAX transforms it"
MORE = "expects an error, and it works"
ZEROS = "expects a symbolic zero cotangent where the rule is traced once for all cotangents"
NUMBERS = "expects a number of Python as result"
LOGS = "logs of a pullback are refused"
NOTHING = "the function returns nothing, under a transformation"
UNCHECKED = "expects that a switch of JAX turns off the check of shapes"

REASONS = {
    "CustomJVPTest.test_closed_over_tracers_error_message": ERRORS,
    "CustomJVPTest.test_dce": EQUATION,
    "CustomJVPTest.test_ensure_compile_time_eval": BRANCHES,
    "CustomJVPTest.test_jvp_rule_doesnt_return_pair_error_message": ERRORS,
    "CustomJVPTest.test_jvp_rule_inconsistent_pytree_structures_error_message": ERRORS,
    "CustomJVPTest.test_jvp_rule_primal_out_type_doesnt_match_primal_error_message": ERRORS,
    "CustomJVPTest.test_missing_jvp_rule_error_message": ERRORS,
    "CustomJVPTest.test_nondiff_arg_hiding_jvp_tracer": ERRORS,
    "CustomJVPTest.test_pretty_print": EQUATION,
    "CustomJVPTest.test_primal_tangent_aval_disagreement_error_message": ERRORS,
    "CustomJVPTest.test_python_control_flow": BRANCHES,
    "CustomJVPTest.test_resolve_kwargs_error_message": ERRORS,
    "CustomJVPTest.test_symbolic_zero_custom_jvp": NUMBERS,
    "CustomVJPTest.test_bwd_rule_shape_mismatch": ERRORS,
    "CustomVJPTest.test_bwd_rule_shape_mismatch_disable": UNCHECKED,
    "CustomVJPTest.test_custom_lin_pretty_print": EQUATION,
    "CustomVJPTest.test_custom_vjp_closure_4521": NOTHING,
    "CustomVJPTest.test_dce": EQUATION,
    "CustomVJPTest.test_defvjp_with_logs": LOGS,
    "CustomVJPTest.test_defvjp_with_logs_bad_return_errors": LOGS,
    "CustomVJPTest.test_defvjp_with_logs_nondiff_argnums_and_none_logs": LOGS,
    "CustomVJPTest.test_fwd_rule_primal_out_type_doesnt_match_primal_error_message": ERRORS,
    "CustomVJPTest.test_jvp_error": MORE,
    "CustomVJPTest.test_missing_vjp_rule_error": ERRORS,
    "CustomVJPTest.test_nondiff_arg_nested_tracer_error": MORE,
    "CustomVJPTest.test_nondiff_arg_tracer_error": MORE,
    "CustomVJPTest.test_pretty_print": EQUATION,
    "CustomVJPTest.test_python_control_flow": BRANCHES,
    "CustomVJPTest.test_resolve_kwargs_error_message": ERRORS,
    "CustomVJPTest.test_symbolic_zero_custom_vjp": ZEROS,
    "CustomVJPTest.test_symbolic_zero_custom_vjp_bwd_shape_error": ERRORS,
    "CustomVJPTest.test_symbolic_zero_custom_vjp_jit": ZEROS,
    "CustomVJPTest.test_symbolic_zero_custom_vjp_jit_vmap": ZEROS,
    "CustomVJPTest.test_symbolic_zero_custom_vjp_vmap": ZEROS,
    "CustomVJPTest.test_symbolic_zero_custom_vjp_vmap_output": ZEROS,
    "CustomVJPTest.test_vjp_bwd_returns_non_tuple_error": MORE,
    "CustomVJPTest.test_vjp_rule_inconsistent_pytree_structures_error": ERRORS,
}
