"""Chooses GPU architectures: from ``TORCH_CUDA_ARCH_LIST``, this machine's GPUs, or the matrix.

The variable and its syntax are torch's: compute capabilities or names of architectures, separated
by `;` or spaces, with ``+PTX`` to add PTX, or ``native``. ``All`` is the list of ci/matrix.toml, as
in a release.
"""

import ctypes
import re
from dataclasses import dataclass
from typing import Callable, List, Mapping, Sequence, Tuple

from backend.device_compiler import CHECK, WITHOUT, Compiler
from ci.errors import CiError
from ci.matrix import Cuda, numbers
from ci.native import arch_digits

VARIABLE = "TORCH_CUDA_ARCH_LIST"
OLDEST = (7, 0)
# As in torch.utils.cpp_extension, from the oldest that these kernels support.
NAMES = {
    "Volta": "7.0+PTX",
    "Turing": "7.5+PTX",
    "Ampere": "8.0;8.6+PTX",
    "Ada": "8.9+PTX",
    "Hopper": "9.0+PTX",
    "Blackwell": "10.0;10.3;12.0;12.1+PTX",
}
# Listed in errors, if the compiler knows them.
KNOWN = (
    "7.0",
    "7.2",
    "7.5",
    "8.0",
    "8.6",
    "8.7",
    "8.9",
    "9.0",
    "9.0a",
    "10.0",
    "10.3",
    "11.0",
    "12.0",
)
MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


class ArchError(CiError):
    """An invalid architecture, or one that this toolkit cannot compile for."""


@dataclass(frozen=True)
class Archs:
    """Compute capabilities (``9.0a``) with a cubin, those with PTX, and the reason for them."""

    cubins: Tuple[str, ...]
    ptx: Tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        words = [*self.cubins, *(f"{arch}+PTX" for arch in self.ptx)]
        return f"{' '.join(words)} ({self.reason})"


def choose(
    environ: Mapping[str, str],
    cuda: Cuda,
    compiler: Compiler,
    gpus: Callable[[], Sequence[str]],
    processor: str = "x86_64",
) -> Archs:
    """The architectures in `environ`; by default those of `gpus`, or else of `cuda`.

    gpus: the compute capabilities of the machine's GPUs.
    processor: selects the list of `cuda`, which depends on the platform.
    Raises ArchError for an invalid word, and for a requested architecture that `compiler` does not
    support; such architectures of the matrix are left out, and `reason` says so.
    """
    wanted = environ.get(VARIABLE, "").strip()
    if wanted and wanted.lower() not in ("native", "all"):
        return _listed(wanted, compiler)
    doubt = ""
    if wanted.lower() != "all":
        try:
            here = sorted(set(gpus()), key=numbers)
        except ArchError as error:
            if wanted:
                raise
            here, doubt = [], f"; {error.what}"  # not requested, so no reason to fail
        if here:
            return _native(here, cuda.archs(processor), compiler)
        if wanted:
            raise ArchError(
                f"{VARIABLE} is {wanted}, but no GPU was found",
                means="the CUDA driver (libcuda.so.1) is missing, or reports no GPU",
                do=f"name what to build for, as in {VARIABLE}='8.0;9.0+PTX', or unset it",
            )
    return _of_matrix(cuda, processor, compiler, doubt)


def asked(environ: Mapping[str, str], gpus: Callable[[], Sequence[str]]) -> List[str]:
    """The compute capabilities that `choose` will use; empty if it uses the matrix's list.

    Errors in them are left to `choose`.
    """
    wanted = environ.get(VARIABLE, "").strip()
    if wanted.lower() == "all":
        return []
    if wanted and wanted.lower() != "native":
        words = [word for name in re.split(r"[;\s]+", wanted) for word in [NAMES.get(name, name)]]
        return re.findall(r"\d+\.\d[a-f]?", ";".join(words))
    try:
        return list(gpus())
    except ArchError:
        return []


def gpus_here() -> List[str]:
    """The compute capabilities of the GPUs that this process can see; empty without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return []  # no driver, so no GPU
    count, value = ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return []  # a driver without a visible GPU, as in some containers
    found = []
    for device in range(count.value):
        numbers = []
        for attribute in (MAJOR, MINOR):
            status = driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
            if status:
                raise ArchError(
                    f"the CUDA driver cannot query GPU {device} (error {status})",
                    do=f"list the architectures, as in {VARIABLE}='8.0;9.0+PTX'",
                )
            numbers.append(str(value.value))
        found.append(".".join(numbers))
    return found


def _listed(wanted: str, compiler: Compiler) -> Archs:
    cubins, ptx, too_old = [], [], []
    named = re.split(r"[;\s]+", wanted.strip("; "))
    for word in filter(None, (part for name in named for part in NAMES.get(name, name).split(";"))):
        found = re.fullmatch(r"(\d+\.\d[a-f]?)(\+PTX)?", word)
        if found is None:
            raise ArchError(
                f"{VARIABLE} is {wanted!r}, in which {word!r} is not an architecture",
                means="it is a list of compute capabilities, with the syntax of torch's builds",
                do=f"use words like 8.0, 9.0a, 9.0+PTX, {', '.join(NAMES)}; or native, or All",
            )
        arch = found[1]
        if numbers(arch) < OLDEST:
            too_old.append(arch)
            continue
        if not compiler.can_compile(f"sm_{arch_digits(arch)}"):
            raise _cannot(f"{VARIABLE} has {arch}", compiler)
        cubins.append(arch)
        if found[2]:
            ptx.append(arch)
    if not cubins:
        raise ArchError(
            f"{VARIABLE} has {' '.join(too_old) or 'no architecture'}",
            means="the kernels run on compute capability 7.0 and up",
            do=f"add a newer one, as in {VARIABLE}='8.0;9.0+PTX', or unset it",
        )
    # Older ones are skipped: NVIDIA's containers set the variable to everything that torch
    # supports.
    without = f"; without {' '.join(too_old)}, on which the kernels do not run" if too_old else ""
    return Archs(_unique(cubins), _unique(ptx), VARIABLE + without)


def _native(here: Sequence[str], listed: Sequence[str], compiler: Compiler) -> Archs:
    """For each GPU its own architecture (9.0a rather than 9.0), or the newest PTX it can run."""
    cubins, ptx = [], []
    for gpu in here:
        exact = [
            arch
            for arch in (f"{gpu}a", gpu)
            if compiler.can_compile(f"sm_{arch_digits(arch)}") and numbers(gpu) >= OLDEST
        ]
        if exact:
            cubins.append(exact[0])
            continue
        older = [
            arch
            for arch in sorted(listed, key=numbers)
            if arch[-1].isdecimal()
            and numbers(arch) <= numbers(gpu)
            and compiler.can_compile(f"compute_{arch_digits(arch)}")
        ]
        if not older:
            raise _cannot(f"the GPU here is of compute capability {gpu}", compiler)
        ptx.append(older[-1])
    many = "the GPU of this machine" if len(here) == 1 else "the GPUs of this machine"
    return Archs(_unique(cubins), _unique(ptx), f"{many}; {VARIABLE} changes it")


def of_matrix(cuda: Cuda, processor: str) -> Archs:
    """The architectures of a release."""
    return Archs(cuda.archs(processor), cuda.ptx(processor), "ci/matrix.toml")


def _of_matrix(cuda: Cuda, processor: str, compiler: Compiler, doubt: str) -> Archs:
    reason = "ci/matrix.toml" + doubt
    listed, ptx = cuda.archs(processor), cuda.ptx(processor)
    able = [arch for arch in listed if compiler.can_compile(f"sm_{arch_digits(arch)}")]
    ptx = tuple(arch for arch in ptx if compiler.can_compile(f"compute_{arch_digits(arch)}"))
    missing = [arch for arch in listed if arch not in able]
    if missing:
        reason += f"; without {' '.join(missing)}, which CUDA {compiler.version} cannot compile"
    return Archs(tuple(able), ptx, reason)


def _cannot(what: str, compiler: Compiler) -> ArchError:
    able = [arch for arch in KNOWN if compiler.can_compile(f"sm_{arch_digits(arch)}")]
    return ArchError(
        f"{what}, which CUDA {compiler.version} cannot compile for",
        means=f"the compiler is {compiler.title}; it compiles for {' '.join(able) or 'nothing'}",
        do=f"use one of those in {VARIABLE}, or another toolkit: {CHECK}, set CUDA_HOME; "
        f"or {WITHOUT}",
    )


def _unique(archs: Sequence[str]) -> Tuple[str, ...]:
    return tuple(sorted(set(archs), key=lambda arch: (numbers(arch), arch)))
