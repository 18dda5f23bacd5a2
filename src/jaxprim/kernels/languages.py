"""The languages that kernels are compiled from, one row each.

A row holds everything that differs between languages: where the kernels run, how their compiler is found and called,
and the pieces of C++ that the handler needs. Nothing else in jaxprim asks which language a kernel is written in, so a
new language is a new row, and a public function for it in `from_source`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, eq=False)
class Device:
    """What a language needs if its kernels run on a device of their own, where the host can't read the memory.

    Attributes:
        stream: the C type of the stream on which the author's function must launch. It is its last argument.
        copy: the statement that copies ``count`` numbers from ``from`` to ``to`` on ``stream``.
        check: the statement that refuses the call if a launch failed.
        all_flag: the compiler's option for code that runs on every model of the device.
        model_flags: how the options begin with which an author chooses models instead.
        place: the statement that declares ``place``, the device of the call.
        free: the statements that delete ``made`` on its device ``place``, which may still use it, and that leave the
            caller where it is.
    """

    stream: str
    copy: str
    check: str
    all_flag: str
    model_flags: tuple[str, ...]
    place: str
    free: str


@dataclass(frozen=True, eq=False)
class Language:
    """One language.

    Attributes:
        name: what messages call it.
        platform: where its kernels run, as JAX calls it.
        xla_platform: the same, as XLA's registry of handlers calls it.
        suffix: how the name of a source file ends.
        variable: the environment variable that names a compiler.
        compilers: the compilers to look for on the PATH otherwise, best first.
        flags: the compiler's options for a shared library.
        microsoft_compilers: compilers to look for after those, on Windows.
        microsoft_flags: the same options for Microsoft's compiler.
        headers: what the handler includes, beside jaxprim's own header.
        last_flags: options that come after the author's, because the handler needs them.
        verbose: the option with which the compiler says where it looks for headers.
        environment: the environment variables that change what the compiler reads.
        install: how to install a compiler, by operating system as `platform.system` names it; "" is any other.
        device: what kernels on a device of their own need; None for the CPU.
    """

    name: str
    platform: str
    xla_platform: str
    suffix: str
    variable: str
    compilers: tuple[str, ...]
    flags: tuple[str, ...]
    microsoft_compilers: tuple[str, ...] = ()
    microsoft_flags: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    last_flags: tuple[str, ...] = ()
    verbose: str = "-v"
    environment: tuple[str, ...] = (
        "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH", "LD_RUN_PATH", "GCC_EXEC_PREFIX",
        "COMPILER_PATH", "SDKROOT", "MACOSX_DEPLOYMENT_TARGET",
    )  # fmt: skip
    install: Mapping[str, str] = field(default_factory=dict[str, str])
    device: Device | None = None


CPP = Language(
    name="C++",
    platform="cpu",
    xla_platform="cpu",
    suffix=".cpp",
    variable="CXX",
    compilers=("g++", "clang++"),
    flags=("-std=c++17", "-O3", "-fPIC", "-shared"),
    microsoft_compilers=("cl", "clang-cl"),
    # The handler's header asks for the standard by __cplusplus, which /Zc makes true.
    microsoft_flags=("/nologo", "/std:c++17", "/Zc:__cplusplus", "/O2", "/EHsc", "/MD", "/LD"),
    # The handler throws. XLA's header has members with the names of their types, which g++ refuses with -pedantic, also
    # in a system's header, and no pragma can change.
    last_flags=("-fexceptions", "-Wno-pedantic"),
    install={
        "": "apt install g++, dnf install gcc-c++, or conda install -c conda-forge cxx-compiler",
        "Darwin": "xcode-select --install",
        "Windows": "the Build Tools for Visual Studio, in whose prompt cl is on the PATH (not tested); or use jaxprim in WSL",
    },
)

CUDA = Language(
    name="CUDA",
    platform="cuda",
    xla_platform="CUDA",
    suffix=".cu",
    variable="NVCC",
    compilers=("nvcc",),
    flags=("-std=c++17", "-O3", "-shared", "--compiler-options=-fPIC"),
    headers=("cuda_runtime.h",),
    verbose="--compiler-options=-v",
    environment=(*CPP.environment, "NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS", "CUDA_HOME", "CUDA_PATH"),
    install={
        "": "install the CUDA toolkit: conda install -c nvidia cuda-nvcc, or developer.nvidia.com/cuda-downloads",
    },
    device=Device(
        stream="cudaStream_t",
        copy="cudaMemcpyAsync(to, from, count * sizeof(*to), cudaMemcpyDeviceToDevice, stream);",
        check="if (const auto error = cudaGetLastError(); error != cudaSuccess) call.refuse(cudaGetErrorString(error));",
        # One library for every GPU that this nvcc knows takes longer to compile, once, than -arch=sm_90 would.
        all_flag="-arch=all-major",
        model_flags=("-arch", "--gpu-architecture", "-gencode", "--generate-code"),
        place="int place = 0; cudaGetDevice(&place);",
        free="int now = 0; cudaGetDevice(&now); cudaSetDevice(place); cudaDeviceSynchronize(); delete made; "
        "cudaSetDevice(now);",
    ),
)
