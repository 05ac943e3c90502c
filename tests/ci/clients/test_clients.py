"""The documented commands with real pip and uv, for `ci serve` and a plain web server."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ci.git import Commit
from ci.publish import care, publish
from ci.serve import running
from ci.store import FolderStore, ObjectInfo, Store
from ci.wheel.archive import Compressor, Member, pack
from ci.wheel.record import render
from tests.ci.clients.conftest import (
    UV,
    Host,
    Tool,
    old_pip,
    plain_hosting,
    run,
    stand_in_index,
)
from tests.ci.support.s3 import Endpoint
from tests.ci.support.wheels import Factory

DEFAULT = "vllm-0.5.4-cp38-abi3-manylinux1_x86_64.whl"
CU118 = "vllm-0.5.4+cu118-cp38-abi3-manylinux1_x86_64.whl"


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "bucket", durable=False)


@pytest.fixture
def put(store: FolderStore, factory: Factory) -> Callable[[int], Commit]:
    def publish_number(number: int) -> Commit:
        commit = factory.commit(number)
        publish(store, factory.wheels(commit), commit, factory.matrix)
        return commit

    return publish_number


def development(commit: Commit, local: str = "") -> str:
    return f"0.5.5.dev{commit.number}+g{commit.sha[:9]}{local}"


def test_documented_urls_then_tomorrow_then_the_update(
    tool: Tool, host: Host, store: FolderStore, put: Callable[[int], Commit], tmp_path: Path
) -> None:
    yesterday = put(1)
    environment = tool.environment(tmp_path / "env")
    with host(store) as base:
        environment.install(f"{base}/nightly/{CU118}")
        assert environment.vllm() == ("0.5.4+cu118", yesterday.sha)
        today = put(2)
        environment.install(f"{base}/nightly/{CU118}")
        if tool.pip:
            # pip never replaces a version by the same version, whatever the URL holds.
            assert environment.vllm()[1] == yesterday.sha
        environment.update(f"{base}/nightly/{CU118}")
        assert environment.vllm() == ("0.5.4+cu118", today.sha)
        environment.update(f"{base}/{yesterday.sha}/{DEFAULT}")
        assert environment.vllm() == ("0.5.4", yesterday.sha)


def test_a_raw_plus_reaches_the_wheel_on_s3(
    tool: Tool, s3_store: Store, s3_endpoint: Endpoint, factory: Factory, tmp_path: Path
) -> None:
    commit = factory.commit(1)
    publish(s3_store, factory.wheels(commit), commit, factory.matrix)
    base = f"{s3_endpoint.url}/{s3_store.name.partition('://')[2]}"
    environment = tool.environment(tmp_path / "env")
    environment.install(f"{base}/nightly/{CU118}")
    assert environment.vllm() == ("0.5.4+cu118", commit.sha)
    other = tool.environment(tmp_path / "other")
    other.install("--pre", "--index-url", f"{base}/whl/nightly/cu118/", "vllm")
    assert other.vllm() == (development(commit, ".cu118"), commit.sha)


def test_an_index_gives_its_own_variant_and_upgrades_to_the_newest(
    tool: Tool, host: Host, store: FolderStore, put: Callable[[int], Commit], tmp_path: Path
) -> None:
    put(9)
    yesterday = put(10)
    environment = tool.environment(tmp_path / "env")
    with host(store) as base:
        index = ("--index-url", f"{base}/whl/nightly/cu118/")
        environment.install("--pre", *index, "vllm")
        assert environment.vllm() == (development(yesterday, ".cu118"), yesterday.sha)
        today = put(11)
        environment.install("--pre", "--upgrade", *refresh(tool), *index, "vllm")
        assert environment.vllm() == (development(today, ".cu118"), today.sha)
        environment.install(*index, f"vllm=={development(yesterday, '.cu118')}")
        assert environment.vllm()[1] == yesterday.sha


@pytest.mark.parametrize("hosting", ["served", "static"])
@pytest.mark.parametrize("version", ["22.3.1", "23.0.1", "23.1.2"])  # 23.0.1 is Debian 12's
def test_a_pip_from_before_pep_714_reads_either_page(
    version: str,
    hosting: str,
    tools: Path,
    store: FolderStore,
    put: Callable[[int], Commit],
    tmp_path: Path,
) -> None:
    commit = put(10)
    tool = old_pip(version, tools, tmp_path)
    environment = tool.environment(tmp_path / "env")
    with running(store) if hosting == "served" else plain_hosting(Path(store.name)) as base:
        environment.install("--pre", "--index-url", f"{base}/whl/nightly/cu121/", "vllm")
    assert environment.vllm() == (development(commit), commit.sha)


@pytest.mark.parametrize("processor", ["x86_64", "aarch64"])
def test_a_resolver_selects_its_own_of_two_platforms(
    tool: Tool,
    host: Host,
    store: FolderStore,
    put: Callable[[int], Commit],
    factory: Factory,
    tmp_path: Path,
    processor: str,
) -> None:
    (platform,) = (each for each in factory.matrix.platforms if each.processor == processor)
    commit = put(1)
    environment = tool.environment(tmp_path / "env")
    if tool.pip:  # takes a tag literally
        other = ("--platform", platform.tag, "--python-version", "3.11")
    else:
        other = ("--python-platform", f"{processor}-manylinux_2_28")
    target = ("--target", str(tmp_path / "target"), "--only-binary", ":all:", "--no-deps")
    with host(store) as base:
        index = ("--index-url", f"{base}/whl/nightly/cu121/")
        environment.install(*target, *other, "--pre", *index, "vllm")
    (wheel,) = (tmp_path / "target").glob("vllm-*.dist-info/WHEEL")
    assert f"Tag: cp38-abi3-{platform.tag}\n" in wheel.read_text()
    assert wheel.parent.name == f"vllm-{development(commit)}.dist-info"


def refresh(tool: Tool) -> tuple[str, ...]:
    """uv keeps the page of an index for ten minutes where no header forbids it."""
    return () if tool.pip else ("--refresh",)


def test_a_yanked_commit_is_skipped_unless_pinned(
    tool: Tool, host: Host, store: FolderStore, put: Callable[[int], Commit], tmp_path: Path
) -> None:
    fine, bad = put(1), put(2)
    care.yank(store, bad.sha, "computes nonsense")
    environment = tool.environment(tmp_path / "env")
    with host(store) as base:
        index = ("--index-url", f"{base}/whl/nightly/cu121/")
        environment.install("--pre", *index, "vllm")
        assert environment.vllm()[1] == fine.sha
        said = environment.install(*index, f"vllm=={development(bad)}")
        assert environment.vllm()[1] == bad.sha
        assert "computes nonsense" in said


def test_hashes_are_checked(
    tool: Tool, host: Host, store: FolderStore, factory: Factory, tmp_path: Path
) -> None:
    commit = factory.commit(1)
    wheels = factory.wheels(commit)
    publish(store, wheels, commit, factory.matrix)
    wheel = next(w for w in wheels if w.version == development(commit))
    requirements = tmp_path / "requirements.txt"
    environment = tool.environment(tmp_path / "env")
    with host(store) as base:
        index = ("--index-url", f"{base}/whl/nightly/cu121/")
        for digest, code in (("0" * 64, 1), (wheel.sha256, 0)):
            requirements.write_text(f"vllm=={wheel.version} --hash=sha256:{digest}\n")
            ran = environment.pip("install", "--require-hashes", *index, "-r", str(requirements))
            assert (ran.code != 0) == code, ran.text
            assert (environment.version_of("vllm") is None) == code
    assert environment.vllm()[1] == commit.sha


class Recording(FolderStore):
    """Writes down what is read of it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, durable=False)
        self.sent: list[tuple[str, int]] = []

    def read(self, entry: ObjectInfo, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        stop = entry.size if stop is None else stop
        self.sent.append((entry.key, stop - start))
        return super().read(entry, start, stop)


def test_a_resolver_reads_metadata_and_no_wheel(
    tool: Tool, tmp_path: Path, factory: Factory
) -> None:
    store = Recording(tmp_path / "bucket")
    commit = factory.commit(1)
    wheels = factory.wheels(commit, payload=bytes(100_000))
    publish(store, wheels, commit, factory.matrix)
    store.sent.clear()
    environment = tool.environment(tmp_path / "env")
    with running(store) as base:
        index = ("--index-url", f"{base}/whl/nightly/cu121/")
        environment.install("--dry-run", "--pre", *index, "vllm")
    *resolved, last = store.sent
    if tool.name == "pip on 3.8":
        # pip 25.0 downloads what it has resolved also on a dry run; the newest does not.
        assert last[0].endswith(".whl")
    else:
        resolved = store.sent
    assert [key.rpartition(".")[2] for key, _ in resolved] == ["json", "metadata"]
    assert sum(size for _, size in resolved) < 2000


@pytest.mark.parametrize("pair", [("uv", "served"), ("uv", "static")], ids="-".join)
def test_uv_locks_with_hashes_and_installs_the_lock(
    tool: Tool, host: Host, store: FolderStore, factory: Factory, tmp_path: Path
) -> None:
    commit = factory.commit(1)
    wheels = factory.wheels(commit)
    publish(store, wheels, commit, factory.matrix)
    wheel = next(w for w in wheels if w.version == development(commit, ".cu118"))
    project = tmp_path / "project"
    project.mkdir()
    with host(store) as base:
        (project / "pyproject.toml").write_text(
            '[project]\nname = "app"\nversion = "1"\nrequires-python = ">=3.8"\n'
            f'dependencies = ["vllm=={wheel.version}"]\n'
            '[[tool.uv.index]]\nname = "wheels"\ndefault = true\n'
            f'url = "{base}/whl/nightly/cu118/"\n'
        )
        for arguments in (("lock",), ("sync", "--locked", "--python", str(tool.python))):
            ran = run([str(UV), *arguments], tool.home, cwd=project)
            assert ran.code == 0, ran.text
    assert f"sha256:{wheel.sha256}" in (project / "uv.lock").read_text()
    ran = run(
        [str(project / ".venv/bin/python"), "-c", "import vllm; print(vllm.__commit__)"], tool.home
    )
    assert ran.text.strip() == commit.sha


def torch_wheel(version: str) -> tuple[str, bytes]:
    """A torch that is nothing but its name and version."""
    info = f"torch-{version}.dist-info"
    members = [
        Member(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n".encode()
        ),
        Member(f"{info}/WHEEL", b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
    ]
    record = Member(f"{info}/RECORD", render(members, f"{info}/RECORD"))
    data = pack([*members, record], 1_780_000_000, Compressor())
    return f"torch-{version}-py3-none-any.whl", data


@pytest.fixture
def with_torch(factory: Factory) -> Factory:
    """Wheels that require torch as the real ones do."""
    requires = {
        cuda.variant: f"Requires-Dist: torch{cuda.torch}\n" for cuda in factory.matrix.cudas
    }
    return dataclasses.replace(factory, folder=factory.folder / "with torch", requires=requires)


def test_our_server_redirects_to_the_upstream_index(
    tool: Tool, store: FolderStore, with_torch: Factory, tmp_path: Path
) -> None:
    commit = with_torch.commit(1)
    publish(store, with_torch.wheels(commit), commit, with_torch.matrix)
    upstream = stand_in_index(tmp_path / "upstream", "torch", dict([torch_wheel("2.13.0")]))
    environment = tool.environment(tmp_path / "env")
    with plain_hosting(upstream) as elsewhere, running(store, upstream=elsewhere) as base:
        index = ("--index-url", f"{base}/whl/nightly/cu121/")
        environment.install("--pre", *index, "vllm")
    assert environment.vllm()[1] == commit.sha
    assert environment.version_of("torch") == "2.13.0"


def test_an_extra_index_gives_the_torch_of_the_same_cuda(
    tool: Tool, host: Host, store: FolderStore, with_torch: Factory, tmp_path: Path
) -> None:
    """PyPI is stood in for, too: its newest torch is a CUDA 13 build."""
    commit = with_torch.commit(1)
    publish(store, with_torch.wheels(commit), commit, with_torch.matrix)
    versions = ("2.6.0", "2.7.1", "2.13.0")
    pypi = stand_in_index(tmp_path / "pypi", "torch", dict(map(torch_wheel, versions)))
    builds = ("2.6.0+cu118", "2.7.1+cu118")
    extra = stand_in_index(tmp_path / "extra", "torch", dict(map(torch_wheel, builds)))
    environment = tool.environment(tmp_path / "env")
    with plain_hosting(pypi) as pypi_url, plain_hosting(extra) as extra_url, host(store) as base:
        environment.install(
            f"{base}/nightly/{CU118}", "--index-url", pypi_url, "--extra-index-url", extra_url
        )
    assert environment.vllm() == ("0.5.4+cu118", commit.sha)
    assert environment.version_of("torch") == "2.7.1+cu118"


def test_a_release_installs_by_its_documented_url_and_from_its_index(
    tool: Tool, host: Host, store: FolderStore, factory: Factory, tmp_path: Path
) -> None:
    commit = factory.commit(0)
    publish(store, factory.release(commit), commit, factory.matrix, release=True)
    environment = tool.environment(tmp_path / "env")
    with host(store) as base:
        url = f"{base}/releases/download/v0.5.4/{CU118}"
        environment.install(url)
        assert environment.vllm() == ("0.5.4+cu118", commit.sha)
        environment.install("--upgrade", "--index-url", f"{base}/whl/cu121/", "vllm==0.5.4")
        other = tool.environment(tmp_path / "other")
        said = other.install("--verbose", "--index-url", f"{base}/whl/cu121/", "vllm")
    assert other.vllm() == ("0.5.4", commit.sha)
    assert not re.search(r"Collecting vllm==0\.5\.4\+cu118", said)
