"""Attention without its matrix, in Pallas: `O = P V` with `P = softmax(S)` by rows and `S = Q K^T / sqrt(d)`.

For n queries and m keys, `P` has n m numbers and the operands have (n + m) d. The kernels take one block of queries and one
block of keys at a time, and keep `P` for these alone (Dao et al., "FlashAttention", 2022). Each row's `lse = log sum exp S` is
a result of its own, from which any block of `P = exp(S - lse)` can be made again. With sums over keys j and queries i,

    S_dot = (Q_dot K^T + Q K_dot^T) / sqrt(d)                                                  (JVP)
    lse_dot_i = sum_j P_ij S_dot_ij
    O_dot_i   = sum_j P_ij (S_dot_ij V_j + V_dot_j)  -  lse_dot_i O_i

    delta_i = <O_bar_i, O_i> - lse_bar_i,      S_bar_ij = P_ij (<O_bar_i, V_j> - delta_i)      (VJP)
    Q_bar_i = sum_j S_bar_ij K_j / sqrt(d),    K_bar_j = sum_i S_bar_ij Q_i / sqrt(d),    V_bar_j = sum_i P_ij O_bar_i

Value, tangent and pullback are an operation each: a Pallas kernel, and an impl in JAX of the same blocks. The kernels are
compiled on GPUs and interpreted on CPUs; the impls serve other platforms, and JAX differentiates them once more. In a
Hessian-vector product the inner derivative is a kernel, the outer one is of JAX, and the n m numbers never exist at once.

Run it with `python examples/gallery/attention.py`, or check it with `jaxprim check examples/gallery/attention.py`.
"""

import functools
import timeit

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl

from jaxprim import Example, Primitive

# `q` is [n, d], `k` is [m, d], `v` is [m, e]; vmap adds heads and batches. `block` divides n and m. If `causal`, then n = m
# and a query sees the keys up to its own.
flash = Primitive("flash")  # (q, k, v) -> o, lse
flash_tangent = Primitive("flash_tangent")  # (q, k, v, lse, q_dot, k_dot, v_dot) -> o_dot + lse_dot o, lse_dot
flash_pullback = Primitive("flash_pullback")  # (q, k, v, lse, delta, o_bar) -> q_bar, k_bar, v_bar


# Heads and batches are what splits over devices: the axes of vmap. A block of queries alone does not know its rows.
WHOLE = "n m d e"
flash.def_sharding("n d, m d, m e -> n e, n", replicated=WHOLE)
flash_tangent.def_sharding("n d, m d, m e, n, n d, m d, m e -> n e, n", replicated=WHOLE)
flash_pullback.def_sharding("n d, m d, m e, n, n, n e -> n d, m d, m e", replicated=WHOLE)


def attention(q, k, v, *, causal=False, block=64):
    """Attention of queries `[n, d]` to keys `[m, d]` and values `[m, e]`."""
    return flash(q, k, v, causal=causal, block=block)[0]


# ------------------------------------------------------------------------------------------------ one block with another
def times_transposed(a, b):
    return lax.dot_general(a, b, (((1,), (1,)), ((), ())), preferred_element_type=a.dtype)


def transposed_times(a, b):
    return lax.dot_general(a, b, (((0,), (0,)), ((), ())), preferred_element_type=a.dtype)


def scores(q, k, row, column, causal):
    """`S` for a block of queries that starts at a row, and a block of keys that starts at a column."""
    s = times_transposed(q, k) * np.asarray(q.shape[1] ** -0.5, q.dtype)
    rows = row + lax.broadcasted_iota(jnp.int32, s.shape, 0)
    columns = column + lax.broadcasted_iota(jnp.int32, s.shape, 1)
    return jnp.where(rows >= columns, s, -jnp.inf) if causal else s


def attend(state, s, v):
    """Takes one more block of keys: the sums of `exp(S - top) V` and `exp(S - top)`, where `top` is the largest so far."""
    values, total, top = state
    new_top = jnp.maximum(top, jnp.max(s, 1))
    p, shrink = jnp.exp(s - new_top[:, None]), jnp.exp(top - new_top)
    return values * shrink[:, None] + p @ v, total * shrink + jnp.sum(p, 1), new_top


def attended(state):
    values, total, top = state
    return values / total[:, None], top + jnp.log(total)


def nothing_attended(n, e, dtype):
    return jnp.zeros((n, e), dtype), jnp.zeros(n, dtype), jnp.full(n, -jnp.inf, dtype)


def push(state, s, lse, q, k, v, q_dot, k_dot, v_dot):
    """Takes one more block of keys: the sums of `P (S_dot V + V_dot)` and `P S_dot`."""
    p = jnp.exp(s - lse[:, None])
    s_dot = (times_transposed(q_dot, k) + times_transposed(q, k_dot)) * np.asarray(q.shape[1] ** -0.5, q.dtype)
    return state[0] + (p * s_dot) @ v + p @ v_dot, state[1] + jnp.sum(p * s_dot, 1)


def pull(s, lse, delta, o_bar, v, d):
    """`P`, and `S_bar / sqrt(d)`."""
    p = jnp.exp(s - lse[:, None])
    return p, p * (times_transposed(o_bar, v) - delta[:, None]) * np.asarray(d**-0.5, p.dtype)


# ------------------------------------------------------------------------------------------------------- in JAX: impls
def over_keys(body, state, *arrays, block):
    """A scan over blocks of keys, which keeps one block when it is differentiated: `body(state, column, *blocks)`."""
    columns = jnp.arange(0, arrays[0].shape[0], block)
    blocks = [x.reshape(-1, block, x.shape[1]) for x in arrays]
    return lax.scan(jax.checkpoint(lambda state, xs: body(state, *xs)), state, (columns, *blocks))


@flash.def_impl
def _(q, k, v, *, causal=False, block=64):
    check(q, k, v, causal, block)
    body = lambda state, column, k, v: (attend(state, scores(q, k, 0, column, causal), v), None)
    start = nothing_attended(q.shape[0], v.shape[1], q.dtype)
    return attended(over_keys(body, start, k, v, block=block)[0])


@flash_tangent.def_impl
def _(q, k, v, lse, q_dot, k_dot, v_dot, *, causal=False, block=64):
    def body(state, column, k, v, k_dot, v_dot):
        return push(state, scores(q, k, 0, column, causal), lse, q, k, v, q_dot, k_dot, v_dot), None

    start = jnp.zeros((q.shape[0], v.shape[1]), q.dtype), jnp.zeros_like(lse)
    return over_keys(body, start, k, v, k_dot, v_dot, block=block)[0]


@flash_pullback.def_impl
def _(q, k, v, lse, delta, o_bar, *, causal=False, block=64):
    def body(q_bar, column, k, v):
        p, s_bar = pull(scores(q, k, 0, column, causal), lse, delta, o_bar, v, q.shape[1])
        return q_bar + s_bar @ k, (transposed_times(s_bar, q), transposed_times(p, o_bar))

    q_bar, (k_bar, v_bar) = over_keys(body, jnp.zeros_like(q), k, v, block=block)
    return q_bar, k_bar.reshape(k.shape), v_bar.reshape(v.shape)


def check(q, k, v, causal, block):
    if q.shape[0] % block or k.shape[0] % block or (causal and q.shape[0] != k.shape[0]):
        raise TypeError(f"{q.shape[0]} queries and {k.shape[0]} keys do not fit block={block}, causal={causal}")
    if q.shape[1] != k.shape[1] or k.shape[0] != v.shape[0]:
        raise TypeError(f"queries {q.shape}, keys {k.shape} and values {v.shape} do not fit each other")


# --------------------------------------------------------------------------------------------------- in Pallas: kernels
def flash_kernel(q_ref, k_ref, v_ref, o_ref, lse_ref, *, causal, block):
    i, q = pl.program_id(0), q_ref[...]

    def body(j, state):
        at = pl.ds(j * block, block)
        return attend(state, scores(q, k_ref[at, :], i * block, j * block, causal), v_ref[at, :])

    start = nothing_attended(block, v_ref.shape[1], q.dtype)
    stop = i + 1 if causal else k_ref.shape[0] // block  # later keys than the block's last query are not seen
    o_ref[...], lse_ref[...] = attended(lax.fori_loop(0, stop, body, start))


def tangent_kernel(
    q_ref, k_ref, v_ref, lse_ref, q_dot_ref, k_dot_ref, v_dot_ref, o_dot_ref, lse_dot_ref, *, causal, block
):
    i, q, q_dot, lse = pl.program_id(0), q_ref[...], q_dot_ref[...], lse_ref[...]

    def body(j, state):
        k, v, k_dot, v_dot = (ref[pl.ds(j * block, block), :] for ref in (k_ref, v_ref, k_dot_ref, v_dot_ref))
        return push(state, scores(q, k, i * block, j * block, causal), lse, q, k, v, q_dot, k_dot, v_dot)

    start = jnp.zeros((block, v_ref.shape[1]), q.dtype), jnp.zeros(block, q.dtype)
    stop = i + 1 if causal else k_ref.shape[0] // block
    o_dot_ref[...], lse_dot_ref[...] = lax.fori_loop(0, stop, body, start)


def pullback_of_queries(q_ref, k_ref, v_ref, lse_ref, delta_ref, o_bar_ref, q_bar_ref, *, causal, block):
    i, q, lse, delta, o_bar = pl.program_id(0), q_ref[...], lse_ref[...], delta_ref[...], o_bar_ref[...]

    def body(j, q_bar):
        k, v = (ref[pl.ds(j * block, block), :] for ref in (k_ref, v_ref))
        _, s_bar = pull(scores(q, k, i * block, j * block, causal), lse, delta, o_bar, v, q.shape[1])
        return q_bar + s_bar @ k

    stop = i + 1 if causal else k_ref.shape[0] // block
    q_bar_ref[...] = lax.fori_loop(0, stop, body, jnp.zeros(q.shape, q.dtype))


def pullback_of_keys(q_ref, k_ref, v_ref, lse_ref, delta_ref, o_bar_ref, k_bar_ref, v_bar_ref, *, causal, block):
    j, k, v = pl.program_id(0), k_ref[...], v_ref[...]

    def body(i, state):
        at = pl.ds(i * block, block)
        q, o_bar = q_ref[at, :], o_bar_ref[at, :]
        p, s_bar = pull(scores(q, k, i * block, j * block, causal), lse_ref[at], delta_ref[at], o_bar, v, k.shape[1])
        return state[0] + transposed_times(s_bar, q), state[1] + transposed_times(p, o_bar)

    start = jnp.zeros(k.shape, k.dtype), jnp.zeros(v.shape, v.dtype)
    first = j if causal else 0  # earlier queries do not see these keys
    k_bar_ref[...], v_bar_ref[...] = lax.fori_loop(first, q_ref.shape[0] // block, body, start)


def blocks(kernel, by_block, operands, results, *, causal, block, interpret):
    """Runs a kernel for each block of the operands that `by_block` marks, and of all results; other operands are whole."""
    one = lambda x: pl.BlockSpec((block, *x.shape[1:]), lambda i: (i, *(0,) * (len(x.shape) - 1)))
    whole = lambda x: pl.BlockSpec(x.shape, lambda i: (0,) * len(x.shape))
    return pl.pallas_call(
        functools.partial(kernel, causal=causal, block=block),
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in results],
        grid=(results[0].shape[0] // block,),
        in_specs=[(one if by else whole)(x) for x, by in zip(operands, by_block, strict=True)],
        out_specs=[one(x) for x in results],
        compiler_params=None if interpret else for_triton(),
        interpret=interpret,
    )(*operands)


def for_triton():
    """Triton compiles the kernels. JAX 0.12 says that it will give up that way, and names its successors."""
    from jax.experimental.pallas import triton

    return triton.CompilerParams(num_warps=4, num_stages=2)


def give_kernels(platform, interpret):
    run = functools.partial(blocks, interpret=interpret)

    @flash.def_kernel(platform=platform)
    def _(q, k, v, *, causal=False, block=64):
        results = jax.ShapeDtypeStruct((q.shape[0], v.shape[1]), q.dtype), jax.ShapeDtypeStruct(q.shape[:1], q.dtype)
        return tuple(run(flash_kernel, (1, 0, 0), (q, k, v), results, causal=causal, block=block))

    @flash_tangent.def_kernel(platform=platform)
    def _(q, k, v, lse, q_dot, k_dot, v_dot, *, causal=False, block=64):
        operands = q, k, v, lse, q_dot, k_dot, v_dot
        results = jax.ShapeDtypeStruct((q.shape[0], v.shape[1]), q.dtype), lse
        return tuple(run(tangent_kernel, (1, 0, 0, 1, 1, 0, 0), operands, results, causal=causal, block=block))

    @flash_pullback.def_kernel(platform=platform)
    def _(q, k, v, lse, delta, o_bar, *, causal=False, block=64):
        operands, params = (q, k, v, lse, delta, o_bar), {"causal": causal, "block": block}
        (q_bar,) = run(pullback_of_queries, (1, 0, 0, 1, 1, 1), operands, (q,), **params)
        k_bar, v_bar = run(pullback_of_keys, (0, 1, 1, 0, 0, 0), operands, (k, v), **params)
        return q_bar, k_bar, v_bar


give_kernels("cpu", interpret=True)
give_kernels("cuda", interpret=False)


# -------------------------------------------------------------------------------------------------------------- rules
@flash.def_jvp
def _(primals, tangents, **params):
    o, lse = flash(*primals, **params)
    moved, lse_dot = flash_tangent(*primals, lse, *map(jnp.asarray, tangents), **params)
    return (o, lse), (moved - lse_dot[:, None] * o, lse_dot)


@flash.def_vjp
def _(primals, **params):
    q, k, v = primals
    o, lse = flash(q, k, v, **params)

    def pullback(cotangents):
        o_bar, lse_bar = cotangents
        delta = (o_bar * o).sum(1) - lse_bar
        return flash_pullback(q, k, v, lse, *map(jnp.asarray, (delta, o_bar)), **params)

    return (o, lse), pullback


def operands(n=4, d=2, count=3):
    """Some numbers for examples."""
    return tuple(jnp.sin(jnp.arange(n * d, dtype="float32").reshape(n, d) * (i + 1.3)) for i in range(count))


@flash.def_examples
def _():
    return [Example(operands(), {"causal": True, "block": 2})]


@flash_tangent.def_examples
def _():
    q, k, v, *tangents = operands(count=6)
    return [Example((q, k, v, flash(q, k, v, block=2)[1], *tangents), {"block": 2})]


@flash_pullback.def_examples
def _():
    q, k, v, o_bar = operands(count=4)
    return [Example((q, k, v, flash(q, k, v, block=2)[1], o_bar[:, 0], o_bar), {"block": 2})]


# --------------------------------------------------------------------------------------------------------------- show
def dense(q, k, v):
    """JAX's own, for one head."""
    heads = (x[:, None, :] for x in (q, k, v))
    return jax.nn.dot_product_attention(*heads, is_causal=True)[:, 0]


def milliseconds(fn, *operands):
    jax.block_until_ready(fn(*operands))
    return 1e3 * min(timeit.repeat(lambda: jax.block_until_ready(fn(*operands)), number=1, repeat=3))


def main(n=2048, d=64):
    q, k, v = (jax.random.normal(key, (n, d)) for key in jax.random.split(jax.random.key(0), 3))
    platform = jax.default_backend()
    with_impl = lambda *operands: flash.use("impl")(*operands, causal=True)[0]
    ways = {
        "Pallas" + " (interpreted)" * (platform == "cpu"): functools.partial(attention, causal=True),
        "the same blocks in JAX": with_impl,
        "jax.nn.dot_product_attention": dense,
    }
    print(f"causal attention of {n} to {n} on {platform}; one matrix has {4e-6 * n * n:.0f} MB")
    for name, op in ways.items():
        loss = lambda q, op=op: jnp.sum(op(q, k, v) ** 2)
        gradient = jax.jit(jax.grad(loss))
        product = jax.jit(lambda q, loss=loss: jax.jvp(jax.grad(loss), (q,), (q,))[1])
        for what, fn in {"gradient": gradient, "Hessian-vector product": product}.items():
            memory = fn.lower(q).compile().memory_analysis().temp_size_in_bytes
            print(f"  {what:22}  {name:30} {milliseconds(fn, q):6.0f} ms  {memory / 1e6:6.1f} MB")
    print(flash.explain())
    print(flash.check())


if __name__ == "__main__":
    main()
