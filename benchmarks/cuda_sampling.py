"""Sampling on a GPU, compared with FlashInfer, torch.compile and torch.

    python benchmarks/cuda_sampling.py [--json FILE] [--only WORD …] [--how NAME …] [--no-peers]

Times are from logits to tokens, at temperature 0.8. "peaked" logits are normally distributed with a
standard deviation of 4, as sharp as a language model's; for "flat" ones it is 1, with a nucleus of
most of the vocabulary. cuda_timing.py explains the timing: graphs, rotated buffers, medians,
alternating runs. torch.compile has dynamic shapes, so that it compiles each case once per dtype.

The tokens of the timed graphs are checked: ours against the token that its uniform random number
selects, a peer's against the set of allowed tokens. "% of copy" counts the logits, read once. A
peer that is missing, or fails on a row, is listed with the reason.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple

import torch
from conditions import commit
from cuda_sampling_cases import (
    HOWS,
    SEED,
    How,
    by_flashinfer,
    by_torch,
    distribution,
    make_set,
    vllm_sample,
)
from cuda_timing import Replay, Sets, Tensors, ceilings, machine, number_of_sets

OURS = "vllm"
ROUNDS = 21
SECONDS = 0.25  # per contender of a row, with a minimum of three rounds
CHECKED_ROWS = 4
SPREADS = {"peaked": 4.0, "flat": 1.0}


class Case(NamedTuple):
    """A row of the table."""

    how: How
    dtype: torch.dtype
    rows: int
    vocab: int
    logits: str  # of SPREADS

    @property
    def bytes(self) -> int:
        return self.rows * self.vocab * self.dtype.itemsize

    def __str__(self) -> str:
        dtype = str(self.dtype).replace("torch.", "")
        return f"{self.how.name:12} {dtype:9} {self.rows:4} × {self.vocab:<7} {self.logits}"


def cases() -> Iterator[Case]:
    for how in HOWS:
        for vocab in (32000, 128256, 151936):
            for rows in (1, 8, 64, 256):
                yield Case(how, torch.float32, rows, vocab, "peaked")
        for rows in (1, 64, 256):
            yield Case(how, torch.bfloat16, rows, 128256, "peaked")
        if how.top_p is not None or how.min_p is not None:
            for rows in (1, 64, 256):
                yield Case(how, torch.float32, rows, 128256, "flat")


def left_in(name: str, call: Any, each: Tensors) -> Any:
    """Runs a call, and stores the tensor that has its tokens after each replay."""
    tokens = call(each)
    each["tokens " + name] = tokens
    return (tokens,)


def peers_of(case: Case, missing: Dict[str, str], compiled: Dict[str, Any]) -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    if "flashinfer" not in missing:
        found.update(by_flashinfer(case.how))
    plain = by_torch(case.how)
    found["torch"] = lambda each: plain(each["logits"])
    if case.rows > 1:  # dynamic shapes leave 1 out
        key = case.how.name
        if key not in compiled:
            compiled[key] = torch.compile(plain, dynamic=True)
        found["compile"] = lambda each: compiled[key](each["logits"])
    else:
        found["compile"] = lambda each: torch.compile(plain)(each["logits"])
    return found


def take_turns(replays: Dict[str, Replay]) -> Dict[str, float]:
    """The median microseconds of one call of each; slow ones get fewer turns."""
    rounds = {}
    for name, replay in replays.items():
        seconds = replay.microseconds() * 1e-6 * replay.launches
        rounds[name] = max(3, min(ROUNDS, int(SECONDS / seconds)))
    times: Dict[str, List[float]] = {name: [] for name in replays}
    for turn in range(ROUNDS):
        for name, replay in replays.items():
            if turn < rounds[name]:
                times[name].append(replay.microseconds())
    return {name: statistics.median(each) for name, each in times.items()}


def uniform(draw: int) -> float:
    """Of SEED, as vllm.ops.sample says; SplitMix64 in Python's integers."""
    mask = (1 << 64) - 1

    def mix(state: int) -> int:
        z = (state + 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    return (mix((mix(SEED) + draw * 0x9E3779B97F4A7C15) & mask) >> 40) / 2.0**24


def is_wrong(case: Case, each: Tensors, name: str) -> str:
    """Describes an error in a contender's tokens; empty if there is none."""
    tokens, logits = each["tokens " + name], each["logits"]
    if not bool(((tokens >= 0) & (tokens < case.vocab)).all()):
        return "tokens out of range"
    if case.how.temperature == 0:
        best = logits.gather(-1, tokens[:, None].long())[:, 0] == logits.amax(-1)
        return "" if bool(best.all()) else "not the most likely token"
    for row in range(0, case.rows, max(1, case.rows // CHECKED_ROWS)):
        token = int(tokens[row])
        if name != OURS:
            if distribution(logits[row], case.how, relaxed=1e-3)[token] == 0:
                return f"row {row}: token {token} may not be drawn"
            continue
        probabilities = distribution(logits[row], case.how)
        end = probabilities.cumsum(0)[token].item()
        begin = end - probabilities[token].item()
        if not begin - 2e-5 <= uniform(row) <= end + 2e-5:
            return f"row {row}: token {token} has [{begin}, {end}), not {uniform(row)}"
    return ""


def measure(case: Case, peers: Dict[str, Any]) -> Dict[str, Any]:
    spread = SPREADS[case.logits]
    tensors = [
        make_set(case.rows, case.vocab, case.dtype, spread, case.how)
        for _ in range(number_of_sets(case.bytes))
    ]
    sets = Sets(tensors, [], [])
    replays: Dict[str, Replay] = {}
    failed: Dict[str, str] = {}
    for name, call in {OURS: vllm_sample, **peers}.items():
        try:
            replays[name] = Replay(partial(left_in, name, call), sets)
        except Exception as error:  # a peer's
            if name == OURS:
                raise
            failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    for each in tensors:
        each["out"].fill_(-1)
    times = take_turns(replays)
    for name in list(times):
        wrong = is_wrong(case, tensors[-1], name) or is_wrong(case, tensors[0], name)
        if wrong and name == OURS:
            raise SystemExit(f"{case}: {wrong}")
        if wrong:
            failed[name] = wrong
            del times[name]
    theirs = {name: taken for name, taken in times.items() if name != OURS}
    return {
        "how": case.how.name,
        "dtype": str(case.dtype).replace("torch.", ""),
        "rows": case.rows,
        "vocab": case.vocab,
        "logits": case.logits,
        "microseconds": {name: round(taken, 2) for name, taken in times.items()},
        "gb_per_s": round(case.bytes / times[OURS] / 1e3, 1),
        "ratio_to_best_peer": round(min(theirs.values()) / times[OURS], 3) if theirs else None,
        "failed": failed,
    }


def build_flashinfer() -> None:
    from flashinfer.sampling import get_sampling_module

    get_sampling_module()


def find_missing() -> Dict[str, str]:
    try:
        build_flashinfer()
    except Exception as error:  # noqa: BLE001 (if a peer fails, the others are measured)
        return {"flashinfer": f"{type(error).__name__}: {error}".splitlines()[0]}
    return {}


def write(path: Path, top: Any, missing: Dict[str, str], records: List[Dict[str, Any]]) -> None:
    result = {
        "commit": commit(),
        "machine": machine(),
        "ceilings": top,
        "missing": missing,
        "records": records,
    }
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")


def main() -> int:
    names = [how.name for how in HOWS]
    parser = argparse.ArgumentParser(description="Sampling on a GPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    parser.add_argument("--only", nargs="*", default=[], help="rows that have all of these words")
    parser.add_argument("--how", nargs="+", choices=names, default=names, help="these ways alone")
    parser.add_argument("--no-peers", action="store_true", help="ours alone")
    arguments = parser.parse_args()
    begin = time.perf_counter()
    torch.manual_seed(0)
    torch._dynamo.config.cache_size_limit = 1000
    missing = {} if arguments.no_peers else find_missing()
    top = ceilings()
    compiled: Dict[str, Any] = {}
    records = []
    for case in cases():
        words = str(case).split()
        if case.how.name not in arguments.how or not all(w in words for w in arguments.only):
            continue
        record = measure(case, {} if arguments.no_peers else peers_of(case, missing, compiled))
        records.append(record)
        share = record["gb_per_s"] / top["copy_gb_per_s"]
        taken = "  ".join(f"{n} {t:.1f}" for n, t in record["microseconds"].items())
        ratio = record["ratio_to_best_peer"]
        print(f"{case!s:52} {share:6.1%} of copy  × {ratio or 0:5.2f}  {taken}", flush=True)
        for name, reason in record["failed"].items():
            print(f"    {name}: {reason}")
        if arguments.json:  # after each row, because torch's rows take minutes
            write(arguments.json, top, missing, records)
    for name, reason in missing.items():
        print(f"missing: {name}: {reason}")
    print(f"{len(records)} rows in {time.perf_counter() - begin:.0f} s; {top}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
