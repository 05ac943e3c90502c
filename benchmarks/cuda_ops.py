"""The memory-bound ops on a GPU, compared with torch.compile, FlashInfer and Liger.

    python benchmarks/cuda_ops.py [--json FILE] [--only OP …] [--tune-seconds S] [--no-peers]

bfloat16; cuda_timing.py measures times and checks results. torch.compile runs with its defaults and
with max-autotune (for at most S seconds in total), FlashInfer with and without programmatic
dependent launch; a row has the better of each. A peer that is not installed, or fails on a row, is
listed with the reason. "% of copy" is the bandwidth of the bytes that the op must read or write,
relative to a large copy in the same run; "floor" is a copy of as many bytes as the row's.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional

import torch
from conditions import commit
from cuda_cache_cases import ReshapeAndCache, RotaryAndCache, RotaryEmbedding
from cuda_op_cases import Case, Embedding, FusedAddRmsNorm, RmsNorm, SiluAndMul
from cuda_timing import Replay, WrongResult, ceilings, machine, number_of_sets, take_turns

OURS = "vllm"
FLOOR = "floor"
ROWS = (1, 64, 256, 1024, 16384)


def cases() -> Iterator[Case]:
    for norm in (RmsNorm, FusedAddRmsNorm):
        for rows, width in [
            *((rows, 4096) for rows in ROWS),
            (64, 1024),
            (16384, 1024),
            (8192, 8192),
        ]:
            yield norm(rows, width)
    for rows, width in [*((rows, 4096) for rows in ROWS), (64, 14336), (4096, 14336)]:
        yield SiluAndMul(rows, width)
    for tokens in ROWS:
        yield RotaryEmbedding(tokens)
    for tokens in (64, 1024, 16384):
        yield ReshapeAndCache(tokens)
        yield RotaryAndCache(tokens, normed=False)
        yield RotaryAndCache(tokens, normed=True)
    for tokens in (64, 1024, 16384):
        yield Embedding(tokens, 4096)


def build_flashinfer() -> None:
    """Compiles all modules that the rows need in parallel; FlashInfer would do it one by one."""
    from flashinfer.jit.activation import gen_act_and_mul_module
    from flashinfer.jit.norm import gen_norm_module
    from flashinfer.jit.page import gen_page_module
    from flashinfer.jit.rope import gen_rope_module

    specs = [gen_norm_module(), gen_act_and_mul_module("silu"), gen_rope_module()]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda spec: spec.build_and_load(), [*specs, gen_page_module()]))


def find_peers() -> Dict[str, str]:
    """The peers that are not available here, and why."""
    missing = {}
    for name, prepare in {
        "flashinfer": build_flashinfer,
        "liger": lambda: __import__("liger_kernel.ops.rms_norm"),
    }.items():
        try:
            prepare()
        except Exception as error:  # noqa: BLE001 (if a peer fails, the others are measured)
            missing[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    return missing


class Tuning:
    """The remaining time for torch.compile's autotuning."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    def contenders(self, case: Case) -> Dict[str, Callable[..., Any]]:
        found = {"compile": case.compiled("default")}
        if self.left > 0:
            found["compile tuned"] = case.compiled("max-autotune-no-cudagraphs")
        return found


def measure(case: Case, tuning: Optional[Tuning], missing: Dict[str, str]) -> Dict[str, Any]:
    """tuning: None for ours alone."""
    sets = case.make_sets(number_of_sets(case.bytes))
    torch._dynamo.reset()
    contenders = case.contenders()
    contenders = {**contenders, **tuning.contenders(case)} if tuning else {OURS: contenders[OURS]}
    replays: Dict[str, Replay] = {}
    failed: Dict[str, str] = {}
    for name, call in contenders.items():
        peer = name.split()[0]
        if peer in missing:
            continue
        begin = time.perf_counter()
        try:
            replays[name] = Replay(call, sets)
        except Exception as error:  # a peer's
            if name == OURS:
                raise
            failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        if tuning and name == "compile tuned":
            tuning.left -= time.perf_counter() - begin
    times = take_turns({**replays, FLOOR: case.floor()})
    errors = {}
    for name, replay in replays.items():
        try:
            errors[name] = replay.check(case.reference, case.results)
        except WrongResult as error:
            if name == OURS:
                raise
            failed[name] = str(error)
            del times[name]
    peers = {name: taken for name, taken in times.items() if name not in (OURS, FLOOR, "eager")}
    best = min(peers, key=peers.__getitem__) if peers else None
    return {
        "op": case.op,
        "case": case.label,
        "bytes": case.bytes,
        "microseconds": {name: round(taken, 3) for name, taken in times.items()},
        "relative_error": {name: float(f"{error:.2g}") for name, error in errors.items()},
        "best_peer": best,
        "ratio": round(times[best] / times[OURS], 3) if best else None,
        "failed": failed,
    }


def row(record: Dict[str, Any], copy_gb_per_s: float) -> str:
    times = record["microseconds"]
    percent = record["bytes"] / times[OURS] / 1e3 / copy_gb_per_s * 100
    others = "  ".join(
        f"{name} {taken:.2f}" for name, taken in times.items() if name not in (OURS, FLOOR)
    )
    ratio = f"{record['ratio']:5.2f}x" if record["ratio"] else "     –"
    failed = "".join(f"  [{name}: {why[:60]}]" for name, why in record["failed"].items())
    return (
        f"{record['op']:20} {record['case']:22} {times[OURS]:8.2f} {percent:5.1f}% "
        f"{times[FLOOR]:8.2f} {ratio}  {others}{failed}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="The memory-bound ops on a GPU, beside peers")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    parser.add_argument("--only", nargs="+", metavar="OP", help="these ops")
    parser.add_argument("--tune-seconds", type=float, default=100, metavar="S")
    parser.add_argument("--no-peers", action="store_true", help="ours alone")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    missing = {} if arguments.no_peers else find_peers()
    limits = ceilings()
    for name, why in missing.items():
        print(f"not compared: {name} ({why})")
    print(f"copy {limits['copy_gb_per_s']} GB/s, empty kernel {limits['empty_kernel_us']} µs")
    print(f"{'op':20} {'case':22} {'ours µs':>8} {'copy':>6} {'floor':>8}  ratio  others, µs")
    tuning = None if arguments.no_peers else Tuning(arguments.tune_seconds)
    records = []
    for case in cases():
        if arguments.only and case.op not in arguments.only:
            continue
        records.append(measure(case, tuning, missing))
        print(row(records[-1], limits["copy_gb_per_s"]), flush=True)
        torch.cuda.empty_cache()
    result: Dict[str, Any] = {
        "commit": commit(),
        "machine": machine(),
        "not_compared": missing,
        **limits,
        "records": records,
    }
    if arguments.json:
        text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
        arguments.json.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
