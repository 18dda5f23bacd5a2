"""The command lines that make a library, by kind of compiler and by the machine that the library is for.

Libraries for Linux are built and run by the tests. The command lines for macOS and for Microsoft's compiler are written
from their manuals, and tested as command lines only.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from jaxprim._errors import KernelError, message
from jaxprim.kernels.compilers import run
from jaxprim.kernels.languages import Language

_SYSTEMS = {"linux": "linux", "darwin": "macos", "macosx": "macos", "macos": "macos", "windows": "windows",
            "win": "windows", "mingw32": "windows"}  # fmt: skip
_PROCESSORS = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}


# ------------------------------------------------------------------------------------------------------------- machines
@dataclass(frozen=True)
class Machine:
    """What a library runs on: ``linux-x86_64``, ``macos-aarch64``, ``windows-x86_64``."""

    system: str
    processor: str

    def __str__(self) -> str:
        return f"{self.system}-{self.processor}"

    @property
    def tag(self) -> str:
        """The platform in the name of a wheel, without a Python version: ``linux_x86_64``, ``macosx_11_0_arm64``."""
        if self.system == "linux":
            return f"linux_{self.processor}"
        if self.system == "windows":
            return {"x86_64": "win_amd64", "aarch64": "win_arm64"}.get(self.processor, f"win_{self.processor}")
        release = os.environ.get("MACOSX_DEPLOYMENT_TARGET") or _macos_release(self.processor)
        major, _, minor = release.partition(".")
        name = "arm64" if self.processor == "aarch64" else self.processor
        return f"macosx_{major}_{minor.partition('.')[0] or '0'}_{name}"


def _macos_release(processor: str) -> str:
    """The oldest macOS that this Python was built for; the first for a processor, on another system."""
    found = re.match(r"macosx-([\d.]+)-", sysconfig.get_platform())
    return found[1] if found else "11.0" if processor == "aarch64" else "10.13"


def machine_of(name: str) -> Machine:
    """The machine of ``linux-aarch64``, as a user writes it.

    Raises:
        KernelError: it is none.
    """
    found = re.fullmatch(r"([a-z]+)[-_](\w+)", name.strip().lower())
    if found is None or found[1] not in _SYSTEMS:
        raise KernelError(
            message(
                "unknown platform.",
                got=repr(name),
                expected="a system and a processor: linux, macos or windows, and x86_64, aarch64 or another",
                write="--platform linux-aarch64",
            )
        )
    return Machine(_SYSTEMS[found[1]], _PROCESSORS.get(found[2], found[2]))


def this_machine() -> Machine:
    """The machine of this process."""
    processor = platform.machine().lower()
    return Machine(_SYSTEMS.get(platform.system().lower(), "linux"), _PROCESSORS.get(processor, processor))


@lru_cache(maxsize=16)
def target(words: tuple[str, ...], language: Language) -> Machine:
    """The machine that a compiler makes libraries for: another than this one for a cross compiler."""
    if is_microsoft(words):
        named = os.environ.get("VSCMD_ARG_TGT_ARCH", "")
        return Machine("windows", _PROCESSORS.get(named, named) or this_machine().processor)
    if language.device is not None:  # nvcc does not say
        return this_machine()
    return _of_triple(run([*words, "-dumpmachine"]).stdout.strip()) or this_machine()


def _of_triple(triple: str) -> Machine | None:
    """The machine of ``aarch64-linux-gnu``, or of ``arm64-apple-darwin23.1.0``."""
    processor, _, rest = triple.lower().partition("-")
    system = next(
        (_SYSTEMS[word] for part in rest.split("-") if (word := re.sub(r"[\d.]+$", "", part)) in _SYSTEMS), ""
    )
    if "mingw32" in rest:
        system = "windows"
    return Machine(system, _PROCESSORS.get(processor, processor)) if system else None


# -------------------------------------------------------------------------------------------------------- command lines
@dataclass(frozen=True)
class Unit:
    """What the compiler is told to make an object of one source, however it wants to be told that."""

    source: str
    flags: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    system: tuple[str, ...] = ()
    is_c: bool = False


def is_microsoft(words: Sequence[str]) -> bool:
    """Whether a compiler is Microsoft's, or one that takes the same options."""
    return Path(words[0].replace("\\", "/")).name.lower().removesuffix(".exe") in ("cl", "clang-cl")


def fast_math(words: Sequence[str]) -> tuple[str, ...]:
    """The options with which a compiler may change the order of arithmetic, and forget NaN and infinity."""
    return ("/fp:fast",) if is_microsoft(words) else ("-ffast-math",)


def for_processor(words: Sequence[str], machine: Machine, processor: str) -> tuple[str, ...]:
    """The option for "native" or for a level; none if the compiler has none."""
    if is_microsoft(words):
        return ()
    # For Arm, -march is the architecture alone, and says nothing of the model.
    return (f"-march={processor}",) if machine.processor in ("x86_64", "i686") else (f"-mcpu={processor}",)


def levels(machine: Machine) -> tuple[str, ...]:
    """What libraries are built for where one must run on every processor of a kind, the best first. "" is that one.

    Only Linux tells what a processor has, so that a library can be chosen when it is loaded. `x86-64-v3` is AVX2 with
    fused multiply-add: Intel's since 2013, and AMD's since 2015.
    """
    return ("x86-64-v3", "") if machine == Machine("linux", "x86_64") else ("",)


def library_suffix(machine: Machine) -> str:
    return ".dll" if machine.system == "windows" else ".so"


def begin(words: Sequence[str], unit: Unit) -> list[str]:
    """The beginning of the commands for a unit. It does not yet say what to do with the source."""
    if is_microsoft(words):
        system = [part for folder in unit.system for part in ("/external:I", folder)]
        language = ["/TC"] if unit.is_c else []
        quiet = ["/external:W0"] if system else []
        return [
            *words,
            *unit.flags,
            *(f"/I{folder}" for folder in unit.include),
            *quiet,
            *system,
            *language,
            unit.source,
        ]
    system = [part for folder in unit.system for part in ("-isystem", folder)]
    language = ["-x", "c"] if unit.is_c else []
    return [*words, *unit.flags, *(f"-I{folder}" for folder in unit.include), *system, *language, unit.source]


def object_command(words: Sequence[str], unit: Unit, made: str) -> list[str]:
    """The command that compiles a unit. It does not link it: see `library_command`."""
    return [*begin(words, unit), *(["/c", f"/Fo{made}"] if is_microsoft(words) else ["-c", "-o", made])]


def headers_command(words: Sequence[str], unit: Unit, verbose: str) -> list[str]:
    """The command that says which files a unit includes; see `included`."""
    return [*begin(words, unit), *(["/Zs", "/sourceDependencies-"] if is_microsoft(words) else ["-M", verbose])]


def included(words: Sequence[str], output: str) -> str | None:
    """The files that a unit includes, in the notation of make; None if the compiler did not say."""
    if not is_microsoft(words):
        return output if output.strip() else None
    try:
        found = json.loads(output[output.index("{") :])["Data"]["Includes"]
    except (ValueError, LookupError, TypeError):
        return None
    return "unit: " + " ".join(str(path).replace(" ", "\\ ").replace("$", "$$") for path in found)


# With one of these options in linking, gcc and clang add a start-up file that turns small numbers into 0 for the whole
# thread that loads the library. In compiling, they change that source's arithmetic alone.
_CHANGES_PROCESS = frozenset({"-ffast-math", "-Ofast", "-funsafe-math-optimizations", "-mdaz-ftz"})


def library_command(
    words: Sequence[str], flags: Sequence[str], objects: Sequence[str], libraries: Sequence[str], exports: Sequence[str],
    machine: Machine, made: str,
) -> list[str]:  # fmt: skip
    """The command that links objects into the library."""
    start = [*(word for word in (*words, *flags) if word not in _CHANGES_PROCESS), *objects]
    if is_microsoft(words):
        names = [name if name.startswith("/") or name.lower().endswith(".lib") else f"{name}.lib" for name in libraries]
        shown = [f"/EXPORT:{name}" for name in exports if name != "*"]
        return [*start, f"/Fe{made}", f"/Fo{Path(made).parent}{os.sep}", "/link", *shown, *names]
    named = [name if "/" in name or name.startswith("-") else f"-l{name}" for name in libraries]
    options = _linker_options(exports, machine, Path(made).parent)
    return [*start, *named, *(part for option in options for part in ("-Xlinker", option)), "-o", made]


def _linker_options(exports: Sequence[str], machine: Machine, work: Path) -> list[str]:
    """The options for the linker: what to show to others, and to say what it reads."""
    if machine.system == "macos":
        return [*(option for name in exports for option in ("-exported_symbol", f"_{name}")), "-t"]
    if machine.system == "windows":  # MinGW: what is marked for export is shown, and nothing else
        return ["--verbose"]
    return [f"--version-script={work / 'exports'}", "--verbose"]


def version_script(exports: Sequence[str]) -> str:
    """The file that tells the linker of Linux what to show to others."""
    return f"{{ global: {' '.join(f'{name};' for name in exports)} local: *; }};\n"
