"""Ranks that Ray starts: on two hosts, for which two network namespaces stand, and on one."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import time

import httpx
import pytest
import torch

from tests.worker.ranks.faults import check_record
from tests.worker.ranks.hosts import two_hosts, why_not
from tests.worker.ranks.ray_faults import FAULTS, run
from tests.worker.ranks.ray_nodes import cluster, left_of, own_environment
from vllm import EngineArgs
from vllm.engine_process.replicas import environments
from vllm.entrypoints.cli import main as cli
from vllm.worker.ranks import on_ray
from vllm.worker.ranks.ray_cluster import Placement, placements

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: `make ray` installs it"
)
OPTIONS = ["--device", "cpu", "--num-kv-blocks", "64", "--temperature", "0", "--max-tokens", "8"]
BY_RAY = ["--tensor-parallel-size", "2", "--distributed-executor-backend", "ray"]


@pytest.fixture(scope="module")
def on_cluster():
    """Two hosts, each a node of a cluster, and how a command is run on the first."""
    reason = why_not()
    if reason:
        pytest.skip(f"no two hosts on this machine: {reason}")
    with two_hosts() as hosts, cluster(hosts) as enter:
        yield hosts, enter


def name_of(fault):
    return f"rank {fault.rank} {fault.what}"


def generate(on_cluster, model, *words):
    _, enter = on_cluster
    command = [sys.executable, "-m", "vllm", "generate", str(model), *OPTIONS, *BY_RAY]
    return subprocess.run(
        [*enter, *command, "--prompt", "the cat", "--json", *words],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def alone(chat_model):
    """What one rank generates, as a line of JSON."""
    command = [sys.executable, "-m", "vllm", "generate", str(chat_model.folder), *OPTIONS]
    command += ["--prompt", "the cat", "--json"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@needs_ray
def test_two_hosts_generate_what_one_does(on_cluster, chat_model, alone):
    done = generate(on_cluster, chat_model.folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout == alone


@needs_ray
def test_a_cluster_that_is_too_small_is_refused(on_cluster, chat_model):
    done = generate(on_cluster, chat_model.folder, "--tensor-parallel-size", "4")
    assert done.returncode == 2
    words = "tensor_parallel_size 4 needs 4 CPUs of the Ray cluster (1 per rank), which has 2 on 2"
    assert words in done.stderr


@needs_ray
@pytest.mark.parametrize("fault", [FAULTS[0], FAULTS[-2]], ids=name_of)
def test_a_rank_that_ends_takes_the_others_with_it(on_cluster, tiny, fault):
    hosts, enter = on_cluster
    said, _ = run(fault, hosts, enter, tiny("qwen3").folder)
    assert re.search(fault.says, said)


def test_the_documented_table_is_of_these_faults():
    check_record("ray_faults", FAULTS)


@needs_ray
def test_a_server_that_starts_a_cluster_of_its_own(chat_model, alone):
    command = [sys.executable, "-m", "vllm", "serve", str(chat_model.folder), "--port", "0"]
    with own_environment() as variables:
        server = subprocess.Popen(
            [*command, *OPTIONS[:4], *BY_RAY],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **variables},
        )
        with server:
            said = []
            for line in server.stderr:
                said.append(line)
                if "ready in" in line:
                    break
            else:
                pytest.fail("it ended: " + "".join(said))
            url = line.partition(" at ")[2].partition(",")[0]
            body = {"prompt": "the cat", "temperature": 0, "max_tokens": 8}
            answer = httpx.post(f"{url}/completions", json=body, timeout=None)
            server.terminate()
            server.communicate()
        assert answer.json()["choices"][0]["text"] == json.loads(alone)["text"]
        assert server.returncode == 0
        while left_of(variables):  # Ray's own processes end after the last that uses them
            time.sleep(0.05)


def test_without_ray_the_extra_is_named(chat_model, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    assert cli(["generate", str(chat_model.folder), *OPTIONS, *BY_RAY, "--prompt", "x"]) == 1
    words = "distributed_executor_backend is 'ray', which this Python does not have: pip install 'v"
    assert words in capsys.readouterr().err


def test_torchrun_and_ray_are_not_both_asked(chat_model, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli(["generate", str(chat_model.folder), *OPTIONS, *BY_RAY, "--prompt", "x"]) == 2
    assert "torchrun has started this process" in capsys.readouterr().err


def test_replicas_are_servers_of_their_own():
    with pytest.raises(ValueError, match="Ray places the ranks of one engine: start a server"):
        environments(EngineArgs("model", distributed_executor_backend="ray"), 2)


def test_ranks_of_a_node_see_all_of_its_gpus_in_their_order():
    assert placements([("a", ["1"]), ("a", ["0"]), ("b", ["3"])]) == [
        Placement("a", 0, ["1", "0"]),
        Placement("a", 1, ["1", "0"]),
        Placement("b", 0, ["3"]),
    ]


def test_rank_0_takes_the_gpu_that_is_reserved_for_it():
    cuda, placement = torch.device("cuda", 0), Placement("a", 0, ["3", "1"])
    assert on_ray._device(torch.device("cpu"), placement, {}) == torch.device("cpu")
    assert on_ray._device(cuda, placement, {}) == torch.device("cuda", 3)
    assert on_ray._device(cuda, placement, {"CUDA_VISIBLE_DEVICES": "2,3"}) == torch.device(
        "cuda", 1
    )
    with pytest.raises(ValueError, match=r"GPU 3 for rank 0.* CUDA_VISIBLE_DEVICES is '0,1' here"):
        on_ray._device(cuda, placement, {"CUDA_VISIBLE_DEVICES": "0,1"})
