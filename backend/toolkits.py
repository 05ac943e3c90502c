"""Chooses the NVRTC for a source build without an nvcc.

A variant of a release may have several compilers, each for different GPUs. pip can install only one
of them in an environment: the oldest that supports every requested GPU is chosen. If the tree has
them all (``python -m ci build`` leaves them there), they compile the same code as a release.
"""

from pathlib import Path
from platform import machine
from typing import Callable, List, Mapping, Sequence, Tuple

from backend import archs
from backend.device_compiler import toolkit_folder
from backend.options import Options
from ci.matrix import Cuda, Toolkit, numbers
from ci.native import toolkit_is_in

# On other processors NVIDIA has no wheels of earlier versions.
OLDEST_ELSEWHERE = "12.8"


def requirements(
    chosen: Options, environ: Mapping[str, str], root: Path, processor: str = ""
) -> List[str]:
    """The requirements for NVRTC; empty if an nvcc is used, or nothing is built for CUDA.

    processor: as `platform.machine` names it, by default this machine's.
    """
    if chosen.cuda is None or chosen.nvcc is not None or chosen.precompiled:
        return []
    used = choose(environ, chosen.cuda, root, archs.gpus_here, processor or machine())
    return [
        pin.requirement
        for toolkit in used
        if not toolkit_is_in(toolkit_folder(toolkit, root), toolkit)
        for pin in toolkit.pins
    ]


def choose(
    environ: Mapping[str, str],
    cuda: Cuda,
    root: Path,
    gpus: Callable[[], Sequence[str]],
    processor: str,
) -> Tuple[Toolkit, ...]:
    """The toolkits that compile device code of `cuda`: one, or all of them for all its GPUs.

    gpus: the compute capabilities of the machine's GPUs.
    """
    asked = archs.asked(environ, gpus)
    every = tuple(
        toolkit
        for toolkit in cuda.toolkits
        if set(cuda.archs(processor)) & set(_listed(cuda, toolkit))
    )
    if not asked and all(toolkit_is_in(toolkit_folder(each, root), each) for each in every):
        return every
    possible = [
        toolkit
        for toolkit in every
        if processor == "x86_64" or numbers(toolkit.version) >= numbers(OLDEST_ELSEWHERE)
    ]
    newest = max(map(numbers, asked or cuda.archs(processor)))
    for toolkit in possible:
        if max(map(numbers, _listed(cuda, toolkit))) >= newest:
            return (toolkit,)
    return (possible[-1],)


def _listed(cuda: Cuda, toolkit: Toolkit) -> List[str]:
    """The architectures that a toolkit compiles in the matrix; the newest shows its age."""
    return [arch for code in cuda.code if code.toolkit == toolkit for arch in code.archs]
