"""Real builds of this repository's own HEAD, in clones of it, with fewer arches than a release."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from ci import audit, builder, environment, git, release, verify
from ci.builder import canonical, toolkit
from ci.builder.reused import reuse_of
from ci.matrix import Matrix
from ci.publish import plan, publish
from ci.serve import running
from ci.stages import Stages
from ci.store import FolderStore
from ci.wheel import reader, symbols
from ci.wheel.archive import Compressor
from ci.wheel.pack import repack
from tests.ci.support.clones import ABI3, clone, commit, debug_symbols, hashes, run
from tests.ci.support.toolchain import ROOT

pytestmark = pytest.mark.slow


def test_the_wheels_of_a_commit(built: Path, small: Matrix) -> None:
    at = git.read(built)
    development = f"0.5.5.dev{at.number}+g{at.sha[:9]}"
    assert sorted(hashes(built)) == sorted(
        ABI3.format(version)
        for version in ("0.5.4", "0.5.4+cu118", development, f"{development}.cu118")
    )
    for path in (built / "wheelhouse").glob("*.whl"):
        assert audit.audit(path, small, built).wheel.build.commit == at.sha


def test_another_folder_mask_zone_and_number_of_jobs_give_the_same_bits(
    built: Path, other: Path
) -> None:
    assert hashes(other) == hashes(built)
    assert len(debug_symbols(built)) == 1  # of the one library that all wheels share
    assert debug_symbols(other) == debug_symbols(built)


def test_nothing_is_compiled_without_a_change(built: Path) -> None:
    before = hashes(built)
    assert "compiling:" not in run(built)
    assert hashes(built) == before


def test_both_variants_share_one_host_library(built: Path) -> None:
    wheels = map(reader.read, (built / "wheelhouse").glob("*.whl"))
    assert len({wheel.native["vllm/_C.abi3.so"] for wheel in wheels}) == 1


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_a_variant_on_request_from_its_sources_to_its_installation(
    asked: list[Path], built: Path, whole: Matrix, installer: str, tmp_path: Path
) -> None:
    """Compiled without an nvcc, audited, published, served; by its address and from an index."""
    at = git.read(built)
    wheels = [audit.audit(path, whole, built).wheel for path in asked]
    assert len({wheel.native["vllm/_C.abi3.so"] for wheel in wheels}) == 1
    bucket = FolderStore(tmp_path / "bucket", durable=False)
    publish(bucket, wheels, at, whole.of_commit(["cu130"]))

    site = tmp_path / "site"
    program = ["pip"] if installer == "pip" else ["uv", "--no-cache", "pip"]
    command = [sys.executable, "-m", *program, "install", "--no-deps", "--target", str(site)]
    with running(bucket) as base:
        index = ["--index-url", f"{base}/{at.sha}/cu130/", "vllm==0.5.4+cu130"]
        for wanted in ([f"{base}/{at.sha}/{ABI3.format('0.5.4+cu130')}"], index):
            shutil.rmtree(site, ignore_errors=True)
            subprocess.run([*command, *wanted], check=True, env=environment.for_installing())
            assert version_and_commit(site) == ["0.5.4+cu130", at.sha]
            assert [path.name for path in (site / "vllm" / "kernels").iterdir()] == ["cu130"]
            assert [path.name for path in (site / "vllm" / "kernels" / "cu130").iterdir()] == [
                "sm_75"
            ]
    (metadata,) = site.glob("vllm-*.dist-info/METADATA")
    assert "\nRequires-Dist: torch>=2.9\n" in metadata.read_text()


def test_a_compiler_that_lacks_an_arch_is_named(asked: list[Path], built: Path) -> None:
    """7.0 for CUDA 13.0, an easy mistake in the matrix."""
    path = built / "ci" / "matrix.toml"
    right = path.read_text()
    path.write_text(right.replace('archs = ["7.5"]', 'archs = ["7.0"]'))
    try:
        message = r"CUDA 13\.0 does not compile for sm_70, only for sm_75 "
        with pytest.raises(canonical.BuildError, match=message):
            builder.build(
                built,
                built / "wheelhouse",
                commit=git.read(built, allow_dirty=True),
                variants=["cu130"],
                console=Console(quiet=True),
            )
    finally:
        path.write_text(right)


def test_a_python_only_commit_takes_the_native_files_of_a_published_one(
    built: Path, other: Path, small: Matrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And gets the wheels that a clone with compilers gets, without any."""
    bucket = FolderStore(tmp_path / "bucket", durable=False)
    published = git.read(built)
    publish(
        bucket, [reader.read(p) for p in (built / "wheelhouse").glob("*.whl")], published, small
    )

    with (other / "python" / "vllm" / "__init__.py").open("a") as file:
        file.write("# Another line.\n")
    commit(other)
    repo = clone(other, tmp_path / "repo")

    def absent(*_: object) -> Path:
        raise AssertionError("a compiler was asked for")

    with monkeypatch.context() as patch:
        patch.setattr(canonical, "find_zig", absent)
        patch.setattr(toolkit, "_install", absent)
        reuse = reuse_of(bucket)
        builder.build(repo, repo / "wheelhouse", reuse=reuse)
    assert reuse.used == {"cu118": published.sha, "cu121": published.sha}
    assert debug_symbols(repo) == debug_symbols(other)
    run(other)
    assert hashes(repo).items() <= hashes(other).items()


def test_a_tampered_wheel_is_reported_and_the_build_compiles(
    built: Path, small: Matrix, tmp_path: Path
) -> None:
    bucket = FolderStore(tmp_path / "bucket", durable=False)
    at = git.read(built)
    publish(bucket, [reader.read(p) for p in (built / "wheelhouse").glob("*.whl")], at, small)
    for path in (tmp_path / "bucket").rglob("vllm-0.5.4-*.whl"):
        data = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(data[:5000] + bytes([data[5000] ^ 1]) + data[5001:])
    before = hashes(built)
    said = run(built, "--reuse", str(tmp_path / "bucket"))
    assert "cu121: compiling, because " in said
    assert f"cu118: native files of commit {at.sha}" in " ".join(said.split())
    assert hashes(built) == before


def test_a_release(built: Path, whole: Matrix, tmp_path: Path) -> None:
    """Every wheel of it passes the audit, and one is installed and run."""
    at = git.read(built)
    paths = release.release(built, tmp_path, "0.4.0", commit=at, console=Console(quiet=True))
    released = release.matrix_of(whole, "0.4.0")
    wheels = [path for path in paths if path.suffix == ".whl"]
    assert {path.name for path in wheels} == set(plan.release_wheels(released))
    for path in wheels:
        audit.audit(path, released, built)
        assert (tmp_path / f"{path.name}.intoto.jsonl").is_file()
    assert (tmp_path / "vllm-0.4.0.tar.gz").is_file()
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path, check=True)

    site, tag = tmp_path / "site", "cp{}{}".format(*sys.version_info)
    mine = next(path for path in wheels if f"+cu118-{tag}-{tag}-" in path.name)
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*command, "--target", str(site), str(mine)], check=True)
    assert version_and_commit(site) == ["0.4.0+cu118", at.sha]


def version_and_commit(site: Path) -> list[str]:
    """The version and commit that a vllm installed in a folder reports."""
    done = subprocess.run(
        [sys.executable, "-c", "import vllm; print(vllm.__version__, vllm.__commit__)"],
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=site.parent,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.split()


def test_verify_names_the_first_byte_of_a_wheel_that_was_changed(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wheel in order, of other code than its commit's."""
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(ROOT / "build" / "zig"))
    _, members = reader.open_wheel(built / "wheelhouse" / ABI3.format("0.5.4"))
    cubin = "vllm/kernels/cu121/sm_90/rms_norm.cubin"
    changed = [
        replace(member, data=member.data[:-1] + b"!") if member.name == cubin else member
        for member in members
    ]
    name, data = repack(
        changed, version="0.5.4", tag=ABI3[8:-4], timestamp=0, compress=Compressor()
    )
    (tmp_path / name).write_bytes(data)
    found = verify.verify(tmp_path / name, built, tmp_path, Console(quiet=True))
    assert found is not None
    (length,) = (len(member.data) for member in members if member.name == cubin)
    assert (found.member, found.byte) == (cubin, length - 1)
    (build_id,) = debug_symbols(built)
    wheel = built / "wheelhouse" / ABI3.format("0.5.4")
    published = verify.symbols_beside(str(wheel), reader.read(wheel), tmp_path)
    assert published == built / "wheelhouse" / symbols.name_of(build_id)
    assert verify.are_rebuilt(published, tmp_path)
    changed_symbols = tmp_path / "changed"
    changed_symbols.write_bytes(published.read_bytes()[:-1])
    assert not verify.are_rebuilt(changed_symbols, tmp_path)


def test_an_error_in_a_source_is_shown_and_the_same_command_continues(
    other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(ROOT / "build" / "zig"))
    kernel = other / "csrc" / "kernels" / "activation" / "activation.cu"
    right = kernel.read_text()
    kernel.write_text(right + "\n__global__ void wrong() { nonsense; }\n")
    commit(other)
    before = hashes(other)
    with pytest.raises(canonical.BuildError, match='identifier "nonsense" is undefined') as caught:
        builder.build(other, other / "wheelhouse")
    assert str(caught.value).startswith("building a wheel failed (compiling for x86_64):\nFAILED: ")
    assert hashes(other) == before
    kernel.write_text(right)
    commit(other)
    assert len(builder.build(other, other / "wheelhouse")) == 4


class CommittingStages(Stages):
    """Commits a change once everything is compiled."""

    def __init__(self, repo: Path) -> None:
        super().__init__(Console(quiet=True))
        self._repo = repo

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        with super().timed(name):
            yield
        if name == "canonical wheels":
            with (self._repo / "python" / "vllm" / "__init__.py").open("a") as file:
                file.write("# Committed meanwhile.\n")
            commit(self._repo)


def test_a_tree_that_changes_while_it_is_built_gives_no_wheels(
    other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would name one commit and hold code of two."""
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(ROOT / "build" / "zig"))
    began = git.read(other)
    with pytest.raises(git.ChangedTree, match=f"{began.sha[:12]} was checked out, now ") as caught:
        builder.build(other, tmp_path / "wheels", stages=CommittingStages(other))
    assert "no wheel was written" in str(caught.value)
    assert not list(tmp_path.rglob("*.whl"))
    assert len(builder.build(other, tmp_path / "wheels")) == 4
