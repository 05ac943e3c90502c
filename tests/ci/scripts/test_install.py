"""Which wheel fits: for made-up machines, then on this one, with real pip and uv."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ci import interpreters
from ci.git import Commit
from ci.index.manifest import dump, of_matrix
from ci.publish import fail, plan, publish
from ci.scripts import install, published
from ci.scripts.install import Gpu, Machine
from ci.serve import running
from ci.store import FolderStore
from tests.ci.clients.conftest import UV, run
from tests.ci.support.sockets import BROKEN_ANSWERS, answering
from tests.ci.support.wheels import Factory

HERE = Machine("x86_64", (2, 36), "cpython", (3, 11), False, (12, 4), (), None, None)
T4, V100, A100 = Gpu("T4", (7, 5)), Gpu("V100", (7, 0)), Gpu("A100", (8, 0))
H100, B200, FUTURE = Gpu("H100", (9, 0)), Gpu("B200", (10, 0)), Gpu("X", (13, 0))


@pytest.fixture(scope="module")
def manifest(factory: Factory) -> dict[str, Any]:
    """A commit as it is published, with the archs that these tests speak of."""
    commit = factory.commit(1)
    unit = plan.unit(factory.wheels(commit), commit, factory.matrix, "2026-11-05T12:00:00Z")
    found = json.loads(dump(of_matrix(unit, factory.matrix)))
    for name, archs in {
        "cu118": ["7.0", "8.0", "9.0"],
        "cu121": ["7.0", "8.0", "9.0", "9.0a"],
    }.items():
        found["variants"][name].update(archs=archs, ptx=["9.0"])
    return found


@pytest.mark.parametrize(
    ("changes", "variant", "reason"),
    [
        ({}, "cu121", ""),
        ({"gpus": (H100,)}, "cu121", ""),
        ({"gpus": (A100, T4)}, "cu121", ""),
        ({"driver": None}, "cu121", ""),
        ({"driver": (11, 4), "gpus": (A100,)}, "cu118", "older than 12.0"),
        ({"driver": (11, 4), "gpus": (A100,), "torch": "2.8.0"}, "", "torch 2.8.0 is installed"),
        ({"torch": "2.0.1"}, "", "it needs torch>=2.1"),
        ({"torch": "2.1"}, "cu121", ""),
        ({"gpus": (B200,), "driver": (12, 8)}, "cu121", ""),  # by PTX
        ({"gpus": (Gpu("P100", (6, 0)),)}, "", "no code for P100 (6.0)"),
        ({"glibc": None}, "", "no glibc (musl?)"),
        ({"glibc": (2, 4)}, "", "glibc 2.4"),
        ({"python": (3, 7)}, "", "cpython 3.7"),
        ({"python": (3, 14)}, "cu121", ""),
        ({"implementation": "pypy"}, "", "pypy 3.11"),
        ({"free_threaded": True}, "", "free-threaded"),
        ({"processor": "riscv64"}, "", "riscv64"),
        ({"processor": "aarch64 in 32-bit mode"}, "", "aarch64 in 32-bit mode"),
        ({"system": "Darwin", "glibc": None}, "", "x86_64, Darwin"),
    ],
)
def test_a_machine_gets_the_wheel_that_fits_or_the_reason(
    manifest: dict[str, Any], changes: dict[str, Any], variant: str, reason: str
) -> None:
    machine = dataclasses.replace(HERE, **changes)
    choice = install.choose(machine, manifest)
    assert choice.variant == variant
    assert (choice.file is None) == (variant == "")
    said = install.explain(machine, manifest, choice)
    assert reason in said
    if choice.file is not None:
        assert choice.file["name"] in said


@pytest.mark.parametrize(
    ("gpu", "archs", "ptx", "code"),
    [
        (H100, ["8.0", "9.0", "9.0a"], ["9.0"], "9.0a"),
        (Gpu("RTX 4090", (8, 9)), ["8.0", "8.6", "9.0"], ["9.0"], "8.6"),
        (Gpu("Orin", (8, 7)), ["8.0", "8.6", "8.9"], ["9.0"], "8.6"),
        (Gpu("B300", (10, 3)), ["9.0a", "10.0"], ["9.0"], "10.0"),
        (Gpu("B300", (10, 3)), ["9.0", "10.0a"], ["9.0"], "PTX 9.0"),
        (Gpu("B300", (10, 3)), ["9.0", "10.0f"], ["9.0"], "10.0f"),
        (B200, ["9.0", "10.3f"], ["9.0"], "PTX 9.0"),
        (FUTURE, ["9.0"], ["7.0", "9.0"], "PTX 9.0"),
        (T4, ["8.0"], ["9.0"], None),
    ],
)
def test_a_gpu_is_given_the_nearest_code(
    gpu: Gpu, archs: list[str], ptx: list[str], code: str | None
) -> None:
    variant = {"archs": archs, "ptx": ptx, "cuda": "12.1"}
    assert install.code_for(gpu.capability, variant, (12, 8)) == code
    if code and code.startswith("PTX"):  # which a driver older than its compiler cannot read
        assert install.code_for(gpu.capability, variant, (12, 0)) is None


@pytest.mark.parametrize(
    ("gpu", "processor", "code"),
    [
        (Gpu("Thor", (11, 0)), "aarch64", "11.0 for Thor"),
        (Gpu("Orin", (8, 7)), "aarch64", "8.7 for Orin"),
        (V100, "aarch64", "no code for V100 (7.0)"),
        (V100, "x86_64", "7.0 for V100"),
        (Gpu("Orin", (8, 7)), "x86_64", "8.6 for Orin"),
    ],
)
def test_a_wheel_for_arm_has_code_of_its_own_gpus(
    factory: Factory, gpu: Gpu, processor: str, code: str
) -> None:
    commit = factory.commit(1)
    unit = plan.unit(factory.wheels(commit), commit, factory.matrix, "2026-11-05T12:00:00Z")
    found = json.loads(dump(of_matrix(unit, factory.matrix)))
    machine = dataclasses.replace(HERE, processor=processor, gpus=(gpu,), driver=(13, 0))
    choice = install.choose(machine, found, "cu121")
    said = install.explain(machine, found, choice)
    assert code in said
    assert (choice.file is not None) == ("no code" not in code)
    # A manifest of before has one list for all, and is read as it was.
    for variant in found["variants"].values():
        del variant["others"]
    assert install.choose(HERE, found).variant == "cu121"


def test_warnings(manifest: dict[str, Any]) -> None:
    cpu = dataclasses.replace(HERE, gpus=(H100,), torch="2.13.0+cpu")
    assert "does not use the GPU" in " ".join(install.notes(cpu))
    assert "no NVIDIA driver" in " ".join(install.notes(dataclasses.replace(HERE, driver=None)))
    managed = dataclasses.replace(HERE, is_managed=True)
    assert "python3 -m venv ENV" in " ".join(install.notes(managed))
    bare = dataclasses.replace(HERE, has_pip=False)
    assert "python -m ensurepip" in " ".join(install.notes(bare))
    assert install.notes(bare, by_pip=False) == []
    with pytest.raises(install.InstallError, match="no variant cu999; there are cu118, cu121"):
        install.choose(HERE, manifest, "cu999")


@pytest.mark.parametrize(
    ("changes", "variant", "reason"),
    [
        ({"gpus": (H100,)}, "cu121", "for CUDA 13, newer than this driver's"),
        ({"gpus": (H100,), "driver": (13, 0)}, "cu121", None),
        ({"gpus": (H100,), "python": (3, 9)}, "cu121", None),  # whose newest torch is 2.8
        ({"gpus": (H100,)}, "cu118", None),  # its torch comes from its own index
        ({"gpus": (H100,), "driver": None}, "cu121", None),
        ({}, "cu121", None),
        ({"gpus": (V100,), "driver": (13, 0)}, "cu121", "no code for this GPU since 2.11"),
        ({"gpus": (V100,)}, "cu118", "no code for this GPU since 2.11"),
        ({"gpus": (V100,), "torch": "2.10.1+cu128"}, "cu121", None),
        ({"gpus": (V100,), "torch": "2.11.0"}, "cu121", "no code for this GPU since 2.11"),
        ({"gpus": (H100,), "torch": "2.13.0"}, "cu121", "for CUDA 13"),
        ({"gpus": (H100,), "torch": "2.13.0+cu130"}, "cu121", "for CUDA 13"),
        ({"gpus": (H100,), "torch": "2.13.0+cu126"}, "cu121", None),
        ({"gpus": (H100,), "torch": "2.10.0"}, "cu121", None),
    ],
)
def test_a_torch_that_this_driver_or_gpu_cannot_run(
    manifest: dict[str, Any], changes: dict[str, Any], variant: str, reason: str | None
) -> None:
    """PyPI's torch 2.10 is for CUDA 12.8, 2.11 for CUDA 13.0, as their requirements say."""
    machine = dataclasses.replace(HERE, **changes)
    choice = install.choose(machine, manifest, variant)
    assert choice.file is not None
    said = install.explain(machine, manifest, choice)
    assert ('also install "torch<2.11"' in said) == (reason is not None)
    assert (reason or "") in said
    command = install.command_for(machine, "http://x", manifest, choice, "python", pip=True)
    # An installed torch is left to its owner.
    assert ("torch<2.11" in command) == (reason is not None and machine.torch is None)


DRIVER = """\
int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) { *version = 11040; return 0; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetName(char *name, int size, int device) { name[0] = 'A' + device; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == 75 ? 8 : attribute == 76 ? 6 * device : -1;
  return 0;
}
"""


@pytest.fixture(scope="module")
def commit(factory: Factory) -> Commit:
    return factory.commit(1)


@pytest.fixture(scope="module")
def base(
    tmp_path_factory: pytest.TempPathFactory, factory: Factory, commit: Commit
) -> Iterator[str]:
    store = FolderStore(tmp_path_factory.mktemp("install") / "bucket", durable=False)
    publish(store, factory.wheels(commit), commit, factory.matrix)
    fail(store, factory.commit(2), "no compiler")
    with running(store) as address:
        yield address


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    folder = tmp_path / "env"
    made = run([str(UV), "--no-config", "venv", "--quiet", str(folder)], tmp_path)
    assert made.code == 0, made.text
    return folder


def test_the_driver_is_asked(base: str, commit: Commit, environment: Path, tmp_path: Path) -> None:
    pytest.importorskip("ziglang", reason="the releases' compiler, ziglang, is not installed")
    (tmp_path / "driver.c").write_text(DRIVER)
    compiler = [sys.executable, "-m", "ziglang", "cc", "-shared", "-fPIC", "-w"]
    library = ["-o", str(tmp_path / "libcuda.so.1"), str(tmp_path / "driver.c")]
    subprocess.run([*compiler, *library], check=True)
    script = [sys.executable, str(Path(install.__file__)), "--base", base, "--commit", commit.sha]
    asked = [*script, "--python", f"{environment}/bin/python", "--json"]
    ran = run(["env", f"LD_LIBRARY_PATH={tmp_path}", *asked], tmp_path)
    assert ran.code == 0, ran.text
    found = json.loads(ran.text)
    assert found["machine"]["driver"] == [11, 4]
    gpus = [{"name": "A", "capability": [8, 0]}, {"name": "B", "capability": [8, 6]}]
    assert found["machine"]["gpus"] == gpus
    assert found["variant"] == "cu118"
    assert found["command"][-2:] == ["--extra-index-url", install.TORCH_INDEX + "cu118"]


@pytest.mark.parametrize("client", ["uv", "pip"])
def test_the_command_installs_and_replaces(
    base: str,
    factory: Factory,
    commit: Commit,
    environment: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    client: str,
) -> None:
    if client == "pip":
        environment = tmp_path / "with-pip"
        made = [str(UV), "--no-config", "venv", "--quiet", "--seed", str(environment)]
        # As the machine is configured: pip comes from a registry.
        subprocess.run(made, check=True)
    active = ["env", f"VIRTUAL_ENV={environment}", f"PATH={environment}/bin:{os.environ['PATH']}"]
    uv_run = [str(UV), "--no-config", "run", "--quiet", "--python", sys.executable]
    script = [*active, *uv_run, f"{base}/{commit.sha}/install.py"]
    script += ["--pip"] if client == "pip" else []
    printed = run(script, tmp_path)
    assert printed.code == 0, printed.text
    command = shlex.split(printed.text.strip().splitlines()[-1])
    name = "vllm-0.5.4-cp38-abi3-manylinux1_x86_64.whl"
    assert command[-1] == f"{base}/{commit.sha}/{name}"
    assert "cu121    fits" in printed.text
    asked = [str(environment / "bin/python"), "-c", "import vllm; print(vllm.__commit__)"]
    assert run(asked, tmp_path).code != 0  # nothing was changed
    ran = run([*script, "--run"], tmp_path)
    assert ran.code == 0, ran.text
    assert run(asked, tmp_path).text.strip() == commit.sha
    again = run(script, tmp_path)
    assert "vllm     0.5.4 is installed, and will be replaced" in again.text
    command = shlex.split(again.text.strip().splitlines()[-1])
    assert ("--force-reinstall" in command) == (client == "pip")
    assert ("--reinstall-package" in command) == (client == "uv")
    ran = run([*script, "--run"], tmp_path)
    assert ran.code == 0, ran.text


def test_it_says_why_nothing_can_be_installed(
    base: str, factory: Factory, commit: Commit, tmp_path: Path
) -> None:
    script = [sys.executable, str(Path(install.__file__)), "--base", base]
    ran = run([*script, "--commit", factory.commit(2).sha], tmp_path)
    assert ran.code == 1
    assert f"has no wheels at {base}: failed no compiler" in ran.text
    ran = run([*script, "--commit", "0" * 40], tmp_path)
    assert "has no wheels at" in ran.text
    assert "nobody built it" in ran.text
    for python, why in (("/bin/false", ""), ("/no/such", "No such"), ("/etc", "Permission")):
        ran = run([*script, "--commit", commit.sha, "--python", python], tmp_path)
        assert ran.code == 1
        assert f"{python} cannot be used: {why}" in ran.text
        assert "Traceback" not in ran.text


@pytest.mark.parametrize("answer", BROKEN_ANSWERS.values(), ids=BROKEN_ANSWERS)
def test_a_broken_download_is_no_lack_of_wheels(answer: bytes) -> None:
    with (
        answering(answer) as base,
        pytest.raises(install.InstallError, match=f"{base}/.* cannot be read: "),
    ):
        install.get_manifest(base, "0" * 40)


def test_modules_of_the_current_folder_are_not_imported(
    base: str, commit: Commit, tmp_path: Path
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('not the standard library')")
    script = [sys.executable, str(Path(install.__file__)), "--base", base]
    ran = run([*script, "--commit", commit.sha], tmp_path, cwd=tmp_path)
    assert ran.code == 0, ran.text


@pytest.mark.parametrize("name", published.NAMES)
def test_the_scripts_run_on_the_oldest_python(
    base: str, commit: Commit, tmp_path: Path, name: str
) -> None:
    python = interpreters.find(["3.8"])["3.8"]
    if python is None:
        pytest.skip("no python3.8 on this machine")
    script = tmp_path / name
    script.write_bytes((Path(install.__file__).with_name(name)).read_bytes())
    options = ["--base", base, "--commit", commit.sha] if name == "install.py" else ["--help"]
    ran = run([str(python), "-W", "error", str(script), *options], tmp_path)
    assert ran.code == 0, ran.text
    assert ("cu121    fits" if name == "install.py" else "--good COMMIT") in ran.text
