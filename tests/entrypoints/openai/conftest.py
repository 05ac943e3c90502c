"""A server on a tiny model."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess

import pytest

NODE_VERSION = "6.49.0"

# The server needs an engine, which needs torch.
collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["test_*.py"]


@pytest.fixture(scope="session")
def server(chat_model):
    from tests.entrypoints.openai.support import running

    with running(chat_model.folder, apart=True) as server:
        yield server


@pytest.fixture(scope="session")
def llm(chat_model):
    """The same model, offline."""
    from vllm import LLM

    return LLM(str(chat_model.folder), num_kv_blocks=64)


@pytest.fixture(scope="module")
def client(server):
    """OpenAI's own client."""
    import openai

    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="session")
def node_package(tmp_path_factory):
    """The folder of OpenAI's client for Node."""
    if shutil.which("npm") is None:
        pytest.skip("npm, which has OpenAI's client for Node, is not on this machine")
    home = tmp_path_factory.mktemp("node")
    (home / "package.json").write_text("{}")
    package = f"openai@{NODE_VERSION}"
    subprocess.run(["npm", "install", "--silent", "--no-save", package], cwd=home, check=True)
    return home / "node_modules" / "openai"


@pytest.fixture
def events(server):
    """events(path, **body) -> the JSON of each event of a stream, which must end as it should."""

    def read(path, **body):
        with server.http.stream("POST", path, json={"stream": True, **body}) as response:
            response.read()
            assert response.status_code == 200, response.text
            assert response.headers["content-type"].startswith("text/event-stream")
        parts = response.text.split("\n\n")
        assert parts[-2:] == ["data: [DONE]", ""]
        return [json.loads(part[len("data: ") :]) for part in parts[:-2]]

    return read
