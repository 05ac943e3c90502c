"""A server for the module."""

from __future__ import annotations

import importlib.util

import pytest

# The server needs an engine, which needs torch.
_ENGINES = ["test_offline.py", "test_serve.py"]
collect_ignore_glob = [] if importlib.util.find_spec("torch") else _ENGINES


@pytest.fixture(scope="module")
def server(chat_model):
    from tests.entrypoints.openai.support import running

    with running(chat_model.folder) as server:
        yield server


@pytest.fixture(scope="module")
def each_token(chat_model):
    from tests.entrypoints.bench import each_token

    with each_token.running(chat_model.folder) as server:
        yield server
