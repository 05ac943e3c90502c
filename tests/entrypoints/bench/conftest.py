"""A server for the module."""

from __future__ import annotations

import importlib.util

import pytest

# The server needs an engine, which needs torch.
collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["test_serve.py"]


@pytest.fixture(scope="module")
def server(chat_model):
    from tests.entrypoints.openai.support import running

    with running(chat_model.folder) as server:
        yield server
