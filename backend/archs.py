"""Which GPU architectures to compile for: ``TORCH_CUDA_ARCH_LIST``, the GPUs here, or the matrix.

The variable is torch's, and so is its syntax: compute capabilities or names of architectures,
between `;` or spaces, ``+PTX`` after those that get PTX too, or ``native``. ``All`` is the list of
ci/matrix.toml, which a release has.
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
# As torch.utils.cpp_extension reads them, from the oldest that these kernels run on.
NAMES = {
    "Volta": "7.0+PTX",
    "Turing": "7.5+PTX",
    "Ampere": "8.0;8.6+PTX",
    "Ada": "8.9+PTX",
    "Hopper": "9.0+PTX",
    "Blackwell": "10.0;10.3;12.0;12.1+PTX",
}
# What an error lists, as far as the compiler at hand knows them.
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
    """An architecture that is none, or that this toolkit cannot compile for."""


@dataclass(frozen=True)
class Archs:
    """Compute capabilities (``9.0a``) that get a cubin, those that get PTX, and why these."""

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
    """The architectures that `environ` asks for; without a word those of `gpus`, else of `cuda`.

    gpus: the compute capabilities of the machine's GPUs.
    processor: whose wheels' list of `cuda` it is.
    Raises ArchError for words that are none of torch's, and for what `compiler` cannot compile if
    it was asked for; from the matrix's list that is left out, and `reason` says so.
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
            here, doubt = [], f"; {error.what}"  # a help, and no reason not to build
        if here:
            return _native(here, cuda.archs(processor), compiler)
        if wanted:
            raise ArchError(
                f"{VARIABLE} is {wanted}, and there is no GPU here",
                means="asked the CUDA driver (libcuda.so.1) for its GPUs and got none",
                do=f"name what to build for, as in {VARIABLE}='8.0;9.0+PTX', or unset it",
            )
    return _of_matrix(cuda, processor, compiler, doubt)


def asked(environ: Mapping[str, str], gpus: Callable[[], Sequence[str]]) -> List[str]:
    """The compute capabilities that `choose` will take; none where that is the matrix's list.

    Without a word on what is wrong with them: that is `choose`'s.
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
    """The compute capabilities of the GPUs that the driver shows this process; none without one."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return []  # no driver, so nothing to build for here
    count, value = ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return []  # a driver without a GPU, as in a container that was given none
    found = []
    for device in range(count.value):
        numbers = []
        for attribute in (MAJOR, MINOR):
            status = driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
            if status:
                raise ArchError(
                    f"the CUDA driver cannot say what GPU {device} is (error {status})",
                    do=f"name what to build for, as in {VARIABLE}='8.0;9.0+PTX'",
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
                f"{VARIABLE} is {wanted!r}, and {word!r} in it is no architecture",
                means="it lists compute capabilities, as torch's own builds read it",
                do=f"use words like 8.0, 9.0a, 9.0+PTX, {', '.join(NAMES)}; or native, or All",
            )
        arch = found[1]
        if numbers(arch) < OLDEST:
            too_old.append(arch)
            continue
        if not compiler.can_compile(f"sm_{arch_digits(arch)}"):
            raise _cannot(f"{VARIABLE} asks for {arch}", compiler)
        cubins.append(arch)
        if found[2]:
            ptx.append(arch)
    if not cubins:
        raise ArchError(
            f"{VARIABLE} asks for {' '.join(too_old) or 'nothing'}",
            means="the kernels run on compute capability 7.0 and up",
            do=f"name a newer one, as in {VARIABLE}='8.0;9.0+PTX', or unset it",
        )
    # NVIDIA's containers set the variable to all that their torch runs on.
    without = f"; without {' '.join(too_old)}, on which the kernels do not run" if too_old else ""
    return Archs(_unique(cubins), _unique(ptx), VARIABLE + without)


def _native(here: Sequence[str], listed: Sequence[str], compiler: Compiler) -> Archs:
    """For each GPU its own architecture (9.0a before 9.0), or the newest PTX that it can run."""
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
    """What a release has."""
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
        do=f"name one of those in {VARIABLE}, or take another toolkit: {CHECK}, set CUDA_HOME; "
        f"or {WITHOUT}",
    )


def _unique(archs: Sequence[str]) -> Tuple[str, ...]:
    return tuple(sorted(set(archs), key=lambda arch: (numbers(arch), arch)))
