"""Processes that reach each other's GPU memory, for tests of the ops that exchange rows.

python -m tests.gpu.peer_ranks '{"rank": …, "size": …, "port": …, "checks": […]}'

Ranks share GPUs where there are fewer of them: slow, for they take turns, and as right.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import torch

from vllm import ops
from vllm.ops import comm
from vllm.parallel.cuda_group import CudaGroup
from vllm.parallel.peer_memory import open_peer_memory
from vllm.worker.ranks.meeting import join_meeting, open_meeting, port_of

WIDTH = 5120
ROWS = 700  # more than blocks run at once
SHAPES = [(1, 5120), (3, 64), (64, 5120), (160, 1024), (33, 2560), (1, 8), (2, 4)]
SHAPES += [(700, 5120), (513, 64), (699, 2560)]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
TOLERANCES = dict(zip(DTYPES, (1e-6, 1e-3, 8e-3)))


def run_ranks(checks, size, seconds=120):
    """Runs checks in processes; by rank, what each of them gave."""
    meeting = open_meeting(size)
    processes = []
    for rank in range(size):
        what = {"rank": rank, "size": size, "port": port_of(meeting), "checks": checks}
        command = [sys.executable, "-m", "tests.gpu.peer_ranks", json.dumps(what)]
        processes.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    results, errors = [], []
    try:
        for process in processes:
            out, error = process.communicate(timeout=seconds)
            errors.append(error)
            results.append(out)
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * size, errors
    return [json.loads(result.splitlines()[-1]) for result in results]


class Rank:
    """One rank, and what it knows of all ranks' numbers: they are drawn from seeds."""

    def __init__(self, rank, size, port):
        self.rank, self.size = rank, size
        self.meeting = join_meeting(port, rank, size)
        self.device = torch.device("cuda", rank % torch.cuda.device_count())
        torch.cuda.set_device(self.device)
        self.memory = open_peer_memory(self.device, rank, size, ROWS, WIDTH * 4, self.share)
        assert self.memory is not None
        self.seed = 0

    def share(self, topic, value):
        return self.meeting.exchange(topic, value, lambda: None)

    def inputs(self, *shape, dtype):
        """Those of all ranks, new ones at each call, on the GPU."""
        self.seed += 1
        made = []
        for rank in range(self.size):
            generator = torch.Generator().manual_seed(1000 * self.seed + rank)
            made.append(torch.randn(*shape, generator=generator).to(dtype))
        return torch.stack(made).to(self.device)

    def same(self, tensor):
        """A number that differs where a bit does."""
        words = tensor.contiguous().view(torch.int16).long()
        places = torch.arange(1, words.numel() + 1, device=words.device)
        return int((words.flatten() * places).sum())


def rms_norm(x, weight):
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * weight


def relative(got, expected):
    return float((got.double() - expected).norm() / expected.norm())


def check_sums(rank):
    """Every dtype, width and number of rows: right, and the same bits in all ranks."""
    seen = []
    for dtype in DTYPES:
        for rows, width in SHAPES:
            if width * dtype.itemsize % 16:
                continue
            for two_shots in (False, True):
                peers, how = rank.memory.group, {"two_shots": two_shots}
                parts = rank.inputs(rows, width, dtype=dtype)
                expected = parts.double().sum(0)
                mine = parts[rank.rank].clone()
                out = torch.full_like(mine, float("nan"))
                comm.all_reduce(out, mine, peers, **how)
                assert relative(out, expected) < TOLERANCES[dtype]
                comm.all_reduce(mine, mine, peers, **how)  # in place
                assert torch.equal(mine, out)
                residual, weight = rank.inputs(rows, width, dtype=dtype)[0], parts[0][0].abs()
                added = residual.clone()
                normed = parts[rank.rank].clone()
                comm.all_reduce_add_rms_norm(normed, added, weight, 1e-6, peers, **how)
                whole = expected + residual.double()
                assert relative(added, whole) < 2 * TOLERANCES[dtype]
                assert relative(normed, rms_norm(whole, weight.double())) < 2 * TOLERANCES[dtype]
                apart, kept = out.clone(), residual.clone()
                ops.fused_add_rms_norm(apart, kept, weight, 1e-6)
                assert torch.equal(added, kept)
                assert relative(normed, apart.double()) < TOLERANCES[dtype]
                seen.append([rank.same(each) for each in (out, added, normed)])
    return seen


def check_many_rows(rank):
    """More rows than peer memory has room for: one part after another."""

    class Ranks:  # of a process group, what is asked for
        def rank(self):
            return rank.rank

        def size(self):
            return rank.size

    group = CudaGroup(Ranks(), rank.device, rank.memory)
    for dtype in DTYPES:
        parts = rank.inputs(2 * ROWS + 1, 1024, dtype=dtype)
        expected = parts.double().sum(0)
        assert relative(group.all_reduce(parts[rank.rank].clone()), expected) < TOLERANCES[dtype]
        residual, weight = rank.inputs(2 * ROWS + 1, 1024, dtype=dtype)[0], parts[0][0].abs()
        whole = expected + residual.double()
        normed = group.add_norm(parts[rank.rank].clone(), residual, weight, 1e-6)
        assert relative(residual, whole) < 2 * TOLERANCES[dtype]
        assert relative(normed, rms_norm(whole, weight.double())) < 2 * TOLERANCES[dtype]
    return True


def check_graphs(rank):
    """An odd number of exchanges of unlike sizes, replayed with other numbers, late at times."""
    peers, dtype = rank.memory.group, torch.bfloat16
    shapes = [(64, 5120), (3, 5120), (160, 5120)]
    parts = [rank.inputs(*shape, dtype=dtype) for shape in shapes]
    mine = [part[rank.rank].clone() for part in parts]
    outs = [torch.empty_like(each) for each in mine]

    def compute():
        for index, (out, part) in enumerate(zip(outs, mine)):
            comm.all_reduce(out, part, peers, two_shots=index == 2)

    compute()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        compute()
    for turn in range(25):
        parts = [rank.inputs(*shape, dtype=dtype) for shape in shapes]
        for each, part in zip(mine, parts):
            each.copy_(part[rank.rank])
        if turn % 5 == rank.rank:
            time.sleep(0.02)
        graph.replay()
        if turn % 3 == 0:
            compute()  # beside graphs
        for out, part in zip(outs, parts):
            assert relative(out, part.double().sum(0)) < TOLERANCES[dtype], turn
    return True


def check_special(rank):
    """Values that look like a place to which nothing was sent, and those without a number."""
    peers = rank.memory.group
    bits = [0xFFFF, 0x7FFF, 0x8000, 0x0000, 0x7F80, 0xFF80, 0x3F80, 0xFFC0]
    row = torch.tensor(bits, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    mine = row.repeat(4, 8).to(rank.device)
    if rank.rank:
        mine = torch.ones_like(mine)
    else:
        mine[0] = torch.full_like(mine[0].view(torch.int16), -1).view(torch.bfloat16)
    expected = torch.ones_like(mine).float() * (rank.size - 1) + row.repeat(4, 8).to(rank.device)
    expected[0] = float("nan")
    for two_shots in (False, True):
        out = torch.zeros_like(mine)
        comm.all_reduce(out, mine, peers, two_shots=two_shots)
        torch.testing.assert_close(out, expected.bfloat16(), equal_nan=True)
    return True


def check_stop(rank):
    """Nobody comes: the kernel waits until it is told to stop. Gives the seconds of both."""
    if rank.rank:
        rank.share("stopped", True)
        return True
    tensor = torch.ones(64, 5120, device=rank.device, dtype=torch.bfloat16)
    done = torch.cuda.Event()
    started = time.monotonic()
    for _ in range(20):
        comm.all_reduce(tensor, tensor, rank.memory.group)
    done.record()
    time.sleep(0.5)
    assert not done.query()
    rank.memory.stop()
    done.synchronize()
    assert time.monotonic() - started < 5
    rank.share("stopped", True)
    return True


CHECKS = {name[6:]: check for name, check in list(globals().items()) if name.startswith("check_")}


def main() -> None:
    what = json.loads(sys.argv[1])
    rank = Rank(what["rank"], what["size"], what["port"])
    results = [CHECKS[check](rank) for check in what["checks"]]
    torch.cuda.synchronize()
    rank.share("done", True)  # nobody's memory goes before
    rank.memory.close()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
