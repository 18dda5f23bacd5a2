"""Measure the data of a report's pictures: a rule's error by step of differences, by element, and over a range."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxprim.checking import probes
from jaxprim.checking.case import Case
from jaxprim.checking.precision import Precision
from jaxprim.checking.probes import Direction
from jaxprim.checking.reports.findings import Finding
from jaxprim.checking.reports.svg import Heat, Lines, Series
from jaxprim.checking.values import Array, doubled, spacing, wide

# Steps of differences and factors on operands: powers of two, so that scaling an operand does not round.
STEPS = tuple(2.0**-k for k in range(1, 31))
FACTORS = tuple(2.0**k for k in range(-20, 21))
# A Jacobian is drawn up to this many rows and columns.
LARGEST = 24
# At most this many operands get a curve of their own.
CURVES = 4
NAMES = {"jvp": "JVP rule", "vjp": "VJP rule"}


def pictures(case: Case, findings: Iterable[Finding]) -> tuple[Lines | Heat, ...]:
    """All pictures that can be measured for a case; none if its implementation does not run."""
    if all(finding.status == "skipped" for finding in findings) or case.failure() is not None:
        return ()
    with np.errstate(all="ignore"):
        drawn = [*_jacobians(case), *_steps(case), *_range(case)]
    return tuple(drawn)


def _modes(case: Case) -> Iterator[str]:
    """The modes in which the subject can be differentiated here."""
    for mode in NAMES:
        try:
            case.wrt(mode)
        except Exception:  # noqa: BLE001 - the findings report a rule that raises
            continue
        yield mode


# ------------------------------------------------------------------------------------------ error against the step
def _steps(case: Case) -> Iterator[Lines]:
    curves = [curve for mode in _modes(case) for curve in _curves(case, mode)]
    if curves:
        yield Lines(
            "Error against step size",
            "How far differences of the implementation are from the rule, over smaller and smaller steps. For a right rule the "
            "curve falls until rounding takes over, and rises again. For a wrong rule it stays where the rule is wrong.",
            case.label,
            "step, relative to the operand",
            "relative difference",
            tuple(curves),
        )


def _curves(case: Case, mode: str) -> Iterator[Series]:
    directions = case.directions(mode)
    several = len(case.wrt(mode)) > 1
    for direction in [d for d in directions if len(d.tangents) == 1][:CURVES] if several else directions[:1]:
        error = _error_of_differences(case, mode, direction)
        label = direction.label.split(",")[0].removesuffix(" alone")
        yield _curve(f"{NAMES[mode]}, {label}", STEPS, error)


def _curve(name: str, x: Sequence[float], y: Callable[[float], float]) -> Series:
    """The curve of a function, without points that are not finite."""
    points = [(a, b) for a, b in ((a, y(a)) for a in x) if np.isfinite(b)]
    return Series(name, tuple(a for a, _ in points), tuple(b for _, b in points))


def _error_of_differences(case: Case, mode: str, direction: Direction) -> Callable[[float], float]:
    """The relative difference between the rule and a central difference with a given step."""
    view = case.precisions(mode)[-1]
    tangents = direction.tangents

    def slope(step: float) -> list[Array]:
        plus, minus = view.value_along(tangents, step), view.value_along(tangents, -step)
        return [(p - m) / (2 * step) for p, m in zip(plus, minus, strict=True)]

    if mode == "jvp":
        rule = view.jvp(tangents).tangent
        return lambda step: _relative(slope(step), rule)
    cotangents = case.cotangents(0)
    pulled = view.vjp(cotangents, tuple(tangents)).cotangent
    total = sum(np.sum(np.real(pulled[i] * t)) for i, t in tangents.items())

    def of_vjp(step: float) -> float:
        parts = [ct * d for ct, d in zip(cotangents, slope(step), strict=True)]
        return _relative([np.asarray(sum(np.sum(np.real(part)) for part in parts))], [np.asarray(total)])

    return of_vjp


def _relative(got: Sequence[Array], expected: Sequence[Array]) -> float:
    distance = max(float(np.max(np.abs(g - e), initial=0.0)) for g, e in zip(got, expected, strict=True))
    size = max(float(np.max(np.abs(leaf), initial=0.0)) for leaf in (*got, *expected))
    return distance / size if size else 0.0


# ------------------------------------------------------------------------------------------- error of the Jacobian
def _jacobians(case: Case) -> Iterator[Heat]:
    modes = list(_modes(case))
    if not modes:
        return
    wrt = case.wrt(modes[0])
    columns = [(i, k) for i in wrt for k in range(wide(case.point.leaves[i]).size)][:LARGEST]
    truth = np.stack([_difference(case, *column) for column in columns], axis=1)[:LARGEST]
    rows = _elements(case.truth.output_names, [case.truth.results[i] for i in case.truth.outputs])[:LARGEST]
    names = _elements([case.point.names[i] for i in wrt], [case.point.leaves[i] for i in wrt])[:LARGEST]
    for mode in modes:
        rule = (_by_columns if mode == "jvp" else _by_rows)(case, columns, len(rows))
        error = np.abs(np.real(rule - truth)) / (np.max(np.abs(truth[np.isfinite(truth)]), initial=0.0) or 1.0)
        yield Heat(
            f"Error of the Jacobian by the {NAMES[mode]}",
            "The difference to the Jacobian by differences of the implementation, in units of its largest element. "
            "A row is an element of the result, a column is an element of an operand; values below 1e-9 have no colour, "
            "values of 1 or more have full colour.",
            case.label,
            tuple(rows),
            tuple(names),
            tuple(tuple(float(x) for x in row) for row in error),
        )


def _elements(names: Sequence[str], leaves: Sequence[Any]) -> list[str]:
    """A name for each element of some leaves."""
    found: list[str] = []
    for name, leaf in zip(names, leaves, strict=True):
        found += [
            f"{name}[{','.join(map(str, index))}]" if index else name for index in np.ndindex(np.shape(wide(leaf)))
        ]
    return found


def _unit(shape: tuple[int, ...], k: int) -> Array:
    unit = np.zeros(shape)
    unit.flat[k] = 1.0
    return unit


def _flat(leaves: Sequence[Array]) -> Array:
    return np.concatenate([np.ravel(leaf) for leaf in leaves])


def _difference(case: Case, leaf: int, k: int) -> Array:
    """A column of the Jacobian by differences, with steps relative to the element. NaN where they do not converge."""
    value = wide(case.point.leaves[leaf])
    size = float(np.abs(value.flat[k])) or probes.typical(value)
    found = case.differentiate({leaf: size * _unit(value.shape, k)})
    return _flat([np.where(d.judged, d.value, np.nan) for d in found]) / size


def _by_columns(case: Case, columns: Sequence[tuple[int, int]], rows: int) -> Array:
    view = case.precisions("jvp")[-1]
    pushed = [view.jvp({i: _unit(wide(case.point.leaves[i]).shape, k)}).tangent for i, k in columns]
    return np.stack([_flat(tangent)[:rows] for tangent in pushed], axis=1)


def _by_rows(case: Case, columns: Sequence[tuple[int, int]], rows: int) -> Array:
    view, wrt = case.precisions("vjp")[-1], case.wrt("vjp")
    shapes = [np.shape(ct) for ct in case.cotangents(0)]
    places = [(leaf, k) for leaf, shape in enumerate(shapes) for k in range(int(np.prod(shape)))][:rows]
    found: list[Array] = []
    for leaf, k in places:
        seeds = [_unit(shape, k) if j == leaf else np.zeros(shape) for j, shape in enumerate(shapes)]
        cotangent = view.vjp(seeds, wrt).cotangent
        found.append(np.array([cotangent[i].flat[m] if i in cotangent else np.nan for i, m in columns]))
    return np.stack(found)


# -------------------------------------------------------------------------------------------- error over the range
def _range(case: Case) -> Iterator[Lines]:
    if len(case.precisions()) < 2:  # float64 is the truth; an operation only in float64 or only in float32 has none
        return
    exact = [mode for mode in _modes(case) if len(case.precisions(mode)) == 2]
    curves = [
        _curve("value", FACTORS, lambda factor: _ulp_of_value(case, factor)),
        *[_curve(NAMES[mode], FACTORS, partial(_ulp_of_rule, case, mode)) for mode in exact],
    ]
    yield Lines(
        "Error over the input range",
        f"The largest error in units in the last place of {case.native.label}, against float64 at the same operands, "
        "when all operands are scaled by a factor. Peaks are where the implementation or a rule cancels or overflows.",
        case.label,
        "factor on the operands of the example",
        "error in ulp",
        tuple(curves),
    )


def _scaled(case: Case, factor: float) -> tuple[list[Any], list[Any]]:
    """The operands scaled by a power of two, and the same numbers in double precision."""
    native, double = list(case.point.leaves), list(case.truth.point.leaves)
    for i in case.point.differentiable:
        native[i] = case.point.leaves[i] * factor
        with case.truth.in_effect():
            double[i] = doubled(native[i])
    return native, double


def _ulp_of_value(case: Case, factor: float) -> float:
    native, double = case.precisions()
    return _ulp(case, factor, lambda view, leaves: [view.value(leaves)[i] for i in view.outputs], native, double)


def _ulp_of_rule(case: Case, mode: str, factor: float) -> float:
    native, double = case.precisions(mode)
    wrt = case.wrt(mode)

    def evaluate(view: Precision, leaves: Sequence[Any]) -> list[Array]:
        if mode == "jvp":
            return view.jvp({i: case.relative(i) for i in wrt}, leaves).tangent
        return list(view.vjp(case.cotangents(0), wrt, leaves).cotangent.values())

    return _ulp(case, factor, evaluate, native, double)


def _ulp(
    case: Case,
    factor: float,
    evaluate: Callable[[Precision, Sequence[Any]], Sequence[Array]],
    native: Precision,
    double: Precision,
) -> float:
    """The largest error of finite, normal numbers in units in the last place; NaN if there are none."""
    rounded, exact = _scaled(case, factor)
    try:
        pairs = list(zip(evaluate(native, rounded), evaluate(double, exact), strict=True))
    except Exception:  # noqa: BLE001 - a host function may raise anything outside its domain
        return float("nan")
    errors = [np.nan]
    for got, truth in pairs:
        use = np.isfinite(got) & np.isfinite(truth) & (np.abs(truth) >= native.tiny)
        errors += list(np.ravel((np.abs(got - truth) / spacing(truth, native.eps, native.tiny))[use]))
    return float(np.nanmax(errors)) if len(errors) > 1 else float("nan")
