"""The Containerfile: built from an index on loopback, and a model served from what it makes."""

from __future__ import annotations

import importlib.util
import json
import shutil
import time

import pytest

from ci.serve import running
from ci.store import FolderStore
from tests.ci.conftest import factory, the_matrix  # noqa: F401 (fixtures)
from tests.examples.container import Podman
from tests.examples.test_python import EXAMPLES
from tests.examples.wheels import publish_installed

PATH = EXAMPLES / "Containerfile"
ASK = """
import json, urllib.request
body = {"model": "tiny", "prompt": "The cat", "max_tokens": 4, "temperature": 0}
request = urllib.request.Request(
    "http://127.0.0.1:8000/v1/completions", json.dumps(body).encode(),
    {"Content-Type": "application/json"},
)
print(urllib.request.urlopen(request).read().decode())
"""
needs_torch = pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="there is no torch")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    engine = Podman(tmp_path_factory.mktemp("podman"))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def commit(factory):  # noqa: F811 (the fixture)
    return factory.commit(3, "in a container")


@pytest.fixture(scope="module")
def image(engine, commit, factory, tmp_path_factory):  # noqa: F811 (the fixture)
    """Built from one commit's wheel, by its documented address."""
    folder = tmp_path_factory.mktemp("image")
    store = FolderStore(folder / "bucket", durable=False)
    publish_installed(store, folder, commit, factory)
    with running(store) as base:
        arguments = {"BASE": base, "VLLM_COMMIT": commit.sha}
        with engine.image(PATH, **arguments) as name:
            yield name


@needs_torch
def test_a_model_is_served_from_it(engine, image, chat_model, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(chat_model.folder, model)
    model.chmod(0o755)  # pytest's folders are the owner's alone, as are weights that torch writes
    for path in model.iterdir():
        path.chmod(0o644)
    few = ["--env=OMP_NUM_THREADS=1", "--env=VLLM_CPU_THREADS=1"]
    serve = ["/model", "--served-model-name", "tiny", "--num-kv-blocks", "64"]
    with engine.container(*few, f"--volume={model}:/model:ro", image, *serve) as name:
        while engine.status("healthcheck", "run", name).returncode:
            alive = engine.run("inspect", "--format={{.State.Running}}", name).strip()
            assert alive == "true", engine.status("logs", name)
            time.sleep(0.2)
        asked = engine.status("exec", "--interactive", name, "python3", "-", stdin=ASK)
        assert asked.returncode == 0, asked.stderr
        answer = json.loads(asked.stdout)
        assert (answer["object"], answer["model"]) == ("text_completion", "tiny")
        assert answer["usage"]["completion_tokens"] == 4
        engine.run("stop", "--time=600", name)  # SIGTERM; SIGKILL in ten minutes
        ended = engine.run("inspect", "--format={{.State.ExitCode}}", name).strip()
        assert ended == "0", engine.status("logs", name)


def test_it_has_the_commit_that_was_named(engine, image, commit):
    code = "import vllm; print(vllm.__commit__, vllm.__file__)"
    words = ["--rm", "--network=none", "--entrypoint=python3", *engine.mounts]
    sha, place = engine.run("run", *words, image, "-c", code).split()
    assert sha == commit.sha
    assert place.startswith("/opt/vllm/")


def test_nobody_in_it_is_root(engine, image):
    words = ["--rm", "--network=none", "--entrypoint=sh", *engine.mounts]
    said = engine.run("run", *words, image, "-c", "id -u; touch /models/a && echo writes")
    assert said.split() == ["1000", "writes"]
    assert engine.status("run", *words, image, "-c", "touch /opt/vllm/a").returncode != 0


def test_layers_hold_no_more_than_the_account_and_the_packages(engine, image):
    """Here an account is a few kB, and of the packages only vllm and pip are not mounted."""
    sizes = json.loads(engine.run("history", "--format=json", image))
    filled = [layer["size"] for layer in sizes if layer["size"] > 100_000]
    assert len(filled) == 1
    words = ["--rm", "--network=none", "--user=0", "--entrypoint=sh", *engine.mounts]
    kept = "find / -xdev -path /proc -prune -o -name '*.whl' -print -o -path '*/.cache/*' -print"
    assert engine.run("run", *words, image, "-c", kept) == ""
