"""Source builds with native files of published wheels, only from identical sources."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backend import precompiled
from backend.precompiled import PrecompiledError
from ci import digest, git, versions
from ci.matrix import Cuda, Matrix, Platform
from ci.names import abi3_tag
from ci.publish import publish
from ci.reuse import WrongWheel
from ci.serve import running
from ci.store import FolderStore
from ci.wheel import reader
from ci.wheel.archive import Compressor, Member
from ci.wheel.build_info import BuildInfo
from ci.wheel.pack import repack
from ci.wheel.reader import WheelFile
from tests.backend.conftest import call_hook, copy_tree
from tests.ci.support import repository
from tests.ci.support.sockets import BROKEN_ANSWERS, answering
from tests.ci.support.wheels import METADATA, WHEEL

NATIVE = {"vllm/_C.abi3.so": b"host", "vllm/kernels/{}/sm_80/norm.cubin": b"device"}
KERNEL = "csrc/kernels/norm/rms_norm.cu"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A clone of this repository, as if it had one commit."""
    tree = copy_tree(tmp_path / "tree")
    repository.run(tree, "init", "-q")
    return commit(tree)


def commit(tree: Path) -> Path:
    repository.run(tree, "add", "--all")
    repository.commit(tree, "c")
    return tree


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "bucket", durable=False)


@pytest.fixture
def put(store: FolderStore, the_matrix: Matrix, tmp_path: Path) -> Callable[[Path], str]:
    """Publishes the wheels of what is checked out in a clone; returns the commit."""

    def put(tree: Path) -> str:
        what = git.read(tree)
        wheels = []
        for cuda in the_matrix.cudas:
            public = versions.public(the_matrix.version, cuda.local)
            development = versions.development(
                the_matrix.version, what.number, what.sha, cuda.local
            )
            for version in (public, development):
                for platform in the_matrix.platforms_of(cuda):
                    out = tmp_path / "out"
                    wheels.append(make(tree, the_matrix, what, cuda, platform, version, out))
        publish(store, wheels, what, the_matrix)
        return what.sha

    return put


def make(
    tree: Path,
    matrix: Matrix,
    what: git.Commit,
    cuda: Cuda,
    platform: Platform,
    version: str,
    out: Path,
) -> WheelFile:
    native = digest.native_digest(tree, matrix, cuda, platform)
    build = BuildInfo(what.sha, cuda.version, False, native, cuda.variant)
    members = [Member(name.format(cuda.variant), data) for name, data in NATIVE.items()]
    about = {"METADATA": METADATA, "WHEEL": WHEEL, "build.json": build.render()}
    members += [Member(f"vllm-0.dist-info/{name}", data) for name, data in about.items()]
    tag = abi3_tag(matrix, platform)
    name, data = repack(
        members, version=version, tag=tag, timestamp=what.time, compress=Compressor()
    )
    path = out / what.sha / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return reader.read(path)


@pytest.fixture
def base(store: FolderStore) -> Iterator[str]:
    with running(store) as url:
        yield url


def take(tree: Path, location: str, matrix: Matrix, variant: str = "") -> precompiled.Native:
    environ = {"VLLM_PRECOMPILED_WHEEL_LOCATION": location}
    cuda = matrix.variant(variant) if variant else matrix.default
    return precompiled.native_files(environ, cuda, tree)


@pytest.mark.parametrize("variant", ["cu121", "cu118"])
def test_a_python_only_change_takes_the_published_files(
    tree: Path, put: Callable[[Path], str], base: str, the_matrix: Matrix, variant: str
) -> None:
    published = put(tree)
    (tree / "python" / "vllm" / "added.py").write_text("")
    native = take(commit(tree), base, the_matrix, variant)
    assert native.digest == digest.native_digest(tree, the_matrix, the_matrix.variant(variant))
    assert native.origin == f"{base}, compiled at commit {published}"
    for name, data in NATIVE.items():
        assert (native.folder / name.format(variant)).read_bytes() == data


def test_other_sources_are_named_from_the_nearest_published_commit(
    tree: Path, put: Callable[[Path], str], base: str, the_matrix: Matrix
) -> None:
    (tree / "csrc" / "old.h").write_text("")
    put(commit(tree))
    (tree / "csrc" / "old.h").unlink()
    nearest = put(commit(tree))
    (tree / KERNEL).write_text("// changed\n")
    commit(tree)
    (tree / "csrc" / "new.cpp").write_text("")  # not committed, but it would be compiled
    matrix_file = tree / "ci" / "matrix.toml"
    matrix_file.write_text(matrix_file.read_text().replace('ptx = ["9.0"]', 'ptx = ["8.0"]', 1))
    with pytest.raises(PrecompiledError) as caught:
        take(tree, base, the_matrix)
    text = str(caught.value)
    assert f"The nearest published commit is {nearest}" in text
    assert [line.strip() for line in text.splitlines() if line.startswith("    ")] == [
        "cuda (cu118)",
        "file csrc/kernels/norm/rms_norm.cu",
        "file csrc/new.cpp",
    ]
    assert "unset VLLM_USE_PRECOMPILED to compile" in text
    assert not list((tree / "build").rglob("*.so"))


def test_no_history_and_no_wheels(
    tree: Path, put: Callable[[Path], str], base: str, the_matrix: Matrix, tmp_path: Path
) -> None:
    with pytest.raises(PrecompiledError, match="lists no wheel of cu121"):
        take(tree, base, the_matrix)
    put(tree)
    sdist = copy_tree(tmp_path / "sdist")
    (sdist / KERNEL).write_text("// changed\n")
    with pytest.raises(PrecompiledError, match="None of its 1 published commits is in this tree"):
        take(sdist, base, the_matrix)


def test_a_file_that_is_not_the_published_one(
    tree: Path, put: Callable[[Path], str], base: str, the_matrix: Matrix, store: FolderStore
) -> None:
    sha = put(tree)
    (wheel,) = (store.root / sha).glob("*0.5.4-cp38*x86_64.whl")
    what, out = git.read(tree), store.root.parent / "other"
    other = make(tree, the_matrix, what, the_matrix.default, the_matrix.main, "0.5.4", out)
    wheel.write_bytes(other.path.read_bytes() + b"\0")
    with pytest.raises(WrongWheel, match="published was"):
        take(tree, base, the_matrix)


def test_one_wheel(
    tree: Path, put: Callable[[Path], str], base: str, the_matrix: Matrix, store: FolderStore
) -> None:
    sha = put(tree)
    (path,) = (store.root / sha).glob("*0.5.4-cp38*x86_64.whl")
    assert (take(tree, str(path), the_matrix).folder / "vllm/_C.abi3.so").read_bytes() == b"host"
    odd = tree / "50%#?" / path.name
    odd.parent.mkdir()
    odd.write_bytes(path.read_bytes())
    for location in (str(odd), odd.as_uri(), f"{odd}#sha256={reader.read(odd).sha256}"):
        assert (take(tree, location, the_matrix).folder / "vllm").is_dir()
    url = f"{base}/{sha}/{path.name}"
    with pytest.raises(PrecompiledError, match="without a sha256"):
        take(tree, url, the_matrix)
    with pytest.raises(WrongWheel, match="published was 0000"):
        take(tree, f"{url}#sha256={'0' * 64}", the_matrix)
    right = reader.read(path).sha256
    assert (take(tree, f"{url}#sha256={right}", the_matrix).folder / "vllm").is_dir()
    with pytest.raises(PrecompiledError, match="native files of cu121"):
        take(tree, str(path), the_matrix, "cu118")
    (tree / KERNEL).write_text("// changed\n")
    with pytest.raises(PrecompiledError) as caught:
        take(tree, str(path), the_matrix)
    assert f"What differs from commit {sha}:\n    file {KERNEL}" in str(caught.value)


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("nonsense", "must be a wheel, or the base URL"),
        ("http://127.0.0.1:9", "it is unknown whether"),
    ],
)
def test_an_invalid_location(tree: Path, the_matrix: Matrix, location: str, words: str) -> None:
    with pytest.raises(PrecompiledError, match=words):
        take(tree, location, the_matrix)


def test_a_cut_off_download(tree: Path, the_matrix: Matrix) -> None:
    with (
        answering(BROKEN_ANSWERS["cut off"]) as base,
        pytest.raises(PrecompiledError, match="it is unknown whether"),
    ):
        take(tree, base, the_matrix)


def test_an_editable_wheel_holds_the_published_files(
    tree: Path, put: Callable[[Path], str], base: str, tmp_path: Path
) -> None:
    put(tree)
    environ = {"VLLM_USE_PRECOMPILED": "1", "VLLM_PRECOMPILED_WHEEL_LOCATION": base}
    made = call_hook(tree, "build_editable(OUT)", tmp_path / "made", **environ)
    assert made.returncode == 0, made.stderr + made.stdout
    (path,) = (tmp_path / "made").iterdir()
    with zipfile.ZipFile(path) as archive:
        assert archive.read("vllm/_C.abi3.so") == b"host"
        assert archive.read("vllm/kernels/cu121/sm_80/norm.cubin") == b"device"
        info = json.loads(archive.read("vllm-0.5.4.dist-info/build.json"))
    assert info["native_digest"] in made.stdout
    (tree / KERNEL).write_text("// changed\n")
    refused = call_hook(tree, "build_editable(OUT)", tmp_path / "refused", **environ)
    assert refused.returncode == 1
    assert f"file {KERNEL}" in refused.stderr
    assert "Traceback" not in refused.stderr
