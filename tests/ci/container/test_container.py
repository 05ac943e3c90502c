"""The settings for cibuildwheel; `make cibuildwheel` runs it in a real container."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ci import environment, native
from ci.__main__ import main
from ci.container import image, podman, wheels
from ci.container.podman import NoContainers
from ci.container.wheels import ContainerBuildError, ContainerEnvironment
from ci.matrix import Matrix
from tests.ci.support.repository import commit, run
from tests.ci.support.wheels import Factory

ROOT = Path(__file__).parents[3]
SETTINGS = wheels.cibuildwheel_settings(ROOT)


def test_it_compiles_with_the_releases_compiler(the_matrix: Matrix) -> None:
    """pyproject.toml cannot ask ci/native.py, so it says the same again."""
    zig = Path("/opt/python/cp39-cp39/lib/python3.9/site-packages/ziglang/zig")
    defines = native.release_defines(the_matrix.main, Path("{project}"), zig)
    assert SETTINGS["config-settings"] == {f"cmake.define.{k}": v for k, v in defines.items()}
    assert "--constraints {project}/requirements/ci.txt " in SETTINGS["before-build"]


def test_it_repairs_to_the_tag_of_the_matrix(the_matrix: Matrix) -> None:
    assert f"--plat {the_matrix.main.policy} " in SETTINGS["repair-wheel-command"]
    assert f"--platform-tag {the_matrix.main.tag} " in SETTINGS["repair-wheel-command"]


def test_it_tests_pythons_of_the_matrix(the_matrix: Matrix) -> None:
    versions = wheels.versions_to_test(SETTINGS)
    assert versions == ["3.9", "3.10", "3.11", "3.12", "3.13"]
    assert set(versions) <= set(the_matrix.trial_pythons)


def test_torch_stays_out_of_its_tests() -> None:
    override = ROOT / Path(SETTINGS["test-environment"]["UV_OVERRIDE"]).relative_to("/project")
    (line,) = (line for line in override.read_text().splitlines() if not line.startswith("#"))
    assert re.fullmatch(r'torch ; python_version < "3"', line)


def test_a_local_image_is_one_setting_and_pypas_another() -> None:
    assert ContainerEnvironment({"A": "1"}).variables() == environment.for_installing({"A": "1"})
    variables = ContainerEnvironment({}, "localhost/x").variables()
    assert variables["CIBW_MANYLINUX_X86_64_IMAGE"] == "localhost/x"
    assert variables["CIBW_CONTAINER_ENGINE"].startswith("podman")
    # The local image has the one Python that builds.
    assert variables["CIBW_BUILD"] == SETTINGS["build"][0]


def test_podman_may_have_the_limits_of_this_machine() -> None:
    text = podman.settings(20000, 32768)
    assert 'default_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]' in text
    assert 'runtime = "runc"' in text


def test_without_podman_and_root_the_reason_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoContainers, match="podman, runc, mmdebstrap not found") as caught:
        podman.prepare(tmp_path)
    assert "apt-get install" in caught.value.do


def test_without_containers_ci_reports_why_and_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bin").mkdir()
    git = shutil.which("git")
    assert git is not None
    (tmp_path / "bin" / "git").symlink_to(git)
    repo = tmp_path / "repo"
    repo.mkdir()
    run(repo, "init", "-q")
    commit(repo, "one")
    monkeypatch.chdir(repo)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert main(["cibuildwheel", "--if-possible"]) == 0
    assert "cibuildwheel was not run: podman, runc, mmdebstrap not found" in capsys.readouterr().out
    assert main(["cibuildwheel"]) == 1
    assert "what to do" in capsys.readouterr().err


def test_an_image_of_other_requirements_has_another_name() -> None:
    assert image._version(b"uv==1") != image._version(b"uv==2")


def test_wheels_differ_by_their_native_files_alone(factory: Factory) -> None:
    wheel = factory.wheel(factory.commit(1), "cu118", "0.5.4+cu118")
    one = replace(wheel, native={"vllm/_C.abi3.so": "1", "a.cubin": "2"})
    assert wheels.differences(one, replace(one, sha256="another")) == []
    assert wheels.differences(one, replace(one, native={"vllm/_C.abi3.so": "3"})) == [
        "a.cubin",
        "vllm/_C.abi3.so",
    ]
    with pytest.raises(ContainerBuildError, match=r"has a vllm/_C\.abi3\.so"):
        wheels.differences(replace(one, native={}), replace(one, native={}))
