"""Rules drawn from a grammar, under drawn transformations, against JAX's derivatives of the same function without rules.

    python benchmarks/fuzz_rules.py --examples 2000

A drawn function has one to three results, each  s(x) k,  s(x)[i]  or an integer, with operands x, k and the integers i.
So its rules are made of products with a known array, v -> a v. Each product is written in drawn ways that all mean the
same: in a scan with a state beside it, in a cond, behind a gather or a sort, guarded by a comparison on v itself, ...
The reference is the plain function, so it shares nothing with the rules.

It prints each draw that differs, with the line that repeats it, and then exits with 1.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxprim import Primitive

Product = Callable[[Any, Any], Any]  # (a, v) -> a v
SIZE = 3

# ------------------------------------------------------------------------------------------- ways to write a product
_scaled = Primitive("scaled")
_scaled.def_impl(lambda a, v: a * v)
_scaled.def_transpose(lambda y_bar, a: a * y_bar, linear="v")
_times = Primitive("times")
_times.def_impl(lambda a, v: a * v)
_times.def_vjp(lambda primals: (_times(*primals), lambda c: (primals[1] * c, primals[0] * c)))


def _scan(inner: Product) -> Product:
    def run(a: Any, v: Any) -> Any:
        step = lambda state, pair: (state + 1, inner(*pair) + 0 * state)
        return lax.scan(step, jnp.float32(0), (a, v))[1]

    return run


def _joint(inner: Product) -> Product:
    """The known and the linear array are carried together."""

    def run(a: Any, v: Any) -> Any:
        def step(carry: Any, i: Any) -> Any:
            known, out = carry
            return (known * 1.0, out.at[i].set(inner(known[i], out[i]))), None

        return lax.scan(step, (a, v), jnp.arange(SIZE))[0][1]

    return run


def _loop(inner: Product) -> Product:
    return lambda a, v: lax.fori_loop(0, SIZE, lambda i, out: out.at[i].set(inner(a[i], v[i])), jnp.zeros_like(v))


def _gather(inner: Product) -> Product:
    order, back = np.array([2, 0, 1]), np.array([1, 2, 0])
    return lambda a, v: inner(a[order], v[order])[back]


def _by_key(inner: Product) -> Product:
    def run(a: Any, v: Any) -> Any:
        _, place, moved = lax.sort((a, jnp.arange(SIZE), v), num_keys=1)
        return inner(a, jnp.zeros_like(v).at[place].set(moved))

    return run


def _wrap(way: Any) -> Callable[[Product], Product]:
    return lambda inner: way(inner)


# Those that JAX can transpose, perhaps after it evaluated what is known in them.
LINEAR: dict[str, Callable[[Product], Product]] = {
    "jit": _wrap(jax.jit),
    "checkpoint": _wrap(jax.checkpoint),
    "scan": _scan,
    "joint scan": _joint,
    "loop": _loop,
    "gather": _gather,
    "cond": lambda inner: lambda a, v: lax.cond(a[0] > 0.5, inner, lambda a, v: v * a, a, v),
    "switch": lambda inner: lambda a, v: lax.switch(jnp.argmax(a), [inner, jnp.multiply, inner], a, v),
    "concatenate": lambda inner: lambda a, v: jnp.concatenate([a[:1] * v[:1], inner(a, v)[1:]]),
    "twice": lambda inner: lambda a, v: 0.25 * inner(a, v) + inner(a, 0.75 * v),
    "jvp": lambda inner: lambda a, v: jax.jvp(lambda x: inner(a, x), (a,), (v,))[1],
    "operation": lambda inner: lambda a, v: _scaled(jnp.ones(SIZE), inner(a, v)),
}  # fmt: skip
# Those that look at v, or that JAX cannot transpose.
LOOKING: dict[str, Callable[[Product], Product]] = {
    "finite": lambda inner: lambda a, v: jnp.where(jnp.isfinite(v), inner(a, v), 0.0),
    "all finite": lambda inner: lambda a, v: lax.cond(jnp.all(jnp.isfinite(v)), inner, lambda a, v: 0 * v, a, v),
    "sort by key": _by_key,
    "sort and unsort": lambda inner: lambda a, v: inner(a, jnp.sort(v)[jnp.argsort(jnp.argsort(v))]),
    "halves": lambda inner: lambda a, v: inner(a, jnp.maximum(v, 0) + jnp.minimum(v, 0)),
    "vmapped cond": lambda inner: lambda a, v: inner(a, jax.vmap(lambda x, y: lax.cond(x > 1, lambda: y, lambda: 1 * y))(a, v)),
    "exp 0": lambda inner: lambda a, v: inner(a, v) * jnp.exp(0 * v),
    "nested": lambda inner: lambda a, v: _times(jnp.ones(SIZE), inner(a, v)),
    "pullback": lambda inner: lambda a, v: jax.vjp(lambda x: _times(a, x), a)[1](inner(jnp.ones(SIZE), v))[0],
}  # fmt: skip
# Those that treat zero alone. As with `jax.custom_vjp`, the derivative of such a rule at zero is that of its text.
AT_ZERO: dict[str, Callable[[Product], Product]] = {
    "not zero": lambda inner: lambda a, v: jnp.where(v == 0, 0.0, inner(a, v)),
    "any": lambda inner: lambda a, v: lax.cond(jnp.any(v != 0), inner, lambda a, v: jnp.zeros_like(v), a, v),
    "size and sign": lambda inner: lambda a, v: inner(a, jnp.abs(v) * jnp.sign(v)),
    "rectified": lambda inner: lambda a, v: inner(a, jax.nn.relu(v)) - inner(a, jax.nn.relu(-v)),
}
# Those whose inner product is applied to single numbers.
OF_NUMBERS = ("scan", "joint scan", "loop")


def draw_product(rng: random.Random, ways: dict[str, Callable[[Product], Product]]) -> tuple[str, Product]:
    """A product with up to two ways around it, and their names."""
    names = rng.choices(list(ways), k=rng.choice([0, 1, 1, 2]))
    if len(names) == 2 and names[0] in OF_NUMBERS:
        names[1] = "plain"
    product: Product = lambda a, v: a * v
    for name in reversed([name for name in names if name != "plain"]):
        product = ways[name](product)
    return " of ".join(names) or "plain", product


# --------------------------------------------------------------------------------------------------------- operations
@jax.tree_util.register_pytree_node_class
class Pair:
    """A pytree that refuses what is no array of one dimension."""

    def __init__(self, first: Any, second: Any) -> None:
        if hasattr(first, "ndim") and first.ndim not in (1, 2):
            raise ValueError(f"an array of one dimension is wanted, not of {first.ndim}")
        self.first, self.second = first, second

    def tree_flatten(self) -> Any:
        return (self.first, self.second), None

    @classmethod
    def tree_unflatten(cls, _: Any, children: Any) -> Pair:
        return cls(*children)


TREES: dict[str, Callable[[list[Any]], Any]] = {
    "tuple": tuple,
    "dict": lambda parts: {f"y{i}": part for i, part in enumerate(parts)},
    "pair": lambda parts: Pair(parts[0], tuple(parts[1:])),
}
SHAPES = {
    "sin": (jnp.sin, jnp.cos),
    "square": (lambda x: x * x + 0.5, lambda x: 2 * x),
    "exp": (lambda x: jnp.exp(x / 2), lambda x: jnp.exp(x / 2) / 2),
}


@dataclass
class Draw:
    """A drawn operation, its plain function, and what is done with both."""

    text: str
    op: Any
    plain: Any
    used: tuple[int, ...]
    transform: str


def draw(seed: int) -> Draw:
    rng = random.Random(seed)
    results = rng.choices(["times k", "gathered", "integer"], k=rng.choice([1, 2, 2, 3]))
    if "integer" in results and len(set(results)) == 1:
        results[0] = "times k"
    shapes = [rng.choice(list(SHAPES)) for _ in results]
    tree = rng.choice(list(TREES)) if len(results) > 1 else "tuple"
    kinds = rng.choice(["vjp", "vjp", "jvp", "both"])
    transform = rng.choice(list(TRANSFORMS))
    second = transform in SECOND
    looking = LINEAR | LOOKING | ({} if second else AT_ZERO)
    backward = [draw_product(rng, looking) for _ in range(3)]
    forward = [draw_product(rng, LINEAR) for _ in range(3)]
    floats = [i for i, kind in enumerate(results) if kind != "integer"]
    used = tuple(sorted(rng.sample(floats, rng.randint(1, len(floats)))))
    plain = _plain(results, shapes, TREES[tree])
    op = _operation(results, shapes, TREES[tree], kinds, [p for _, p in forward], [p for _, p in backward])
    text = f"{kinds}, {results} of {shapes} in a {tree}, used {used}, {transform};"
    ways = {"forward": forward, "backward": backward}
    return Draw(f"{text} { ({k: [n for n, _ in v] for k, v in ways.items()}) }", op, plain, used, transform)


def _plain(results: list[str], shapes: list[str], tree: Any) -> Any:
    def fn(x: Any, k: Any, i: Any) -> Any:
        made = {"times k": lambda s: s(x) * k, "gathered": lambda s: s(x)[i], "integer": lambda s: i * 2}
        return tree([made[kind](SHAPES[shape][0]) for kind, shape in zip(results, shapes, strict=True)])

    return fn


def _operation(
    results: list[str], shapes: list[str], tree: Any, kinds: str, forward: list[Product], backward: list[Product]
) -> Primitive:
    p = Primitive("drawn")
    p.def_impl(_plain(results, shapes, tree))
    parts = list(enumerate(zip(results, [SHAPES[shape] for shape in shapes], strict=True)))

    def jvp(primals: Any, tangents: Any) -> Any:
        (x, k, i), (dx, dk, _) = primals, (jnp.asarray(tangents[0]), jnp.asarray(tangents[1]), None)
        dots: list[Any] = []
        for n, (kind, (value, slope)) in parts:
            if kind == "times k":
                dots.append(forward[n](slope(x) * k, dx) + value(x) * dk)
            else:
                dots.append(None if kind == "integer" else forward[n](slope(x), dx)[i])
        return p(*primals), tree(dots)

    def vjp(primals: Any) -> Any:
        x, k, i = primals

        def pull(cts: Any) -> Any:
            flat = jax.tree.leaves(cts, is_leaf=lambda leaf: leaf is None)
            x_bar, k_bar = jnp.zeros(SIZE), jnp.float32(0)
            for n, (kind, (value, slope)) in parts:
                if kind == "times k":
                    x_bar = x_bar + backward[n](slope(x) * k, jnp.asarray(flat[n]))
                    k_bar = k_bar + jnp.sum(value(x) * flat[n])
                elif kind == "gathered":
                    x_bar = x_bar + backward[n](slope(x), jnp.zeros(SIZE).at[i].add(jnp.asarray(flat[n])))
            return x_bar, k_bar, None

        return p(*primals), pull

    if kinds != "vjp":
        p.def_jvp(jvp)
    if kinds != "jvp":
        p.def_vjp(vjp)
    return p


# ---------------------------------------------------------------------------------------------------- transformations
X, K, I = jnp.array([0.3, 1.1, -0.7]), jnp.float32(0.8), jnp.array([2, 0, 2])  # noqa: E741 as in the text above
ROWS = jnp.stack([X, X + 0.4])
TRANSFORMS: dict[str, Callable[[Any], Any]] = {
    "grad": lambda loss: jax.grad(loss, (0, 1))(X, K, I),
    "jit(grad)": lambda loss: jax.jit(jax.grad(loss, (0, 1)))(X, K, I),
    "grad(checkpoint)": lambda loss: jax.grad(jax.checkpoint(loss), (0, 1))(X, K, I),
    "vmap(grad)": lambda loss: jax.jit(jax.vmap(jax.grad(loss, (0, 1)), (0, None, None)))(ROWS, K, I),
    "grad(vmap)": lambda loss: jax.jit(jax.grad(_over_rows(loss), (0, 1)))(ROWS, K, I),
    "grad(vmap) of i": lambda loss: jax.jit(jax.grad(_over_orders(loss), (0, 1)))(X, K, jnp.stack([I, I[::-1]])),
    "grad(scan)": lambda loss: jax.jit(jax.grad(_in_scan(loss), (0, 1)))(X, K, I),
    "jvp": lambda loss: jax.jvp(lambda x, k: loss(x, k, I), (X, K), (X + 1, K)),
    "jit(jvp)": lambda loss: jax.jit(lambda x: jax.jvp(lambda x: loss(x, K, I), (x,), (x + 1,)))(X),
    "hessian": lambda loss: jax.jit(jax.hessian(loss, (0, 1)))(X, K, I),
    "grad(grad)": lambda loss: jax.jit(jax.jacrev(jax.grad(loss, (0, 1)), (0, 1)))(X, K, I),
    "jvp(grad)": lambda loss: jax.jvp(lambda x: jax.grad(loss)(x, K, I), (X,), (X - 1,)),
    "hessian(vmap)": lambda loss: jax.jit(jax.hessian(_over_rows(loss), 1))(ROWS, K, I),
}
SECOND = ("hessian", "grad(grad)", "jvp(grad)", "hessian(vmap)")


def _over_rows(loss: Any) -> Any:
    return lambda x, k, i: jax.vmap(loss, (0, None, None))(x, k, i).sum()


def _over_orders(loss: Any) -> Any:
    return lambda x, k, i: jax.vmap(loss, (None, None, 0))(x, k, i).sum()


def _in_scan(loss: Any) -> Any:
    return lambda x, k, i: lax.scan(lambda c, _: (c + loss(x, k, i) * 0.5, None), jnp.float32(0), None, length=2)[0]


def _loss(fn: Any, used: tuple[int, ...]) -> Any:
    def loss(x: Any, k: Any, i: Any) -> Any:
        leaves = jax.tree.leaves(fn(x, k, i))
        return sum(((n + 1) * leaves[n] + leaves[n] ** 2).sum() for n in used)

    return loss


def mismatch(drawn: Draw) -> str:
    """What is wrong with a draw; empty if it agrees."""
    run = TRANSFORMS[drawn.transform]
    want = run(_loss(drawn.plain, drawn.used))
    try:
        got = run(_loss(drawn.op, drawn.used))
    except Exception as error:  # noqa: BLE001 any error is a mismatch, as the plain function has none
        return f"{type(error).__name__}: {error}"
    bad = [
        f"got {a}, expected {b}"
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
        if not np.allclose(a, b, rtol=1e-3, atol=1e-4)
    ]
    return "; ".join(bad)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=200, help="draws (200)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first draw (0)")
    options = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    start, bad = time.perf_counter(), 0
    for seed in range(options.seed, options.seed + options.examples):
        drawn = draw(seed)
        wrong = mismatch(drawn)
        if wrong:
            bad += 1
            print(f"{drawn.text}\n  {wrong}\n  python benchmarks/fuzz_rules.py --examples 1 --seed {seed}", flush=True)
        if seed % 100 == 99:
            jax.clear_caches()
    seconds = time.perf_counter() - start
    print(f"JAX {jax.__version__}: {options.examples - bad} draws agree, {bad} differ, in {seconds:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
