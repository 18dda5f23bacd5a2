"""Build the libraries of kernels ahead, into a folder of their package, with the manifest that `ahead` reads.

Nothing is loaded, so the libraries may be for another machine. A kernel's type variables stand for every dtype that its
signature allows, or for those that are asked for.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from jaxprim._doctor import version_of
from jaxprim._errors import KernelError, message
from jaxprim.kernels import ahead, toolchain
from jaxprim.kernels.ahead import Row
from jaxprim.kernels.compile import compile_library, faster, flags
from jaxprim.kernels.compilers import compiler, run
from jaxprim.kernels.kernel import Kernel
from jaxprim.kernels.languages import Language
from jaxprim.kernels.manifest import digest
from jaxprim.kernels.signature import KernelSignature
from jaxprim.kernels.source import Source, fingerprint, stem
from jaxprim.kernels.toolchain import Machine

_MOST = 64  # sets of dtypes for one kernel; more of them are hardly meant
Types = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Variant:
    """A kernel with a dtype for each of its type variables.

    Attributes:
        kernel: the kernel.
        dtypes: what its type variables stand for.
        source: what its library is made of.
        level: what it may use of the processor, one of `toolchain.levels`.
        is_asked_for: whether it must compile. A function may not be meant for each dtype that its signature allows.
    """

    kernel: Kernel
    dtypes: Mapping[str, str]
    source: Source
    level: str
    is_asked_for: bool

    @property
    def key(self) -> str:
        """The name of its library's content."""
        return fingerprint(self.source) + self.level


@dataclass(frozen=True)
class Made:
    """What became of a variant: its row in the manifest, or why it does not compile."""

    variant: Variant
    row: Row | None
    error: KernelError | None = None


def build(
    kernels: Sequence[Kernel],
    out: Path,
    *,
    types: Types | None = None,
    machine: Machine | None = None,
    orders: int = 0,
    note: Callable[[Made], None] = lambda _: None,
) -> list[Made]:
    """Build the libraries of kernels into a folder. What the folder had for the same modules and machine is replaced.

    Args:
        kernels: the kernels.
        out: the folder.
        types: for each type variable, or ``kernel.T``, the dtypes that are wanted.
        machine: the machine that the compiler must build for; None for the one that it does.
        orders: the highest derivative that is built too, of kernels that are differentiable.
        note: is called with each that is finished.

    Raises:
        KernelError: a kernel does not compile, for any dtype or for one that was asked for.
    """
    variants = list(_variants(kernels, types or {}, machine, orders))
    for language in dict.fromkeys(variant.source.language for variant in variants):
        _check_machine(language, machine)
    out.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=out, prefix=".build-"))
    try:
        made = _compile_all(variants, out, work, machine, note)
        for kernel in kernels:
            _refuse_failed([row for row in made if row.variant.kernel is kernel])
        _publish([row.row for row in made if row.row is not None], out, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return made


def machine_of(made: Sequence[Made]) -> Machine | None:
    """The machine that libraries were built for."""
    return next((toolchain.machine_of(row.row.platform) for row in made if row.row is not None), None)


# ------------------------------------------------------------------------------------------------------------- variants
def _variants(kernels: Sequence[Kernel], types: Types, machine: Machine | None, orders: int) -> Iterator[Variant]:
    for kernel in kernels:
        if kernel.source is None:
            continue
        choices = {name: _dtypes(kernel, name, types) for name in kernel.signature.variables}
        is_asked_for = not choices or any(_asked(kernel, name, types) is not None for name in choices)
        if kernel.own_handler:  # one library for all of them
            choices = {}
        sets = [dict(zip(choices, found, strict=True)) for found in itertools.product(*choices.values())]
        if len(sets) > _MOST:
            raise _too_many(kernel, len(sets))
        for dtypes in sets:
            for made in _sources(kernel, kernel.signature.resolve(dtypes), orders):
                source = replace(made, dtypes=tuple(dtypes.items()))
                for level in _levels(source, machine):
                    yield Variant(kernel, dtypes, source, level, is_asked_for)


def _sources(kernel: Kernel, signature: KernelSignature, orders: int) -> Iterator[Source]:
    """The sources of a kernel and of its derivatives."""
    for each, own in kernel.with_orders(signature, orders if kernel.derivatives is not None else 0):
        if each.source is not None:
            yield each.source(own)


def _levels(source: Source, machine: Machine | None) -> Sequence[str]:
    """What the libraries of a source may use of the processor: `native` means nothing where users have another one."""
    if source.processor != "native":
        return ("",)
    return toolchain.levels(machine or toolchain.target(compiler(source.language), source.language))


def _asked(kernel: Kernel, variable: str, types: Types) -> Sequence[str] | None:
    return types.get(f"{kernel.name}.{variable}", types.get(variable))


def _dtypes(kernel: Kernel, variable: str, types: Types) -> Sequence[str]:
    """The dtypes for a type variable: those that are asked for, or all that the signature allows."""
    covered, wanted = kernel.signature.covers(variable), _asked(kernel, variable, types)
    wrong = [name for name in wanted or () if name not in covered]
    if wrong:
        raise KernelError(
            message(
                f"{kernel.name}: its type variable {variable} can't be {wrong[0]}.",
                got=f"{variable}={','.join(wanted or ())}",
                expected=f"some of {' '.join(covered)}",
                defined=kernel.origin,
            )
        )
    return covered if wanted is None else wanted


def _too_many(kernel: Kernel, count: int) -> KernelError:
    first = kernel.signature.variables[0]
    return KernelError(
        message(
            f"{kernel.name}: its signature allows {count} sets of dtypes.",
            got=str(kernel.signature),
            expected=f"at most {_MOST}",
            defined=kernel.origin,
            write=f"--type {first}=f32,f64",
        )
    )


def _check_machine(language: Language, wanted: Machine | None) -> None:
    words = compiler(language)
    found = toolchain.target(words, language)
    if wanted is None or found == wanted or language.device is not None:  # nvcc does not say what it builds for
        return
    raise KernelError(
        message(
            f"the compiler does not build for {wanted}.",
            got=f"{Path(words[0]).name}, which builds for {found}",
            expected=f"a compiler for {wanted}, in {language.variable}",
            write=f"{language.variable}={wanted.processor}-linux-gnu-{language.compilers[0]}"
            if wanted.system == "linux"
            else None,
        )
    )


# -------------------------------------------------------------------------------------------------------------- compile
def _compile_all(
    variants: Sequence[Variant], out: Path, work: Path, machine: Machine | None, note: Callable[[Made], None]
) -> list[Made]:
    """Compile each source once. Kernels of the same source share its library."""
    first = {variant.key: variant for variant in reversed(variants)}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        tasks = {name: pool.submit(_compile, variant, name, out, work, machine) for name, variant in first.items()}
        found: list[Made] = []
        for variant in variants:
            row, error = tasks[variant.key].result()
            module = _relative(Path(variant.kernel.file), out)
            found.append(Made(variant, row and replace(row, name=variant.source.name, modules=(module,)), error))
            note(found[-1])
    return found


def _compile(
    variant: Variant, name: str, out: Path, work: Path, machine: Machine | None
) -> tuple[Row | None, KernelError | None]:
    # The name of the whole, `native` included, is in the row: it is what the kernel is asked for.
    source, folder = replace(variant.source, processor=variant.level), work / name
    folder.mkdir()
    words = compiler(source.language)
    target = machine or toolchain.target(words, source.language)
    try:
        library, content, manifest = compile_library(source, folder)
    except KernelError as error:
        return None, error
    types = "".join(f"-{word}" for word in (*variant.dtypes.values(), variant.level) if word)
    made = work / f"{stem(source.name)}{types}-{content[:12]}{library.suffix}"
    library.rename(made)
    row = Row(
        source.name,
        source.signature,
        dict(variant.dtypes),
        source.language.name,
        fingerprint(variant.source),
        source.api,
        str(target),
        _cpu(words, source, target),
        made.name,
        content,
        _files_in_package(manifest.files, out),
        flags=[*faster(source, words), *source.flags],
    )
    return row, None


def _files_in_package(files: Mapping[str, object], out: Path) -> dict[str, str]:
    """The files of the package that a library was made from, as seen from the folder.

    Others are not where the library is used, or are other ones there.
    """
    package = out.resolve().parent
    inside = [path for path in files if package in Path(path).resolve().parents]
    return {_relative(Path(path), out): digest(path) for path in inside}


def _relative(path: Path, out: Path) -> str:
    return Path(os.path.relpath(path.resolve(), out.resolve())).as_posix()


# What compilers define for what they may use, by the name that Linux has for it. What every processor of a kind has is
# left out.
_FEATURES = {
    "SSE3": "pni", "SSSE3": "ssse3", "SSE4_1": "sse4_1", "SSE4_2": "sse4_2", "POPCNT": "popcnt", "AVX": "avx",
    "AVX2": "avx2", "FMA": "fma", "F16C": "f16c", "BMI": "bmi1", "BMI2": "bmi2", "LZCNT": "abm", "MOVBE": "movbe",
    "AVX512F": "avx512f", "AVX512CD": "avx512cd", "AVX512VL": "avx512vl", "AVX512BW": "avx512bw", "AVX512DQ": "avx512dq",
    "AVX512VNNI": "avx512_vnni", "AVX512BF16": "avx512_bf16", "AVX512FP16": "avx512_fp16", "AVXVNNI": "avx_vnni",
    "ARM_FEATURE_SVE": "sve", "ARM_FEATURE_SVE2": "sve2", "ARM_FEATURE_DOTPROD": "asimddp",
    "ARM_FEATURE_ATOMICS": "atomics", "ARM_FEATURE_FP16_VECTOR_ARITHMETIC": "asimdhp", "ARM_FEATURE_BF16": "bf16",
    "ARM_FEATURE_MATMUL_INT8": "i8mm",
}  # fmt: skip


def _cpu(words: Sequence[str], source: Source, machine: Machine) -> list[str]:
    """What the options let the compiler use of the processor, beyond what every processor of its kind has."""
    options = [flag for flag in (*words[1:], *flags(source, words)) if flag.startswith("-m")]
    if not options or machine.system != "linux" or source.language.device is not None:
        return []
    defined = run([*words, *options, "-dM", "-E", "-x", source.language.name.lower(), os.devnull]).stdout.split()
    return [shown for name, shown in _FEATURES.items() if f"__{name}__" in defined or f"__{name}" in defined]


# -------------------------------------------------------------------------------------------------------------- publish
def _refuse_failed(made: Sequence[Made]) -> None:
    """Raise what the compiler said, unless a kernel compiled for some dtypes and was not asked for the others."""
    failed = [row for row in made if row.error is not None]
    if failed and (len(failed) == len(made) or any(row.variant.is_asked_for for row in failed)):
        raise failed[0].error or KernelError()


def _publish(rows: Sequence[Row], out: Path, work: Path) -> None:
    """Move the libraries into the folder, and then write the manifest, in one step."""
    for row in rows:
        if (work / row.library).exists():
            (work / row.library).replace(out / row.library)
    before = ahead.read_rows(out) or []
    found = _merged([*rows, *_of_others(before, rows)])
    text = ahead.to_json(
        sorted(found, key=lambda row: (row.name, row.signature, row.platform, -len(row.cpu))), version_of("jaxprim")
    )
    (work / ahead.MANIFEST).write_text(text, encoding="utf-8")
    (work / ahead.MANIFEST).replace(out / ahead.MANIFEST)
    used = {row.library for row in found}
    for row in before:
        if row.library not in used:
            (out / row.library).unlink(missing_ok=True)


def _of_others(before: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    """What the folder had for other modules or machines. A module's kernels may have changed, so all its rows go."""
    modules, machines = {module for row in rows for module in row.modules}, {row.platform for row in rows}
    rest = [
        replace(row, modules=tuple(sorted({*row.modules} - modules))) if row.platform in machines else row
        for row in before
    ]
    return [row for row in rest if row.modules]


def _merged(rows: Sequence[Row]) -> list[Row]:
    """One row for each library, the first one, with all modules that need it."""
    found: dict[tuple[str, ...], Row] = {}
    for row in rows:
        name = (row.name, row.source, row.platform, *row.cpu)
        known = found.setdefault(name, row)
        found[name] = replace(known, modules=tuple(sorted({*known.modules, *row.modules})))
    return list(found.values())
