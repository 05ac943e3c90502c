"""Replicas of a server's engine, each on a GPU of its own: one is killed, and comes back."""

from __future__ import annotations

import asyncio

import pytest

torch = pytest.importorskip("torch")

from tests.engine_process.test_replica_faults import (  # noqa: E402
    ask,
    kill_the_first,
    length,
    until,
)
from vllm import EngineArgs  # noqa: E402
from vllm.engine_process import client as module  # noqa: E402
from vllm.engine_process.client import AsyncEngineClient  # noqa: E402


def test_the_other_goes_on_and_it_comes_back_to_its_gpu(chat_model, monkeypatch):
    count = torch.cuda.device_count()
    if count < 2:
        pytest.skip(f"needs two GPUs, torch sees {count}")
    monkeypatch.setattr(module, "RESTART_SECONDS", 0.01)
    args = EngineArgs(str(chat_model.folder), num_kv_blocks=64, max_num_seqs=4, device="cuda")

    async def run():
        async with await AsyncEngineClient.start(args, num_engines=2) as client:
            victim = await kill_the_first(client)
            assert [length(await task) for task in ask(client, [1, 2], [5, 6])] == [60, 60]
            await until(lambda: len(client.pids) == 2)
            assert victim not in client.pids
            assert [length(await task) for task in ask(client, [1, 2], [3, 4])] == [60, 60]

    asyncio.run(asyncio.wait_for(run(), 240))
