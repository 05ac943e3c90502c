"""A small wheel with real native files that passes the audit, and its commit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ci import matrix, versions
from ci.audit.contents import device_members
from ci.matrix import Cuda, Matrix
from ci.wheel import sbom
from ci.wheel.archive import Compressor, Member
from ci.wheel.build_info import BuildInfo
from ci.wheel.pack import repack
from tests.ci.support import repository
from tests.ci.support.toolchain import device_code, extension

TAG = "cp38-abi3-manylinux1_x86_64"
PYPROJECT = """\
[project]
name = "vllm"
scripts = { vllm = "vllm.main:main" }
license = "Apache-2.0"
license-files = ["LICENSE", "NOTICE", "LICENSES/*.txt"]
"""
FILES = {
    "python/vllm/__init__.py": '"""A package."""\n',
    "python/vllm/ops/__init__.py": "",
    "python/vllm/py.typed": "",
    "csrc/kernels/small/tiny.cu": "",
    "csrc/kernels/small/tiny.cuh": "",
    "pyproject.toml": PYPROJECT,
    "LICENSE": "Take it.\n",
    "LICENSES/Other.txt": "Take the rest.\n",
    "NOTICE": "The rest is of others.\n",
    "csrc/LICENSE": "No file that goes into a wheel.\n",
}
LIBRARY = """
#include <stdlib.h>
void* PyModule_Create2(void*, int);
void* PyInit__C(void) { return PyModule_Create2(malloc(8), 3); }
"""


@pytest.fixture(scope="session")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one commit of a tiny project."""
    path = tmp_path_factory.mktemp("repo")
    for name, text in FILES.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    repository.run(path, "init", "-q")
    repository.run(path, "add", ".")
    repository.commit(path, "one")
    return path


@pytest.fixture(scope="session")
def commit(repo: Path) -> str:
    return repository.run(repo, "rev-parse", "HEAD")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return extension(tmp_path_factory.mktemp("library"), LIBRARY)


@dataclass
class Sample:
    """The parts of a wheel, to be changed before it is written."""

    cuda: Cuda
    version: str
    build: BuildInfo
    folder: Path
    members: dict[str, bytes] = field(default_factory=dict)
    tag: str = TAG
    torch: str = ""
    python: str = ">=3.8"
    licenses: tuple[str, ...] = ("LICENSE", "LICENSES/Other.txt", "NOTICE")
    expression: str = "Apache-2.0"
    words: bytes = FILES["LICENSE"].encode()  # of LICENSE

    def write(self) -> Path:
        """The wheel as a file; RECORD and the rest of dist-info agree with each other."""
        torch = f"Requires-Dist: torch{self.torch}\n" if self.torch else ""
        metadata = (
            "Metadata-Version: 2.4\nName: vllm\nVersion: 0\n"
            f"License-Expression: {self.expression}\n"
            + "".join(f"License-File: {name}\n" for name in self.licenses)
            + f"Requires-Python: {self.python}\n{torch}\n"
        )
        wheel = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: false\nTag: none\n\n"
        about = {
            "METADATA": metadata.encode(),
            "WHEEL": wheel.encode(),
            "build.json": self.build.render(),
            **{f"licenses/{name}": FILES[name].encode() for name in self.licenses},
            **({"licenses/LICENSE": self.words} if "LICENSE" in self.licenses else {}),
            "entry_points.txt": b"[console_scripts]\nvllm = vllm.main:main\n",
        }
        members = [Member(name, data) for name, data in self.members.items()]
        members += [Member(f"vllm-0.dist-info/{name}", data) for name, data in about.items()]
        members += [sbom.member(self.version, self.cuda, matrix.load().main, {"ziglang": "1"})]
        name, data = repack(
            members, version=self.version, tag=self.tag, timestamp=0, compress=Compressor()
        )
        path = self.folder / name
        path.write_bytes(data)
        return path

    def of(self, **changes: object) -> Sample:
        """This sample with another build record."""
        self.build = replace(self.build, **changes)  # type: ignore[arg-type]
        return self


@pytest.fixture
def make(
    the_matrix: Matrix, commit: str, library: bytes, tmp_path: Path
) -> Callable[[str], Sample]:
    """Makes the sample of a variant, in order."""

    def make(variant: str) -> Sample:
        cuda = the_matrix.variant(variant)
        digest = "sha256:" + "0" * 64
        sample = Sample(
            cuda,
            versions.public(the_matrix.version, cuda.local),
            BuildInfo(commit, cuda.version, False, digest, variant),
            tmp_path,
            torch=cuda.torch,
        )
        python = {name for name in FILES if name.startswith("python/")}
        sample.members = {name[len("python/") :]: FILES[name].encode() for name in python}
        sample.members["vllm/_C.abi3.so"] = library
        processor = the_matrix.main.processor
        forms = [(arch, "cubin") for arch in cuda.archs(processor)]
        forms += [(arch, "ptx") for arch in cuda.ptx(processor)]
        for name, (arch, form) in zip(device_members(cuda, processor, "tiny"), forms):
            sample.members[name] = device_code(variant, arch, form)
        return sample

    return make
