"""Native files are reused from the right published wheel, and never from a wrong one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ci.builder import reused
from ci.builder.reused import StoreWheels
from ci.git import Commit
from ci.matrix import Matrix
from ci.publish import publish
from ci.reuse import Published, Reuse, WrongWheel
from ci.store import FolderStore, NotFound
from ci.wheel import reader, symbols
from ci.wheel.archive import Compressor, Member
from ci.wheel.build_info import BuildInfo
from ci.wheel.pack import repack
from ci.wheel.reader import BadWheel, WheelFile
from tests.ci.support.toolchain import with_symbols
from tests.ci.support.wheels import METADATA, WHEEL, Factory

DIGEST = "sha256:" + "d" * 64
OTHER = "sha256:" + "e" * 64
COMMIT = Commit("a" * 40, 3, 1_780_000_000, dirty=False)
NATIVE = {
    "vllm/_C.abi3.so": b"\x7fELF host",
    "vllm/kernels/cu121/sm_80/norm.cubin": b"\x7fELF device",
    "vllm/kernels/cu121/compute_90/norm.ptx": b".target sm_90\n",
}


@dataclass
class Files:
    """A source of wheels that lie on disk."""

    paths: dict[str, Path] = field(default_factory=dict)
    wheels: list[Published] = field(default_factory=list)

    def listed(self) -> Iterable[Published]:
        return self.wheels

    def download(self, wheel: Published, target: Path) -> None:
        target.write_bytes(self.paths[wheel.key].read_bytes())

    def offer(self, wheel: WheelFile, commit: str, **changes: str) -> None:
        key = f"{commit}/{wheel.path.name}"
        self.paths[key] = wheel.path
        digest = wheel.build.native_digest or ""
        listed = Published(key, wheel.build.variant, digest, wheel.sha256, commit)
        self.wheels.append(replace(listed, **changes))


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., WheelFile]:
    """Writes a wheel with native files."""

    def make(digest: str = DIGEST, version: str = "0.5.4", mark: bytes = b"") -> WheelFile:
        members = [Member(name, data + mark) for name, data in NATIVE.items()]
        members += [Member("vllm/__init__.py", b"")]
        build = BuildInfo(COMMIT.sha, "12.1", False, digest, "cu121")
        about = {"METADATA": METADATA, "WHEEL": WHEEL, "build.json": build.render()}
        members += [Member(f"vllm-0.dist-info/{name}", data) for name, data in about.items()]
        tag = "cp38-abi3-manylinux1_x86_64"
        name, data = repack(members, version=version, tag=tag, timestamp=0, compress=Compressor())
        folder = tmp_path / f"wheels{mark.decode()}"
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
        return reader.read(folder / name)

    return make


def test_native_files_are_laid_out_as_in_the_wheel(
    make: Callable[..., WheelFile], the_matrix: Matrix, tmp_path: Path
) -> None:
    source = Files()
    source.offer(make(), "a" * 40)
    reuse = Reuse(source)
    folder = reuse.native_files(the_matrix.default, DIGEST, tmp_path / "prebuilt")
    assert folder == tmp_path / "prebuilt"
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in (folder / "vllm").rglob("*")
        if path.is_file()
    }
    assert found == NATIVE
    assert reuse.used == {"cu121": "a" * 40}


def test_the_first_of_the_same_digest_and_variant_is_taken(
    make: Callable[..., WheelFile], the_matrix: Matrix, tmp_path: Path
) -> None:
    source = Files()
    source.offer(make(OTHER, mark=b"1"), "1" * 40)
    source.offer(make(mark=b"2"), "2" * 40, variant="cu118")
    source.offer(make(mark=b"3"), "3" * 40)
    source.offer(make(mark=b"4"), "4" * 40)
    reuse = Reuse(source)
    folder = reuse.native_files(the_matrix.default, DIGEST, tmp_path / "prebuilt")
    assert folder is not None
    assert (folder / "vllm/_C.abi3.so").read_bytes() == b"\x7fELF host3"
    assert reuse.used == {"cu121": "3" * 40}


def test_no_wheel_has_them(
    make: Callable[..., WheelFile], the_matrix: Matrix, tmp_path: Path
) -> None:
    source = Files()
    source.offer(make(OTHER), "a" * 40)
    reuse = Reuse(source)
    assert reuse.native_files(the_matrix.default, DIGEST, tmp_path / "prebuilt") is None
    assert reuse.used == {}


def test_files_of_an_earlier_wheel_are_removed(
    make: Callable[..., WheelFile], the_matrix: Matrix, tmp_path: Path
) -> None:
    source = Files()
    source.offer(make(), "a" * 40)
    stale = tmp_path / "prebuilt" / "vllm" / "kernels" / "cu121" / "sm_80" / "stale.cubin"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"")
    Reuse(source).native_files(the_matrix.default, DIGEST, tmp_path / "prebuilt")
    assert not stale.exists()


def test_a_file_that_is_not_the_published_one(
    make: Callable[..., WheelFile], the_matrix: Matrix, tmp_path: Path
) -> None:
    """A whole and consistent wheel, but with other native code."""
    source = Files()
    source.offer(make(mark=b"1"), "a" * 40, sha256=make(mark=b"2").sha256)
    reuse = Reuse(source)
    with pytest.raises(WrongWheel, match="published was"):
        reuse.native_files(the_matrix.default, DIGEST, tmp_path / "prebuilt")
    assert reuse.used == {}


def test_a_truncated_file(
    make: Callable[..., WheelFile], the_matrix: Matrix, tmp_path: Path
) -> None:
    source, wheel = Files(), make()
    source.offer(wheel, "a" * 40)
    wheel.path.write_bytes(wheel.path.read_bytes()[:-50])
    with pytest.raises(BadWheel, match="a complete zip archive"):
        Reuse(source).native_files(the_matrix.default, DIGEST, tmp_path / "prebuilt")


def test_a_ledger_with_a_wrong_digest(
    make: Callable[..., WheelFile], the_matrix: Matrix, tmp_path: Path
) -> None:
    source = Files()
    source.offer(make(OTHER), "a" * 40, native_digest=DIGEST)
    with pytest.raises(BadWheel, match=r"build\.json: expected cu121 of sha256:d+"):
        Reuse(source).native_files(the_matrix.default, DIGEST, tmp_path / "prebuilt")


def test_a_bucket_as_the_source(
    make: Callable[..., WheelFile], the_matrix: Matrix, tmp_path: Path
) -> None:
    one = replace(the_matrix.default, budgets={"x86_64": 1 << 20})
    matrix = replace(the_matrix, cudas=(one,))
    store = FolderStore(tmp_path / "bucket", durable=False)
    development = f"0.5.5.dev3+g{COMMIT.sha[:9]}"
    publish(store, [make(), make(version=development)], COMMIT, matrix)
    reuse = Reuse(StoreWheels(store))
    folder = reuse.native_files(matrix.default, DIGEST, tmp_path / "prebuilt")
    assert folder is not None
    assert (folder / "vllm/_C.abi3.so").read_bytes() == NATIVE["vllm/_C.abi3.so"]
    assert reuse.used == {"cu121": COMMIT.sha}
    assert reuse.native_files(matrix.default, OTHER, tmp_path / "prebuilt") is None


def test_debug_symbols_come_with_native_files_and_only_those_of_the_library(
    factory: Factory, tmp_path: Path
) -> None:
    library, debug = with_symbols("int x;")
    lending = Factory(tmp_path / "wheels", factory.matrix, libraries={"x86_64": (library, debug)})
    store, commit = FolderStore(tmp_path / "bucket", durable=False), lending.commit(1)
    publish(store, lending.wheels(commit), commit, lending.matrix)
    folder = tmp_path / "native"
    (folder / "vllm").mkdir(parents=True)
    (folder / "vllm/_C.abi3.so").write_bytes(library)
    for key in (f"{commit.sha}/vllm.whl", "releases/download/v0.5.4/vllm.whl"):
        found = Published(key, "cu121", DIGEST, "0" * 64, commit.sha)
        StoreWheels(store).symbols(found, folder)
        assert (folder / symbols.BUILT).read_bytes() == debug
    path = tmp_path / "bucket" / commit.sha / symbols.name_of(str(symbols.build_id(library)))
    path.chmod(0o644)
    path.write_bytes(with_symbols("int y;")[1])
    with pytest.raises(symbols.BadSymbols, match="expected build-id"):
        StoreWheels(store).symbols(found, folder)


def test_an_empty_bucket_has_nothing_and_a_missing_wheel_is_reported(
    make: Callable[..., WheelFile], the_matrix: Matrix, tmp_path: Path
) -> None:
    store = FolderStore(tmp_path / "bucket", durable=False)
    reuse = Reuse(StoreWheels(store))
    assert reuse.native_files(the_matrix.default, DIGEST, tmp_path / "prebuilt") is None
    lost = Published(f"{COMMIT.sha}/lost.whl", "cu121", DIGEST, "0" * 64, COMMIT.sha)
    with pytest.raises(NotFound):
        StoreWheels(store).download(lost, tmp_path / "lost.whl")


def test_builders_record_which_commits_native_files_they_used(tmp_path: Path) -> None:
    """For a publisher on another machine; an earlier commit's record is ignored."""
    earlier = Commit("9" * 40, 1, COMMIT.time, dirty=False)
    reused.write_reused(tmp_path / "one", COMMIT, {"cu118": "a" * 40})
    reused.write_reused(tmp_path / "two", COMMIT, {"cu121": "b" * 40})
    reused.write_reused(tmp_path / "old", earlier, {"cu124": "c" * 40})
    assert reused.read_reused(tmp_path, COMMIT) == {"cu118": "a" * 40, "cu121": "b" * 40}
    (tmp_path / "one" / "reused-cu118.json").write_text("[]")
    with pytest.raises(WrongWheel, match="is damaged"):
        reused.read_reused(tmp_path, COMMIT)
