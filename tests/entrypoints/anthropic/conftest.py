"""A server for each module, and Anthropic's own client."""

from __future__ import annotations

import importlib.util

import pytest

# The server needs an engine, which needs torch.
collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["test_*.py"]


@pytest.fixture(scope="module")
def server(chat_model):
    from tests.entrypoints.openai.support import running

    with running(chat_model.folder, tool_call_parser="hermes", reasoning_parser="qwen3") as server:
        yield server


@pytest.fixture(scope="module")
def llm(chat_model):
    """The same model, offline."""
    from vllm import LLM

    return LLM(str(chat_model.folder), num_kv_blocks=64)


@pytest.fixture(scope="module")
def client(server):
    import anthropic

    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as client:
        yield client
