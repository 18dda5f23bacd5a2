"""`cpp` and `cuda`: C++ and CUDA C++ as kernels."""

from __future__ import annotations

import linecache
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import jax

from jaxprim import _jax, _origin
from jaxprim._errors import KernelError, message
from jaxprim.kernels import ahead, build, keeping, parameters, templates
from jaxprim.kernels.aliases import shared
from jaxprim.kernels.arguments import refuse_left_out
from jaxprim.kernels.derivatives import Derivatives
from jaxprim.kernels.derived_handler import write_derived_handler
from jaxprim.kernels.handler import SYMBOL, Function, contract, given, literal, prototype, write_handler
from jaxprim.kernels.instantiation import Instantiation
from jaxprim.kernels.kernel import Kernel, Target
from jaxprim.kernels.languages import CPP, CUDA, Language
from jaxprim.kernels.options import (
    ORDERS,
    SIZES,
    has_status,
    meanings_of,
    one_of,
    refuse_ignored,
    refuse_lost_status,
    text_of,
    threads_of,
    truth_of,
    words_of,
)
from jaxprim.kernels.signature import KernelSignature, parse
from jaxprim.kernels.source import LINE, Source, read, target_name

Sources = str | Path | Sequence[str | Path]


@_jax.boundary
def cpp(
    source: Sources,
    signature: str,
    *,
    handler: str | None = None,
    function: str | None = None,
    arguments: str | None = None,
    sizes: str = "i64",
    status: Mapping[int, str] | None = None,
    threads: int | None = 1,
    order: str = "C",
    flags: Sequence[str] = (),
    include: Sequence[str | Path] = (),
    libraries: Sequence[str] = (),
    fast_math: bool = False,
    native: bool = False,
    aliases: Mapping[str, str] | None = None,
    keep: str | Sequence[str] | None = None,
    most: int = 16,
    differentiable: bool | str = False,
) -> Kernel:
    """C++ as a kernel for CPUs. It is compiled on first use, and the result is cached on disk.

    The source has a plain function. It takes pointers to its operands, then its attributes, then its sizes, then pointers
    to its results. It returns nothing, or an integer that is 0 on success. An exception that it throws is raised in
    Python.

    Args:
        source: C++, or paths of files, of which the first has the function.
        signature: ``"rms_norm(x: f32[n, d], w: f32[d]; eps: f32) -> f32[n, d]"``, with the function's name. The
            name may be left out if the source has only one ``extern "C"`` function. See `jaxprim.kernels.signature`.
        handler: the symbol of a handler for XLA's FFI, if the source defines its own. XLA calls it with an operand for
            each of the signature: one with `...` has all batch axes, and one without has none. The options that say how
            to call a function have no meaning for it.
        function: the function's name, if the signature does not have it.
        arguments: the order of the function's arguments; see `jaxprim.kernels.arguments`.
        sizes: the dtype of sizes that are passed by pointer, ``"i64"`` or ``"i32"``.
        status: the meanings of integers that the function returns, such as ``{1: "the matrix is singular"}``.
        threads: the number of threads that share the batch axes; None for all of XLA's.
        order: ``"F"`` for arrays in Fortran order.
        flags: more options for the compiler.
        include: more folders with headers.
        libraries: what to link with: a name such as ``"fftw3"``, or a path.
        fast_math: whether the compiler may change the order of arithmetic and round otherwise, as ``-ffast-math`` says.
            Loops over numbers then use vectors, also ``std::exp`` and ``std::log`` with g++ on Linux. The source must
            not rely on NaN or infinity: tests such as ``std::isnan`` are taken to be false.
        native: whether the library may use all that this machine's processor has. A package that is built ahead gets a
            library for every processor, and one for newer ones.
        aliases: for the name of a result, that of the operand in whose memory it is: ``{"y": "x"}`` for a function that
            works in place. It gets y alone, which holds the values of x when it starts.
        keep: ``"Factors(a)"`` for a class of the source that is expensive to make. An object of it is made from the
            operands, attributes and sizes named, and kept for calls with the same. The function gets it first, by
            reference, and then what the class does not get. Several, as in ``("Symbolic(ap)", "Factors(Symbolic, ax)")``,
            are made from one another. See `Kernel.kept` and `Kernel.forget`.
        most: how many objects are kept that no call uses now.
        differentiable: whether JAX may differentiate it: the function is a template of its number type, and is compiled
            again with numbers that carry derivatives, when a derivative is first used. ``"tangents"`` or ``"tape"``
            says how reverse mode is computed, which True chooses by the size of an element.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxprim import kernels
        >>> cumsum = kernels.cpp('''
        ... void cumsum(const float* x, int64_t n, float* out) {
        ...   float sum = 0;
        ...   for (int64_t i = 0; i < n; ++i) out[i] = sum += x[i];
        ... }
        ... ''', "cumsum(x: f32[..., n]) -> f32[..., n]")
        >>> cumsum(jnp.array([1.0, 2.0, 3.0], jnp.float32)).tolist()
        [1.0, 3.0, 6.0]
    """
    if handler is not None:
        refuse_ignored(
            handler, function=function, arguments=arguments, sizes=sizes, status=status, threads=threads, keep=keep
        )
    templates.refuse_without_source(differentiable, handler=handler, keep=keep)
    options = Options(
        CPP, handler, arguments, sizes, status, threads, order, flags, include, libraries, fast_math, native, keep, most,
        differentiable,
    )  # fmt: skip
    return _kernel(source, shared(parse(signature), aliases), signature, function, options)


@_jax.boundary
def cuda(
    source: Sources,
    signature: str,
    *,
    handler: str | None = None,
    function: str | None = None,
    arguments: str | None = None,
    sizes: str = "i64",
    status: Mapping[int, str] | None = None,
    order: str = "C",
    flags: Sequence[str] = (),
    include: Sequence[str | Path] = (),
    libraries: Sequence[str] = (),
    aliases: Mapping[str, str] | None = None,
    keep: str | Sequence[str] | None = None,
    most: int = 16,
) -> Kernel:
    """CUDA C++ as a kernel for NVIDIA GPUs. nvcc compiles it on first use, and the result is cached on disk.

    The function runs on the host. It takes pointers to memory of the device, the other arguments as for `cpp`, and last
    the ``cudaStream_t`` on which it must launch. A failed launch raises an exception in Python.

    A class in ``keep=`` is made from attributes and sizes: plans, and not factors. Each stream has its own.
    """
    if handler is not None:
        refuse_ignored(handler, function=function, arguments=arguments, sizes=sizes, status=status, keep=keep)
    options = Options(
        CUDA, handler, arguments, sizes, status, 1, order, flags, include, libraries, keep=keep, most=most
    )
    return _kernel(source, shared(parse(signature), aliases), signature, function, options)


class Options:
    """How a source becomes a kernel."""

    def __init__(
        self,
        language: Language,
        handler: str | None,
        arguments: str | None,
        sizes: str,
        status: Mapping[int, str] | None,
        threads: int | None,
        order: str,
        flags: Sequence[str],
        include: Sequence[str | Path],
        libraries: Sequence[str],
        fast_math: bool = False,
        native: bool = False,
        keep: str | Sequence[str] | None = None,
        most: int = 16,
        differentiable: bool | str = False,
    ) -> None:
        self.language, self.handler, self.arguments = language, text_of("handler", handler), arguments
        self.sizes, self.order = one_of("sizes", sizes, SIZES), one_of("order", order, ORDERS)
        self.meanings = meanings_of(status if status is not None else {})
        self.threads = threads_of(threads)
        self.flags, self.libraries = words_of("flags", flags), words_of("libraries", libraries)
        self.fast_math, self.native = truth_of("fast_math", fast_math), truth_of("native", native)
        self.keep, self.most, self.differentiable = keep, keeping.most_of(most, keep), differentiable
        self.include = tuple(Path(folder).absolute() for folder in words_of("include", include))

    def for_build(self, main: str, place: str, files: tuple[Path, ...]) -> dict[str, Any]:
        """The arguments of a `Source` that are the same for every signature."""
        return {
            "language": self.language,
            "flags": self.flags,
            "fast_math": self.fast_math,
            "processor": "native" if self.native else "",
            "include": self.include,
            "libraries": tuple(str(Path(name).absolute()) if "/" in name else name for name in self.libraries),
            "main": _included(main),
            "files": files,
            "place": place,
            "beside": ahead.folders(),
        }


def _kernel(source: Sources, found: KernelSignature, signature: str, function: str | None, options: Options) -> Kernel:
    main, place, files = _texts(source)
    if options.handler is not None:
        return _with_handler(main, place, files, found, options)
    name = text_of("function", function) or found.function or _only_function(main)
    _refuse_values_on_device(found, options)
    call = _call(name, found, options)
    typed = lambda resolved: replace(call, kept=keeping.resolved(call.kept, found, resolved))
    example = found.resolve(dict.fromkeys(found.variables, "f32"))
    write_handler(example, typed(example))  # refuses a wrong signature at once
    refuse_left_out(found, options.arguments, keeping.names(call.kept))
    refuse_lost_status(found, status=options.meanings and not has_status(options.arguments))
    defined = list(chain.from_iterable(parameters.definitions(text, name) for text in _all_text(main, files)))
    _refuse_other_parameters(name, found, given(example, typed(example)), defined, f"{signature} {options.arguments}")

    headers = _includes("jaxprim_kernel.h", *["jaxprim_kept.h"] * bool(call.kept), *options.language.headers)
    rest = options.for_build(main, place, files)
    derivatives = _derivatives(found, main, files, call, rest, options) if options.differentiable else None

    def made(resolved: KernelSignature) -> Source:
        return Source(
            name,
            headers + main,
            signature=str(resolved),
            prototype=prototype(resolved, typed(resolved)),
            handler=write_handler(resolved, typed(resolved)),
            contract=contract(resolved, typed(resolved)),
            exports=(SYMBOL, *[keeping.COUNTS, keeping.FORGET] * bool(call.kept)),
            **rest,
        )

    caches = keeping.Caches(call.kept) if call.kept else None

    def load(resolved: KernelSignature) -> Target:
        return _register(made(resolved), SYMBOL, caches)

    return Kernel(
        name, found, load, source=made, platform=options.language.platform, order=options.order, caches=caches,
        derivatives=derivatives,
    )  # fmt: skip


def _refuse_other_parameters(name: str, found: KernelSignature, passed: Any, defined: Any, signature: str) -> None:
    """Refuse a source whose parameters have another order than what is passed, or take too small numbers."""
    names = [[parameter.name for parameter in each] for each in defined]
    parameters.refuse_another_order(name, [word for word, _ in passed], names, signature, found.in_place)
    if not found.variables:
        parameters.refuse_cut_numbers(name, passed, defined)


def _includes(*headers: str) -> str:
    return "".join(f"#include <{header}>\n" for header in headers)


def _derivatives(
    signature: KernelSignature,
    main: str,
    files: tuple[Path, ...],
    call: Function,
    rest: dict[str, Any],
    options: Options,
) -> Derivatives:
    """The derivatives of a function that is a template, or why it has none."""
    tape, name = templates.by_tape(signature, options.differentiable), call.name
    plain, defined = prototype(signature.resolve(dict.fromkeys(signature.variables, "f32")), call), _origin.place()
    templates.refuse_signature(name, signature)
    declared = templates.refuse_source(name, _all_text(main, files), plain, rest["place"])
    headers = _includes("jaxprim_jets.h", *options.language.headers)

    def source(made: Instantiation) -> Source:
        said = repr((made.is_pullback, made.order, made.wanted, made.by_tape, made.lanes))
        return Source(
            made.name,
            headers + main,
            signature=str(made.derived),
            prototype=plain,
            handler=write_derived_handler(made, call),
            contract=(*contract(made.signature, call), said),
            exports=(SYMBOL,),
            **rest,
        )

    def load(made: Instantiation, source: Source) -> Target:
        try:
            return _register(source, SYMBOL)
        except KernelError as error:
            raise templates.explained(name, made.degree, source.language, error, declared, defined) from None

    refuse = lambda resolved: templates.refuse_signature(name, resolved, defined)
    return Derivatives(tape, templates.means(signature, tape), source, load, refuse)


def _call(name: str, signature: KernelSignature, options: Options) -> Function:
    """How the author's function is called."""
    kept = keeping.set_ups(signature, options.keep, options.language)
    left = ", ".join(keeping.left_over(signature, kept)) if kept else None
    return Function(
        name,
        options.language,
        arguments=left if options.arguments is None else options.arguments,
        size=options.sizes,
        meanings=options.meanings,
        threads=options.threads,
        kept=kept,
        most=options.most if kept else 0,
    )


def _with_handler(
    main: str, place: str, files: tuple[Path, ...], signature: KernelSignature, options: Options
) -> Kernel:
    symbol = options.handler or ""
    name = signature.function or symbol
    # The author's macro does not say that its symbol is visible, which -fvisibility=hidden makes necessary.
    shown = f'#include "jaxprim_kernel.h"\nJAXPRIM_EXPORT XLA_FFI_Error* {symbol}(XLA_FFI_CallFrame*);\n{main}'
    rest = options.for_build(main, place, files)
    # One library for all types: the handler reads them itself.
    made = Source(name, shown, signature=str(signature), contract=(symbol,), exports=(symbol,), **rest)
    return Kernel(
        name,
        signature,
        lambda _: _register(made, symbol),
        source=lambda _: made,
        platform=options.language.platform,
        order=options.order,
        own_handler=True,
    )


def _register(source: Source, symbol: str, caches: keeping.Caches | None = None) -> Target:
    library, key = build.library(source)
    if caches is not None:
        caches.add(key, library)
    return register(library, symbol, target_name(source.name, key), source.language)


_registered: set[str] = set()
_registering = threading.Lock()


def register(library: Any, symbol: str, target: str, language: Language) -> Target:
    """Register a handler with XLA, once for each name."""
    with _registering:
        if target not in _registered:
            try:
                address = getattr(library, symbol)
            except AttributeError:
                raise KernelError(
                    message(
                        f"the library has no symbol '{symbol}'.",
                        expected=f"a handler: XLA_FFI_DEFINE_HANDLER_SYMBOL({symbol}, ...)",
                    )
                ) from None
            jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(address), platform=language.xla_platform)
            _registered.add(target)
    return Target(target)


# ---------------------------------------------------------------------------------------------------------- sources
def _texts(source: Sources) -> tuple[str, str, tuple[Path, ...]]:
    """The text to compile, its file and line as `#line` wants them, and the other files."""
    if isinstance(source, str) and not re.fullmatch(r"[^\n{};]+\.\w+", source):
        source = source.removeprefix("\ufeff")
        return f"{LINE}\n{source}", _line_of(source), ()
    first, *more = [source] if isinstance(source, str | Path) else list(source)
    paths = [Path(file).absolute() for file in (first, *more)]
    for path in paths:
        read(path)  # refuses a missing file at once
    return f'#include "{paths[0]}"', LINE, tuple(paths[1:])


def _line_of(source: str) -> str:
    """The line of a source that stands in a Python file, so that the compiler's messages name that file and its lines."""
    file = _origin.file()
    whole = "".join(linecache.getlines(file))
    at = whole.find(source) if source.strip() else -1
    return LINE if at < 0 else f"#line {whole.count(chr(10), 0, at) + 1} {literal(file)}"


def _all_text(main: str, files: tuple[Path, ...]) -> Iterator[str]:
    """The text of the source, or of its files."""
    included = _included(main)
    if included is None:
        yield main
    for path in ([included] if included else []) + list(files):
        yield path.read_text(encoding="utf-8", errors="replace")


def _included(main: str) -> Path | None:
    """The file that the text to compile includes, if the source is one."""
    found = re.fullmatch(r'#include "(.+)"', main)
    return None if found is None else Path(found[1])


_DEFINED = re.compile(r'extern\s+"C"\s+(?!\{)[^;{}()]*?(\w+)\s*\([^;{}]*\)\s*(?:noexcept\s*)?\{')


def _only_function(main: str) -> str:
    source = next(_all_text(main, ()))
    source = re.sub(r"//[^\n]*|/\*.*?\*/", "", source, flags=re.DOTALL)
    names = list(dict.fromkeys(_DEFINED.findall(source)))
    if len(names) == 1:
        return names[0]
    raise KernelError(
        message(
            "which function of the source is the kernel?",
            got=f'extern "C" functions {", ".join(names)}' if names else 'no extern "C" function',
            expected="its name before the signature",
            defined=_origin.place(),
            write=f'"{names[0] if names else "my_function"}(x: f32[n]) -> f32[n]"',
        )
    )


def _refuse_values_on_device(signature: KernelSignature, options: Options) -> None:
    if options.language.device is None:
        return
    for array in (*signature.operands, *signature.results):
        if array.by_value:
            raise KernelError(
                message(
                    f"a {options.language.name} kernel cannot pass '{array.name}' by value, because it is in the device's memory.",
                    got=f"{array.name}: {array}",
                    expected=f"a pointer, {array.name}: {array.dtype}[], or an attribute, after the `;`",
                    defined=_origin.place(),
                )
            )
