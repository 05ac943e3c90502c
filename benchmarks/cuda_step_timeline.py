"""A timeline of two decode steps on a GPU: activity of host and device.

    python benchmarks/cuda_step_timeline.py --json FILE --svg FILE [--batch 64] [--model 0.6B]
    python benchmarks/cuda_step_timeline.py --from FILE --svg FILE     draws it again, without a GPU

Top: kernels launched one by one, and each step finished before the next; bottom: CUDA graphs and
overlapped steps. Times are from torch.profiler, which slows the host down. "busy" is the fraction
of the time from the first to the last kernel in which a kernel runs, over all profiled steps. By
number of sequences it is also measured with kernels alone profiled, which slows the host down less.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

WAYS: Mapping[str, Mapping[str, bool]] = {
    "kernel by kernel": {"enforce_eager": True, "async_scheduling": False},
    "graphs and overlap": {},
}
STEPS, DRAWN = 12, 2
BUSY_STEPS, BUSY_BATCHES = 40, (1, 64, 256)
PARTS = ("schedule", "describe", "submit", "wait", "outputs")
COLORS = dict(zip((*PARTS, "kernel"), ("#7a5195", "#bc5090", "#ef5675", "#d9d9d9", "#ffa600")))
COLORS["kernel"] = "#003f5c"
Span = Tuple[str, float, float]  # name, start, end in microseconds


def watch(engine: Any) -> None:
    """Gives the parts of a step names in the profile."""
    from torch.profiler import record_function

    def name_it(owner: Any, method: str, name: str) -> None:
        function = getattr(owner, method)

        def named(*args: Any) -> Any:
            with record_function(f"step: {name}"):
                return function(*args)

        setattr(owner, method, named)

    name_it(engine.scheduler, "schedule", "schedule")
    name_it(engine._pipeline.writer, "write", "describe")
    name_it(engine.executor, "submit", "submit")
    name_it(engine.executor, "collect", "wait")
    name_it(engine.scheduler, "update", "outputs")
    name_it(engine, "_outputs", "outputs")


def make_engine(folder: Path, how: Mapping[str, bool]) -> Any:
    from vllm import LLM

    return LLM(str(folder), skip_tokenizer_init=True, num_kv_blocks=12_000, **how).engine


def decode(engine: Any, batch: int) -> None:
    """Steps until all of `batch` sequences have decoded for a while."""
    from vllm import RequestOutputKind, SamplingParams

    generator = random.Random(0)
    params = SamplingParams(
        temperature=0, max_tokens=200, ignore_eos=True, output_kind=RequestOutputKind.FINAL_ONLY
    )
    for index in range(batch):
        prompt = [generator.randrange(150_000) for _ in range(256)]
        engine.add_request(f"{batch} {index}", prompt, params)
    for _ in range(60):
        engine.step()


def spans_of(engine: Any, steps: int, activities: Sequence[str]) -> Tuple[List[Span], List[Span]]:
    """What host and device do in some steps, by start."""
    import torch
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    with profiler(activities=[getattr(ProfilerActivity, each) for each in activities]) as found:
        for _ in range(steps):
            engine.step()
        torch.cuda.synchronize()
    host: List[Span] = []
    device: List[Span] = []
    for event in found.profiler.kineto_results.events():
        start = event.start_ns() / 1e3
        span = start, start + event.duration_ns() / 1e3
        if "CUDA" in str(event.device_type()):
            if not event.name().startswith("step: "):
                device.append(("kernel", *span))
        elif event.name().startswith("step: "):
            host.append((event.name()[len("step: ") :], *span))
    return sorted(host, key=lambda s: s[1]), sorted(device, key=lambda s: s[1])


def profile(folder: Path, batch: int, how: Mapping[str, bool]) -> Dict[str, Any]:
    engine = make_engine(folder, how)
    decode(engine, batch)
    watch(engine)
    return cut(*spans_of(engine, STEPS, ["CPU", "CUDA"]))


def busy_by_batch(folder: Path) -> Dict[str, float]:
    """The busy fraction by number of sequences, without the first and the last steps."""
    engine, found = make_engine(folder, WAYS["graphs and overlap"]), {}
    for batch in BUSY_BATCHES:
        decode(engine, batch)
        _, device = spans_of(engine, BUSY_STEPS, ["CUDA"])
        begin, end = device[0][1], device[-1][2]
        margin = (end - begin) / 8
        middle = [s for s in device if begin + margin <= s[1] and s[2] <= end - margin]
        found[str(batch)] = round(union(middle) / (middle[-1][2] - middle[0][1]), 4)
        while engine.has_unfinished_requests:
            engine.step()
    return found


def cut(host: List[Span], device: List[Span]) -> Dict[str, Any]:
    """Two steps from the middle, with times from their start; and the busy fraction."""
    begins = [start for name, start, _ in host if name == "schedule"]
    middle = len(begins) // 2
    first, last = begins[middle], begins[middle + DRAWN]

    def part(spans: List[Span]) -> List[Span]:
        seen = [span for span in spans if span[2] > first and span[1] < last]
        return [
            (name, round(max(start, first) - first, 1), round(min(end, last) - first, 1))
            for name, start, end in seen
        ]

    # The first step is profiled from its middle on, and the last may not be.
    whole = [span for span in device if begins[1] <= span[1] < begins[-1]]
    return {
        "busy": round(union(whole) / (whole[-1][2] - whole[0][1]), 4),
        "microseconds": round(last - first, 1),
        "host": part(host),
        "device": part(device),
    }


def union(spans: List[Span]) -> float:
    """The total time covered by spans, which are sorted by start."""
    total, end = 0.0, float("-inf")
    for _, start, stop in spans:
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def draw(result: Mapping[str, Any]) -> str:
    """The picture, as SVG."""
    ways = result["ways"]
    width, left, lane, gap = 920, 60, 26, 34
    scale = (width - left - 10) / max(way["microseconds"] for way in ways.values())
    lines, y = [], 24
    for name, way in ways.items():
        took = way["microseconds"] / DRAWN / 1e3
        lines.append(
            f'<text x="{left}" y="{y}">{name}: {took:.2f} ms a step, kernels fill '
            f"{100 * way['busy']:.0f} % of the time</text>"
        )
        for row, spans in enumerate((way["host"], way["device"])):
            top = y + 8 + row * (lane + 4)
            label = ("host", "device")[row]
            lines.append(f'<text x="4" y="{top + 17}">{label}</text>')
            # Enclosing parts are drawn first, inner ones over them.
            for part, start, end in spans:
                lines.append(
                    f'<rect x="{left + start * scale:.1f}" y="{top}" height="{lane}" '
                    f'width="{max(0.3, (end - start) * scale):.1f}" fill="{COLORS[part]}"/>'
                )
        y += 2 * lane + gap + 10
    for index, (part, color) in enumerate(COLORS.items()):
        x = left + index * 110
        lines.append(f'<rect x="{x}" y="{y - 8}" width="12" height="12" fill="{color}"/>')
        lines.append(f'<text x="{x + 17}" y="{y + 3}">{part}</text>')
    title = f"Two decode steps of {result['batch']} sequences, {result['model']}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y + 14}" '
        f'font-family="sans-serif" font-size="13" role="img"><title>{title}</title>'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(lines)}</svg>\n'
    )


def measure(model: str, batch: int) -> Dict[str, Any]:
    from conditions import commit, machine
    from random_model import write_equal_layers

    with tempfile.TemporaryDirectory() as folder:
        write_equal_layers(model, Path(folder))
        ways = {name: profile(Path(folder), batch, how) for name, how in WAYS.items()}
        busy = busy_by_batch(Path(folder))
    about = {"commit": commit(), "machine": machine(), "model": f"the shape of Qwen3-{model}"}
    return {**about, "batch": batch, "busy": busy, "ways": ways}


def main() -> None:
    parser = argparse.ArgumentParser(description="A picture of decode steps on a GPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write what was seen")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="where to write the picture")
    parser.add_argument("--from", type=Path, dest="source", metavar="FILE", help="what was seen")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--model", default="0.6B")
    arguments = parser.parse_args()
    if arguments.source:
        result = json.loads(arguments.source.read_text())
    else:
        result = measure(arguments.model, arguments.batch)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, ensure_ascii=False) + "\n")
    if arguments.svg:
        arguments.svg.write_text(draw(result))
    print({name: (way["busy"], way["microseconds"]) for name, way in result["ways"].items()})
    print("busy", result.get("busy"))


if __name__ == "__main__":
    main()
