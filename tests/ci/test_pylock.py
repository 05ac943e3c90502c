"""Lock files: narrowed to Linux, completed by a commit's wheels, installed by the real clients."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from packaging.pylock import Pylock, is_valid_pylock_path
from packaging.requirements import Requirement
from packaging.version import Version

from ci import pylock, toml
from ci.git import Commit
from ci.matrix import Matrix
from ci.publish import beside, publish
from ci.publish.plan import commit_wheels
from ci.pylock import LockError
from ci.serve import running
from ci.store import FolderStore
from tests.ci.clients.conftest import (
    NEWEST,
    UV,
    plain_hosting,
    run,
    seeded_pip,
    stand_in_index,
)
from tests.ci.clients.test_clients import torch_wheel
from tests.ci.support.toolchain import ROOT
from tests.ci.support.wheels import Factory

StandIn = Callable[[str], str]  # an index with the torch of a variant → its address


@pytest.fixture(scope="module")
def commit(factory: Factory) -> Commit:
    return factory.commit(1)


def test_what_is_locked_is_what_the_wheels_require(the_matrix: Matrix) -> None:
    for python in the_matrix.trial_pythons:
        locked = pylock.read(the_matrix.default.variant, python)
        assert locked is not None, python
        Pylock.from_dict(locked).validate()
        versions = {p["name"]: p["version"] for p in locked["packages"]}
        for wanted in pylock.requirements(ROOT / "pyproject.toml", the_matrix.default):
            requirement = Requirement(wanted)
            assert requirement.specifier.contains(versions[requirement.name]), wanted
        for package in locked["packages"]:
            for wheel in package["wheels"]:
                assert wheel["url"].startswith("https://files.pythonhosted.org/packages/")
                assert len(wheel["hashes"]["sha256"]) == 64


def test_a_commit_has_a_lock_for_every_python_and_constraints(
    factory: Factory, commit: Commit, the_matrix: Matrix
) -> None:
    wheels = factory.wheels(commit)
    found = beside.of_commit(wheels, commit, the_matrix)
    default = next(w for w in wheels if w.version == "0.5.4")
    for python in the_matrix.trial_pythons:
        name = pylock.lock_name("cu121", python)
        assert is_valid_pylock_path(Path(name))
        lock = Pylock.from_dict(toml.loads(found[name].source.decode()))
        lock.validate()
        (own,) = [package for package in lock.packages if package.name == "vllm"]
        assert own.version == Version("0.5.4")
        assert own.wheels[0].hashes == {"sha256": default.sha256}
        assert own.wheels[0].url.endswith(f"/{commit.sha}/{default.path.name}")
    lines = found["constraints.cu121.txt"].source.decode().splitlines()
    assert "torch==2.4.1 ; python_version == '3.8'" in lines
    assert all("vllm" not in line.split("==")[0] for line in lines)
    again = beside.of_commit(factory.wheels(commit), commit, the_matrix)
    assert {n: b.sha256 for n, b in again.items()} == {n: b.sha256 for n, b in found.items()}


def wheel(name: str) -> dict[str, object]:
    return {"url": f"https://files.example/{name}", "size": 1, "hashes": {"sha256": "0" * 64}}


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("a-1-py3-none-any.whl", True),
        ("a-1-py2.py3-none-any.whl", True),
        ("a-1-cp311-cp311-manylinux_2_28_x86_64.whl", True),
        ("a-1-cp311-cp311-manylinux2014_aarch64.whl", True),
        ("a-1-cp311.pp311-none-manylinux_2_28_x86_64.whl", True),
        ("a-1-cp311-abi3-manylinux_2_28_x86_64.whl", True),
        ("a-1-cp311-none-any.whl", True),
        ("a-1-cp310-none-any.whl", False),
        ("a-1-cp3-none-any.whl", True),
        ("a-1-py310-none-any.whl", True),
        ("a-1-py311-none-any.whl", True),
        ("a-1-py312-none-any.whl", False),
        ("a-1-cp39-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", True),
        ("a-1-py3-none-manylinux_2_28_x86_64.whl", True),
        ("a-1-cp312-cp312-manylinux_2_28_x86_64.whl", False),
        ("a-1-cp312-abi3-manylinux_2_28_x86_64.whl", False),
        ("a-1-cp311-cp311t-manylinux_2_28_x86_64.whl", False),
        ("a-1-cp311-cp311-musllinux_1_2_x86_64.whl", False),
        ("a-1-cp311-cp311-manylinux_2_28_ppc64le.whl", False),
        ("a-1-cp311-cp311-win_amd64.whl", False),
        ("a-1-pp311-pypy311_pp73-manylinux_2_28_x86_64.whl", False),
        ("a-1-py2-none-any.whl", True),
    ],
)
def test_only_what_linux_can_install_stays(name: str, fits: bool) -> None:
    resolved = {"packages": [{"name": "a", "version": "1", "wheels": [wheel(name)]}]}
    if not fits:
        with pytest.raises(LockError, match=r"a has no wheel for Python 3\.11"):
            pylock.narrow(resolved, "3.11")
        return
    (kept,) = pylock.narrow(resolved, "3.11")["packages"]
    assert [w["url"] for w in kept["wheels"]] == [f"https://files.example/{name}"]


def test_markers_of_other_systems_go_and_those_of_one_processor_stay() -> None:
    any_wheel = [wheel("a-1-py3-none-any.whl")]
    markers = {
        "everywhere": "python_full_version >= '3.9'",
        "windows": "sys_platform == 'win32'",
        "older": "python_full_version < '3.11'",
        "intel": "platform_machine == 'x86_64' and sys_platform == 'linux'",
    }
    packages = [
        {"name": name, "version": "1", "marker": marker, "wheels": any_wheel}
        for name, marker in markers.items()
    ]
    kept = {
        p["name"]: p.get("marker")
        for p in pylock.narrow({"packages": packages}, "3.11")["packages"]
    }
    assert kept == {"everywhere": None, "intel": "platform_machine == 'x86_64'"}


def test_a_mirrors_address_is_not_written_down() -> None:
    path = "/packages/5e/b1/" + "0" * 60 + "/a-1-py3-none-any.whl"
    mirrored = {"url": f"https://mirror.example/pypi{path}", "hashes": {}, "upload-time": "now"}
    resolved = {"packages": [{"name": "a", "version": "1", "wheels": [mirrored]}]}
    (kept,) = pylock.narrow(resolved, "3.11")["packages"]
    assert kept["wheels"] == [{"url": f"{pylock.FILES}{path}", "hashes": {}}]


def test_a_file_of_this_machine_keeps_its_path() -> None:
    local = {"path": "found/a-1-py3-none-any.whl", "hashes": {"sha256": "0"}}
    resolved = {"packages": [{"name": "a", "version": "1", "wheels": [local]}]}
    (kept,) = pylock.narrow(resolved, "3.11")["packages"]
    assert kept["wheels"] == [local]


def test_a_commits_own_wheels_are_added_in_order() -> None:
    others = [{"name": name, "version": "1", "wheels": []} for name in ("a", "z")]
    locked = {"packages": others}
    own = [{"url": "https://files.example/own.whl"}]
    made = toml.loads(pylock.with_wheels(locked, "c" * 40, "2", iter(own)).decode())
    assert [package["name"] for package in made["packages"]] == ["a", "vllm", "z"]
    assert made["packages"][1] == {"name": "vllm", "version": "2", "wheels": own}
    assert made["tool"] == {"vllm": {"commit": "c" * 40}}
    assert locked == {"packages": others}


def test_constraints_are_the_locks_of_all_pythons() -> None:
    plain = {"name": "z", "version": "1"}
    marked = {"name": "a", "version": "2", "marker": "platform_machine == 'x86_64'"}
    locks = {"3.9": {"packages": [plain, marked]}, "3.10": {"packages": [plain]}}
    assert pylock.constraints(locks).decode().splitlines() == [
        "a==2 ; python_version == '3.9' and platform_machine == 'x86_64'",
        "z==1 ; python_version == '3.10'",
        "z==1 ; python_version == '3.9'",
    ]


def test_a_variant_that_was_not_resolved_has_no_lock(tmp_path: Path) -> None:
    assert pylock.read("cu121", "3.11", tmp_path) is None


# What the stand-in has of each variant, newest first. The first may be newer than its wheels allow.
TORCHES = {
    "cu118": ["2.8.0", "2.7.1", "2.1.2"],
    "cu128": ["2.12.0", "2.11.0", "2.7.0"],
    "cu129": ["2.14.0", "2.13.0", "2.8.0"],
    "cu130": ["2.14.0", "2.9.0"],
}
NEWEST_TORCH = {"cu118": "2.7.1", "cu128": "2.11.0", "cu129": "2.13.0", "cu130": "2.14.0"}


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[StandIn]:
    """PyTorch's index of a CUDA version, as it looks; its torch is a name and a version."""
    with ExitStack() as stack:

        def serve(variant: str) -> str:
            wheels = dict(torch_wheel(f"{each}+{variant}") for each in TORCHES[variant])
            folder = stand_in_index(tmp_path / "index" / variant, "torch", wheels)
            return stack.enter_context(plain_hosting(folder))

        yield serve


def test_every_variant_that_pypi_has_no_torch_for_is_tried(the_matrix: Matrix) -> None:
    others = {cuda.variant: cuda for cuda in the_matrix.cudas if not cuda.default}
    assert TORCHES.keys() == NEWEST_TORCH.keys() == others.keys()


@pytest.mark.parametrize("variant", TORCHES)
@pytest.mark.parametrize("client", ["uv", "pip"])
def test_a_lock_of_another_variant_installs_its_torch(
    stand_in: StandIn,
    factory: Factory,
    the_matrix: Matrix,
    tmp_path: Path,
    variant: str,
    client: str,
) -> None:
    """Resolved at a stand-in for PyTorch's index, then installed without any index."""
    cuda = the_matrix.variant(variant)
    also = [variant] if cuda.on_request else []
    asked = dataclasses.replace(factory, matrix=the_matrix.of_commit(also))
    options = ["--index-url", stand_in(variant), "--no-config"]
    locked = pylock.resolve([f"torch{cuda.torch}"], "3.11", options)
    install_lock(locked, variant, asked, asked.commit(1), tmp_path, client)
    question = "from importlib.metadata import version; print(version('torch'), version('vllm'))"
    ran = run([str(tmp_path / "env/bin/python"), "-c", question], tmp_path)
    assert ran.text.split() == [f"{NEWEST_TORCH[variant]}+{variant}", f"0.5.4+{variant}"]


@pytest.mark.parametrize("variant", TORCHES)
def test_the_command_locks_a_variant_with_all_that_its_wheels_require(
    stand_in: StandIn, the_matrix: Matrix, tmp_path: Path, variant: str
) -> None:
    """`ci lock`: torch from the index that is named, everything else from PyPI."""
    command = [sys.executable, "-m", "ci", "lock", "--variant", variant, "--python", "3.11"]
    command += ["--torch-index", stand_in(variant), "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    locked = pylock.read(variant, "3.11", tmp_path)
    assert locked is not None
    found = {package["name"]: package for package in locked["packages"]}
    assert found["torch"]["version"] == f"{NEWEST_TORCH[variant]}+{variant}"
    for wanted in map(
        Requirement, pylock.requirements(ROOT / "pyproject.toml", the_matrix.variant(variant))
    ):
        assert wanted.specifier.contains(found[wanted.name]["version"]), wanted
        (*_, wheel) = found[wanted.name]["wheels"]
        assert wheel["url"].startswith(pylock.FILES) == (wanted.name != "torch")


@pytest.mark.slow
@pytest.mark.parametrize("client", ["uv", "pip"])
def test_the_default_lock_installs_a_real_torch(
    factory: Factory, commit: Commit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    """With the torch that the tests are written against, from where this machine has it."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*command, "--dest", str(tmp_path), "torch==2.13.0"], check=True)
    wanted = pylock.requirements(ROOT / "pyproject.toml", factory.matrix.default)
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    monkeypatch.setattr(pylock, "FILES", mirror())
    options = ["--find-links", str(tmp_path)]
    locked = pylock.resolve([*wanted, "torch==2.13.0"], version, options)
    install_lock(locked, "cu121", factory, commit, tmp_path, client)
    asked = "import torch, vllm; print(torch.__version__.split('+')[0], vllm.__commit__)"
    ran = run([str(tmp_path / "env/bin/python"), "-Wignore", "-c", asked], tmp_path)
    assert ran.text.split() == ["2.13.0", commit.sha]


def mirror() -> str:
    """Where this machine has PyPI's files from."""
    command = [UV, "pip", "compile", "--quiet", "--no-header", "--format", "pylock.toml", "-"]
    done = subprocess.run(command, input="filelock", capture_output=True, text=True, check=True)
    url = str(toml.loads(done.stdout)["packages"][0]["wheels"][0]["url"])
    return url.partition("/packages/")[0]


def install_lock(
    locked: dict, variant: str, factory: Factory, commit: Commit, folder: Path, client: str
) -> None:
    """Installs a commit's lock file, made of `locked`, into a new environment."""
    store = FolderStore(folder / "bucket", durable=False)
    publish(store, factory.wheels(commit), commit, factory.matrix)
    name = next(n for n, of in commit_wheels(factory.matrix, commit).items() if of == variant)
    own = next(wheel for wheel in factory.wheels(commit) if wheel.path.name == name)
    made = run([str(UV), "--no-config", "venv", "--quiet", str(folder / "env")], folder)
    assert made.code == 0, made.text
    install = [str(UV), "--no-config", "pip", "install", "--python", str(folder / "env")]
    if client == "pip":
        install = [*seeded_pip(NEWEST, folder)[1], "--python", str(folder / "env/bin/python")]
        install.append("install")
    with running(store) as base:
        url = f"{base}/{commit.sha}/{own.path.name.replace('+', '%2B')}"
        wheels = [{"url": url, "size": own.size, "hashes": {"sha256": own.sha256}}]
        lock = folder / "pylock.toml"
        lock.write_bytes(pylock.with_wheels(locked, commit.sha, own.version, wheels))
        ran = run([*install, "-r", str(lock)], folder)
    assert ran.code == 0, ran.text
