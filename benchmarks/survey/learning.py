"""optax, equinox and flax: losses, projections, layers, and functions with rules of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .op import Op, at, normal, points

ONE_HOT = np.eye(3)[:2]
LOGITS = normal(2, 3)
PROBABILITIES = np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
SURE = np.array([[100.0, 0.0, -100.0], [0.0, 0.0, 0.0]])


def ops() -> Iterator[Op]:
    for name, about in LOSSES.items():
        yield Op(f"optax {name}", _optax("losses", name), about)
    for name, about in PROJECTIONS.items():
        yield Op(f"optax {name}", _optax("projections", name), about)
    yield Op("optax ctc_loss", _ctc, points(normal(1, 4, 3)))
    yield Op("optax global_norm", lambda: _import("optax").global_norm, points(normal(3), at(0.0, 0.0)))
    yield Op("equinox filter_custom_vjp", _filter_custom_vjp, points((at(0.3, 1.7), np.array(2.0))))
    yield Op("equinox filter_custom_jvp", _filter_custom_jvp, points((at(0.3, 1.7), np.array(2.0))))
    yield Op("equinox filter_checkpoint", _filter_checkpoint, points((at(0.3, 1.7), np.array(2.0))))
    for kind in ("lax", "checkpointed"):
        yield Op(f"equinox internal.while_loop, {kind}", _loop(kind), points((at(0.3, 1.7), np.array(1.1))))
    yield Op("equinox nn.LayerNorm", _layer_norm, points(normal(3), at(1.0, 1.0, 1.0)))
    yield Op("equinox nn.GRUCell", _gru, points((normal(2), normal(3, seed=1))))
    yield Op("equinox nn.MultiheadAttention", _attention, points(normal(3, 2)))
    yield Op("flax nnx.RMSNorm", _rms_norm, points(normal(2, 3), np.zeros((1, 3))))


LOSSES = {
    "softmax_cross_entropy": points((LOGITS, PROBABILITIES), (SURE, ONE_HOT)),
    "softmax_cross_entropy_with_integer_labels": points((LOGITS, np.array([0, 2])), (SURE, np.array([0, 2]))),
    "safe_softmax_cross_entropy": points((LOGITS, PROBABILITIES), (SURE, ONE_HOT)),
    "sigmoid_binary_cross_entropy": points((LOGITS, PROBABILITIES), (SURE, PROBABILITIES)),
    "sigmoid_focal_loss": points((LOGITS, PROBABILITIES), (SURE, PROBABILITIES)),
    "poly_loss_cross_entropy": points((LOGITS, PROBABILITIES), (SURE, ONE_HOT)),
    "kl_divergence": points((np.log(PROBABILITIES), PROBABILITIES[::-1]), (np.log(PROBABILITIES), ONE_HOT)),
    "convex_kl_divergence": points((np.log(PROBABILITIES), PROBABILITIES[::-1]), (np.log(PROBABILITIES), ONE_HOT)),
    "huber_loss": points((at(0.3, 2.5), at(0.1, -0.2)), (at(1.0), at(0.0))),
    "log_cosh": points((at(0.3, 2.5), at(0.1, -0.2)), (at(0.0, 500.0), at(0.0, 0.0))),
    "cosine_similarity": points((normal(3), normal(3, seed=1)), (at(0.0, 0.0), at(1.0, 2.0)), (at(0.0, 0.0), at(0.0, 0.0))),
    "cosine_distance": points((normal(3), normal(3, seed=1))),
    "sparsemax_loss": points((at(0.3, -0.4), np.array([1, 0]))),
    "multiclass_sparsemax_loss": points((normal(2, 3), np.array([1, 0]))),
    "hinge_loss": points((at(0.3, -0.4), at(1.0, -1.0))),
    "ntxent": points((normal(4, 3), np.array([0, 0, 1, 1]))),
    "triplet_margin_loss": points((normal(2, 3), normal(2, 3, seed=1), normal(2, 3, seed=2)),
                                  (normal(1, 3), normal(1, 3), normal(1, 3))),
    "ranking_softmax_loss": points((normal(3), at(0.0, 1.0, 2.0))),
    "dice_loss": points((normal(2, 4), np.tile([0.0, 1.0], (2, 2)))),
}  # fmt: skip

PROJECTIONS = {
    "projection_simplex": points(at(0.3, 0.9, -0.4), at(0.5, 0.5, -0.5)),
    "projection_l1_ball": points((at(0.3, 0.9, -0.4), np.array(1.0)), (at(0.1, 0.2, 0.0), np.array(1.0))),
    "projection_l1_sphere": points((at(0.3, 0.9, -0.4), np.array(1.0))),
    "projection_l2_ball": points((at(0.3, 0.9, -0.4), np.array(0.5)), (at(0.1, 0.2, 0.0), np.array(0.5)),
                                 (at(0.0, 0.0, 0.0), np.array(0.5))),
    "projection_l2_sphere": points((at(0.3, 0.9, -0.4), np.array(0.5))),
    "projection_linf_ball": points((at(0.3, 0.9, -0.4), np.array(0.5))),
    "projection_hyperplane": points((normal(3), at(1.0, 2.0, -1.0), np.array(0.5))),
    "projection_halfspace": points((normal(3), at(1.0, 2.0, -1.0), np.array(-0.5))),
}  # fmt: skip


def _import(name: str) -> Any:
    import importlib

    return importlib.import_module(name)


def _optax(part: str, name: str) -> Callable[[], Callable[..., Any]]:
    return lambda: getattr(getattr(_import("optax"), part), name)


def _ctc() -> Callable[..., Any]:
    optax = _import("optax")
    return lambda logits: optax.ctc_loss(logits, np.zeros((1, 4)), np.array([[1, 2]]), np.zeros((1, 2)))


def _filter_custom_vjp() -> Callable[..., Any]:
    eqx = _import("equinox")

    @eqx.filter_custom_vjp
    def scaled(x: Any, factor: Any) -> Any:
        return jnp.sin(x) * factor

    @scaled.def_fwd
    def _(perturbed: Any, x: Any, factor: Any) -> Any:
        return scaled(x, factor), None

    @scaled.def_bwd
    def _(residuals: Any, y_bar: Any, perturbed: Any, x: Any, factor: Any) -> Any:
        return y_bar * factor * jnp.cos(x)

    return lambda x, factor: scaled(x, jax.lax.stop_gradient(factor))


def _filter_custom_jvp() -> Callable[..., Any]:
    eqx = _import("equinox")

    @eqx.filter_custom_jvp
    def scaled(x: Any, factor: Any) -> Any:
        return jnp.sin(x) * factor

    @scaled.def_jvp
    def _(primals: Any, tangents: Any) -> Any:
        (x, factor), (x_dot, factor_dot) = primals, tangents
        terms = [None if x_dot is None else x_dot * factor * jnp.cos(x)]
        terms.append(None if factor_dot is None else factor_dot * jnp.sin(x))
        return scaled(x, factor), sum(term for term in terms if term is not None)

    return scaled


def _filter_checkpoint() -> Callable[..., Any]:
    return _import("equinox").filter_checkpoint(lambda x, factor: jnp.exp(jnp.sin(x) * factor))


def _loop(kind: str) -> Callable[[], Callable[..., Any]]:
    def make() -> Callable[..., Any]:
        loops = _import("equinox.internal")
        fixed = {"max_steps": 8, "checkpoints": 2} if kind == "checkpointed" else {}

        def power(x: Any, factor: Any) -> Any:
            body = lambda state: (state[0] + 1, jnp.sin(state[1]) * factor)
            return loops.while_loop(lambda state: state[0] < 5, body, (0, x), kind=kind, **fixed)[1]

        return power

    return make


def _layer_norm() -> Callable[..., Any]:
    return _import("equinox").nn.LayerNorm(3)


def _gru() -> Callable[..., Any]:
    eqx = _import("equinox")
    return eqx.nn.GRUCell(2, 3, key=jax.random.key(0))


def _attention() -> Callable[..., Any]:
    layer = _import("equinox").nn.MultiheadAttention(1, 2, key=jax.random.key(0))
    return lambda x: layer(x, x, x)


def _rms_norm() -> Callable[..., Any]:
    nnx = _import("flax.nnx")
    return nnx.RMSNorm(3, rngs=nnx.Rngs(0))
