"""Prometheus metrics under vLLM's names, so that its dashboards work."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import itertools
import math
import time
from typing import Dict, Iterator, Optional

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from vllm.engine.async_engine import AsyncEngine
from vllm.entrypoints.openai.front_group import FrontGroup
from vllm.outputs import RequestOutput
from vllm.sampling_params import SamplingParams

CONTENT_TYPE = CONTENT_TYPE_LATEST

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_TOKENS = tuple(float(2**power) for power in range(19))

_HISTOGRAMS = {
    "time_to_first_token_seconds": ("from a request's arrival to its first token", _SECONDS),
    "inter_token_latency_seconds": ("between the tokens of a request", _SECONDS),
    "e2e_request_latency_seconds": ("from a request's arrival to its end", _SECONDS),
    "request_queue_time_seconds": ("from a request's arrival to its first step", _SECONDS),
    "request_prompt_tokens": ("tokens of a request's prompt", _TOKENS),
    "request_generation_tokens": ("tokens generated for a request", _TOKENS),
}
_COUNTERS = {
    "prompt_tokens": "tokens of prompts",
    "generation_tokens": "tokens generated",
    "prefix_cache_queries": "prompt tokens looked up in the prefix cache",
    "prefix_cache_hits": "prompt tokens found there",
}


_GAUGES = {
    "num_requests_running": "running sequences",
    "num_requests_waiting": "waiting sequences",
    "kv_cache_usage_perc": "fraction of the KV cache that is in use, from 0 to 1",
}
_REASONS = ("abort", "error", "length", "stop")  # why a request ends

# The columns of a board: a number for each counter and reason; for each histogram the numbers of
# values up to each bound, and then the sum of the values.
_COLUMNS: Dict[str, int] = {}
_NUM_COLUMNS = 0
for _name in (*_COUNTERS, *_REASONS):
    _COLUMNS[_name] = _NUM_COLUMNS
    _NUM_COLUMNS += 1
for _name, (_, _bounds) in _HISTOGRAMS.items():
    _COLUMNS[_name] = _NUM_COLUMNS
    _NUM_COLUMNS += len(_bounds) + 2


class Metrics:
    """The metrics of a server's engines.

    Each process of the server counts what it does itself; `text` has the sums.
    """

    def __init__(self, engine: AsyncEngine, model_name: str, fronts: FrontGroup) -> None:
        self._engine = engine
        self._labels = {"model_name": model_name, "engine": "0"}
        self._created = fronts.created
        self._board = fronts.memory.board("metrics", _NUM_COLUMNS)
        self._mine = self._board.mine
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        """All of them, in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        total, labels = self._board.total, self._labels
        for name, (text, bounds) in _HISTOGRAMS.items():
            first = _COLUMNS[name]
            counts = [total(first + at) for at in range(len(bounds) + 1)]
            metric = Metric(f"vllm:{name}", text, "histogram")
            for bound, count in zip((*bounds, math.inf), itertools.accumulate(counts)):
                metric.add_sample(f"vllm:{name}_bucket", {**labels, "le": _shown(bound)}, count)
            metric.add_sample(f"vllm:{name}_count", labels, sum(counts))
            metric.add_sample(f"vllm:{name}_sum", labels, total(first + len(counts)))
            metric.add_sample(f"vllm:{name}_created", labels, self._created)
            yield metric
        for name, text in _COUNTERS.items():
            metric = Metric(f"vllm:{name}", text, "counter")
            metric.add_sample(f"vllm:{name}_total", labels, total(_COLUMNS[name]))
            metric.add_sample(f"vllm:{name}_created", labels, self._created)
            yield metric
        metric = Metric("vllm:request_success", "requests that ended, by reason", "counter")
        for reason in _REASONS:
            found = {**labels, "finished_reason": reason}
            metric.add_sample("vllm:request_success_total", found, total(_COLUMNS[reason]))
            metric.add_sample("vllm:request_success_created", found, self._created)
        yield metric
        for (name, text), value in zip(_GAUGES.items(), self._engine.load):
            metric = Metric(f"vllm:{name}", text, "gauge")
            metric.add_sample(f"vllm:{name}", labels, value)
            yield metric

    @contextlib.contextmanager
    def watch(self, params: SamplingParams) -> Iterator[RequestWatch]:
        """Counts one request within a `with` block, even if its client leaves early."""
        watch = RequestWatch(self, params.n)
        try:
            yield watch
        except (asyncio.CancelledError, GeneratorExit):  # the client has left
            self.count_end("abort")
            raise
        finally:
            watch.end()

    def count(self, name: str, amount: float) -> None:
        self._mine[_COLUMNS[name]] += amount

    def observe(self, name: str, value: float, times: int = 1) -> None:
        """Records a value that was seen so many times."""
        bounds, first = _HISTOGRAMS[name][1], _COLUMNS[name]
        self._mine[first + bisect.bisect_left(bounds, value)] += times
        self._mine[first + len(bounds) + 1] += value * times

    def count_end(self, reason: str) -> None:
        self._mine[_COLUMNS[reason]] += 1


class RequestWatch:
    """Metrics of one running request."""

    def __init__(self, metrics: Metrics, n: int) -> None:
        self._metrics = metrics
        self._n = n
        self._last: Optional[RequestOutput] = None
        self._seen = 0.0
        self._num_generated = 0

    def see(self, output: RequestOutput) -> None:
        """Called with each output; outputs of a stream are deltas."""
        now = time.monotonic()
        num_tokens = output.num_tokens
        if self._last is None:
            self._begin(output)
            self._observe_gaps(num_tokens - len(output.outputs), _generating(output), output)
        else:
            self._observe_gaps(num_tokens, now - self._seen, output)
        self._metrics.count("generation_tokens", num_tokens)
        for each in output.outputs:
            if each.finish_reason is not None:
                self._metrics.count_end(each.finish_reason)
        self._num_generated += num_tokens
        self._last, self._seen = output, now

    def end(self) -> None:
        """Called once, at the end of the request, even after an error."""
        output = self._last
        if output is None:  # refused, or cancelled before its first token
            return
        self._metrics.observe("request_generation_tokens", self._num_generated)
        latency = time.monotonic() - output.metrics.arrival_time
        self._metrics.observe("e2e_request_latency_seconds", latency)

    def _observe_gaps(self, count: int, seconds: float, output: RequestOutput) -> None:
        """Records the mean gap for each of several tokens that arrive in one output."""
        if count:
            gap = seconds * len(output.outputs) / count
            self._metrics.observe("inter_token_latency_seconds", gap, count)

    def _begin(self, output: RequestOutput) -> None:
        times, num_prompt = output.metrics, len(output.prompt_token_ids)
        self._metrics.count("prompt_tokens", num_prompt)
        self._metrics.count("prefix_cache_queries", num_prompt * self._n)
        self._metrics.count("prefix_cache_hits", output.num_cached_tokens)
        self._metrics.observe("request_prompt_tokens", num_prompt)
        if times.first_scheduled_time is not None:
            queued = times.first_scheduled_time - times.arrival_time
            self._metrics.observe("request_queue_time_seconds", queued)
        if times.first_token_time is not None:
            first = times.first_token_time - times.arrival_time
            self._metrics.observe("time_to_first_token_seconds", first)


def _generating(output: RequestOutput) -> float:
    """Seconds from the first token of a request to its end."""
    times = output.metrics
    if times.first_token_time is None or times.finished_time is None:
        return 0.0
    return times.finished_time - times.first_token_time


def _shown(bound: float) -> str:
    return "+Inf" if bound == math.inf else repr(float(bound))
