"""Load for a completions server: streams in several processes, which record when each event comes.

A single client process is slower than the server: while it reads one event, others wait, and it
would report its own delays. Clients use plain sockets, and parse only each stream's last event.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import multiprocessing
import os
import time
from typing import Dict, List, NamedTuple, Sequence, Tuple

Request = Tuple[List[int], int]  # prompt, tokens to generate
Figures = Dict[str, float]

# Between the start of the shares' preparation and their first request, in seconds.
_PREPARE = 0.5


class _Share(NamedTuple):
    """What one process has seen. times: of each request, when it was sent and each event came."""

    started: float
    ended: float
    num_tokens: int
    times: List[List[float]]


class Clients:
    """Processes that send requests. Use as ``with``, or `close` it at the end."""

    def __init__(self, count: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        # A pool for each: one pool starts processes when it likes, and gives two shares to one.
        self._pools = [
            concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) for _ in range(count)
        ]
        for started in [pool.submit(os.getpid) for pool in self._pools]:
            started.result()

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for pool in self._pools:
            pool.shutdown()

    def ask_all(
        self, host: str, port: int, workload: Sequence[Request], num_streams: int
    ) -> Figures:
        """Runs a workload in concurrent streams that all start at once; each sends its next
        request when the previous one has ended."""
        count = min(len(self._pools), num_streams)
        start = time.perf_counter() + _PREPARE  # one clock for all processes
        shares = [
            pool.submit(
                _ask_share,
                *(host, port, list(workload[index::count]), len(range(index, num_streams, count))),
                start,
            )
            for index, pool in enumerate(self._pools[:count])
        ]
        return _figures([share.result() for share in shares])


def percentiles(name: str, seconds: Sequence[float]) -> Figures:
    """The 50th, 90th and 99th, in milliseconds."""
    ordered = sorted(seconds) or [float("nan")]
    return {f"{name}_p{p}": 1000 * ordered[len(ordered) * p // 100] for p in (50, 90, 99)}


def latencies(times: Sequence[Sequence[float]]) -> Figures:
    """Percentiles of the time to the first event, and of the time between events."""
    gaps = [b - a for each in times for a, b in zip(each[1:], each[2:])]
    return {
        **percentiles("first_token_ms", [each[1] - each[0] for each in times]),
        **percentiles("between_events_ms", gaps),
    }


def _figures(shares: Sequence[_Share]) -> Figures:
    num_tokens = sum(share.num_tokens for share in shares)
    seconds = max(share.ended for share in shares) - min(share.started for share in shares)
    times = [each for share in shares for each in share.times]
    return {
        "output_tokens_per_second": num_tokens / seconds,
        "tokens_per_event": num_tokens / sum(len(each) - 1 for each in times),
        **latencies(times),
    }


def _ask_share(
    host: str, port: int, workload: List[Request], num_streams: int, start: float
) -> _Share:
    """One process's part: `num_streams` streams, which begin at a time of `time.perf_counter`."""
    waiting = [(_message(host, request), request[1]) for request in reversed(workload)]
    times: List[List[float]] = []

    async def stream() -> None:
        while waiting:
            message, count = waiting.pop()
            times.append(await _ask(host, port, message, count))

    async def run() -> None:
        await asyncio.gather(*(stream() for _ in range(num_streams)))

    num_tokens = sum(count for _, count in workload)  # `_ask` compares each
    time.sleep(max(0.0, start - time.perf_counter()))
    started = time.perf_counter()
    asyncio.run(run())
    return _Share(started, time.perf_counter(), num_tokens, times)


def _message(host: str, request: Request) -> bytes:
    prompt, count = request
    body = json.dumps(
        {
            "prompt": prompt,
            "max_tokens": count,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def _ask(host: str, port: int, message: bytes, count: int) -> List[float]:
    """One request of `count` tokens: when it was sent, and when each event came."""
    reader, writer = await asyncio.open_connection(host, port)
    times = [time.perf_counter()]
    writer.write(message)
    last = b""
    while True:
        line = await reader.readline()
        if line.startswith(b"data: {"):
            times.append(time.perf_counter())
            last = line
        elif line.startswith(b"data: [DONE]"):
            break
        elif not line:
            raise RuntimeError(f"the stream ended early, after {last!r}")
    writer.close()
    times.pop()  # the event that has the usage
    tokens: int = json.loads(last[len(b"data: ") :])["usage"]["completion_tokens"]
    if tokens != count:
        raise RuntimeError(f"{tokens} tokens came, {count} were asked for")
    return times
