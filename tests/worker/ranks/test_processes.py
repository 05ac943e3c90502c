"""Ranks as processes: started, compared, and gone afterwards."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import os
import subprocess
import sys

import pytest

from tests.models.support import prompts_of
from tests.ports import free_port
from tests.worker.ranks.support import ThreadRanks
from vllm.config import ModelError
from vllm.engine.engine_thread import EngineClosedError
from vllm.engine_args import EngineArgs
from vllm.engines import AsyncLLMEngine
from vllm.entrypoints.cli import main as cli
from vllm.errors import RankError
from vllm.llm import LLM
from vllm.sampling_params import SamplingParams
from vllm.worker.ranks import executor
from vllm.worker.ranks.join import compare

PROMPTS = prompts_of([1, 17, 33])
GREEDY = SamplingParams(temperature=0, max_tokens=12)


def make_llm(tiny, size, **kwargs):
    kwargs = {"num_kv_blocks": 64, "skip_tokenizer_init": True, "device": "cpu", **kwargs}
    return LLM(tiny("llama3").folder, tensor_parallel_size=size, **kwargs)


def are_gone(pids):
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_processes_generate_and_are_gone_with_the_engine(tiny):
    expected = [o.outputs[0].token_ids for o in make_llm(tiny, 1).generate(PROMPTS, GREEDY)]
    for again in (False, True):  # a second start works at once
        llm = make_llm(tiny, 2)
        pids = llm.engine.executor.pids
        assert len(pids) == 1
        assert [o.outputs[0].token_ids for o in llm.generate(PROMPTS, GREEDY)] == expected
        if again:
            llm.engine.executor.close()
            are_gone(pids)
            with pytest.raises(RankError, match="the engine has been shut down"):
                llm.generate(PROMPTS, GREEDY)
        del llm
        gc.collect()
        are_gone(pids)


def test_shutdown_ends_the_ranks(tiny, monkeypatch):
    started = []

    class Recorded(ThreadRanks):
        def __init__(self, *args):
            super().__init__(*args)
            started.append(self)

    monkeypatch.setattr(executor, "Processes", Recorded)
    args = EngineArgs(
        tiny("llama3").folder,
        skip_tokenizer_init=True,
        num_kv_blocks=64,
        tensor_parallel_size=2,
        device="cpu",
    )

    async def serve():
        async with AsyncLLMEngine(args) as engine:
            outputs = [output async for output in engine.generate(PROMPTS[0], GREEDY)]
            assert started[0].are_alive()
        return engine, outputs[-1].finished

    engine, finished = asyncio.run(serve())
    assert finished
    assert not started[0].are_alive()
    assert engine.engine.executor.pids == []


def test_an_async_engine_ends_with_its_ranks(tiny, monkeypatch):
    def fail(step):
        raise RankError("rank 1 is gone")

    args = EngineArgs(
        tiny("llama3").folder, skip_tokenizer_init=True, num_kv_blocks=64, device="cpu"
    )

    async def serve():
        async with AsyncLLMEngine(args) as engine:
            monkeypatch.setattr(engine.engine.executor, "submit", fail)
            with pytest.raises(RankError, match="rank 1 is gone"):
                await engine.generate(PROMPTS[0], GREEDY).__anext__()
            with pytest.raises(EngineClosedError, match="RankError: rank 1 is gone"):
                await engine.generate(PROMPTS[0], GREEDY).__anext__()

    asyncio.run(serve())


def test_the_least_of_all_ranks_is_the_number_of_blocks(tiny, monkeypatch):
    numbers = iter([70, 30])  # in the order in which the ranks have loaded
    monkeypatch.setattr(executor, "Processes", ThreadRanks)
    monkeypatch.setattr("vllm.worker.kv_cache.choose_num_blocks", lambda *args: next(numbers))
    llm = make_llm(tiny, 2, num_kv_blocks=None)
    assert llm.engine.executor.num_blocks == 30


def test_a_size_that_does_not_divide_is_refused_before_anything_starts(tiny, monkeypatch):
    monkeypatch.delattr(executor, "Processes")
    with pytest.raises(ModelError, match=r"divided among 3 ranks: .*; possible .* 1, 2, 4"):
        make_llm(tiny, 3)


def test_arguments_that_differ_are_refused(tiny, monkeypatch):
    class Others(ThreadRanks):
        def __init__(self, args, size, port):
            super().__init__(dataclasses.replace(args, block_size=8), size, port)

        def kill(self):
            for thread in self._threads:
                thread.join(60)
            refused.extend(str(error) for error in self.errors)

    refused = []
    monkeypatch.setattr(executor, "Processes", Others)
    words = "ranks must not differ: block_size is 16 in rank 0, and 8 in rank 1"
    with pytest.raises(ValueError, match=words):
        make_llm(tiny, 2)
    assert refused
    assert all(words in each for each in refused)


def test_versions_that_differ_are_refused():
    same = {"the version of vllm": "1.0", "the commit of vllm": "abc"}
    compare([same, dict(same)])
    with pytest.raises(ValueError, match="the commit of vllm is 'abc' in rank 0, and 'abd' in"):
        compare([same, same, {**same, "the commit of vllm": "abd"}])


def test_the_number_of_processes_of_a_launcher_has_to_fit(tiny, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ValueError, match="tensor_parallel_size is 2, but WORLD_SIZE is 4"):
        make_llm(tiny, 2)


def test_torchrun_starts_the_ranks_of_a_command(chat_model, capsys):
    options = ["--prompt", "the cat", "--json", "--temperature", "0", "--max-tokens", "8"]
    command = ["generate", str(chat_model.folder), "--device", "cpu"]
    command += ["--num-kv-blocks", "64", *options]
    assert cli(command) == 0
    expected = json.loads(capsys.readouterr().out)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    address = ["--master-addr", "127.0.0.1", "--master-port", str(free_port())]
    done = subprocess.run(
        [*torchrun, *address, "-m", "vllm", *command, "--tensor-parallel-size", "2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected
