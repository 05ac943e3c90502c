"""Objects that exist when the engine is ready are excluded from later garbage collections."""

from __future__ import annotations

import gc
import types

import pytest

from vllm import LLM
from vllm.engine_process.main import serve
from vllm.engine_process.messages import Close, Ready, encoder


@pytest.fixture
def unfrozen():
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_the_heap_is_frozen_before_the_engine_is_ready(chat_model, unfrozen):
    engine = LLM(str(chat_model.folder), num_kv_blocks=64).engine
    frozen = []
    inbox = types.SimpleNamespace(recv=lambda: encoder.encode(Close()))
    serve(engine, inbox, [lambda message: frozen.append((type(message), gc.get_freeze_count()))])
    kind, count = frozen[0]
    assert kind is Ready
    assert count > 0
    assert not any(each is engine.__dict__ for each in gc.get_objects())
