"""The metrics of a benchmark, with vLLM's names."""

from __future__ import annotations

import statistics
from typing import Dict, List, Mapping, Sequence, Tuple

from vllm.entrypoints.bench.client import Result

# Name in options and results: title in the report.
METRICS: Mapping[str, str] = {
    "ttft": "Time to First Token",
    "tpot": "Time per Output Token (excl. 1st token)",
    "itl": "Inter-token Latency",
    "e2el": "End-to-end Latency",
}
_WIDTH = 50


def summarize(
    results: Sequence[Result],
    seconds: float,
    *,
    percentiles: Sequence[float],
    goodput: Mapping[str, float],
) -> Dict[str, float]:
    """Metrics of the successful requests; names that end in _ms are in milliseconds.

    goodput: metric → maximum milliseconds for a request to count as good.
    """
    done = [result for result in results if result.error is None]
    num_input = sum(result.prompt_len for result in done)
    num_output = sum(result.output_len for result in done)
    figures: Dict[str, float] = {
        "duration": seconds,
        "completed": len(done),
        "failed": len(results) - len(done),
        "total_input_tokens": num_input,
        "total_output_tokens": num_output,
        "request_throughput": len(done) / seconds,
        "output_throughput": num_output / seconds,
        "total_token_throughput": (num_input + num_output) / seconds,
        "max_concurrent_requests": _most_at_once(done),
    }
    if goodput:
        good = [each for each in done if all(_of(each)[m] <= goodput[m] for m in goodput)]
        figures["request_goodput"] = len(good) / seconds
    for name in METRICS:
        values = sorted(_values(name, done))
        if values:
            figures[f"mean_{name}_ms"] = statistics.fmean(values)
            figures[f"median_{name}_ms"] = statistics.median(values)
            figures[f"std_{name}_ms"] = statistics.pstdev(values)
            for p in percentiles:
                figures[f"p{p:g}_{name}_ms"] = percentile(values, p)
    return figures


def percentile(ordered: Sequence[float], p: float) -> float:
    """The p-th percentile of sorted values, with linear interpolation."""
    place = (len(ordered) - 1) * p / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def spread(name: str, values: Sequence[float]) -> Dict[str, float]:
    """Three percentiles of `values`, with names that begin with `name`."""
    ordered = sorted(values)
    return {f"{name}_p{p}": percentile(ordered, p) for p in (50, 90, 99) if ordered}


def report(figures: Mapping[str, float], metrics: Sequence[str]) -> str:
    """The metrics as text, in vLLM's format."""
    lines = [_title("Serving Benchmark Result", "=")]
    for name, label in (
        ("completed", "Successful requests"),
        ("failed", "Failed requests"),
        ("max_concurrency", "Maximum request concurrency"),
        ("request_rate", "Request rate configured (RPS)"),
        ("duration", "Benchmark duration (s)"),
        ("total_input_tokens", "Total input tokens"),
        ("total_output_tokens", "Total generated tokens"),
        ("request_throughput", "Request throughput (req/s)"),
        ("request_goodput", "Request goodput (req/s)"),
        ("output_throughput", "Output token throughput (tok/s)"),
        ("max_concurrent_requests", "Peak concurrent requests"),
        ("total_token_throughput", "Total Token throughput (tok/s)"),
    ):
        if name in figures:
            lines.append(_line(label, figures[name]))
    for metric in metrics:
        lines.append(_title(METRICS[metric], "-"))
        for name, value in figures.items():
            kind, _, rest = name.partition("_")
            if rest == f"{metric}_ms" and kind != "std":
                lines.append(_line(f"{kind.capitalize()} {metric.upper()} (ms)", value))
    lines.append("=" * _WIDTH)
    return "\n".join(lines)


def _values(name: str, done: Sequence[Result]) -> List[float]:
    if name == "itl":
        return [1000 * each for result in done for each in result.between]
    if name == "tpot":  # undefined for an answer of one token
        done = [result for result in done if result.output_len > 1]
    return [_of(result)[name] for result in done if result.first is not None]


def _of(result: Result) -> Dict[str, float]:
    """Metric → milliseconds of one request."""
    first = result.whole if result.first is None else result.first
    return {"ttft": 1000 * first, "tpot": 1000 * result.per_token, "e2el": 1000 * result.whole}


def _most_at_once(done: Sequence[Result]) -> int:
    changes: List[Tuple[float, int]] = []
    for result in done:
        changes += [(result.sent, 1), (result.sent + result.whole, -1)]
    most = now = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


def _title(text: str, fill: str) -> str:
    return f" {text} ".center(_WIDTH, fill) if fill == "=" else text.center(_WIDTH, fill)


def _line(label: str, value: float) -> str:
    shown = f"{value:.2f}" if isinstance(value, float) else str(value)
    return f"{label + ':':<40} {shown:<10}"
