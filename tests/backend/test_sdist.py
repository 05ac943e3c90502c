"""An sdist builds wheels of its own version, with any compiler on the machine.

By the real pip and uv, which refuse any other.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ci.environment import for_installing
from ci.wheel import reader
from tests.backend.conftest import MakeNvcc, call_hook, copy_tree

EMPTY = {"VLLM_TARGET_DEVICE": "empty"}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Alone in its folder."""
    folder = tmp_path_factory.mktemp("sdist")
    tree = copy_tree(folder / "tree")
    done = call_hook(tree, "build_sdist(OUT)", folder / "dist", **EMPTY)
    assert done.returncode == 0, done.stderr
    (made,) = (folder / "dist").iterdir()
    assert made.name == "vllm-0.5.4.tar.gz"
    return made


def run(*command: str, cwd: Path, **environ: str) -> str:
    own = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", **EMPTY}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env={**for_installing(), **own, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize(
    "command",
    [
        "pip wheel --no-deps --no-build-isolation --no-index --find-links {sdist.parent} "
        "--no-binary vllm -w {out} vllm==0.5.4",
        "uv build --wheel --no-build-isolation --out-dir {out} {sdist}",
    ],
    ids=["pip", "uv"],
)
def test_the_wheel_is_what_was_asked_for(sdist: Path, tmp_path: Path, command: str) -> None:
    words = command.format(sdist=sdist, out=tmp_path).replace("{sdist.parent}", str(sdist.parent))
    run(*words.split(), cwd=tmp_path)
    (made,) = tmp_path.glob("*.whl")
    wheel = reader.read(made)
    assert made.name == "vllm-0.5.4-py3-none-any.whl"
    assert (wheel.version, wheel.build.variant) == ("0.5.4", "empty")


def test_a_toolkit_of_the_machine_changes_the_variant_and_not_the_version(
    sdist: Path, tmp_path: Path, nvcc: MakeNvcc
) -> None:
    run("tarfile", "-e", str(sdist), str(tmp_path), cwd=tmp_path)
    (tree,) = tmp_path.glob("vllm-*")
    for environ in (nvcc("13.0"), {"VLLM_CUDA_VERSION": "11.8"}, {"VLLM_TARGET_DEVICE": "cpu"}):
        out = tmp_path / "-".join(environ)
        hook = "prepare_metadata_for_build_wheel(OUT)"
        done = call_hook(tree, hook, out, **{"VLLM_TARGET_DEVICE": "cuda", **environ})
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "vllm-0.5.4.dist-info"
    again = call_hook(tree, "build_sdist(OUT)", tmp_path / "again")
    assert again.stdout.splitlines()[-1] == "vllm-0.5.4.tar.gz", again.stderr


def test_a_checkout_keeps_its_local_version(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    done = call_hook(tree, "prepare_metadata_for_build_wheel(OUT)", tmp_path, **EMPTY)
    assert done.stdout.splitlines()[-1] == "vllm-0.5.4+empty.dist-info", done.stderr
