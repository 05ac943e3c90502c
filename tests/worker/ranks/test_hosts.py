"""Ranks on two hosts, which torchrun starts: two network namespaces stand for them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.waiting import PATIENCE
from tests.worker.ranks.hosts import two_hosts, why_not
from vllm.entrypoints.cli import main as cli

GENERATE = ["generate", "--device", "cpu", "--num-kv-blocks", "64"]


@pytest.fixture(scope="module")
def hosts():
    reason = why_not()
    if reason:
        pytest.skip(f"no two hosts on this machine: {reason}")
    with two_hosts() as made:
        yield made


def run(hosts, *commands):
    """torchrun on each host, with its command; what came of them."""
    processes = []
    for rank, (host, command) in enumerate(zip(hosts, commands)):
        torchrun = [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "1"),
            *("--nnodes", "2", "--node-rank", str(rank)),
            *("--master-addr", hosts[0].address, "--master-port", "29500"),
        ]
        processes.append(
            subprocess.Popen(
                host.command(*torchrun, "-m", "vllm", *command, "--tensor-parallel-size", "2"),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        said = [process.communicate(timeout=PATIENCE) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *each) for process, each in zip(processes, said)]


def test_two_hosts_generate_what_one_does(hosts, chat_model, capsys):
    options = ["--prompt", "the cat", "--json", "--temperature", "0", "--max-tokens", "8"]
    command = [*GENERATE, str(chat_model.folder), *options]
    assert cli(command) == 0
    expected = json.loads(capsys.readouterr().out)
    (status, out, error), (other, nothing, _) = run(hosts, command, command)
    assert (status, other) == (0, 0), error
    assert json.loads(out) == expected
    assert nothing == ""


def test_hosts_with_other_arguments_are_refused(hosts, chat_model):
    command = [*GENERATE, str(chat_model.folder), "--prompt", "x"]
    results = run(hosts, command, [*command, "--block-size", "8"])
    words = "ranks must not differ: block_size is 16 in rank 0, and 8 in rank 1"
    for status, _, error in results:
        assert status != 0
        assert words in error
